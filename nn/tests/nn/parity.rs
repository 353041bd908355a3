//! Against what Hugging Face transformers computed (its outputs are in `tests/fixtures`).

use crate::common::{Folder, cpu, fixture, grad, max_abs};
use nn::{DeepseekV3ForCausalLM, Generate, Module, Sampling, load_tensors};
use tensor::{DType, Tensor};

const FIXTURES: [&str; 2] = ["deepseek_v3_tiny", "deepseek_v3_tiny_yarn"];

#[test]
fn logits_loss_and_gradients() {
    for name in FIXTURES {
        let (model, notices) = DeepseekV3ForCausalLM::from_pretrained(&fixture(name), DType::F32, &cpu()).unwrap();
        assert_eq!(notices.len(), 1, "the fixture's config promises a prediction layer that its files do not have");
        let reference = load_tensors(&fixture(name).join("reference.safetensors"), &cpu()).unwrap();
        let ids = &reference["input_ids"];
        assert!(max_abs(&model.forward(ids).value(), &reference["logits"]) < 1e-4);
        let loss = model.loss(ids);
        assert!(max_abs(&loss.value(), &reference["loss"]) < 1e-5);
        loss.backward();
        let mut left: Vec<&String> = reference.keys().filter(|key| key.starts_with("grad.")).collect();
        for (parameter, var) in model.named_parameters() {
            // transformers stacks the experts, gate rows before up rows.
            let (key, theirs) = match parameter.split_once(".mlp.experts.") {
                None => (format!("grad.{parameter}"), None),
                Some((layer, rest)) => {
                    let (expert, projection) = rest.split_once('.').unwrap();
                    let (stacked, half) = match projection {
                        "gate_proj.weight" => ("gate_up_proj", Some(0)),
                        "up_proj.weight" => ("gate_up_proj", Some(1)),
                        _ => ("down_proj", None),
                    };
                    let key = format!("grad.{layer}.mlp.experts.{stacked}");
                    let whole = reference[&key].select(0, expert.parse().unwrap());
                    (key, Some(half.map_or(whole.clone(), |h| whole.chunk(2, 0)[h].clone())))
                }
            };
            let theirs = theirs.unwrap_or_else(|| reference[&key].clone());
            let ours = grad(&var);
            let norm = |t: &Tensor| t.to_f64_vec().iter().map(|x| x * x).sum::<f64>().sqrt();
            assert!(norm(&ours.sub(&theirs)) <= 1e-3 * norm(&theirs), "{parameter}");
            left.retain(|l| **l != key);
        }
        assert!(left.is_empty(), "not compared: {left:?}");
    }
}

#[test]
fn greedy_decoding_with_either_cache() {
    for name in FIXTURES {
        let (model, _) = DeepseekV3ForCausalLM::from_pretrained(&fixture(name), DType::F32, &cpu()).unwrap();
        let reference = load_tensors(&fixture(name).join("reference.safetensors"), &cpu()).unwrap();
        let rows = |t: &Tensor| -> Vec<Vec<i64>> { t.to_vec::<i64>().chunks(t.dims()[1]).map(<[i64]>::to_vec).collect() };
        let (prompts, theirs) = (rows(&reference["input_ids"]), rows(&reference["greedy"]));
        for absorbed in [false, true] {
            let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
            let options = Generate { max_new_tokens: 16, sampling, absorbed, ..Generate::default() };
            let ours = model.generate(&prompts, &options).unwrap();
            for (o, theirs) in ours.iter().zip(&theirs) {
                assert_eq!([&prompts[o.prompt][..], &o.tokens].concat(), *theirs);
            }
        }
    }
}

#[test]
fn saved_and_loaded_again() {
    for name in FIXTURES {
        let (model, _) = DeepseekV3ForCausalLM::from_pretrained(&fixture(name), DType::F32, &cpu()).unwrap();
        let folder = Folder::new(name);
        model.save_pretrained(&folder.0).unwrap();
        let (again, notices) = DeepseekV3ForCausalLM::from_pretrained(&folder.0, DType::F32, &cpu()).unwrap();
        assert!(notices.is_empty(), "{notices:?}");
        assert_eq!(model.config().rope_scaling, again.config().rope_scaling);
        let (a, b) = (model.state_dict(), again.state_dict());
        assert_eq!(a.len(), b.len());
        for ((name, a), (other, b)) in a.iter().zip(&b) {
            assert!(name == other && a.to_bytes() == b.to_bytes(), "{name}");
        }
    }
}
