//! What the specifications do not draw: conventions at ties and kinks, gradients of optional operands, mixed dtypes.

use crate::panic_of;
use autograd::{Attention, Gradcheck, Var, VarOperand, gradcheck, sum_to};
use tensor::{CrossEntropy, DType, Device, Gelu, Generator, Reduction, Tensor};

const INF: f64 = f64::INFINITY;

fn cpu() -> Device {
    Device::cpu()
}

fn vector(values: &[f64]) -> Tensor {
    Tensor::from_slice(values, values.len(), &cpu())
}

fn ints(values: &[i64], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape, &cpu())
}

fn uniform(seed: u64, shape: &[usize]) -> Tensor {
    Generator::new(seed).uniform(shape, -2.0, 2.0, DType::F64, &cpu())
}

fn param(values: &[f64]) -> Var {
    Var::parameter(vector(values))
}

fn grad(v: &Var) -> Vec<f64> {
    v.grad().expect("a gradient").to_f64_vec()
}

/// The gradients of the sum of `f`.
fn grads<const N: usize>(f: impl Fn([&Var; N]) -> Var, inputs: [&[f64]; N]) -> [Vec<f64>; N] {
    let params = inputs.map(param);
    f(params.each_ref()).sum((), false).backward();
    params.each_ref().map(grad)
}

#[track_caller]
fn check(f: impl Fn(&[Var]) -> Var, inputs: &[Tensor]) {
    if let Err(e) = gradcheck(f, inputs, &Gradcheck::default()) {
        panic!("{e}");
    }
}

#[test]
fn kinks_have_the_slopes_of_pytorch() {
    assert_eq!(grads(|[x]| x.abs(), [&[-2.0, 0.0, 3.0]]), [[-1.0, 0.0, 1.0]]);
    assert_eq!(grads(|[x]| x.relu(), [&[-2.0, 0.0, 3.0]]), [[0.0, 0.0, 1.0]]);
    assert_eq!(grads(|[x]| x.sign(), [&[-2.0, 0.0, 3.0]]), [[0.0; 3]]);
    assert_eq!(grads(|[x]| x.floor(), [&[-2.0, 0.5]]), [[0.0; 2]]);
    // A clipped element takes no gradient, not even an infinite one.
    assert_eq!(grads(|[x]| x.relu().mul(&vector(&[INF, 1.0])), [&[-1.0, 1.0]]), [[0.0, 1.0]]);
}

#[test]
fn ties_are_shared() {
    let (a, b): (&[f64], &[f64]) = (&[1.0, 2.0, 3.0], &[2.0, 2.0, 2.0]);
    assert_eq!(grads(|[a, b]| a.maximum(b), [a, b]), [[0.0, 0.5, 1.0], [1.0, 0.5, 0.0]]);
    assert_eq!(grads(|[a, b]| a.minimum(b), [a, b]), [[1.0, 0.5, 0.0], [0.0, 0.5, 1.0]]);
    assert_eq!(grads(|[a]| a.maximum(2.0), [a]), [[0.0, 0.5, 1.0]]);
    assert_eq!(grads(|[x]| x.amax((), false), [&[3.0, 1.0, 3.0, 3.0]]), [[1.0 / 3.0, 0.0, 1.0 / 3.0, 1.0 / 3.0]]);
    assert_eq!(grads(|[x]| x.amin(0, true), [&[3.0, 1.0, 1.0]]), [[0.0, 0.5, 0.5]]);
}

