//! Reading and writing at positions given by integer tensors.

use crate::device::Device;
use crate::dtype::{DType, Scalar};
use crate::operation::operation;
use crate::ops::binary::Operand;
use crate::refuse;
use crate::shape::{Shape, resolve_dim};
use crate::tensor::Tensor;

/// How often [`Tensor::repeat_interleave`] repeats.
#[derive(Clone, Copy, Debug)]
pub enum Repeats<'a> {
    /// Every element equally often.
    Each(usize),
    /// A 1-d integer tensor: its own count for each element, or one for all.
    Counts(&'a Tensor),
}

impl From<usize> for Repeats<'_> {
    fn from(n: usize) -> Self {
        Repeats::Each(n)
    }
}
impl<'a> From<&'a Tensor> for Repeats<'a> {
    fn from(t: &'a Tensor) -> Self {
        Repeats::Counts(t)
    }
}

impl Repeats<'_> {
    /// The positions, 0 to `n − 1`, each as often as it is repeated.
    ///
    /// # Panics
    /// If the counts are not one an element, or negative.
    #[track_caller]
    pub fn positions(&self, n: usize, device: &Device) -> Tensor {
        operation("positions", || {
            let counts = match self {
                Repeats::Each(c) => {
                    Shape::from([n, *c]).expect_fits();
                    let once = Tensor::arange(0, n as i64, 1, DType::I64, device);
                    return once.unsqueeze(1).broadcast_to([n, *c]).flatten(0, -1);
                }
                Repeats::Counts(t) => {
                    if !t.dtype().is_int() || t.rank() > 1 || (t.numel() != n && t.numel() != 1) {
                        refuse!("repeats {t:?} for {n} elements");
                    }
                    let counts = t.to_dtype(DType::I64).to_vec::<i64>();
                    if counts.len() == n { counts } else { vec![counts[0]; n] }
                }
            };
            if counts.iter().any(|&c| c < 0) {
                refuse!("a count is negative");
            }
            let positions: Vec<i64> = counts.iter().enumerate().flat_map(|(i, &c)| (0..c).map(move |_| i as i64)).collect();
            Tensor::from_slice(&positions, positions.len(), device)
        })
    }
}

impl Tensor {
    /// `out[i][j] = x[index[i][j]][j]` for `dim` 0, and likewise for the others. The result has the shape of `index`.
    ///
    /// # Panics
    /// If `index` is not an integer tensor of as many dimensions, is larger than `x` in another dimension, or holds a position
    /// that does not exist.
    #[track_caller]
    pub fn gather(&self, dim: isize, index: &Tensor) -> Tensor {
        operation("gather", || {
            let shape = index.shape();
            let (x, index, d) = self.prepare(dim, index);
            if index.numel() == 0 {
                // As in PyTorch, of any rank.
                return Tensor::zeros(shape.clone(), self.dtype(), self.device());
            }
            x.device().gather(&x, d, &index).reshape_to(shape)
        })
    }

