//! The mixture of experts against plain loops in f64, and what keeps its load even.

use crate::common::{cpu, randomise_buffers, tiny, values};
use autograd::{Var, no_grad};
use nn::{Config, Init, Module, Moe, ScoringFunc, TopkMethod};
use tensor::{DType, Generator, Tensor};

/// Scores of one token: logits by plain sums.
fn scores(weight: &[f64], x: &[f64], softmax: bool) -> Vec<f64> {
    let logits: Vec<f64> = weight.chunks(x.len()).map(|w| w.iter().zip(x).map(|(w, x)| w * x).sum()).collect();
    if softmax {
        let total: f64 = logits.iter().map(|l| l.exp()).sum();
        logits.iter().map(|l| l.exp() / total).collect()
    } else {
        logits.iter().map(|l| 1.0 / (1.0 + (-l).exp())).collect()
    }
}

/// The experts a token should get: everything sorted, nothing clever.
fn chosen(scores: &[f64], bias: Option<&[f64]>, c: &Config) -> Vec<usize> {
    let biased: Vec<f64> = scores.iter().enumerate().map(|(e, s)| s + bias.map_or(0.0, |b| b[e])).collect();
    let size = c.n_routed_experts / c.n_group;
    let mut groups: Vec<(f64, usize)> = (0..c.n_group)
        .map(|g| {
            let mut members = biased[g * size..(g + 1) * size].to_vec();
            members.sort_by(|a, b| b.total_cmp(a));
            (members.iter().take(if bias.is_some() { 2 } else { 1 }).sum(), g)
        })
        .collect();
    groups.sort_by(|a, b| b.0.total_cmp(&a.0));
    let open: Vec<usize> = groups.iter().take(c.topk_group).map(|g| g.1).collect();
    let mut experts: Vec<usize> =
        (0..c.n_routed_experts).filter(|e| c.topk_method == TopkMethod::Greedy || open.contains(&(e / size))).collect();
    experts.sort_by(|&a, &b| biased[b].total_cmp(&biased[a]));
    experts.truncate(c.num_experts_per_tok);
    experts.sort_unstable();
    experts
}

fn mlp(x: &[f64], gate: &[f64], up: &[f64], down: &[f64]) -> Vec<f64> {
    let dot = |w: &[f64], x: &[f64]| w.iter().zip(x).map(|(w, x)| w * x).sum::<f64>();
    let hidden: Vec<f64> = gate
        .chunks(x.len())
        .zip(up.chunks(x.len()))
        .map(|(g, u)| {
            let g = dot(g, x);
            g / (1.0 + (-g).exp()) * dot(u, x)
        })
        .collect();
    down.chunks(hidden.len()).map(|row| dot(row, &hidden)).collect()
}

fn variants() -> Vec<Config> {
    let v2 = Config { scoring_func: ScoringFunc::Softmax, norm_topk_prob: false, routed_scaling_factor: 3.0, ..tiny() };
    vec![
        tiny(),
        Config { n_routed_experts: 8, n_group: 2, topk_group: 1, num_experts_per_tok: 3, ..tiny() },
        Config { n_group: 1, topk_group: 1, num_experts_per_tok: 6, n_shared_experts: 0, ..tiny() },
        Config { norm_topk_prob: false, n_shared_experts: 2, ..tiny() },
        Config { topk_method: TopkMethod::Greedy, n_group: 1, topk_group: 1, ..v2.clone() },
        Config { topk_method: TopkMethod::GroupLimitedGreedy, ..v2 },
    ]
}

#[test]
fn choice_weights_and_outputs_equal_plain_loops() {
    let mut differing = 0;
    for (v, config) in variants().into_iter().enumerate() {
        config.validate().unwrap();
        for seed in 0..5 {
            let mut rng = Generator::new(seed);
            let moe = Moe::new(&mut Init::normal(&mut rng, 0.6, DType::F64, &cpu()), &config);
            randomise_buffers(&moe, &mut rng);
            let x = rng.normal([3, 4, 8], 0.0, 1.0, DType::F64, &cpu());
            let (y, routing) = no_grad(|| moe.forward(&Var::from(&x)));
            let (y, weights) = (y.value().to_vec::<f64>(), routing.weights.value().to_vec::<f64>());
            let gate = values(&moe, "gate.weight");
            let bias = (config.topk_method == TopkMethod::NoauxTc).then(|| values(&moe, "gate.e_score_correction_bias"));
            let k = config.num_experts_per_tok;
            let mut load = vec![0; config.n_routed_experts];
            for (t, x) in x.to_vec::<f64>().chunks(8).enumerate() {
                let s = scores(&gate, x, config.scoring_func == ScoringFunc::Softmax);
                let experts = chosen(&s, bias.as_deref(), &config);
                let ours: Vec<usize> = routing.experts[t * k..][..k].iter().map(|&e| e as usize).collect();
                assert_eq!(ours, experts, "variant {v}, token {t}");
                differing += usize::from(chosen(&s, None, &config) != experts);
                let total: f64 = if config.norm_topk_prob { experts.iter().map(|&e| s[e]).sum() } else { 1.0 };
                let mut want = [0.0; 8];
                for (slot, &e) in experts.iter().enumerate() {
                    load[e] += 1;
                    let w = s[e] / total * config.routed_scaling_factor;
                    assert!((w - weights[t * k + slot]).abs() < 1e-14);
                    let parts = ["gate_proj", "up_proj", "down_proj"].map(|p| values(&moe, &format!("experts.{e}.{p}.weight")));
                    let out = mlp(x, &parts[0], &parts[1], &parts[2]);
                    want.iter_mut().zip(out).for_each(|(a, o)| *a += w * o);
                }
                if config.n_shared_experts > 0 {
                    let parts =
                        ["gate_proj", "up_proj", "down_proj"].map(|p| values(&moe, &format!("shared_experts.{p}.weight")));
                    want.iter_mut().zip(mlp(x, &parts[0], &parts[1], &parts[2])).for_each(|(a, o)| *a += o);
                }
                // Sums of at most 8 products three deep, values of size 100 at most: 1e-12 is 40 times their roundoff.
                assert!(want.iter().zip(&y[t * 8..]).all(|(a, b)| (a - b).abs() < 1e-12), "variant {v}, token {t}");
            }
            assert_eq!(routing.load(None), load);
        }
    }
    assert!(differing > 20, "the correction bias must have changed some choices, not {differing}");
}

