//! [`Var`]: a tensor that remembers how it was computed.

use crate::graph::{Edge, Grads, Like, LocalRule, Needs, Node, Parameter, Rule, expect_differentiable, record};
use smallvec::SmallVec;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tensor::{DType, Device, Shape, Tensor, operation, refuse};

/// A tensor in a computation that can be differentiated: a *parameter* (it collects a gradient), a *constant* (it needs none),
/// or the *result* of an operation on others. Cheap to clone; a clone of a parameter is the same parameter.
#[derive(Clone)]
pub struct Var(Repr);

#[derive(Clone)]
enum Repr {
    Constant(Tensor),
    Parameter(Arc<Node>),
    Result(Tensor, Edge),
}

impl Var {
    /// A value to be trained: backward passes add to its [`grad`](Var::grad).
    ///
    /// # Panics
    /// If the dtype is not f32, f64, bf16 or f16.
    #[track_caller]
    pub fn parameter(value: Tensor) -> Var {
        expect_differentiable("parameter", &value);
        let outputs = SmallVec::from_iter([Like::of(&value)]);
        let rule = Rule::Parameter(Box::new(Parameter { value: RwLock::new(value), grad: Mutex::new(None) }));
        Var(Repr::Parameter(Node::new("parameter", SmallVec::new(), outputs, rule)))
    }

    /// A value that needs no gradient, of any dtype.
    pub fn constant(value: Tensor) -> Var {
        Var(Repr::Constant(value))
    }

    /// The tensor. What is computed with it is not recorded.
    pub fn value(&self) -> Tensor {
        match &self.0 {
            Repr::Constant(value) | Repr::Result(value, _) => value.clone(),
            Repr::Parameter(node) => match &node.rule {
                Rule::Parameter(p) => p.value.read().unwrap_or_else(PoisonError::into_inner).clone(),
                _ => unreachable!("a parameter's node holds its value"),
            },
        }
    }

    /// The same value as a constant: no gradient flows through it.
    pub fn detach(&self) -> Var {
        Var::constant(self.value())
    }

    /// Whether a backward pass from here, or through here, reaches a parameter.
    pub fn requires_grad(&self) -> bool {
        !matches!(self.0, Repr::Constant(_))
    }

    /// Sizes of the dimensions.
    pub fn shape(&self) -> Shape {
        match &self.0 {
            Repr::Constant(value) | Repr::Result(value, _) => value.shape().clone(),
            Repr::Parameter(node) => node.outputs[0].shape.clone(),
        }
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.shape().len()
    }

