//! Reductions, softmax, sorting.

use super::arguments::Call;
use super::dispatch::{Prepared, ready};
use super::{Output, Outputs};
use autograd::Var;
use tensor::Dims;

pub(crate) fn prepare<'a>(call: &'a Call<'_>) -> Prepared<'a> {
    let dims = |name| -> Result<Dims, String> { Ok(call.optional_ints(name)?.map_or(Dims::All, Dims::from)) };
    match call.op {
        "sum" | "mean" | "amax" | "amin" | "logsumexp" => {
            let x = call.var("input")?;
            let (x, dims, keepdim) = (call.cast(x)?, dims("dim")?, call.bool_or("keepdim", false)?);
            let f: fn(&Var, Dims, bool) -> Var = match call.op {
                "sum" => |x, dims, keepdim| x.sum(dims, keepdim),
                "mean" => |x, dims, keepdim| x.mean(dims, keepdim),
                "amax" => |x, dims, keepdim| x.amax(dims, keepdim),
                "amin" => |x, dims, keepdim| x.amin(dims, keepdim),
                _ => |x, dims, keepdim| x.logsumexp(dims, keepdim),
            };
            ready(move || f(&x, dims, keepdim))
        }
        "var" => {
            let x = call.var("input")?;
            // `var(input, unbiased)` is an overload of `var(input, dim, …)`.
            if let Some(unbiased) = call.overload("dim") {
                return ready(move || x.var((), unbiased as u8 as f64, false));
            }
            let (dims, unbiased) = (dims("dim")?, call.bool_or("unbiased", true)?);
            let (correction, keepdim) = (call.float_or("correction", unbiased as u8 as f64)?, call.bool_or("keepdim", false)?);
            ready(move || x.var(dims, correction, keepdim))
        }
        "argmax" | "argmin" => {
            let (x, dim, keepdim) =
                (call.var("input")?.value(), call.optional("dim", Call::int)?, call.bool_or("keepdim", false)?);
            let largest = call.op == "argmax";
            ready(move || {
                let at = if largest { x.argmax(dim, keepdim) } else { x.argmin(dim, keepdim) };
                Outputs { all: vec![Output::Choice { of: x, dim, at, distinct: false }], ties: None, unordered: false }
            })
        }
        "cumsum" | "softmax" | "log_softmax" => {
            let (x, dim) = (call.var("input")?, call.int("dim")?);
            let x = call.cast(x)?;
            call.optional("_stacklevel", Call::int)?;
            let f = match call.op {
                "cumsum" => Var::cumsum,
                "softmax" => Var::softmax,
                _ => Var::log_softmax,
            };
            ready(move || f(&x, dim))
        }
        "sort" | "argsort" => {
            let (x, dim, descending) = (call.var("input")?, call.int_or("dim", -1)?, call.bool_or("descending", false)?);
            call.bool_or("stable", false)?; // it always is
            let positions_only = call.op == "argsort";
            ready(move || {
                let (values, at) = x.sort(dim, descending);
                let choice = Output::Choice { of: x.value(), dim: Some(dim), at, distinct: true };
                let all = if positions_only { vec![choice] } else { vec![Output::Value(values), choice] };
                Outputs { all, ties: Some((x.value(), dim)), unordered: false }
            })
        }
        "topk" => {
            let (x, k, dim) = (call.var("input")?, call.size("k")?, call.int_or("dim", -1)?);
            let (largest, sorted) = (call.bool_or("largest", true)?, call.bool_or("sorted", true)?);
            ready(move || {
                let (values, at) = x.topk(k, dim, largest, sorted);
                let choice = Output::Choice { of: x.value(), dim: Some(dim), at, distinct: true };
                Outputs { all: vec![Output::Value(values), choice], ties: Some((x.value(), dim)), unordered: !sorted }
            })
        }
        _ => Ok(None),
    }
}
