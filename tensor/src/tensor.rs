//! [`Tensor`] itself: making, reading and converting. What it can compute is in [`crate::ops`].

use crate::device::Device;
use crate::dtype::{DType, Element, Scalar};
use crate::layout::Layout;
use crate::shape::Shape;
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
        Tensor::from_values("from_slice", values, shape.into(), device)
    }

    #[track_caller]
    fn from_values<T: Element>(op: &str, values: &[T], shape: Shape, device: &Device) -> Tensor {
        shape.expect_fits(op);
        if values.len() != shape.numel() {
            panic!("{op}: {} values do not fill the shape {shape}, which takes {}", values.len(), shape.numel());
        }
        Tensor::uploaded(op, T::encode(values), shape, T::DTYPE, device)
    }

    /// From values in row-major order; see [`Tensor::from_slice`].
    #[track_caller]
    pub fn from_vec<T: Element>(values: Vec<T>, shape: impl Into<Shape>, device: &Device) -> Tensor {
        Tensor::from_values("from_vec", &values, shape.into(), device)
    }

    /// From native-order bytes of `dtype`; for bool any byte but 0 is true.
    ///
    /// # Panics
    /// If the number of bytes does not fit the shape, or the device is out of memory.
    #[track_caller]
    pub fn from_bytes(mut bytes: Vec<u8>, shape: impl Into<Shape>, dtype: DType, device: &Device) -> Tensor {
        let shape = shape.into();
        shape.expect_fits("from_bytes");
        if bytes.len() != shape.numel() * dtype.size() {
            panic!(
                "from_bytes: {} bytes do not fill {shape} of {dtype}, which takes {}",
                bytes.len(),
                shape.numel() * dtype.size()
            );
        }
        if dtype == DType::Bool {
            bytes.iter_mut().for_each(|b| *b = (*b != 0) as u8);
        }
        Tensor::uploaded("from_bytes", bytes, shape, dtype, device)
    }

    #[track_caller]
    fn uploaded(op: &str, bytes: Vec<u8>, shape: Shape, dtype: DType, device: &Device) -> Tensor {
        match device.upload(bytes) {
            Ok(storage) => Tensor::from_parts(storage, Layout::contiguous(shape), dtype),
            Err(e) => panic!("{op}: {e}, for a tensor of shape {shape} of {dtype}"),
        }
    }

    /// A 0-d tensor.
    #[track_caller]
    pub fn scalar(value: impl Into<Scalar>, dtype: DType, device: &Device) -> Tensor {
        Tensor::full((), value, dtype, device)
    }

    /// All elements `value`.
    ///
    /// # Panics
    /// If no memory could hold them.
    #[track_caller]
    pub fn full(shape: impl Into<Shape>, value: impl Into<Scalar>, dtype: DType, device: &Device) -> Tensor {
        Tensor::filled("full", shape.into(), value.into(), dtype, device)
    }

    /// All elements 0.
    ///
    /// # Panics
    /// If no memory could hold them.
    #[track_caller]
    pub fn zeros(shape: impl Into<Shape>, dtype: DType, device: &Device) -> Tensor {
        Tensor::filled("zeros", shape.into(), Scalar::Int(0), dtype, device)
    }

    /// All elements 1.
    ///
    /// # Panics
    /// If no memory could hold them.
    #[track_caller]
    pub fn ones(shape: impl Into<Shape>, dtype: DType, device: &Device) -> Tensor {
        Tensor::filled("ones", shape.into(), Scalar::Int(1), dtype, device)
    }

    #[track_caller]
    pub(crate) fn filled(op: &'static str, shape: Shape, value: Scalar, dtype: DType, device: &Device) -> Tensor {
        shape.expect_fits(op);
        device.run(op, |b| b.full(&shape, value, dtype))
    }

    /// `start, start + step, …` up to but without `end`.
    ///
    /// # Panics
    /// If `step` is 0, or no memory could hold them.
    #[track_caller]
    pub fn arange(start: i64, end: i64, step: i64, dtype: DType, device: &Device) -> Tensor {
        assert!(step != 0, "arange: step is 0");
        let ahead = if step > 0 { end > start } else { end < start };
        let len = if ahead { end.abs_diff(start).div_ceil(step.unsigned_abs()) as usize } else { 0 };
        Shape::from(len).expect_fits("arange");
        device.run("arange", |b| b.arange(start, step, len, dtype))
    }

    /// The `n × n` identity matrix.
    ///
    /// # Panics
    /// If no memory could hold it.
    #[track_caller]
    pub fn eye(n: usize, dtype: DType, device: &Device) -> Tensor {
        Shape::from([n, n]).expect_fits("eye");
        device.run("eye", |_| {
            let i = Tensor::arange(0, n as i64, 1, DType::I64, device);
            i.unsqueeze(1).eq(&i).to_dtype(dtype)
        })
    }

    /// Zeros of this tensor's shape, dtype and device.
    #[track_caller]
    pub fn zeros_like(&self) -> Tensor {
        Tensor::filled("zeros_like", self.layout.shape.clone(), Scalar::Int(0), self.dtype, self.device())
    }

    /// Ones of this tensor's shape, dtype and device.
    #[track_caller]
    pub fn ones_like(&self) -> Tensor {
        Tensor::filled("ones_like", self.layout.shape.clone(), Scalar::Int(1), self.dtype, self.device())
    }

    /// `value` in this tensor's shape, dtype and device.
    #[track_caller]
    pub fn full_like(&self, value: impl Into<Scalar>) -> Tensor {
        Tensor::filled("full_like", self.layout.shape.clone(), value.into(), self.dtype, self.device())
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
        self.size_along("dim", dim)
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
        if self.is_contiguous() { self.clone() } else { self.copy_as("contiguous", self.dtype) }
    }

    /// The values converted: floats round to nearest even, float to integer truncates (to i64, where NaN gives 0 and out of
    /// range saturates; smaller integers keep the low bits of that), anything but zero is true.
    ///
    /// # Panics
    /// If there is no memory for a copy.
    #[track_caller]
    pub fn to_dtype(&self, dtype: DType) -> Tensor {
        if dtype == self.dtype { self.clone() } else { self.copy_as("to_dtype", dtype) }
    }

    #[track_caller]
    fn copy_as(&self, op: &'static str, dtype: DType) -> Tensor {
        self.device().run(op, |b| b.copy(self, dtype))
    }

    /// The values in the dtype that they are added up in, [`DType::accumulator`].
    pub fn to_accumulator(&self) -> Tensor {
        self.to_dtype(self.dtype.accumulator())
    }

    /// A copy on another device, or this tensor if it is there.
    ///
    /// # Panics
    /// On a device fault.
    #[track_caller]
    pub fn to_device(&self, device: &Device) -> Tensor {
        if device == self.device() {
            return self.clone();
        }
        Tensor::uploaded("to_device", self.read("to_device"), self.layout.shape.clone(), self.dtype, device)
    }

    /// The elements in row-major order as native-order bytes.
    ///
    /// # Panics
    /// On a device fault.
    #[track_caller]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.read("to_bytes")
    }

    #[track_caller]
    fn read(&self, op: &'static str) -> Vec<u8> {
        let packed = self.is_contiguous() && self.layout.offset == 0;
        let x = if packed { self.clone() } else { self.copy_as(op, self.dtype) };
        match x.device().download(&x.storage, x.numel() * x.dtype.size()) {
            Ok(bytes) => bytes,
            Err(e) => panic!("{op}: {e}"),
        }
    }

    /// The elements in row-major order.
    ///
    /// # Panics
    /// If `T` is not the tensor's dtype, or on a device fault.
    #[track_caller]
    pub fn to_vec<T: Element>(&self) -> Vec<T> {
        self.read_as("to_vec")
    }

    #[track_caller]
    fn read_as<T: Element>(&self, op: &'static str) -> Vec<T> {
        if T::DTYPE != self.dtype {
            panic!("{op}: the tensor holds {}, not {}", self.dtype, T::DTYPE);
        }
        T::decode(&self.read(op))
    }

    /// The elements in row-major order as f64, from any dtype.
    ///
    /// # Panics
    /// On a device fault.
    #[track_caller]
    pub fn to_f64_vec(&self) -> Vec<f64> {
        let x = if self.dtype == DType::F64 { self.clone() } else { self.copy_as("to_f64_vec", DType::F64) };
        x.read_as("to_f64_vec")
    }

    /// The only element.
    ///
    /// # Panics
    /// If there is not exactly one element, `T` is not the tensor's dtype, or on a device fault.
    #[track_caller]
    pub fn item<T: Element>(&self) -> T {
        if self.numel() != 1 {
            panic!("item: the tensor has {} elements, not one (shape {})", self.numel(), self.shape());
        }
        self.read_as("item")[0]
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
