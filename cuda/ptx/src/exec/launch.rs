//! A launch's shape, and how CTAs come and go.

use std::sync::Arc;

use super::barriers::{ClusterBarrier, NamedBarrier};
use super::lanes::{ALL, Regs};
use super::module::Module;
use super::rng::Rng;
use super::warp::Warp;
use super::wgmma::Warpgroup;
use super::{Cluster, Cta, Machine, bulk};
use crate::counters::Recorder;
use crate::ir::program::handle;
use crate::ir::{Class, Constant, Entry, Special};
use crate::mem::{Global, Home, Local, Memory, Order, Tracker};
use crate::request::{Fault, FaultKind, Launch, Options, Report};

/// Streaming multiprocessors of an H100 SXM.
const SMS: u32 = 132;
/// Threads that an SM holds.
const SM_THREADS: u32 = 2048;
/// Shared memory of an SM, and what each CTA costs beside its own.
const SM_SHARED: u32 = 228 * 1024;
/// The most shared memory a CTA may have.
pub const MAX_SHARED: u32 = 227 * 1024;

/// The position of element `i` of an array of extents `e`, first extent fastest.
pub fn unlinear(i: u32, e: [u32; 3]) -> [u32; 3] {
    [i % e[0], i / e[0] % e[1], i / e[0] / e[1]]
}

/// Elements of an array of these extents, or `u64::MAX` if there are more.
fn volume(extents: [u32; 3]) -> u64 {
    extents.iter().fold(1, |n, &e| u64::saturating_mul(n, e.into()))
}

/// The grid in numbers.
#[derive(Clone, Debug)]
pub struct Shape {
    /// CTAs in the grid.
    pub grid: [u32; 3],
    /// Threads in a CTA.
    pub block: [u32; 3],
    /// CTAs in a cluster.
    pub cluster: [u32; 3],
    /// Threads in a CTA, linear.
    pub threads: u32,
    /// Warps in a CTA.
    pub warps: u32,
    /// CTAs in a cluster, linear.
    pub cluster_ctas: u32,
    /// Clusters in the grid.
    pub clusters: u32,
    /// Clusters that an H100 holds at once.
    pub max_resident: u32,
    /// Static and dynamic shared memory of a CTA.
    pub shared_bytes: u32,
}

impl Shape {
    /// `%ctaid` of the CTA with linear number `linear` in the order in which CTAs start: cluster by cluster.
    pub fn cta_id(&self, linear: u32) -> [u32; 3] {
        let clusters = [0, 1, 2].map(|d| self.grid[d] / self.cluster[d]);
        let (c, r) = (unlinear(linear / self.cluster_ctas, clusters), unlinear(linear % self.cluster_ctas, self.cluster));
        [0, 1, 2].map(|d| c[d] * self.cluster[d] + r[d])
    }

    /// CTAs of the grid.
    pub fn ctas(&self) -> u64 {
        volume(self.grid)
    }

    fn new(launch: &Launch, entry: &Entry) -> Result<Shape, String> {
        let (grid, block) = (launch.grid, launch.block);
        let cluster = match (entry.reqnctapercluster, launch.cluster) {
            (Some(r), c) if c == [1, 1, 1] || c == r => r,
            (Some(r), c) => return Err(format!("the kernel requires a cluster of {r:?}, the launch asks for {c:?}")),
            (None, c) => c,
        };
        if grid.contains(&0) || block.contains(&0) || cluster.contains(&0) {
            return Err(format!("an extent is zero: grid {grid:?}, block {block:?}, cluster {cluster:?}"));
        }
        let threads = volume(block);
        if threads > 1024 || block[2] > 64 {
            return Err(format!("block {block:?} has {threads} threads; 1024 at most, and 64 in z"));
        }
        if let Some(r) = entry.reqntid
            && r != block
        {
            return Err(format!("the kernel requires a block of {r:?}, the launch asks for {block:?}"));
        }
        if let Some(m) = entry.maxntid
            && threads > volume(m)
        {
            return Err(format!("block {block:?} has more threads than .maxntid {m:?}"));
        }
        if (0..3).any(|d| grid[d] % cluster[d] != 0) {
            return Err(format!("grid {grid:?} is no multiple of cluster {cluster:?}"));
        }
        let cluster_ctas = volume(cluster);
        if cluster_ctas > 16 {
            return Err(format!("cluster {cluster:?} has more than 16 CTAs"));
        }
        let ctas = volume(grid);
        let (threads, cluster_ctas) = (threads as u32, cluster_ctas as u32);
        let warps = threads.div_ceil(32);
        if ctas.saturating_mul(warps.into()) >= 1 << 26 {
            return Err(format!("grid {grid:?} of blocks {block:?} has 2^26 warps or more"));
        }
        let shared_bytes = entry.static_shared.saturating_add(launch.shared_bytes);
        if shared_bytes > MAX_SHARED {
            return Err(format!("{shared_bytes} bytes of shared memory; {MAX_SHARED} at most"));
        }
        let per_sm = (SM_THREADS / (warps * 32)).min(SM_SHARED / (shared_bytes + 1024)).clamp(1, 32);
        Ok(Shape {
            grid,
            block,
            cluster,
            threads,
            warps,
            cluster_ctas,
            clusters: (ctas / u64::from(cluster_ctas)) as u32,
            max_resident: (SMS * per_sm / cluster_ctas).max(1),
            shared_bytes,
        })
    }
}

