//! The backward pass.

use crate::graph::{Edge, Like, Needs, Node, Rule};
use crate::mode::Scope;
use crate::var::Var;
use rayon::prelude::*;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::sync::Arc;
use tensor::{Tensor, operation, refuse};

/// The nodes that a gradient has reached and that have not passed it on, by id.
#[derive(Default)]
struct Pending(BTreeMap<u64, (Arc<Node>, OutputGrads)>);

/// What has reached each output of a node.
type OutputGrads = SmallVec<[Option<Tensor>; 1]>;

impl Pending {
    /// Adds to the gradient of a node's output, in the dtype's accumulator: what a half type loses by rounding, it loses once.
    fn deliver(&mut self, edge: &Edge, grad: &Tensor) {
        let node = &edge.node;
        let (_, grads) = self.0.entry(node.id).or_insert_with(|| (node.clone(), node.outputs.iter().map(|_| None).collect()));
        let (slot, grad) = (&mut grads[edge.output], grad.to_accumulator());
        *slot = Some(match slot.take() {
            None => grad,
            Some(sum) => sum.add(&grad),
        });
    }
}

/// Parameters' nodes, each with the gradient that one backward pass has for it.
struct Gradients(Vec<(Arc<Node>, Tensor)>);

impl Gradients {
    /// Adds them to the parameters' own.
    fn add(self) {
        for (node, grad) in self.0 {
            let Rule::Parameter(parameter) = &node.rule else { unreachable!("only parameters keep a gradient") };
            parameter.add_grad(grad);
        }
    }
}

/// Adds the gradient of `Σ loss(part)` to the [`grad`](Var::grad) of every parameter, and returns what `loss` returned beside each
/// one-element loss. As many parts as there are threads are computed at the same time; bits, and the order of the results, are those
/// of one [`Var::backward`] after the other.
///
/// ```
/// use autograd::{Var, backward_parts};
/// use tensor::{Device, Tensor};
/// let w = Var::parameter(Tensor::from_slice(&[1.0f32, 2.0], 2, &Device::cpu()));
/// let values = backward_parts(&[3.0, 4.0], |&x| {
///     let loss = (&w * x).sum((), false);
///     Ok::<_, std::convert::Infallible>((loss.clone(), loss.value().item::<f32>()))
/// })?;
/// assert_eq!(values, [9.0, 12.0]);
/// assert_eq!(w.grad().unwrap().to_vec::<f32>(), [7.0, 7.0]);
/// # Ok::<(), std::convert::Infallible>(())
/// ```
///
/// # Errors
/// The first of `loss`. The gradients of some of the parts before may have been added.
///
/// # Panics
/// As [`Var::backward`].
#[track_caller]
pub fn backward_parts<P: Sync, R: Send, E: Send>(
    parts: &[P],
    loss: impl Fn(&P) -> Result<(Var, R), E> + Sync,
) -> Result<Vec<R>, E> {
    let mut results = Vec::with_capacity(parts.len());
    // No more at a time: a thread that waits inside one part would begin another, and its memory would come on top.
    for parts in parts.chunks(rayon::current_num_threads()) {
        let computed = parts.par_iter().with_max_len(1).map(|part| {
            // Such a thread may also be inside somebody's `no_grad`.
            let _scope = Scope::new(true);
            let (loss, result) = loss(part)?;
            Ok((loss.gradients(None), result))
        });
        for part in computed.collect::<Vec<Result<_, E>>>() {
            let (gradients, result) = part?;
            carried_out("backward_parts", gradients).add();
            results.push(result);
        }
    }
    Ok(results)
}

impl Var {
    /// Adds the gradient of this one-element value to the [`grad`](Var::grad) of every parameter that it depends on.
    ///
    /// # Panics
    /// If there is not exactly one element, or as [`Var::backward_with`].
    #[track_caller]
    pub fn backward(&self) {
        carried_out("backward", self.gradients(None)).add();
    }

