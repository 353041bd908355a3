//! How tensors print.

use tensor::{DType, Device, Tensor};

fn shows(t: &Tensor, want: &str) {
    assert_eq!(t.to_string(), want);
}

#[test]
fn small_tensors_are_shown_whole() {
    let cpu = Device::cpu();
    shows(&Tensor::scalar(2.5, DType::F32, &cpu), "2.5000 f32[]");
    shows(&Tensor::from_slice(&[1i64, -20], 2, &cpu), "[  1, -20] i64[2]");
    shows(&Tensor::from_slice(&[true, false], 2, &cpu), "[ true, false] bool[2]");
    shows(&Tensor::from_slice(&[1.0f32, 2.0, 3.0, 40.0], [2, 2], &cpu), "[[ 1.,  2.],\n [ 3., 40.]] f32[2, 2]");
    shows(&Tensor::from_slice(&[0.5f32, f32::NAN, -1.25], 3, &cpu), "[ 0.5000,     NaN, -1.2500] f32[3]");
    shows(&Tensor::from_slice(&[1e-7f64, 1.0], 2, &cpu), "[1.0000e-7,  1.0000e0] f64[2]");
    shows(&Tensor::zeros([0, 3], DType::F16, &cpu), "[] f16[0, 3]");
    let cube = Tensor::arange(0, 8, 1, DType::I32, &cpu).reshape(&[2, 2, 2]);
    shows(&cube, "[[[0, 1],\n  [2, 3]],\n\n [[4, 5],\n  [6, 7]]] i32[2, 2, 2]");
    shows(&cube.transpose(0, 2), "[[[0, 4],\n  [2, 6]],\n\n [[1, 5],\n  [3, 7]]] i32[2, 2, 2]");
}

#[test]
fn long_ones_show_their_ends() {
    let cpu = Device::cpu();
    shows(&Tensor::arange(0, 2000, 1, DType::I64, &cpu), "[   0,    1,    2, …, 1997, 1998, 1999] i64[2000]");
    let wide = Tensor::arange(0, 3000, 1, DType::I64, &cpu).reshape(&[2, 1500]);
    shows(&wide, "[[   0,    1,    2, …, 1497, 1498, 1499],\n [1500, 1501, 1502, …, 2997, 2998, 2999]] i64[2, 1500]");
}

#[test]
fn debug_is_one_line() {
    assert_eq!(format!("{:?}", Tensor::zeros([2, 3], DType::BF16, &Device::cpu())), "Tensor(bf16 [2, 3] on cpu)");
}