/// Runs a launch.
pub(crate) fn launch(
    options: &Options,
    global: &mut Global,
    module: &Arc<Module>,
    globals: &[u64],
    launch: &Launch,
    (number, seed): (u32, u64),
) -> Result<Report, Fault> {
    let bad = |message: String| Fault::new(FaultKind::InvalidLaunch, message, None);
    let entry = module.program.entry(&launch.entry).ok_or_else(|| bad(format!("there is no kernel `{}`", launch.entry)))?;
    let shape = Shape::new(launch, entry).map_err(bad)?;
    let wanted = entry.params.last().map_or(0, |p| p.offset + p.size);
    if launch.params.len() != wanted as usize {
        return Err(bad(format!("`{}` takes {wanted} bytes of parameters, not {}", entry.name, launch.params.len())));
    }
    let mut rng = Rng::new(seed);
    let election = rng.draw() as u32;
    // Few CTAs at once run fast and in the cache; a seed now and then takes as many as fit.
    let window = [1, 2, 3, 4, 8, 16][rng.below(6) as usize].min(shape.max_resident);
    let slots = (shape.max_resident.min(shape.clusters) * shape.cluster_ctas) as usize;
    // The parameters lie in memory of their own, for code that takes their address.
    let params = global.alloc(launch.params.len() as u64).and_then(|at| {
        global.write(at, &launch.params)?;
        global.set_read_only(at)?;
        Ok(at)
    });
    let params = params.map_err(|e| bad(format!("parameters: {e}")))?;
    let order = Order::new(shape.threads, shape.cluster_ctas);
    let tracker = Tracker::new(order, number, options.hazards, seed);
    let mem = Memory::new(std::mem::take(global), tracker);
    let mut machine = Machine {
        module,
        entry,
        options,
        launch,
        globals,
        mem,
        params,
        counters: options.counters.then(|| Recorder::new(module.code.len())),
        rng,
        printed: String::new(),
        asyncs: bulk::Asyncs::default(),
        ctas: (0..slots).map(|_| None).collect(),
        clusters: (0..slots / shape.cluster_ctas as usize).map(|_| None).collect(),
        ready: Vec::new(),
        is_ready: vec![false; slots * shape.warps as usize],
        election,
        last_admit: 0,
        next_cluster: 0,
        window,
        resident: 0,
        steps: 0,
        instructions: 0,
        polls: 0,
        last_effect: 0,
        shape,
    };
    let result = machine.run();
    bulk::end_launch(&mut machine, result.is_ok());
    let hazards = machine.resolved();
    let counters = machine.counters.take().map(|c| c.finish(&entry.name, machine.shape.ctas(), |pc| module.program.line(pc)));
    let report = Report { instructions: machine.instructions, hazards, counters, printed: std::mem::take(&mut machine.printed) };
    *global = machine.mem.global;
    global.free(params).expect("the parameters were allocated here");
    match result {
        Ok(()) => Ok(report),
        Err(mut fault) => {
            fault.hazards = report.hazards;
            fault.printed = report.printed;
            Err(*fault)
        }
    }
}