    /// `x` with `src` (a tensor, or one number for all) written at `index`: `out[index[i][j]][j] = src[i][j]` for `dim` 0. Where
    /// positions repeat, the last one wins.
    ///
    /// # Panics
    /// If `index` is larger than `x` (outside `dim`) or than `src`, dtypes differ, or a position does not exist.
    #[track_caller]
    pub fn scatter<'a>(&self, dim: isize, index: &Tensor, src: impl Into<Operand<'a>>) -> Tensor {
        operation("scatter", || match src.into() {
            Operand::Tensor(src) => self.scattered(dim, index, src, false),
            Operand::Scalar(s) => {
                let src = Tensor::full(index.shape().clone(), s, self.dtype(), self.device());
                self.scattered(dim, index, &src, false)
            }
        })
    }

    /// `x` with `src` added at `index`, in ascending order of `src`'s elements: deterministic. Integers wrap; of bools, or. Along a
    /// dimension of more than 1,024 positions f32 (and so the half types) is added up in f64: the error does not grow with their number.
    ///
    /// # Panics
    /// As [`Tensor::scatter`].
    #[track_caller]
    pub fn scatter_add(&self, dim: isize, index: &Tensor, src: &Tensor) -> Tensor {
        operation("scatter_add", || self.scattered(dim, index, src, true))
    }

    fn scattered(&self, dim: isize, index: &Tensor, src: &Tensor, add: bool) -> Tensor {
        if src.dtype() != self.dtype() {
            refuse!("src is {}, expected {}", src.dtype(), self.dtype());
        }
        if index.numel() == 0 {
            return self.clone();
        }
        if add && self.dtype() == DType::Bool {
            let [x, src] = [self, src].map(|t| t.to_dtype(DType::I64));
            return x.scattered(dim, index, &src, add).to_dtype(DType::Bool);
        }
        let (x, index, d) = self.prepare(dim, index);
        let mut src = if src.rank() == 0 { src.unsqueeze(0) } else { src.clone() };
        if src.rank() != index.rank() || (0..src.rank()).any(|i| index.dims()[i] > src.dims()[i]) {
            refuse!("index of shape {} is larger than src of shape {}", index.shape(), src.shape());
        }
        for i in 0..src.rank() {
            src = src.narrow(i as isize, 0, index.dims()[i]);
        }
        x.device().scatter(&x, d, &index, &src, add).reshape_to(self.shape())
    }

    /// The slices of `x` along `dim` at the positions of a 1-d (or 0-d) integer `index`.
    ///
    /// # Panics
    /// If `index` is not such a tensor or holds a position that does not exist.
    #[track_caller]
    pub fn index_select(&self, dim: isize, index: &Tensor) -> Tensor {
        operation("index_select", || {
            let index = positions(index);
            let d = resolve_dim(dim, self.rank());
            if self.rank() == 0 {
                return self.unsqueeze(0).index_select(0, &index).squeeze(0);
            }
            self.check_range(&index, d);
            self.device().index_select(self, d, &index)
        })
    }

    /// `x` with `alpha` times the slices of `src` added along `dim` at the positions of a 1-d (or 0-d) integer `index`, in
    /// ascending order: deterministic. Integers wrap; of bools, or. More than 1,024 positions are added up as in
    /// [`Tensor::scatter_add`].
    ///
    /// # Panics
    /// If the shapes of `x` and `src` differ outside `dim`, `src` does not have one slice a position, dtypes differ, or a
    /// position does not exist.
    #[track_caller]
    pub fn index_add(&self, dim: isize, index: &Tensor, src: &Tensor, alpha: impl Into<Scalar>) -> Tensor {
        operation("index_add", || {
            let index = positions(index);
            if src.dtype() != self.dtype() {
                refuse!("src is {}, expected {}", src.dtype(), self.dtype());
            }
            let alpha = alpha.into();
            if self.dtype() == DType::Bool {
                let src = src.mul(alpha).to_dtype(DType::Bool).to_dtype(DType::I64);
                return self.to_dtype(DType::I64).index_add(dim, &index, &src, 1).to_dtype(DType::Bool);
            }
            if self.rank() == 0 {
                let src = if src.rank() == 0 { src.unsqueeze(0) } else { src.clone() };
                return self.unsqueeze(0).index_add(0, &index, &src, alpha).squeeze(0);
            }
            let d = resolve_dim(dim, self.rank());
            let src = if src.rank() == 0 { src.unsqueeze(0) } else { src.clone() };
            let fits = src.rank() == self.rank()
                && (0..self.rank()).all(|i| src.dims()[i] == if i == d { index.numel() } else { self.dims()[i] });
            if !fits {
                refuse!(
                    "src of shape {} does not fit {} positions along dimension {d} of {}",
                    src.shape(),
                    index.numel(),
                    self.shape()
                );
            }
            self.check_range(&index, d);
            self.device().index_add(self, d, &index, &src, alpha)
        })
    }

    /// As [`Tensor::gather`], with `x` and `index` broadcast to each other outside `dim`; on the flattened tensors for `None`. Negative
    /// positions count from the end.
    ///
    /// # Panics
    /// As [`Tensor::gather`].
    #[track_caller]
    pub fn take_along_dim(&self, index: &Tensor, dim: Option<isize>) -> Tensor {
        operation("take_along_dim", || {
            let Some(dim) = dim else {
                return self.flatten(0, -1).take_along_dim(&index.flatten(0, -1), Some(0));
            };
            let (x, index) = self.align_along(dim, index);
            x.gather(dim, &index)
        })
    }

    /// `x` and `index` broadcast to each other in every dimension but `dim`; negative positions become those they stand for.
    ///
    /// # Panics
    /// If `index` is not an integer tensor of as many dimensions, or the shapes do not broadcast.
    #[track_caller]
    pub fn align_along(&self, dim: isize, index: &Tensor) -> (Tensor, Tensor) {
        operation("align_along", || {
            if !index.dtype().is_int() {
                refuse!("the index is {}, expected integers", index.dtype());
            }
            if self.rank() != index.rank() {
                refuse!("index of shape {} for a tensor of shape {}", index.shape(), self.shape());
            }
            let d = resolve_dim(dim, self.rank());
            let n = self.dims().get(d).copied().unwrap_or(1) as i64;
            // One that does not exist stays as it was given, and is named so.
            let from_end = index.add(n);
            let index = &Tensor::where_(&index.lt(0).logical_and(&from_end.ge(0)), &from_end, index);
            if self.rank() == 0 {
                return (self.clone(), index.clone());
            }
            let one = |t: &Tensor| t.shape().with(d, 1);
            let Some(common) = one(self).broadcast(&one(index)) else {
                refuse!("shapes {} and {} do not broadcast outside dimension {d}", self.shape(), index.shape());
            };
            (self.broadcast_to(common.with(d, self.dims()[d])), index.broadcast_to(common.with(d, index.dims()[d])))
        })
    }

    /// Rows of `weight` `[vocabulary, dim]` at integer `ids` of any shape: `[…ids, dim]`.
    ///
    /// # Panics
    /// If `weight` is not a matrix, or an id does not exist.
    #[track_caller]
    pub fn embedding(weight: &Tensor, ids: &Tensor) -> Tensor {
        operation("embedding", || {
            if weight.rank() != 2 {
                refuse!("expected a weight matrix, got shape {}", weight.shape());
            }
            let rows = weight.index_select(0, &ids.flatten(0, -1));
            rows.reshape_to(&ids.dims().iter().copied().chain([weight.dims()[1]]).collect())
        })
    }

    /// Writes `src` `[batch, heads, len, dim]` into this tensor `[batch, heads, capacity, dim]` at
    /// `positions[b]..positions[b] + len` of each batch entry: how a key-value cache grows. In place if this tensor alone owns
    /// its memory, else into a copy; no other tensor ever sees the change.
    ///
    /// # Panics
    /// If shapes or dtypes do not fit, or a position lies beyond the capacity.
    #[track_caller]
    pub fn write_rows(&mut self, positions: &[usize], src: &Tensor) {
        operation("write_rows", || {
            let fits = self.rank() == 4
                && src.rank() == 4
                && src.dtype() == self.dtype()
                && [0, 1, 3].iter().all(|&d| src.dims()[d] == self.dims()[d])
                && positions.len() == src.dims()[0];
            if !fits {
                refuse!("src {src:?} with {} positions does not fit {self:?}", positions.len());
            }
            let room = self.dims()[2].checked_sub(src.dims()[2]);
            if let Some(p) = positions.iter().find(|&&p| room.is_none_or(|room| p > room)) {
                refuse!("{} rows from {p} exceed the capacity {}", src.dims()[2], self.dims()[2]);
            }
            let device = self.device().clone();
            device.write_rows(self, positions, src);
        })
    }

    /// Ranks made equal (a 0-d tensor counts as one element), index as i64 and checked.
    fn prepare(&self, dim: isize, index: &Tensor) -> (Tensor, Tensor, usize) {
        if !index.dtype().is_int() {
            refuse!("the index is {}, expected integers", index.dtype());
        }
        let lift = |t: &Tensor| if t.rank() == 0 { t.unsqueeze(0) } else { t.clone() };
        let (x, index) = (lift(self), lift(&index.to_dtype(DType::I64)));
        let d = resolve_dim(dim, x.rank());
        let fits = x.rank() == index.rank() && (0..x.rank()).all(|i| i == d || index.dims()[i] <= x.dims()[i]);
        if !fits && index.numel() > 0 {
            refuse!("index of shape {} does not fit a tensor of shape {} along dimension {d}", index.shape(), x.shape());
        }
        x.check_range(&index, d);
        (x, index, d)
    }

    fn check_range(&self, index: &Tensor, dim: usize) {
        if let Some(bad) = index.device().position_outside(index, self.dims()[dim]) {
            refuse!("position {bad} does not exist in dimension {dim} of shape {}", self.shape());
        }
    }
}

