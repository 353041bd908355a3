//! Matrix products, attention, norms, losses and embeddings.

use super::arguments::Call;
use super::dispatch::{Prepared, ready};
use super::manifest::Arg;
use autograd::{Attention, Var, VarOperand};
use tensor::{CrossEntropy, DType, Reduction, Tensor};

pub(crate) fn prepare<'a>(call: &'a Call<'_>) -> Prepared<'a> {
    match call.op {
        "matmul" => {
            let (a, b) = (call.var("input")?, call.var("other")?);
            ready(move || a.matmul(&b))
        }
        "mm" | "bmm" => {
            let (a, b, batched) = (call.var("input")?, call.var("mat2")?, call.op == "bmm");
            ready(move || if batched { a.bmm(&b) } else { a.mm(&b) })
        }
        "linear" => {
            let (x, weight, bias) = (call.var("input")?, call.var("weight")?, call.optional("bias", Call::var)?);
            ready(move || x.linear(&weight, bias.as_ref()))
        }
        "embedding" => {
            let (ids, weight, padding) = (call.constant("input")?, call.var("weight")?, call.optional("padding_idx", Call::int)?);
            call.only("scale_grad_by_freq", Arg::Bool(false))?;
            // Sparse gradients hold the same values; the norm's type means nothing without `max_norm`, which is left over.
            call.bool_or("sparse", false)?;
            if !call.has("max_norm") {
                call.float_or("norm_type", 2.0)?;
            }
            ready(move || match padding {
                Some(at) => Var::embedding(&without_gradient(&weight, at), &ids),
                None => Var::embedding(&weight, &ids),
            })
        }
        "cross_entropy" => {
            let (logits, target) = (call.var("input")?, call.var("target")?);
            let weight = call.optional("weight", Call::constant)?;
            let ignore_index = call.int_or("ignore_index", -100)? as i64;
            let label_smoothing = call.float_or("label_smoothing", 0.0)?;
            let reduction = match call.str_or("reduction", "mean")?.as_str() {
                "none" => Reduction::None,
                "mean" => Reduction::Mean,
                "sum" => Reduction::Sum,
                other => return Err(format!("reduction = {other}")),
            };
            ready(move || {
                let options = CrossEntropy { weight: weight.as_ref(), ignore_index, reduction, label_smoothing };
                logits.cross_entropy(&target, &options)
            })
        }
        "scaled_dot_product_attention" => {
            let (q, k, v) = (call.var("query")?, call.var("key")?, call.var("value")?);
            let mask = call.optional("attn_mask", Call::var)?;
            let (is_causal, enable_gqa) = (call.bool_or("is_causal", false)?, call.bool_or("enable_gqa", false)?);
            let scale = call.optional_float("scale")?;
            if call.float_or("dropout_p", 0.0)? != 0.0 {
                return Err("dropout".into());
            }
            ready(move || {
                let mask = mask.as_ref().map(VarOperand::Var);
                Var::scaled_dot_product_attention(&q, &k, &v, &Attention { mask, is_causal, scale, enable_gqa })
            })
        }
        "rms_norm" => {
            let (x, shape, weight) = (call.var("input")?, call.sizes("normalized_shape")?, call.optional("weight", Call::var)?);
            let eps = call.optional_float("eps")?;
            ready(move || x.rms_norm(&shape, weight.as_ref(), eps))
        }
        _ => Ok(None),
    }
}

/// An embedding matrix whose row `at` gets no gradient.
fn without_gradient(weight: &Var, at: isize) -> Var {
    let (rows, value) = (weight.dim(0), weight.value());
    let at = if at < 0 { at + rows as isize } else { at };
    let row = Tensor::arange(0, rows as i64, 1, DType::I64, value.device()).unsqueeze(1);
    Var::where_(&row.eq(at as i64), &value, weight)
}
