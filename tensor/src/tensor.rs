//! [`Tensor`] itself: making, reading and converting. What it can compute is in [`crate::ops`].

use crate::device::Device;
use crate::dtype::{DType, Element, Scalar};
use crate::layout::Layout;
use crate::operation::operation;
use crate::refuse;
use crate::shape::{Shape, resolve_dim};
use crate::storage::Storage;
use std::fmt;

/// An n-dimensional array: a view (shape, strides, offset) of shared memory on a device. Values never change: an operation
/// gives a new tensor. Cloning and taking views is cheap.
///
/// ```
/// use tensor::{Device, Tensor};
/// let cpu = Device::cpu();
/// let x = Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0], [2, 2], &cpu);
/// let y = x.matmul(&x.t()).sum(1, false);
/// assert_eq!(y.to_vec::<f32>(), [16.0, 36.0]);
/// ```
#[derive(Clone)]
pub struct Tensor {
    storage: Storage,
    layout: Layout,
    dtype: DType,
}

impl Tensor {
    /// A tensor over existing storage: the way a backend returns its results.
    pub fn from_parts(storage: Storage, layout: Layout, dtype: DType) -> Tensor {
        Tensor { storage, layout, dtype }
    }

    /// From values in row-major order.
    ///
    /// # Panics
    /// If the number of values is not the product of the sizes.
    #[track_caller]
    pub fn from_slice<T: Element>(values: &[T], shape: impl Into<Shape>, device: &Device) -> Tensor {
        operation("from_slice", || Tensor::from_values(values, shape.into(), device))
    }

    fn from_values<T: Element>(values: &[T], shape: Shape, device: &Device) -> Tensor {
        shape.expect_fits();
        if values.len() != shape.numel() {
            refuse!("{} values do not fill the shape {shape}, which takes {}", values.len(), shape.numel());
        }
        Tensor::uploaded(T::encode(values), shape, T::DTYPE, device)
    }

    /// From values in row-major order; see [`Tensor::from_slice`].
    ///
    /// # Panics
    /// If the number of values is not the product of the sizes.
    #[track_caller]
    pub fn from_vec<T: Element>(values: Vec<T>, shape: impl Into<Shape>, device: &Device) -> Tensor {
        operation("from_vec", || Tensor::from_values(&values, shape.into(), device))
    }

    /// From native-order bytes of `dtype`; for bool any byte but 0 is true.
    ///
    /// # Panics
    /// If the number of bytes does not fit the shape, or the device is out of memory.
    #[track_caller]
    pub fn from_bytes(mut bytes: Vec<u8>, shape: impl Into<Shape>, dtype: DType, device: &Device) -> Tensor {
        operation("from_bytes", || {
            let shape = shape.into();
            shape.expect_fits();
            let needed = shape.numel() * dtype.size();
            if bytes.len() != needed {
                refuse!("{} bytes do not fill {shape} of {dtype}, which takes {needed}", bytes.len());
            }
            if dtype == DType::Bool {
                bytes.iter_mut().for_each(|b| *b = (*b != 0) as u8);
            }
            Tensor::uploaded(bytes, shape, dtype, device)
        })
    }

    fn uploaded(bytes: Vec<u8>, shape: Shape, dtype: DType, device: &Device) -> Tensor {
        match device.upload(bytes) {
            Ok(storage) => Tensor::from_parts(storage, Layout::contiguous(shape), dtype),
            Err(e) => refuse!("{e}, for a tensor of shape {shape} of {dtype}"),
        }
    }

    /// A 0-d tensor.
    ///
    /// # Panics
    /// If the device has no memory.
    #[track_caller]
    pub fn scalar(value: impl Into<Scalar>, dtype: DType, device: &Device) -> Tensor {
        operation("scalar", || Tensor::full((), value, dtype, device))
    }

    /// All elements `value`.
    ///
    /// # Panics
    /// If no memory could hold them.
    #[track_caller]
    pub fn full(shape: impl Into<Shape>, value: impl Into<Scalar>, dtype: DType, device: &Device) -> Tensor {
        operation("full", || Tensor::filled(shape.into(), value.into(), dtype, device))
    }

