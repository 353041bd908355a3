//! Cases of many terms: where it would show that they are added one after the other.

use crate::array::Array;
use crate::case::Case;
use crate::input::Input;
use crate::precision::round_to;
use crate::{Fused, Index, Op, Reduce, Softmax};
use tensor::{DType, Reduction};

/// Every operation that adds up along a dimension, over `n` terms of one sign: what is lost at each addition adds up as well.
pub fn accumulations(dtype: DType, n: usize) -> Vec<Case> {
    let input = |dtype: DType, shape: &[usize], value: &dyn Fn(usize) -> f64| {
        let data = (0..shape.iter().product()).map(|i| round_to(dtype, value(i))).collect();
        Input::contiguous(Array::new(dtype, shape, data))
    };
    let tenths = |shape: &[usize]| input(dtype, shape, &|i| [0.1, 0.1, 0.11][i % 3]);
    // Every third position is 1, the others are 0.
    let index = || input(DType::I64, &[n], &|i| (i % 3 == 2) as u8 as f64);
    let zeros = || input(dtype, &[2], &|_| 0.0);
    let mean = Softmax::CrossEntropy { ignore_index: -100, reduction: Reduction::Mean, label_smoothing: 0.0 };
    [
        (Op::Reduce(Reduce::Sum(vec![0], false)), vec![tenths(&[n])]),
        (Op::Reduce(Reduce::Sum(vec![0], false)), vec![tenths(&[n, 3])]),
        (Op::Reduce(Reduce::Mean(vec![0], false)), vec![tenths(&[n])]),
        (Op::Reduce(Reduce::Var(vec![0], 1.0, false)), vec![tenths(&[n])]),
        (Op::Reduce(Reduce::Logsumexp(vec![0], false)), vec![tenths(&[n])]),
        (Op::Reduce(Reduce::Cumsum(0)), vec![tenths(&[n])]),
        (Op::Softmax(Softmax::Softmax(0)), vec![tenths(&[n])]),
        (Op::Softmax(Softmax::LogSoftmax(0)), vec![tenths(&[n])]),
        (Op::Softmax(mean), vec![tenths(&[n, 2]), index()]),
        (Op::Index(Index::IndexAdd(0, 1.0)), vec![zeros(), index(), tenths(&[n])]),
        (Op::Index(Index::IndexAdd(0, 0.5)), vec![zeros(), index(), tenths(&[n])]),
        (Op::Index(Index::ScatterAdd(0)), vec![zeros(), index(), tenths(&[n])]),
        (Op::Fused(Fused::RmsNorm { dims: 1, eps: 1e-6 }), vec![tenths(&[n]), tenths(&[n])]),
    ]
    .map(|(op, inputs)| Case { op, inputs })
    .to_vec()
}
