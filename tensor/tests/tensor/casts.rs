//! Conversions between dtypes, and values that are not finite.

use tensor::{DType, Device, F8E4M3, Gelu, Generator, Tensor, bf16, f16};

fn t(values: &[f64]) -> Tensor {
    Tensor::from_slice(values, values.len(), &Device::cpu())
}

#[test]
fn floats_round_to_nearest_even() {
    let tie = 1.0 + 2f64.powi(-8); // halfway between two bf16
    let x = t(&[tie, tie + 1e-9, 1.0 + 3.0 * 2f64.powi(-8), -tie, 1e39, 3.4e38]).to_dtype(DType::BF16).to_vec::<bf16>();
    let want = [1.0, 1.0 + 2f64.powi(-7), 1.0 + 2f64.powi(-6), -1.0, f64::INFINITY, f64::INFINITY];
    assert!(x.iter().zip(want).all(|(x, w)| x.to_f64() == w), "{x:?}");
    let x = t(&[65519.9, 65520.0, 2f64.powi(-25), 2f64.powi(-25) * 1.01]).to_dtype(DType::F16).to_vec::<f16>();
    assert!(x.iter().zip([65504.0, f64::INFINITY, 0.0, 2f64.powi(-24)]).all(|(x, w)| x.to_f64() == w), "{x:?}");
    // A double rounding through f32 would give another bf16.
    let near = 1.0 + 2f64.powi(-8) + 2f64.powi(-40);
    assert_eq!(t(&[near]).to_dtype(DType::BF16).item::<bf16>().to_f64(), 1.0 + 2f64.powi(-7));
}

#[test]
fn f8_holds_what_the_format_says() {
    let x = t(&[448.0, 449.0, -464.0, 464.1, -1e9, f64::NAN, 0.0019, 2f64.powi(-10), 1.0625, 1.1875]).to_dtype(DType::F8E4M3);
    assert_eq!((x.dtype(), x.to_vec::<F8E4M3>().len()), (DType::F8E4M3, 10));
    let back = x.to_f64_vec();
    // 464 is halfway to 480, which does not exist, and 448 is even.
    let want = [448.0, 448.0, -448.0, f64::NAN, f64::NAN, f64::NAN, 2f64.powi(-9), 0.0, 1.0, 1.25];
    assert!(back.iter().zip(want).all(|(x, w)| *x == w || (x.is_nan() && w.is_nan())), "{back:?}");
    // Rounded once, not first to f32, where both would be ties.
    let near = t(&[1.0625 + 2f64.powi(-40), 464.0 + 2f64.powi(-40)]).to_dtype(DType::F8E4M3).to_f64_vec();
    assert!(near[0] == 1.125 && near[1].is_nan(), "{near:?}");
    // It can be moved about like anything else.
    let moved = x.reshape(&[2, 5]).t().index_select(0, &Tensor::from_slice(&[1i64], 1, &Device::cpu()));
    assert!(moved.to_f64_vec()[0] == 448.0 && moved.to_f64_vec()[1] == 2f64.powi(-9));
}

#[test]
fn integers_and_bool() {
    let x = t(&[-2.9, 2.9, f64::NAN, 300.0, 0.3]);
    assert_eq!(x.to_dtype(DType::I64).to_vec::<i64>(), [-2, 2, 0, 300, 0]);
    assert_eq!(x.to_dtype(DType::U8).to_vec::<u8>(), [254, 2, 0, 44, 0]);
    assert_eq!(x.to_dtype(DType::Bool).to_vec::<bool>(), [true, true, true, true, true]);
    assert_eq!(t(&[0.0, -0.0]).to_dtype(DType::Bool).to_vec::<bool>(), [false, false]);
    let big = Tensor::from_slice(&[i64::MAX, (1 << 53) + 1], 2, &Device::cpu());
    assert_eq!(big.to_dtype(DType::I64).to_vec::<i64>(), [i64::MAX, (1 << 53) + 1]);
    // An i64 is rounded to f32 once: f64 would make the first a tie.
    let near = Tensor::from_slice(&[(1i64 << 54) + (1 << 30) + 1, (1 << 54) + (1 << 30), i64::MIN], 3, &Device::cpu());
    let want = [2f32.powi(54) + 2f32.powi(31), 2f32.powi(54), -(2f32.powi(63))];
    assert_eq!(near.to_dtype(DType::F32).to_vec::<f32>(), want);
    assert_eq!(Tensor::scalar((1i64 << 54) + (1 << 30) + 1, DType::F32, &Device::cpu()).item::<f32>(), want[0]);
    assert_eq!(big.sum((), false).item::<i64>(), i64::MIN + (1 << 53), "integer sums wrap");
}

