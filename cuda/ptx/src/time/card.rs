//! Cards: every constant of the model, with where it comes from.
//!
//! Latencies and rates are in clocks of the multiprocessors. `fit` names what was adjusted to published speeds of kernels (the points marked
//! so in `benches/results/foretold.md`), `estimate` what nobody has published.
//!
//! - L24: Luo et al., *Benchmarking and Dissecting the Nvidia Hopper GPU Architecture*, arXiv 2402.13499
//! - L25: Luo et al., *Dissecting the NVIDIA Hopper Architecture through Microbenchmarking and Multiple Level Analysis*, arXiv 2501.12084
//! - WP: NVIDIA H100 Tensor Core GPU Architecture, white paper
//! - CPG: CUDA C++ Programming Guide, *Arithmetic Instructions*, compute capability 9.0
//! - GB: te42kyfo/gpu-benches, its result files for H100 PCIe and H200
//! - DG: DeepGEMM's README and issue 120; FC: fast.cu's README

use serde::Serialize;

/// A card. Everything is public, so that one may ask what another card would do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Card {
    /// Its name on the command line.
    pub name: &'static str,
    /// Multiprocessors. WP: 132 (SXM), 114 (PCIe).
    pub multiprocessors: u32,
    /// Clock without a heavy load, GHz. DG, GB.
    pub clock: f64,
    /// Use of the tensor cores that the power limit bears at full clock. Fit.
    pub cool: f64,
    /// Share of the power that does not depend on that use. Fit.
    pub idle: f64,
    /// From one kernel to the next on an idle card, microseconds: what an event pair around a launch measures beyond the kernel's own work. Fit.
    pub launch_us: f64,
    /// Clocks from a CTA's placement to its first instruction. Estimate.
    pub cta_start: u64,

    /// Clocks from an instruction to the next that depends on it, of the FMA and integer pipes. L24, table of instruction latencies.
    pub alu: u64,
    /// The same from a comparison to what its predicate guards. Estimate from dependent branches.
    pub predicate: u64,
    /// Special functions and conversions that run with them. L24.
    pub xu: u64,
    /// Doubles. L24.
    pub double: u64,
    /// Clocks that a taken branch costs its warp. Estimate.
    pub branch: u64,
    /// `mma.sync` of the largest shape. L24.
    pub mma: u64,
    /// Share of the tensor cores' peak that `mma.sync` reaches. L24: 62 % of wgmma on bf16.
    pub mma_share: f64,
    /// `shfl`, `vote` and their like. L24.
    pub shuffle: u64,
    /// Barrier of a CTA, from the last arrival to the first instruction behind. Estimate.
    pub barrier: u64,
    /// From an mbarrier's completion to the instruction behind the wait. Estimate.
    pub mbarrier: u64,
    /// Barrier of a cluster. L25.
    pub cluster_barrier: u64,
    /// From one CTA of a cluster to another: an arrival or a word. L24: 180 to 190.
    pub remote: u64,
    /// Load from shared memory. L24: 29 to 33.
    pub shared: u64,
    /// Load that hits in L1. L24.
    pub l1: u64,
    /// Load that hits in the half of L2 that is near. L24.
    pub l2: u64,
    /// What the other half adds. Estimate from the spread in L24.
    pub l2_far: u64,
    /// What DRAM adds. L24.
    pub dram: u64,
    /// What a copy by TMA adds to the load of a warp. L25.
    pub tma: u64,
    /// Clocks between two bulk copies that one multiprocessor starts. Estimate.
    pub tma_issue: u64,
    /// What reading a tensor map for the first time on a multiprocessor adds. Estimate.
    pub tma_map: u64,
    /// From the last wgmma's issue to its start on the tensor cores, and from its end to the wait behind. L25.
    pub wgmma_start: u64,
    /// See [`Card::wgmma_start`].
    pub wgmma_end: u64,

    /// Dense bf16 operations of a multiprocessor in a clock. WP: 4,096.
    pub tensor_flops: f64,
    /// Bytes of shared memory in a clock. WP: 128.
    pub shared_bytes: f64,
    /// Bytes between a multiprocessor and L2 in a clock, each way. WP: 64.
    pub port_bytes: f64,
    /// Bytes that all of L2 gives in a clock. L24.
    pub l2_bytes: f64,
    /// Bytes that go from one half of L2 to the other in a clock. Estimate.
    pub far_bytes: f64,
    /// Bytes of L2. WP: 50 MB.
    pub l2_size: u64,
    /// Share of L2 that is full of what ran before has written, and DRAM does not have yet: speeds are measured in loops, or behind a write that
    /// clears L2. Fit.
    pub dirty: f64,
    /// Bytes of L1 and shared memory of a multiprocessor. WP: 256 KB.
    pub l1_size: u64,
    /// DRAM, GB/s as the data sheet has it.
    pub dram_peak: f64,
    /// Share of that which long runs of reads reach.
    pub dram_share: f64,
    /// What turning between reads and writes takes of the share: this times `w (1 - w)` where `w` of the bytes are written.
    pub turn: f64,
    /// Bytes that the loads and stores of a multiprocessor may have under way. Estimate.
    pub in_flight: u64,
}

