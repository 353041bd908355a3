//! The CTAs that are resident: their warps, their barriers, and what their warpgroups have in flight.

use super::registers::Registers;
use super::warp::Warp;
use super::wgmma::Warpgroup;
use crate::mem::{Clock, SyncPoint, Synced};

/// The CTAs by slot, those of a cluster side by side, and the clusters.
pub struct Residents {
    /// `None`: the slot is free.
    pub ctas: Vec<Option<Cta>>,
    /// Cluster `i` has the slots from `i * cluster_ctas` on.
    pub clusters: Vec<Option<Cluster>>,
    pub cluster_ctas: u32,
}

impl Residents {
    /// Room for so many clusters.
    pub fn new(clusters: u32, cluster_ctas: u32) -> Residents {
        Residents {
            ctas: (0..clusters * cluster_ctas).map(|_| None).collect(),
            clusters: (0..clusters).map(|_| None).collect(),
            cluster_ctas,
        }
    }

    /// The CTA of a warp.
    pub fn cta(&mut self, slot: u32) -> &mut Cta {
        self.ctas[slot as usize].as_mut().expect("a warp's CTA is resident")
    }

    /// The cluster of a CTA.
    pub fn cluster(&mut self, slot: u32) -> &mut Cluster {
        self.clusters[(slot / self.cluster_ctas) as usize].as_mut().expect("a CTA's cluster is resident")
    }
}

/// A CTA that is resident.
pub struct Cta {
    /// `%ctaid`
    pub id: [u32; 3],
    /// Its warps; the one that runs is taken out.
    pub warps: Vec<Option<Box<Warp>>>,
    /// Warps that have not ended.
    pub alive: u32,
    pub barriers: [NamedBarrier; 16],
    pub warpgroups: Vec<Warpgroup>,
    pub registers: Registers,
    /// What the warps that have ended knew.
    pub known: Clock,
}

/// A cluster that is resident.
pub struct Cluster {
    /// CTAs that have not ended.
    pub alive: u32,
    /// `barrier.cluster`
    pub barrier: ClusterBarrier,
}

/// How a barrier combines the threads' predicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduce {
    /// Number of threads for which it holds.
    Popc,
    /// Whether it holds for all.
    And,
    /// Whether it holds for any.
    Or,
}

/// State of one named barrier of a CTA.
#[derive(Debug, Default)]
pub struct NamedBarrier {
    /// Threads that have arrived.
    pub arrived: u32,
    /// Threads that were asked for; `None`: the whole CTA.
    pub count: Option<u32>,
    /// Warps (number in the CTA) that have arrived, with their lanes, and whether they wait.
    pub warps: Vec<(u32, u32, bool)>,
    /// What they know.
    pub point: SyncPoint,
    /// Counts completions.
    pub generation: u64,
    /// Threads whose predicate held.
    pub popc: u32,
    /// Threads that gave one.
    pub voters: u32,
    /// Who gets the reduction: warp, lanes, kind, destination.
    pub results: Vec<(u32, u32, Reduce, u16)>,
    /// Instruction that arrived first.
    pub first: Option<(u32, u32)>,
    /// Warps that arrived the last time it completed.
    pub before: Vec<u32>,
}

/// State of a cluster's barrier.
#[derive(Debug, Default)]
pub struct ClusterBarrier {
    /// Threads that have arrived.
    pub arrived: u32,
    /// Counts completions.
    pub generation: u64,
    pub point: SyncPoint,
    /// What the last completion gives to those who wait.
    pub synced: Option<Synced>,
    /// Lanes that have arrived in this phase and not waited yet, by warp: (slot, warp, lanes, generation).
    pub pending: Vec<(u32, u32, u32, u64)>,
}

impl NamedBarrier {
    /// Threads that it waits for, in a CTA with so many warps left: those that have ended are not waited for.
    pub fn expected(&self, warps: u32) -> u32 {
        self.count.unwrap_or(32 * warps)
    }
}
