//! The operations, a file a family: docs, shape rule, definition and CPU kernel together.

mod attention;
mod binary;
mod create;
mod index;
mod layout;
mod loss;
mod matmul;
mod norm;
mod optim;
mod reduce;
mod rope;
mod softmax;
mod sort;
mod unary;

pub use attention::Attention;
pub use binary::{BinaryOp, Operand};
pub use index::Repeats;
pub use loss::{CrossEntropy, Reduction};
pub use optim::AdamW;
pub use reduce::ReduceOp;
pub use unary::{Gelu, UnaryOp};

pub(crate) use attention::{attention_causal_backward_composed, attention_causal_composed};
pub(crate) use norm::{rms_norm_backward_composed, rms_norm_composed};
pub(crate) use optim::adamw_composed;
pub(crate) use rope::rope_composed;
pub(crate) use unary::{swiglu_backward_composed, swiglu_composed};

use crate::tensor::Tensor;

/// A float tensor in the dtype in which operations of several steps are computed and rounded once.
pub(crate) fn wide(t: &Tensor) -> Tensor {
    t.to_accumulator()
}

pub(crate) mod kernels {
    //! The CPU kernels of the families, gathered for [`crate::cpu::CpuBackend`].
    pub(crate) use super::attention::cpu as attention;
    pub(crate) use super::binary::cpu as binary;
    pub(crate) use super::create::cpu as create;
    pub(crate) use super::index::cpu as index;
    pub(crate) use super::matmul::cpu as matmul;
    pub(crate) use super::norm::cpu as norm;
    pub(crate) use super::optim::cpu as optim;
    pub(crate) use super::reduce::cpu as reduce;
    pub(crate) use super::rope::cpu as rope;
    pub(crate) use super::softmax::cpu as softmax;
    pub(crate) use super::sort::cpu as sort;
    pub(crate) use super::unary::cpu as unary;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Device, Generator};

    /// A backend that overrides none of the compositions rounds halves once too.
    #[test]
    fn compositions_round_halves_once() {
        let step = AdamW { lr: 0.1, beta1: 0.9, beta2: 0.99, eps: 1e-6, weight_decay: 0.1, step: 3, grad_scale: 0.5 };
        type Composition<'a> = (&'a str, &'a dyn Fn(&[Tensor]) -> Vec<Tensor>);
        let matrices: [Composition<'_>; 6] = [
            ("swiglu", &|x| vec![swiglu_composed(&x[0], &x[1])]),
            ("swiglu_backward", &|x| <[Tensor; 2]>::from(swiglu_backward_composed(&x[0], &x[1], &x[2])).to_vec()),
            ("rope", &|x| vec![rope_composed(&x[0], &x[1].narrow(-1, 0, 4), &x[2].narrow(-1, 0, 4), true)]),
            ("rms_norm", &|x| <[Tensor; 2]>::from(rms_norm_composed(&x[0], Some(&x[1].select(0, 0)), 0.1)).to_vec()),
            ("rms_norm_backward", &|x| {
                let rstd = wide(&x[1]).square().mean(-1, true).rsqrt();
                let (dx, dw) = rms_norm_backward_composed(&x[0], &x[1], Some(&x[2].select(0, 0)), &rstd);
                vec![dx, dw.expect("a weight's gradient")]
            }),
            ("adamw", &|x| <[Tensor; 3]>::from(adamw_composed(&x[0], &x[1], &wide(&x[2]), &wide(&x[3].abs()), &step)).to_vec()),
        ];
        let heads: [Composition<'_>; 2] = [
            ("attention_causal", &|x| <[Tensor; 2]>::from(attention_causal_composed(&x[0], &x[1], &x[2], None, 0.4)).to_vec()),
            ("attention_causal_backward", &|x| {
                let lse = attention_causal_composed(&x[0], &x[1], &x[2], None, 0.4).1;
                let grads = attention_causal_backward_composed(&x[3], &x[0], &x[1], &x[2], &x[3], &lse, 0.4);
                <[Tensor; 3]>::from(grads).to_vec()
            }),
        ];
        for dtype in [DType::BF16, DType::F16] {
            let mut rng = Generator::new(1);
            let mut draw = |shape: &[usize]| [(); 4].map(|_| rng.normal(shape, 0.0, 1.0, dtype, &Device::cpu()));
            for (compositions, x) in [(&matrices[..], draw(&[5, 8])), (&heads, draw(&[2, 2, 5, 8]))] {
                for (name, f) in compositions {
                    for (i, (got, want)) in f(&x).iter().zip(f(&x.each_ref().map(wide))).enumerate() {
                        assert_eq!(got.to_bytes(), want.to_dtype(got.dtype()).to_bytes(), "{name} {dtype}: result {i}");
                    }
                }
            }
        }
    }
}
