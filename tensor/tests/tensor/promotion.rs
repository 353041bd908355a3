//! Result dtypes: PyTorch's promotion with numbers and 0-d tensors that count less.

use tensor::DType::*;
use tensor::{DType, Device, Scalar, Tensor};

fn ones(dtype: DType, rank: usize) -> Tensor {
    Tensor::ones(vec![2; rank], dtype, &Device::cpu())
}

/// What `torch.result_type` gives for two tensors with dimensions.
#[test]
fn tensors_with_dimensions() {
    let order = [Bool, U8, I32, I64, F16, BF16, F32, F64];
    // Rows and columns as in `order`; PyTorch 2.11.
    let table = [
        [Bool, U8, I32, I64, F16, BF16, F32, F64],
        [U8, U8, I32, I64, F16, BF16, F32, F64],
        [I32, I32, I32, I64, F16, BF16, F32, F64],
        [I64, I64, I64, I64, F16, BF16, F32, F64],
        [F16, F16, F16, F16, F16, F32, F32, F64],
        [BF16, BF16, BF16, BF16, F32, BF16, F32, F64],
        [F32, F32, F32, F32, F32, F32, F32, F64],
        [F64, F64, F64, F64, F64, F64, F64, F64],
    ];
    for (i, &a) in order.iter().enumerate() {
        for (j, &b) in order.iter().enumerate() {
            assert_eq!(ones(a, 1).mul(&ones(b, 1)).dtype(), table[i][j], "{a} with {b}");
            assert_eq!(Tensor::where_(&ones(Bool, 1), &ones(a, 1), &ones(b, 1)).dtype(), table[i][j], "where {a} with {b}");
        }
    }
}

#[test]
fn numbers_and_0d_tensors_count_by_kind() {
    for (tensor, number, want) in [
        (F32, Scalar::Float(0.5), F32),
        (BF16, Scalar::Float(0.5), BF16),
        (F64, Scalar::Int(2), F64),
        (I64, Scalar::Float(0.5), F32),
        (U8, Scalar::Int(2), U8),
        (Bool, Scalar::Int(2), I64),
        (Bool, Scalar::Bool(true), Bool),
        (I32, Scalar::Bool(true), I32),
        (Bool, Scalar::Float(0.5), F32),
    ] {
        assert_eq!(ones(tensor, 1).binary(tensor::BinaryOp::Add, number.into()).dtype(), want, "{tensor} with {number:?}");
    }
    for (with_dims, without, want) in
        [(F32, F64, F32), (BF16, F32, BF16), (I32, I64, I32), (I32, F64, F64), (Bool, U8, U8), (F16, I64, F16)]
    {
        assert_eq!(ones(with_dims, 1).mul(&ones(without, 0)).dtype(), want, "{with_dims} with 0-d {without}");
        assert_eq!(ones(without, 0).mul(&ones(with_dims, 1)).dtype(), want, "0-d {without} with {with_dims}");
    }
    // Between two 0-d tensors neither counts less.
    assert_eq!(ones(F32, 0).mul(&ones(F64, 0)).dtype(), F64);
}

#[test]
fn results_of_other_kinds() {
    assert_eq!(ones(I64, 1).div(&ones(I64, 1)).dtype(), F32);
    assert_eq!(ones(U8, 1).div(2).dtype(), F32);
    assert_eq!(ones(I32, 1).sum((), false).dtype(), I64);
    assert_eq!(ones(Bool, 1).cumsum(0).dtype(), I64);
    assert_eq!(ones(I32, 1).exp().dtype(), F32);
    assert_eq!(ones(F16, 1).lt(0.5).dtype(), Bool);
    assert_eq!(ones(I32, 1).argmax(None, false).dtype(), I64);
    assert_eq!(ones(I32, 1).softmax(0).dtype(), F32);
    assert_eq!(ones(I64, 1).masked_fill(&ones(Bool, 1), 2.5).to_vec::<i64>(), [2, 2]);
    assert_eq!(Tensor::cat(&[ones(I64, 1), ones(F16, 1)], 0).dtype(), F16);
    assert_eq!(ones(Bool, 1).add(&ones(Bool, 1)).to_vec::<bool>(), [true, true]);
}