#[test]
fn clamp_passes_the_gradient_at_its_bounds() {
    let x: &[f64] = &[0.0, 1.0, 2.0, 3.0, 4.0];
    assert_eq!(grads(|[x]| x.clamp(1.0, 3.0), [x]), [[0.0, 1.0, 1.0, 1.0, 0.0]]);
    assert_eq!(grads(|[x]| x.clamp_min(1.0), [x]), [[0.0, 1.0, 1.0, 1.0, 1.0]]);
    assert_eq!(grads(|[x]| x.clamp_max(3.0), [x]), [[1.0, 1.0, 1.0, 1.0, 0.0]]);
    let [x, lo, hi] = grads(|[x, lo, hi]| x.clamp(lo, hi), [x, &[1.0; 5], &[3.0; 5]]);
    assert_eq!((x, lo, hi), (vec![0.0, 1.0, 1.0, 1.0, 0.0], vec![1.0, 0.0, 0.0, 0.0, 0.0], vec![0.0, 0.0, 0.0, 0.0, 1.0]));
    // Bounds in the wrong order: the upper one is the result, and has the gradient.
    let [x, lo, hi] = grads(|[x, lo, hi]| x.clamp(lo, hi), [&[2.0], &[3.0], &[1.0]]);
    assert_eq!([x, lo, hi], [[0.0], [0.0], [1.0]]);
}

/// The conditions of PyTorch's `clamp_backward_min_max`.
#[test]
fn bounds_that_meet_or_cross_have_the_gradients_of_pytorch() {
    let x: &[f64] = &[0.0, 2.0, 5.0];
    let clamp = |[x, lo, hi]: [&Var; 3]| x.clamp(lo, hi);
    assert_eq!(grads(clamp, [x, &[2.0; 3], &[2.0; 3]]), [[0.0, 1.0, 0.0], [0.0; 3], [0.0, 0.0, 1.0]]);
    assert_eq!(grads(clamp, [x, &[3.0; 3], &[1.0; 3]]), [[0.0; 3], [0.0; 3], [1.0; 3]]);
    // One of them a number, or broadcast.
    assert_eq!(grads(|[x, lo]| x.clamp(lo, 2.0), [x, &[2.0; 3]]), [[0.0, 1.0, 0.0], [0.0; 3]]);
    let [dx, hi] = grads(|[x, hi]| x.clamp(2.0, hi), [x, &[1.0]]);
    assert_eq!((dx, hi), (vec![0.0; 3], vec![3.0]));
}

/// A NaN that wins has a gradient: a loss of NaN must not step with nothing.
#[test]
fn a_nan_that_wins_has_the_gradient() {
    const NAN: f64 = f64::NAN;
    let x: &[f64] = &[2.0, NAN, 9.0];
    for largest in [true, false] {
        let reduce = |x: &Var, dims: &[isize]| if largest { x.amax(dims, false) } else { x.amin(dims, false) };
        assert_eq!(grads(|[x]| reduce(x, &[0]), [x]), [[0.0, 1.0, 0.0]]);
        assert_eq!(grads(|[x]| reduce(x, &[]), [&[NAN, 1.0, NAN]]), [[0.5, 0.0, 0.5]]);
        assert_eq!(grads(|[x]| reduce(&x.reshape(&[3, 1]), &[1]), [x]), [[1.0; 3]]);
        // As in PyTorch both have it.
        let extreme = |[a, b]: [&Var; 2]| if largest { a.maximum(b) } else { a.minimum(b) };
        assert_eq!(grads(extreme, [x, &[NAN, 1.0, NAN]]), [[1.0; 3], [1.0, 1.0, 1.0]].map(|g| g.to_vec()));
        assert_eq!(grads(|[a]| if largest { a.maximum(NAN) } else { a.minimum(NAN) }, [x]), [[1.0; 3]]);
        // NaN counts as the largest.
        assert_eq!(grads(|[x]| x.topk(1, 0, true, true).0, [x]), [[0.0, 1.0, 0.0]]);
        assert_eq!(grads(|[x]| x.sort(0, largest).0.narrow(0, if largest { 0 } else { 2 }, 1), [x]), [[0.0, 1.0, 0.0]]);
    }
    assert_eq!(grads(|[x]| x.clamp(0.0, 3.0), [x]), [[1.0, 1.0, 0.0]]);
    let [_, lo] = grads(|[x, lo]| x.clamp_min(lo), [&[1.0], &[NAN]]);
    let [_, hi] = grads(|[x, hi]| x.clamp_max(hi), [&[1.0], &[NAN]]);
    let [_, both_lo, both_hi] = grads(|[x, lo, hi]| x.clamp(lo, hi), [&[1.0], &[NAN], &[NAN]]);
    assert_eq!([lo, hi, both_lo, both_hi], [[1.0]; 4]);
    assert_eq!(grads(|[x]| x.relu(), [x]), [[1.0; 3]]);
}

