//! Rotary position embedding (Su et al., "RoFormer", 2021) over adjacent pairs, as DeepSeek's checkpoints have it.

use crate::dtype::DType;
use crate::ops::wide;
use crate::tensor::Tensor;

impl Tensor {
    /// Turns each adjacent pair of the last dimension by an angle: `(a, b) → (a·cos − b·sin, a·sin + b·cos)`. `x` is
    /// `[…, seq, dim]`; `cos` and `sin` broadcast to `[…, seq, dim/2]`.
    ///
    /// # Panics
    /// If `dim` is odd or the shapes do not broadcast.
    #[track_caller]
    pub fn rope(&self, cos: &Tensor, sin: &Tensor) -> Tensor {
        self.rotate(cos, sin, false)
    }

    /// The rotation of [`Tensor::rope`] backwards: its inverse, and the gradient's way.
    #[track_caller]
    pub fn rope_inverse(&self, cos: &Tensor, sin: &Tensor) -> Tensor {
        self.rotate(cos, sin, true)
    }

    #[track_caller]
    fn rotate(&self, cos: &Tensor, sin: &Tensor, inverse: bool) -> Tensor {
        self.expect_float("rope");
        if self.rank() < 2 || !self.dim(-1).is_multiple_of(2) {
            panic!("rope: expected [..., seq, dim] with an even dim, got shape {}", self.shape());
        }
        let half = self.shape().with(self.rank() - 1, self.dim(-1) / 2);
        if cos.shape() != sin.shape()
            || cos.shape().broadcast(&half).as_ref() != Some(&half)
            || cos.dtype() != self.dtype()
            || sin.dtype() != self.dtype()
        {
            panic!("rope: angles {cos:?} and {sin:?} do not broadcast to {half} of {}", self.dtype());
        }
        self.device().rope(self, &cos.broadcast_to(&half), &sin.broadcast_to(&half), inverse)
    }
}

pub(crate) fn rope_composed(x: &Tensor, cos: &Tensor, sin: &Tensor, inverse: bool) -> Tensor {
    let n = x.dim(-1) as isize;
    let [turned, cos, sin] = [x, cos, sin].map(wide);
    let (a, b) = (turned.slice(-1, 0, n, 2), turned.slice(-1, 1, n, 2));
    let sin = if inverse { sin.neg() } else { sin };
    let (p, q) = (a.mul(&cos).sub(&b.mul(&sin)), a.mul(&sin).add(&b.mul(&cos)));
    Tensor::stack(&[p, q], -1).reshape_to(x.shape()).to_dtype(x.dtype())
}

pub(crate) mod cpu {
    use super::*;
    use crate::cpu::{build, par_chunks};
    use crate::layout::Loops;

    pub fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor, inverse: bool) -> Tensor {
        let n = x.dim(-1);
        match x.dtype() {
            t if t.is_half() => return rope(&wide(x), &wide(cos), &wide(sin), inverse).to_dtype(t),
            DType::F32 if x.numel() > 0 => {}
            _ => return rope_composed(x, cos, sin, inverse),
        }
        // Rows of one head at one position; the pairs of each must lie side by side.
        let dense = |t: &Tensor| if t.strides()[t.rank() - 1] == 1 { t.clone() } else { t.contiguous() };
        let (x, cos, sin) = (dense(x), dense(cos), dense(sin));
        let row = |t: &Tensor| t.narrow(-1, 0, 1);
        let (rx, rc, rs) = (row(&x), row(&cos), row(&sin));
        let loops: Loops<3> = Loops::new([rx.layout(), rc.layout(), rs.layout()]);
        let (inner, [sx, sc, ss]) = (loops.inner(), loops.inner_strides());
        let (xv, cv, sv) = (x.raw::<f32>(), cos.raw::<f32>(), sin.raw::<f32>());
        build(x.shape().clone(), DType::F32, |out: &mut [f32]| {
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
        })
    }
}