/// The cards that there are, by the name on the command line.
pub const CARDS: [Card; 4] = [H100_SXM, H100_PCIE, H800, H200];

const H100_SXM: Card = Card {
    name: "h100-sxm",
    multiprocessors: 132,
    clock: 1.98,
    cool: 0.36,
    idle: 0.2,
    launch_us: 1.5,
    cta_start: 390,
    alu: 4,
    predicate: 12,
    xu: 18,
    double: 8,
    branch: 10,
    mma: 33,
    mma_share: 0.63,
    shuffle: 23,
    barrier: 22,
    mbarrier: 20,
    cluster_barrier: 190,
    remote: 190,
    shared: 29,
    l1: 38,
    l2: 258,
    l2_far: 156,
    dram: 340,
    tma: 170,
    tma_issue: 40,
    tma_map: 600,
    wgmma_start: 16,
    wgmma_end: 20,
    tensor_flops: 4096.0,
    shared_bytes: 128.0,
    port_bytes: 64.0,
    l2_bytes: 4900.0,
    far_bytes: 2000.0,
    l2_size: 50 << 20,
    dirty: 0.5,
    l1_size: 256 << 10,
    dram_peak: 3352.0,
    dram_share: 0.967,
    turn: 0.19,
    in_flight: 64 << 10,
};

const H100_PCIE: Card = Card {
    name: "h100-pcie",
    multiprocessors: 114,
    clock: 1.755,
    cool: 0.25,
    l2_bytes: 3930.0,
    dram_peak: 2039.0,
    turn: 0.5,
    ..H100_SXM
};

const H800: Card = Card { name: "h800", ..H100_SXM };

// Its DRAM gives no more than 3.9 TB/s to one direction (gpu-stream/h200.txt of te42kyfo/gpu-benches).
const H200: Card = Card { name: "h200", dram_peak: 4800.0, dram_share: 0.81, turn: 0.0, ..H100_SXM };

impl Card {
    /// A card by its name.
    pub fn named(name: &str) -> Option<Card> {
        CARDS.into_iter().find(|c| c.name == name)
    }

    /// Bytes that DRAM moves in a clock, if it only reads.
    pub fn dram_bytes(&self) -> f64 {
        self.dram_peak * self.dram_share / self.clock
    }

    /// The clock that the card keeps while its tensor cores are in use for this share of the time, GHz.
    ///
    /// Power goes with the cube of the clock (the voltage follows it) and in part with the use of the tensor cores; the limit is reached at
    /// [`Card::cool`].
    pub fn sustained(&self, tensor: f64) -> f64 {
        let power = |use_: f64| self.idle + (1.0 - self.idle) * use_;
        self.clock * (power(self.cool) / power(tensor)).min(1.0).cbrt()
    }

    /// The tensor cores' peak at full clock, TFLOP/s of dense bf16.
    pub fn tensor_peak(&self) -> f64 {
        f64::from(self.multiprocessors) * self.tensor_flops * self.clock / 1e3
    }
}