    /// All elements 0.
    ///
    /// # Panics
    /// If no memory could hold them.
    #[track_caller]
    pub fn zeros(shape: impl Into<Shape>, dtype: DType, device: &Device) -> Tensor {
        operation("zeros", || Tensor::filled(shape.into(), Scalar::Int(0), dtype, device))
    }

    /// All elements 1.
    ///
    /// # Panics
    /// If no memory could hold them.
    #[track_caller]
    pub fn ones(shape: impl Into<Shape>, dtype: DType, device: &Device) -> Tensor {
        operation("ones", || Tensor::filled(shape.into(), Scalar::Int(1), dtype, device))
    }

    fn filled(shape: Shape, value: Scalar, dtype: DType, device: &Device) -> Tensor {
        shape.expect_fits();
        device.full(&shape, value, dtype)
    }

    /// `start, start + step, …` up to but without `end`.
    ///
    /// # Panics
    /// If `step` is 0, or no memory could hold them.
    #[track_caller]
    pub fn arange(start: i64, end: i64, step: i64, dtype: DType, device: &Device) -> Tensor {
        operation("arange", || {
            if step == 0 {
                refuse!("step is 0");
            }
            let ahead = if step > 0 { end > start } else { end < start };
            let len = if ahead { end.abs_diff(start).div_ceil(step.unsigned_abs()) as usize } else { 0 };
            Shape::from(len).expect_fits();
            device.arange(start, step, len, dtype)
        })
    }

    /// The `n × n` identity matrix.
    ///
    /// # Panics
    /// If no memory could hold it.
    #[track_caller]
    pub fn eye(n: usize, dtype: DType, device: &Device) -> Tensor {
        operation("eye", || {
            Shape::from([n, n]).expect_fits();
            let i = Tensor::arange(0, n as i64, 1, DType::I64, device);
            i.unsqueeze(1).eq(&i).to_dtype(dtype)
        })
    }

    /// Zeros of this tensor's shape, dtype and device.
    ///
    /// # Panics
    /// If no memory could hold them.
    #[track_caller]
    pub fn zeros_like(&self) -> Tensor {
        operation("zeros_like", || self.full_like(Scalar::Int(0)))
    }

    /// Ones of this tensor's shape, dtype and device.
    ///
    /// # Panics
    /// If no memory could hold them.
    #[track_caller]
    pub fn ones_like(&self) -> Tensor {
        operation("ones_like", || self.full_like(Scalar::Int(1)))
    }

    /// `value` in this tensor's shape, dtype and device.
    ///
    /// # Panics
    /// If no memory could hold them.
    #[track_caller]
    pub fn full_like(&self, value: impl Into<Scalar>) -> Tensor {
        operation("full_like", || self.device().full(self.shape(), value.into(), self.dtype))
    }

    /// Sizes of the dimensions.
    pub fn shape(&self) -> &Shape {
        &self.layout.shape
    }

    /// Sizes of the dimensions as a slice.
    pub fn dims(&self) -> &[usize] {
        &self.layout.shape
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.layout.shape.len()
    }

