//! Which operation a name stands for, and its parameters as PyTorch documents them.

use super::arguments::{Call, Unsupported};
use super::{Outputs, elementwise, network, rearrange, reduction};

/// Parameters by position; a `*` says that the rest may come one by one. `None` for an operation that is not here.
pub(crate) fn parameters(op: &str) -> Option<&'static [&'static str]> {
    Some(match op {
        "neg" | "abs" | "exp" | "log" | "sqrt" | "rsqrt" | "sin" | "cos" | "tanh" | "sigmoid" | "reciprocal" | "square" => {
            &["input"]
        }
        "silu" | "relu" => &["input", "inplace"],
        "gelu" => &["input", "approximate"],
        "softplus" => &["input", "beta", "threshold"],
        "add" | "sub" => &["input", "other", "alpha"],
        "div" => &["input", "other", "rounding_mode"],
        "mul" | "maximum" | "minimum" | "eq" | "ne" | "lt" | "le" | "gt" | "ge" => &["input", "other"],
        "pow" => &["input", "exponent"],
        "clamp" => &["input", "min", "max"],
        "where" => &["condition", "input", "other"],
        "masked_fill" => &["input", "mask", "value"],
        "sum" | "mean" => &["input", "dim", "keepdim", "dtype"],
        "amax" | "amin" | "argmax" | "argmin" | "logsumexp" => &["input", "dim", "keepdim"],
        "var" => &["input", "dim", "unbiased", "keepdim", "correction"],
        "cumsum" => &["input", "dim", "dtype"],
        "softmax" | "log_softmax" => &["input", "dim", "_stacklevel", "dtype"],
        "matmul" => &["input", "other"],
        "mm" | "bmm" => &["input", "mat2"],
        "linear" => &["input", "weight", "bias"],
        "embedding" => &["input", "weight", "padding_idx", "max_norm", "norm_type", "scale_grad_by_freq", "sparse"],
        "cross_entropy" => {
            &["input", "target", "weight", "size_average", "ignore_index", "reduce", "reduction", "label_smoothing"]
        }
        "scaled_dot_product_attention" => {
            &["query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa"]
        }
        "rms_norm" => &["input", "normalized_shape", "weight", "eps"],
        "gather" => &["input", "dim", "index", "sparse_grad"],
        "scatter" => &["input", "dim", "index", "src", "value", "reduce"],
        "scatter_add" => &["input", "dim", "index", "src"],
        "index_select" => &["input", "dim", "index"],
        "index_add" => &["input", "dim", "index", "source", "alpha"],
        "take_along_dim" => &["input", "indices", "dim"],
        "topk" => &["input", "k", "dim", "largest", "sorted"],
        "sort" | "argsort" => &["input", "dim", "descending", "stable"],
        "cat" | "stack" => &["tensors", "dim"],
        "split" => &["input", "split_size_or_sections", "dim"],
        "chunk" => &["input", "chunks", "dim"],
        "narrow" => &["input", "dim", "start", "length"],
        "reshape" => &["input", "*shape"],
        "permute" => &["input", "*dims"],
        "transpose" => &["input", "dim0", "dim1"],
        "unsqueeze" | "squeeze" => &["input", "dim"],
        "expand" | "broadcast_to" => &["input", "*size", "implicit"],
        "flatten" => &["input", "start_dim", "end_dim"],
        "tril" | "triu" => &["input", "diagonal"],
        "roll" => &["input", "shifts", "dims"],
        "flip" => &["input", "*dims"],
        "repeat" => &["input", "*repeats"],
        "repeat_interleave" => &["input", "repeats", "dim", "output_size"],
        _ => return None,
    })
}

/// Runs a call.
pub(crate) fn apply(call: &Call<'_>) -> Result<Outputs, Unsupported> {
    let families = [elementwise::prepare, reduction::prepare, network::prepare, rearrange::prepare];
    for prepare in families {
        if let Some(run) = prepare(call)? {
            // Nothing runs before it is known that every argument was understood.
            call.finish()?;
            return Ok(run());
        }
    }
    Err(format!("operation `{}`", call.op))
}

/// An operation with its arguments taken, ready to run; `None` where the operation is of another family.
pub(crate) type Prepared<'a> = Result<Option<Box<dyn FnOnce() -> Outputs + 'a>>, Unsupported>;

/// Wraps what is ready to run.
pub(crate) fn ready<'a, O: Into<Outputs>>(run: impl FnOnce() -> O + 'a) -> Prepared<'a> {
    Ok(Some(Box::new(move || run().into())))
}
