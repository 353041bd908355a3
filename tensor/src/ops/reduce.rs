//! Reductions, positions of extremes and running sums.

use crate::dtype::DType;
use crate::op::ReduceOp;
use crate::operation::operation;
use crate::refuse;
use crate::shape::{Dims, resolve_dim};
use crate::tensor::Tensor;

impl Tensor {
    /// Sum over `dims` (all of them for `()` or an empty list). Integers and bool add up as i64. Floats are added pairwise,
    /// in an order that depends on the number of terms alone: a column summed by itself, or in another layout, gives the same bits.
    ///
    /// # Panics
    /// If a dimension is out of range or named twice, or the dtype is f8e4m3.
    #[track_caller]
    pub fn sum(&self, dims: impl Into<Dims>, keepdim: bool) -> Tensor {
        operation("sum", || self.reduce(ReduceOp::Sum, &dims.into(), keepdim))
    }

    /// Mean over `dims`; NaN of nothing.
    ///
    /// # Panics
    /// If a dimension is out of range or named twice, or the dtype is not f32, f64, bf16 or f16.
    #[track_caller]
    pub fn mean(&self, dims: impl Into<Dims>, keepdim: bool) -> Tensor {
        operation("mean", || {
            self.expect_float();
            let dims = dims.into();
            self.to_accumulator().sum(dims.clone(), keepdim).div(self.count(&dims) as f64).to_dtype(self.dtype())
        })
    }

    /// Largest element over `dims`; NaN wins.
    ///
    /// # Panics
    /// If there is nothing to choose from, a dimension is out of range or named twice, or the dtype is f8e4m3.
    #[track_caller]
    pub fn amax(&self, dims: impl Into<Dims>, keepdim: bool) -> Tensor {
        operation("amax", || self.reduce(ReduceOp::Max, &dims.into(), keepdim))
    }

    /// Smallest element over `dims`; NaN wins.
    ///
    /// # Panics
    /// If there is nothing to choose from, a dimension is out of range or named twice, or the dtype is f8e4m3.
    #[track_caller]
    pub fn amin(&self, dims: impl Into<Dims>, keepdim: bool) -> Tensor {
        operation("amin", || self.reduce(ReduceOp::Min, &dims.into(), keepdim))
    }

    /// Variance over `dims`: the squared distances from the mean, summed and divided by `n − correction` (at least 0).
    ///
    /// # Panics
    /// If a dimension is out of range or named twice, the dtype is not f32, f64, bf16 or f16, or `correction` is NaN.
    #[track_caller]
    pub fn var(&self, dims: impl Into<Dims>, correction: f64, keepdim: bool) -> Tensor {
        operation("var", || {
            self.expect_float();
            if correction.is_nan() {
                refuse!("the correction is NaN");
            }
            let dims = dims.into();
            let freedom = (self.count(&dims) as f64 - correction).max(0.0);
            let x = self.to_accumulator();
            let centred = x.sub(&x.mean(dims.clone(), true));
            centred.square().sum(dims, keepdim).div(freedom).to_dtype(self.dtype())
        })
    }

    /// How many elements each result of a reduction is made of.
    fn count(&self, dims: &Dims) -> usize {
        dims.resolve(self.rank()).iter().map(|&d| self.dims()[d]).product()
    }

    /// `log Σ eˣ` over `dims`, without overflow.
    ///
    /// # Panics
    /// If a dimension is out of range or named twice, or the dtype is f8e4m3.
    #[track_caller]
    pub fn logsumexp(&self, dims: impl Into<Dims>, keepdim: bool) -> Tensor {
        operation("logsumexp", || {
            self.expect_arithmetic();
            let dims = dims.into();
            let dtype = if self.dtype().is_float() { self.dtype() } else { DType::F32 };
            let x = self.to_dtype(dtype.accumulator());
            let over = dims.resolve(x.rank());
            if over.iter().any(|&d| x.dims()[d] == 0) {
                return x.exp().sum(dims, keepdim).log().to_dtype(dtype);
            }
            let max = x.amax(dims.clone(), true);
            let finite = max.abs().lt(f64::INFINITY);
            let shift = Tensor::where_(&finite, &max, 0.0);
            let sum = x.sub(&shift).exp().sum(dims, true).log().add(&shift).to_dtype(dtype);
            if keepdim { sum } else { sum.squeeze_resolved(&over) }
        })
    }

