//! [`Module`]: something with named parameters, and the names are those of the Hugging Face hub.

use autograd::Var;
use std::collections::HashMap;
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
    /// What makes a module: calls `f` with the full name and the place of every parameter and buffer, always in the same order.
    /// A weight that two parts share is given under both names; [`Module::walk`] sees through that.
    fn visit(&self, path: &mut Path, f: &mut Visitor<'_>);

    /// Every parameter and buffer once, in the order of [`Module::visit`], under the first of its names. All that follows from a
    /// module's names follows from this list: parameters that are *tied* are one parameter, counted, stepped and saved once.
    ///
    /// # Panics
    /// If two different ones have the same name.
    #[track_caller]
    fn walk(&self) -> Vec<Named> {
        let mut all = Vec::new();
        self.visit(&mut Path::default(), &mut |name, slot| all.push((name.to_owned(), slot)));
        let named = |(mut names, slot): (Vec<String>, Slot)| Named { name: names.remove(0), tied_names: names, slot };
        once("walk", all, Slot::id).into_iter().map(named).collect()
    }

    /// The parameters with their names, such as `model.layers.0.self_attn.o_proj.weight`.
    ///
    /// # Panics
    /// As [`Module::walk`].
    #[track_caller]
    fn named_parameters(&self) -> Vec<(String, Var)> {
        let parameter = |named: Named| match named.slot {
            Slot::Parameter(var) => Some((named.name, var)),
            Slot::Buffer(_) => None,
        };
        self.walk().into_iter().filter_map(parameter).collect()
    }

    /// The values of parameters and buffers with their names: what a checkpoint holds.
    ///
    /// # Panics
    /// As [`Module::walk`].
    #[track_caller]
    fn state_dict(&self) -> Vec<(String, Tensor)> {
        self.walk().into_iter().map(|named| (named.name, named.slot.value())).collect()
    }

    /// Forgets every parameter's gradient.
    ///
    /// # Panics
    /// As [`Module::walk`].
    #[track_caller]
    fn zero_grad(&self) {
        for (_, var) in self.named_parameters() {
            var.zero_grad();
        }
    }

    /// Number of trained values.
    ///
    /// # Panics
    /// As [`Module::walk`].
    #[track_caller]
    fn num_parameters(&self) -> usize {
        self.named_parameters().iter().map(|(_, var)| var.numel()).sum()
    }
}

/// What [`Module::visit`] calls.
pub type Visitor<'a> = dyn FnMut(&str, Slot) + 'a;

/// A parameter or buffer of a module with its names.
#[derive(Clone, Debug)]
pub struct Named {
    /// The first that a visit gives it.
    pub name: String,
    /// The others.
    pub tied_names: Vec<String>,
    /// What bears them.
    pub slot: Slot,
}

impl Named {
    /// All of them, the first one first.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.name).chain(&self.tied_names)
    }
}

/// Each of these once with all its names, in the order of the first ones.
#[track_caller]
pub(crate) fn once<T>(op: &str, all: Vec<(String, T)>, id: impl Fn(&T) -> Option<usize>) -> Vec<(Vec<String>, T)> {
    let (mut places, mut bearers) = (HashMap::new(), HashMap::new());
    let mut out: Vec<(Vec<String>, T)> = Vec::new();
    for (name, value) in all {
        let place = id(&value).map_or(out.len(), |id| *places.entry(id).or_insert(out.len()));
        match bearers.insert(name.clone(), place) {
            None if place < out.len() => out[place].0.push(name),
            None => out.push((vec![name], value)),
            Some(other) if other == place => {}
            Some(_) => panic!("{op}: two different parameters or buffers have the name `{name}`"),
        }
    }
    out
}

/// A place for a value in a module. A clone is the same place.
#[derive(Clone, Debug)]
pub enum Slot {
    /// Trained by a gradient.
    Parameter(Var),
    /// Saved and loaded, but not trained by a gradient.
    Buffer(Buffer),
}

impl Slot {
    fn id(&self) -> Option<usize> {
        match self {
            Slot::Parameter(var) => var.id(),
            Slot::Buffer(buffer) => Some(Arc::as_ptr(&buffer.0).addr()),
        }
    }

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
        self.within(name, |path| f(&path.0, Slot::Parameter(var.clone())));
    }

    /// Visits a buffer that is called `name` here.
    pub fn buffer(&mut self, name: impl Display, buffer: &Buffer, f: &mut Visitor<'_>) {
        self.within(name, |path| f(&path.0, Slot::Buffer(buffer.clone())));
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
