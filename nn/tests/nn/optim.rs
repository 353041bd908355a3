//! AdamW against plain loops, its errors, its state, clipping and schedules.

use crate::common::{bits, cpu, ids, model, tiny};
use autograd::Var;
use nn::{AdamW, AdamWConfig, Module, OptimError, Schedule, clip_grad_norm, grad_norm};
use tensor::{DType, Generator, Tensor};

const CONFIG: AdamWConfig = AdamWConfig { beta1: 0.8, beta2: 0.95, eps: 1e-6, weight_decay: 0.1, decay_matrices_only: false };

/// One value over several steps, by the paper's algorithm.
fn reference(mut x: f64, grads: &[f64], lr: f64, c: &AdamWConfig) -> f64 {
    let (mut m, mut v) = (0.0, 0.0);
    for (t, g) in grads.iter().enumerate() {
        m = c.beta1 * m + (1.0 - c.beta1) * g;
        v = c.beta2 * v + (1.0 - c.beta2) * g * g;
        let n = t as i32 + 1;
        let (mean, var): (f64, f64) = (m / (1.0 - c.beta1.powi(n)), v / (1.0 - c.beta2.powi(n)));
        x = x - lr * c.weight_decay * x - lr * mean / (var.sqrt() + c.eps);
    }
    x
}

fn draw(seed: u64, shape: &[usize], dtype: DType) -> Tensor {
    Generator::new(seed).normal(shape, 0.0, 1.0, DType::F32, &cpu()).to_dtype(dtype)
}

#[test]
fn steps_follow_the_algorithm() {
    for dtype in [DType::F64, DType::F32] {
        for decay_matrices_only in [false, true] {
            let config = AdamWConfig { decay_matrices_only, ..CONFIG };
            let (w, b) = (Var::parameter(draw(1, &[3, 5], dtype)), Var::parameter(draw(2, &[7], dtype)));
            let start = [w.value().to_f64_vec(), b.value().to_f64_vec()];
            let mut adamw = AdamW::new(vec![("w".into(), w.clone()), ("b".into(), b.clone())], config);
            let mut grads = [vec![Vec::new(); 15], vec![Vec::new(); 7]];
            let steps = 6;
            for step in 0..steps {
                for (i, var) in [&w, &b].into_iter().enumerate() {
                    let g = draw(10 + step * 2 + i as u64, &var.shape(), dtype);
                    grads[i].iter_mut().zip(g.to_f64_vec()).for_each(|(all, g)| all.push(g));
                    var.set_grad(Some(g));
                }
                adamw.step(0.01).unwrap();
            }
            assert_eq!(adamw.steps(), steps);
            for (i, var) in [&w, &b].into_iter().enumerate() {
                let decay = if decay_matrices_only && i == 1 { 0.0 } else { config.weight_decay };
                let config = AdamWConfig { weight_decay: decay, ..config };
                for (j, x) in var.value().to_f64_vec().into_iter().enumerate() {
                    let want = reference(start[i][j], &grads[i][j], 0.01, &config);
                    // Six steps of at most three roundings of x (below 4 in size), and a step of 0.01/(1 − β) with about twenty.
                    let bound = 6.0 * (3.0 * 4.0 + 20.0 * 0.05) * dtype.epsilon();
                    assert!((x - want).abs() <= bound, "{dtype} {x} {want}");
                }
            }
        }
    }
}

/// No gradient and no epsilon is too small: what f32 cannot hold of them is kept in f64.
#[test]
fn steps_follow_the_formula_at_every_scale() {
    for eps in [1e-6, 1e-8, 1e-12, 1e-20, 1e-30] {
        for size in [1.0, 1e-7, 1e-14, 1e-18, 1e-22, 1e-30] {
            let config = AdamWConfig { eps, weight_decay: 0.0, ..AdamWConfig::default() };
            let w = Var::parameter(Tensor::zeros([1], DType::F32, &cpu()));
            let mut adamw = AdamW::new(vec![("w".into(), w.clone())], config);
            let grads: Vec<f64> = (0..20).map(|i| f64::from(((i as f64 * 0.7).sin() + 0.3) as f32 * size as f32)).collect();
            for &g in &grads {
                w.set_grad(Some(Tensor::full([1], g, DType::F32, &cpu())));
                adamw.step(1e-3).unwrap();
            }
            let (got, want) = (w.value().to_f64_vec()[0], reference(0.0, &grads, 1e-3, &config));
            // Twenty steps, of about thirty roundings each, of one size.
            assert!(
                (got - want).abs() <= 600.0 * f64::from(f32::EPSILON) * want.abs(),
                "{eps:e} {size:e}: {got:e}, not {want:e}"
            );
        }
    }
}

