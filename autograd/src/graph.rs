//! The record of a computation: nodes, each an operation with its gradient rule, and edges to the values it was applied to.

use crate::mode::is_grad_enabled;
use crate::ops::{reshape_to, sum_to};
use crate::var::Var;
use smallvec::SmallVec;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tensor::{DType, Shape, Tensor, operation, refuse};

/// A gradient for each input of a node, where one is needed.
pub(crate) type Grads = SmallVec<[Option<Tensor>; 3]>;
/// Which inputs of a node need a gradient.
pub(crate) type Needs = SmallVec<[bool; 8]>;
/// From the gradients of a node's outputs (none for an output that nobody used) to those of its inputs.
pub(crate) type LocalRule = Box<dyn Fn(&[Option<Tensor>], &Needs) -> Grads + Send + Sync>;

/// The part of a computation between a checkpoint's inputs and its output.
pub(crate) type Segment = Box<dyn Fn(&[Var]) -> Var + Send + Sync>;

/// What a parameter's node holds.
pub(crate) struct Parameter {
    /// Its value at present.
    pub value: RwLock<Tensor>,
    /// What backward passes have added up, in [`DType::accumulator`].
    pub grad: Mutex<Option<Tensor>>,
}

impl Parameter {
    /// Adds to what there is. The sum is computed outside the lock: a thread that waits for others in it may begin work that
    /// comes here again.
    pub fn add_grad(&self, mut grad: Tensor) {
        loop {
            let mut slot = self.grad.lock().unwrap_or_else(PoisonError::into_inner);
            match slot.take() {
                None => {
                    *slot = Some(grad);
                    return;
                }
                Some(sum) => {
                    drop(slot);
                    grad = sum.add(&grad);
                }
            }
        }
    }
}

/// One output of a node.
#[derive(Clone)]
pub(crate) struct Edge {
    pub node: Arc<Node>,
    pub output: usize,
}

impl Edge {
    /// What a gradient that travels along this edge looks like.
    pub fn like(&self) -> &Like {
        &self.node.outputs[self.output]
    }
}

/// Shape and dtype of a value, which its gradient has too.
#[derive(Clone, PartialEq)]
pub(crate) struct Like {
    pub shape: Shape,
    pub dtype: DType,
}

impl Like {
    pub fn of(t: &Tensor) -> Like {
        Like { shape: t.shape().clone(), dtype: t.dtype() }
    }

    pub fn fits(&self, t: &Tensor) -> bool {
        &self.shape == t.shape() && self.dtype == t.dtype()
    }

    /// Whether it can travel as the gradient of such a value: that of a half type is rounded where somebody takes it.
    pub fn admits(&self, grad: &Tensor) -> bool {
        self.shape == *grad.shape() && [self.dtype, self.dtype.accumulator()].contains(&grad.dtype())
    }

    /// The gradient of a value that was broadcast and promoted, from the gradient of what it became.
    pub fn fit(&self, grad: &Tensor) -> Tensor {
        sum_to(grad, &self.shape).to_dtype(self.dtype.accumulator())
    }

    /// The gradient of a value that was reshaped.
    pub fn reshape(&self, grad: &Tensor) -> Tensor {
        reshape_to(grad, &self.shape)
    }
}

/// How a node passes a gradient on.
pub(crate) enum Rule {
    /// A parameter keeps it. In a box: of the many nodes few are parameters, and these are the largest.
    Parameter(Box<Parameter>),
    /// An operation computes the gradients of its inputs.
    Local(LocalRule),
    /// A checkpoint runs its part of the computation again, on the saved values of its inputs.
    Recompute {
        /// That part.
        f: Segment,
        /// The inputs' values.
        inputs: Vec<Tensor>,
    },
}

/// An operation that was applied, or a parameter.
pub(crate) struct Node {
    /// Larger than that of every node this one depends on, so that descending ids are an order for the backward pass.
    pub id: u64,
    pub name: &'static str,
    /// `None` for an input that needs no gradient.
    pub inputs: SmallVec<[Option<Edge>; 3]>,
    pub outputs: SmallVec<[Like; 1]>,
    pub rule: Rule,
}

impl Node {
    pub fn new(name: &'static str, inputs: SmallVec<[Option<Edge>; 3]>, outputs: SmallVec<[Like; 1]>, rule: Rule) -> Arc<Node> {
        // Only ever compared: a value made later, on this thread or on one that was handed its inputs, gets a larger id.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Arc::new(Node { id: NEXT.fetch_add(1, Ordering::Relaxed), name, inputs, outputs, rule })
    }
}

impl Drop for Node {
    /// Takes the graph below apart in a loop: a chain of a million nodes would overflow the stack as nested drops.
    fn drop(&mut self) {
        let mut orphans: SmallVec<[Arc<Node>; 8]> = SmallVec::new();
        let collect = |inputs: &mut SmallVec<[Option<Edge>; 3]>, orphans: &mut SmallVec<[Arc<Node>; 8]>| {
            orphans.extend(inputs.drain(..).flatten().map(|edge| edge.node));
        };
        collect(&mut self.inputs, &mut orphans);
        while let Some(node) = orphans.pop() {
            if let Some(mut node) = Arc::into_inner(node) {
                collect(&mut node.inputs, &mut orphans);
            }
        }
    }
}

/// Makes a node, unless recording is off or no input needs a gradient.
///
/// # Panics
/// If an output's dtype cannot carry a gradient.
#[track_caller]
pub(crate) fn record(
    name: &'static str,
    outputs: &[Tensor],
    inputs: SmallVec<[Option<Edge>; 3]>,
    rule: impl FnOnce() -> Rule,
) -> Option<Arc<Node>> {
    if !is_grad_enabled() || inputs.iter().all(Option::is_none) {
        return None;
    }
    for t in outputs {
        expect_differentiable(name, t);
    }
    Some(Node::new(name, inputs, outputs.iter().map(Like::of).collect(), rule()))
}

/// # Panics
/// If the dtype cannot carry a gradient.
#[track_caller]
pub(crate) fn expect_differentiable(name: &'static str, t: &Tensor) {
    operation(name, || {
        if !t.dtype().is_float() || t.dtype() == DType::F8E4M3 {
            refuse!("{} carries no gradient; use .value() or .detach() where none is wanted", t.dtype());
        }
    })
}
