//! A run's state: every bit comes back, and what is no state is refused.

use std::fs;
use std::path::Path;

use grpo::checksum::checksum;
use grpo::cost::Ledger;
use grpo::metrics::{EvalMetrics, Scores, Written};
use grpo::policy;
use grpo::rundir::{RunDir, RunFormat, STATE as FILE};
use grpo::samples;
use grpo::state::{self, RunState, Snapshot};
use nn::{AdamW, AdamWConfig, DeepseekV3ForCausalLM, Module};
use tensor::{DType, Device, Generator, Tensor};

use crate::common::{Temp, adamw, bits, copy_of, model};

/// Numbers whose shortest decimal is long: a reader that is off by one unit in the last place is seen.
fn run_state() -> RunState {
    let mut ledger = Ledger::new(0.1);
    (1..20).for_each(|i| ledger.add("base", 1.0 / f64::from(i), 3 + i as u64, 1 << 58));
    let mut scores = Scores::default();
    let mut x = 0.7f64;
    for i in 0..200 {
        x = 3.9 * x * (1.0 - x); // never the same twice
        scores.set_value(&format!("value {i}"), x);
    }
    let eval = EvalMetrics {
        stage: "base".into(),
        step: 3,
        task: "countdown".into(),
        problems: 2,
        samples: 4,
        max_completion_length: 16,
        tokens: 99,
        seconds: 1.0 / 3.0,
        answers: Vec::new(),
        scores,
    };
    let metrics = Written { lines: 8, checksum: u64::MAX - 1 };
    let (format, files) = (RunFormat, state::Files::new());
    let (stage, models) = ("r1_zero".into(), Default::default());
    let kept = samples::Kept { question: "1,2:3".into(), response: "1+2=3</think>".into() };
    let samples = [("kept".to_owned(), vec![kept])].into();
    RunState { format, files, stage, step: 5, measured: false, models, samples, metrics, ledger, ends: vec![eval.clone(), eval] }
}

fn train_a_step(policy: &DeepseekV3ForCausalLM, optimizer: &mut AdamW) {
    optimizer.zero_grad();
    policy.loss(&Tensor::from_slice(&[1i64, 9, 10, 11, 12, 2, 4, 5], [2, 4], &Device::cpu())).backward();
    optimizer.step(1e-2).unwrap();
}

struct Saved {
    temp: Temp,
    policy: DeepseekV3ForCausalLM,
    reference: DeepseekV3ForCausalLM,
    optimizer: AdamW,
}

fn saved() -> Saved {
    let (temp, policy) = (Temp::new(), model(1));
    let reference = copy_of(&policy);
    let mut optimizer = adamw(&policy);
    (0..3).for_each(|_| train_a_step(&policy, &mut optimizer));
    policy.update_bias(&[vec![9, 1, 1, 1]], 0.25);
    let dir = RunDir::create(&temp.join("run")).unwrap().0;
    Snapshot::of(&run_state(), [("policy", &policy), ("reference", &reference)], &optimizer).write(&dir).unwrap();
    Saved { temp, policy, reference, optimizer }
}

#[test]
fn every_bit_comes_back() {
    let Saved { temp, policy, reference, mut optimizer } = saved();
    let folder = temp.join("run");
    let (again, tensors) = state::load(&folder, &Device::cpu()).unwrap();
    assert!(again.models.values().eq([policy.config(), reference.config()]));
    assert!(RunState { models: Default::default(), ..again } == run_state(), "the last bit of a number counts");
    let (policy2, reference2) = (model(8), model(9));
    state::restore(&folder, &tensors, "policy", &policy2).unwrap();
    state::restore(&folder, &tensors, "reference", &reference2).unwrap();
    let mut optimizer2 = adamw(&policy2);
    state::restore_optimizer(&folder, &tensors, &mut optimizer2).unwrap();
    assert_eq!((bits(&policy2), bits(&reference2)), (bits(&policy), bits(&reference)));
    assert_eq!(optimizer2.steps(), 3);
    // What is not in the state would show in the next steps.
    for _ in 0..2 {
        train_a_step(&policy, &mut optimizer);
        train_a_step(&policy2, &mut optimizer2);
    }
    assert_eq!(bits(&policy2), bits(&policy));
}

fn refusal(folder: &Path) -> String {
    state::load(folder, &Device::cpu()).expect_err("it is no state").to_string()
}

#[test]
fn a_file_that_is_no_state_is_refused() {
    let Saved { temp, .. } = saved();
    let (folder, file) = (temp.join("run"), temp.join("run").join(FILE));
    let whole = fs::read(&file).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for cut in [0, 1, 8, 9, header / 2, header, header + 1, whole.len() / 2, whole.len() - 1] {
        fs::write(&file, &whole[..cut]).unwrap();
        let said = refusal(&folder);
        assert!(said.contains(FILE) && said.lines().count() == 1, "cut at {cut}: {said}");
    }
    let mut longer = whole.clone();
    longer.push(0);
    let mut huge = whole.clone();
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    for bad in [longer, huge, b"not a state of anything, but long enough for a header".to_vec()] {
        fs::write(&file, bad).unwrap();
        assert!(refusal(&folder).contains(FILE));
    }
    // A well-formed file that another program wrote.
    nn::save_tensors(&file, &[("x".to_owned(), Tensor::zeros(2, DType::F32, &Device::cpu()))].into()).unwrap();
    assert!(refusal(&folder).contains("it holds no `run`"));
    fs::remove_file(&file).unwrap();
    assert!(refusal(&folder).starts_with("cannot read"));
}