/// Steps too small for bf16 add up in the master copy.
#[test]
fn half_parameters_have_f32_masters() {
    let w = Var::parameter(Tensor::ones(4, DType::BF16, &cpu()));
    let mut adamw = AdamW::new(vec![("w".into(), w.clone())], AdamWConfig { weight_decay: 0.0, ..AdamWConfig::default() });
    for step in 0..40 {
        w.set_grad(Some(Tensor::ones(4, DType::BF16, &cpu())));
        adamw.step(1e-3).unwrap();
        // Beside 1 the next bf16 below is 1 − 2^-8: one step of 0.001 is lost in it, two are seen.
        assert_eq!(w.value().to_f64_vec()[0] < 1.0, step > 0, "step {step}");
    }
    assert!((w.value().to_f64_vec()[0] - 0.96).abs() < 1.0 / 256.0);
    assert_eq!(adamw.state_dict()["w.master"].dtype(), DType::F32);
}

#[test]
fn a_parameter_without_a_good_gradient_is_named() {
    let (a, b) = (Var::parameter(draw(1, &[2], DType::F32)), Var::parameter(draw(2, &[2], DType::F32)));
    let named = vec![("a".to_owned(), a.clone()), ("b".to_owned(), b.clone())];
    let mut adamw = AdamW::new(named.clone(), CONFIG);
    let before = [bits(&a.value()), bits(&b.value())];
    a.set_grad(Some(draw(3, &[2], DType::F32)));
    assert_eq!(adamw.step(0.1), Err(OptimError::NoGradient("b".into())));
    assert_eq!(clip_grad_norm(&named, 1.0), Err(OptimError::NoGradient("b".into())));
    for bad in [f32::NAN, f32::INFINITY] {
        b.set_grad(Some(Tensor::from_slice(&[0.0, bad], 2, &cpu())));
        assert_eq!(adamw.step(0.1), Err(OptimError::NotFinite("b".into())));
        assert_eq!(adamw.step_clipped(0.1, 1.0), Err(OptimError::NotFinite("b".into())));
    }
    assert_eq!([bits(&a.value()), bits(&b.value())], before, "a failed step changes nothing");
    assert_eq!(adamw.steps(), 0);
    b.set_grad(Some(Tensor::from_slice(&[1e30f32, 0.0], 2, &cpu()))); // large is not infinite
    adamw.step(0.1).unwrap();
    adamw.zero_grad();
    assert!(a.grad().is_none() && adamw.step(0.1).is_err());
}

#[test]
fn a_resumed_run_is_the_same_bit_for_bit() {
    let train = |model: &nn::DeepseekV3ForCausalLM, adamw: &mut AdamW, steps: std::ops::Range<u64>| {
        for step in steps {
            model.loss(&ids(step, [3, 6], 13)).backward();
            adamw.step_clipped(0.02, 0.5).unwrap();
            adamw.zero_grad();
        }
    };
    for dtype in [DType::F32, DType::BF16] {
        let whole = model(tiny(), 1, dtype);
        let mut adamw = AdamW::new(whole.named_parameters(), CONFIG);
        train(&whole, &mut adamw, 0..6);

        let first = model(tiny(), 1, dtype);
        let mut adamw = AdamW::new(first.named_parameters(), CONFIG);
        train(&first, &mut adamw, 0..3);
        let (weights, state) = (first.state_dict(), adamw.state_dict());
        let second = model(tiny(), 2, dtype);
        let mut place = weights.iter();
        second.walk().iter().for_each(|named| named.slot.set_value(place.next().unwrap().1.clone()));
        let mut adamw = AdamW::new(second.named_parameters(), CONFIG);
        adamw.load_state_dict(&state).unwrap();
        assert_eq!(adamw.steps(), 3);
        train(&second, &mut adamw, 3..6);
        for ((name, a), (_, b)) in whole.state_dict().iter().zip(second.state_dict()) {
            assert!(a.to_bytes() == b.to_bytes(), "{dtype} {name}");
        }
    }
}

