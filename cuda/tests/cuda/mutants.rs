//! The checkers are checked: kernels with a mistake planted in their PTX, each of which must be found.

use crate::text_of;
use cuda::Options;
use cuda::driver::interpreted::Interpreted;
use cuda::driver::{DevicePtr, Driver, DriverError, Event, Graph, Kernel, Launch, Module, Properties, Stream, TensorMap};
use opspec::{Draw, Source};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use tensor::{DType, Device};

/// An interpreted GPU that loads one family of kernels with another text in the place of the first occurrence of one.
#[derive(Debug)]
struct Mutant {
    gpu: Interpreted,
    family: &'static str,
    kernel: &'static str,
    from: &'static str,
    to: &'static str,
}

impl Driver for Mutant {
    fn load(&mut self, name: &str, ptx: &'static str) -> Result<Module, DriverError> {
        if name != self.family {
            return self.gpu.load(name, ptx);
        }
        let at = ptx.find(&format!(".visible .entry {}(", self.kernel)).expect("the kernel");
        let at = at + ptx[at..].find(self.from).unwrap_or_else(|| panic!("{} has no `{}`", self.kernel, self.from));
        let mutated = [&ptx[..at], self.to, &ptx[at + self.from.len()..]].concat();
        self.gpu.load(name, mutated.leak())
    }
    fn name(&self) -> String {
        self.gpu.name()
    }
    fn description(&self) -> String {
        self.gpu.description()
    }
    fn properties(&self) -> Properties {
        self.gpu.properties()
    }
    fn alloc(&mut self, bytes: u64) -> Result<DevicePtr, DriverError> {
        self.gpu.alloc(bytes)
    }
    fn free(&mut self, ptr: DevicePtr) -> Result<(), DriverError> {
        self.gpu.free(ptr)
    }
    fn memory(&self) -> Result<(u64, u64), DriverError> {
        self.gpu.memory()
    }
    fn recycles(&self) -> bool {
        self.gpu.recycles()
    }
    fn upload(&mut self, to: DevicePtr, bytes: &[u8], stream: Stream) -> Result<(), DriverError> {
        self.gpu.upload(to, bytes, stream)
    }
    fn download(&mut self, to: &mut [u8], from: DevicePtr, stream: Stream) -> Result<(), DriverError> {
        self.gpu.download(to, from, stream)
    }
    fn copy(&mut self, to: DevicePtr, from: DevicePtr, bytes: u64, stream: Stream) -> Result<(), DriverError> {
        self.gpu.copy(to, from, bytes, stream)
    }
    fn fill(&mut self, to: DevicePtr, byte: u8, bytes: u64, stream: Stream) -> Result<(), DriverError> {
        self.gpu.fill(to, byte, bytes, stream)
    }
    fn kernel(&mut self, module: Module, name: &str) -> Result<Kernel, DriverError> {
        self.gpu.kernel(module, name)
    }
    fn launch(&mut self, launch: &Launch<'_>, stream: Stream) -> Result<(), DriverError> {
        self.gpu.launch(launch, stream)
    }
    fn tensor_map(&mut self, map: &TensorMap<'_>) -> Result<[u8; 128], DriverError> {
        self.gpu.tensor_map(map)
    }
    fn stream(&mut self) -> Result<Stream, DriverError> {
        self.gpu.stream()
    }
    fn record(&mut self, stream: Stream) -> Result<Event, DriverError> {
        self.gpu.record(stream)
    }
    fn wait(&mut self, stream: Stream, event: Event) -> Result<(), DriverError> {
        self.gpu.wait(stream, event)
    }
    fn elapsed(&mut self, from: Event, to: Event) -> Result<Duration, DriverError> {
        self.gpu.elapsed(from, to)
    }
    fn synchronize(&mut self) -> Result<(), DriverError> {
        self.gpu.synchronize()
    }
    fn begin_graph(&mut self, stream: Stream) -> Result<(), DriverError> {
        self.gpu.begin_graph(stream)
    }
    fn end_graph(&mut self, stream: Stream) -> Result<Graph, DriverError> {
        self.gpu.end_graph(stream)
    }
    fn replay(&mut self, graph: Graph, stream: Stream) -> Result<(), DriverError> {
        self.gpu.replay(graph, stream)
    }
}

/// What the specification of `op` says of a device, over a few cases: the first complaint.
fn complaint(op: &str, dtype: DType, draw: Draw, device: impl Fn(u64) -> Device) -> Option<String> {
    let spec = opspec::all().into_iter().find(|s| s.name == op).expect("a specification");
    (0..3).find_map(|seed| {
        let case = spec.draw(&mut Source::seeded(seed, dtype, draw));
        match catch_unwind(AssertUnwindSafe(|| case.verify(&device(seed)))) {
            Ok(result) => result.err().map(|e| e.to_string()),
            Err(panic) => Some(text_of(&*panic)),
        }
    })
}

#[test]
fn every_planted_mistake_is_found() {
    // Operation, draw, kernel, text, its replacement, and what the complaint must say.
    type Plant = (&'static str, Draw, &'static str, &'static str, &'static str, &'static str, &'static str);
    const PLANTS: [Plant; 9] = [
        ("add", Draw::Smooth, "binary", "binary_f32", "add.f32", "sub.f32", "expected"),
        ("softmax", Draw::Smooth, "softmax", "softmax_f32", "div.rn.f32", "mul.rn.f32", "expected"),
        ("silu", Draw::Large, "unary", "unary_f32", "setp.ge.u64", "setp.gt.u64", "unary_f32: "),
        ("matmul", Draw::Large, "matmul", "matmul_64_f32", "bar.sync \t0;", "", "race"),
        ("sum", Draw::Large, "reduce", "reduce_columns_f32_f32", "bar.sync \t0;", "", "race"),
        ("rms_norm", Draw::Large, "norm", "rms_norm_f32", "add.f32", "sub.f32", "expected"),
        ("attention_causal", Draw::Large, "attention", "attention_f32", "bar.warp.sync \t-1;", "", "race"),
        ("sort", Draw::Large, "sort", "sort_chunks", "bar.sync \t0;", "", "race"),
        ("cumsum", Draw::Large, "reduce", "cumsum_f32", "setp.lt.u32", "setp.gt.u32", "expected"),
    ];
    let mut missed = vec![];
    for (op, draw, family, kernel, from, to, says) in PLANTS {
        let device = |seed| {
            let gpu = Interpreted::new(Options { seed, ..Options::default() });
            cuda::over(Mutant { gpu, family, kernel, from, to })
        };
        match complaint(op, DType::F32, draw, device) {
            Some(text) if text.contains(says) => {}
            other => missed.push(format!("{op}: `{from}` to `{to}` in {kernel}: {other:?}")),
        }
        let sound = complaint(op, DType::F32, draw, |seed| cuda::interpreted_with(Options { seed, ..Options::default() }));
        assert_eq!(sound, None, "{op} without the mistake");
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}