/// A 1-d (or 0-d) index as 1-d i64.
fn positions(index: &Tensor) -> Tensor {
    if !index.dtype().is_int() || index.rank() > 1 {
        refuse!("expected a 1-d integer index, got {index:?}");
    }
    index.to_dtype(DType::I64).reshape(&[-1])
}

pub(crate) mod cpu {
    use super::*;
    use crate::cpu::{CpuBuffer, Plus, build, build_looped, build_rows, dispatch, dispatch_bits, par_parts};
    use crate::layout::{Layout, Loops};
    use bytemuck::Pod;

    pub fn position_outside(index: &Tensor, size: usize) -> Option<i64> {
        index.contiguous().data::<i64>().iter().copied().find(|&i| i < 0 || i >= size as i64)
    }

    pub fn gather(x: &Tensor, dim: usize, index: &Tensor) -> Tensor {
        dispatch_bits!(x.dtype(), T => gather_bits::<T>(x, dim, index))
    }

    fn gather_bits<T: Pod + Send + Sync>(x: &Tensor, dim: usize, index: &Tensor) -> Tensor {
        // `x` with stride 0 along `dim` walks beside the index; the position adds what is missing.
        let mut base = x.layout().clone();
        let stride = base.strides[dim];
        base.strides[dim] = 0;
        base.shape = index.shape().clone();
        let loops = Loops::new([index.layout(), &base]);
        let (positions, source) = (index.raw::<i64>(), x.raw::<T>());
        let [si, sx] = loops.inner_strides();
        build_looped(index.shape(), x.dtype(), &loops, |[i, at], out: &mut [T]| {
            for (j, o) in out.iter_mut().enumerate() {
                *o = source[at + j * sx + positions[i + j * si] as usize * stride];
            }
        })
    }