#[test]
fn a_state_of_another_model_is_refused_by_name() {
    let Saved { temp, .. } = saved();
    let folder = temp.join("run");
    let (_, tensors) = state::load(&folder, &Device::cpu()).unwrap();
    let wider = nn::Config { intermediate_size: 24, ..model(0).config().clone() };
    let deeper = nn::Config { num_hidden_layers: 3, ..model(0).config().clone() };
    let shallower = nn::Config { num_hidden_layers: 1, ..model(0).config().clone() };
    let of = |config| policy::fresh(config, 0, &Device::cpu()).unwrap();
    let refused = |model: &DeepseekV3ForCausalLM| {
        state::restore(&folder, &tensors, "policy", model).map_err(|e| e.to_string()).expect_err("another model")
    };
    assert!(refused(&of(wider)).contains("`policy/model.layers.0.mlp.gate_proj.weight` is f32 [20, 16], expected f32 [24, 16]"));
    let said = refused(&of(deeper));
    assert!(said.contains("`policy/model.layers.2.") && said.contains("is missing"), "{said}");
    // Fewer layers find all they want: the optimizer sees what is left over.
    let shallower = of(shallower);
    let said = state::restore_optimizer(&folder, &tensors, &mut adamw(&shallower)).unwrap_err().to_string();
    assert!(said.contains(FILE) && said.contains("layers.1."), "{said}");
    let said = state::restore(&folder, &tensors, "nobody", &model(0)).unwrap_err().to_string();
    assert!(said.contains("`nobody/model.embed_tokens.weight` is missing"), "{said}");
}

#[test]
fn a_save_that_fails_leaves_the_state_before() {
    let Saved { temp, policy, optimizer, .. } = saved();
    let folder = temp.join("run");
    let before = fs::read(folder.join(FILE)).unwrap();
    // A folder stands where the new file would be written first.
    fs::create_dir(folder.join(format!(".{FILE}.new"))).unwrap();
    let dir = RunDir::resume(&folder).unwrap();
    let said = Snapshot::of(&run_state(), [("policy", &policy)], &optimizer).write(&dir).unwrap_err().to_string();
    assert!(said.contains(FILE), "{said}");
    assert_eq!(fs::read(folder.join(FILE)).unwrap(), before);
}

#[test]
fn a_policy_of_half_precision_comes_back() {
    let (temp, config) = (Temp::new(), model(0).config().clone());
    let fresh =
        |seed| DeepseekV3ForCausalLM::new(config.clone(), &mut Generator::new(seed), DType::BF16, &Device::cpu()).unwrap();
    let adamw = |model: &DeepseekV3ForCausalLM| AdamW::new(model.named_parameters(), AdamWConfig::default());
    let policy = fresh(3);
    let mut optimizer = adamw(&policy);
    train_a_step(&policy, &mut optimizer);
    let dir = RunDir::create(&temp.join("run")).unwrap().0;
    Snapshot::of(&run_state(), [("policy", &policy)], &optimizer).write(&dir).unwrap();
    let (_, tensors) = state::load(dir.path(), &Device::cpu()).unwrap();
    let again = fresh(4);
    state::restore(dir.path(), &tensors, "policy", &again).unwrap();
    let mut optimizer2 = adamw(&again);
    state::restore_optimizer(dir.path(), &tensors, &mut optimizer2).unwrap();
    assert_eq!(bits(&again), bits(&policy));
    // The master weights have come back, too.
    train_a_step(&policy, &mut optimizer);
    train_a_step(&again, &mut optimizer2);
    assert_eq!(bits(&again), bits(&policy));
}

#[test]
fn any_flipped_bit_is_noticed() {
    let Saved { temp, .. } = saved();
    let (folder, file) = (temp.join("run"), temp.join("run").join(FILE));
    let whole = fs::read(&file).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    // Most of the header and a sample of the numbers, the checksum too.
    let places = (0..header).step_by(7).chain((header..whole.len()).step_by(997)).chain([whole.len() - 8, whole.len() - 1]);
    for (i, place) in places.enumerate() {
        let mut flipped = whole.clone();
        flipped[place] ^= 1 << (i % 8);
        fs::write(&file, &flipped).unwrap();
        let said = refusal(&folder);
        assert!(said.contains(FILE) && said.lines().count() == 1, "byte {place}: {said}");
        assert!(place < header || said.contains("is damaged") && said.contains("--base"), "byte {place}: {said}");
    }
}

#[test]
fn a_state_of_another_format_is_refused() {
    let Saved { temp, .. } = saved();
    let (folder, file) = (temp.join("run"), temp.join("run").join(FILE));
    let mut bytes = fs::read(&file).unwrap();
    let key = br#"\"format\":"#;
    let at = bytes.windows(key.len()).position(|part| part == key).unwrap() + key.len();
    assert_eq!(bytes[at], b'2');
    bytes[at] = b'3';
    let end = bytes.len() - 8;
    let sum = checksum(0, &bytes[..end]);
    bytes[end..].copy_from_slice(&sum.to_le_bytes());
    fs::write(&file, bytes).unwrap();
    let said = refusal(&folder);
    assert!(said.contains("it has the format 3, this program reads format 2"), "{said}");
}
