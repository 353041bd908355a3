//! Root-mean-square normalisation (Zhang and Sennrich, "Root mean square layer normalization", 2019).

use crate::dtype::DType;
use crate::fused::Fused;
use crate::operation::operation;
use crate::refuse;
use crate::tensor::Tensor;

impl Tensor {
    /// `x / √(mean(x²) + eps) · weight`, the mean over the last `normalized_shape.len()` dimensions. Without `eps` the dtype's
    /// epsilon is taken.
    ///
    /// # Panics
    /// If `x` does not end in `normalized_shape`, `weight` does not have that shape, or `eps` is not finite. (A negative one is
    /// taken, as PyTorch takes it.)
    #[track_caller]
    pub fn rms_norm(&self, normalized_shape: &[usize], weight: Option<&Tensor>, eps: Option<f64>) -> Tensor {
        operation("rms_norm", || {
            if !self.dims().ends_with(normalized_shape) {
                refuse!("shape {} does not end in {normalized_shape:?}", self.shape());
            }
            let op = Fused::RmsNorm { dims: normalized_shape.len(), eps: eps.unwrap_or(self.dtype().epsilon()) };
            let [y, _] = op.results(&[Some(self), weight].into_iter().flatten().collect::<Vec<_>>());
            y
        })
    }
}

pub(super) fn apply(x: &[&Tensor], dims: usize, eps: f64) -> Vec<Tensor> {
    let (x, weight) = (x[0], x.get(1));
    if dims == 0 || dims > x.rank() {
        refuse!("over {dims} dimensions of shape {}", x.shape());
    }
    if !eps.is_finite() {
        refuse!("eps is {eps}, expected a finite number");
    }
    let (lead, row) = x.dims().split_at(x.rank() - dims);
    if let Some(w) = weight.filter(|w| w.dims() != row || w.dtype() != x.dtype()) {
        refuse!("weight {w:?} for rows {row:?} of {}", x.dtype());
    }
    let flat = x.reshape_to(&[lead.iter().product(), row.iter().product()].into());
    let weight = weight.map(|w| w.flatten(0, -1));
    let mut results =
        Fused::RmsNorm { dims: 1, eps }.run(&[Some(&flat), weight.as_ref()].into_iter().flatten().collect::<Vec<_>>());
    results[0] = results[0].reshape_to(x.shape());
    results
}

pub(super) fn apply_backward(op: &Fused, x: &[&Tensor]) -> Vec<Tensor> {
    let (grad, value, rstd, weight) = (x[0], x[1], x[2], x.get(3));
    let rows = rstd.numel();
    // Without rows only the weight knows their length.
    let n = weight.map_or_else(|| value.numel().checked_div(rows).unwrap_or(0), |w| w.numel());
    let fits = rows * n == value.numel()
        && rstd.dtype() == value.dtype().accumulator()
        && (grad.shape(), grad.dtype()) == (value.shape(), value.dtype())
        && weight.is_none_or(|w| value.dims().ends_with(w.dims()) && w.dtype() == value.dtype());
    if !fits {
        refuse!("gradient {grad:?}, weight {weight:?} and rstd {rstd:?} for {value:?}");
    }
    let [grad, flat] = [grad, value].map(|t| t.reshape_to(&[rows, n].into()));
    let row = weight.map(|w| w.flatten(0, -1));
    let mut results = op.run(&[Some(&grad), Some(&flat), Some(rstd), row.as_ref()].into_iter().flatten().collect::<Vec<_>>());
    results[0] = results[0].reshape_to(value.shape());
    if let Some(w) = weight {
        results[1] = results[1].reshape_to(w.shape());
    }
    results
}

pub(super) fn forward(x: &[&Tensor], eps: f64) -> Vec<Tensor> {
    let rstd = x[0].square().mean(-1, true).add(eps).rsqrt();
    let y = x[0].mul(&rstd);
    vec![x.get(1).map_or(y.clone(), |w| y.mul(*w)), rstd]
}

