//! Fused operations: each has a kernel in every float dtype.

use super::reduce::reduce_to;
use crate::args::Args;
use crate::context::Start;
use crate::gpu::{Cuda, typed};
use crate::kernels::{ATTENTION, NORM, OPTIM, ROPE, UNARY};
use tensor::layout::{Loops, Strides};
use tensor::shape::Shape;
use tensor::{AdamW, DType, Fused, ReduceOp, Tensor};

pub fn fused(cuda: &Cuda, op: &Fused, x: &[&Tensor]) -> Option<Vec<Tensor>> {
    Some(match op {
        Fused::Swiglu => swiglu(cuda, x),
        Fused::SwigluBackward => swiglu_backward(cuda, x),
        Fused::RmsNorm { eps, .. } => rms_norm(cuda, x, *eps),
        Fused::RmsNormBackward => rms_norm_backward(cuda, x),
        Fused::Rope { inverse } => rope(cuda, x, *inverse),
        Fused::AttentionCausal { visible, scale } => attention(cuda, x, visible.as_deref(), *scale),
        Fused::AttentionCausalBackward { scale } => attention_backward(cuda, x, *scale),
        Fused::AdamW(step) => adamw(cuda, x, step),
    })
}

fn swiglu(cuda: &Cuda, x: &[&Tensor]) -> Vec<Tensor> {
    let (gate, up) = (x[0], x[1]);
    let y = cuda.empty(gate.shape(), gate.dtype());
    let args = cuda.args().tensor(&y).tensor(gate).tensor(up).size(gate.numel()).loops_over([gate, up]);
    cuda.each(UNARY, &typed("swiglu", gate.dtype()), gate.numel(), args, &[&y]);
    vec![y]
}

fn swiglu_backward(cuda: &Cuda, x: &[&Tensor]) -> Vec<Tensor> {
    let (grad, gate, up) = (x[0], x[1], x[2]);
    let (d_gate, d_up) = (cuda.empty(gate.shape(), gate.dtype()), cuda.empty(gate.shape(), gate.dtype()));
    let args = cuda.args().tensor(&d_gate).tensor(&d_up).tensor(grad).tensor(gate).tensor(up).size(gate.numel());
    let args = args.loops_over([grad, gate, up]);
    cuda.each(UNARY, &typed("swiglu_backward", gate.dtype()), gate.numel(), args, &[&d_gate, &d_up]);
    vec![d_gate, d_up]
}

/// Rows whose weight gradients one block adds up.
const PART: usize = 1 << 11;

fn weight_stride(weight: Option<&Tensor>) -> usize {
    weight.map_or(0, |w| w.strides()[0])
}

fn rms_norm(cuda: &Cuda, x: &[&Tensor], eps: f64) -> Vec<Tensor> {
    let (x, weight) = (x[0], x.get(1).copied());
    let (rows, n) = (x.dims()[0], x.dims()[1]);
    let (y, rstd) = (cuda.empty(x.shape(), x.dtype()), cuda.empty([rows, 1], x.dtype().accumulator()));
    let args = cuda.args().tensor(&y).tensor(&rstd).tensor(x).optional(weight).value(eps);
    let args = args.sizes(&[n, x.strides()[0], x.strides()[1], weight_stride(weight)]);
    cuda.rows(NORM, &typed("rms_norm", x.dtype()), rows, n, args, &[&y, &rstd]);
    vec![y, rstd]
}

fn rms_norm_backward(cuda: &Cuda, x: &[&Tensor]) -> Vec<Tensor> {
    let (grad, x, rstd, weight) = (x[0], x[1], x[2].contiguous(), x.get(3).copied());
    let (rows, n) = (x.dims()[0], x.dims()[1]);
    let strides = [grad.strides()[0], grad.strides()[1], x.strides()[0], x.strides()[1]];
    let dx = cuda.empty(x.shape(), x.dtype());
    let args = cuda.args().tensor(&dx).tensor(grad).tensor(x).optional(weight).tensor(&rstd);
    let args = args.size(n).sizes(&strides).size(weight_stride(weight));
    cuda.rows(NORM, &typed("rms_norm_backward", x.dtype()), rows, n, args, &[&dx]);
    [dx].into_iter().chain(weight.map(|w| weight_gradient(cuda, grad, x, &rstd, strides, w.dtype()))).collect()
}

fn weight_gradient(cuda: &Cuda, grad: &Tensor, x: &Tensor, rstd: &Tensor, strides: [usize; 4], dtype: DType) -> Tensor {
    let (rows, n) = (x.dims()[0], x.dims()[1]);
    let parts = rows.div_ceil(PART);
    let partial = cuda.empty([n, parts], rstd.dtype());
    let args = cuda.args().tensor(&partial).tensor(grad).tensor(x).tensor(rstd).sizes(&[rows, n, PART, parts]).sizes(&strides);
    cuda.launch(NORM, &typed("rms_norm_weight", x.dtype()), n.div_ceil(32) * parts, [32, 8], args, &[&partial]);
    let one = |n: usize| Strides::from_slice(&[n]);
    reduce_to(cuda, ReduceOp::Sum, &partial, (one(n), one(parts)), (one(parts), one(1)), Shape::from(n), dtype)
}

fn rope(cuda: &Cuda, x: &[&Tensor], inverse: bool) -> Vec<Tensor> {
    let (x, cos, sin) = (x[0], x[1], x[2]);
    let y = cuda.empty(x.shape(), x.dtype());
    let pair = x.strides()[x.rank() - 1];
    let mut first = Strides::from_slice(x.strides());
    first[x.rank() - 1] = 2 * pair;
    let layout = Loops::over(cos.dims(), [&first, cos.strides(), sin.strides()]);
    let args = cuda.args().tensor(&y).tensor(x).tensor(cos).tensor(sin).size(pair).flag(inverse).size(cos.numel());
    cuda.each(ROPE, &typed("rope", x.dtype()), cos.numel(), args.loops(&layout), &[&y]);
    vec![y]
}

