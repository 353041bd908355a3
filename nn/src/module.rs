//! [`Module`]: something with named parameters, and the names are those of the Hugging Face hub.

use autograd::Var;
use std::fmt::Display;
use std::sync::{Arc, PoisonError, RwLock};
use tensor::{DType, Shape, Tensor};

/// Something made of parameters and buffers that can be visited by name.
///
/// ```
/// use nn::{Init, Linear, Module};
/// use tensor::{DType, Device, Generator};
/// let cpu = Device::cpu();
/// let layer = Linear::new(&mut Init::normal(&mut Generator::new(0), 0.02, DType::F32, &cpu), 3, 2, true);
/// let names: Vec<String> = layer.named_parameters().into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["weight", "bias"]);
/// ```
pub trait Module {
    /// Calls `f` with the full name and the place of every parameter and buffer, always in the same order.
    fn visit(&self, path: &mut Path, f: &mut Visitor<'_>);

    /// The parameters with their names, such as `model.layers.0.self_attn.o_proj.weight`.
    fn named_parameters(&self) -> Vec<(String, Var)> {
        let mut all = Vec::new();
        self.visit(&mut Path::default(), &mut |name, slot| {
            if let Slot::Parameter(var) = slot {
                all.push((name.to_owned(), var.clone()));
            }
        });
        all
    }

    /// The values of parameters and buffers with their names: what a checkpoint holds.
    fn state_dict(&self) -> Vec<(String, Tensor)> {
        let mut all = Vec::new();
        self.visit(&mut Path::default(), &mut |name, slot| all.push((name.to_owned(), slot.value())));
        all
    }

    /// Forgets every parameter's gradient.
    fn zero_grad(&self) {
        for (_, var) in self.named_parameters() {
            var.zero_grad();
        }
    }

    /// Number of trained values.
    fn num_parameters(&self) -> usize {
        self.named_parameters().iter().map(|(_, var)| var.numel()).sum()
    }
}

/// What [`Module::visit`] calls.
pub type Visitor<'a> = dyn FnMut(&str, Slot<'_>) + 'a;

/// A place for a value in a module.
#[derive(Clone, Copy, Debug)]
pub enum Slot<'a> {
    /// Trained by a gradient.
    Parameter(&'a Var),
    /// Saved and loaded, but not trained by a gradient.
    Buffer(&'a Buffer),
}

impl Slot<'_> {
    /// The value at present.
    pub fn value(&self) -> Tensor {
        match self {
            Slot::Parameter(var) => var.value(),
            Slot::Buffer(buffer) => buffer.value(),
        }
    }

    /// Replaces the value.
    ///
    /// # Panics
    /// If shape or dtype differ.
    #[track_caller]
    pub fn set_value(&self, value: Tensor) {
        match self {
            Slot::Parameter(var) => var.set_value(value),
            Slot::Buffer(buffer) => buffer.set_value(value),
        }
    }
}

/// A value beside the parameters, such as a router's `e_score_correction_bias`. A clone is the same buffer.
#[derive(Clone, Debug)]
pub struct Buffer(Arc<RwLock<Tensor>>);

impl Buffer {
    /// A buffer with its first value.
    pub fn new(value: Tensor) -> Self {
        Buffer(Arc::new(RwLock::new(value)))
    }

    /// The value at present.
    pub fn value(&self) -> Tensor {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the value.
    ///
    /// # Panics
    /// If shape or dtype differ.
    #[track_caller]
    pub fn set_value(&self, value: Tensor) {
        let like = |t: &Tensor| -> (Shape, DType) { (t.shape().clone(), t.dtype()) };
        let old = self.value();
        if like(&old) != like(&value) {
            panic!("set_value: {value:?} for a buffer {old:?}");
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = value;
    }
}

/// Where a visit is: the names of the modules around it, joined by dots.
#[derive(Debug, Default)]
pub struct Path(String);

impl Path {
    /// Visits a module that is called `name` here.
    pub fn module(&mut self, name: impl Display, module: &dyn Module, f: &mut Visitor<'_>) {
        self.within(name, |path| module.visit(path, f));
    }

    /// Visits a parameter that is called `name` here.
    pub fn parameter(&mut self, name: impl Display, var: &Var, f: &mut Visitor<'_>) {
        self.within(name, |path| f(&path.0, Slot::Parameter(var)));
    }

    /// Visits a buffer that is called `name` here.
    pub fn buffer(&mut self, name: impl Display, buffer: &Buffer, f: &mut Visitor<'_>) {
        self.within(name, |path| f(&path.0, Slot::Buffer(buffer)));
    }

    /// Visits several things under one more name.
    pub fn within(&mut self, name: impl Display, f: impl FnOnce(&mut Path)) {
        let before = self.0.len();
        if before > 0 {
            self.0.push('.');
        }
        self.0 += &name.to_string();
        f(self);
        self.0.truncate(before);
    }
}
