//! Root-mean-square normalisation (Zhang and Sennrich, "Root mean square layer normalization", 2019).

use crate::dtype::DType;
use crate::ops::wide;
use crate::tensor::Tensor;

impl Tensor {
    /// `x / √(mean(x²) + eps) · weight`, the mean over the last `normalized_shape.len()` dimensions. Without `eps` the dtype's
    /// epsilon is taken.
    ///
    /// # Panics
    /// If `x` does not end in `normalized_shape`, `weight` does not have that shape, or `eps` is negative or not finite.
    #[track_caller]
    pub fn rms_norm(&self, normalized_shape: &[usize], weight: Option<&Tensor>, eps: Option<f64>) -> Tensor {
        self.rms_norm_with_rstd(normalized_shape, weight, eps).0
    }

    /// [`Tensor::rms_norm`] and `1/√(mean(x²) + eps)`, which its gradient needs: one a row, in f32 for half types.
    ///
    /// # Panics
    /// As [`Tensor::rms_norm`].
    #[track_caller]
    pub fn rms_norm_with_rstd(&self, normalized_shape: &[usize], weight: Option<&Tensor>, eps: Option<f64>) -> (Tensor, Tensor) {
        self.expect_float("rms_norm");
        if normalized_shape.is_empty() || !self.dims().ends_with(normalized_shape) {
            panic!("rms_norm: shape {} does not end in {normalized_shape:?}", self.shape());
        }
        if let Some(w) = weight.filter(|w| w.dims() != normalized_shape || w.dtype() != self.dtype()) {
            panic!("rms_norm: weight {w:?} for normalized shape {normalized_shape:?} of {}", self.dtype());
        }
        let eps = eps.unwrap_or(self.dtype().epsilon());
        if !(eps >= 0.0 && eps.is_finite()) {
            panic!("rms_norm: eps is {eps}, expected a finite number that is not negative");
        }
        let n: usize = normalized_shape.iter().product();
        let lead = &self.dims()[..self.rank() - normalized_shape.len()];
        let rows: usize = lead.iter().product();
        let x = self.reshape_to(&[rows, n].into());
        let (y, rstd) = self.device().rms_norm(&x, weight.map(|w| w.flatten(0, -1)).as_ref(), eps);
        (y.reshape_to(self.shape()), rstd)
    }

    /// Gradients of [`Tensor::rms_norm`] for `x` (`self`) and the weight, from the `rstd` of the forward pass.
    ///
    /// # Panics
    /// If shapes or dtypes are not those of a forward pass.
    #[track_caller]
    pub fn rms_norm_backward(&self, grad: &Tensor, weight: Option<&Tensor>, rstd: &Tensor) -> (Tensor, Option<Tensor>) {
        self.expect_float("rms_norm_backward");
        let rows = rstd.numel();
        // Without rows only the weight knows their length.
        let n = weight.map_or_else(|| self.numel().checked_div(rows).unwrap_or(0), Tensor::numel);
        let fits = rows * n == self.numel()
            && rstd.dtype() == self.dtype().accumulator()
            && (grad.shape(), grad.dtype()) == (self.shape(), self.dtype())
            && weight.is_none_or(|w| self.dims().ends_with(w.dims()) && w.dtype() == self.dtype());
        if !fits {
            panic!("rms_norm_backward: gradient {grad:?}, weight {weight:?} and rstd {rstd:?} for {self:?}");
        }
        let flat = |t: &Tensor| t.reshape_to(&[rows, n].into());
        let (dx, dw) = self.device().rms_norm_backward(&flat(grad), &flat(self), weight.map(|w| w.flatten(0, -1)).as_ref(), rstd);
        (dx.reshape_to(self.shape()), dw.map(|dw| dw.reshape_to(weight.expect("a weight's gradient").shape())))
    }
}

/// `x` is `[rows, n]`, `weight` `[n]`; `rstd` is `[rows, 1]` in f32 for half types, else in x's dtype.
pub(crate) fn rms_norm_composed(x: &Tensor, weight: Option<&Tensor>, eps: f64) -> (Tensor, Tensor) {
    let x32 = wide(x);
    let rstd = x32.square().mean(-1, true).add(eps).rsqrt();
    let y = x32.mul(&rstd);
    (weight.map_or(y.clone(), |w| y.mul(w)).to_dtype(x.dtype()), rstd)
}

