//! The kernel that runs: what stays the same during a launch.

use super::grid::{Grid, SM_THREADS, unlinear};
use super::lanes::{ALL, Regs};
use super::warp::Warp;
use crate::hazard::{Place, Site};
use crate::ir::program::handle;
use crate::ir::{Class, Constant, Entry, Program, Special};
use crate::mem::{Home, Local, WarpOrder};
use crate::request::{Launch, Options};

/// A kernel with all that its launch says.
#[derive(Clone)]
pub struct Kernel<'g> {
    pub program: &'g Program,
    pub entry: &'g Entry,
    pub options: &'g Options,
    pub launch: &'g Launch,
    pub grid: Grid,
    /// Addresses of the module's variables.
    pub globals: &'g [u64],
    /// The kernel's parameters.
    pub parameters: Vec<u8>,
    /// Their address.
    pub params: u64,
    /// Address of what the CTAs of a cooperative launch synchronise by; 0 for other launches.
    pub workspace: u64,
    /// Drawn once a launch: what `elect.sync` draws from.
    pub election: u32,
}

impl Kernel<'_> {
    /// Turns a site into lines, thread and CTA.
    pub fn place(&self, site: Site) -> Place {
        let (_, ptx_line, source) = self.program.line(site.pc);
        let (cta, warp) = (site.warp / self.grid.warps, site.warp % self.grid.warps);
        let thread = warp * 32 + u32::from(site.lane);
        Place { ptx_line, source, thread: unlinear(thread, self.grid.block), cta: self.grid.cta_id(cta) }
    }

    /// Warp `index` of the CTA with this `%ctaid`, in its slot, as it starts.
    pub fn new_warp(&self, slot: u32, cta: [u32; 3], index: u32, order: WarpOrder) -> Warp {
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
        let n = self.grid.cluster_ctas;
        let home = Home { base: slot - slot % n, rank: slot % n, size: n };
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
        let grid = &self.grid;
        let dim = |v: [u32; 3], d: u8, w: u32| v.get(d as usize).copied().unwrap_or(w);
        let tid = unlinear(warp * 32 + lane, grid.block);
        let rank = slot % grid.cluster_ctas;
        let in_cluster = [0, 1, 2].map(|d| cta[d] % grid.cluster[d]);
        u64::from(match s {
            Special::Tid(d) => dim(tid, d, 0),
            Special::Ntid(d) => dim(grid.block, d, 0),
            Special::Ctaid(d) => dim(cta, d, 0),
            Special::Nctaid(d) => dim(grid.extent, d, 0),
            Special::Clusterid(d) => dim([0, 1, 2].map(|d| cta[d] / grid.cluster[d]), d, 0),
            Special::Nclusterid(d) => dim(grid.clusters_extent(), d, 0),
            Special::ClusterCtaid(d) => dim(in_cluster, d, 0),
            Special::ClusterNctaid(d) => dim(grid.cluster, d, 0),
            Special::ClusterCtarank => rank,
            Special::ClusterNctarank => grid.cluster_ctas,
            Special::IsExplicitCluster => u32::from(grid.cluster_ctas > 1 || self.entry.explicit_cluster),
            Special::LaneId => lane,
            Special::WarpId => warp,
            Special::NWarpId => SM_THREADS / 32,
            Special::SmId => slot % self.options.multiprocessors.max(1),
            Special::NSmId => self.options.multiprocessors,
            Special::GridId => 1,
            Special::LanemaskEq => 1 << lane,
            Special::LanemaskLe => ALL >> (31 - lane),
            Special::LanemaskLt => (1 << lane) - 1,
            Special::LanemaskGe => ALL << lane,
            Special::LanemaskGt => (ALL << lane) << 1,
            Special::TotalSmemSize | Special::AggrSmemSize => grid.shared_bytes,
            Special::DynamicSmemSize => self.launch.shared_bytes,
            // Where cooperative groups look for the grid's workspace.
            Special::Envreg(1) => (self.workspace >> 32) as u32,
            Special::Envreg(2) => self.workspace as u32,
            Special::PerformanceMonitor | Special::ReservedSmemOffset(_) | Special::Envreg(_) | Special::CurrentGraphExec => 0,
        })
    }
}
