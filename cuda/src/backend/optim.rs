//! One step of AdamW.

use super::{Cuda, typed};
use crate::kernels::OPTIM;
use crate::layouts::layouts;
use tensor::{AdamW, Tensor};

pub fn adamw(cuda: &Cuda, param: &Tensor, grad: &Tensor, m: &Tensor, v: &Tensor, s: &AdamW) -> (Tensor, Tensor, Tensor) {
    let [p1, m1, v1] = [param, m, v].map(|t| cuda.empty(t.shape(), t.dtype()));
    let args = cuda.args().tensor(&p1).tensor(&m1).tensor(&v1).tensor(param).tensor(grad).tensor(m).tensor(v);
    let (rate, root) = s.corrections();
    // The kernel's `Step`.
    let step =
        [rate, 1.0 / root, 1.0 - s.lr * s.weight_decay, s.beta1, 1.0 - s.beta1, s.beta2, 1.0 - s.beta2, s.eps, s.grad_scale];
    let args = step.iter().fold(args.size(param.numel()), |args, &x| args.value(x)).layout(&layouts([param, grad, m, v]));
    cuda.each(OPTIM, &typed("adamw", param.dtype()), param.numel(), args, &[&p1, &m1, &v1]);
    (p1, m1, v1)
}
