//! The same bits whatever the number of threads and whatever else is in the batch.

use opspec::Source;
use proptest::prelude::*;
use tensor::{DType, Device, Generator, Tensor};

fn pools() -> Vec<rayon::ThreadPool> {
    [1, 2, 5].iter().map(|&n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap()).collect()
}

fn bits(tensors: &[Tensor]) -> Vec<Vec<u8>> {
    tensors.iter().map(Tensor::to_bytes).collect()
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let (cpu, pools) = (Device::cpu(), pools());
    for spec in opspec::all() {
        for dtype in [DType::F32, DType::BF16].into_iter().filter(|d| spec.dtypes.contains(d)) {
            for seed in 0..2 {
                let case = spec.large(dtype, seed);
                let x = case.tensors(&cpu);
                let first = pools[0].install(|| case.apply(&x));
                case.check(&first).unwrap_or_else(|e| panic!("{e}"));
                for pool in &pools[1..] {
                    let again = pool.install(|| case.apply(&x));
                    assert!(bits(&first) == bits(&again), "{} {dtype} seed {seed}: other bits on other threads", spec.name);
                }
            }
        }
    }
}

#[test]
fn a_long_sum_does_not_depend_on_threads_either() {
    let cpu = Device::cpu();
    let x = Generator::new(5).normal([300_001], 0.0, 1.0, DType::F32, &cpu);
    let sums = |x: &Tensor| [x.sum((), false), x.narrow(0, 0, 300_000).reshape(&[1000, 300]).sum(0, false), x.amax((), false)];
    let all: Vec<_> = pools().iter().map(|p| p.install(|| bits(&sums(&x)))).collect();
    assert!(all.windows(2).all(|w| w[0] == w[1]));
    // Pairwise: the error stays near that of a few hundred additions.
    let exact: f64 = x.to_f64_vec().iter().sum();
    let size: f64 = x.to_f64_vec().iter().map(|v| v.abs()).sum();
    let error = (x.sum((), false).item::<f32>() as f64 - exact).abs();
    assert!(error <= opspec::gamma(100, 2f64.powi(-24)) * size, "{error}");
}

/// Every length around the bounds of lanes, leaves and their halving; longer than what is cut for threads.
const LENGTHS: [usize; 12] = [1, 5, 16, 17, 255, 257, 1000, 1025, 2049, 5000, 65_537, (1 << 17) + 1];

#[test]
fn a_sum_depends_on_its_terms_alone() {
    let (cpu, pools) = (Device::cpu(), pools());
    for n in LENGTHS {
        let cols = if n > 10_000 { 3 } else { 300 }; // columns are worked on in strips
        let x = Generator::new(n as u64).normal([n, cols], 0.0, 1.0, DType::F32, &cpu);
        let t = x.t().contiguous();
        let exact: Vec<f64> = x.to_dtype(DType::F64).sum(0, false).to_vec();
        let size: Vec<f64> = x.abs().to_dtype(DType::F64).sum(0, false).to_vec();
        for pool in &pools {
            pool.install(|| {
                let all = x.sum(0, false);
                let same = |name: &str, y: Tensor| assert!(all.to_bytes() == y.to_bytes(), "{name} of {n} x {cols}");
                same("a transposed view", x.t().sum(1, false));
                same("rows", t.sum(1, false));
                same("a transposed view of rows", t.t().sum(0, false));
                same("two dimensions", x.unsqueeze(0).sum([0, 1], false));
                same("two dimensions of rows", t.unsqueeze(-1).sum([1, 2], false));
                same("a batch", Tensor::stack(&[x.neg(), x.clone()], 0).sum(1, false).select(0, 1));
                same(
                    "every other column",
                    Tensor::stack(&[x.clone(), x.neg()], -1).flatten(1, 2).slice(1, 0, isize::MAX, 2).sum(0, false),
                );
                for c in [0, cols / 2, cols - 1] {
                    let (column, one) = (x.narrow(1, c as isize, 1), all.narrow(0, c as isize, 1));
                    let same = |name: &str, y: Tensor| assert!(one.to_bytes() == y.to_bytes(), "{name} {c} of {n} x {cols}");
                    same("column", column.sum(0, false));
                    same("copied column", column.contiguous().sum(0, false));
                    same("column as a row", t.narrow(0, c as isize, 1).sum(1, false));
                    same("column as a vector", column.flatten(0, -1).sum((), true));
                    same("column, both dimensions,", column.sum([0, 1], false).unsqueeze(0));
                    same(
                        "column beside another",
                        x.narrow(1, c.saturating_sub(1) as isize, 2).sum(0, false).narrow(0, c.min(1) as isize, 1),
                    );
                }
                // Lanes of at most 64 terms, and a level for each halving.
                for ((y, exact), size) in all.to_vec::<f32>().into_iter().zip(&exact).zip(&size) {
                    let error = (y as f64 - exact).abs();
                    assert!(error <= opspec::gamma(64 + 4 + 8, 2f64.powi(-24)) * size, "{error} of {n} terms");
                }
            });
        }
    }
}