    /// So many terms may be added one after the other in f32, which costs at most as many roundings.
    const IN_TURN: usize = 1024;

    /// `add` in f64 where `terms` are too many for f32.
    fn in_f64(terms: usize, x: &Tensor, src: &Tensor, add: impl Fn(&Tensor, &Tensor) -> Tensor) -> Tensor {
        let wide = if x.dtype() == DType::F32 && terms > IN_TURN { DType::F64 } else { x.dtype() };
        add(&x.to_dtype(wide), &src.to_dtype(wide)).to_dtype(x.dtype())
    }

    pub fn scatter(x: &Tensor, dim: usize, index: &Tensor, src: &Tensor, add: bool) -> Tensor {
        if !add {
            return dispatch_bits!(x.dtype(), T => scatter_into::<T>(x, dim, index, src, |o, v| *o = v));
        }
        in_f64(
            index.dims()[dim],
            x,
            src,
            |x, src| dispatch!(x.dtype(), T => scatter_into::<T>(x, dim, index, src, |o, v| *o = o.plus(v))),
        )
    }

    fn scatter_into<T: Pod>(x: &Tensor, dim: usize, index: &Tensor, src: &Tensor, put: impl Fn(&mut T, T)) -> Tensor {
        let x = x.contiguous();
        let mut base = Layout::contiguous(x.shape().clone());
        let stride = base.strides[dim];
        base.strides[dim] = 0;
        base.shape = index.shape().clone();
        let loops: Loops<3> = Loops::new([index.layout(), src.layout(), &base]);
        let (positions, source) = (index.raw::<i64>(), src.raw::<T>());
        let (n, [si, ss, so]) = (loops.inner(), loops.inner_strides());
        build(x.shape().clone(), x.dtype(), |out: &mut [T]| {
            out.copy_from_slice(x.data::<T>());
            loops.for_rows(0, index.numel() / n.max(1), |_, [i, s, o]| {
                for j in 0..n {
                    put(&mut out[o + j * so + positions[i + j * si] as usize * stride], source[s + j * ss]);
                }
            });
        })
    }

    /// Sizes before, along and after `dim`.
    fn split(x: &Tensor, dim: usize) -> (usize, usize, usize) {
        let d = x.dims();
        (d[..dim].iter().product(), d[dim], d[dim + 1..].iter().product())
    }