/// NaN and infinities, in vectors longer than any register so that every lane and the tail see them.
#[test]
fn special_values_go_where_they_should() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    let x = [inf, -inf, nan, 0.0, -0.0, 100.0, -100.0];
    let wide: Vec<f64> = x.iter().cycle().take(7 * 11).copied().collect();
    type Unary = (&'static str, fn(&Tensor) -> Tensor, [f64; 7]);
    let table: [Unary; 14] = [
        ("exp", Tensor::exp, [inf, 0.0, nan, 1.0, 1.0, 100f64.exp(), (-100f64).exp()]),
        ("log", Tensor::log, [inf, nan, nan, -inf, -inf, 100f64.ln(), nan]),
        ("sqrt", Tensor::sqrt, [inf, nan, nan, 0.0, -0.0, 10.0, nan]),
        ("rsqrt", Tensor::rsqrt, [0.0, nan, nan, inf, -inf, 0.1, nan]),
        ("tanh", Tensor::tanh, [1.0, -1.0, nan, 0.0, -0.0, 1.0, -1.0]),
        ("sigmoid", Tensor::sigmoid, [1.0, 0.0, nan, 0.5, 0.5, 1.0, (-100f64).exp()]),
        ("relu", Tensor::relu, [inf, 0.0, nan, 0.0, 0.0, 100.0, 0.0]),
        ("reciprocal", Tensor::reciprocal, [0.0, -0.0, nan, inf, -inf, 0.01, -0.01]),
        ("abs", Tensor::abs, [inf, inf, nan, 0.0, 0.0, 100.0, 100.0]),
        ("sign", Tensor::sign, [1.0, -1.0, nan, 0.0, 0.0, 1.0, -1.0]),
        ("sin", Tensor::sin, [nan, nan, nan, 0.0, -0.0, 100f64.sin(), -100f64.sin()]),
        ("erf", Tensor::erf, [1.0, -1.0, nan, 0.0, -0.0, 1.0, -1.0]),
        ("gelu", |x| x.gelu(Gelu::None), [inf, nan, nan, 0.0, 0.0, 100.0, 0.0]),
        ("square", Tensor::square, [inf, inf, nan, 0.0, 0.0, 10000.0, 10000.0]),
    ];
    for dtype in [DType::F32, DType::F64] {
        for (name, f, want) in &table {
            let got = f(&t(&wide).to_dtype(dtype)).to_f64_vec();
            for (i, g) in got.iter().enumerate() {
                let w = want[i % 7];
                // -inf · Φ(-inf) is 0 in the limit and NaN as a product; both are seen in the field.
                let either = *name == "gelu" && x[i % 7] == -inf && *g == 0.0;
                let tiny = f32::MIN_POSITIVE as f64;
                let near = (g - w).abs() <= 1e-6 * w.abs() + tiny || *g == w || (g.is_nan() && w.is_nan());
                let overflowed = dtype == DType::F32 && w > f32::MAX as f64 && g.is_infinite();
                assert!(near || either || overflowed, "{name}({}) in {dtype} is {g}, expected {w}", x[i % 7]);
            }
        }
    }
}

