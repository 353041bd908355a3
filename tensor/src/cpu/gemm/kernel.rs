//! The micro-kernels: a tile of C held in registers while k runs.
//!
//! One generic body, [`micro`], over a register type ([`Lanes`]) and the tile's size in rows and registers. For each k it
//! loads `NV` registers of the right operand and broadcasts `MR` elements of the left one, so the left operand may have
//! any strides and the right one must be contiguous along a row: that is why only the right one ever has to be packed.
//!
//! The body is instantiated for every number of rows up to [`Kernels::rows`], so a ragged edge costs what it holds, and
//! for one, two and (few rows) four registers a row. In each of them an element of C is the same chain of multiply-adds.

use crate::cpu::simd::{BASELINE_FMA, Isa, Real};

/// What a micro-kernel does with the tile that C already holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `C = 0 + Σ`: C is not read.
    Store,
    /// `C = C + (0 + Σ)`: the chain starts at zero and is added at its end.
    Add,
    /// `C = (C + …) + …`: the chain goes on from C.
    Resume,
}

/// One tile of C and the operands that make it.
///
/// `l` is read at `l + i * l_row + p * l_col` and `r` at `r + p * r_row + j`, for `p < k`.
#[derive(Clone, Copy)]
pub struct Tile<T> {
    pub k: usize,
    pub l: *const T,
    pub l_row: isize,
    pub l_col: isize,
    pub r: *const T,
    pub r_row: isize,
    pub c: *mut T,
    pub c_row: isize,
    /// Columns of the tile. The last register may be partly used; all others are full.
    pub cols: usize,
    pub mode: Mode,
}

/// A compiled micro-kernel.
///
/// # Safety
/// The processor has the kernel's instruction set, every address that [`Tile`] names is readable, and the tile of C is
/// writable and nobody else's.
pub type Kernel<T> = unsafe fn(&Tile<T>);

/// The micro-kernels of one element type and instruction set; entry `i` of a table makes tiles of `i + 1` rows.
pub struct Kernels<T: 'static> {
    /// Elements in a register.
    pub lanes: usize,
    /// One register wide.
    pub narrow: &'static [Kernel<T>],
    /// Two registers wide: the panel that packing makes.
    pub panel: &'static [Kernel<T>],
    /// Four registers wide, for few rows: enough chains in flight to hide the latency of an addition.
    pub wide: &'static [Kernel<T>],
    /// Transposes a square of `lanes` x `lanes`: `dst[j * dst_row + i] = src[i * src_row + j]`.
    pub transpose: unsafe fn(src: *const T, src_row: isize, dst: *mut T, dst_row: isize),
}

impl<T> Kernels<T> {
    /// The most rows that a tile of two registers a row can have.
    pub fn rows(&self) -> usize {
        self.panel.len()
    }

    /// The columns of a packed panel.
    pub fn panel_cols(&self) -> usize {
        2 * self.lanes
    }
}

/// Element types that have micro-kernels.
pub trait Micro: Real {
    /// The micro-kernels for `isa`, which the processor must have.
    fn kernels(isa: Isa) -> &'static Kernels<Self>;
}

/// A register of elements.
///
/// # Safety
/// Every method needs the instruction set of the register; `load*` and `store*` need that many valid elements at `p`.
trait Lanes<T>: Copy {
    const LANES: usize;
    unsafe fn splat(x: T) -> Self;
    unsafe fn load(p: *const T) -> Self;
    /// Loads the first `n` elements, touching no more; the others are zero.
    unsafe fn load_first(p: *const T, n: usize) -> Self;
    unsafe fn store(self, p: *mut T);
    unsafe fn store_first(self, p: *mut T, n: usize);
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;
    unsafe fn add(self, b: Self) -> Self;
}

/// A register that the compiler makes up from an array.
#[derive(Clone, Copy)]
struct Array<T, const N: usize>([T; N]);

impl<T: Real, const N: usize> Lanes<T> for Array<T, N> {
    const LANES: usize = N;
    #[inline(always)]
    unsafe fn splat(x: T) -> Self {
        Array([x; N])
    }
    #[inline(always)]
    unsafe fn load(p: *const T) -> Self {
        // SAFETY: the caller vouches for `N` elements; an array has the alignment of its element.
        Array(unsafe { *p.cast::<[T; N]>() })
    }
    #[inline(always)]
    unsafe fn load_first(p: *const T, n: usize) -> Self {
        let mut x = [T::default(); N];
        for (i, x) in x.iter_mut().enumerate().take(n) {
            // SAFETY: the caller vouches for `n` elements.
            *x = unsafe { *p.add(i) };
        }
        Array(x)
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut T) {
        // SAFETY: as in `load`.
        unsafe { *p.cast::<[T; N]>() = self.0 }
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut T, n: usize) {
        for (i, x) in self.0.into_iter().enumerate().take(n) {
            // SAFETY: as in `load_first`.
            unsafe { *p.add(i) = x }
        }
    }
    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        Array(std::array::from_fn(|i| self.0[i].fma::<BASELINE_FMA>(b.0[i], c.0[i])))
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        Array(std::array::from_fn(|i| self.0[i].plus(b.0[i])))
    }
}