fn adamw(cuda: &Cuda, x: &[&Tensor], s: &AdamW) -> Vec<Tensor> {
    let (param, grad, m, v) = (x[0], x[1], x[2], x[3]);
    let [p1, m1, v1] = [param, m, v].map(|t| cuda.empty(t.shape(), t.dtype()));
    let args = cuda.args().tensor(&p1).tensor(&m1).tensor(&v1).tensor(param).tensor(grad).tensor(m).tensor(v);
    let (rate, root) = s.corrections();
    // The kernel's `Step`.
    let step =
        [rate, 1.0 / root, 1.0 - s.lr * s.weight_decay, s.beta1, 1.0 - s.beta1, s.beta2, 1.0 - s.beta2, s.eps, s.grad_scale];
    let args = step.iter().fold(args.size(param.numel()), |args, &x| args.value(x)).loops_over([param, grad, m, v]);
    cuda.each(OPTIM, &typed("adamw", param.dtype()), param.numel(), args, &[&p1, &m1, &v1]);
    vec![p1, m1, v1]
}

/// Warps per block, and sequences that one launch serves: `WARPS` and `SEQUENCES` in `kernels/attention.cu`.
const WARPS: usize = 4;
const SEQUENCES: usize = 256;

/// The kernels' `Shape`.
fn shape(q: &Tensor, k: &Tensor, v: &Tensor, rows: usize) -> [usize; 6] {
    [q.dims()[1], q.dims()[2], k.dims()[2], q.dims()[3], v.dims()[3], rows]
}

impl Cuda {
    /// One warp per row, each with room for `numbers` of the wide dtype in shared memory.
    fn warps(&self, kernel: &str, like: &Tensor, rows: usize, numbers: usize, args: Args<'_>, outs: &[&Tensor]) {
        let shared = WARPS * numbers * like.dtype().accumulator().size();
        let block = [32 * WARPS as u32, 1];
        let name = typed(kernel, like.dtype());
        let start = Start { shared: shared as u32, ..Start::new(ATTENTION, &name, rows.div_ceil(WARPS), block) };
        self.start(&start, &args, outs);
    }
}

fn attention(cuda: &Cuda, x: &[&Tensor], visible: Option<&[usize]>, scale: f64) -> Vec<Tensor> {
    let (q, k, v) = (x[0], x[1], x[2]);
    let (batch, heads, seq, dim) = (q.dims()[0], q.dims()[1], q.dims()[2], q.dims()[3]);
    let width = v.dims()[3];
    let (out, lse) =
        (cuda.empty([batch, heads, seq, width], q.dtype()), cuda.empty([batch, heads, seq], q.dtype().accumulator()));
    for first in (0..batch).step_by(SEQUENCES) {
        let count = SEQUENCES.min(batch - first);
        let [out, lse, q, k, v] = [&out, &lse, q, k, v].map(|t| t.narrow(0, first as isize, count));
        let rows = count * heads * seq;
        let args = cuda.args().tensor(&out).tensor(&lse).tensor(&q).tensor(&k).tensor(&v).value(scale);
        let args = args.sizes(&shape(&q, &k, &v, rows)).sizes(q.strides()).sizes(k.strides()).sizes(v.strides());
        let seen: Vec<usize> =
            (0..SEQUENCES).map(|b| if b >= count { 0 } else { visible.map_or(k.dims()[2], |n| n[first + b]) }).collect();
        cuda.warps("attention", &q, rows, dim + width + 32, args.sizes(&seen), &[&out, &lse]);
    }
    vec![out, lse]
}

fn attention_backward(cuda: &Cuda, x: &[&Tensor], scale: f64) -> Vec<Tensor> {
    let (grad, q, k, v, out, lse) = (x[0], x[1], x[2], x[3], x[4], x[5].contiguous());
    let (dim, width) = (q.dims()[3], v.dims()[3]);
    let [dq, dk, dv] = [q, k, v].map(|t| cuda.empty(t.shape(), t.dtype()));
    let delta = cuda.empty(lse.shape(), lse.dtype());
    let queries = lse.numel();
    let keys = k.dims()[..3].iter().product();

    let args = cuda.args().tensor(&delta).tensor(grad).tensor(out).sizes(&shape(q, k, v, queries));
    cuda.warps("attention_delta", q, queries, 0, args.sizes(grad.strides()).sizes(out.strides()), &[&delta]);

    let inputs = [grad, q, k, v, &lse, &delta];
    let args = operands(cuda.args().tensor(&dq), inputs, scale, queries);
    cuda.warps("attention_backward_q", q, queries, 2 * dim + width + 32, args, &[&dq]);
    let args = operands(cuda.args().tensor(&dk).tensor(&dv), inputs, scale, keys);
    cuda.warps("attention_backward_kv", q, keys, 2 * dim + 2 * width + 64, args, &[&dk, &dv]);
    vec![dq, dk, dv]
}

/// The parameters that both kernels of the backward pass end with.
fn operands<'a>(args: Args<'a>, inputs: [&Tensor; 6], scale: f64, rows: usize) -> Args<'a> {
    let [_, q, k, v, ..] = inputs;
    let args = inputs.iter().fold(args, |args, t| args.tensor(t)).value(scale).sizes(&shape(q, k, v, rows));
    inputs[..4].iter().fold(args, |args, t| args.sizes(t.strides()))
}