    /// As [`Var::backward`], from a gradient of this value: adds `Σ grad · ∂value/∂parameter` to each parameter's gradient.
    ///
    /// # Panics
    /// If this value depends on no parameter (or was computed inside [`no_grad`](crate::no_grad)), the gradient's shape or dtype
    /// differs from the value's, or an operation's rule fails; see [`Var::op`].
    #[track_caller]
    pub fn backward_with(&self, grad: &Tensor) {
        carried_out("backward_with", self.gradients(Some(grad))).add();
    }

    /// What a pass from a gradient of this value, or from itself where it is a loss, has for the parameters; or why there is none.
    fn gradients(&self, grad: Option<&Tensor>) -> Result<Gradients, String> {
        let Some(start) = self.edge() else {
            return Err(format!("the value of shape {} depends on no parameter, or was computed inside no_grad", self.shape()));
        };
        let grad = match grad {
            Some(grad) if !start.like().fits(grad) => {
                return Err(format!("gradient {grad:?} for a value of {} {}", self.dtype(), self.shape()));
            }
            Some(grad) => grad.clone(),
            None if self.numel() == 1 => self.value().ones_like(),
            None => return Err(format!("shape {} is not one element; give a gradient to backward_with", self.shape())),
        };
        let mut pending = Pending::default();
        let mut gradients = Vec::new();
        pending.deliver(&start, &grad);
        // Whoever uses a node's outputs has a larger id, so the largest pending one has got all its contributions.
        while let Some((_, (node, mut grads))) = pending.0.pop_last() {
            match &node.rule {
                Rule::Parameter(_) => {
                    let grad = grads[0].take().expect("a node is pending when a gradient has reached it");
                    gradients.push((node, grad));
                }
                Rule::Local(rule) => {
                    let needs: Needs = node.inputs.iter().map(Option::is_some).collect();
                    let inputs = rule(&grads, &needs);
                    drop(grads);
                    pass_on(&node, inputs, &mut pending)?;
                }
                Rule::Recompute { f, inputs } => {
                    let grad = grads[0].take().expect("a node is pending when a gradient has reached it");
                    let inputs: Vec<Var> =
                        inputs.iter().zip(&node.inputs).map(|(x, edge)| Var::from_edge(x.clone(), edge.clone())).collect();
                    // The new nodes come before all that is pending, just where the nodes they stand for would have been.
                    let _scope = Scope::new(true);
                    let again = f(&inputs);
                    match again.edge() {
                        Some(edge) if edge.like().admits(&grad) => pending.deliver(&edge, &grad),
                        _ => return Err(format!("checkpoint: run again, the function gave {again:?} for a gradient {grad:?}")),
                    }
                }
            }
        }
        Ok(Gradients(gradients))
    }
}

/// Refuses in the name of `op` what there are no gradients of.
#[track_caller]
fn carried_out(op: &'static str, pass: Result<Gradients, String>) -> Gradients {
    match pass {
        Ok(gradients) => gradients,
        Err(why) => operation(op, || refuse!("{why}")),
    }
}

/// Delivers what a rule returned, after checking it.
fn pass_on(node: &Node, grads: impl IntoIterator<Item = Option<Tensor>>, pending: &mut Pending) -> Result<(), String> {
    let mut grads = grads.into_iter();
    for (i, edge) in node.inputs.iter().enumerate() {
        let grad = grads.next().flatten();
        let Some(edge) = edge else { continue };
        let (name, Like { dtype, shape }) = (node.name, edge.like());
        match grad {
            Some(g) if edge.like().admits(&g) => pending.deliver(edge, &g),
            Some(g) => {
                return Err(format!("{name}: the rule returned {g:?} as the gradient of input {i}, which is {dtype} {shape}"));
            }
            None => return Err(format!("{name}: the rule returned no gradient for input {i}")),
        }
    }
    Ok(())
}
