//! `torch.testing.assert_close`, and comparisons that do not mind ties.

use tensor::{DType, Tensor};

/// Relative and absolute tolerance: the defaults of `torch.testing.assert_close`. Integers and bool must be equal.
pub fn tolerance(dtype: DType) -> (f64, f64) {
    match dtype {
        DType::F64 => (1e-7, 1e-7),
        DType::F32 => (1.3e-6, 1e-5),
        DType::F16 => (1e-3, 1e-5),
        DType::BF16 => (1.6e-2, 1e-5),
        _ => (0.0, 0.0),
    }
}

/// Whether two numbers agree; NaN equals NaN.
fn near(got: f64, want: f64, (rtol, atol): (f64, f64)) -> bool {
    got == want || (got.is_nan() && want.is_nan()) || (got - want).abs() <= atol + rtol * want.abs()
}

fn alike(got: &Tensor, want: &Tensor) -> Result<(), String> {
    if got.shape() == want.shape() && got.dtype() == want.dtype() {
        Ok(())
    } else {
        Err(format!("{got:?}, PyTorch gives {want:?}"))
    }
}

/// The most tolerances that PyTorch's own result may be from the result in f64 where ours may be further from that.
pub const ROUNDING: f64 = 8.0;

/// Two results of the same additions in another order: by so much ours may be further from the result in f64 than PyTorch's, or
/// than the tolerance. (In the gradient of a saturated softmax two equal numbers of size 100 are subtracted and multiplied by 9:
/// the unit roundoff of f32 becomes 5e-5 there, five tolerances, whoever computes it.)
pub const ORDER: f64 = 2.0;

/// How many tolerances the worst element is from the exact one; infinite for one that is NaN alone.
fn distance(of: &[f64], exact: &[f64], (rtol, atol): (f64, f64)) -> f64 {
    let one = |(x, e): (&f64, &f64)| match near(*x, *e, (0.0, 0.0)) {
        true => 0.0,
        false if x.is_finite() && e.is_finite() => (x - e).abs() / (atol + rtol * e.abs()),
        false => f64::INFINITY,
    };
    of.iter().zip(exact).map(one).fold(0.0, f64::max)
}

/// Each element is near PyTorch's. Or, where the result in f64 is known: ours is as near to that as PyTorch's is, or within the
/// tolerance of it, up to the factor [`ORDER`]. For both results carry rounding; in a sum whose terms cancel PyTorch's alone can
/// exceed the tolerance, and then a better result is no nearer to it. The worst elements are compared, not each with its own: the
/// rounding of one may be small by luck, the largest of a tensor is the measure of what this computation does in its dtype.
///
/// PyTorch rounds a half type at each step of some operations, and lands anywhere: there it is enough to be at least as near as it is.
/// In f32 that would let any formula pass, since the one in f64 is ours too; it is the cases in f32 that vouch for it.
fn all_near(got: &[f64], want: &[f64], exact: Option<&[f64]>, dtype: DType) -> Result<(), String> {
    let tolerance = tolerance(dtype);
    if let Some(exact) = exact {
        let (ours, theirs) = (distance(got, exact, tolerance), distance(want, exact, tolerance));
        let as_near = matches!(dtype, DType::BF16 | DType::F16) && ours.is_finite() && ours <= theirs;
        if as_near || theirs <= ROUNDING && ours <= ORDER * theirs.max(1.0) {
            return Ok(());
        }
    }
    match (0..want.len()).find(|&i| !near(got[i], want[i], tolerance)) {
        Some(i) => Err(format!("element {i} is {:e}, PyTorch gives {:e}", got[i], want[i])),
        None => Ok(()),
    }
}

/// Shape, dtype and every element agree. `exact`: the result in f64, if it is known.
pub(crate) fn close(got: &Tensor, want: &Tensor, exact: Option<&Tensor>) -> Result<(), String> {
    alike(got, want)?;
    let exact = exact.filter(|e| e.shape() == want.shape()).map(Tensor::to_f64_vec);
    all_near(&got.to_f64_vec(), &want.to_f64_vec(), exact.as_deref(), want.dtype())
}

/// Lines of a tensor along a dimension; a 0-d tensor is one line.
fn lines(t: &Tensor, dim: isize) -> Vec<Vec<f64>> {
    let t = if t.rank() == 0 { t.unsqueeze(0) } else { t.transpose(dim, -1) };
    let n = t.dim(-1);
    if n == 0 { vec![] } else { t.to_f64_vec().chunks(n).map(<[f64]>::to_vec).collect() }
}

/// Positions agree if the values there do. `distinct` ones must not repeat along a line; `unordered` ones may come in any order.
pub(crate) fn same_choice(
    of: &Tensor,
    dim: Option<isize>,
    got: &Tensor,
    want: &Tensor,
    distinct: bool,
    unordered: bool,
) -> Result<(), String> {
    alike(got, want)?;
    let Some(dim) = dim else {
        let values = of.to_f64_vec();
        let [got, want] = [got, want].map(|t| values[t.item::<i64>() as usize]);
        return all_near(&[got], &[want], None, DType::I64);
    };
    // Without the chosen dimension kept the positions have one dimension less.
    let lift = |t: &Tensor| if t.rank() < of.rank() { t.unsqueeze(dim) } else { t.clone() };
    for (values, (got, want)) in lines(of, dim).iter().zip(lines(&lift(got), dim).iter().zip(&lines(&lift(want), dim))) {
        let mut seen = vec![false; values.len()];
        if distinct && got.iter().any(|&i| std::mem::replace(&mut seen[i as usize], true)) {
            return Err("a position is chosen twice".into());
        }
        let mut found: [Vec<f64>; 2] = [got, want].map(|at| at.iter().map(|&i| values[i as usize]).collect());
        if unordered {
            found.iter_mut().for_each(|f| f.sort_by(f64::total_cmp));
        }
        all_near(&found[0], &found[1], None, DType::I64)?;
    }
    Ok(())
}

/// Gradients of a choice agree if, among operands of equal value, the same gradients occur: which of equals was chosen, or came
/// first, is not defined. Where the order of the outputs is not defined either, nor is which gradient reaches which of the chosen:
/// then a line as a whole must hold the same gradients.
pub(crate) fn close_up_to_ties(of: &Tensor, dim: isize, got: &Tensor, want: &Tensor, unordered: bool) -> Result<(), String> {
    alike(got, want)?;
    for (values, (got, want)) in lines(of, dim).iter().zip(lines(got, dim).iter().zip(&lines(want, dim))) {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
        for group in order.chunk_by(|&i, &j| unordered || values[i] == values[j]) {
            let mut found: [Vec<f64>; 2] = [got, want].map(|g| group.iter().map(|&i| g[i]).collect());
            found.iter_mut().for_each(|f| f.sort_by(f64::total_cmp));
            all_near(&found[0], &found[1], None, of.dtype())?;
        }
    }
    Ok(())
}
