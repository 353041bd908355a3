//! The record and the walk over it: accumulation, scopes, depth, checkpoints, custom operations, errors.

use crate::panic_of;
use autograd::{Gradcheck, GradcheckError, Var, backward_parts, checkpoint, gradcheck, is_grad_enabled, no_grad};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tensor::{DType, Device, Generator, Tensor};

fn f32s(values: &[f32]) -> Tensor {
    Tensor::from_slice(values, values.len(), &Device::cpu())
}

fn normal(seed: u64, shape: &[usize]) -> Tensor {
    Generator::new(seed).normal(shape, 0.0, 1.0, DType::F32, &Device::cpu())
}

fn grad(v: &Var) -> Vec<f32> {
    v.grad().expect("a gradient").to_vec()
}

#[test]
fn a_value_used_twice_adds_up() {
    let x = Var::parameter(f32s(&[1.0, 2.0, 3.0]));
    let y = &x * &x + &x;
    y.sum((), false).backward();
    assert_eq!(grad(&x), [3.0, 5.0, 7.0]);
}

#[test]
fn backward_passes_accumulate_until_zero_grad() {
    let x = Var::parameter(f32s(&[1.0, 2.0]));
    let loss = (&x * 3.0).sum((), false);
    loss.backward();
    loss.backward(); // the record is kept as long as its values
    assert_eq!(grad(&x), [6.0, 6.0]);
    x.zero_grad();
    assert!(x.grad().is_none());
    x.set_grad(Some(f32s(&[1.0, 0.0])));
    loss.backward();
    assert_eq!(grad(&x), [4.0, 3.0]);
}

#[test]
fn parts_give_the_bits_of_one_pass_after_the_other() {
    let w = Var::parameter(normal(1, &[24, 24]));
    let only_first = Var::parameter(normal(2, &[24]));
    let parts: Vec<Tensor> = (0..9).map(|i| normal(10 + i, &[300 + 40 * i as usize, 24])).collect();
    let loss = |x: &Tensor| {
        // A scope that another part must not see, around work that is spread over threads.
        let constant = no_grad(|| Var::from(x).matmul(&w).exp().sum((), false).value());
        let y = Var::from(x).matmul(&w).sigmoid().matmul(&w).square().mean((), false);
        match x.dims()[0] {
            300 => y.add(&only_first.sum((), false)).add(&Var::from(constant)),
            _ => y.add(&Var::from(constant)),
        }
    };
    w.set_grad(Some(normal(3, &[24, 24])));
    parts.iter().for_each(|x| loss(x).backward());
    let (expected, first) = (grad(&w), grad(&only_first));
    for threads in [1, 2, 3, 16] {
        w.set_grad(Some(normal(3, &[24, 24])));
        only_first.zero_grad();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let rows = pool.install(|| no_grad(|| backward_parts(&parts, |x| Ok::<_, ()>((loss(x), x.dims()[0])))));
        assert_eq!(rows.unwrap(), parts.iter().map(|x| x.dims()[0]).collect::<Vec<_>>());
        assert_eq!((grad(&w), grad(&only_first)), (expected.clone(), first.clone()), "{threads} threads");
    }
}

#[test]
fn the_first_part_that_fails_is_reported() {
    let x = Var::parameter(f32s(&[1.0]));
    let loss = |&i: &usize| if i < 3 { Ok(((&x * i as f64).sum((), false), i)) } else { Err(i) };
    assert_eq!(backward_parts(&[0, 1, 2], loss), Ok(vec![0, 1, 2]));
    assert_eq!(grad(&x), [3.0]);
    assert_eq!(backward_parts(&[1, 7, 5, 2], loss), Err(7));
    assert_eq!(backward_parts(&[], loss), Ok(vec![]));
    let message = panic_of(|| drop(backward_parts(&[1], |_| Ok::<_, ()>((Var::from(f32s(&[1.0])), ())))));
    assert!(message.contains("depends on no parameter"), "{message}");
}

#[test]
fn a_diamond_visits_each_node_once() {
    let visits = Arc::new(AtomicUsize::new(0));
    let x = Var::parameter(f32s(&[2.0]));
    let counted = visits.clone();
    let shared = Var::op("shared", x.value(), [&x], move |g, _| {
        counted.fetch_add(1, Ordering::Relaxed);
        [Some(g.clone())]
    });
    let left = &shared * 2.0;
    let right = &shared * 5.0;
    (&left * &right + &left).backward(); // 10x² + 2x
    assert_eq!(grad(&x), [42.0]);
    assert_eq!(visits.load(Ordering::Relaxed), 1);
}