    pub fn index_select(x: &Tensor, dim: usize, index: &Tensor) -> Tensor {
        dispatch_bits!(x.dtype(), T => select_bits::<T>(&x.contiguous(), dim, &index.contiguous()))
    }

    fn select_bits<T: Pod + Send + Sync>(x: &Tensor, dim: usize, index: &Tensor) -> Tensor {
        let (_, size, inner) = split(x, dim);
        let (positions, source) = (index.data::<i64>(), x.data::<T>());
        let n = positions.len();
        build_rows(x.shape().with(dim, n), x.dtype(), inner, |slot, out: &mut [T]| {
            let from = (slot / n * size + positions[slot % n] as usize) * inner;
            out.copy_from_slice(&source[from..from + inner]);
        })
    }

    pub fn index_add(x: &Tensor, dim: usize, index: &Tensor, src: &Tensor, alpha: Scalar) -> Tensor {
        in_f64(index.numel(), x, src, |x, src| {
            let (x, src) = (x.contiguous(), src.contiguous());
            let scaled = if alpha.as_f64() == 1.0 { src } else { src.mul(alpha).to_dtype(x.dtype()) };
            dispatch!(x.dtype(), T => add_slices::<T>(&x, dim, &index.contiguous(), &scaled))
        })
    }

    /// Threads share the work by columns of the slices, so that each output element has one owner and one order.
    fn add_slices<T: Plus + Send + Sync>(x: &Tensor, dim: usize, index: &Tensor, src: &Tensor) -> Tensor {
        let (outer, size, inner) = split(x, dim);
        let (positions, source) = (index.data::<i64>(), src.data::<T>());
        let n = positions.len();
        build(x.shape().clone(), x.dtype(), |out: &mut [T]| {
            out.copy_from_slice(x.data::<T>());
            if outer == 1 && inner >= 32 && source.len() > crate::cpu::GRAIN && rayon::current_num_threads() > 1 {
                let part = inner.div_ceil(rayon::current_num_threads()).next_multiple_of(16);
                let mut columns: Vec<Vec<&mut [T]>> = (0..inner.div_ceil(part)).map(|_| Vec::with_capacity(size)).collect();
                for row in out.chunks_exact_mut(inner) {
                    columns.iter_mut().zip(row.chunks_mut(part)).for_each(|(c, piece)| c.push(piece));
                }
                par_parts(&mut columns, 1, &|c, rows| {
                    let rows = &mut rows[0];
                    for (i, &p) in positions.iter().enumerate() {
                        let out = &mut *rows[p as usize];
                        out.iter_mut().zip(&source[i * inner + c * part..]).for_each(|(o, &v)| *o = o.plus(v));
                    }
                });
                return;
            }
            for o in 0..outer {
                for (i, &p) in positions.iter().enumerate() {
                    let from = &source[(o * n + i) * inner..][..inner];
                    let to = &mut out[(o * size + p as usize) * inner..][..inner];
                    to.iter_mut().zip(from).for_each(|(t, &f)| *t = t.plus(f));
                }
            }
        })
    }

    pub fn write_rows(cache: &mut Tensor, positions: &[usize], src: &Tensor) {
        let dense = cache.is_contiguous() || cache.t().is_contiguous();
        if !dense || cache.layout().offset() != 0 || cache.storage_mut().buffer_mut::<CpuBuffer>().is_none() {
            *cache = crate::ops::create::cpu::copy(cache, cache.dtype());
        }
        let transposed = !cache.is_contiguous();
        let src = src.contiguous();
        dispatch_bits!(src.dtype(), T => {
            let (heads, capacity, dim, len) = (cache.dims()[1], cache.dims()[2], cache.dims()[3], src.dims()[2]);
            let buffer = cache.storage_mut().buffer_mut::<CpuBuffer>().expect("made unique above");
            let rows = src.data::<T>().chunks_exact((len * dim).max(1));
            for (i, row) in rows.enumerate() {
                let head = &mut buffer.as_mut_slice::<T>()[i * capacity * dim..][..capacity * dim];
                let from = positions[i / heads];
                if transposed {
                    for (d, line) in head.chunks_exact_mut(capacity).enumerate() {
                        line[from..from + len].iter_mut().enumerate().for_each(|(j, x)| *x = row[j * dim + d]);
                    }
                } else {
                    head[from * dim..(from + len) * dim].copy_from_slice(row);
                }
            }
        });
    }
}