/// With `x̂ = x·rstd` and `g = grad·weight`: `dx = rstd·(g − x̂·mean(g·x̂))`, `dweight = Σ_rows grad·x̂`.
pub(crate) fn rms_norm_backward_composed(
    grad: &Tensor,
    x: &Tensor,
    weight: Option<&Tensor>,
    rstd: &Tensor,
) -> (Tensor, Option<Tensor>) {
    let wide = rstd.dtype();
    let (grad, normed) = (grad.to_dtype(wide), x.to_dtype(wide).mul(rstd));
    let g = weight.map_or(grad.clone(), |w| grad.mul(&w.to_dtype(wide)));
    let dx = g.sub(&normed.mul(&g.mul(&normed).mean(-1, true))).mul(rstd);
    let dw = weight.map(|w| grad.mul(&normed).sum(0, false).to_dtype(w.dtype()));
    (dx.to_dtype(x.dtype()), dw)
}

pub(crate) mod cpu {
    use super::*;
    use crate::cpu::{build, par_chunks2, par_parts, par_parts2, rows};

    pub fn rms_norm(x: &Tensor, weight: Option<&Tensor>, eps: f64) -> (Tensor, Tensor) {
        match x.dtype() {
            t if t.is_half() => {
                let (y, rstd) = rms_norm(&wide(x), weight.map(wide).as_ref(), eps);
                return (y.to_dtype(t), rstd);
            }
            DType::F32 if x.numel() > 0 => {}
            _ => return rms_norm_composed(x, weight, eps),
        }
        let (x, weight) = (x.contiguous(), weight.map(Tensor::contiguous));
        let (n, w, source) = (x.dims()[1], weight.as_ref().map(|w| w.data::<f32>()), x.data::<f32>());
        let mut rstd = None;
        let y = build(x.shape().clone(), DType::F32, |y: &mut [f32]| {
            rstd = Some(build([x.dims()[0], 1], DType::F32, |rstd: &mut [f32]| {
                par_chunks2(y, n, rstd, 1, |row, y, rstd| {
                    for (i, (y, r)) in y.chunks_exact_mut(n).zip(rstd).enumerate() {
                        *r = rows::rms_norm(&source[(row + i) * n..][..n], w, eps as f32, y);
                    }
                });
            }));
        });
        (y, rstd.expect("filled above"))
    }

    pub fn rms_norm_backward(grad: &Tensor, x: &Tensor, weight: Option<&Tensor>, rstd: &Tensor) -> (Tensor, Option<Tensor>) {
        /// Rows whose weight gradients are added up before they join the others': fixes the order of summation.
        const BLOCK: usize = 256;
        match x.dtype() {
            t if t.is_half() => {
                let (dx, dw) = rms_norm_backward(&wide(grad), &wide(x), weight.map(wide).as_ref(), rstd);
                return (dx.to_dtype(t), dw.map(|dw| dw.to_dtype(t)));
            }
            DType::F32 if x.numel() > 0 => {}
            _ => return rms_norm_backward_composed(grad, x, weight, rstd),
        }
        let (grad, x, weight) = (grad.contiguous(), x.contiguous(), weight.map(Tensor::contiguous));
        let n = x.dims()[1];
        let (w, g, source, r) =
            (weight.as_ref().map(|w| w.data::<f32>()), grad.data::<f32>(), x.data::<f32>(), rstd.data::<f32>());
        let mut partial = vec![0.0f32; if w.is_some() { r.len().div_ceil(BLOCK) * n } else { 0 }];
        let dx = build(x.shape().clone(), DType::F32, |dx: &mut [f32]| {
            let run = |block: usize, dx: &mut [f32], mut dw: Option<&mut [f32]>| {
                for (i, dx) in dx.chunks_exact_mut(n).enumerate() {
                    let row = block * BLOCK + i;
                    let at = row * n..(row + 1) * n;
                    rows::rms_norm_backward(&g[at.clone()], &source[at], w, r[row], dx, dw.as_deref_mut());
                }
            };
            match w {
                Some(_) => par_parts2(dx, BLOCK * n, &mut partial, n, |b, dx, dw| run(b, dx, Some(dw))),
                None => par_parts(dx, BLOCK * n, |b, dx| run(b, dx, None)),
            }
        });
        let dw = weight.map(|_| {
            build(n, DType::F32, |dw: &mut [f32]| {
                dw.fill(0.0);
                partial.chunks_exact(n).for_each(|p| dw.iter_mut().zip(p).for_each(|(a, &v)| *a += v));
            })
        });
        (dx, dw)
    }
}
