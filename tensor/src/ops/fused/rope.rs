//! Rotary position embedding (Su et al., "RoFormer", 2021) over adjacent pairs, as DeepSeek's checkpoints have it.

use crate::fused::Fused;
use crate::refuse;
use crate::tensor::Tensor;

impl Tensor {
    /// Turns each adjacent pair of the last dimension by an angle: `(a, b) → (a·cos − b·sin, a·sin + b·cos)`. `x` is
    /// `[…, seq, dim]`; `cos` and `sin` broadcast to `[…, seq, dim/2]`.
    ///
    /// # Panics
    /// If `dim` is odd or the shapes do not broadcast.
    #[track_caller]
    pub fn rope(&self, cos: &Tensor, sin: &Tensor) -> Tensor {
        let [y] = Fused::Rope { inverse: false }.results(&[self, cos, sin]);
        y
    }
}

pub(super) fn apply(op: &Fused, x: &[&Tensor]) -> Vec<Tensor> {
    let (x, cos, sin) = (x[0], x[1], x[2]);
    if x.rank() < 2 || !x.dim(-1).is_multiple_of(2) {
        refuse!("expected [..., seq, dim] with an even dim, got shape {}", x.shape());
    }
    let half = x.shape().with(x.rank() - 1, x.dim(-1) / 2);
    if cos.shape() != sin.shape()
        || cos.shape().broadcast(&half).as_ref() != Some(&half)
        || cos.dtype() != x.dtype()
        || sin.dtype() != x.dtype()
    {
        refuse!("angles {cos:?} and {sin:?} do not broadcast to {half} of {}", x.dtype());
    }
    op.run(&[x, &cos.broadcast_to(&half), &sin.broadcast_to(&half)])
}

pub(super) fn rotate(x: &[&Tensor], inverse: bool) -> Vec<Tensor> {
    let (x, cos, sin) = (x[0], x[1], x[2]);
    let n = x.dim(-1) as isize;
    let (a, b) = (x.slice(-1, 0, n, 2), x.slice(-1, 1, n, 2));
    let sin = if inverse { sin.neg() } else { sin.clone() };
    let (p, q) = (a.mul(cos).sub(&b.mul(&sin)), a.mul(&sin).add(&b.mul(cos)));
    vec![Tensor::stack(&[p, q], -1).reshape_to(x.shape())]
}

pub(super) mod cpu {
    use super::*;
    use crate::cpu::{build, par_chunks};
    use crate::dtype::DType;
    use crate::layout::Loops;

    pub fn rotate(x: &[&Tensor], inverse: bool) -> Vec<Tensor> {
        let n = x[0].dim(-1);
        // Rows of one head at one position; the pairs of each must lie side by side.
        let dense = |t: &Tensor| if t.strides()[t.rank() - 1] == 1 { t.clone() } else { t.contiguous() };
        let (x, cos, sin) = (dense(x[0]), dense(x[1]), dense(x[2]));
        let row = |t: &Tensor| t.narrow(-1, 0, 1);
        let (rx, rc, rs) = (row(&x), row(&cos), row(&sin));
        let loops: Loops<3> = Loops::new([rx.layout(), rc.layout(), rs.layout()]);
        let (inner, [sx, sc, ss]) = (loops.inner(), loops.inner_strides());
        let (xv, cv, sv) = (x.raw::<f32>(), cos.raw::<f32>(), sin.raw::<f32>());
        let y = build(x.shape().clone(), DType::F32, |out: &mut [f32]| {
            par_chunks(out, inner * n, |start, out| {
                let (first, count) = (start / (inner * n), out.len() / (inner * n));
                loops.for_rows(first, first + count, |r, [ix, ic, is]| {
                    for (j, out) in out[(r - first) * inner * n..][..inner * n].chunks_exact_mut(n).enumerate() {
                        let (x, c, s) = (&xv[ix + j * sx..][..n], &cv[ic + j * sc..][..n / 2], &sv[is + j * ss..][..n / 2]);
                        for (((o, x), &c), &s) in out.chunks_exact_mut(2).zip(x.chunks_exact(2)).zip(c).zip(s) {
                            let s = if inverse { -s } else { s };
                            o[0] = x[0] * c - x[1] * s;
                            o[1] = x[0] * s + x[1] * c;
                        }
                    }
                });
            });
        });
        vec![y]
    }
}
