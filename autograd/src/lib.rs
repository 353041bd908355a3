//! Reverse-mode automatic differentiation over [`tensor`].
//!
//! A [`Var`] is a tensor that remembers how it was computed. The operations of [`Tensor`](tensor::Tensor) through which a
//! gradient can flow exist on `Var` under the same names, all but two that only serve others (`attention_weights` and `weighted_sum`);
//! [`Var::backward`] walks the record backwards and adds to the [`grad`](Var::grad) of each parameter.
//!
//! ```
//! use autograd::Var;
//! use tensor::{Device, Tensor};
//! let cpu = Device::cpu();
//! let w = Var::parameter(Tensor::from_slice(&[1.0f32, 2.0, 3.0], 3, &cpu));
//! let loss = w.square().sum((), false);
//! loss.backward();
//! assert_eq!(w.grad().unwrap().to_vec::<f32>(), [2.0, 4.0, 6.0]);
//! ```
//!
//! Read in this order: [`Var`] (`var.rs`), the record (`graph.rs`) and the walk over it (`backward.rs`), then any file of `ops`,
//! each a family of gradient rules. What the parts guarantee:
//!
//! * **A missing gradient is an error.** Every node of the record is made with its rule ([`Var::op`]); a rule that returns no
//!   gradient where one is needed, or one of the wrong shape or dtype, panics and names the operation. What has no gradient
//!   (comparisons, `argmax`, casts to integers) is computed on [`Var::value`], where the cut is visible.
//! * **The same bits every time.** Nodes are visited in the reverse of the order in which they were made, contributions to one
//!   gradient are added in that order, and [`checkpoint`] splices the recomputed part into the same walk: gradients with and
//!   without it are equal bit for bit. [`backward_parts`] computes parts of a batch side by side, and adds in their order.
//! * **Half types are rounded once.** A gradient of bf16 or f16 travels in f32, is added up in f32 over its uses and over what was
//!   broadcast, and is rounded where it is taken: by [`Var::grad`], or by a rule of your own.
//! * **Memory.** A node keeps the tensors its rule needs, not its inputs' values as such; the record lives as long as a `Var`
//!   that depends on it, so `backward` can be repeated, and dropping the loss frees everything. A gradient of an intermediate
//!   value is freed as soon as it has been used.
//!
//! Gradients are plain tensors: second derivatives (differentiating a backward pass) are not offered.
//!
//! At ties and kinks the conventions are PyTorch's: `maximum` and `minimum` share a tie half and half, `amax` and `amin` share
//! it evenly, `clamp` passes the gradient to the clamped value at its bounds, `abs` and `relu` have slope 0 at 0.

mod backward;
mod checkpoint;
mod gradcheck;
mod graph;
mod mode;
mod operand;
mod ops;
mod var;

pub use backward::backward_parts;
pub use checkpoint::checkpoint;
pub use gradcheck::{Gradcheck, GradcheckError, gradcheck};
pub use mode::{is_grad_enabled, no_grad};
pub use operand::VarOperand;
pub use ops::{Attention, sum_to};
pub use var::Var;