    /// Position (i64) of the largest element along `dim`, or in the flattened tensor for `None`; the first of equals.
    ///
    /// # Panics
    /// If there is nothing to choose from, the dimension is out of range, or the dtype is f8e4m3.
    #[track_caller]
    pub fn argmax(&self, dim: Option<isize>, keepdim: bool) -> Tensor {
        operation("argmax", || self.arg(true, dim, keepdim))
    }

    /// Position (i64) of the smallest element along `dim`, or in the flattened tensor for `None`; the first of equals.
    ///
    /// # Panics
    /// If there is nothing to choose from, the dimension is out of range, or the dtype is f8e4m3.
    #[track_caller]
    pub fn argmin(&self, dim: Option<isize>, keepdim: bool) -> Tensor {
        operation("argmin", || self.arg(false, dim, keepdim))
    }

    /// Running sum along `dim`; integers and bool add up as i64. Floats are carried in f64 together with what its additions round off,
    /// so that the error does not grow with the number of terms.
    ///
    /// # Panics
    /// If the dimension is out of range, or the dtype is f8e4m3.
    #[track_caller]
    pub fn cumsum(&self, dim: isize) -> Tensor {
        operation("cumsum", || {
            self.expect_arithmetic();
            let dim = resolve_dim(dim, self.rank());
            let x = if self.dtype().is_float() { self.clone() } else { self.to_accumulator() };
            if x.rank() == 0 { x } else { self.device().cumsum(&x, dim) }
        })
    }

    fn reduce(&self, op: ReduceOp, dims: &Dims, keepdim: bool) -> Tensor {
        self.expect_arithmetic();
        let over = dims.resolve(self.rank());
        if op != ReduceOp::Sum && over.iter().any(|&d| self.dims()[d] == 0) {
            refuse!("nothing to choose from over dimensions {over:?} of shape {}", self.shape());
        }
        let out = self.device().reduce(op, self, &over);
        if keepdim { out } else { out.squeeze_resolved(&over) }
    }

    fn arg(&self, largest: bool, dim: Option<isize>, keepdim: bool) -> Tensor {
        self.expect_arithmetic();
        let Some(dim) = dim else {
            let flat = self.flatten(0, -1).arg(largest, Some(0), false);
            return if keepdim { flat.reshape(&vec![1; self.rank()]) } else { flat };
        };
        let d = resolve_dim(dim, self.rank());
        if self.rank() == 0 {
            return Tensor::zeros((), DType::I64, self.device());
        }
        if self.dims()[d] == 0 {
            refuse!("nothing to choose from along dimension {d} of shape {}", self.shape());
        }
        let out = self.device().arg_reduce(largest, self, d);
        if keepdim { out } else { out.squeeze_resolved(&[d]) }
    }

    /// Refuses the dtype that is for storage only.
    pub(crate) fn expect_arithmetic(&self) {
        if self.dtype() == DType::F8E4M3 {
            refuse!("f8e4m3 is for storage only (cast first)");
        }
    }

    /// Refuses what is not a float to compute with.
    pub(crate) fn expect_float(&self) {
        if !self.dtype().is_float() || self.dtype() == DType::F8E4M3 {
            refuse!("expected f32, f64, bf16 or f16, got {}", self.dtype());
        }
    }
}

pub(crate) mod cpu {
    use super::*;
    use crate::cpu::{build, build_rows, dispatch, fold};
    use bytemuck::Pod;

    pub fn reduce(op: ReduceOp, x: &Tensor, dims: &[usize]) -> Tensor {
        match (op, x.dtype()) {
            (ReduceOp::Sum, DType::F32) => reduce_with::<f32>(x, dims, 0.0, |a, b| a + b),
            (ReduceOp::Sum, DType::F64) => reduce_with::<f64>(x, dims, 0.0, |a, b| a + b),
            (ReduceOp::Sum, DType::I64) => reduce_with::<i64>(x, dims, 0, |a, b| a.wrapping_add(b)),
            (ReduceOp::Sum, _) => reduce(op, &x.to_accumulator(), dims),
            (ReduceOp::Max, t) => {
                dispatch!(t, T => reduce_with::<T>(x, dims, T::LOWEST, |a, b| if a > b || is_nan(a) { a } else { b }))
            }
            (ReduceOp::Min, t) => {
                dispatch!(t, T => reduce_with::<T>(x, dims, T::HIGHEST, |a, b| if a < b || is_nan(a) { a } else { b }))
            }
        }
    }

    #[allow(clippy::eq_op)] // only NaN differs from itself
    fn is_nan<T: PartialEq>(x: T) -> bool {
        x != x
    }

