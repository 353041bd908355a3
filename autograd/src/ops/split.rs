//! Joining values and cutting them into pieces: each is the other's gradient.

use crate::graph::Like;
use crate::var::Var;
use tensor::{Shape, Tensor, operation, refuse};

impl Var {
    /// Joins values along an existing dimension. Dtypes are promoted; empty 1-d values are skipped, as in PyTorch.
    ///
    /// # Panics
    /// If there is none, or sizes of the other dimensions or devices differ.
    #[track_caller]
    pub fn cat(parts: &[Var], dim: isize) -> Var {
        let values: Vec<Tensor> = parts.iter().map(Var::value).collect();
        let value = Tensor::cat(&values, dim);
        let likes: Vec<Like> = values.iter().map(Like::of).collect();
        let d = dim.rem_euclid(value.rank() as isize);
        Var::op_list("cat", value, parts, move |g, needs| {
            let mut start = 0;
            let mut piece = |like: &Like| {
                if like.shape[..] == [0] {
                    return Tensor::zeros(0, like.dtype, g.device());
                }
                let len = like.shape[d as usize];
                start += len;
                g.narrow(d, (start - len) as isize, len).to_dtype(like.dtype.accumulator())
            };
            likes.iter().zip(needs).map(|(like, &need)| Some(piece(like)).filter(|_| need)).collect()
        })
    }

    /// Joins values of one shape along a new dimension.
    ///
    /// # Panics
    /// If there is none or shapes differ.
    #[track_caller]
    pub fn stack(parts: &[Var], dim: isize) -> Var {
        let values: Vec<Tensor> = parts.iter().map(Var::value).collect();
        let value = Tensor::stack(&values, dim);
        let dtypes: Vec<_> = values.iter().map(Tensor::dtype).collect();
        Var::op_list("stack", value, parts, move |g, needs| {
            let piece = |i: usize| g.select(dim, i as isize).to_dtype(dtypes[i].accumulator());
            needs.iter().enumerate().map(|(i, &need)| need.then(|| piece(i))).collect()
        })
    }

    /// Pieces of `size` along `dim`, the last one may be shorter.
    ///
    /// # Panics
    /// If `size` is 0 and the dimension is not empty.
    #[track_caller]
    pub fn split(&self, size: usize, dim: isize) -> Vec<Var> {
        let pieces = self.value().split(size, dim);
        self.pieces("split", pieces, dim)
    }

    /// At most `chunks` pieces of one size along `dim`, the last one may be shorter.
    ///
    /// # Panics
    /// If `chunks` is 0.
    #[track_caller]
    pub fn chunk(&self, chunks: usize, dim: isize) -> Vec<Var> {
        let pieces = self.value().chunk(chunks, dim);
        self.pieces("chunk", pieces, dim)
    }

    /// Pieces of the given sizes along `dim`. Their gradients are joined in one step.
    ///
    /// # Panics
    /// If the sizes do not add up to that of the dimension.
    #[track_caller]
    pub fn split_with_sizes(&self, sizes: &[usize], dim: isize) -> Vec<Var> {
        operation("split_with_sizes", || {
            let x = self.value();
            let total = sizes.iter().try_fold(0usize, |n, &size| n.checked_add(size));
            if total != Some(x.dim(dim)) {
                refuse!("{sizes:?} do not make up dimension {dim} of shape {}", x.shape());
            }
            let mut start = 0;
            let mut piece = |len: usize| {
                start += len;
                x.narrow(dim, (start - len) as isize, len)
            };
            let pieces = sizes.iter().map(|&len| piece(len)).collect();
            self.pieces("split_with_sizes", pieces, dim)
        })
    }

    #[track_caller]
    fn pieces(&self, name: &'static str, pieces: Vec<Tensor>, dim: isize) -> Vec<Var> {
        let shapes: Vec<Shape> = pieces.iter().map(|p| p.shape().clone()).collect();
        let like = Like { shape: self.shape(), dtype: self.dtype() };
        Var::op_results(name, pieces, [self], move |grads, _| {
            let device = grads.iter().flatten().next().expect("some piece was used").device();
            let parts: Vec<Tensor> = grads
                .iter()
                .zip(&shapes)
                .map(|(g, shape)| g.clone().unwrap_or_else(|| Tensor::zeros(shape.clone(), like.dtype, device)))
                .collect();
            // Chunks of nothing are each the whole, empty tensor.
            let joined = if like.shape.numel() == 0 {
                Tensor::zeros(like.shape.clone(), like.dtype, device)
            } else {
                Tensor::cat(&parts, dim)
            };
            [Some(joined)]
        })
    }
}
