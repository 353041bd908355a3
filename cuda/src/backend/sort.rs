//! Stable sorting.

use crate::gpu::{Cuda, moving, typed};
use crate::kernels::SORT;
use tensor::layout::Loops;
use tensor::{DType, Tensor, refuse};

/// Elements that one block sorts in shared memory: `MAX_CHUNK` in `kernels/sort.cu`.
const MAX_CHUNK: usize = 1024;

pub fn sort(cuda: &Cuda, x: &Tensor, dim: usize, descending: bool) -> (Tensor, Tensor) {
    let (values, places) = (cuda.empty(x.shape(), x.dtype()), cuda.empty(x.shape(), DType::I64));
    let (n, total) = (x.dims()[dim], x.numel());
    if n >= u32::MAX as usize {
        refuse!("{n} elements along dimension {dim} are too many");
    }
    if total == 0 {
        return (values, places);
    }
    // Keys lie in rows along `dim`.
    let rows = |t: &Tensor| t.transpose(dim as isize, -1);
    let (from, to) = (rows(x), rows(&values));
    let mut keys = cuda.empty([total], DType::I64);
    let mut at = cuda.empty([total], DType::I32);
    let layout = Loops::over(from.dims(), [from.strides()]);
    let args = cuda.args().tensor(&keys).tensor(x).flag(descending).size(total).loops(&layout);
    cuda.each(SORT, &typed("sort_keys", x.dtype()), total, args, &[&keys]);

    let chunk = n.next_power_of_two().min(MAX_CHUNK);
    let chunks = n.div_ceil(chunk);
    let args = cuda.args().tensor(&keys).tensor(&at).value(chunk as u32).size(chunks).size(n);
    let threads = (chunk / 2).clamp(32, 256) as u32;
    cuda.launch(SORT, "sort_chunks", total / n * chunks, [threads, 1], args, &[&keys, &at]);

    let mut run = chunk;
    while run < n {
        let (merged, moved) = (cuda.empty([total], DType::I64), cuda.empty([total], DType::I32));
        let args = cuda.args().tensor(&merged).tensor(&moved).tensor(&keys).tensor(&at).sizes(&[run, n, total]);
        cuda.each(SORT, "sort_merge", total, args, &[&merged, &moved]);
        (keys, at, run) = (merged, moved, 2 * run);
    }

    let layout = Loops::over(from.dims(), [to.strides(), from.strides()]);
    let args = cuda.args().tensor(&values).tensor(&places).tensor(x).tensor(&at).size(n).size(total).loops(&layout);
    cuda.each(SORT, &moving("sort_values", x.dtype()), total, args, &[&values, &places]);
    (values, places)
}