/// Transposes a square element by element.
///
/// # Safety
/// `src` and `dst` are valid for `N` rows of `N` elements at their strides.
unsafe fn transpose_plain<T: Copy, const N: usize>(src: *const T, src_row: isize, dst: *mut T, dst_row: isize) {
    for j in 0..N as isize {
        for i in 0..N as isize {
            // SAFETY: in range by the contract above.
            unsafe { *dst.offset(j * dst_row + i) = *src.offset(i * src_row + j) }
        }
    }
}

/// The body of every micro-kernel.
///
/// # Safety
/// As [`Kernel`].
#[inline(always)]
unsafe fn micro<T: Real, V: Lanes<T>, const MR: usize, const NV: usize>(t: &Tile<T>) {
    // SAFETY: the caller's contract, passed on.
    unsafe {
        if t.cols == NV * V::LANES {
            run::<T, V, MR, NV, false>(t);
        } else {
            run::<T, V, MR, NV, true>(t);
        }
    }
}

/// [`micro`] for a last register that is full or, where `PARTIAL`, loaded and stored under a mask.
///
/// # Safety
/// As [`Kernel`].
#[inline(always)]
unsafe fn run<T: Real, V: Lanes<T>, const MR: usize, const NV: usize, const PARTIAL: bool>(t: &Tile<T>) {
    let last = t.cols - (NV - 1) * V::LANES;
    let Tile { k, l, l_row, l_col, mut r, r_row, c, c_row, mode, .. } = *t;
    // SAFETY: the caller's contract covers each address below. `l` and `r` step with `wrapping_offset`, because the step
    // after the last element may leave the operand.
    unsafe {
        let at = |i: usize, v: usize| c.offset(i as isize * c_row).add(v * V::LANES);
        let load = |p: *const T, v: usize| {
            if PARTIAL && v + 1 == NV { V::load_first(p, last) } else { V::load(p) }
        };
        let mut acc = [[V::splat(T::default()); NV]; MR];
        if mode == Mode::Resume {
            for (i, acc) in acc.iter_mut().enumerate() {
                for (v, acc) in acc.iter_mut().enumerate() {
                    *acc = load(at(i, v), v);
                }
            }
        }
        // A second pointer for the lower half of the rows, hidden from the compiler: it computes each row's address from the
        // one before, and one chain of such additions would take as long as the multiply-adds.
        let half = MR.div_ceil(2);
        let mut upper = l;
        let mut lower = std::hint::black_box(l.wrapping_offset(half as isize * l_row));
        for _ in 0..k {
            let mut right = [V::splat(T::default()); NV];
            for (v, right) in right.iter_mut().enumerate() {
                *right = load(r.add(v * V::LANES), v);
            }
            for (i, acc) in acc.iter_mut().enumerate() {
                let left = if i < half { upper.offset(i as isize * l_row) } else { lower.offset((i - half) as isize * l_row) };
                let left = V::splat(*left);
                for (acc, right) in acc.iter_mut().zip(right) {
                    *acc = left.mul_add(right, *acc);
                }
            }
            upper = upper.wrapping_offset(l_col);
            lower = lower.wrapping_offset(l_col);
            r = r.wrapping_offset(r_row);
        }
        for (i, acc) in acc.into_iter().enumerate() {
            for (v, mut acc) in acc.into_iter().enumerate() {
                let p = at(i, v);
                if mode == Mode::Add {
                    acc = load(p, v).add(acc);
                }
                if PARTIAL && v + 1 == NV { acc.store_first(p, last) } else { acc.store(p) }
            }
        }
    }
}

/// Instantiates [`micro`] into a [`Kernels`] table.
macro_rules! table {
    ($name:ident: $t:ty, $v:ty, transpose $transpose:expr, [$($n:literal)*], [$($p:literal)*], [$($w:literal)*] $(, $features:literal)?) => {
        pub(super) static $name: Kernels<$t> = {
            /// # Safety
            /// As [`Kernel`].
            $(#[target_feature(enable = $features)])?
            unsafe fn tile<const MR: usize, const NV: usize>(t: &Tile<$t>) {
                // SAFETY: passed on to the caller.
                unsafe { micro::<$t, $v, MR, NV>(t) }
            }
            Kernels {
                lanes: <$v as Lanes<$t>>::LANES,
                narrow: &[$(tile::<$n, 1>),*],
                panel: &[$(tile::<$p, 2>),*],
                wide: &[$(tile::<$w, 4>),*],
                transpose: $transpose,
            }
        };
    };
}

// On SSE2 a tile of 4 x 2 registers leaves eight of the sixteen for operands; NEON has 32.
table!(PORTABLE_F32: f32, Array<f32, 4>, transpose transpose_plain::<f32, 4>, [1 2 3 4], [1 2 3 4], [1 2]);
table!(PORTABLE_F64: f64, Array<f64, 2>, transpose transpose_plain::<f64, 2>, [1 2 3 4], [1 2 3 4], [1 2]);

#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "x86_64")]
use x86::{AVX2_F32, AVX2_F64, AVX512_F32, AVX512_F64};

impl Micro for f32 {
    fn kernels(isa: Isa) -> &'static Kernels<f32> {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => &AVX512_F32,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &AVX2_F32,
            _ => &PORTABLE_F32,
        }
    }
}

impl Micro for f64 {
    fn kernels(isa: Isa) -> &'static Kernels<f64> {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => &AVX512_F64,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &AVX2_F64,
            _ => &PORTABLE_F64,
        }
    }
}
