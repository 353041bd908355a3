//! Filling, drawing, copying, joining: operations that move or make elements without arithmetic on them.

use crate::operation::operation;
use crate::refuse;
use crate::shape::resolve_dim;
use crate::tensor::Tensor;

impl Tensor {
    /// Joins tensors along an existing dimension. Dtypes are promoted; empty 1-d tensors are skipped, as in PyTorch.
    ///
    /// # Panics
    /// If there is none, or sizes of the other dimensions or devices differ.
    #[track_caller]
    pub fn cat(parts: &[Tensor], dim: isize) -> Tensor {
        operation("cat", || {
            let Some(first) = parts.first() else { refuse!("no tensors given") };
            let dtype = parts.iter().fold(first.dtype(), |t, p| t.promote(p.dtype()));
            let kept: Vec<Tensor> = parts.iter().filter(|p| p.dims() != [0]).map(|p| p.to_dtype(dtype)).collect();
            let Some(first) = kept.first() else { return first.to_dtype(dtype) };
            if first.rank() == 0 {
                refuse!("0-d tensors cannot be joined (stack them)");
            }
            let dim = resolve_dim(dim, first.rank());
            for p in &kept {
                let same = p.rank() == first.rank() && (0..p.rank()).all(|d| d == dim || p.dims()[d] == first.dims()[d]);
                if !same {
                    refuse!("shapes {} and {} differ outside dimension {dim}", first.shape(), p.shape());
                }
                if p.device() != first.device() {
                    refuse!("tensors on {} and {}", first.device(), p.device());
                }
            }
            first.device().cat(&kept, dim)
        })
    }

    /// Joins tensors of one shape along a new dimension.
    ///
    /// # Panics
    /// If there is none or shapes differ.
    #[track_caller]
    pub fn stack(parts: &[Tensor], dim: isize) -> Tensor {
        operation("stack", || {
            let Some(first) = parts.first() else { refuse!("no tensors given") };
            if let Some(other) = parts.iter().find(|p| p.shape() != first.shape()) {
                refuse!("shapes {} and {} differ", first.shape(), other.shape());
            }
            let dim = resolve_dim(dim, first.rank() + 1) as isize;
            let parts: Vec<Tensor> = parts.iter().map(|p| p.unsqueeze(dim)).collect();
            Tensor::cat(&parts, dim)
        })
    }

    /// Keeps the elements on and below the `k`-th diagonal of the last two dimensions; zeroes the rest.
    ///
    /// # Panics
    /// If there are fewer than two dimensions.
    #[track_caller]
    pub fn tril(&self, k: i64) -> Tensor {
        operation("tril", || self.tri(k, false))
    }

    /// Keeps the elements on and above the `k`-th diagonal of the last two dimensions; zeroes the rest.
    ///
    /// # Panics
    /// If there are fewer than two dimensions.
    #[track_caller]
    pub fn triu(&self, k: i64) -> Tensor {
        operation("triu", || self.tri(k, true))
    }

    fn tri(&self, k: i64, upper: bool) -> Tensor {
        if self.rank() < 2 {
            refuse!("expected at least two dimensions, got shape {}", self.shape());
        }
        self.device().tri(self, k, upper)
    }
}

pub(crate) mod cpu {
    use crate::backend::Distribution;
    use crate::cpu::{build, build_looped, build_rows, dispatch_bits, par_chunks};
    use crate::dtype::{DType, F8E4M3, Scalar, to_odd};
    use crate::layout::Loops;
    use crate::random;
    use crate::shape::Shape;
    use crate::tensor::Tensor;
    use bytemuck::Pod;
    use half::{bf16, f16};

    /// A number on its way into any dtype.
    trait Number: Copy {
        fn as_f64(self) -> f64;
        fn as_f32(self) -> f32;
        /// What f32 to hand to a type of fewer digits, so that it is rounded once.
        fn narrow(self) -> f32;
        fn as_i64(self) -> i64;
    }
    macro_rules! number {
        ($($T:ty: |$x:ident| $f64:expr, $f32:expr, $narrow:expr, $i64:expr;)*) => {$(
            impl Number for $T {
                fn as_f64(self) -> f64 { let $x = self; $f64 }
                fn as_f32(self) -> f32 { let $x = self; $f32 }
                fn narrow(self) -> f32 { let $x = self; $narrow }
                fn as_i64(self) -> i64 { let $x = self; $i64 }
            }
        )*};
    }
    number! {
        f64: |x| x, x as f32, to_odd(x), x as i64;
        f32: |x| x as f64, x, x, x as i64;
        bf16: |x| x.to_f32() as f64, x.to_f32(), x.to_f32(), x.to_f32() as i64;
        f16: |x| x.to_f32() as f64, x.to_f32(), x.to_f32(), x.to_f32() as i64;
        F8E4M3: |x| x.to_f32() as f64, x.to_f32(), x.to_f32(), x.to_f32() as i64;
        i64: |x| x as f64, x as f32, x as f32, x;
        i32: |x| x as f64, x as f32, x as f32, x as i64;
        u8: |x| x as f64, x as f32, x as f32, x as i64;
    }

