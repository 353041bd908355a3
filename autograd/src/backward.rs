//! The backward pass.

use crate::graph::{Edge, Needs, Node, Rule};
use crate::mode::Scope;
use crate::var::Var;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use tensor::Tensor;

/// The nodes that a gradient has reached and that have not passed it on, by id.
#[derive(Default)]
struct Pending(BTreeMap<u64, (Arc<Node>, OutputGrads)>);

/// What has reached each output of a node.
type OutputGrads = SmallVec<[Option<Tensor>; 1]>;

impl Pending {
    /// Adds to the gradient of a node's output. The first contribution is kept as it is, without a copy.
    fn deliver(&mut self, edge: &Edge, grad: Tensor) {
        let node = &edge.node;
        let (_, grads) = self.0.entry(node.id).or_insert_with(|| (node.clone(), node.outputs.iter().map(|_| None).collect()));
        accumulate(&mut grads[edge.output], grad);
    }
}

fn accumulate(slot: &mut Option<Tensor>, grad: Tensor) {
    *slot = Some(match slot.take() {
        None => grad,
        Some(sum) => sum.add(&grad),
    });
}

impl Var {
    /// Adds the gradient of this one-element value to the [`grad`](Var::grad) of every parameter that it depends on.
    ///
    /// # Panics
    /// If there is not exactly one element, or as [`Var::backward_with`].
    #[track_caller]
    pub fn backward(&self) {
        if self.numel() != 1 {
            panic!("backward: shape {} is not one element; give a gradient to backward_with", self.shape());
        }
        self.backward_with(&self.value().ones_like());
    }

    /// As [`Var::backward`], from a gradient of this value: adds `Σ grad · ∂value/∂parameter` to each parameter's gradient.
    ///
    /// # Panics
    /// If this value depends on no parameter (or was computed inside [`no_grad`](crate::no_grad)), the gradient's shape or dtype
    /// differs from the value's, or an operation's rule fails; see [`Var::op`].
    #[track_caller]
    pub fn backward_with(&self, grad: &Tensor) {
        let Some(start) = self.edge() else {
            panic!("backward: the value of shape {} depends on no parameter, or was computed inside no_grad", self.shape());
        };
        if !start.like().fits(grad) {
            panic!("backward: gradient {grad:?} for a value of {} {}", self.dtype(), self.shape());
        }
        let mut pending = Pending::default();
        pending.deliver(&start, grad.clone());
        // Whoever uses a node's outputs has a larger id, so the largest pending one has got all its contributions.
        while let Some((_, (node, mut grads))) = pending.0.pop_last() {
            match &node.rule {
                Rule::Parameter(parameter) => {
                    let new = grads[0].take().expect("a node is pending when a gradient has reached it");
                    accumulate(&mut parameter.grad.lock().unwrap_or_else(PoisonError::into_inner), new);
                }
                Rule::Local(rule) => {
                    let needs: Needs = node.inputs.iter().map(Option::is_some).collect();
                    let inputs = rule(&grads, &needs);
                    drop(grads);
                    pass_on(&node, inputs, &mut pending);
                }
                Rule::Recompute { f, inputs } => {
                    let grad = grads[0].take().expect("a node is pending when a gradient has reached it");
                    let inputs: Vec<Var> =
                        inputs.iter().zip(&node.inputs).map(|(x, edge)| Var::from_edge(x.clone(), edge.clone())).collect();
                    // The new nodes come before all that is pending, just where the nodes they stand for would have been.
                    let _scope = Scope::new(true);
                    let again = f(&inputs);
                    match again.edge() {
                        Some(edge) if edge.like().fits(&grad) => pending.deliver(&edge, grad),
                        _ => panic!("checkpoint: run again, the function gave {again:?} for a gradient {grad:?}"),
                    }
                }
            }
        }
    }
}

/// Delivers what a rule returned, after checking it.
#[track_caller]
fn pass_on(node: &Node, grads: impl IntoIterator<Item = Option<Tensor>>, pending: &mut Pending) {
    let mut grads = grads.into_iter();
    for (i, edge) in node.inputs.iter().enumerate() {
        let grad = grads.next().flatten();
        let Some(edge) = edge else { continue };
        let like = edge.like();
        match grad {
            Some(g) if like.fits(&g) => pending.deliver(edge, g),
            Some(g) => {
                panic!(
                    "{}: the rule returned {g:?} as the gradient of input {i}, which is {} {}",
                    node.name, like.dtype, like.shape
                )
            }
            None => panic!("{}: the rule returned no gradient for input {i}", node.name),
        }
    }
}
