//! Where the first values of parameters come from.

use crate::module::Buffer;
use autograd::Var;
use tensor::{DType, Device, Generator, Shape, Tensor};

/// Makes parameters: normal with the config's `initializer_range` (norms 1, biases 0), or placeholders that a checkpoint
/// replaces.
#[derive(Debug)]
pub struct Init<'a> {
    /// Random numbers and standard deviation; `None` gives placeholders.
    source: Option<(&'a mut Generator, f64)>,
    dtype: DType,
    device: &'a Device,
}

impl<'a> Init<'a> {
    /// Weights normal with mean 0 and standard deviation `std`, drawn in the order in which modules are made.
    pub fn normal(rng: &'a mut Generator, std: f64, dtype: DType, device: &'a Device) -> Self {
        Init { source: Some((rng, std)), dtype, device }
    }

    /// Zeros that take no memory (a single one, expanded), for a model whose values are about to be loaded.
    pub fn placeholder(dtype: DType, device: &'a Device) -> Self {
        Init { source: None, dtype, device }
    }

    /// The dtype of the model.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The device of the model.
    pub fn device(&self) -> &'a Device {
        self.device
    }

    /// A weight.
    pub fn weight(&mut self, shape: impl Into<Shape>) -> Var {
        let shape = shape.into();
        Var::parameter(match &mut self.source {
            Some((rng, std)) => rng.normal(shape, 0.0, *std, self.dtype, self.device),
            None => self.constant(shape, 0.0, self.dtype),
        })
    }

    /// The scale of a norm: ones.
    pub fn scale(&mut self, shape: impl Into<Shape>) -> Var {
        Var::parameter(self.constant(shape.into(), 1.0, self.dtype))
    }

    /// A bias: zeros.
    pub fn bias(&mut self, shape: impl Into<Shape>) -> Var {
        Var::parameter(self.constant(shape.into(), 0.0, self.dtype))
    }

    /// A buffer: zeros that are not trained, in at least f32.
    pub fn buffer(&mut self, shape: impl Into<Shape>) -> Buffer {
        Buffer::new(self.constant(shape.into(), 0.0, accumulator(self.dtype)))
    }

    fn constant(&self, shape: Shape, value: f64, dtype: DType) -> Tensor {
        match self.source {
            Some(_) => Tensor::full(shape, value, dtype, self.device),
            None => Tensor::scalar(value, dtype, self.device).broadcast_to(shape),
        }
    }
}

/// The dtype of what must not be rounded to a half type: routing scores, norms' statistics, log-probabilities.
pub(crate) fn accumulator(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}