    /// Fills a tensor of any dtype from a function of the element's index. Integers become half types by way of f32, as in
    /// PyTorch.
    fn fill<N: Number>(shape: &Shape, dtype: DType, f: impl Fn(usize) -> N + Sync) -> Tensor {
        match dtype {
            DType::F64 => each(shape, dtype, |i| f(i).as_f64()),
            DType::F32 => each(shape, dtype, |i| f(i).as_f32()),
            DType::BF16 => each(shape, dtype, |i| bf16::from_f32(f(i).narrow())),
            DType::F16 => each(shape, dtype, |i| f16::from_f32(f(i).narrow())),
            DType::F8E4M3 => each(shape, dtype, |i| F8E4M3::from_f32(f(i).narrow())),
            DType::I64 => each(shape, dtype, |i| f(i).as_i64()),
            DType::I32 => each(shape, dtype, |i| f(i).as_i64() as i32),
            DType::U8 => each(shape, dtype, |i| f(i).as_i64() as u8),
            DType::Bool => each(shape, dtype, |i| (f(i).as_f64() != 0.0) as u8),
        }
    }

    fn each<T: Pod + Send>(shape: &Shape, dtype: DType, f: impl Fn(usize) -> T + Sync) -> Tensor {
        build(shape.clone(), dtype, |out: &mut [T]| {
            par_chunks(out, 1, |start, out| out.iter_mut().enumerate().for_each(|(i, o)| *o = f(start + i)));
        })
    }

    pub fn full(shape: &Shape, value: Scalar, dtype: DType) -> Tensor {
        let bits = value.to_bits(dtype);
        dispatch_bits!(dtype, T => each(shape, dtype, |_| bits as T))
    }

    pub fn arange(start: i64, step: i64, len: usize, dtype: DType) -> Tensor {
        fill(&Shape::from(len), dtype, |i| start.wrapping_add((i as i64).wrapping_mul(step)))
    }

    pub fn random(shape: &Shape, dtype: DType, distribution: Distribution, seed: u64, offset: u64) -> Tensor {
        let at = |i: usize| offset + i as u64;
        match distribution {
            Distribution::Uniform(lo, hi) => {
                let last = random::last_below(lo, hi, dtype);
                fill(shape, dtype, |i| (lo + (hi - lo) * random::uniform(seed, at(i))).min(last))
            }
            Distribution::Normal(mean, std) => fill(shape, dtype, |i| mean + std * random::normal(seed, at(i))),
            Distribution::Int(lo, hi) => fill(shape, dtype, |i| random::integer(seed, at(i), lo, hi)),
        }
    }

    pub fn copy(x: &Tensor, dtype: DType) -> Tensor {
        let packed =
            if x.is_contiguous() && dtype != x.dtype() { x.clone() } else { dispatch_bits!(x.dtype(), T => pack::<T>(x)) };
        if dtype == x.dtype() { packed } else { cast(&packed, dtype) }
    }

    /// The elements in row-major order.
    fn pack<T: Pod + Send + Sync>(x: &Tensor) -> Tensor {
        let loops = Loops::new([x.layout()]);
        let source = x.raw::<T>();
        let [stride] = loops.inner_strides();
        build_looped(x.shape(), x.dtype(), &loops, |[at], out: &mut [T]| match stride {
            1 => out.copy_from_slice(&source[at..][..out.len()]),
            0 => out.fill(source[at]),
            _ => out.iter_mut().enumerate().for_each(|(j, o)| *o = source[at + j * stride]),
        })
    }

    /// Converts a contiguous tensor.
    fn cast(x: &Tensor, to: DType) -> Tensor {
        macro_rules! from {
            ($T:ty) => {{
                let v = x.data::<$T>();
                fill(x.shape(), to, |i| v[i])
            }};
        }
        match x.dtype() {
            DType::F64 => from!(f64),
            DType::F32 => from!(f32),
            DType::BF16 => from!(bf16),
            DType::F16 => from!(f16),
            DType::F8E4M3 => from!(F8E4M3),
            DType::I64 => from!(i64),
            DType::I32 => from!(i32),
            DType::U8 | DType::Bool => from!(u8),
        }
    }

    pub fn cat(parts: &[Tensor], dim: usize) -> Tensor {
        dispatch_bits!(parts[0].dtype(), T => join::<T>(parts, dim))
    }

    fn join<T: Pod + Send + Sync>(parts: &[Tensor], dim: usize) -> Tensor {
        let parts: Vec<Tensor> = parts.iter().map(Tensor::contiguous).collect();
        let shape = parts[0].shape().with(dim, parts.iter().map(|p| p.dims()[dim]).sum());
        let widths: Vec<usize> = parts.iter().map(|p| p.dims()[dim..].iter().product()).collect();
        let sources: Vec<&[T]> = parts.iter().map(|p| p.data::<T>()).collect();
        let width: usize = widths.iter().sum();
        build_rows(shape, parts[0].dtype(), width, |row, out: &mut [T]| {
            let mut at = 0;
            for (source, &w) in sources.iter().zip(&widths) {
                out[at..at + w].copy_from_slice(&source[row * w..(row + 1) * w]);
                at += w;
            }
        })
    }

    pub fn tri(x: &Tensor, k: i64, upper: bool) -> Tensor {
        let x = x.contiguous();
        dispatch_bits!(x.dtype(), T => triangle::<T>(&x, k, upper))
    }

    fn triangle<T: Pod + Send + Sync>(x: &Tensor, k: i64, upper: bool) -> Tensor {
        let (rows, cols) = (x.dims()[x.rank() - 2], x.dims()[x.rank() - 1]);
        let source = x.data::<T>();
        build_rows(x.shape().clone(), x.dtype(), cols, |row, out: &mut [T]| {
            let diagonal = ((row % rows) as i64).saturating_add(k);
            for (j, o) in out.iter_mut().enumerate() {
                let keep = if upper { j as i64 >= diagonal } else { j as i64 <= diagonal };
                *o = if keep { source[row * cols + j] } else { T::zeroed() };
            }
        })
    }
}