    /// The neutral elements of max and min, with infinities for floats.
    trait Extremes {
        const LOWEST: Self;
        const HIGHEST: Self;
    }
    macro_rules! extremes {
        ($($t:ty: $lo:expr, $hi:expr);*) => {$(
            impl Extremes for $t {
                const LOWEST: Self = $lo;
                const HIGHEST: Self = $hi;
            }
        )*};
    }
    extremes!(f32: f32::NEG_INFINITY, f32::INFINITY; f64: f64::NEG_INFINITY, f64::INFINITY;
              i64: i64::MIN, i64::MAX; i32: i32::MIN, i32::MAX; u8: u8::MIN, u8::MAX);

    fn reduce_with<T: Pod + Send + Sync>(x: &Tensor, dims: &[usize], zero: T, f: impl Fn(T, T) -> T + Sync + Copy) -> Tensor {
        let shape = dims.iter().fold(x.shape().clone(), |s, &d| s.with(d, 1));
        let inner: usize = dims.iter().map(|&d| x.dims()[d]).product();
        let leading = dims.iter().enumerate().all(|(i, &d)| i == d);
        if leading && x.is_contiguous() && shape.numel() > 1 {
            let source = x.data::<T>();
            return build(shape, x.dtype(), |out: &mut [T]| fold::columns(source, inner, out, zero, f));
        }
        let kept = (0..x.rank()).filter(|d| !dims.contains(d));
        let dims: Vec<isize> = kept.chain(dims.iter().copied()).map(|d| d as isize).collect();
        let rows = x.permute(&dims).contiguous();
        let source = rows.data::<T>();
        build(shape, x.dtype(), |out: &mut [T]| fold::rows(source, inner, out, zero, f))
    }

    /// The tensor with `dim` moved last, contiguous, and the way back.
    pub fn last(x: &Tensor, dim: usize) -> Tensor {
        x.transpose(dim as isize, -1).contiguous()
    }

    pub fn arg_reduce(largest: bool, x: &Tensor, dim: usize) -> Tensor {
        let rows = last(x, dim);
        let n = x.dims()[dim];
        let shape = rows.shape().with(x.rank() - 1, 1);
        let out = dispatch!(x.dtype(), T => {
            let source = rows.data::<T>();
            build_rows(shape, DType::I64, 1, |i, out: &mut [i64]| out[0] = position(&source[i * n..][..n], largest))
        });
        out.transpose(dim as isize, -1).contiguous()
    }

    fn position<T: Copy + PartialOrd>(row: &[T], largest: bool) -> i64 {
        let mut best = 0;
        for (i, &v) in row.iter().enumerate() {
            if is_nan(row[best]) {
                break;
            }
            if is_nan(v) || (if largest { v > row[best] } else { v < row[best] }) {
                best = i;
            }
        }
        best as i64
    }

    /// A sum and what its additions have rounded off (Knuth's two-sum).
    #[derive(Default)]
    struct Running {
        sum: f64,
        lost: f64,
    }

    impl Running {
        fn add(&mut self, x: f64) -> f64 {
            let sum = self.sum + x;
            if sum.is_finite() {
                let added = sum - self.sum;
                self.lost += (self.sum - (sum - added)) + (x - added);
            }
            self.sum = sum;
            sum + self.lost
        }
    }

    pub fn cumsum(x: &Tensor, dim: usize) -> Tensor {
        match x.dtype() {
            DType::F32 => scan(x, dim, |run: &mut Running, x: f32| run.add(x.into()) as f32),
            DType::F64 => scan(x, dim, |run: &mut Running, x: f64| run.add(x)),
            _ => scan(x, dim, |sum: &mut i64, x: i64| {
                *sum = sum.wrapping_add(x);
                *sum
            }),
        }
    }

    /// What `step` makes of each element along `dim` and of what it has carried so far.
    fn scan<S: Default, T: Pod + Send + Sync>(x: &Tensor, dim: usize, step: impl Fn(&mut S, T) -> T + Sync) -> Tensor {
        let rows = last(x, dim);
        let (n, source) = (x.dims()[dim], rows.data::<T>());
        let out = build_rows(rows.shape().clone(), x.dtype(), n, |i, out: &mut [T]| {
            let mut carried = S::default();
            out.iter_mut().zip(&source[i * n..]).for_each(|(o, &x)| *o = step(&mut carried, x));
        });
        out.transpose(dim as isize, -1).contiguous()
    }
}