#[test]
fn reductions_and_orders_with_special_values() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    let rows = Tensor::from_slice(&[1.0, nan, 3.0, -inf, inf, 2.0, -inf, -inf, -inf], [3, 3], &Device::cpu());
    for x in [rows.clone(), rows.to_dtype(DType::F32), rows.to_dtype(DType::BF16)] {
        let same = |got: Tensor, want: &[f64]| {
            let got = got.to_f64_vec();
            assert!(got.iter().zip(want).all(|(g, w)| g == w || (g.is_nan() && w.is_nan())), "{got:?}, expected {want:?}");
        };
        same(x.amax(1, false), &[nan, inf, -inf]);
        same(x.amin(1, false), &[nan, -inf, -inf]);
        assert_eq!(x.argmax(Some(1), false).to_vec::<i64>(), [1, 1, 0]);
        assert_eq!(x.argmin(Some(1), false).to_vec::<i64>(), [1, 0, 0]);
        same(x.sum(1, false), &[nan, nan, -inf]);
        same(x.logsumexp(1, false), &[nan, inf, -inf]);
        same(x.softmax(1).select(0, 2), &[nan, nan, nan]);
        same(x.sort(1, false).0, &[1.0, 3.0, nan, -inf, 2.0, inf, -inf, -inf, -inf]);
        same(x.sort(1, true).0, &[nan, 3.0, 1.0, inf, 2.0, -inf, -inf, -inf, -inf]);
        same(x.maximum(2.0), &[2.0, nan, 3.0, 2.0, inf, 2.0, 2.0, 2.0, 2.0]);
        same(x.minimum(&Tensor::full_like(&x, nan)), &[nan; 9]);
        same(x.clamp(0.0, 2.0), &[1.0, nan, 2.0, 0.0, 2.0, 2.0, 0.0, 0.0, 0.0]);
    }
    let empty = Tensor::zeros([0, 3], DType::F32, &Device::cpu());
    assert_eq!(empty.sum(0, false).to_vec::<f32>(), [0.0; 3]);
    assert!(empty.mean((), false).item::<f32>().is_nan());
    assert_eq!(empty.logsumexp(0, false).to_vec::<f32>(), [f32::NEG_INFINITY; 3]);
    assert_eq!(empty.t().matmul(&empty).to_vec::<f32>(), [0.0; 9], "a sum of nothing");
}

#[test]
fn a_row_that_sees_no_key_gives_zero() {
    let cpu = Device::cpu();
    let x = Tensor::ones([1, 2, 4], DType::F32, &cpu);
    let mask = Tensor::from_slice(&[true, true, false, false], [2, 2], &cpu);
    let options = tensor::Attention { mask: Some(&mask), ..Default::default() };
    let y = Tensor::scaled_dot_product_attention(&x, &x, &x, &options);
    assert_eq!(y.to_vec::<f32>(), [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
}

#[test]
fn uniform_draws_stay_below_their_bound() {
    let cpu = Device::cpu();
    for (dtype, n) in [(DType::F8E4M3, 1000), (DType::BF16, 20_000), (DType::F16, 20_000), (DType::F32, 1000), (DType::F64, 1000)]
    {
        for (lo, hi) in [(0.0, 1.0), (-2.0, -1.0), (-1.0, 0.0), (0.0, 0.1), (3.0, 3.0)] {
            let x = Generator::new(5).uniform(n, lo, hi, dtype, &cpu).to_f64_vec();
            let largest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            assert!(largest < hi || lo == hi && largest == lo, "{largest} of {lo}..{hi} in {dtype}");
        }
    }
    // Many draws round to 1 in bf16: they are there, as the last number before it.
    let x = Generator::new(5).uniform(20_000, 0.0, 1.0, DType::BF16, &cpu).to_f64_vec();
    assert!(x.contains(&(1.0 - 2f64.powi(-8))));
}
