//! Every rung of the ladder of matrix products (`cuda/kernels/matmul/`) on one GPU: whether it is right, and how fast it is.
//!
//! ```console
//! $ cargo run --release --example hopper_bench -- --device interpreted --json rungs.json
//! $ cargo run --release --example hopper_bench -- --device cuda --json rungs.json
//! ```
//!
//! Each rung is checked first on small shapes, edges and single rows among them: against sums in f64, within the bound that k
//! roundings in f32 and one of the result give, and on the interpreter for hazards by the letter of the ISA. A card then times it on
//! large shapes, each launch by itself after the L2 cache was overwritten: the median of the wall clock from the launch to its end.
//!
//! The JSON has an object per kernel and shape (`[m, n, k]`): `kernel`, `shape`, `dtype`, `max_error_over_bound` (at most 1 where it
//! is right; null if it faulted), `hazards` (null on a card, which cannot see them), `foretold_tflops` (null: there is no model of time
//! here), `measured_tflops` (null on the interpreter) and `cublas_ratio` (null: cuBLAS is not called here).

use clap::Parser;
use cuda::Cuda;
use cuda::matmul::{KERNELS, Kernel};
use scratchwork::tensor::{DType, Device, Generator, Tensor};
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Times and checks the rungs of the ladder of matrix products.
#[derive(Parser)]
struct Args {
    /// `interpreted`, `interpreted:SEED` or `cuda[:N]`.
    #[arg(long, default_value = "interpreted")]
    device: String,
    /// Where to write what came of it.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Serialize)]
struct Row {
    kernel: String,
    shape: [usize; 3],
    dtype: String,
    max_error_over_bound: Option<f64>,
    hazards: Option<usize>,
    foretold_tflops: Option<f64>,
    measured_tflops: Option<f64>,
    cublas_ratio: Option<f64>,
}

/// Whole tiles, ragged edges, and a row.
const SMALL: [[usize; 3]; 3] = [[256, 512, 256], [130, 296, 200], [1, 264, 520]];

/// Squares, and products of models: Qwen2.5-7B's projections and MLP over a batch of tokens, DeepSeek-V3's latent projections.
const LARGE: [[usize; 3]; 8] = [
    [4096, 4096, 4096],
    [8192, 8192, 8192],
    [4000, 3584, 3584],
    [4000, 18944, 3584],
    [4000, 3584, 18944],
    [1000, 1536, 7168],
    [1000, 24576, 1536],
    [200, 7168, 16384],
];

/// Outputs that are held to the reference, at most.
const CHECKED: usize = 1 << 15;

/// `[m, k]` and `[k, n]`, as they lie.
fn operands([m, n, k]: [usize; 3], dtype: DType, gpu: &Device) -> [Tensor; 2] {
    let mut rng = Generator::new(1);
    [[m, k], [k, n]].map(|shape| rng.normal(shape, 0.0, 1.0, dtype, gpu))
}

/// The largest error of `y` over its bound, over outputs spread evenly.
fn error_over_bound(y: &Tensor, [a, b]: &[Tensor; 2], [m, n, k]: [usize; 3]) -> f64 {
    let (a, b, dtype) = (a.to_f64_vec(), b.to_f64_vec(), y.dtype());
    let y = y.to_f64_vec();
    let rounding = if dtype == DType::BF16 { 2f64.powi(-8) } else { 0.0 };
    let step = (m * n).div_ceil(CHECKED) | 1;
    let error = |i: usize| {
        let terms = (0..k).map(|j| a[i / n * k + j] * b[j * n + i % n]);
        let (sum, magnitude) = terms.fold((0.0, 0.0), |(sum, magnitude), x| (sum + x, magnitude + x.abs()));
        (y[i] - sum).abs() / (k as f64 * 2f64.powi(-23) * magnitude + rounding * f64::abs(sum) + f64::MIN_POSITIVE)
    };
    (0..m * n).step_by(step).map(error).fold(0.0, f64::max)
}

/// The median of single launches, each behind a write that is larger than the L2 cache.
fn seconds(kernel: &Kernel, [a, b]: &[Tensor; 2], gpu: &Device) -> Result<f64, String> {
    let mut times = vec![];
    for _ in 0..9 {
        drop(Tensor::zeros([64 << 20], DType::F32, gpu));
        gpu.synchronize().map_err(|e| e.to_string())?;
        let start = Instant::now();
        let y = kernel.multiply(a, b);
        gpu.synchronize().map_err(|e| e.to_string())?;
        times.push(start.elapsed().as_secs_f64());
        drop(y);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// What came of a kernel and a shape; `None` if it does not take it.
fn row(kernel: &Kernel, shape: [usize; 3], dtype: DType, gpu: &Device, time: bool) -> Option<Row> {
    let inputs = operands(shape, dtype, gpu);
    let y = kernel.multiply(&inputs[0], &inputs[1])?;
    let report = gpu.backend::<Cuda>().and_then(Cuda::report);
    let right = gpu.synchronize().map_err(|e| eprintln!("{} at {shape:?}: {e}", kernel.name())).is_ok();
    let time =
        if time && right { seconds(kernel, &inputs, gpu).map_err(|e| eprintln!("{}: {e}", kernel.name())).ok() } else { None };
    let flops = 2.0 * shape.iter().product::<usize>() as f64;
    Some(Row {
        kernel: kernel.name(),
        shape,
        dtype: dtype.to_string(),
        max_error_over_bound: right.then(|| error_over_bound(&y, &inputs, shape)),
        hazards: report.map(|report| report.hazards.len()),
        foretold_tflops: None,
        measured_tflops: time.map(|seconds| flops / seconds / 1e12),
        cublas_ratio: None,
    })
}

fn main() -> ExitCode {
    let args = Args::parse();
    let interpreted = args.device.starts_with("interpreted");
    let gpu = if interpreted {
        let seed = args.device.strip_prefix("interpreted:").and_then(|seed| seed.parse().ok()).unwrap_or(0);
        Ok(cuda::interpreted_with(cuda::Options { multiprocessors: 4, ..cuda::Options::pedantic(seed) }))
    } else {
        scratchwork::device(&args.device).map_err(|e| e.to_string())
    };
    let gpu = match gpu {
        Ok(gpu) if gpu.backend::<Cuda>().is_some() => gpu,
        Ok(_) => return fail(&format!("{} is no GPU", args.device)),
        Err(e) => return fail(&e),
    };
    let mut rows = vec![];
    println!("{:<26} {:>18} {:>5} {:>12} {:>8} {:>10}", "kernel", "m x n x k", "dtype", "error/bound", "hazards", "TFLOP/s");
    for kernel in &KERNELS {
        for dtype in [DType::BF16, DType::F32] {
            let shapes = SMALL.iter().chain(if interpreted { &[] } else { &LARGE[..] });
            for (i, &shape) in shapes.enumerate() {
                let Some(row) = row(kernel, shape, dtype, &gpu, i >= SMALL.len()) else { continue };
                let or_dash = |x: Option<f64>, digits: usize| x.map_or("-".into(), |x| format!("{x:.digits$}"));
                println!(
                    "{:<26} {:>18} {:>5} {:>12} {:>8} {:>10}",
                    row.kernel,
                    shape.map(|x| x.to_string()).join(" x "),
                    row.dtype,
                    or_dash(row.max_error_over_bound, 3),
                    or_dash(row.hazards.map(|n| n as f64), 0),
                    or_dash(row.measured_tflops, 1),
                );
                rows.push(row);
            }
        }
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&rows).expect("plain data");
        if let Err(e) = std::fs::write(path, text + "\n") {
            return fail(&format!("{}: {e}", path.display()));
        }
    }
    let wrong =
        rows.iter().filter(|row| row.hazards.unwrap_or(0) > 0 || row.max_error_over_bound.is_none_or(|error| error > 1.0));
    match wrong.count() {
        0 => ExitCode::SUCCESS,
        n => fail(&format!("{n} of {} are wrong", rows.len())),
    }
}

fn fail(why: &str) -> ExitCode {
    eprintln!("hopper_bench: {why}");
    ExitCode::FAILURE
}
