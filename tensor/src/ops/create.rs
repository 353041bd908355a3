//! Filling, drawing, copying, joining: operations that move or make elements without arithmetic on them.

use crate::tensor::Tensor;

impl Tensor {
    /// Joins tensors along an existing dimension. Dtypes are promoted; empty 1-d tensors are skipped, as in PyTorch.
    ///
    /// # Panics
    /// If there is none, or sizes of the other dimensions or devices differ.
    #[track_caller]
    pub fn cat(parts: &[Tensor], dim: isize) -> Tensor {
        let Some(first) = parts.first() else { panic!("cat: no tensors given") };
        let dtype = parts.iter().fold(first.dtype(), |t, p| t.promote(p.dtype()));
        let kept: Vec<Tensor> = parts.iter().filter(|p| p.dims() != [0]).map(|p| p.to_dtype(dtype)).collect();
        let Some(first) = kept.first() else { return first.to_dtype(dtype) };
        if first.rank() == 0 {
            panic!("cat: 0-d tensors cannot be joined (stack them)");
        }
        let dim = crate::shape::resolve_dim("cat", dim, first.rank());
        for p in &kept {
            let same = p.rank() == first.rank() && (0..p.rank()).all(|d| d == dim || p.dims()[d] == first.dims()[d]);
            if !same {
                panic!("cat: shapes {} and {} differ outside dimension {dim}", first.shape(), p.shape());
            }
            if p.device() != first.device() {
                panic!("cat: tensors on {} and {}", first.device(), p.device());
            }
        }
        first.device().cat(&kept, dim)
    }

    /// Joins tensors of one shape along a new dimension.
    ///
    /// # Panics
    /// If there is none or shapes differ.
    #[track_caller]
    pub fn stack(parts: &[Tensor], dim: isize) -> Tensor {
        let Some(first) = parts.first() else { panic!("stack: no tensors given") };
        if let Some(other) = parts.iter().find(|p| p.shape() != first.shape()) {
            panic!("stack: shapes {} and {} differ", first.shape(), other.shape());
        }
        let rank = first.rank() as isize + 1;
        assert!((-rank..rank).contains(&dim), "stack: dimension {dim} is out of range for {} dimensions", rank);
        let dim = dim.rem_euclid(rank);
        let parts: Vec<Tensor> = parts.iter().map(|p| p.unsqueeze(dim)).collect();
        Tensor::cat(&parts, dim)
    }

    /// Keeps the elements on and below the `k`-th diagonal of the last two dimensions; zeroes the rest.
    ///
    /// # Panics
    /// If there are fewer than two dimensions.
    #[track_caller]
    pub fn tril(&self, k: i64) -> Tensor {
        self.tri("tril", k, false)
    }

    /// Keeps the elements on and above the `k`-th diagonal of the last two dimensions; zeroes the rest.
    ///
    /// # Panics
    /// If there are fewer than two dimensions.
    #[track_caller]
    pub fn triu(&self, k: i64) -> Tensor {
        self.tri("triu", k, true)
    }

    #[track_caller]
    fn tri(&self, op: &str, k: i64, upper: bool) -> Tensor {
        if self.rank() < 2 {
            panic!("{op}: expected at least two dimensions, got shape {}", self.shape());
        }
        self.device().tri(self, k, upper)
    }
}

pub(crate) mod cpu {
    use crate::backend::Distribution;
    use crate::cpu::{build, dispatch_bits, par_chunks};
    use crate::dtype::{DType, F8E4M3, Scalar};
    use crate::layout::Loops;
    use crate::random;
    use crate::shape::Shape;
    use crate::tensor::Tensor;
    use bytemuck::Pod;
    use half::{bf16, f16};

    /// Fills a tensor of any dtype from a function of the element's index.
    macro_rules! fill {
        ($shape:expr, $dtype:expr, $float:expr, $int:expr) => {{
            let (shape, dtype): (&Shape, DType) = ($shape, $dtype);
            match dtype {
                DType::F64 => each(shape, dtype, |i| $float(i)),
                DType::F32 => each(shape, dtype, |i| $float(i) as f32),
                DType::BF16 => each(shape, dtype, |i| bf16::from_f32($float(i) as f32)),
                DType::F16 => each(shape, dtype, |i| f16::from_f32($float(i) as f32)),
                DType::F8E4M3 => each(shape, dtype, |i| F8E4M3::from_f32($float(i) as f32)),
                DType::I64 => each(shape, dtype, |i| $int(i)),
                DType::I32 => each(shape, dtype, |i| $int(i) as i32),
                DType::U8 => each(shape, dtype, |i| $int(i) as u8),
                DType::Bool => each(shape, dtype, |i| ($float(i) != 0.0) as u8),
            }
        }};
    }

    fn each<T: Pod + Send>(shape: &Shape, dtype: DType, f: impl Fn(usize) -> T + Sync) -> Tensor {
        build(shape.clone(), dtype, |out: &mut [T]| {
            par_chunks(out, 1, |start, out| out.iter_mut().enumerate().for_each(|(i, o)| *o = f(start + i)));
        })
    }