#[test]
fn backward_with_a_gradient_of_ones_place() {
    let x = Var::parameter(f32s(&[1.0, 2.0]));
    x.square().backward_with(&f32s(&[10.0, 1.0]));
    assert_eq!(grad(&x), [20.0, 4.0]);
    x.zero_grad();
    x.backward_with(&f32s(&[1.0, 2.0])); // a parameter is its own result
    assert_eq!(grad(&x), [1.0, 2.0]);
}

#[test]
fn only_what_needs_a_gradient_gets_one() {
    let x = Var::parameter(f32s(&[2.0]));
    let c = Var::constant(f32s(&[3.0]));
    let seen = Arc::new(AtomicUsize::new(9));
    let record = seen.clone();
    let y = Var::op("mixed", &x.value() * &c.value(), [&x, &c], move |g, needs| {
        record.store(needs[0] as usize + 2 * needs[1] as usize, Ordering::Relaxed);
        [Some(g * 3.0), None]
    });
    y.backward();
    assert_eq!(seen.load(Ordering::Relaxed), 1);
    assert_eq!(grad(&x), [3.0]);
    assert!(!c.requires_grad());
}

#[test]
fn no_grad_records_nothing_and_ends_with_a_panic_too() {
    let x = Var::parameter(f32s(&[1.0]));
    let y = no_grad(|| {
        assert!(!is_grad_enabled());
        no_grad(|| assert!(!is_grad_enabled()));
        assert!(!is_grad_enabled());
        &x * 2.0
    });
    assert!(is_grad_enabled() && !y.requires_grad());
    panic_of(|| no_grad(|| panic!("inside")));
    assert!(is_grad_enabled());
    // The switch is the thread's own.
    no_grad(|| std::thread::scope(|s| s.spawn(|| assert!(is_grad_enabled())).join().unwrap()));
    assert!(panic_of(|| y.backward()).contains("no_grad"));
}

#[test]
fn detach_cuts() {
    let x = Var::parameter(f32s(&[3.0]));
    (&x * &x.detach()).backward();
    assert_eq!(grad(&x), [3.0]);
    assert!(!x.detach().requires_grad());
}

#[test]
fn set_value_is_seen_by_clones_and_not_by_what_was_computed_before() {
    let x = Var::parameter(f32s(&[3.0]));
    let twin = x.clone();
    let y = x.square();
    x.set_value(f32s(&[100.0]));
    assert_eq!(twin.value().to_vec::<f32>(), [100.0]);
    y.backward();
    assert_eq!(grad(&twin), [6.0]);
}

#[test]
fn a_chain_of_a_hundred_thousand_nodes() {
    let x = Var::parameter(f32s(&[1.0]));
    let mut y = x.clone();
    for _ in 0..100_000 {
        y = &y + 1.0;
    }
    y.backward();
    assert_eq!(grad(&x), [1.0]);
    drop(y); // without overflowing the stack
    let mut y = x.clone();
    for _ in 0..20_000 {
        y = checkpoint(|v| &v[0] + 1.0, &[y]);
    }
    y.backward();
    assert_eq!(grad(&x), [2.0]);
}

#[test]
fn the_record_lives_as_long_as_its_result() {
    let x = Var::parameter(f32s(&[1.0]));
    let mut tokens = Vec::new();
    let mut y = x.clone();
    for _ in 0..10 {
        let token = Arc::new(());
        tokens.push(Arc::downgrade(&token));
        y = Var::op("token", y.value(), [&y], move |g, _| {
            let _kept = &token;
            [Some(g.clone())]
        });
    }
    y.backward();
    assert!(tokens.iter().all(|t| t.upgrade().is_some()));
    drop(y);
    assert!(tokens.iter().all(|t| t.upgrade().is_none()));
}

