//! Causal attention, forward and backward.

use super::{Cuda, typed};
use crate::kernels::ATTENTION;
use crate::layouts::Args;
use tensor::Tensor;

/// Warps a block, and sequences that one launch serves: `WARPS` and `SEQUENCES` in `kernels/attention.cu`.
const WARPS: usize = 4;
const SEQUENCES: usize = 256;

/// The kernels' `Shape`.
fn shape(q: &Tensor, k: &Tensor, v: &Tensor, rows: usize) -> [usize; 6] {
    [q.dims()[1], q.dims()[2], k.dims()[2], q.dims()[3], v.dims()[3], rows]
}

impl Cuda {
    /// One warp a row, each with room for `numbers` of the wide dtype in shared memory.
    fn warps(&self, kernel: &str, like: &Tensor, rows: usize, numbers: usize, args: Args<'_>, outs: &[&Tensor]) {
        let shared = WARPS * numbers * like.dtype().accumulator().size();
        let block = [32 * WARPS as u32, 1];
        self.launch_with(ATTENTION, &typed(kernel, like.dtype()), rows.div_ceil(WARPS), block, shared, false, args, outs);
    }
}

pub fn forward(cuda: &Cuda, q: &Tensor, k: &Tensor, v: &Tensor, visible: Option<&[usize]>, scale: f64) -> (Tensor, Tensor) {
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
    (out, lse)
}

pub fn backward(cuda: &Cuda, grad: &Tensor, [q, k, v, out, lse]: [&Tensor; 5], scale: f64) -> (Tensor, Tensor, Tensor) {
    let (dim, width, lse) = (q.dims()[3], v.dims()[3], lse.contiguous());
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
    (dq, dk, dv)
}

/// The parameters that both kernels of the backward pass end with.
fn operands<'a>(args: Args<'a>, inputs: [&Tensor; 6], scale: f64, rows: usize) -> Args<'a> {
    let [_, q, k, v, ..] = inputs;
    let args = inputs.iter().fold(args, |args, t| args.tensor(t)).value(scale).sizes(&shape(q, k, v, rows));
    inputs[..4].iter().fold(args, |args, t| args.sizes(t.strides()))
}
