//! Every rung of the ladder: any shape and layout against f64 under every seed, counts equal to what the kernels' heads claim, and
//! mistakes planted in the PTX; and the choice of a kernel.

mod choice;
mod counts;
mod mutants;

use super::product::batches;
use super::{KERNELS, Kernel, Major, Product};
use crate::gpu::Cuda;
use crate::{Options, interpreted_with};
use proptest::prelude::*;
use tensor::{DType, Device, Generator, Tensor};

/// What a test multiplies: `m`, `n`, `k`, `batch`, how each operand lies, and whether it is one matrix for all.
#[derive(Clone, Copy, Debug)]
struct Case {
    sizes: [usize; 4],
    major: [Major; 2],
    shared: [bool; 2],
    dtype: DType,
}

/// `[batch, rows, cols]` with columns running fastest, each row on a multiple of 8 elements, so that any size suits TMA.
fn padded(rng: &mut Generator, [batch, rows, cols]: [usize; 3], dtype: DType, gpu: &Device) -> Tensor {
    rng.normal([batch, rows, cols.next_multiple_of(8)], 0.0, 1.0, dtype, gpu).narrow(2, 0, cols)
}

impl Case {
    /// Its operands `[batch, m, k]` and `[batch, k, n]`.
    fn operands(&self, gpu: &Device) -> [Tensor; 2] {
        let [m, n, k, batch] = self.sizes;
        let mut rng = Generator::new(1);
        let a_batch = if self.shared[0] { 1 } else { batch };
        let b_batch = if self.shared[1] { 1 } else { batch };
        let a = match self.major[0] {
            Major::K => padded(&mut rng, [a_batch, m, k], self.dtype, gpu),
            Major::Mn => padded(&mut rng, [a_batch, k, m], self.dtype, gpu).transpose(1, 2),
        };
        let b = match self.major[1] {
            Major::K => padded(&mut rng, [b_batch, n, k], self.dtype, gpu).transpose(1, 2),
            Major::Mn => padded(&mut rng, [b_batch, k, n], self.dtype, gpu),
        };
        [a, b].map(|t| t.expand(&[batch as isize, -1, -1]))
    }

    /// The product by a kernel, `None` if it does not accept it, or the fault that it ends in.
    fn run_on(&self, gpu: &Device, kernel: &Kernel) -> Result<Option<Tensor>, String> {
        let [a, b] = self.operands(gpu);
        let y = kernel.multiply(&a, &b);
        gpu.synchronize().map_err(|e| e.to_string())?;
        Ok(y.map(|y| y.to_device(&Device::cpu())))
    }

    /// The same on a GPU of a seed, with few multiprocessors, so that a CTA that stays computes several tiles.
    fn run(&self, kernel: &Kernel, multiprocessors: u32, seed: u64) -> Result<Option<Tensor>, String> {
        self.run_on(&interpreted_with(Options { multiprocessors, ..Options::pedantic(seed) }), kernel)
    }

    /// The largest error over its bound: k roundings of the sum of magnitudes in f32, and one of the result.
    fn error_over_bound(&self, y: &Tensor) -> f64 {
        let [m, n, k, _] = self.sizes;
        let gpu = interpreted_with(Options::default());
        let [a, b] = self.operands(&gpu).map(|t| t.to_f64_vec());
        let y = y.to_f64_vec();
        let rounding = match self.dtype {
            DType::BF16 => 2f64.powi(-8),
            DType::F16 => 2f64.powi(-11),
            _ => 0.0, // a sum in f32 is not rounded again
        };
        let mut worst = 0f64;
        for (i, y) in y.iter().enumerate() {
            let (batch, row, col) = (i / (m * n), i / n % m, i % n);
            let terms = (0..k).map(|j| a[(batch * m + row) * k + j] * b[(batch * k + j) * n + col]);
            let (sum, magnitude) = terms.fold((0.0, 0.0), |(s, t), x| (s + x, t + x.abs()));
            let bound = k as f64 * 2f64.powi(-23) * magnitude + rounding * f64::abs(sum) + 1e-30;
            worst = worst.max((y - sum).abs() / bound);
        }
        worst
    }
}

fn case() -> impl Strategy<Value = Case> {
    let major = || prop_oneof![Just(Major::K), Just(Major::Mn)];
    let sizes = (0..300usize, 0..400usize, 0..200usize, 0..3usize);
    let dtype = prop_oneof![3 => Just(DType::BF16), 1 => Just(DType::F16), 1 => Just(DType::F32)];
    (sizes, major(), major(), any::<[bool; 2]>(), dtype).prop_map(|((m, n, k, batch), a, b, shared, dtype)| Case {
        sizes: [m, n, k, batch],
        major: [a, b],
        shared,
        dtype,
    })
}

/// Cases of the property test; `SCRATCHWORK_CASES` asks for more.
fn cases(few: u32) -> ProptestConfig {
    let cases = std::env::var("SCRATCHWORK_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(few);
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

proptest! {
    #![proptest_config(cases(8))]

    #[test]
    fn every_rung_gives_the_product_and_the_same_bits(case in case(), seed in any::<u64>()) {
        let mut bits: Option<Vec<u8>> = None;
        for (i, kernel) in KERNELS.iter().enumerate() {
            let y = case.run(kernel, 2, seed.wrapping_add(i as u64)).unwrap_or_else(|e| panic!("{}: {e}", kernel.name()));
            let Some(y) = y else { continue };
            let error = case.error_over_bound(&y);
            prop_assert!(error <= 1.0, "{}: {error} bounds", kernel.name());
            if kernel.rung > 1 || case.dtype == DType::F32 {
                let bits = bits.get_or_insert_with(|| y.to_bytes());
                prop_assert!(*bits == y.to_bytes(), "{} gives other bits than the rungs before it", kernel.name());
            }
        }
        prop_assert!(bits.is_some());
    }
}

/// A batch that takes two strides, and operands with gaps, go to a kernel that takes them.
#[test]
fn no_layout_is_refused() {
    let gpu = interpreted_with(Options::pedantic(1));
    let mut rng = Generator::new(1);
    let mut x = |shape: [usize; 4]| rng.normal(shape, 0.0, 1.0, DType::BF16, &gpu);
    let (a, b) = (x([3, 2, 16, 24]), x([2, 3, 24, 8]).transpose(0, 1));
    let cuda = gpu.backend::<Cuda>().expect("an interpreted GPU");
    assert_eq!(batches(&a, &b).sizes.len(), 2);
    let gaps = [x([1, 1, 16, 48]).narrow(3, 1, 24), x([1, 1, 24, 7])];
    for [a, b] in [[a, b], gaps] {
        let chosen = super::choose(&Product::of(&cuda.context, &a, &b), &cuda.properties()).expect("a kernel");
        assert!(chosen.rung < 4, "{}", chosen.name());
        let copies = [&a, &b].map(|t| t.to_device(&Device::cpu()));
        let (y, plain) = (a.matmul(&b).to_f64_vec(), copies[0].matmul(&copies[1]).to_f64_vec());
        assert!(y.iter().zip(&plain).all(|(y, x)| (y - x).abs() <= 2f64.powi(-7) * x.abs() + 1e-5));
    }
}
