//! PLACEHOLDER by the lead so that the crate compiles: to be replaced by the kernels' author; keep these signatures.

/// One head's matrix: row `i` is `data[i * stride..][..cols]`.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    pub data: &'a [f32],
    pub stride: usize,
    pub cols: usize,
}
impl<'a> Head<'a> {
    fn row(&self, i: usize) -> &'a [f32] {
        &self.data[i * self.stride..][..self.cols]
    }
}
pub fn softmax(x: &[f32], y: &mut [f32]) {
    let max = x.iter().copied().fold(f32::NEG_INFINITY, |a, b| if a > b || a.is_nan() { a } else { b });
    let mut sum = 0.0;
    for (y, &x) in y.iter_mut().zip(x) {
        *y = (x - max).exp();
        sum += *y;
    }
    y.iter_mut().for_each(|y| *y /= sum);
}
pub fn log_softmax(x: &[f32], y: &mut [f32]) {
    let max = x.iter().copied().fold(f32::NEG_INFINITY, |a, b| if a > b || a.is_nan() { a } else { b });
    let sum: f32 = x.iter().map(|x| (x - max).exp()).sum();
    let log = sum.ln();
    y.iter_mut().zip(x).for_each(|(y, &x)| *y = x - max - log);
}
/// Returns rstd.
pub fn rms_norm(x: &[f32], weight: Option<&[f32]>, eps: f32, y: &mut [f32]) -> f32 {
    let ms: f32 = x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32;
    let r = 1.0 / (ms + eps).sqrt();
    for (i, (y, &x)) in y.iter_mut().zip(x).enumerate() {
        *y = x * r * weight.map_or(1.0, |w| w[i]);
    }
    r
}
/// Writes dx, adds to dweight.
pub fn rms_norm_backward(
    grad: &[f32],
    x: &[f32],
    weight: Option<&[f32]>,
    rstd: f32,
    dx: &mut [f32],
    dweight: Option<&mut [f32]>,
) {
    let w = |i: usize| weight.map_or(1.0, |w| w[i]);
    let n = x.len();
    let mean: f32 = (0..n).map(|i| grad[i] * w(i) * x[i] * rstd).sum::<f32>() / n as f32;
    for i in 0..n {
        dx[i] = rstd * (grad[i] * w(i) - x[i] * rstd * mean);
    }
    if let Some(dw) = dweight {
        (0..n).for_each(|i| dw[i] += grad[i] * x[i] * rstd);
    }
}
pub fn swiglu(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for i in 0..out.len() {
        out[i] = gate[i] / (1.0 + (-gate[i]).exp()) * up[i];
    }
}
pub fn swiglu_backward(grad: &[f32], gate: &[f32], up: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
    for i in 0..grad.len() {
        let s = 1.0 / (1.0 + (-gate[i]).exp());
        let silu = gate[i] * s;
        dup[i] = grad[i] * silu;
        dgate[i] = grad[i] * up[i] * s * (1.0 + gate[i] - silu);
    }
}
/// Causal attention of one head: query row i of `seq` sees the first `seen - seq + i + 1` keys.
#[allow(clippy::too_many_arguments)]
pub fn attention(q: Head, k: Head, v: Head, seq: usize, seen: usize, scale: f32, out: &mut [f32], lse: &mut [f32]) {
    let mut p = vec![0.0f32; seen];
    for i in 0..seq {
        let n = seen - seq + i + 1;
        for (j, p) in p[..n].iter_mut().enumerate() {
            *p = q.row(i).iter().zip(k.row(j)).map(|(a, b)| a * b).sum::<f32>() * scale;
        }
        let max = p[..n].iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut sum = 0.0;
        for p in &mut p[..n] {
            *p = (*p - max).exp();
            sum += *p;
        }
        let out = &mut out[i * v.cols..][..v.cols];
        out.fill(0.0);
        for (j, &p) in p[..n].iter().enumerate() {
            out.iter_mut().zip(v.row(j)).for_each(|(o, &v)| *o += p * v);
        }
        out.iter_mut().for_each(|o| *o /= sum);
        lse[i] = max + sum.ln();
    }
}
/// Gradients of one head: `saved` is q, k, v, the forward pass's output and log-sum-exp; dq, dk and dv are overwritten.
#[allow(clippy::too_many_arguments)]
pub fn attention_backward(
    grad: Head,
    (q, k, v, out, lse): (Head, Head, Head, Head, &[f32]),
    seq: usize,
    keys: usize,
    scale: f32,
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
) {
    dq.fill(0.0);
    dk.fill(0.0);
    dv.fill(0.0);
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    for i in 0..seq {
        let delta = dot(grad.row(i), out.row(i));
        for j in 0..keys - seq + i + 1 {
            let p = (dot(q.row(i), k.row(j)) * scale - lse[i]).exp();
            let ds = p * (dot(grad.row(i), v.row(j)) - delta) * scale;
            dv[j * v.cols..][..v.cols].iter_mut().zip(grad.row(i)).for_each(|(d, g)| *d += p * g);
            dq[i * q.cols..][..q.cols].iter_mut().zip(k.row(j)).for_each(|(d, k)| *d += ds * k);
            dk[j * k.cols..][..k.cols].iter_mut().zip(q.row(i)).for_each(|(d, q)| *d += ds * q);
        }
    }
}