/// With `x̂ = x·rstd` and `g = grad·weight`: `dx = rstd·(g − x̂·mean(g·x̂))`, `dweight = Σ_rows grad·x̂`.
pub(super) fn backward(x: &[&Tensor]) -> Vec<Tensor> {
    let (grad, normed, rstd) = (x[0], x[1].mul(x[2]), x[2]);
    let g = x.get(3).map_or(grad.clone(), |w| grad.mul(*w));
    let dx = g.sub(&normed.mul(&g.mul(&normed).mean(-1, true))).mul(rstd);
    let dw = x.get(3).map(|_| grad.mul(&normed).sum(0, false));
    [dx].into_iter().chain(dw).collect()
}

pub(super) mod cpu {
    use super::*;
    use crate::cpu::rows::dot;
    use crate::cpu::simd::{dispatch, fma};
    use crate::cpu::{build, build2, par_chunks2, par_parts, par_parts2};

    pub fn forward(x: &[&Tensor], eps: f64) -> Vec<Tensor> {
        let (x, weight) = (x[0].contiguous(), x.get(1).map(|w| w.contiguous()));
        let (n, w, source) = (x.dims()[1], weight.as_ref().map(|w| w.data::<f32>()), x.data::<f32>());
        let results = build2((x.shape(), DType::F32), ([x.dims()[0], 1], DType::F32), |y: &mut [f32], rstd: &mut [f32]| {
            par_chunks2(y, n, rstd, 1, |row, y, rstd| {
                for (i, (y, r)) in y.chunks_exact_mut(n).zip(rstd).enumerate() {
                    *r = rms_norm(&source[(row + i) * n..][..n], w, eps as f32, y);
                }
            });
        });
        vec![results.0, results.1]
    }

    pub fn backward(x: &[&Tensor]) -> Vec<Tensor> {
        /// Rows whose weight gradients are added up before they join the others': fixes the order of summation.
        const BLOCK: usize = 256;
        let [grad, rstd] = [x[0], x[2]].map(Tensor::contiguous);
        let (x, weight) = (x[1].contiguous(), x.get(3).map(|w| w.contiguous()));
        let n = x.dims()[1];
        let (w, g, source, r) =
            (weight.as_ref().map(|w| w.data::<f32>()), grad.data::<f32>(), x.data::<f32>(), rstd.data::<f32>());
        let mut partial = vec![0.0f32; if w.is_some() { r.len().div_ceil(BLOCK) * n } else { 0 }];
        let dx = build(x.shape().clone(), DType::F32, |dx: &mut [f32]| {
            let run = |block: usize, dx: &mut [f32], mut dw: Option<&mut [f32]>| {
                for (i, dx) in dx.chunks_exact_mut(n).enumerate() {
                    let row = block * BLOCK + i;
                    let at = row * n..(row + 1) * n;
                    rms_norm_backward(&g[at.clone()], &source[at], w, r[row], dx, dw.as_deref_mut());
                }
            };
            match w {
                Some(_) => par_parts2(dx, BLOCK * n, &mut partial, n, &|b, dx, dw| run(b, dx, Some(dw))),
                None => par_parts(dx, BLOCK * n, &|b, dx| run(b, dx, None)),
            }
        });
        let dw = weight.map(|_| {
            build(n, DType::F32, |dw: &mut [f32]| {
                dw.fill(0.0);
                partial.chunks_exact(n).for_each(|p| dw.iter_mut().zip(p).for_each(|(a, &v)| *a += v));
            })
        });
        [dx].into_iter().chain(dw).collect()
    }

