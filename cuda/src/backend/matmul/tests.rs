//! The Hopper's products: any shape and layout against f64, the same bits from every tile under every seed, mistakes planted in
//! the PTX, and the choice of a tile.

use super::hopper::{Major, Operand, Product, TILES, Tile, accepts, choose, start};
use crate::gpu::Cuda;
use crate::kernels::{Family, MATMUL_HOPPER};
use crate::{Options, interpreted_with};
use proptest::prelude::*;
use ptx::driver::Properties;
use tensor::layout::Loops;
use tensor::{DType, Device, Generator, Tensor};

const H100: Properties = Properties { capability: (9, 0), multiprocessors: 132, shared_per_block: 227 << 10 };

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

    /// The product by a tile of a family, or the fault that it ends in.
    fn run(&self, tile: &Tile, family: Family, seed: u64) -> Result<Tensor, String> {
        // Few multiprocessors, so that each computes several tiles.
        let gpu = interpreted_with(Options { multiprocessors: 2, ..Options::pedantic(seed) });
        let cuda = gpu.backend::<Cuda>().expect("an interpreted GPU");
        let operands = self.operands(&gpu);
        let [a, b] = &operands;
        let batch = Loops::over(&a.dims()[..1], [&a.strides()[..1], &b.strides()[..1]]);
        let product = Product::of(cuda, a, b, &batch).expect("one stride for the batch");
        assert!(accepts(&product, &cuda.context.properties), "{product:?}");
        let y = cuda.empty([self.sizes[3], self.sizes[0], self.sizes[1]], self.dtype);
        start(cuda, family, tile, &product, &y, a, b);
        gpu.synchronize().map_err(|e| e.to_string())?;
        Ok(y.to_device(&Device::cpu()))
    }

    /// The largest error over its bound: k roundings of the sum of magnitudes in f32, and one of the result.
    fn error_over_bound(&self, y: &Tensor) -> f64 {
        let [m, n, k, _] = self.sizes;
        let gpu = interpreted_with(Options::default());
        let [a, b] = self.operands(&gpu).map(|t| t.to_f64_vec());
        let y = y.to_f64_vec();
        let rounding = if self.dtype == DType::BF16 { 2f64.powi(-8) } else { 2f64.powi(-11) };
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
    let sizes = (1..300usize, 1..400usize, 1..200usize, 1..3usize);
    let dtype = prop_oneof![Just(DType::BF16), Just(DType::F16)];
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
    fn every_tile_gives_the_product_and_the_same_bits(case in case(), seeds in any::<[u64; 2]>()) {
        let tiles: Vec<Tensor> = TILES
            .iter()
            .zip(seeds)
            .map(|(tile, seed)| case.run(tile, MATMUL_HOPPER, seed).unwrap_or_else(|e| panic!("{tile:?}: {e}")))
            .collect();
        let error = case.error_over_bound(&tiles[0]);
        prop_assert!(error <= 1.0, "{error} bounds");
        prop_assert!(tiles.iter().all(|y| y.to_bytes() == tiles[0].to_bytes()));
    }
}