/// A group that is not chosen is out even if every score in the chosen ones is negative (a filler of 0 would win).
#[test]
fn groups_not_chosen_never_win() {
    let config = Config { n_group: 2, topk_group: 1, ..tiny() };
    let mut rng = Generator::new(0);
    let moe = Moe::new(&mut Init::normal(&mut rng, 0.1, DType::F32, &cpu()), &config);
    for named in moe.walk().iter().filter(|named| named.name.ends_with("e_score_correction_bias")) {
        named.slot.set_value(Tensor::from_slice(&[-2.0f32, -2.0, -2.0, -9.0, -9.0, -9.0], 6, &cpu()));
    }
    let (_, routing) = moe.forward(&rng.normal([5, 8], 0.0, 1.0, DType::F32, &cpu()).into());
    assert!(routing.experts.iter().all(|&e| e < 3), "{:?}", routing.experts);
}

#[test]
fn the_balance_loss_is_one_when_even_and_k_times_worse_at_most() {
    let config = Config { n_group: 1, topk_group: 1, ..tiny() };
    let mut rng = Generator::new(3);
    let moe = Moe::new(&mut Init::normal(&mut rng, 0.5, DType::F64, &cpu()), &config);
    let x = rng.normal([2, 4, 8], 0.0, 1.0, DType::F64, &cpu());
    let mask = [true, true, true, false, true, true, true, true];
    let (_, routing) = moe.forward(&Var::from(&x));
    // Equations 17 to 20, by plain loops.
    let s = routing.scores.value().to_vec::<f64>();
    let mut want = 0.0;
    for sequence in 0..2 {
        let tokens: Vec<usize> = (sequence * 4..sequence * 4 + 4).filter(|&t| mask[t]).collect();
        let n = tokens.len() as f64;
        for e in 0..6 {
            let f = tokens.iter().filter(|&&t| routing.experts[t * 2..t * 2 + 2].contains(&(e as u32))).count() as f64 * 6.0
                / (2.0 * n);
            let p = tokens.iter().map(|&t| s[t * 6 + e] / s[t * 6..t * 6 + 6].iter().sum::<f64>()).sum::<f64>() / n;
            want += f * p / 2.0;
        }
    }
    let loss = routing.balance_loss(2, Some(&mask)).value().item::<f64>();
    assert!((loss - want).abs() < 1e-14, "{loss} {want}");
    assert_eq!(routing.load(Some(&mask)).iter().sum::<u64>(), 14);
}

#[test]
fn the_bias_evens_out_the_load() {
    let config = Config { n_group: 1, topk_group: 1, ..tiny() };
    let mut rng = Generator::new(1);
    let moe = Moe::new(&mut Init::normal(&mut rng, 0.5, DType::F32, &cpu()), &config);
    let x: Var = rng.normal([400, 8], 0.3, 1.0, DType::F32, &cpu()).into();
    let load = || no_grad(|| moe.forward(&x)).1.load(None);
    let spread = |load: &[u64]| load.iter().max().unwrap() - load.iter().min().unwrap();
    let before = spread(&load());
    for _ in 0..300 {
        moe.gate().update_bias(&load(), 0.002);
    }
    let after = spread(&load());
    assert!(before > 60 && after * 4 < before, "{before} {after}");
    // A step has the given size and sign, and an even load changes nothing.
    let bias = || values(&moe, "gate.e_score_correction_bias");
    let old = bias();
    moe.gate().update_bias(&[5, 5, 5, 5, 5, 5], 1.0);
    assert_eq!(bias(), old);
    moe.gate().update_bias(&[9, 5, 5, 5, 5, 1], 0.25);
    let moved: Vec<f64> = bias().iter().zip(&old).map(|(a, b)| ((a - b) * 1e4).round() / 1e4).collect();
    assert_eq!(moved, [-0.25, 0.0, 0.0, 0.0, 0.0, 0.25]);
}

/// A router that gives NaN still chooses different experts: the loss says NaN, nothing panics.
#[test]
fn nan_is_passed_on() {
    let mut rng = Generator::new(1);
    let moe = Moe::new(&mut Init::normal(&mut rng, 0.5, DType::F32, &cpu()), &tiny());
    let (y, routing) = moe.forward(&Tensor::full([2, 8], f64::NAN, DType::F32, &cpu()).into());
    assert!(routing.experts.chunks(2).all(|e| e[0] < e[1]));
    assert!(y.value().to_vec::<f32>().iter().all(|y| y.is_nan()));
}
