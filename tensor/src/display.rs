//! Printing a tensor as PyTorch does: aligned columns, long dimensions shortened.

use crate::dtype::DType;
use crate::tensor::Tensor;
use std::fmt;

/// Dimensions longer than this show only their ends.
const EDGE: usize = 3;
/// Tensors of at most this many elements are shown whole.
const WHOLE: usize = 1000;

impl fmt::Display for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = self.numel() > WHOLE;
        let mut view = self.clone();
        if short {
            for d in 0..self.rank() as isize {
                if self.dim(d) > 2 * EDGE {
                    let ends = [view.narrow(d, 0, EDGE), view.narrow(d, self.dim(d) as isize - EDGE as isize, EDGE)];
                    view = Tensor::cat(&ends, d);
                }
            }
        }
        let texts = cells(&view);
        let width = texts.iter().map(String::len).max().unwrap_or(0);
        let sizes: Vec<usize> = self.dims().to_vec();
        write_level(f, &texts, view.dims(), &sizes, short, width, 0)?;
        write!(f, " {}{}", self.dtype(), self.shape())?;
        if self.device().name() != "cpu" {
            write!(f, " {}", self.device())?;
        }
        Ok(())
    }
}

/// Each element as text, with one number format for all.
fn cells(x: &Tensor) -> Vec<String> {
    match x.dtype() {
        DType::Bool => x.to_vec::<bool>().iter().map(|b| b.to_string()).collect(),
        t if t.is_int() => x.to_dtype(DType::I64).to_vec::<i64>().iter().map(|i| i.to_string()).collect(),
        _ => {
            let values = x.to_f64_vec();
            let finite = || values.iter().copied().filter(|v| v.is_finite() && *v != 0.0).map(f64::abs);
            let (largest, smallest) = (finite().fold(0.0, f64::max), finite().fold(f64::INFINITY, f64::min));
            let whole = finite().all(|v| v.fract() == 0.0 && v < 1e6);
            values
                .iter()
                .map(|v| match () {
                    _ if !v.is_finite() => format!("{v}"),
                    _ if whole => format!("{v:.0}."),
                    _ if largest >= 1e6 || smallest < 1e-4 => format!("{v:.4e}"),
                    _ => format!("{v:.4}"),
                })
                .collect()
        }
    }
}

fn write_level(
    f: &mut fmt::Formatter<'_>,
    texts: &[String],
    shown: &[usize],
    sizes: &[usize],
    short: bool,
    width: usize,
    depth: usize,
) -> fmt::Result {
    let Some((&n, rest)) = shown.split_first() else {
        return f.write_str(&texts[0]);
    };
    let chunk: usize = rest.iter().product();
    let cut = short && sizes[0] > 2 * EDGE;
    let gap = match rest.len() {
        0 => ", ".to_string(),
        levels => format!(",{}{}", "\n".repeat(levels), " ".repeat(depth + 1)),
    };
    f.write_str("[")?;
    for i in 0..n {
        if i > 0 {
            f.write_str(&gap)?;
        }
        if cut && i == EDGE {
            write!(f, "…{gap}")?;
        }
        if rest.is_empty() {
            write!(f, "{:>width$}", texts[i])?;
        } else {
            write_level(f, &texts[i * chunk..(i + 1) * chunk], rest, &sizes[1..], short, width, depth + 1)?;
        }
    }
    f.write_str("]")
}