#[test]
fn powers_of_and_to_zero() {
    let [base, exponent] = grads(|[a, b]| a.pow(b), [&[0.0, 0.0, 3.0, 2.0], &[0.0, 2.0, 0.0, 3.0]]);
    assert_eq!(base, [0.0, 0.0, 0.0, 12.0]);
    assert_eq!(exponent[..2], [0.0, 0.0]);
    assert!((exponent[2] - 3f64.ln()).abs() < 1e-15 && (exponent[3] - 8.0 * 2f64.ln()).abs() < 1e-14);
    assert_eq!(grads(|[a]| a.pow(0.0), [&[0.0, 5.0]]), [[0.0, 0.0]]);
    assert_eq!(grads(|[a]| a.pow(1), [&[0.0, 5.0]]), [[1.0, 1.0]]);
    assert_eq!(grads(|[a]| a.pow(3), [&[0.0, -2.0]]), [[0.0, 12.0]]);
}

#[test]
fn a_row_of_minus_infinity_has_no_gradient() {
    let x = Var::parameter(Tensor::from_slice(&[-INF, -INF, 0.0, -INF], [2, 2], &cpu()));
    x.logsumexp(1, false).sum((), false).backward();
    assert_eq!(grad(&x), [0.0, 0.0, 1.0, 0.0]);

    // A query that sees no key.
    let q = Var::parameter(uniform(1, &[2, 3]));
    let mask = Tensor::from_slice(&[false, false, true, true], [2, 2], &cpu());
    let kv = Var::parameter(uniform(2, &[2, 3]));
    let options = Attention { mask: Some((&mask).into()), ..Default::default() };
    Var::scaled_dot_product_attention(&q, &kv, &kv, &options).sum((), false).backward();
    assert_eq!(grad(&q)[..3], [0.0; 3]);
    assert!(grad(&q).iter().chain(&grad(&kv)).all(|g| g.is_finite()));
}

/// Neither a hidden key's values nor a blind row's gradient reach what the mask keeps apart.
#[test]
fn hidden_keys_have_no_gradient() {
    let nan = f64::NAN;
    let of = |x: &[f64]| Var::parameter(Tensor::from_slice(x, [2, 2], &cpu()));
    let (q, k, v) = (of(&[1.0, 2.0, nan, 1.0]), of(&[0.5, 1.0, nan, INF]), of(&[1.0, 3.0, nan, nan]));
    // The first row sees the first key, the second none.
    let bools = Tensor::from_slice(&[true, false, false, false], [2, 2], &cpu());
    let floats = Tensor::where_(&bools, &Tensor::zeros([2, 2], DType::F64, &cpu()), -INF);
    for mask in [&bools, &floats] {
        [&q, &k, &v].into_iter().for_each(Var::zero_grad);
        let options = Attention { mask: Some(mask.into()), ..Default::default() };
        let y = Var::scaled_dot_product_attention(&q, &k, &v, &options);
        y.backward_with(&Tensor::from_slice(&[1.0, 2.0, nan, nan], [2, 2], &cpu()));
        assert_eq!((grad(&q), grad(&k), grad(&v)), (vec![0.0; 4], vec![0.0; 4], vec![1.0, 2.0, 0.0, 0.0]));
    }
}

