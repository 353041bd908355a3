//! f32 matrix products: this crate against `matrixmultiply` (its threads on), and against the machine's own ceiling, which is
//! measured first: fused multiply-adds in registers on every thread.
//!
//! `cargo bench --bench matmul`

use criterion::{BenchmarkId, Criterion, Throughput};
use scratchwork::tensor::{DType, Device, Generator};
use std::hint::black_box;
use std::time::Instant;

/// `(m, k, n)`: squares, then the flagship's training pass, its weight gradient and a decoding step.
const SHAPES: [(usize, usize, usize); 6] =
    [(512, 512, 512), (1024, 1024, 1024), (14_000, 128, 384), (384, 14_000, 128), (512, 128, 384), (16, 128, 384)];

/// GFLOP/s of independent chains of multiply-adds, all threads together.
fn ceiling() -> f64 {
    const CHAINS: usize = 192;
    // Tens of milliseconds: starting the threads must not count.
    const ROUNDS: usize = 20_000_000;
    #[inline(always)]
    fn body(x: &mut [f32; CHAINS]) {
        for _ in 0..ROUNDS {
            x.iter_mut().for_each(|x| *x = x.mul_add(0.999, 0.001));
        }
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f")]
    fn wide(x: &mut [f32; CHAINS]) {
        body(x);
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn narrow(x: &mut [f32; CHAINS]) {
        body(x);
    }
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let run = |_| {
        let mut x = black_box([1.0f32; CHAINS]);
        #[cfg(target_arch = "x86_64")]
        match () {
            // SAFETY: the processor was asked.
            _ if is_x86_feature_detected!("avx512f") => unsafe { wide(&mut x) },
            _ if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") => unsafe { narrow(&mut x) },
            _ => body(&mut x),
        }
        #[cfg(not(target_arch = "x86_64"))]
        body(&mut x);
        black_box(x);
    };
    let start = Instant::now();
    std::thread::scope(|s| (0..threads).for_each(|t| drop(s.spawn(move || run(t)))));
    (2 * CHAINS * ROUNDS * threads) as f64 / start.elapsed().as_secs_f64() / 1e9
}

fn matmul(c: &mut Criterion) {
    println!("ceiling of this machine: {:.0} GFLOP/s", (0..3).map(|_| ceiling()).fold(0.0, f64::max));
    let cpu = Device::cpu();
    for (m, k, n) in SHAPES {
        let mut group = c.benchmark_group(format!("matmul/{m}x{k}x{n}"));
        // An element is a floating-point operation, so that criterion prints FLOP/s.
        group.throughput(Throughput::Elements((2 * m * k * n) as u64));
        let mut rng = Generator::new(0);
        let mut draw = |rows: usize, cols: usize| rng.normal([rows, cols], 0.0, 1.0, DType::F32, &cpu);
        let (a, b) = (draw(m, k), draw(k, n));
        group.bench_function(BenchmarkId::from_parameter("scratchwork"), |bench| bench.iter(|| black_box(a.matmul(&b))));
        let (x, y, mut z) = (a.to_vec::<f32>(), b.to_vec::<f32>(), vec![0.0f32; m * n]);
        group.bench_function(BenchmarkId::from_parameter("matrixmultiply"), |bench| {
            bench.iter(|| {
                let (ka, kb) = (k as isize, n as isize);
                // SAFETY: the slices hold m×k, k×n and m×n values, row-major.
                unsafe { matrixmultiply::sgemm(m, k, n, 1.0, x.as_ptr(), ka, 1, y.as_ptr(), kb, 1, 0.0, z.as_mut_ptr(), kb, 1) };
                black_box(&mut z);
            });
        });
        group.finish();
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    matmul(&mut criterion);
    criterion.final_summary();
}