impl Machine<'_> {
    /// Starts clusters while there is room for them.
    pub(super) fn admit(&mut self) {
        while self.resident < self.window && self.next_cluster < self.shape.clusters {
            let Some(place) = self.clusters.iter().position(|c| c.is_none()) else { return };
            let n = self.shape.cluster_ctas;
            self.clusters[place] = Some(Cluster { alive: n, barrier: ClusterBarrier::default() });
            let base = self.mem.start_cluster(n, self.shape.shared_bytes as usize);
            assert_eq!(base, place as u32 * n, "memory and machine take the first free place");
            for r in 0..n {
                self.start_cta(base + r, self.next_cluster * n + r);
            }
            self.next_cluster += 1;
            self.resident += 1;
            self.last_admit = self.steps;
        }
    }

    fn start_cta(&mut self, slot: u32, linear: u32) {
        let id = self.shape.cta_id(linear);
        let warps = (0..self.shape.warps).map(|w| Some(Box::new(self.new_warp(slot, linear, id, w)))).collect();
        let barriers = (0..16).map(|_| NamedBarrier::default()).collect();
        let warpgroups = (0..self.shape.warps / 4).map(|_| Warpgroup::default()).collect();
        self.ctas[slot as usize] = Some(Cta { id, warps, alive: self.shape.warps, barriers, warpgroups });
        for w in 0..self.shape.warps {
            self.wake(slot, w);
        }
    }

    fn new_warp(&self, slot: u32, linear: u32, cta: [u32; 3], index: u32) -> Warp {
        let entry = self.entry;
        let mut regs = Regs::new(entry.registers.count);
        for (reg, constant) in &entry.registers.constants {
            for lane in 0..32 {
                let value = self.constant(*constant, slot, cta, index, lane);
                match reg.class {
                    Class::B32 => regs.r32[reg.index as usize][lane as usize] = value as u32,
                    Class::B64 => regs.r64[reg.index as usize][lane as usize] = value,
                    Class::Pred => regs.pred[reg.index as usize] |= (value as u32 & 1) << lane,
                }
            }
            regs.set_undef(*reg, 0, ALL);
        }
        let n = self.shape.cluster_ctas;
        let home = Home { base: slot - slot % n, rank: slot % n, size: n };
        let order = self.mem.tracker.order.warp(linear * self.shape.warps + index);
        Warp::new(slot, index, entry.start, regs, home, Local::new(entry.frame as usize), order)
    }

    fn constant(&self, constant: Constant, slot: u32, cta: [u32; 3], warp: u32, lane: u32) -> u64 {
        match constant {
            Constant::Bits(b) => b,
            Constant::Shared(v, offset) => u64::from(self.entry.shared[&v]).wrapping_add_signed(offset),
            Constant::Global(v, offset) => self.globals[v as usize].wrapping_add(offset as u64),
            Constant::KernelParam(offset) => self.params + u64::from(offset),
            Constant::Function(f) => handle(f),
            Constant::Special(s) => self.special(s, slot, cta, warp, lane),
        }
    }

    fn special(&self, s: Special, slot: u32, cta: [u32; 3], warp: u32, lane: u32) -> u64 {
        let shape = &self.shape;
        let dim = |v: [u32; 3], d: u8, w: u32| v.get(d as usize).copied().unwrap_or(w);
        let tid = unlinear(warp * 32 + lane, shape.block);
        let rank = slot % shape.cluster_ctas;
        let clusters = [0, 1, 2].map(|d| shape.grid[d] / shape.cluster[d]);
        let in_cluster = [0, 1, 2].map(|d| cta[d] % shape.cluster[d]);
        u64::from(match s {
            Special::Tid(d) => dim(tid, d, 0),
            Special::Ntid(d) => dim(shape.block, d, 0),
            Special::Ctaid(d) => dim(cta, d, 0),
            Special::Nctaid(d) => dim(shape.grid, d, 0),
            Special::Clusterid(d) => dim([0, 1, 2].map(|d| cta[d] / shape.cluster[d]), d, 0),
            Special::Nclusterid(d) => dim(clusters, d, 0),
            Special::ClusterCtaid(d) => dim(in_cluster, d, 0),
            Special::ClusterNctaid(d) => dim(shape.cluster, d, 0),
            Special::ClusterCtarank => rank,
            Special::ClusterNctarank => shape.cluster_ctas,
            Special::IsExplicitCluster => u32::from(shape.cluster_ctas > 1 || self.entry.explicit_cluster),
            Special::LaneId => lane,
            Special::WarpId => warp,
            Special::NWarpId => SM_THREADS / 32,
            Special::SmId => slot % SMS,
            Special::NSmId => SMS,
            Special::GridId => 1,
            Special::LanemaskEq => 1 << lane,
            Special::LanemaskLe => ALL >> (31 - lane),
            Special::LanemaskLt => (1 << lane) - 1,
            Special::LanemaskGe => ALL << lane,
            Special::LanemaskGt => (ALL << lane) << 1,
            Special::TotalSmemSize | Special::AggrSmemSize => shape.shared_bytes,
            Special::DynamicSmemSize => self.launch.shared_bytes,
            Special::ReservedSmemOffset(_) | Special::Envreg(_) | Special::CurrentGraphExec => 0,
        })
    }

    pub(super) fn warp_ended(&mut self, warp: Box<Warp>) {
        let slot = warp.slot;
        self.effect();
        bulk::warp_ended(self, &warp);
        super::wgmma::warp_ended(self, &warp);
        drop(warp);
        super::barriers::somebody_left(self, slot);
    }

    pub(super) fn cta_ended(&mut self, slot: u32) {
        bulk::cta_ended(self, slot);
        self.mem.end_cta(slot);
        self.ctas[slot as usize] = None;
        let place = (slot / self.shape.cluster_ctas) as usize;
        let cluster = self.clusters[place].as_mut().expect("the cluster of a CTA is resident");
        cluster.alive -= 1;
        if cluster.alive == 0 {
            self.clusters[place] = None;
            self.resident -= 1;
        }
    }
}