#[test]
fn a_variance_without_degrees_of_freedom() {
    let [g] = grads(|[x]| x.var((), 1.0, false), [&[5.0]]);
    assert!(g[0].is_nan());
    let [g] = grads(|[x]| x.var((), 2.0, false), [&[5.0, 7.0]]);
    assert_eq!(g, [INF, INF]);
}

#[test]
fn values_put_where_a_condition_holds_have_gradients() {
    let condition = Tensor::from_slice(&[true, false, true], 3, &cpu());
    let [a, b] = grads(|[a, b]| Var::where_(&condition, a, b), [&[1.0, 2.0, 3.0], &[4.0]]);
    assert_eq!((a, b), (vec![1.0, 0.0, 1.0], vec![1.0]));
    let fill = Var::parameter(Tensor::scalar(7.0, DType::F64, &cpu()));
    let x = param(&[1.0, 2.0, 3.0]);
    x.masked_fill(&condition, &fill).mul(&vector(&[1.0, 10.0, 100.0])).sum((), false).backward();
    assert_eq!((grad(&x), grad(&fill)), (vec![0.0, 10.0, 0.0], vec![101.0]));
    // A mask that is larger than the value it fills.
    let wide = Tensor::from_slice(&[true, false, false, false, false, true], [2, 3], &cpu());
    let x = param(&[1.0, 2.0, 3.0]);
    x.masked_fill(&wide, 0.0).sum((), false).backward();
    assert_eq!(grad(&x), [1.0, 2.0, 1.0]);
}

#[test]
fn where_positions_repeat_the_last_one_written_has_the_gradient() {
    let index = ints(&[1, 1, 0, 1], &[4]);
    let [x, src] = grads(|[x, src]| x.scatter(0, &index, src), [&[0.0, 0.0, 0.0], &[1.0, 2.0, 3.0, 4.0]]);
    assert_eq!((x, src), (vec![0.0, 0.0, 1.0], vec![0.0, 0.0, 1.0, 1.0]));
}

#[test]
fn an_additive_mask_has_a_gradient() {
    let (q, k, v) = (uniform(1, &[2, 3, 4]), uniform(2, &[2, 5, 4]), uniform(3, &[2, 5, 2]));
    for (seed, shape) in [(4, &[3, 5][..]), (5, &[2, 3, 5]), (6, &[5]), (7, &[3, 1])] {
        let attend = |x: &[Var]| {
            let options = Attention { mask: Some((&x[3]).into()), ..Default::default() };
            Var::scaled_dot_product_attention(&x[0], &x[1], &x[2], &options)
        };
        check(attend, &[q.clone(), k.clone(), v.clone(), uniform(seed, shape)]);
    }
    let message = panic_of(|| {
        let q = Var::constant(q.clone());
        let options = Attention { mask: Some(VarOperand::from(1.0)), ..Default::default() };
        Var::scaled_dot_product_attention(&q, &q, &q, &options)
    });
    assert!(message.contains("the mask is a number"), "{message}");
}

#[test]
fn heads_shared_by_a_group_and_keys_shared_by_a_batch() {
    let gqa = |x: &[Var]| {
        let options = Attention { enable_gqa: true, is_causal: true, scale: Some(0.3), ..Default::default() };
        Var::scaled_dot_product_attention(&x[0], &x[1], &x[2], &options)
    };
    check(gqa, &[uniform(1, &[2, 6, 3, 4]), uniform(2, &[2, 2, 3, 4]), uniform(3, &[2, 3, 3, 5])]);
    let plain = |x: &[Var]| Var::scaled_dot_product_attention(&x[0], &x[1], &x[2], &Attention::default());
    check(plain, &[uniform(1, &[3, 2, 4]), uniform(2, &[5, 4]), uniform(3, &[1, 5, 2])]);
}