#[test]
fn what_a_checkpoint_computes_again_is_freed_as_the_pass_leaves_it() {
    // Each stage of the recomputed part holds a token; when the first stage's rule runs, the later ones' are gone.
    let alive = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    struct Token(Arc<AtomicUsize>);
    impl Drop for Token {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let stage = {
        let (alive, most) = (alive.clone(), most.clone());
        move |v: &[Var]| {
            (0..4).fold(v[0].clone(), |y, _| {
                alive.fetch_add(1, Ordering::Relaxed);
                let (token, most) = (Token(alive.clone()), most.clone());
                Var::op("token", y.value(), [&y], move |g, _| {
                    most.fetch_max(token.0.load(Ordering::Relaxed), Ordering::Relaxed);
                    [Some(g.clone())]
                })
            })
        }
    };
    let x = Var::parameter(f32s(&[1.0]));
    let y = (0..5).fold(x.clone(), |y, _| checkpoint(stage.clone(), &[y]));
    assert_eq!(alive.load(Ordering::Relaxed), 0, "nothing of the first run is kept");
    y.backward();
    assert_eq!(most.load(Ordering::Relaxed), 4, "one part at a time");
    assert_eq!(alive.load(Ordering::Relaxed), 0);
}

#[test]
fn misuse_names_the_operation() {
    let x = Var::parameter(f32s(&[1.0, 2.0]));
    let wrong_shape = Var::op("twist", x.value(), [&x], |_, _| [Some(f32s(&[1.0]))]).sum((), false);
    let message = panic_of(|| wrong_shape.backward());
    assert!(message.contains("twist") && message.contains("[1]") && message.contains("[2]"), "{message}");
    let wrong_dtype = Var::op("turn", x.value(), [&x], |g, _| [Some(g.to_dtype(DType::F64))]).sum((), false);
    let message = panic_of(|| wrong_dtype.backward());
    assert!(message.contains("turn") && message.contains("f64"), "{message}");
    let missing = Var::op("hole", x.value(), [&x], |_, _| [None]).sum((), false);
    assert!(panic_of(|| missing.backward()).contains("hole: the rule returned no gradient for input 0"));
    let short = Var::op_vec("short", x.value(), &[x.clone(), x.clone()], |g, _| vec![Some(g.clone())]).sum((), false);
    assert!(panic_of(|| short.backward()).contains("short: the rule returned no gradient for input 1"));

    assert!(panic_of(|| x.backward()).contains("[2]"));
    assert!(panic_of(|| x.to_dtype(DType::I64)).contains("to_dtype: i64"));
    assert!(panic_of(|| Var::parameter(Tensor::zeros(2, DType::I64, &Device::cpu()))).contains("i64"));
    assert!(panic_of(|| x.set_grad(Some(f32s(&[1.0])))).contains("set_grad"));
    assert!(panic_of(|| x.set_value(f32s(&[1.0]))).contains("set_value"));
    assert!(panic_of(|| (&x * 2.0).grad()).contains("the result of mul"));
    assert!(panic_of(|| x.backward_with(&f32s(&[1.0]))).contains("backward"));
    // Where no gradient is needed, any dtype goes.
    assert_eq!(no_grad(|| x.to_dtype(DType::I64)).dtype(), DType::I64);
}

/// Two layers with a shared weight, so that contributions come from several places.
fn block(w: &Var, x: &Var) -> Var {
    let h = x.linear(w, None).silu();
    let h = &h + &h.linear(w, None).tanh();
    h.rms_norm(&[8], None, Some(1e-6))
}

#[test]
fn checkpoints_give_the_same_bits() {
    let run = |mode: usize| -> Vec<Vec<f32>> {
        let w = Var::parameter(normal(1, &[8, 8]));
        let x = Var::parameter(normal(2, &[5, 8]));
        let layer = |h: Var| -> Var {
            let w = w.clone();
            match mode {
                0 => block(&w, &(&h + &block(&w, &h))),
                1 => checkpoint(move |v| block(&w, &(&v[0] + &block(&w, &v[0]))), &[h]),
                _ => checkpoint(
                    move |v| {
                        let inner = w.clone();
                        let once = checkpoint(move |v| block(&inner, &v[0]), v);
                        block(&w, &(&v[0] + &once))
                    },
                    &[h],
                ),
            }
        };
        // The input is used beside the checkpoints as well.
        let h = layer(layer(x.clone()));
        let y = &(&h * &x) + &x.linear(&w, None);
        y.square().mean((), false).backward();
        vec![y.value().to_vec(), grad(&w), grad(&x)]
    };
    let plain = run(0);
    assert_eq!(plain, run(1));
    assert_eq!(plain, run(2));
}

#[test]
fn checkpoint_without_inputs_that_need_gradients_still_reaches_captured_parameters() {
    let w = Var::parameter(f32s(&[2.0]));
    let captured = w.clone();
    let y = checkpoint(move |v| &v[0] * &captured, &[Var::constant(f32s(&[5.0]))]);
    y.backward();
    assert_eq!(grad(&w), [5.0]);
    let constant = checkpoint(|v| &v[0] * 2.0, &[Var::constant(f32s(&[5.0]))]);
    assert!(!constant.requires_grad());
    let w2 = w.clone();
    assert!(!no_grad(|| checkpoint(move |v| &v[0] * &w2, std::slice::from_ref(&w))).requires_grad());
    // The identity passes the gradient through.
    w.zero_grad();
    checkpoint(|v| v[0].clone(), &[&w * 3.0]).backward();
    assert_eq!(grad(&w), [3.0]);
}

#[test]
fn checkpoint_that_changes_its_mind_panics() {
    let x = Var::parameter(f32s(&[1.0, 2.0]));
    let calls = AtomicUsize::new(0);
    let y = checkpoint(
        move |v| if calls.fetch_add(1, Ordering::Relaxed) == 0 { v[0].sum((), false) } else { v[0].clone() },
        std::slice::from_ref(&x),
    );
    assert!(panic_of(|| y.backward()).contains("checkpoint"));
}

#[test]
fn several_outputs_share_one_rule() {
    let x = Var::parameter(f32s(&[1.0, 2.0, 3.0, 4.0, 5.0]));
    let parts = x.split_with_sizes(&[1, 3, 1], 0);
    let y = parts[0].sum((), false) * 2.0 + &parts[1].square().sum((), false);
    y.backward(); // the last piece is not used
    assert_eq!(grad(&x), [2.0, 4.0, 6.0, 8.0, 0.0]);
}

#[test]
fn gradients_do_not_depend_on_other_threads() {
    let run = || {
        let w = Var::parameter(normal(3, &[8, 8]));
        let x = Var::constant(normal(4, &[7, 8]));
        block(&w, &block(&w, &block(&w, &x))).sum((), false).backward();
        grad(&w)
    };
    let alone = run();
    std::thread::scope(|s| {
        let others: Vec<_> = (0..4).map(|_| s.spawn(run)).collect();
        others.into_iter().for_each(|t| assert_eq!(t.join().unwrap(), alone));
    });
}

#[test]
fn threads_may_add_to_one_parameter() {
    // So large that an addition lasts as long as the rest of the pass: the threads meet in it.
    let ones = Tensor::ones([1 << 18], DType::F32, &Device::cpu());
    let w = Var::parameter(ones.clone());
    std::thread::scope(|s| {
        for _ in 0..8 {
            s.spawn(|| (0..20).for_each(|_| w.backward_with(&ones)));
        }
    });
    assert_eq!(w.grad().unwrap().to_bytes(), ones.full_like(160.0).to_bytes());
}

fn f64s(values: &[f64]) -> Tensor {
    Tensor::from_slice(values, values.len(), &Device::cpu())
}

#[test]
fn gradcheck_finds_a_planted_error() {
    let x = f64s(&[0.3, -1.2, 2.0]);
    let check = Gradcheck::default();
    // A slope wrong by a hundred thousandth.
    let planted = |slope: f64| {
        move |v: &[Var]| {
            let x = v[0].value();
            Var::op("planted", x.sin(), [&v[0]], move |g, _| [Some(g.mul(&x.cos()).mul(slope))])
        }
    };
    assert_eq!(gradcheck(planted(1.0), std::slice::from_ref(&x), &check), Ok(()));
    let error = gradcheck(planted(1.0 + 1e-6), std::slice::from_ref(&x), &check).unwrap_err();
    assert!(matches!(error, GradcheckError::Mismatch { input: 0, index: 0, .. }), "{error}");
    // One element of many.
    let one = |v: &[Var]| {
        let x = v[0].value();
        Var::op("planted", x.square(), [&v[0]], move |g, _| [Some(g.mul(&x).mul(&f64s(&[2.0, 2.0, 2.001])))])
    };
    let error = gradcheck(one, std::slice::from_ref(&x), &check).unwrap_err();
    assert!(matches!(error, GradcheckError::Mismatch { input: 0, index: 2, .. }), "{error}");
    // NaN is not a gradient.
    let nan = |v: &[Var]| Var::op("planted", v[0].value(), [&v[0]], |g, _| [Some(g.full_like(f64::NAN))]);
    assert!(matches!(gradcheck(nan, std::slice::from_ref(&x), &check), Err(GradcheckError::Mismatch { .. })));
    // A cut in the graph.
    let cut = |v: &[Var]| &v[0] + &v[1].detach();
    assert!(matches!(gradcheck(cut, &[x.clone(), x.clone()], &check), Err(GradcheckError::Missing { input: 1, .. })));
    assert_eq!(gradcheck(|v| v[0].detach(), std::slice::from_ref(&x), &check), Err(GradcheckError::Untracked));
    assert!(matches!(gradcheck(|v| v[0].clone(), &[x.to_dtype(DType::F32)], &check), Err(GradcheckError::NotF64 { .. })));
}
