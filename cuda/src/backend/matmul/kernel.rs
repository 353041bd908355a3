//! [`Kernel`]: a kernel for products as a value, what it accepts, what it would cost, and the [`choose`] among all.
//!
//! The rung that a product goes to hangs on its dtype, on how its operands lie and on the card, not on how many rows there are, so
//! that a row's bits do not depend on what else is in the batch. Which of the rung's tiles it gets is free, as each gives the same
//! bits: the one that costs least.

use super::product::{Major, Product};
use crate::kernels::{self, Family};
use ptx::driver::Properties;
use tensor::DType;

/// Terms of k in a stage of half types: 128 bytes.
pub(super) const DEPTH: usize = 64;

/// How a kernel comes by its operands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Feed {
    /// Element by element, by strides.
    Elements,
    /// 16 bytes at a time, by strides.
    Chunks,
    /// Boxes, by the copy engine. `stays` for CTAs that take several tiles; `stores` if C leaves by the copy engine, too.
    Boxes { stays: bool, stores: bool },
}

/// A kernel of `kernels/matmul/`: which products it takes and what it needs of a card.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kernel {
    pub(super) family: Family,
    /// How its entries' names begin; the operands' layout follows, where it has one for each, and the dtype.
    pub(super) entry: &'static str,
    pub(super) feed: Feed,
    pub(super) dtypes: &'static [DType],
    /// How A and B may lie, as in the entries' names; empty for any way.
    pub(super) layouts: &'static [&'static str],
    /// Which rung of the ladder it stands on, from 1 on.
    pub rung: usize,
    /// Rows and columns of C per CTA.
    pub tile: [usize; 2],
    /// Stages of dynamic shared memory.
    pub stages: usize,
    /// Terms of k that a stage has of both operands.
    pub depth: usize,
    /// CTAs per cluster, one above the other.
    pub cluster: usize,
    /// Threads per CTA.
    pub threads: u32,
    /// Floating-point operations per clock and multiprocessor while nothing keeps it waiting.
    pub rate: usize,
}

const HALVES: &[DType] = &[DType::BF16, DType::F16];
const ANY_LAYOUT: &[&str] = &["kk", "kn", "mk", "mn"];
const K_MAJOR_A: &[&str] = &["kk", "kn"];

/// A kernel that reads single elements.
const fn elements(
    rung: usize,
    family: Family,
    entry: &'static str,
    dtypes: &'static [DType],
    side: usize,
    threads: u32,
) -> Kernel {
    let (feed, tile) = (Feed::Elements, [side; 2]);
    Kernel { family, entry, feed, dtypes, layouts: &[], rung, tile, stages: 0, depth: DEPTH, cluster: 1, threads, rate: 32 }
}

/// A kernel with a ring of stages.
const fn ring(rung: usize, family: Family, entry: &'static str, feed: Feed, tile: [usize; 2], stages: usize) -> Kernel {
    let (dtypes, layouts, depth, cluster) = (HALVES, ANY_LAYOUT, DEPTH, 1);
    Kernel { family, entry, feed, dtypes, layouts, rung, tile, stages, depth, cluster, threads: 384, rate: 4096 }
}

/// A kernel for f32 on the CUDA cores.
const fn registers(entry: &'static str, side: usize, threads: u32, rate: usize) -> Kernel {
    let kernel = ring(3, kernels::MATMUL_REGISTERS, entry, Feed::Chunks, [side; 2], 3);
    Kernel { dtypes: &[DType::F32], depth: 16, threads, rate, ..kernel }
}

/// A rung on the way to the last: bf16 alone, and rows of A along k.
const fn on_the_way(kernel: Kernel) -> Kernel {
    Kernel { dtypes: &[DType::BF16], layouts: K_MAJOR_A, ..kernel }
}

const NAIVE_DTYPES: &[DType] = &[DType::F32, DType::BF16, DType::F16];
const CUDA_CORE_DTYPES: &[DType] = &[DType::F64, DType::F32, DType::I64, DType::I32, DType::U8, DType::Bool];
const LEAVES: Feed = Feed::Boxes { stays: false, stores: false };
const STAYS: Feed = Feed::Boxes { stays: true, stores: false };
const STORES: Feed = Feed::Boxes { stays: true, stores: true };

/// All kernels, from the bottom of the ladder to its top; of equals the first is chosen.
pub static KERNELS: [Kernel; 16] = [
    elements(1, kernels::MATMUL_NAIVE, "matmul_naive", NAIVE_DTYPES, 16, 256),
    Kernel { rate: 96, ..elements(2, kernels::MATMUL_SHARED_TILES, "matmul_64", CUDA_CORE_DTYPES, 64, 256) },
    elements(2, kernels::MATMUL_SHARED_TILES, "matmul_8", CUDA_CORE_DTYPES, 8, 64),
    Kernel { rate: 384, ..elements(2, kernels::MATMUL_SHARED_TILES, "matmul_64", HALVES, 64, 128) },
    Kernel { rate: 128, ..elements(2, kernels::MATMUL_SHARED_TILES, "matmul_16", HALVES, 16, 32) },
    Kernel { threads: 256, rate: 2048, ..ring(3, kernels::MATMUL_MMA_SYNC, "matmul_mma_128", Feed::Chunks, [128, 128], 3) },
    Kernel { threads: 128, rate: 1024, ..ring(3, kernels::MATMUL_MMA_SYNC, "matmul_mma_64", Feed::Chunks, [64, 64], 3) },
    registers("matmul_registers_128", 128, 256, 192),
    registers("matmul_registers_32", 32, 64, 96),
    Kernel { threads: 128, ..on_the_way(ring(4, kernels::MATMUL_WGMMA, "matmul_wgmma_128_1", LEAVES, [128, 128], 1)) },
    on_the_way(ring(5, kernels::MATMUL_SPECIALISED, "matmul_specialised_256_1", LEAVES, [128, 256], 4)),
    on_the_way(ring(6, kernels::MATMUL_PERSISTENT, "matmul_persistent_256_1", STAYS, [128, 256], 4)),
    on_the_way(ring(7, kernels::MATMUL_PARITY, "matmul_parity_256_1", STAYS, [128, 256], 4)),
    Kernel { cluster: 2, ..on_the_way(ring(8, kernels::MATMUL_MULTICAST, "matmul_multicast_256_2", STAYS, [128, 256], 4)) },
    Kernel { cluster: 2, ..ring(9, kernels::MATMUL_STORE, "matmul_store_256_2", STORES, [128, 256], 3) },
    ring(9, kernels::MATMUL_STORE, "matmul_store_128_1", STORES, [128, 128], 5),
];