    /// Size of one dimension; negative counts from the end.
    ///
    /// # Panics
    /// If there is no such dimension.
    #[track_caller]
    pub fn dim(&self, dim: isize) -> usize {
        self.value().dim(dim)
    }

    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.shape().numel()
    }

    /// Type of the elements.
    pub fn dtype(&self) -> DType {
        match &self.0 {
            Repr::Constant(value) | Repr::Result(value, _) => value.dtype(),
            Repr::Parameter(node) => node.outputs[0].dtype,
        }
    }

    /// Where it lives.
    pub fn device(&self) -> Device {
        self.value().device().clone()
    }

    /// The gradient that backward passes have added up for this parameter since [`Var::zero_grad`], one after the other in
    /// [`DType::accumulator`], rounded here to the parameter's dtype; `None` if none has reached it.
    ///
    /// # Panics
    /// If this is not a parameter.
    #[track_caller]
    pub fn grad(&self) -> Option<Tensor> {
        operation("grad", || {
            let (_, slot, like) = self.as_parameter();
            slot.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|g| g.to_dtype(like.dtype))
        })
    }

    /// Replaces the gradient.
    ///
    /// # Panics
    /// If this is not a parameter, or the gradient does not have its shape and dtype.
    #[track_caller]
    pub fn set_grad(&self, grad: Option<Tensor>) {
        operation("set_grad", || {
            let (_, slot, like) = self.as_parameter();
            if let Some(g) = grad.as_ref().filter(|g| !like.fits(g)) {
                refuse!("{g:?} for a parameter of {} {}", like.dtype, like.shape);
            }
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = grad.map(|g| g.to_accumulator());
        })
    }

    /// Forgets the gradient.
    ///
    /// # Panics
    /// If this is not a parameter.
    #[track_caller]
    pub fn zero_grad(&self) {
        operation("zero_grad", || self.set_grad(None));
    }

    /// Replaces a parameter's value. What was computed before keeps the old one, and so does its backward pass.
    ///
    /// # Panics
    /// If this is not a parameter, or shape or dtype differ.
    #[track_caller]
    pub fn set_value(&self, new: Tensor) {
        operation("set_value", || {
            let (value, _, like) = self.as_parameter();
            if !like.fits(&new) {
                refuse!("{new:?} for a parameter of {} {}", like.dtype, like.shape);
            }
            *value.write().unwrap_or_else(PoisonError::into_inner) = new;
        })
    }

    fn as_parameter(&self) -> (&RwLock<Tensor>, &Mutex<Option<Tensor>>, &Like) {
        match &self.0 {
            Repr::Parameter(node) => match &node.rule {
                Rule::Parameter(p) => (&p.value, &p.grad, &node.outputs[0]),
                _ => unreachable!("a parameter's node holds its value"),
            },
            Repr::Constant(_) => refuse!("a constant of shape {} is not a parameter", self.shape()),
            Repr::Result(_, edge) => refuse!("the result of {} is not a parameter", edge.node.name),
        }
    }

    /// What tells parameters apart that exist at one time, whatever their values: a clone has the same. `None` if this is not a
    /// parameter.
    pub fn id(&self) -> Option<usize> {
        match &self.0 {
            Repr::Parameter(node) => Some(Arc::as_ptr(node).addr()),
            _ => None,
        }
    }

    /// Where a gradient of this value goes.
    pub(crate) fn edge(&self) -> Option<Edge> {
        match &self.0 {
            Repr::Constant(_) => None,
            Repr::Parameter(node) => Some(Edge { node: node.clone(), output: 0 }),
            Repr::Result(_, edge) => Some(edge.clone()),
        }
    }

    /// A value whose gradient goes to `edge`, or a constant.
    pub(crate) fn from_edge(value: Tensor, edge: Option<Edge>) -> Var {
        match edge {
            Some(edge) => Var(Repr::Result(value, edge)),
            None => Var(Repr::Constant(value)),
        }
    }

    /// The result of an operation, with its gradient rule: how every operation of this crate is recorded, and the hook for an
    /// operation of your own.
    ///
    /// `value` has been computed from the values of `inputs`. In a backward pass `rule` gets the gradient of the result and which
    /// inputs need one, and returns a gradient for (at least) those, each of its input's shape and dtype (or, not rounded yet, of
    /// [`DType::accumulator`]). It should own the tensors it needs, and no `Var`: the edges to the inputs are kept here. If no input requires a gradient, or inside
    /// [`no_grad`](crate::no_grad), the result is a constant and the rule is dropped.
    ///
    /// ```
    /// use autograd::Var;
    /// use tensor::{Device, Tensor};
    ///
    /// /// The cube, whose gradient is `3x²`.
    /// fn cube(x: &Var) -> Var {
    ///     let v = x.value();
    ///     let value = &v.square() * &v;
    ///     Var::op("cube", value, [x], move |grad, _needs| [Some(grad * &(v.square() * 3.0))])
    /// }
    ///
    /// let x = Var::parameter(Tensor::from_slice(&[2.0f32], 1, &Device::cpu()));
    /// cube(&x).backward();
    /// assert_eq!(x.grad().unwrap().to_vec::<f32>(), [12.0]);
    /// ```
    ///
    /// # Panics
    /// If the result's dtype cannot carry a gradient and one is needed. The backward pass panics, naming `name`, if the rule
    /// leaves out a gradient that is needed or returns one of another shape or dtype than its input's.
    #[track_caller]
    pub fn op<const N: usize>(
        name: &'static str,
        value: Tensor,
        inputs: [&Var; N],
        rule: impl Fn(&Tensor, [bool; N]) -> [Option<Tensor>; N] + Send + Sync + 'static,
    ) -> Var {
        let dtype = value.dtype();
        Var::op_edges(name, value, inputs.map(Var::edge), move |g, needs| rule(&g.to_dtype(dtype), needs))
    }

    /// [`Var::op`] for inputs that may be numbers. The rule gets the gradient as it travels, in [`DType::accumulator`].
    #[track_caller]
    pub(crate) fn op_edges<const N: usize>(
        name: &'static str,
        value: Tensor,
        inputs: [Option<Edge>; N],
        rule: impl Fn(&Tensor, [bool; N]) -> [Option<Tensor>; N] + Send + Sync + 'static,
    ) -> Var {
        let local = move |grads: &[Option<Tensor>], needs: &Needs| {
            let needs = std::array::from_fn(|i| needs[i]);
            rule(only(grads), needs).into_iter().collect()
        };
        Var::one(name, value, inputs.into_iter().collect(), || Box::new(local))
    }

    /// [`Var::op`] for any number of inputs.
    ///
    /// # Panics
    /// As [`Var::op`].
    #[track_caller]
    pub fn op_vec(
        name: &'static str,
        value: Tensor,
        inputs: &[Var],
        rule: impl Fn(&Tensor, &[bool]) -> Vec<Option<Tensor>> + Send + Sync + 'static,
    ) -> Var {
        let dtype = value.dtype();
        Var::op_list(name, value, inputs, move |g, needs| rule(&g.to_dtype(dtype), needs))
    }

    /// [`Var::op_vec`] with the gradient as it travels.
    #[track_caller]
    pub(crate) fn op_list(
        name: &'static str,
        value: Tensor,
        inputs: &[Var],
        rule: impl Fn(&Tensor, &[bool]) -> Vec<Option<Tensor>> + Send + Sync + 'static,
    ) -> Var {
        let local = move |grads: &[Option<Tensor>], needs: &Needs| Grads::from_vec(rule(only(grads), needs));
        Var::one(name, value, inputs.iter().map(Var::edge).collect(), || Box::new(local))
    }

    /// [`Var::op`] for several results. The rule gets a gradient for each of them, or `None` where nobody used it (never for all).
    ///
    /// # Panics
    /// As [`Var::op`].
    #[track_caller]
    pub fn op_multi<const N: usize>(
        name: &'static str,
        values: Vec<Tensor>,
        inputs: [&Var; N],
        rule: impl Fn(&[Option<Tensor>], [bool; N]) -> [Option<Tensor>; N] + Send + Sync + 'static,
    ) -> Vec<Var> {
        let dtypes: Vec<DType> = values.iter().map(Tensor::dtype).collect();
        Var::op_results(name, values, inputs, move |grads, needs| {
            let rounded = grads.iter().zip(&dtypes).map(|(g, &dtype)| g.as_ref().map(|g| g.to_dtype(dtype)));
            rule(&rounded.collect::<Vec<_>>(), needs)
        })
    }

    /// [`Var::op_multi`] with the gradients as they travel.
    #[track_caller]
    pub(crate) fn op_results<const N: usize>(
        name: &'static str,
        values: Vec<Tensor>,
        inputs: [&Var; N],
        rule: impl Fn(&[Option<Tensor>], [bool; N]) -> [Option<Tensor>; N] + Send + Sync + 'static,
    ) -> Vec<Var> {
        let local = move |grads: &[Option<Tensor>], needs: &Needs| {
            let needs = std::array::from_fn(|i| needs[i]);
            rule(grads, needs).into_iter().collect()
        };
        let node = record(name, &values, inputs.into_iter().map(Var::edge).collect(), || Rule::Local(Box::new(local)));
        let edge = |output| node.clone().map(|node| Edge { node, output });
        values.into_iter().enumerate().map(|(i, value)| Var::from_edge(value, edge(i))).collect()
    }

    #[track_caller]
    fn one(name: &'static str, value: Tensor, inputs: SmallVec<[Option<Edge>; 3]>, rule: impl FnOnce() -> LocalRule) -> Var {
        let node = record(name, std::slice::from_ref(&value), inputs, || Rule::Local(rule()));
        Var::from_edge(value, node.map(|node| Edge { node, output: 0 }))
    }
}

/// The gradient of a node's only output: without one the node would not have been visited.
fn only(grads: &[Option<Tensor>]) -> &Tensor {
    grads[0].as_ref().expect("a node is visited when a gradient has reached it")
}

impl From<Tensor> for Var {
    fn from(t: Tensor) -> Var {
        Var::constant(t)
    }
}
impl From<&Tensor> for Var {
    fn from(t: &Tensor) -> Var {
        Var::constant(t.clone())
    }
}

impl fmt::Display for Var {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value().fmt(f)
    }
}
impl fmt::Debug for Var {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.0 {
            Repr::Constant(_) => "constant",
            Repr::Parameter(_) => "parameter",
            Repr::Result(_, edge) => edge.node.name,
        };
        write!(f, "Var({kind}, {:?})", self.value())
    }
}
