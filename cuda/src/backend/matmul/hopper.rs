//! Products of half types by a Hopper's copy engine and tensor cores: what the kernels of `kernels/matmul/hopper.cu` accept, what
//! each would cost, and how one is started.
//!
//! Whether a product goes this way hangs on the card, on how its operands lie and on nothing else: not on how many rows there are,
//! so that a row's bits do not depend on what else is in the batch. Which tile it gets is free, as each gives the same bits:
//! [`choose`] takes the one that costs least.

use crate::args::address;
use crate::context::Start;
use crate::gpu::{Cuda, typed};
use crate::kernels::Family;
use ptx::driver::{DriverError, Properties};
use ptx::tensor_map::{ElementType, L2Promotion, Swizzle, TensorMap};
use tensor::layout::Loops;
use tensor::{DType, Tensor};

/// Rows of C that a CTA computes at a time: `BM` in the kernel.
const ROWS: u64 = 128;
/// Steps of k that a stage holds: the 128 bytes of a swizzle pattern.
const DEPTH: u64 = 64;
/// Bytes of a row of a stage, or of a panel of C.
const ROW_BYTES: u64 = 128;

/// An operand: `m` rows (A) or `n` columns (B), each of k elements, and a batch of such. Strides are in elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Operand {
    /// From a row of A, or a column of B, to the next.
    pub stride: usize,
    /// From an element to the next in k.
    pub k_stride: usize,
    /// From a matrix of the batch to the next; 0 for one matrix for all.
    pub batch_stride: usize,
    /// Whether it starts at a multiple of 16 bytes.
    pub aligned: bool,
}

/// Which of an operand's dimensions runs fastest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Major {
    /// k.
    K,
    /// The rows of A, or the columns of B.
    Mn,
}

impl Operand {
    /// How the copy engine reads it, or `None` if it cannot: it takes strides of multiples of 16 bytes below 2^40, but one of 1.
    pub fn major(&self) -> Option<Major> {
        let fits = |stride: usize| stride > 0 && stride.is_multiple_of(8) && stride < 1 << 39;
        if !self.aligned || !(self.batch_stride == 0 || fits(self.batch_stride)) {
            return None;
        }
        match (self.k_stride, self.stride) {
            (1, s) if fits(s) => Some(Major::K),
            (s, 1) if fits(s) => Some(Major::Mn),
            _ => None,
        }
    }
}

/// `[batch, m, k] × [batch, k, n]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Product {
    /// bf16 or f16.
    pub dtype: DType,
    /// Rows of A and C.
    pub m: usize,
    /// Columns of B and C.
    pub n: usize,
    /// Terms of each sum.
    pub k: usize,
    /// Products.
    pub batch: usize,
    /// The left operand.
    pub a: Operand,
    /// The right operand.
    pub b: Operand,
}

impl Product {
    /// The product of `a` `[batch…, m, k]` and `b` `[batch…, k, n]`, whose batch dimensions make the loops `batch`; `None` if that
    /// takes more than one stride for each.
    pub fn of(cuda: &Cuda, a: &Tensor, b: &Tensor, batch: &Loops<2>) -> Option<Product> {
        let [a_batch, b_batch] = match batch.sizes[..] {
            [1] => [0, 0],
            [_] => batch.inner_strides(),
            _ => return None,
        };
        let lead = a.rank() - 2;
        let operand = |t: &Tensor, x: usize, k: usize, batch_stride: usize| Operand {
            stride: t.strides()[lead + x],
            k_stride: t.strides()[lead + k],
            batch_stride,
            aligned: address(&cuda.context, t).is_multiple_of(16),
        };
        Some(Product {
            dtype: a.dtype(),
            m: a.dims()[lead],
            n: b.dims()[lead + 1],
            k: a.dims()[lead + 1],
            batch: a.dims()[..lead].iter().product(),
            a: operand(a, 0, 1, a_batch),
            b: operand(b, 1, 0, b_batch),
        })
    }
}

/// A kernel of `kernels/matmul/hopper.cu`: 128 rows by so many columns per CTA, fed through a ring of stages, in clusters one
/// above the other that share the columns of B.
#[derive(Debug, PartialEq)]
pub struct Tile {
    /// Columns of C per CTA.
    pub columns: u64,
    /// Stages of shared memory.
    pub stages: u64,
    /// CTAs per cluster.
    pub cluster: u64,
}

/// All of them.
pub const TILES: [Tile; 2] = [Tile { columns: 256, stages: 3, cluster: 2 }, Tile { columns: 128, stages: 5, cluster: 1 }];

impl Tile {
    /// Bytes of dynamic shared memory per CTA: the stages, a tile of C, and what aligning them to 1024 may take.
    pub fn shared(&self) -> u64 {
        self.stages * (ROWS + self.columns) * ROW_BYTES + ROWS * self.columns * 2 + 1024
    }

    /// Clusters' worth of tiles in a product.
    fn tiles(&self, p: &Product) -> u64 {
        (p.m as u64).div_ceil(ROWS * self.cluster) * (p.n as u64).div_ceil(self.columns) * p.batch as u64
    }