#[test]
fn a_decoding_step_is_not_recorded() {
    let q = Var::parameter(uniform(1, &[1, 1, 1, 2]));
    let k = Var::constant(uniform(2, &[1, 1, 4, 2]));
    let message = panic_of(|| Var::attention_causal(&q, &k, &k, Some(&[2]), 1.0));
    assert!(message.contains("attention_causal: no gradient"), "{message}");
}

#[test]
fn target_probabilities_have_gradients() {
    let probabilities = uniform(2, &[3, 4, 2]).abs();
    let weight = vector(&[0.5, 1.0, 2.0, 0.25]);
    for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
        for (weight, label_smoothing) in [(None, 0.0), (Some(&weight), 0.1)] {
            let loss = |x: &[Var]| {
                let options = CrossEntropy { weight, label_smoothing, reduction, ..Default::default() };
                x[0].cross_entropy(&x[1], &options)
            };
            check(loss, &[uniform(1, &[3, 4, 2]), probabilities.clone()]);
        }
    }
    let one = |x: &[Var]| x[0].cross_entropy(&x[1], &CrossEntropy::default());
    check(one, &[uniform(1, &[4]), uniform(3, &[4]).abs()]);
    // A class of no probability and no share has no say, even at −∞.
    let logits = param(&[-INF, 0.0, 0.0]);
    logits.cross_entropy(&ints(&[1], &[]).reshape(&[]), &CrossEntropy::default()).backward();
    assert_eq!(grad(&logits), [0.0, -0.5, 0.5]);
}

/// The mean over nothing is NaN; of it nobody has a gradient.
#[test]
fn targets_that_are_all_ignored_give_no_gradient() {
    let (targets, weight) = (ints(&[-100, 7, -100], &[3]), vector(&[0.5, 1.0, 2.0, 0.25]));
    for dtype in [DType::F64, DType::F32, DType::BF16, DType::F16] {
        for (label_smoothing, weight) in [(0.0, None), (0.2, None), (0.2, Some(&weight))] {
            for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
                let x = Var::parameter(uniform(1, &[3, 4]).to_dtype(dtype));
                let options = CrossEntropy { label_smoothing, weight, reduction, ..Default::default() };
                let ignored = Tensor::where_(&targets.eq(7), -100, &targets);
                let loss = x.cross_entropy(&ignored, &options);
                assert!(reduction != Reduction::Mean || loss.value().to_f64_vec()[0].is_nan());
                // Not even of a gradient that is infinite.
                loss.backward_with(&loss.value().full_like(INF));
                assert_eq!(grad(&x), [0.0; 12], "{dtype} {label_smoothing} {reduction:?}");
            }
        }
    }
}

#[test]
fn pieces_are_joined() {
    let weight = uniform(9, &[3, 7]);
    let cut = |x: &[Var]| {
        let p = x[0].split_with_sizes(&[2, 0, 4, 1], -1);
        Var::cat(&[p[3].exp(), p[0].square(), p[2].sin(), &p[1] + 1.0], 1).mul(&weight)
    };
    check(cut, &[uniform(1, &[3, 7])]);
    let unused = |x: &[Var]| x[0].split(2, 0)[1].exp();
    check(unused, &[uniform(1, &[5, 2]).t().contiguous().t()]);
    assert!(panic_of(|| param(&[1.0, 2.0]).split_with_sizes(&[1, 2], 0)).contains("split_with_sizes"));
    // The same value joined with itself.
    let [g] = grads(|[x]| Var::cat(&[x.clone(), x * 2.0, x.clone()], 0), [&[1.0, 2.0]]);
    assert_eq!(g, [4.0, 4.0]);
    let [g] = grads(|[x]| Var::stack(&[x.clone(), x.clone()], -1), [&[1.0, 2.0]]);
    assert_eq!(g, [2.0, 2.0]);
    // Empty vectors are skipped and get their empty gradient.
    let (x, none) = (Var::parameter(uniform(1, &[2, 2])), Var::parameter(vector(&[])));
    Var::cat(&[none.clone(), x.clone()], 0).sum((), false).backward();
    assert_eq!((grad(&x), grad(&none)), (vec![1.0; 4], vec![]));
}

