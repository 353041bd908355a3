//! A launch's grid in numbers, checked.

use crate::ir::Entry;
use crate::request::Launch;

/// Threads that an SM holds.
pub const SM_THREADS: u32 = 2048;
/// Registers of an SM.
const SM_REGISTERS: u32 = 65_536;
/// Shared memory of an SM, of which each CTA costs 1 KiB beside its own.
const SM_SHARED: u32 = 228 * 1024;
/// The most shared memory a CTA may have.
const MAX_SHARED: u32 = 227 * 1024;

/// The position of element `i` of an array of extents `e`, first extent fastest.
pub fn unlinear(i: u32, e: [u32; 3]) -> [u32; 3] {
    [i % e[0], i / e[0] % e[1], i / e[0] / e[1]]
}

/// Elements of an array of these extents, or `u64::MAX` if there are more.
fn volume(extents: [u32; 3]) -> u64 {
    extents.iter().fold(1, |n, &e| u64::saturating_mul(n, e.into()))
}

/// CTAs that an SM has room for: by their threads, by their shared memory, by their registers (so many a thread; 0 if nothing is known about
/// them, and then they are not what keeps CTAs out), and at all.
pub fn room(warps: u32, shared_bytes: u32, registers: u32) -> [u32; 4] {
    // Registers are given to warps in blocks of 256.
    let registers = registers.next_multiple_of(8).max(1);
    [SM_THREADS / (warps * 32), SM_SHARED / (shared_bytes + 1024), SM_REGISTERS / (registers * warps * 32), 32]
}

/// CTAs, clusters, warps and threads of a launch.
#[derive(Clone)]
pub struct Grid {
    /// CTAs in the grid.
    pub extent: [u32; 3],
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
    /// Clusters that the device holds at once.
    pub max_resident: u32,
    /// Static and dynamic shared memory of a CTA.
    pub shared_bytes: u32,
}

impl Grid {
    /// `%ctaid` of the CTA with linear number `linear` in the order in which CTAs start: cluster by cluster.
    pub fn cta_id(&self, linear: u32) -> [u32; 3] {
        let c = unlinear(linear / self.cluster_ctas, self.clusters_extent());
        let r = unlinear(linear % self.cluster_ctas, self.cluster);
        [0, 1, 2].map(|d| c[d] * self.cluster[d] + r[d])
    }

    /// The clusters, by dimension.
    pub fn clusters_extent(&self) -> [u32; 3] {
        [0, 1, 2].map(|d| self.extent[d] / self.cluster[d])
    }

    /// CTAs of the grid.
    pub fn ctas(&self) -> u64 {
        volume(self.extent)
    }

    /// The grid of a launch of this kernel on so many multiprocessors, or why it cannot be.
    pub fn new(launch: &Launch, entry: &Entry, sms: u32) -> Result<Grid, String> {
        let (mut grid, block) = (launch.grid, launch.block);
        let cluster = match (entry.reqnctapercluster, launch.cluster) {
            (Some(r), c) if c == [1, 1, 1] || c == r => r,
            (Some(r), c) => return Err(format!("the kernel requires a cluster of {r:?}, the launch asks for {c:?}")),
            (None, c) => c,
        };
        if grid.contains(&0) || block.contains(&0) || cluster.contains(&0) {
            return Err(format!("an extent is zero: grid {grid:?}, block {block:?}, cluster {cluster:?}"));
        }
        if entry.blocks_are_clusters {
            grid = [0, 1, 2].map(|d| grid[d].saturating_mul(cluster[d]));
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
        if let Some(most) = entry.maxclusterrank.filter(|most| cluster_ctas > u64::from(*most)) {
            return Err(format!("cluster {cluster:?} has more CTAs than .maxclusterrank {most}"));
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
        let registers = launch.registers.or(entry.maxnreg).unwrap_or(0).next_multiple_of(8).max(1);
        let room = room(warps, shared_bytes, registers);
        let [by_threads, by_shared, by_registers, _] = room;
        if by_registers == 0 {
            return Err(format!(
                "block {block:?} of {registers} registers a thread needs {}; an SM has {SM_REGISTERS}",
                registers * warps * 32
            ));
        }
        let per_sm = room.into_iter().min().expect("four numbers").max(1);
        let max_resident = (sms * per_sm / cluster_ctas).max(1);
        let clusters = (ctas / u64::from(cluster_ctas)) as u32;
        if launch.cooperative && clusters > max_resident {
            let most = max_resident * cluster_ctas;
            return Err(format!(
                "a cooperative launch needs all {ctas} CTAs at once, and {most} are the most here: an SM has room for {by_threads} \
                 by their threads, {by_shared} by shared memory, {by_registers} by registers, and there are {sms} SMs"
            ));
        }
        Ok(Grid { extent: grid, block, cluster, threads, warps, cluster_ctas, clusters, max_resident, shared_bytes })
    }
}
