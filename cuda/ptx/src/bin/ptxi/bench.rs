//! `ptxi bench`: how fast the interpreter is, hazards and poisoning on, in thread-instructions a second.

use std::sync::Arc;
use std::time::Instant;

use ptx::tensor_map::{ElementType, Swizzle, TensorMap};
use ptx::{Gpu, Launch, Module, Options};

use crate::{Verdict, say};

const REDUCE: &str = include_str!("../../../tests/kernels/reduce.ptx");
const GEMM: &str = include_str!("../../../tests/kernels/gemm_wgmma.ptx");

/// A kernel to time: what it is, its module and name, how it is launched, and its parameters, once memory is there.
struct Kernel {
    what: &'static str,
    source: &'static str,
    entry: &'static str,
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u32,
    params: fn(&mut Gpu) -> Result<Vec<u8>, String>,
}

const KERNELS: [Kernel; 4] = [
    Kernel {
        what: "arithmetic in registers",
        source: REDUCE,
        entry: "arithmetic",
        grid: [64, 1, 1],
        block: [256, 1, 1],
        shared_bytes: 0,
        params: |gpu| {
            let n = 64 * 256;
            let (y, hash) = (zeros(gpu, 4 * n)?, zeros(gpu, 4 * n)?);
            Ok(pack(&[y, hash], &[n as u32, 256]))
        },
    },
    Kernel {
        what: "f32 matmul 256^3, tiles in shared memory",
        source: REDUCE,
        entry: "matmul_tiled",
        grid: [16, 16, 1],
        block: [16, 16, 1],
        shared_bytes: 0,
        params: |gpu| {
            let bytes = 4 * 256 * 256;
            let (a, b, c) = (zeros(gpu, bytes)?, zeros(gpu, bytes)?, zeros(gpu, bytes)?);
            Ok(pack(&[a, b, c], &[256, 256, 256]))
        },
    },
    Kernel {
        what: "softmax of 256 rows of 1024",
        source: REDUCE,
        entry: "softmax_rows",
        grid: [256, 1, 1],
        block: [128, 1, 1],
        shared_bytes: 0,
        params: |gpu| {
            let bytes = 4 * 256 * 1024;
            let (x, y) = (zeros(gpu, bytes)?, zeros(gpu, bytes)?);
            Ok(pack(&[x, y], &[1024]))
        },
    },
    Kernel {
        what: "bf16 GEMM 512^3, TMA multicast and wgmma",
        source: GEMM,
        entry: "gemm_n128",
        grid: [16, 1, 1],
        block: [384, 1, 1],
        shared_bytes: 1024 + 3 * 2 * 16384 + 32768,
        params: |gpu| {
            let mut params = Vec::new();
            for box_rows in [128, 64, 64] {
                let map = TensorMap::dense(ElementType::Bf16, zeros(gpu, 2 * 512 * 512)?, &[512, 512], &[64, box_rows]);
                params.extend(TensorMap { swizzle: Swizzle::B128, ..map }.encode().map_err(|e| e.to_string())?);
            }
            params.extend(pack(&[], &[512, 512, 512]));
            Ok(params)
        },
    },
];

fn zeros(gpu: &mut Gpu, bytes: u64) -> Result<u64, String> {
    let ptr = gpu.alloc(bytes).map_err(|e| e.to_string())?;
    gpu.fill(ptr, 0, bytes).map_err(|e| e.to_string())?;
    Ok(ptr)
}

fn pack(pointers: &[u64], words: &[u32]) -> Vec<u8> {
    let pointers = pointers.iter().flat_map(|p| p.to_le_bytes());
    pointers.chain(words.iter().flat_map(|w| w.to_le_bytes())).collect()
}

/// Runs each kernel on `threads` threads at once, each with a seed and a GPU of its own.
pub fn bench(threads: u64) -> Result<Verdict, String> {
    say(format_args!("{threads} schedules on {threads} threads, all hazard detection on"))?;
    say(format_args!("{:<44} {:>14} {:>9} {:>12}", "", "thread instr.", "seconds", "M instr./s"))?;
    for kernel in &KERNELS {
        let module = Module::parse(kernel.entry, kernel.source).map_err(|e| e.to_string())?;
        let module = Arc::new(module);
        let start = Instant::now();
        let counts: Vec<Result<u64, String>> = std::thread::scope(|scope| {
            let handles: Vec<_> = (0..threads)
                .map(|seed| {
                    scope.spawn({
                        let module = &module;
                        move || run(kernel, module, seed)
                    })
                })
                .collect();
            let join =
                |handle: std::thread::ScopedJoinHandle<'_, _>| handle.join().unwrap_or_else(|_| Err("a thread panicked".into()));
            handles.into_iter().map(join).collect()
        });
        let seconds = start.elapsed().as_secs_f64();
        let instructions: u64 = counts.into_iter().sum::<Result<u64, String>>()?;
        let rate = instructions as f64 / seconds / 1e6;
        say(format_args!("{:<44} {instructions:>14} {seconds:>9.3} {rate:>12.1}", kernel.what))?;
    }
    Ok(Verdict::Clean)
}

fn run(kernel: &Kernel, module: &Arc<Module>, seed: u64) -> Result<u64, String> {
    let mut gpu = Gpu::new(Options { seed, counters: false, ..Options::default() });
    let params = (kernel.params)(&mut gpu)?;
    let module = gpu.load(module.clone()).map_err(|e| e.to_string())?;
    let launch = Launch {
        module,
        entry: kernel.entry.into(),
        grid: kernel.grid,
        block: kernel.block,
        cluster: [1, 1, 1],
        shared_bytes: kernel.shared_bytes,
        params,
    };
    let report = gpu.launch(&launch).map_err(|fault| format!("{}: {fault}", kernel.entry))?;
    match report.hazards.first() {
        None => Ok(report.instructions),
        Some(hazard) => Err(format!("{}: a false alarm: {hazard}", kernel.entry)),
    }
}
