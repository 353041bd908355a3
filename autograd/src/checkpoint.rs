//! Gradient checkpointing: memory for time.

use crate::graph::{Edge, Like, Node, Rule};
use crate::mode::is_grad_enabled;
use crate::var::Var;
use smallvec::SmallVec;

/// `f(inputs)`, of which only the values of `inputs` are kept: the backward pass runs `f` again to get what its rules need
/// (Chen et al., "Training deep nets with sublinear memory cost", 2016). Gradients, also those of parameters that `f` captures,
/// are the same bit for bit as without. Checkpoints may be nested.
///
/// `f` must compute the same thing again: draw no random numbers, and read no parameter whose value is set in between.
///
/// # Panics
/// In the backward pass, if `f` returns a value of another shape or dtype when it is run again.
#[track_caller]
pub fn checkpoint(f: impl Fn(&[Var]) -> Var + Send + Sync + 'static, inputs: &[Var]) -> Var {
    // The graph of this run is dropped at once; it has told whether a parameter is involved.
    let out = f(inputs);
    if !is_grad_enabled() || !out.requires_grad() {
        return out;
    }
    let value = out.value();
    let rule = Rule::Recompute { f: Box::new(f), inputs: inputs.iter().map(Var::value).collect() };
    // Not by `record`: parameters that `f` captures count, even if no input needs a gradient.
    let node = Node::new("checkpoint", inputs.iter().map(Var::edge).collect(), SmallVec::from_iter([Like::of(&value)]), rule);
    Var::from_edge(value, Some(Edge { node, output: 0 }))
}
