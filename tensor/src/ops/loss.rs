//! Cross-entropy.

use crate::dtype::DType;
use crate::operation::operation;
use crate::refuse;
use crate::tensor::Tensor;

/// What becomes of a loss a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Reduction {
    /// Each by itself.
    None,
    /// Their weighted mean.
    #[default]
    Mean,
    /// Their sum.
    Sum,
}

/// Options of [`Tensor::cross_entropy`].
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropy<'a> {
    /// A weight a class, `[classes]`.
    pub weight: Option<&'a Tensor>,
    /// Targets of this value count for nothing.
    pub ignore_index: i64,
    /// What becomes of the losses.
    pub reduction: Reduction,
    /// The share of each target spread evenly over all classes.
    pub label_smoothing: f64,
}

impl Default for CrossEntropy<'_> {
    fn default() -> Self {
        CrossEntropy { weight: None, ignore_index: -100, reduction: Reduction::Mean, label_smoothing: 0.0 }
    }
}

impl<'a> CrossEntropy<'a> {
    /// The class dimension, and what multiplies each log-probability: `loss = −Σ coefficient · log_softmax(logits)` summed over
    /// classes, plus the divisor of the mean. Targets are class indices (integers, logits' shape without classes) or
    /// probabilities (floats, logits' shape; halves in f32). The one definition that forward and backward share.
    ///
    /// # Panics
    /// If shapes do not fit, a class does not exist, or `label_smoothing` is not within 0 and 1.
    #[track_caller]
    pub fn coefficients(&self, logits: &Tensor, target: &Tensor) -> (isize, Tensor, Tensor) {
        operation("coefficients", || {
            logits.expect_float();
            if !(0.0..=1.0).contains(&self.label_smoothing) {
                refuse!("label_smoothing is {}, expected 0 to 1", self.label_smoothing);
            }
            let dim = if logits.rank() == 1 { 0 } else { 1 };
            if logits.rank() == 0 {
                refuse!("0-d logits");
            }
            let (classes, dtype, device) = (logits.dims()[dim], logits.dtype(), logits.device());
            let dim = dim as isize;
            let mut along: Vec<isize> = vec![1; logits.rank()];
            along[dim as usize] = classes as isize;
            let weight = self.weight.map(|w| {
                if w.dims() != [classes] {
                    refuse!("weight of shape {} for {classes} classes", w.shape());
                }
                w.to_dtype(dtype).reshape(&along)
            });
            let smooth = self.label_smoothing;
            if target.dtype().is_float() {
                if target.shape() != logits.shape() {
                    refuse!("class probabilities of shape {} for logits of shape {}", target.shape(), logits.shape());
                }
                let p = target.to_accumulator().mul(1.0 - smooth).add(smooth / classes as f64);
                let p = weight.map_or(p.clone(), |w| p.mul(&w));
                let samples = (logits.numel() / classes.max(1)) as f64;
                return (dim, p, Tensor::scalar(samples, dtype, device));
            }
            let expected: Vec<usize> =
                logits.dims().iter().enumerate().filter(|&(i, _)| i != dim as usize).map(|(_, &s)| s).collect();
            if target.dims() != expected {
                refuse!("targets of shape {} for logits of shape {} (expected {expected:?})", target.shape(), logits.shape());
            }
            let target = target.to_dtype(DType::I64).unsqueeze(dim);
            let valid = target.ne(self.ignore_index).to_dtype(dtype);
            let safe = Tensor::where_(&target.eq(self.ignore_index), 0, &target);
            let one_hot = logits.zeros_like().scatter(dim, &safe, 1);
            let weight =
                weight.unwrap_or_else(|| Tensor::ones(along.iter().map(|&s| s as usize).collect::<Vec<_>>(), dtype, device));
            let hot = one_hot.mul(&weight).mul(&valid);
            let divisor = hot.sum((), false);
            let spread = valid.mul(&weight).mul(smooth / classes as f64);
            (dim, hot.mul(1.0 - smooth).add(&spread), divisor)
        })
    }
}

impl Tensor {
    /// Cross-entropy between logits (`[classes]`, `[n, classes]` or `[n, classes, d…]`) and targets: class indices (integers,
    /// without the class dimension) or class probabilities (floats, of the logits' shape). The mean is weighted: for indices the
    /// sum is divided by the weights of the targets that count, for probabilities by the number of samples.
    ///
    /// # Panics
    /// If shapes do not fit, a class does not exist, or `label_smoothing` is not within 0 and 1.
    #[track_caller]
    pub fn cross_entropy(&self, target: &Tensor, options: &CrossEntropy<'_>) -> Tensor {
        operation("cross_entropy", || {
            let x = self.to_accumulator();
            let (dim, coefficients, divisor) = options.coefficients(&x, target);
            // A class of weight 0 may have a log-probability of −∞; their product counts as 0.
            let terms = Tensor::where_(&coefficients.eq(0.0), 0.0, &x.log_softmax(dim).mul(&coefficients)).neg();
            let loss = match options.reduction {
                Reduction::None => terms.sum(dim, false),
                Reduction::Sum => terms.sum((), false),
                Reduction::Mean => terms.sum((), false).div(&divisor),
            };
            loss.to_dtype(self.dtype())
        })
    }
}