#[test]
fn all_of_a_matrix_is_summed_as_its_flat_terms_are() {
    let cpu = Device::cpu();
    for [n, m] in [[3, 5], [40, 50], [300, 257], [2, (1 << 16) + 1]] {
        let x = Generator::new(3).normal([n, m], 0.0, 1.0, DType::F32, &cpu);
        let flat = x.flatten(0, -1).sum((), false).to_bytes();
        let strided = x.t().contiguous().t();
        for y in
            [x.sum((), false), x.sum([0, 1], false), strided.sum([0, 1], false), x.reshape(&[-1, 1]).sum(0, false).squeeze(0)]
        {
            assert!(y.to_bytes() == flat, "[{n}, {m}]");
        }
        let batch = Tensor::stack(&[x.clone(), x.neg(), x.clone()], 0);
        for y in [batch.sum([1, 2], false), Tensor::stack(&[x.clone(), x.neg()], -1).sum([0, 1], false)] {
            assert!(y.select(0, 0).to_bytes() == flat, "[{n}, {m}] in a batch");
        }
    }
}

#[test]
fn random_numbers_depend_on_seed_and_position_alone() {
    let cpu = Device::cpu();
    let draw = || {
        let mut rng = Generator::new(11);
        [
            rng.normal([70_000], 1.0, 2.0, DType::F32, &cpu),
            rng.uniform([3, 7], -1.0, 1.0, DType::BF16, &cpu),
            rng.randint(-5, 9, [100], &cpu),
        ]
    };
    let all: Vec<_> = pools().iter().map(|p| p.install(|| bits(&draw()))).collect();
    assert!(all.windows(2).all(|w| w[0] == w[1]));
    // Two draws continue each other, also through a stored state.
    let whole = Generator::new(11).uniform([10], 0.0, 1.0, DType::F64, &cpu);
    let mut rng = Generator::new(11);
    let start = rng.uniform([4], 0.0, 1.0, DType::F64, &cpu);
    let rest = Generator::from_state(rng.state()).uniform([6], 0.0, 1.0, DType::F64, &cpu);
    assert_eq!(Tensor::cat(&[start, rest], 0).to_vec::<f64>(), whole.to_vec::<f64>());
    assert_ne!(Generator::new(12).uniform([10], 0.0, 1.0, DType::F64, &cpu).to_vec::<f64>(), whole.to_vec::<f64>());
}

/// A tensor of normal numbers in a drawn, possibly strided layout.
fn normal(rng: &mut Generator, shape: &[usize]) -> Tensor {
    let cpu = Device::cpu();
    let mut physical = shape.to_vec();
    physical[0] += 1;
    let rank = shape.len() as isize;
    let (seed, drawn) = rng.state();
    match tensor::random::philox(seed, drawn)[0] % 3 {
        0 => rng.normal(shape, 0.0, 1.0, DType::F32, &cpu),
        1 => rng.normal(physical, 0.0, 1.0, DType::F32, &cpu).narrow(0, 1, shape[0]),
        _ => {
            let swapped: Vec<usize> = (0..shape.len())
                .map(|d| {
                    shape[if d + 2 == shape.len() {
                        d + 1
                    } else if d + 1 == shape.len() {
                        d - 1
                    } else {
                        d
                    }]
                })
                .collect();
            rng.normal(swapped, 0.0, 1.0, DType::F32, &cpu).transpose(rank - 2, rank - 1)
        }
    }
}

