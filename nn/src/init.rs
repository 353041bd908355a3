//! Where the first values of parameters come from.

use crate::module::Buffer;
use autograd::Var;
use tensor::{DType, Device, Generator, Shape, Tensor};

/// Makes parameters: normal with the config's `initializer_range` (norms 1, biases 0), placeholders that a checkpoint replaces,
/// or values that the caller has.
#[derive(Debug)]
pub struct Init<'a> {
    source: Source<'a>,
    dtype: DType,
    device: &'a Device,
}

#[derive(Debug)]
enum Source<'a> {
    Normal(&'a mut Generator, f64),
    Placeholder,
    Given(std::slice::Iter<'a, Var>),
}

impl<'a> Init<'a> {
    /// Weights normal with mean 0 and standard deviation `std`, drawn in the order in which modules are made.
    pub fn normal(rng: &'a mut Generator, std: f64, dtype: DType, device: &'a Device) -> Self {
        Init { source: Source::Normal(rng, std), dtype, device }
    }

    /// Zeros that take no memory (a single one, expanded), for a model whose values are about to be loaded.
    pub fn placeholder(dtype: DType, device: &'a Device) -> Self {
        Init { source: Source::Placeholder, dtype, device }
    }

    /// These, in the order in which modules are made, which is that of [`Module::visit`](crate::Module::visit): a module as a
    /// function of its parameters.
    pub fn given(parameters: &'a [Var], dtype: DType, device: &'a Device) -> Self {
        Init { source: Source::Given(parameters.iter()), dtype, device }
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
    ///
    /// # Panics
    /// If the given parameters have run out or the next one has another shape.
    #[track_caller]
    pub fn weight(&mut self, shape: impl Into<Shape>) -> Var {
        let shape = shape.into();
        match &mut self.source {
            Source::Normal(rng, std) => Var::parameter(rng.normal(shape, 0.0, *std, self.dtype, self.device)),
            _ => self.parameter(shape, 0.0),
        }
    }

    /// The scale of a norm: ones.
    ///
    /// # Panics
    /// As [`Init::weight`].
    #[track_caller]
    pub fn scale(&mut self, shape: impl Into<Shape>) -> Var {
        self.parameter(shape.into(), 1.0)
    }

    /// A bias: zeros.
    ///
    /// # Panics
    /// As [`Init::weight`].
    #[track_caller]
    pub fn bias(&mut self, shape: impl Into<Shape>) -> Var {
        self.parameter(shape.into(), 0.0)
    }

    /// A buffer: zeros that are not trained, in at least f32.
    pub fn buffer(&mut self, shape: impl Into<Shape>) -> Buffer {
        Buffer::new(self.constant(shape.into(), 0.0, accumulator(self.dtype)))
    }

    #[track_caller]
    fn parameter(&mut self, shape: Shape, value: f64) -> Var {
        let Source::Given(parameters) = &mut self.source else {
            return Var::parameter(self.constant(shape, value, self.dtype));
        };
        match parameters.next() {
            Some(var) if var.shape() == shape => var.clone(),
            other => panic!("init: the next parameter has shape {shape}, but {other:?} was given"),
        }
    }

    fn constant(&self, shape: Shape, value: f64, dtype: DType) -> Tensor {
        match self.source {
            Source::Placeholder => Tensor::scalar(value, dtype, self.device).broadcast_to(shape),
            _ => Tensor::full(shape, value, dtype, self.device),
        }
    }
}

/// The dtype of what must not be rounded to a half type: routing scores, norms' statistics, log-probabilities.
pub(crate) fn accumulator(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}