#[test]
fn products_with_vectors_and_a_weight_that_is_one() {
    check(|x| x[0].matmul(&x[1]), &[uniform(1, &[3]), uniform(2, &[3])]);
    check(|x| x[0].matmul(&x[1]), &[uniform(1, &[3]), uniform(2, &[2, 3, 4])]);
    check(|x| x[0].matmul(&x[1]), &[uniform(1, &[2, 4, 3]), uniform(2, &[3])]);
    check(|x| x[0].matmul(&x[1]), &[uniform(1, &[2, 1, 4, 3]), uniform(2, &[5, 3, 2])]);
    check(|x| x[0].matmul(&x[1]), &[uniform(1, &[4, 3]), uniform(2, &[5, 3, 2])]);
    check(|x| x[0].linear(&x[1], Some(&x[2])), &[uniform(1, &[2, 3]), uniform(2, &[3]), uniform(3, &[])]);
    check(|x| x[0].linear(&x[1], Some(&x[2])), &[uniform(1, &[3]), uniform(2, &[4, 3]), uniform(3, &[4])]);
}

#[test]
fn gradients_come_back_in_their_operands_dtypes() {
    let x = Var::parameter(vector(&[1.5, 2.0]).to_dtype(DType::BF16));
    let y = Var::parameter(vector(&[3.0, 0.5]).to_dtype(DType::F32));
    let s = Var::parameter(Tensor::scalar(2.0, DType::F64, &cpu())); // weak beside a vector
    let ops: [fn(&Var, &Var) -> Var; 4] = [|a, b| a.mul(b), |a, b| a.div(b), |a, b| a.pow(b), |a, b| a.maximum(b)];
    for f in ops {
        [&x, &y, &s].into_iter().for_each(Var::zero_grad);
        let z = f(&f(&x, &y), &s);
        assert_eq!(z.dtype(), DType::F32);
        z.sum((), false).backward();
        let dtypes = [&x, &y, &s].map(|v| v.grad().expect("a gradient").dtype());
        assert_eq!(dtypes, [DType::BF16, DType::F32, DType::F64]);
    }
    let h = Var::parameter(vector(&[1.0]).to_dtype(DType::F16));
    (h.to_dtype(DType::F32) * 3.0).backward();
    assert_eq!((grad(&h), h.grad().unwrap().dtype()), (vec![3.0], DType::F16));
    // Integers beside a parameter are constants.
    let p = param(&[1.0, 2.0]);
    p.mul(&ints(&[3, 4], &[2])).sum((), false).backward();
    assert_eq!(grad(&p), [3.0, 4.0]);
}