    dispatch! {
        /// Returns `rstd`.
        fn rms_norm(x: &[f32], weight: Option<&[f32]>, eps: f32, y: &mut [f32]) -> f32 {
            assert_eq!(x.len(), y.len());
            let rstd = 1.0 / (dot::<FMA>(x, x) / x.len() as f32 + eps).sqrt();
            match weight {
                Some(weight) => {
                    assert_eq!(x.len(), weight.len());
                    for ((y, &x), &w) in y.iter_mut().zip(x).zip(weight) {
                        *y = x * rstd * w;
                    }
                }
                None => y.iter_mut().zip(x).for_each(|(y, &x)| *y = x * rstd),
            }
            rstd
        }

        /// Writes `dx` and adds `grad · x̂` to `dweight`, so that rows must come in a fixed order.
        fn rms_norm_backward(
            grad: &[f32],
            x: &[f32],
            weight: Option<&[f32]>,
            rstd: f32,
            dx: &mut [f32],
            dweight: Option<&mut [f32]>,
        ) {
            assert!(grad.len() == x.len() && dx.len() == x.len());
            match weight {
                Some(weight) => {
                    assert_eq!(x.len(), weight.len());
                    dx.iter_mut().zip(grad).zip(weight).for_each(|((dx, &g), &w)| *dx = g * w);
                }
                None => dx.copy_from_slice(grad),
            }
            let mean = dot::<FMA>(dx, x) * rstd / x.len() as f32;
            for (dx, &x) in dx.iter_mut().zip(x) {
                *dx = rstd * fma::<FMA, _>(-x * rstd, mean, *dx);
            }
            if let Some(dweight) = dweight {
                assert_eq!(x.len(), dweight.len());
                for ((dw, &g), &x) in dweight.iter_mut().zip(grad).zip(x) {
                    *dw = fma::<FMA, _>(g, x * rstd, *dw);
                }
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use crate::cpu::fold::LANES;
        use crate::cpu::rows::tests::{U, close, each_row, wide};

        #[test]
        fn both_passes_agree_with_f64() {
            each_row(|x, random| {
                let n = x.len();
                let (weight, grad) = (random.values(n, 2.0), random.values(n, 1.0));
                let weight = (random.below(3) > 0).then_some(&weight[..]);
                let w: Vec<f64> = (0..n).map(|i| weight.map_or(1.0, |w| f64::from(w[i]))).collect();
                let (wx, wg) = (wide(x), wide(&grad));
                let eps = 1e-6f32;
                let rstd = 1.0 / (wx.iter().map(|x| x * x).sum::<f64>() / n as f64 + f64::from(eps)).sqrt();
                let mut y = vec![0.0; n];
                let r = rms_norm(x, weight, eps, &mut y);
                // A chain for each lane and five levels, a product, then division, eps, root (which halves) and reciprocal.
                let added = (n / LANES + 7) as f64 * U;
                let relative = (added / 2.0 + 4.0 * U) * 1.01;
                close(r, rstd, rstd * relative);
                for i in 0..n {
                    let exact = wx[i] * rstd * w[i];
                    close(y[i], exact, exact.abs() * (relative + 2.0 * U) * 1.01);
                }

                let (mut dx, mut dw) = (vec![7.0; n], vec![1.0; n]);
                rms_norm_backward(&grad, x, weight, r, &mut dx, weight.map(|_| &mut dw[..]));
                let g: Vec<f64> = (0..n).map(|i| wg[i] * w[i]).collect();
                let mean = (0..n).map(|i| g[i] * wx[i] * rstd).sum::<f64>() / n as f64;
                let size = (0..n).map(|i| (g[i] * wx[i] * rstd).abs()).sum::<f64>() / n as f64;
                for i in 0..n {
                    let normed = wx[i] * rstd;
                    let exact = rstd * (g[i] - normed * mean);
                    let bound =
                        rstd * ((relative + 3.0 * U) * g[i].abs() + (3.0 * relative + added + 6.0 * U) * normed.abs() * size);
                    close(dx[i], exact, bound * 1.01);
                    if weight.is_some() {
                        let exact = 1.0 + wg[i] * normed;
                        close(dw[i], exact, (wg[i] * normed).abs() * (relative + 3.0 * U) * 1.01 + U * exact.abs() + U);
                    }
                }
            });
        }
    }
}