impl Kernel {
    /// The source's name without its folder and ending, and the tile: `9_store 128x256`.
    pub fn name(&self) -> String {
        let [rows, columns] = self.tile;
        format!("{} {rows}x{columns}", self.family.name.rsplit('/').next().unwrap_or_default())
    }

    /// The kernel's name in the PTX for a product that it accepts.
    pub fn entry(&self, p: &Product) -> String {
        let layout = if self.layouts.is_empty() { String::new() } else { format!("_{}", layout(p).unwrap_or_default()) };
        crate::gpu::typed(&format!("{}{layout}", self.entry), p.dtype)
    }

    /// Bytes of dynamic shared memory per CTA: the stages; a tile of C, where it is stored from there; and what it may take to align
    /// them to 1024 for the copy engine.
    pub fn shared(&self) -> usize {
        let [rows, columns] = self.tile;
        let stages = self.stages * (rows + columns) * self.depth * self.dtypes[0].size();
        match self.feed {
            Feed::Elements | Feed::Chunks => stages,
            Feed::Boxes { stores, .. } => stages + if stores { rows * columns * 2 } else { 0 } + 1024,
        }
    }

    /// Clusters' worth of tiles in a product.
    fn tiles(&self, p: &Product) -> usize {
        p.m.div_ceil(self.tile[0] * self.cluster) * p.n.div_ceil(self.tile[1]) * p.batch
    }

    /// Clusters that a card runs at a time, one CTA per multiprocessor.
    fn side_by_side(&self, card: &Properties) -> usize {
        (card.multiprocessors as usize / self.cluster).max(1)
    }

    /// CTAs to start.
    pub(super) fn grid(&self, p: &Product, card: &Properties) -> usize {
        let stays = matches!(self.feed, Feed::Boxes { stays: true, .. });
        let clusters = if stays { self.tiles(p).min(self.side_by_side(card)) } else { self.tiles(p) };
        clusters * self.cluster
    }

    /// Whether it computes a product on a card.
    pub fn accepts(&self, p: &Product, card: &Properties) -> bool {
        let laid_out = self.layouts.is_empty() || layout(p).is_some_and(|layout| self.layouts.contains(&layout));
        // Positions are 32 bits wide; no grid has more CTAs.
        let small = [p.m, p.n, p.k, p.batch].into_iter().all(|size| size < 1 << 30) && self.tiles(p) < 1 << 30;
        let fits = match self.feed {
            Feed::Elements => true,
            Feed::Chunks => card.capability.0 >= 8 && small,
            // A tensor map has no dimension of size 0.
            Feed::Boxes { .. } => card.capability.0 == 9 && small && p.suits_tma() && p.m * p.n * p.k * p.batch > 0,
        };
        fits && laid_out && self.dtypes.contains(&p.dtype) && self.shared() <= card.shared_per_block as usize
    }

    /// A card's clocks for a product, as an estimate to choose a tile by: of each tile the slower of its products and of its loads
    /// (32 bytes per clock out of L2), and what it takes to begin and to end.
    pub fn cycles(&self, p: &Product, card: &Properties) -> usize {
        let [rows, columns] = self.tile;
        let multiply = rows * columns * DEPTH * 2 / self.rate;
        let load = (rows + columns / self.cluster) * DEPTH * p.dtype.size() / 32;
        let step = p.k.div_ceil(DEPTH) * multiply.max(load);
        let (begin, tiles) = (1500, self.tiles(p));
        match self.feed {
            // Several share a multiprocessor, and fill each other's gaps.
            Feed::Elements | Feed::Chunks => begin + (tiles * (step + columns)).div_ceil(card.multiprocessors.max(1) as usize),
            Feed::Boxes { .. } => begin + tiles.div_ceil(self.side_by_side(card)) * (step + 4 * columns),
        }
    }
}

/// How the operands lie, as in the entries' names.
fn layout(p: &Product) -> Option<&'static str> {
    Some(match (p.a.major(p.dtype)?, p.b.major(p.dtype)?) {
        (Major::K, Major::K) => "kk",
        (Major::K, Major::Mn) => "kn",
        (Major::Mn, Major::K) => "mk",
        (Major::Mn, Major::Mn) => "mn",
    })
}

/// The kernel for a product: of the highest rung that has one which accepts it, but not one on the way, the tile that costs least.
/// `None` for a dtype that has no products.
pub fn choose(p: &Product, card: &Properties) -> Option<&'static Kernel> {
    let accepting = || KERNELS.iter().filter(|k| k.accepts(p, card));
    let rung = accepting().filter(|k| !ON_THE_WAY.contains(&k.rung)).map(|k| k.rung).max()?;
    accepting().filter(|k| k.rung == rung).min_by_key(|k| k.cycles(p, card))
}

/// Rungs that only lead to the last: it takes what they take.
const ON_THE_WAY: std::ops::RangeInclusive<usize> = 4..=8;
