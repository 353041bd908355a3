//! The gradient rules, a file a family. A method has the name, the arguments and the result of the method of
//! [`Tensor`](tensor::Tensor) that it stands for. [`Var::split_with_sizes`](crate::Var::split_with_sizes) is of its own: tensors
//! are cut by `narrow`, but the gradients of the pieces are joined once.

mod attention;
mod binary;
mod fused;
mod index;
mod layout;
mod loss;
mod matmul;
mod reduce;
mod softmax;
mod sort;
mod split;
mod unary;

pub use attention::Attention;

use smallvec::SmallVec;
use tensor::{Shape, Tensor};

/// `grad` summed down to `shape`, from which its own shape was broadcast: the gradient's way back through broadcasting.
///
/// # Panics
/// If `shape` does not broadcast to the gradient's shape.
#[track_caller]
pub fn sum_to(grad: &Tensor, shape: &Shape) -> Tensor {
    if grad.shape() == shape {
        return grad.clone();
    }
    if shape.broadcast(grad.shape()).as_ref() != Some(grad.shape()) {
        panic!("sum_to: shape {} does not come from {shape} by broadcasting", grad.shape());
    }
    let lead = grad.rank() - shape.len();
    let spread = |d: usize| d < lead || shape[d - lead] != grad.dims()[d];
    let dims: SmallVec<[isize; 6]> = (0..grad.rank()).filter(|&d| spread(d)).map(|d| d as isize).collect();
    let sum = if dims.is_empty() { grad.clone() } else { grad.sum(&dims[..], true) };
    reshape_to(&sum, shape)
}

/// What a rule keeps of a result `f(x)` that it needs again: the result, or where that was rounded to a half type its operand,
/// from which it is computed anew.
pub(crate) fn unrounded<F: Fn(&Tensor) -> Tensor>(x: Tensor, y: &Tensor, f: F) -> impl Fn() -> Tensor + use<F> {
    let rounded = y.dtype() != y.dtype().accumulator();
    let kept = if rounded { x } else { y.clone() };
    move || if rounded { f(&kept.to_accumulator()) } else { kept.clone() }
}

/// Which elements of `x` are the extreme `y` of it (broadcast): those equal to it, or the NaN that won.
pub(crate) fn chosen(x: &Tensor, y: &Tensor) -> Tensor {
    x.eq(y).logical_or(&x.ne(x))
}

/// [`Tensor::reshape`] to a shape.
#[track_caller]
pub(crate) fn reshape_to(t: &Tensor, shape: &Shape) -> Tensor {
    if t.shape() == shape {
        return t.clone();
    }
    let sizes: SmallVec<[isize; 6]> = shape.iter().map(|&s| s as isize).collect();
    t.reshape(&sizes)
}