    pub fn full(shape: &Shape, value: Scalar, dtype: DType) -> Tensor {
        fill!(shape, dtype, |_| value.as_f64(), |_| value.as_i64())
    }

    pub fn arange(start: i64, step: i64, len: usize, dtype: DType) -> Tensor {
        let at = |i: usize| start + i as i64 * step;
        fill!(&Shape::from(len), dtype, |i| at(i) as f64, at)
    }

    pub fn random(shape: &Shape, dtype: DType, distribution: Distribution, seed: u64, offset: u64) -> Tensor {
        let float = |i: usize| {
            let counter = offset + i as u64;
            match distribution {
                Distribution::Uniform(lo, hi) => lo + (hi - lo) * random::uniform(seed, counter),
                Distribution::Normal(mean, std) => mean + std * random::normal(seed, counter),
                Distribution::Int(lo, hi) => random::integer(seed, counter, lo, hi) as f64,
            }
        };
        let int = |i: usize| match distribution {
            Distribution::Int(lo, hi) => random::integer(seed, offset + i as u64, lo, hi),
            _ => float(i) as i64,
        };
        fill!(shape, dtype, float, int)
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
        let (n, [stride]) = (loops.inner(), loops.inner_strides());
        build(x.shape().clone(), x.dtype(), |out: &mut [T]| {
            if !out.is_empty() {
                par_chunks(out, n, |i, out| {
                    loops.for_rows(i / n, (i + out.len()) / n, |row, [at]| {
                        let out = &mut out[row * n - i..][..n];
                        match stride {
                            1 => out.copy_from_slice(&source[at..][..n]),
                            0 => out.fill(source[at]),
                            _ => out.iter_mut().enumerate().for_each(|(j, o)| *o = source[at + j * stride]),
                        }
                    });
                });
            }
        })
    }

    /// Converts a contiguous tensor.
    fn cast(x: &Tensor, to: DType) -> Tensor {
        macro_rules! from_float {
            ($T:ty, $f32:expr, $f64:expr) => {{
                let v = x.data::<$T>();
                fill!(x.shape(), to, |i: usize| $f64(v[i]), |i: usize| $f64(v[i]) as i64)
            }};
        }
        macro_rules! from_int {
            ($T:ty) => {{
                let v = x.data::<$T>();
                fill!(x.shape(), to, |i: usize| v[i] as f64, |i: usize| v[i] as i64)
            }};
        }
        match x.dtype() {
            DType::F64 => from_f64(x, to),
            DType::F32 => from_float!(f32, |v| v, |v: f32| v as f64),
            DType::BF16 => from_float!(bf16, bf16::to_f32, |v: bf16| v.to_f32() as f64),
            DType::F16 => from_float!(f16, f16::to_f32, |v: f16| v.to_f32() as f64),
            DType::F8E4M3 => from_float!(F8E4M3, F8E4M3::to_f32, |v: F8E4M3| v.to_f32() as f64),
            DType::I64 => from_int!(i64),
            DType::I32 => from_int!(i32),
            DType::U8 | DType::Bool => from_int!(u8),
        }
    }

    /// The `f32` next to `x` on the side of zero, its last bit set where something was cut off: rounding it again to a format
    /// that is two bits shorter or more gives what rounding `x` once would. (`half` itself drops the low word of an `f64`.)
    fn to_odd(x: f64) -> f32 {
        let y = x as f32;
        if f64::from(y) == x || y.is_nan() {
            return y;
        }
        let toward_zero = y.to_bits() - u32::from(f64::from(y).abs() > x.abs());
        f32::from_bits(toward_zero | 1)
    }

    /// f64 to a half type is rounded once, not twice through f32.
    fn from_f64(x: &Tensor, to: DType) -> Tensor {
        let v = x.data::<f64>();
        match to {
            DType::BF16 => each(x.shape(), to, |i| bf16::from_f32(to_odd(v[i]))),
            DType::F16 => each(x.shape(), to, |i| f16::from_f32(to_odd(v[i]))),
            _ => fill!(x.shape(), to, |i: usize| v[i], |i: usize| v[i] as i64),
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
        build(shape, parts[0].dtype(), |out: &mut [T]| {
            if !out.is_empty() {
                par_chunks(out, width, |i, out| {
                    for (row, out) in out.chunks_exact_mut(width).enumerate().map(|(r, o)| (i / width + r, o)) {
                        let mut at = 0;
                        for (source, &w) in sources.iter().zip(&widths) {
                            out[at..at + w].copy_from_slice(&source[row * w..(row + 1) * w]);
                            at += w;
                        }
                    }
                });
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
        build(x.shape().clone(), x.dtype(), |out: &mut [T]| {
            if !out.is_empty() {
                par_chunks(out, cols, |i, out| {
                    for (row, out) in out.chunks_exact_mut(cols).enumerate().map(|(r, o)| (i / cols + r, o)) {
                        let diagonal = ((row % rows) as i64).saturating_add(k);
                        for (j, o) in out.iter_mut().enumerate() {
                            let keep = if upper { j as i64 >= diagonal } else { j as i64 <= diagonal };
                            *o = if keep { source[row * cols + j] } else { T::zeroed() };
                        }
                    }
                });
            }
        })
    }
}