    /// Clusters that a card runs at a time, one CTA per multiprocessor.
    fn side_by_side(&self, card: &Properties) -> u64 {
        (u64::from(card.multiprocessors) / self.cluster).max(1)
    }

    /// A card's clocks for a product, as an estimate to choose by: the waves of tiles, each the slower of its products (4096 FLOP
    /// per clock and multiprocessor) and of its loads (32 bytes per clock out of L2), and what it takes to begin and to end.
    pub fn cycles(&self, p: &Product, card: &Properties) -> u64 {
        let waves = self.tiles(p).div_ceil(self.side_by_side(card));
        let multiply = ROWS * self.columns * DEPTH * 2 / 4096;
        let load = (ROWS + self.columns / self.cluster) * ROW_BYTES / 32;
        let (begin, end) = (1500, 4 * self.columns);
        waves * ((p.k as u64).div_ceil(DEPTH) * multiply.max(load) + end) + begin
    }
}

/// Whether these kernels take a product on a card.
pub fn accepts(p: &Product, card: &Properties) -> bool {
    let small = |size: usize| (1..1 << 30).contains(&size);
    let tiles = TILES.iter().map(|t| t.tiles(p)).max().unwrap_or(0);
    card.capability.0 == 9
        && TILES.iter().all(|t| t.shared() <= u64::from(card.shared_per_block))
        && matches!(p.dtype, DType::BF16 | DType::F16)
        && [p.m, p.n, p.k, p.batch].into_iter().all(small)
        && tiles < 1 << 31
        && p.a.major().is_some()
        && p.b.major().is_some()
}

/// The tile that costs least, the first of equals; `None` if [`accepts`] says no.
pub fn choose(p: &Product, card: &Properties) -> Option<&'static Tile> {
    accepts(p, card).then(|| TILES.iter().min_by_key(|t| t.cycles(p, card)).expect("there are tiles"))
}

/// `count` rows or columns of an operand as the copy engine sees it, in boxes of 64 elements by `rows` where k runs fastest, and by
/// 64 of k where it does not.
fn map(cuda: &Cuda, t: &Tensor, o: &Operand, count: usize, p: &Product, rows: u64) -> Result<[u8; 128], DriverError> {
    let batch = if o.batch_stride == 0 { 1 } else { p.batch };
    let (inner, outer, stride, window) = match o.major().expect("`accepts` has seen to it") {
        Major::K => (p.k, count, o.stride, rows),
        Major::Mn => (count, p.k, o.k_stride, DEPTH),
    };
    // A stride over one matrix is read by nobody, but has to be one.
    let batch_stride = if o.batch_stride == 0 { stride } else { o.batch_stride };
    let element = if p.dtype == DType::BF16 { ElementType::Bf16 } else { ElementType::F16 };
    let dims = [inner, outer, batch].map(|n| n as u64);
    let dense = TensorMap::dense(element, address(&cuda.context, t), &dims, &[DEPTH as u32, window as u32, 1]);
    let strides = vec![2 * stride as u64, 2 * batch_stride as u64];
    cuda.context.tensor_map(&TensorMap { strides, swizzle: Swizzle::B128, l2_promotion: L2Promotion::B128, ..dense })
}

/// Fills `y` with the product by one tile's kernel of a family.
pub fn start(cuda: &Cuda, family: Family, tile: &Tile, p: &Product, y: &Tensor, a: &Tensor, b: &Tensor) {
    // The copy engine takes rows of multiples of 16 bytes; other results are stored by the warps.
    let store = p.n.is_multiple_of(8);
    let c = Operand { stride: p.n, k_stride: 1, batch_stride: p.m * p.n, aligned: true };
    let maps = || -> Result<[[u8; 128]; 3], DriverError> {
        let a_map = map(cuda, a, &p.a, p.m, p, ROWS)?;
        let b_map = map(cuda, b, &p.b, p.n, p, tile.columns / tile.cluster)?;
        let as_c = Product { k: p.n, ..*p };
        // Where it is not used, any map does.
        let c_map = if store { map(cuda, y, &c, p.m, &as_c, 64)? } else { a_map };
        Ok([a_map, b_map, c_map])
    };
    let args = cuda.args().tensor(y).reads(a).reads(b);
    let maps = maps().unwrap_or_else(|e| {
        cuda.context.fail("matmul", &e.to_string()); // and nothing is started while a fault waits
        [[0; 128]; 3]
    });
    let mut args = maps.iter().fold(args, |args, map| args.map(map));
    for number in [p.m, p.n, p.k, p.batch] {
        args = args.value(number as u32);
    }
    let args = args.flag(p.a.batch_stride != 0).flag(p.b.batch_stride != 0).flag(store);
    let letter = |o: &Operand, mn| if o.major() == Some(Major::K) { "k" } else { mn };
    let name = format!("hopper_{}_{}_{}{}", tile.columns, tile.cluster, letter(&p.a, "m"), letter(&p.b, "n"));
    let ctas = tile.tiles(p).min(tile.side_by_side(&cuda.context.properties)) * tile.cluster;
    let name = typed(&name, p.dtype);
    let start = Start::new(family, &name, ctas as usize, [384, 1]);
    cuda.start(&Start { cluster: tile.cluster as u32, shared: tile.shared() as u32, ..start }, &args, &[y]);
}
