//! Gradients against central differences.

use crate::mode::no_grad;
use crate::var::Var;
use tensor::{DType, Generator, Tensor};

/// Settings of [`gradcheck`].
#[derive(Clone, Copy, Debug)]
pub struct Gradcheck {
    /// The step `h` of the differences, multiplied by `|x|` where that is above 1. The function must be smooth within `h` of the
    /// point: the caller keeps away from kinks.
    pub eps: f64,
    /// Allowed error relative to the gradient.
    pub rtol: f64,
    /// Allowed error relative to `Σ|u·y|`, the size of what is differentiated. The rounding error of the differences, which
    /// has the same scale, is added.
    pub atol: f64,
    /// At most so many elements of each input are checked, evenly spaced.
    pub samples: usize,
    /// Seed of the weights `u` of the outputs.
    pub seed: u64,
}

impl Default for Gradcheck {
    fn default() -> Self {
        Gradcheck { eps: 1e-4, rtol: 1e-7, atol: 1e-9, samples: usize::MAX, seed: 0 }
    }
}

/// Why [`gradcheck`] did not accept a gradient.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GradcheckError {
    /// An input is not f64.
    #[error("input {input} is {dtype}, expected f64")]
    NotF64 {
        /// Which input.
        input: usize,
        /// Its dtype.
        dtype: DType,
    },
    /// The output depends on no input.
    #[error("the output depends on no input")]
    Untracked,
    /// The output does not depend on an input, but the differences say that it does.
    #[error("no gradient reached input {input}, but element {index} has the difference quotient {numeric:e}")]
    Missing {
        /// Which input.
        input: usize,
        /// Which of its elements in row-major order.
        index: usize,
        /// The difference quotient.
        numeric: f64,
    },
    /// A gradient differs from the difference quotient.
    #[error(
        "input {input}, element {index}: gradient {analytic:e}, difference quotient {numeric:e}, allowed difference {tolerance:e}"
    )]
    Mismatch {
        /// Which input.
        input: usize,
        /// Which of its elements in row-major order.
        index: usize,
        /// What the backward pass gave.
        analytic: f64,
        /// The difference quotient.
        numeric: f64,
        /// How far they may lie apart.
        tolerance: f64,
    },
}

/// Compares the gradients of `f` at `inputs` with difference quotients, in f64.
///
/// The output is weighted with random numbers `u`, so that one backward pass checks the whole Jacobian. The quotient is
/// Richardson's, `(4·D(h/2) − D(h))/3` of central differences `D`: truncation is of order `h⁴`, rounding of order
/// `ε·Σ|u·y|/h`; with `h = 1e-4` both stay below 1e-10 for functions of moderate size, far below any wrong rule.
///
/// Inputs keep their layout (strided, expanded…) for the backward pass; the quotients are taken on contiguous copies.
///
/// # Errors
/// The first element whose gradient is wrong or missing; inputs that are not f64; an output that depends on no input.
pub fn gradcheck(f: impl Fn(&[Var]) -> Var, inputs: &[Tensor], check: &Gradcheck) -> Result<(), GradcheckError> {
    if let Some(input) = inputs.iter().position(|x| x.dtype() != DType::F64) {
        return Err(GradcheckError::NotF64 { input, dtype: inputs[input].dtype() });
    }
    let params: Vec<Var> = inputs.iter().map(|x| Var::parameter(x.clone())).collect();
    let out = f(&params);
    if !out.requires_grad() {
        return Err(GradcheckError::Untracked);
    }
    let y = out.value().to_f64_vec();
    let weights = Generator::new(check.seed).uniform(out.shape(), 0.5, 1.5, DType::F64, &out.device());
    out.backward_with(&weights.to_dtype(out.dtype()));
    let u = weights.to_f64_vec();
    let scale: f64 = u.iter().zip(&y).map(|(u, y)| (u * y).abs()).sum();

    let mut point: Vec<Vec<f64>> = inputs.iter().map(Tensor::to_f64_vec).collect();
    let evaluate = |point: &[Vec<f64>]| -> Vec<f64> {
        let at: Vec<Var> =
            point.iter().zip(inputs).map(|(p, x)| Tensor::from_slice(p, x.shape().clone(), x.device()).into()).collect();
        no_grad(|| f(&at)).value().to_f64_vec()
    };
    for (input, param) in params.iter().enumerate() {
        let analytic = param.grad().map(|g| g.to_f64_vec());
        let n = point[input].len();
        for index in (0..n).step_by(n.div_ceil(check.samples.max(1)).max(1)) {
            let x = point[input][index];
            let h = check.eps * x.abs().max(1.0);
            let mut difference = |h: f64| {
                let mut at = |x: f64| {
                    point[input][index] = x;
                    evaluate(&point)
                };
                let (plus, minus) = (at(x + h), at(x - h));
                // Differences first, then the sum: what does not depend on x cancels without rounding.
                let total: f64 = plus.iter().zip(&minus).zip(&u).map(|((p, m), u)| (p - m) * u).sum();
                total / ((x + h) - (x - h))
            };
            let numeric = (4.0 * difference(h / 2.0) - difference(h)) / 3.0;
            point[input][index] = x;
            let rounding = 16.0 * f64::EPSILON * scale / h;
            let tolerance = check.rtol * numeric.abs() + check.atol * scale.max(1.0) + rounding;
            match &analytic {
                // A NaN on either side fails.
                Some(g) if (g[index] - numeric).abs() <= tolerance => {}
                Some(g) => return Err(GradcheckError::Mismatch { input, index, analytic: g[index], numeric, tolerance }),
                None if numeric.abs() <= tolerance => {}
                None => return Err(GradcheckError::Missing { input, index, numeric }),
            }
        }
    }
    Ok(())
}