#[test]
fn a_row_alone_equals_the_row_in_a_batch() {
    let strategy = (1usize..90, 1usize..600, 1usize..90, any::<u64>());
    opspec::holds(60, &strategy, |(rows, k, n, seed)| {
        let mut rng = Generator::new(seed);
        let (x, w) = (normal(&mut rng, &[rows, k]), normal(&mut rng, &[k, n]));
        let scale = normal(&mut rng, &[1, k]).flatten(0, -1);
        let row = |t: &Tensor| t.narrow(0, (rows / 2) as isize, 1);
        let same = |name: &str, f: &dyn Fn(&Tensor) -> Tensor| {
            prop_assert!(bits(&[row(&f(&x))]) == bits(&[f(&row(&x))]), "{name} of [{rows}, {k}] by {n}");
            Ok(())
        };
        same("matmul", &|x| x.matmul(&w))?;
        same("linear", &|x| x.linear(&w.t(), None))?;
        same("batched matmul", &|x| x.unsqueeze(0).matmul(&w.unsqueeze(0)).squeeze(0))?;
        same("softmax", &|x| x.softmax(-1))?;
        same("log_softmax", &|x| x.log_softmax(-1))?;
        same("logsumexp", &|x| x.logsumexp(-1, true))?;
        same("rms_norm", &|x| x.rms_norm(&[k], Some(&scale), None))?;
        same("sum", &|x| x.sum(-1, true))?;
        same("swiglu", &|x| x.swiglu(&x.neg()))
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn a_decoding_step_equals_the_full_pass() {
    let strategy = (1usize..3, 1usize..4, 1usize..70, 1usize..40, 1usize..40, any::<u64>());
    opspec::holds(60, &strategy, |(batch, heads, seq, dim, width, seed)| {
        let mut rng = Generator::new(seed);
        let (q, k, v) = (
            normal(&mut rng, &[batch, heads, seq, dim]),
            normal(&mut rng, &[batch, heads, seq, dim]),
            normal(&mut rng, &[batch, heads, seq, width]),
        );
        let (out, lse) = Tensor::attention_causal(&q, &k, &v, None, 0.3);
        let i = (seed % seq as u64) as isize;
        let (query, out, lse) = (q.narrow(2, i, 1), out.narrow(2, i, 1), lse.narrow(2, i, 1));
        // Against the keys so far.
        let n = i as usize + 1;
        let step = Tensor::attention_causal(&query, &k.narrow(2, 0, n), &v.narrow(2, 0, n), None, 0.3);
        prop_assert!(bits(&[step.0, step.1]) == bits(&[out.clone(), lse.clone()]), "row {i} of {seq}");
        // Against a cache with room behind them, each sequence by itself too.
        let cached = Tensor::attention_causal(&query, &k, &v, Some(&vec![n; batch]), 0.3);
        prop_assert!(bits(&[cached.0, cached.1]) == bits(&[out.clone(), lse.clone()]), "row {i} of {seq} in a cache");
        let one = |t: &Tensor| t.narrow(0, 0, 1);
        let alone = Tensor::attention_causal(&one(&query), &one(&k), &one(&v), Some(&[n]), 0.3);
        prop_assert!(bits(&[alone.0, alone.1]) == bits(&[one(&out), one(&lse)]), "row {i} of {seq} alone");
        Ok(())
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn layouts_do_not_change_the_bits() {
    let cpu = Device::cpu();
    for spec in opspec::all() {
        for seed in 0..4 {
            let case = spec.draw(&mut Source::seeded(seed, DType::F32, opspec::Draw::Large));
            let plain = case.contiguous();
            let outputs = [&case, &plain].map(|c| bits(&c.apply(&c.tensors(&cpu))));
            assert!(outputs[0] == outputs[1], "{} seed {seed}: other bits in another layout", spec.name);
        }
    }
}
