//! Fused operations, a file a family: docs, checks, definition as a composition, CPU kernel. What a [`Fused`] is made of is said
//! here, a line each.

mod attention;
mod norm;
mod optim;
mod rope;
mod swiglu;

use crate::dtype::DType;
use crate::fused::Fused;
use crate::operation::operation;
use crate::refuse;
use crate::tensor::Tensor;

impl Fused {
    /// Applies it to its operands, which are described at each variant.
    ///
    /// # Panics
    /// If the number of operands, their shapes, dtypes or devices do not fit.
    #[track_caller]
    pub fn apply(&self, x: &[&Tensor]) -> Vec<Tensor> {
        operation(self.name(), || {
            if !self.operands().contains(&x.len()) {
                refuse!("{} operands, expected {:?}", x.len(), self.operands());
            }
            x[0].expect_float();
            if let Some(other) = x.iter().find(|t| t.device() != x[0].device()) {
                refuse!("operands on {} and {}", x[0].device(), other.device());
            }
            match self {
                Fused::Swiglu | Fused::SwigluBackward => swiglu::apply(self, x),
                Fused::RmsNorm { dims, eps } => norm::apply(x, *dims, *eps),
                Fused::RmsNormBackward => norm::apply_backward(self, x),
                Fused::Rope { .. } => rope::apply(self, x),
                Fused::AttentionCausal { visible, .. } => attention::apply(self, x, visible.as_deref()),
                Fused::AttentionCausalBackward { .. } => attention::apply_backward(self, x),
                Fused::AdamW(step) => optim::apply(self, x, step),
            }
        })
    }

    /// [`Fused::apply`] where it has `N` results.
    #[track_caller]
    fn results<const N: usize>(&self, x: &[&Tensor]) -> [Tensor; N] {
        self.apply(x).try_into().expect("as many results as the operation has")
    }

    /// Applies it to operands that fit: by the device's kernel, else by the definition, which half types compute in f32.
    fn run(&self, x: &[&Tensor]) -> Vec<Tensor> {
        if let Some(results) = x[0].device().fused(self, x) {
            return results;
        }
        let dtype = x[0].dtype();
        if dtype.accumulator() == dtype {
            return self.definition(x);
        }
        let wide: Vec<Tensor> = x.iter().map(|t| t.to_accumulator()).collect();
        let results = self.run(&wide.iter().collect::<Vec<_>>()).into_iter().enumerate();
        results.map(|(i, y)| if self.is_statistic(i) { y } else { y.to_dtype(dtype) }).collect()
    }

    /// What it is, as a composition.
    fn definition(&self, x: &[&Tensor]) -> Vec<Tensor> {
        match self {
            Fused::Swiglu => swiglu::forward(x),
            Fused::SwigluBackward => swiglu::backward(x),
            Fused::RmsNorm { eps, .. } => norm::forward(x, *eps),
            Fused::RmsNormBackward => norm::backward(x),
            Fused::Rope { inverse } => rope::rotate(x, *inverse),
            Fused::AttentionCausal { visible, scale } => attention::forward(x, visible.as_deref(), *scale),
            Fused::AttentionCausalBackward { scale } => attention::backward(x, *scale),
            Fused::AdamW(step) => optim::step(x, step),
        }
    }
}

pub(crate) mod cpu {
    use super::*;
    use crate::profile::time;

    /// The CPU's kernels, for operands in f32 that are not empty.
    pub fn fused(op: &Fused, x: &[&Tensor]) -> Option<Vec<Tensor>> {
        if x.iter().any(|t| t.dtype() != DType::F32 || t.numel() == 0) {
            return None;
        }
        Some(time(op.name(), || match op {
            Fused::Swiglu => swiglu::cpu::forward(x),
            Fused::SwigluBackward => swiglu::cpu::backward(x),
            Fused::RmsNorm { eps, .. } => norm::cpu::forward(x, *eps),
            Fused::RmsNormBackward => norm::cpu::backward(x),
            Fused::Rope { inverse } => rope::cpu::rotate(x, *inverse),
            Fused::AttentionCausal { visible, scale } => attention::cpu::forward(x, visible.as_deref(), *scale),
            Fused::AttentionCausalBackward { scale } => attention::cpu::backward(x, *scale),
            Fused::AdamW(step) => optim::cpu::step(x, step),
        }))
    }
}
