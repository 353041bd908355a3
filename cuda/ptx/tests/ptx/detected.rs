//! Each kind of hazard in a small kernel of its own, both sides: the right kernel is clean under every seed, the same with one thing
//! wrong is named.

mod bounds;
mod dependent;
mod layouts;
mod peers;
mod read_only;
mod registers;
mod scopes;

use std::sync::Arc;

use ptx::tensor_map::TensorMap;
use ptx::{Gpu, HazardKind, Launch, Module, Options, Report};

use crate::harness::{download, upload};

/// Seeds that each side is run with.
const SEEDS: u64 = 12;

/// A kernel `k` with its launch. Its parameters are the addresses of buffers and then of tensor maps in global memory.
#[derive(Clone)]
pub struct Program {
    /// Directives between the parameters and the body, as `.maxntid 128`.
    pub directives: &'static str,
    pub body: String,
    pub grid: u32,
    pub block: u32,
    pub cluster: u32,
    pub shared_bytes: u32,
    /// The words of each buffer.
    pub buffers: Vec<Vec<u32>>,
    /// Maps of buffer 0.
    pub maps: Vec<TensorMap>,
}

/// One CTA of so many threads, no buffers.
pub fn program(block: u32, body: &str) -> Program {
    let (buffers, maps) = (Vec::new(), Vec::new());
    Program { directives: "", body: body.into(), grid: 1, block, cluster: 1, shared_bytes: 0, buffers, maps }
}

impl Program {
    /// The same with a buffer more: its address is in `%p0`, `%p1`, …
    pub fn buffer(mut self, words: Vec<u32>) -> Program {
        self.buffers.push(words);
        self
    }

    /// The same with a tensor map of buffer 0 more: the map's address is in `%t0`, `%t1`, …
    pub fn map(mut self, map: TensorMap) -> Program {
        self.maps.push(map);
        self
    }

    /// The same on one cluster of `n` CTAs.
    pub fn cluster(self, n: u32) -> Program {
        Program { grid: n, cluster: n, ..self }
    }

    fn text(&self) -> String {
        let names = |letter: char, n: usize| (0..n).map(move |i| format!("{letter}{i}"));
        let names: Vec<String> = names('p', self.buffers.len()).chain(names('t', self.maps.len())).collect();
        let params: Vec<String> = names.iter().map(|n| format!(".param .u64 a_{n}")).collect();
        let loads: String = names.iter().map(|n| format!("ld.param.u64 %{n}, [a_{n}];\n")).collect();
        format!(
            ".version 8.4\n.target sm_90a\n.address_size 64\n.visible .entry k({}) {}\n{{\n.reg .b64 %p<8>, %t<8>, %d<16>;\n\
             .reg .b32 %r<64>;\n.reg .f32 %f<128>;\n.reg .pred %q<8>;\n{loads}{}\nret;\n}}\n",
            params.join(", "),
            self.directives,
            self.body
        )
    }

    /// The report under a seed.
    pub fn run(&self, seed: u64, strict: bool) -> Report {
        self.run_and_read(seed, strict).0
    }

    /// A line of the kernel, from 1.
    pub fn line(&self, line: u32) -> String {
        self.text().lines().nth(line as usize - 1).unwrap_or_default().into()
    }

    /// The report under a seed, and buffer 0 afterwards.
    pub fn run_and_read(&self, seed: u64, strict: bool) -> (Report, Vec<u32>) {
        let one = self.run_on(1, seed, strict);
        if self.grid > self.cluster {
            let five = self.run_on(5, seed, strict);
            assert_eq!(format!("{one:?}"), format!("{five:?}"), "seed {seed}: on one thread and on five\n{}", self.body);
        }
        one
    }

    fn run_on(&self, threads: usize, seed: u64, strict: bool) -> (Report, Vec<u32>) {
        let text = self.text();
        let module = Arc::new(Module::parse("k.ptx", &text).unwrap_or_else(|e| panic!("{e}\n{text}")));
        let mut gpu = Gpu::new(Options { seed, strict, threads, step_limit: 1_000_000, ..Options::default() });
        let mut params: Vec<u64> = self.buffers.iter().map(|b| upload(&mut gpu, b)).collect();
        for map in &self.maps {
            let map = TensorMap { address: params[0], ..map.clone() };
            params.push(upload(&mut gpu, &map.encode().unwrap()));
        }
        let launch = Launch::new(gpu.load(module).unwrap(), "k").grid(self.grid).block(self.block).cluster(self.cluster);
        let bytes = params.iter().flat_map(|p| p.to_le_bytes()).collect();
        let report = gpu.launch(&launch.shared_bytes(self.shared_bytes).params(bytes));
        let words = self.buffers.first().map_or(Vec::new(), |b| download(&gpu, params[0], b.len()));
        (report, words)
    }

    /// Nothing is found, by the letter of the ISA.
    #[track_caller]
    pub fn clean(&self) {
        for seed in 0..SEEDS {
            if let Err(failure) = self.run(seed, true).clean() {
                panic!("seed {seed}: {failure}\n{}", self.body);
            }
        }
    }

    /// The same with the first `from` replaced by `to`.
    #[track_caller]
    pub fn with(&self, from: &str, to: &str) -> Program {
        assert!(self.body.contains(from), "`{from}` is not in the kernel");
        Program { body: self.body.replacen(from, to, 1), ..self.clone() }
    }

    /// With `from` replaced by `to`, an error of this kind is found under every seed, in words that contain `says`.
    #[track_caller]
    pub fn named(&self, from: &str, to: &str, kind: HazardKind, says: &str) {
        let damaged = self.with(from, to);
        for seed in 0..SEEDS {
            let report = damaged.run(seed, false);
            let found = report.hazards.iter().any(|h| h.kind == kind && h.to_string().contains(says));
            assert!(found, "`{from}` -> `{to}`, seed {seed}: no {kind:?} that says {says:?}: {:?}", report.clean().err());
        }
    }
}
