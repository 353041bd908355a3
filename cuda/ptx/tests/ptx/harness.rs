//! Kernels from `tests/kernels`, launched with inputs drawn from a seed and checked against plain loops in f64.

use std::path::PathBuf;
use std::sync::Arc;

use half::bf16;
use ptx::tensor_map::TensorMap;
use ptx::{Gpu, Hazard, Launch, Module, Options};

/// The text of `tests/kernels/NAME.ptx`.
pub fn kernel_text(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/kernels/{name}.ptx"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// SplitMix64.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0xd134_2543_de82_ef95) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u32) -> u32 {
        (self.next() % u64::from(n)) as u32
    }

    /// Even in [-1, 1).
    pub fn f32(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub fn vec<T>(&mut self, n: usize, mut draw: impl FnMut(&mut Rng) -> T) -> Vec<T> {
        (0..n).map(|_| draw(self)).collect()
    }
}

/// Plain values as bytes.
pub trait Plain: Copy {
    fn put(self, bytes: &mut Vec<u8>);
    fn get(bytes: &[u8]) -> Self;
    const SIZE: usize;
}

macro_rules! plain {
    ($($t:ty),*) => {$(
        impl Plain for $t {
            fn put(self, bytes: &mut Vec<u8>) { bytes.extend(self.to_le_bytes()); }
            fn get(bytes: &[u8]) -> Self { <$t>::from_le_bytes(bytes.try_into().unwrap()) }
            const SIZE: usize = size_of::<$t>();
        }
    )*};
}
plain!(u8, u32, i32, f32, u64, bf16);

/// Device memory holding `values`.
pub fn upload<T: Plain>(gpu: &mut Gpu, values: &[T]) -> u64 {
    let mut bytes = Vec::new();
    values.iter().for_each(|v| v.put(&mut bytes));
    let ptr = gpu.alloc(bytes.len().max(1) as u64).unwrap();
    gpu.write(ptr, &bytes).unwrap();
    ptr
}

pub fn download<T: Plain>(gpu: &Gpu, ptr: u64, n: usize) -> Vec<T> {
    gpu.read(ptr, n * T::SIZE).unwrap().chunks_exact(T::SIZE).map(T::get).collect()
}

/// Kernel parameters, laid out as the ABI has them.
#[derive(Default)]
pub struct Params(Vec<u8>);

impl Params {
    pub fn new() -> Params {
        Params::default()
    }

    fn push(mut self, bytes: &[u8], align: usize) -> Params {
        self.0.resize(self.0.len().next_multiple_of(align), 0);
        self.0.extend(bytes);
        self
    }

    pub fn ptr(self, ptr: u64) -> Params {
        self.push(&ptr.to_le_bytes(), 8)
    }

    pub fn i32(self, value: usize) -> Params {
        self.push(&(value as i32).to_le_bytes(), 4)
    }

    pub fn map(self, map: &TensorMap) -> Params {
        self.push(&map.encode().unwrap(), 64)
    }
}

/// How a launch is shaped.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared: u32,
}

pub fn shape(grid: u32, block: u32) -> Shape {
    Shape { grid: [grid, 1, 1], block: [block, 1, 1], shared: 0 }
}

/// Inputs in device memory, and how to judge what the kernel left there.
pub struct Setup {
    pub params: Params,
    pub check: Box<dyn Fn(&Gpu) -> Result<(), String>>,
}

/// A kernel with inputs and a reference.
pub struct Case {
    pub file: &'static str,
    pub entry: &'static str,
    pub shape: Shape,
    pub setup: Box<dyn Fn(&mut Gpu, u64) -> Setup + Send + Sync>,
}

/// How a run ended.
#[derive(Debug)]
pub enum End {
    Right { instructions: u64 },
    Wrong(String),
    Hazards(Vec<Hazard>),
    Fault(String, Vec<Hazard>),
}

impl End {
    pub fn is_right(&self) -> bool {
        matches!(self, End::Right { .. })
    }
}

impl Case {
    pub fn new(
        file: &'static str,
        entry: &'static str,
        shape: Shape,
        setup: impl Fn(&mut Gpu, u64) -> Setup + Send + Sync + 'static,
    ) -> Case {
        Case { file, entry, shape, setup: Box::new(setup) }
    }

    pub fn module(&self) -> Arc<Module> {
        Arc::new(Module::parse(&format!("{}.ptx", self.file), &kernel_text(self.file)).unwrap_or_else(|e| panic!("{e}")))
    }

    /// Runs `module`, the kernel or a mutant of it, for at most `steps` instructions of a warp.
    pub fn run(&self, module: &Arc<Module>, seed: u64, steps: Option<u64>) -> End {
        let mut options = Options { counters: false, ..Options::pedantic(seed) };
        if let Some(steps) = steps {
            options.step_limit = steps;
        }
        let mut gpu = Gpu::new(options);
        let setup = (self.setup)(&mut gpu, seed);
        let handle = gpu.load(module.clone()).unwrap();
        let Shape { grid, block, shared } = self.shape;
        let launch = Launch::new(handle, self.entry).grid(grid).block(block).shared_bytes(shared).params(setup.params.0);
        let report = gpu.launch(&launch);
        match report.fault {
            Some(fault) => End::Fault(fault.to_string(), report.hazards),
            None if !report.hazards.is_empty() => End::Hazards(report.hazards),
            None => match (setup.check)(&gpu) {
                Ok(()) => End::Right { instructions: report.instructions },
                Err(message) => End::Wrong(message),
            },
        }
    }
}

/// Every element equals.
pub fn same<T: Plain + PartialEq + std::fmt::Debug>(got: &[T], want: &[T]) -> Result<(), String> {
    if got.len() != want.len() {
        return Err(format!("{} elements, expected {}", got.len(), want.len()));
    }
    match got.iter().zip(want).position(|(a, b)| a != b) {
        Some(i) => Err(format!("element {i} is {:?}, expected {:?}", got[i], want[i])),
        None => Ok(()),
    }
}

/// Every element is within its bound.
pub fn close(got: impl IntoIterator<Item = f64>, want: &[(f64, f64)]) -> Result<(), String> {
    let mut n = 0;
    for (i, (x, &(y, bound))) in got.into_iter().zip(want).enumerate() {
        // A NaN is within no bound.
        if !((x - y).abs() <= bound) {
            return Err(format!("element {i} is {x}, expected {y} within {bound:e}"));
        }
        n += 1;
    }
    if n == want.len() { Ok(()) } else { Err(format!("{n} elements, expected {}", want.len())) }
}

/// A B^T in f64, and for each element the bound of a sum of `k` products in f32: 2 (k + 1) u Σ|ab|. The factor 2 is for tensor
/// cores, which truncate what the CUDA cores round.
pub fn product(a: &[f64], b: &[f64], m: usize, n: usize, k: usize) -> Vec<(f64, f64)> {
    let mut out = Vec::with_capacity(m * n);
    for i in 0..m {
        for j in 0..n {
            let (mut sum, mut size) = (0.0, 0.0);
            for l in 0..k {
                let p = a[i * k + l] * b[j * k + l];
                sum += p;
                size += p.abs();
            }
            out.push((sum, 2.0 * (k + 1) as f64 * f64::from(f32::EPSILON) / 2.0 * size + 1e-30));
        }
    }
    out
}

pub fn wide<T: Copy + Into<f64>>(values: &[T]) -> Vec<f64> {
    values.iter().map(|&v| v.into()).collect()
}