    /// Size of one dimension; negative counts from the end.
    ///
    /// # Panics
    /// If there is no such dimension.
    #[track_caller]
    pub fn dim(&self, dim: isize) -> usize {
        operation("dim", || match self.rank() {
            0 => refuse!("a 0-d tensor has no dimension {dim}"),
            rank => self.dims()[resolve_dim(dim, rank)],
        })
    }

    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.layout.shape.numel()
    }

    /// Type of the elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Where it lives.
    pub fn device(&self) -> &Device {
        self.storage.device()
    }

    /// Distances between neighbours in each dimension, in elements.
    pub fn strides(&self) -> &[usize] {
        &self.layout.strides
    }

    /// Shape, strides and offset.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The memory behind it.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Whether the elements lie in row-major order without gaps.
    pub fn is_contiguous(&self) -> bool {
        self.layout.is_contiguous()
    }

    /// The same values in row-major order; no copy where they are already.
    ///
    /// # Panics
    /// If there is no memory for a copy.
    #[track_caller]
    pub fn contiguous(&self) -> Tensor {
        operation("contiguous", || if self.is_contiguous() { self.clone() } else { self.device().copy(self, self.dtype) })
    }

    /// The values converted: floats round to nearest even, float to integer truncates (to i64, where NaN gives 0 and out of
    /// range saturates; smaller integers keep the low bits of that), anything but zero is true.
    ///
    /// # Panics
    /// If there is no memory for a copy.
    #[track_caller]
    pub fn to_dtype(&self, dtype: DType) -> Tensor {
        operation("to_dtype", || if dtype == self.dtype { self.clone() } else { self.device().copy(self, dtype) })
    }

    /// The values in the dtype that they are added up in, [`DType::accumulator`].
    ///
    /// # Panics
    /// If there is no memory for a copy.
    #[track_caller]
    pub fn to_accumulator(&self) -> Tensor {
        operation("to_accumulator", || self.to_dtype(self.dtype.accumulator()))
    }

    /// A copy on another device, or this tensor if it is there.
    ///
    /// # Panics
    /// On a device fault.
    #[track_caller]
    pub fn to_device(&self, device: &Device) -> Tensor {
        operation("to_device", || match device == self.device() {
            true => self.clone(),
            false => Tensor::uploaded(self.to_bytes(), self.layout.shape.clone(), self.dtype, device),
        })
    }

    /// The elements in row-major order as native-order bytes.
    ///
    /// # Panics
    /// On a device fault.
    #[track_caller]
    pub fn to_bytes(&self) -> Vec<u8> {
        operation("to_bytes", || {
            let packed = self.is_contiguous() && self.layout.offset == 0;
            let x = if packed { self.clone() } else { self.device().copy(self, self.dtype) };
            match x.device().download(&x.storage, x.numel() * x.dtype.size()) {
                Ok(bytes) => bytes,
                Err(e) => refuse!("{e}"),
            }
        })
    }

    /// The elements in row-major order.
    ///
    /// # Panics
    /// If `T` is not the tensor's dtype, or on a device fault.
    #[track_caller]
    pub fn to_vec<T: Element>(&self) -> Vec<T> {
        operation("to_vec", || {
            if T::DTYPE != self.dtype {
                refuse!("the tensor holds {}, not {}", self.dtype, T::DTYPE);
            }
            T::decode(&self.to_bytes())
        })
    }

    /// The elements in row-major order as f64, from any dtype.
    ///
    /// # Panics
    /// On a device fault.
    #[track_caller]
    pub fn to_f64_vec(&self) -> Vec<f64> {
        operation("to_f64_vec", || self.to_dtype(DType::F64).to_vec())
    }

    /// The only element.
    ///
    /// # Panics
    /// If there is not exactly one element, `T` is not the tensor's dtype, or on a device fault.
    #[track_caller]
    pub fn item<T: Element>(&self) -> T {
        operation("item", || match self.numel() {
            1 => self.to_vec()[0],
            n => refuse!("the tensor has {n} elements, not one (shape {})", self.shape()),
        })
    }

    /// The memory behind it, to replace or write in place.
    pub fn storage_mut(&mut self) -> &mut Storage {
        &mut self.storage
    }

    pub(crate) fn view(&self, layout: Layout) -> Tensor {
        Tensor { storage: self.storage.clone(), layout, dtype: self.dtype }
    }

    /// The same memory read as another dtype of the same size (bool as u8).
    pub(crate) fn reinterpret(&self, dtype: DType) -> Tensor {
        assert_eq!(dtype.size(), self.dtype.size(), "{} read as {dtype}", self.dtype);
        Tensor { storage: self.storage.clone(), layout: self.layout.clone(), dtype }
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({} {} on {})", self.dtype, self.layout.shape, self.device())
    }
}