#[test]
fn half_gradients_are_rounded_once() {
    // Against the f64 rule at the same bf16 points: within half a unit in the last place, and f32's error.
    let x = uniform(1, &[64]).to_dtype(DType::BF16);
    let slope = |x: &Tensor, f: fn(&Var) -> Var| {
        let p = Var::parameter(x.clone());
        let y = f(&p);
        y.backward_with(&y.value().ones_like());
        grad(&p)
    };
    type Unary = (&'static str, fn(&Var) -> Var);
    let ops: [Unary; 4] =
        [("silu", |x| x.silu()), ("gelu", |x| x.gelu(Gelu::Tanh)), ("softplus", |x| x.softplus(1.0, 20.0)), ("cos", |x| x.cos())];
    for (name, f) in ops {
        let (half, exact) = (slope(&x, f), slope(&x.to_dtype(DType::F64), f));
        for (h, e) in half.iter().zip(&exact) {
            assert!((h - e).abs() <= e.abs() * 2f64.powi(-8) + 1e-6, "{name}: {h} for {e}");
        }
    }
}

/// What is summed back over broadcast dimensions, or added up from several uses, is not rounded before.
#[test]
fn half_gradients_are_summed_before_they_are_rounded() {
    // Of `a`, of which each is a linear function: its gradient depends on `b` alone.
    type Uses = (&'static str, fn(&Var, &Var) -> Var, &'static [usize], &'static [usize]);
    let uses: [Uses; 15] = [
        ("one left operand for a batch of products", |a, b| a.matmul(b), &[5, 10], &[16, 10, 5]),
        ("one right operand for a batch of products", |a, b| b.matmul(a), &[10, 5], &[16, 5, 10]),
        ("both operands broadcast", |a, b| a.matmul(b), &[2, 1, 3, 6], &[16, 6, 2]),
        ("a vector times a batch", |a, b| a.matmul(b), &[6], &[16, 6, 2]),
        ("heads of a group", |a, b| Var::scaled_dot_product_attention(b, b, a, &Attention::default()), &[3, 4], &[16, 2, 3, 4]),
        ("mul", |a, b| a.mul(b), &[6], &[40, 6]),
        ("div", |a, b| a.div(b), &[1, 6], &[40, 6]),
        ("sub_alpha", |a, b| b.sub_alpha(a, 0.3), &[], &[40, 6]),
        ("where_", |a, b| Var::where_(&b.value().gt(0.0), a, b), &[6], &[40, 6]),
        ("expand", |a, b| a.expand(&[40, 6]).mul(b), &[1, 6], &[40, 6]),
        ("repeat", |a, b| a.repeat(&[20, 1]).mul(b), &[2, 6], &[40, 6]),
        ("several uses", |a, b| b.split(1, 0).iter().map(|b| a.mul(b)).reduce(|x, y| x.add(&y)).unwrap(), &[1, 6], &[40, 6]),
        ("slices that overlap", |a, b| a.narrow(0, 0, 4).mul(b).add(&a.narrow(0, 1, 4).mul(b)), &[5], &[4]),
        ("a tied table", |a, b| b.linear(a, None).add(&Var::embedding(a, &ints(&[2; 40], &[40])).mul(b)), &[6, 6], &[40, 6]),
        ("a norm's weight", |a, b| b.rms_norm(&[6], Some(a), Some(1e-3)).add(&b.mul(a)), &[6], &[40, 6]),
    ];
    for dtype in [DType::BF16, DType::F16] {
        for (name, f, a, b) in &uses {
            let (a, b) = (uniform(1, a).to_dtype(dtype), uniform(2, b).to_dtype(dtype));
            let gradient = |dtype: DType| {
                let (a, b) = (Var::parameter(a.to_dtype(dtype)), Var::constant(b.to_dtype(dtype)));
                let y = f(&a, &b);
                // Values that every one of the dtypes holds.
                y.backward_with(&uniform(3, y.value().dims()).mul(16.0).floor().div(8.0).to_dtype(dtype));
                assert_eq!(a.grad().unwrap().dtype(), dtype);
                grad(&a)
            };
            let (half, exact) = (gradient(dtype), gradient(DType::F64));
            let size = exact.iter().fold(0.0f64, |m, e| m.max(e.abs()));
            for (h, e) in half.iter().zip(&exact) {
                let allowed = dtype.epsilon() / 2.0 * e.abs() + 1e-5 * size;
                assert!(
                    (h - e).abs() <= allowed,
                    "{name} {dtype}: {h} for {e}, {:.1} times the error allowed",
                    (h - e).abs() / allowed
                );
            }
        }
    }
}

/// Where it would show that terms are added one after the other.
#[test]
fn gradients_of_many_terms() {
    let n = 300_000usize;
    let tenths = Tensor::full([n], 0.1, DType::F32, &cpu());
    let first = |x: &Var| x.grad().expect("a gradient").flatten(0, -1).narrow(0, 0, 1).item::<f32>();
    let close = |got: f32| {
        let want = n as f64 * f64::from(0.1f32);
        // A tree of sums rounds every term of one sign alike, up to the leaves' 64 times a lane.
        assert!((f64::from(got) - want).abs() <= 16.0 * f64::from(f32::EPSILON) * want, "{got} for {want}");
    };
    let x = Var::parameter(tenths.clone());
    x.cumsum(0).backward_with(&tenths);
    close(first(&x));
    let (x, at) = (Var::parameter(Tensor::ones([1], DType::F32, &cpu())), Tensor::zeros([n], DType::I64, &cpu()));
    let reads: [fn(&Var, &Tensor) -> Var; 4] = [
        |x, at| x.index_select(0, at),
        |x, at| x.gather(0, at),
        |x, at| Var::embedding(&x.unsqueeze(0), at).flatten(0, -1),
        |x, at| x.expand(&[at.numel() as isize]),
    ];
    for read in reads {
        x.zero_grad();
        read(&x, &at).backward_with(&tenths);
        close(first(&x));
    }
}

/// Passes are added up in f32 as well.
#[test]
fn half_gradients_of_many_passes_are_rounded_when_they_are_read() {
    let x = Var::parameter(vector(&[1.0]).to_dtype(DType::BF16));
    for _ in 0..1000 {
        x.mul(0.1).backward();
    }
    assert_eq!(grad(&x), [100.0]);
}

/// A half type's largest number is 65,504; a count above it is none the less a number.
#[test]
fn half_gradients_of_many_elements_do_not_vanish() {
    let n = 70_000;
    let x = Var::parameter(Tensor::ones([n], DType::F16, &cpu()));
    let gradients = |y: Var| {
        x.zero_grad();
        y.backward();
        grad(&x)
    };
    let share = f64::from(tensor::f16::from_f64(1.0 / n as f64));
    assert!(share > 0.0);
    assert!(gradients(x.mean((), false)).iter().all(|&g| g == share));
    assert!(gradients(x.amax((), false)).iter().all(|&g| g == share), "all are the largest");
    assert!(gradients(x.div(n as f64).sum((), false)).iter().all(|&g| g == share));
}

#[test]
fn half_probabilities_have_the_gradients_of_f32s() {
    let (logits, target) = (uniform(1, &[5, 4]).to_dtype(DType::BF16), uniform(2, &[5, 4]).abs().to_dtype(DType::BF16));
    let weight = vector(&[0.3, 1.0, 1.7, 0.9]).to_dtype(DType::BF16);
    let options = CrossEntropy { weight: Some(&weight), label_smoothing: 0.1, reduction: Reduction::None, ..Default::default() };
    let both = |dtype: DType| {
        let [x, t] = [&logits, &target].map(|t| Var::parameter(t.to_dtype(dtype)));
        x.cross_entropy(&t, &options).sum((), false).backward();
        [x, t].map(|v| v.grad().expect("a gradient").to_dtype(DType::BF16).to_f64_vec())
    };
    assert_eq!(both(DType::BF16), both(DType::F32));
}

#[test]
fn operators_are_the_methods() {
    let [a, b] = grads(|[a, b]| (a + b) * a / 2.0 - b, [&[2.0, 3.0], &[5.0, 7.0]]);
    assert_eq!((a, b), (vec![4.5, 6.5], vec![0.0, 0.5]));
    let [a] = grads(|[a]| -(-a * 3.0) - 1.0, [&[2.0]]);
    assert_eq!(a, [3.0]);
}

#[test]
fn sum_to_undoes_broadcasting() {
    let g = Tensor::ones([2, 3, 4], DType::F64, &cpu());
    assert_eq!(sum_to(&g, &[3, 1].into()).to_f64_vec(), [8.0; 3]);
    assert_eq!(sum_to(&g, &().into()).to_f64_vec(), [24.0]);
    assert!(panic_of(|| sum_to(&g, &[2, 2].into())).contains("sum_to"));
}