fn operand() -> impl Strategy<Value = Operand> {
    let stride = prop_oneof![Just(1usize), Just(0), 1..64usize, (1..64usize).prop_map(|s| 8 * s), Just(1 << 40)];
    let batch = prop_oneof![Just(0usize), 1..64usize, (1..999usize).prop_map(|s| 8 * s)];
    (stride.clone(), stride, batch, any::<bool>()).prop_map(|(stride, k_stride, batch_stride, aligned)| Operand {
        stride,
        k_stride,
        batch_stride,
        aligned,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    /// Whatever is chosen is legal by the copy engine's own rules, costs no more than another, and does not hang on m.
    #[test]
    fn the_choice_is_legal_cheapest_and_the_same_for_every_row(
        a in operand(),
        b in operand(),
        m in 0..10_000usize,
        n in 0..10_000usize,
        k in 0..10_000usize,
        batch in 0..9usize,
        dtype in prop_oneof![Just(DType::BF16), Just(DType::F16), Just(DType::F32)],
        major in 8..10u32,
    ) {
        let p = Product { dtype, m, n, k, batch, a, b };
        let card = Properties { capability: (major, 0), ..H100 };
        let legal = |o: &Operand| {
            let multiple = |s: usize| s > 0 && (2 * s).is_multiple_of(16) && 2 * s < 1 << 40;
            let rows = o.k_stride == 1 && multiple(o.stride) || o.stride == 1 && multiple(o.k_stride);
            rows && o.aligned && (o.batch_stride == 0 || multiple(o.batch_stride))
        };
        let half = dtype != DType::F32;
        let may = half && major == 9 && m * n * k * batch > 0 && legal(&a) && legal(&b);
        let chosen = choose(&p, &card);
        prop_assert_eq!(chosen.is_some(), may);
        if let Some(chosen) = chosen {
            prop_assert!(TILES.iter().all(|t| chosen.cycles(&p, &card) <= t.cycles(&p, &card)));
            prop_assert_eq!(choose(&p, &card), Some(chosen));
            let one_row = Product { m: 1, ..p };
            prop_assert!(choose(&one_row, &card).is_some());
        }
    }
}

/// A kernel with the `nth` line that contains `text` gone.
fn without(entry: &str, text: &str, nth: usize) -> Option<Family> {
    let ptx = MATMUL_HOPPER.ptx;
    let begin = ptx.find(&format!(".entry {entry}(")).expect("the kernel");
    let end = ptx[begin..].find(".visible .entry").map_or(ptx.len(), |i| begin + i);
    let at = begin + ptx[begin..end].match_indices(text).nth(nth)?.0;
    let line = ptx[..at].rfind('\n').map_or(0, |i| i + 1);
    let next = line + ptx[line..].find('\n').unwrap_or(0);
    Some(Family { ptx: [&ptx[..line], &ptx[next..]].concat().leak(), ..MATMUL_HOPPER })
}

/// Every barrier, wait, fence, commit and arrival of a kernel, each taken out by itself, is missed by somebody: a hazard, a
/// deadlock, or another result.
#[test]
fn every_synchronisation_is_needed() {
    // Several tiles and more steps than stages, so that all is used again.
    let case = Case { sizes: [130, 296, 200, 1], major: [Major::K, Major::Mn], shared: [false; 2], dtype: DType::BF16 };
    const TEXTS: [&str; 14] = [
        "mbarrier.init",
        "fence.mbarrier_init",
        "barrier.cluster.arrive",
        "barrier.cluster.wait",
        "mbarrier.try_wait",
        "mbarrier.arrive.expect_tx",
        "mbarrier.arrive.release",
        "wgmma.fence",
        "wgmma.commit_group",
        "wgmma.wait_group",
        "bar.sync",
        "fence.proxy.async",
        "cp.async.bulk.commit_group",
        "cp.async.bulk.wait_group",
    ];
    let mut missed = vec![];
    let mut planted = 0;
    for tile in &TILES {
        let entry = format!("hopper_{}_{}_kn_bf16", tile.columns, tile.cluster);
        let sound = case.run(tile, MATMUL_HOPPER, 1).expect("a sound kernel").to_bytes();
        for text in TEXTS {
            for nth in 0.. {
                let Some(mutant) = without(&entry, text, nth) else { break };
                planted += 1;
                let found = (0..3).any(|seed| case.run(tile, mutant, seed).map_or(true, |y| y.to_bytes() != sound));
                // That a CTA stays until its neighbour has arrived on its barriers for the last time is seen on a card alone.
                if !found && (text, nth) != ("barrier.cluster.wait", 1) {
                    missed.push(format!("{entry}: {text} {nth}"));
                }
            }
        }
    }
    assert!(planted > 40, "only {planted} mistakes were planted");
    assert!(missed.is_empty(), "{planted} planted, not missed by anybody:\n{}", missed.join("\n"));
}
