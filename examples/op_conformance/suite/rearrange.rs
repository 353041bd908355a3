//! Reading and writing at positions, joining, splitting, views.

use super::arguments::{Call, Value};
use super::dispatch::{Prepared, ready};
use super::manifest::Arg;
use autograd::{Var, VarOperand};

pub(crate) fn prepare<'a>(call: &'a Call<'_>) -> Prepared<'a> {
    match call.op {
        "cat" | "stack" => {
            let (parts, dim) = (call.vars("tensors")?, call.int_or("dim", 0)?);
            let join = if call.op == "cat" { Var::cat } else { Var::stack };
            return ready(move || join(&parts, dim));
        }
        "gather" | "scatter" | "scatter_add" | "index_select" | "index_add" | "take_along_dim" => return indexed(call),
        "split" | "chunk" | "narrow" | "reshape" | "permute" | "transpose" | "unsqueeze" | "squeeze" | "expand"
        | "broadcast_to" | "flatten" | "tril" | "triu" | "roll" | "flip" | "repeat" | "repeat_interleave" => {}
        _ => return Ok(None),
    }
    let x = call.var("input")?;
    match call.op {
        "split" => {
            let dim = |call: &Call<'_>| call.int_or("dim", 0);
            match call.take("split_size_or_sections") {
                Some(Arg::Int(size)) if size > 0 => {
                    let dim = dim(call)?;
                    ready(move || x.split(size as usize, dim))
                }
                Some(Arg::List(sections)) => {
                    let size = |a: &Arg| if let Arg::Int(n) = a { usize::try_from(*n).ok() } else { None };
                    let sizes: Option<Vec<usize>> = sections.iter().map(size).collect();
                    let (sizes, dim) = (sizes.ok_or_else(|| format!("sections {sections:?}"))?, dim(call)?);
                    ready(move || x.split_with_sizes(&sizes, dim))
                }
                other => Err(format!("split size {other:?}")),
            }
        }
        "chunk" => {
            let (chunks, dim) = (call.size("chunks")?, call.int_or("dim", 0)?);
            ready(move || x.chunk(chunks, dim))
        }
        "narrow" => {
            let (dim, start, len) = (call.int("dim")?, call.int("start")?, call.size("length")?);
            ready(move || x.narrow(dim, start, len))
        }
        "reshape" => {
            let shape = call.ints("shape")?;
            ready(move || x.reshape(&shape))
        }
        "permute" => {
            let dims = call.ints("dims")?;
            ready(move || x.permute(&dims))
        }
        "transpose" => {
            let (a, b) = (call.int("dim0")?, call.int("dim1")?);
            ready(move || x.transpose(a, b))
        }
        "unsqueeze" => {
            let dim = call.int("dim")?;
            ready(move || x.unsqueeze(dim))
        }
        "squeeze" => match call.optional_ints("dim")? {
            None => ready(move || x.squeeze(())),
            Some(dims) => ready(move || x.squeeze(dims)),
        },
        "expand" => {
            let shape = call.ints("size")?;
            call.only("implicit", Arg::Bool(false))?;
            ready(move || x.expand(&shape))
        }
        "broadcast_to" => {
            let sizes = call.ints("size")?;
            match sizes.iter().map(|&n| usize::try_from(n)).collect::<Result<Vec<_>, _>>() {
                Ok(shape) => ready(move || x.broadcast_to(shape)),
                // PyTorch takes -1 for a size that stays, as `expand` does.
                Err(_) => ready(move || x.expand(&sizes)),
            }
        }
        "flatten" => {
            let (start, end) = (call.int_or("start_dim", 0)?, call.int_or("end_dim", -1)?);
            ready(move || x.flatten(start, end))
        }
        "tril" | "triu" => {
            let (k, lower) = (call.int_or("diagonal", 0)? as i64, call.op == "tril");
            ready(move || if lower { x.tril(k) } else { x.triu(k) })
        }
        "roll" => {
            let (shifts, dims) = (call.ints("shifts")?, call.optional_ints("dims")?.unwrap_or_default());
            ready(move || x.roll(&shifts, &dims))
        }
        "flip" => {
            let dims = call.ints("dims")?;
            ready(move || x.flip(&dims))
        }
        "repeat" => {
            let counts = call.sizes("repeats")?;
            ready(move || x.repeat(&counts))
        }
        _ => repeat_interleave(call, x),
    }
}

fn repeat_interleave<'a>(call: &'a Call<'_>, x: Var) -> Prepared<'a> {
    let (repeats, dim) = (call.value("repeats")?, call.optional("dim", Call::int)?);
    // The size is a hint; a wrong one would be an error in PyTorch, not another result.
    call.optional("output_size", Call::int)?;
    match repeats {
        Value::Scalar(n) => {
            let n = usize::try_from(n.as_i64()).map_err(|_| format!("repeats = {n:?}"))?;
            ready(move || x.repeat_interleave(n, dim))
        }
        Value::Var(counts) => ready(move || x.repeat_interleave(&counts.value(), dim)),
    }
}

fn indexed<'a>(call: &'a Call<'_>) -> Prepared<'a> {
    let x = call.var("input")?;
    if call.op == "take_along_dim" {
        let (index, dim) = (call.constant("indices")?, call.optional("dim", Call::int)?);
        return ready(move || x.take_along_dim(&index, dim));
    }
    let (dim, index) = (call.int("dim")?, call.constant("index")?);
    match call.op {
        "gather" => {
            call.bool_or("sparse_grad", false)?; // the same values
            ready(move || x.gather(dim, &index))
        }
        "scatter" => {
            let src = call.value(if call.has("src") { "src" } else { "value" })?;
            ready(move || x.scatter(dim, &index, VarOperand::from(&src)))
        }
        "scatter_add" => {
            let src = call.var("src")?;
            ready(move || x.scatter_add(dim, &index, &src))
        }
        "index_select" => ready(move || x.index_select(dim, &index)),
        _ => {
            let (src, alpha) = (call.var("source")?, call.scalar_or("alpha", 1)?);
            ready(move || x.index_add(dim, &index, &src, alpha))
        }
    }
}
