//! Cross-entropy.

use crate::operand::{Value, VarOperand};
use crate::var::Var;
use tensor::{CrossEntropy, Reduction};

impl Var {
    /// Cross-entropy between logits (`[classes]`, `[n, classes]` or `[n, classes, d…]`) and targets: class indices (an integer
    /// tensor without the class dimension) or class probabilities (of the logits' shape; a [`Var`] gets a gradient). The mean is
    /// weighted: for indices the sum is divided by the weights of the targets that count, for probabilities by the number of
    /// samples.
    ///
    /// # Panics
    /// If shapes do not fit, a class does not exist, or the target is a number.
    #[track_caller]
    pub fn cross_entropy<'a>(&self, target: impl Into<VarOperand<'a>>, options: &CrossEntropy<'_>) -> Var {
        let target = target.into();
        let edges = [self.edge(), target.edge()];
        let target = match target.value() {
            Value::Tensor(t) => t,
            Value::Scalar(s) => panic!("cross_entropy: the target is a number, {s:?}"),
        };
        let logits = self.value();
        let value = logits.cross_entropy(&target, options);
        let (weight, ignore_index, reduction, label_smoothing) =
            (options.weight.cloned(), options.ignore_index, options.reduction, options.label_smoothing);
        Var::op_edges("cross_entropy", value, edges, move |g, needs| {
            let options = CrossEntropy { weight: weight.as_ref(), ignore_index, reduction, label_smoothing };
            // loss = −Σ coefficient · log p, so d logits = p · Σ coefficients − coefficients.
            let x = logits.to_accumulator();
            let (dim, coefficients, divisor) = options.coefficients(&x, &target);
            let g = match reduction {
                Reduction::None => g.unsqueeze(dim),
                Reduction::Sum => g.clone(),
                Reduction::Mean => g.div(&divisor),
            };
            let logp = x.log_softmax(dim);
            let dx = || {
                let total = coefficients.sum(dim, true);
                let d = logp.exp().mul(&total).sub(&coefficients).mul(&g);
                // What counts for nothing has no gradient, also where the mean is one over nothing: 0/0.
                let nothing = total.eq(0.0).logical_and(&coefficients.eq(0.0));
                d.masked_fill(&nothing, 0.0)
            };
            let dt = || {
                let classes = logits.dims()[dim as usize];
                let along: Vec<isize> =
                    (0..logits.rank()).map(|d| if d as isize == dim { classes as isize } else { 1 }).collect();
                let scaled = logp.mul(&g).mul(label_smoothing - 1.0);
                let scaled = weight.as_ref().map_or(scaled.clone(), |w| scaled.mul(&w.to_dtype(scaled.dtype()).reshape(&along)));
                scaled.to_dtype(target.dtype().accumulator())
            };
            [needs[0].then(dx), needs[1].then(dt)]
        })
    }
}
