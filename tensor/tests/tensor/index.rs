//! Reading and adding at positions, where values wrap, are bools, or have no dimensions.

use tensor::{DType, Device, Tensor};

#[test]
fn bools_add_up_to_bools() {
    let cpu = Device::cpu();
    let bools = |v: &[bool]| Tensor::from_slice(v, v.len(), &cpu);
    let (x, src) = (bools(&[true, false, false, true]), bools(&[true, true, true, false, false]));
    let index = Tensor::from_slice(&[0i64, 1, 1, 2, 3], 5, &cpu);
    let want = [1, 1, 0, 1];
    // The bytes: a true of another byte would be equal to itself alone.
    assert_eq!(x.scatter_add(0, &index, &src).to_bytes(), want);
    assert_eq!(x.index_add(0, &index, &src, 1).to_bytes(), want);
    assert_eq!(x.index_add(0, &index, &src, -1).to_bytes(), want);
    assert_eq!(x.index_add(0, &index, &src, 0).to_bytes(), x.to_bytes());
    // More of them than a byte counts.
    let many = Tensor::ones(256, DType::Bool, &cpu);
    let zeros = Tensor::zeros(256, DType::I64, &cpu);
    assert_eq!(bools(&[false]).scatter_add(0, &zeros, &many).to_bytes(), [1]);
    assert_eq!(bools(&[false]).index_add(0, &zeros, &many, 1).to_bytes(), [1]);
}

#[test]
fn any_byte_but_zero_is_true() {
    let cpu = Device::cpu();
    let x = Tensor::from_bytes(vec![0, 1, 2, 255], 4, DType::Bool, &cpu);
    assert_eq!(x.to_bytes(), [0, 1, 1, 1]);
    assert!(x.narrow(0, 1, 1).eq(&x.narrow(0, 3, 1)).item::<bool>());
    assert_eq!(x.sum((), false).item::<i64>(), 3);
}

#[test]
fn integers_wrap_where_they_add_up() {
    let cpu = Device::cpu();
    let index = Tensor::from_slice(&[1i64, 1, 0], 3, &cpu);
    macro_rules! wraps {
        ($($t:ty),*) => {$(
            let x = Tensor::from_slice(&[<$t>::MAX, 1], 2, &cpu);
            let src = Tensor::from_slice(&[<$t>::MAX, 2, 3], 3, &cpu);
            let want = [<$t>::MAX.wrapping_add(3), <$t>::MAX.wrapping_add(3)];
            assert_eq!(x.scatter_add(0, &index, &src).to_vec::<$t>(), want);
            assert_eq!(x.index_add(0, &index, &src, 1).to_vec::<$t>(), want);
            // Long slices are dealt to threads.
            let wide = |t: &Tensor| t.unsqueeze(1).broadcast_to([t.numel(), 10_000]);
            let sums = wide(&x).index_add(0, &index, &wide(&src), 1);
            assert_eq!(sums.to_bytes(), wide(&Tensor::from_slice(&want, 2, &cpu)).to_bytes());
        )*};
    }
    wraps!(i64, i32, u8);
    let x = Tensor::from_slice(&[i64::MAX, 1, i64::MAX], 3, &cpu);
    assert_eq!(x.cumsum(0).to_vec::<i64>(), [i64::MAX, i64::MIN, -1]);
}

#[test]
fn without_dimensions() {
    let cpu = Device::cpu();
    let x = Tensor::scalar(7.0, DType::F32, &cpu);
    for (position, dim) in [(0, Some(0)), (-1, Some(-1)), (0, None), (-1, None)] {
        let y = x.take_along_dim(&Tensor::scalar(position, DType::I64, &cpu), dim);
        assert_eq!(y.to_vec::<f32>(), [7.0], "{position} along {dim:?}");
        assert_eq!(y.rank(), dim.map_or(1, |_| 0));
    }
    assert_eq!(x.squeeze(()).rank(), 0);
}

#[test]
fn squeezing_no_dimension_changes_nothing() {
    let x = Tensor::zeros([1, 2, 1], DType::F32, &Device::cpu());
    assert_eq!(x.squeeze([]).dims(), [1, 2, 1]);
    assert_eq!(x.squeeze(()).dims(), [2]);
    assert_eq!(x.squeeze([0, 1]).dims(), [2, 1]);
}

#[test]
fn a_diagonal_beyond_every_matrix() {
    let x = Tensor::ones([3, 3], DType::F32, &Device::cpu());
    assert_eq!(x.tril(i64::MAX).to_bytes(), x.to_bytes());
    assert_eq!(x.triu(i64::MAX).to_bytes(), x.zeros_like().to_bytes());
    assert_eq!(x.tril(i64::MIN).to_bytes(), x.zeros_like().to_bytes());
    assert_eq!(x.triu(i64::MIN).to_bytes(), x.to_bytes());
}