#[test]
fn a_state_that_does_not_fit_is_refused_and_changes_nothing() {
    let w = Var::parameter(draw(1, &[2], DType::F32));
    let mut adamw = AdamW::new(vec![("w".into(), w)], CONFIG);
    let good = adamw.state_dict();
    let broken = |change: &dyn Fn(&mut std::collections::BTreeMap<String, Tensor>)| {
        let mut state = good.clone();
        change(&mut state);
        state
    };
    let zeros = |n: usize, dtype| Tensor::zeros(n, dtype, &cpu());
    for (state, name) in [
        (broken(&|s| drop(s.remove("w.exp_avg"))), "w.exp_avg"),
        (broken(&|s| drop(s.insert("w.exp_avg_sq".into(), zeros(3, DType::F32)))), "w.exp_avg_sq"),
        (broken(&|s| drop(s.insert("w.exp_avg".into(), zeros(2, DType::F64)))), "w.exp_avg"),
        (broken(&|s| drop(s.insert("v.exp_avg".into(), zeros(2, DType::F32)))), "v.exp_avg"),
        (broken(&|s| drop(s.insert("step".into(), Tensor::scalar(-1, DType::I64, &cpu())))), "step"),
    ] {
        let Err(OptimError::State { key, .. }) = adamw.load_state_dict(&state) else { panic!("{name} was accepted") };
        assert_eq!(key, name);
    }
    adamw.load_state_dict(&good).unwrap();
}

#[test]
fn clipping_scales_to_the_norm() {
    let make = || {
        let vars = [draw(1, &[4, 3], DType::F32), draw(2, &[5], DType::F32)].map(Var::parameter);
        vars.iter().enumerate().for_each(|(i, v)| v.set_grad(Some(draw(5 + i as u64, &v.shape(), DType::F32))));
        vec![("a".to_owned(), vars[0].clone()), ("b".to_owned(), vars[1].clone())]
    };
    let named = make();
    let plain = named.iter().flat_map(|(_, v)| v.grad().unwrap().to_f64_vec()).map(|g| g * g).sum::<f64>().sqrt();
    assert!((clip_grad_norm(&named, 100.0).unwrap() - plain).abs() < 1e-12 * plain);
    assert_eq!(bits(&named[0].1.grad().unwrap()), bits(&make()[0].1.grad().unwrap()), "small enough gradients are not touched");
    assert!((clip_grad_norm(&named, 0.5).unwrap() - plain).abs() < 1e-12 * plain);
    let after = grad_norm(named.iter().map(|(n, v)| (&**n, v))).unwrap();
    assert!((after - 0.5).abs() < 4.0 * f64::from(f32::EPSILON));
    // Clipping within the step is the same up to the one rounding that it saves.
    let other = make();
    let mut a = AdamW::new(named.clone(), CONFIG);
    let mut b = AdamW::new(other.clone(), CONFIG);
    a.step(0.01).unwrap();
    assert!((b.step_clipped(0.01, 0.5).unwrap() - plain).abs() < 1e-12 * plain);
    for ((_, a), (_, b)) in named.iter().zip(&other) {
        assert!(crate::common::max_abs(&a.value(), &b.value()) < 1e-6);
    }
}

#[test]
fn schedules() {
    let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
    let constant = Schedule::Constant { warmup: 4 };
    assert_eq!([0, 1, 3, 4, 999].map(|s| constant.factor(s)), [0.25, 0.5, 1.0, 1.0, 1.0]);
    assert_eq!(Schedule::Constant { warmup: 0 }.factor(0), 1.0);
    let wsd = Schedule::WarmupStableDecay { warmup: 2, decay: 4, total: 10, floor: 0.1 };
    assert_eq!([0, 1, 2, 5, 6].map(|s| wsd.factor(s)), [0.5, 1.0, 1.0, 1.0, 1.0]);
    assert!(close(wsd.factor(8), 0.55) && close(wsd.factor(10), 0.1) && close(wsd.factor(50), 0.1));
    let cosine = Schedule::Cosine { warmup: 2, total: 10, floor: 0.2 };
    assert!(
        close(cosine.factor(2), 1.0)
            && close(cosine.factor(6), 0.6)
            && close(cosine.factor(10), 0.2)
            && close(cosine.factor(99), 0.2)
    );
    assert!(close(cosine.factor(4), 0.2 + 0.8 * 0.5 * (1.0 + std::f64::consts::FRAC_1_SQRT_2)));
    // Degenerate numbers give numbers.
    for s in [
        Schedule::Cosine { warmup: 5, total: 5, floor: 0.0 },
        Schedule::WarmupStableDecay { warmup: 9, decay: 20, total: 5, floor: 0.0 },
    ] {
        assert!((0..30).all(|i| (0.0..=1.0).contains(&s.factor(i))), "{s:?}");
    }
}
