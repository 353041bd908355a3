//! Views share memory, and a cache grows in place without anyone else seeing it.

use tensor::{DType, Device, Generator, Tensor};

#[test]
fn views_do_not_copy() {
    let x = Tensor::arange(0, 24, 1, DType::F32, &Device::cpu()).reshape(&[2, 3, 4]);
    let views = [
        x.reshape(&[6, 4]),
        x.permute(&[2, 0, 1]),
        x.transpose(0, 2),
        x.t(),
        x.unsqueeze(1),
        x.unsqueeze(0).squeeze(0),
        x.unsqueeze(0).expand(&[5, -1, -1, -1]),
        x.narrow(2, 1, 2),
        x.slice(2, 0, 4, 2),
        x.select(1, 2),
        x.flatten(0, 1),
        x.transpose(0, 1).unsqueeze(0).reshape(&[3, 2, 4]),
        x.clone(),
    ];
    for view in views {
        assert!(view.storage().same(x.storage()), "{view:?} was copied");
    }
    let halves = x.split(1, 0);
    assert!(halves.iter().all(|h| h.storage().same(x.storage())));
    // Rows that are no longer evenly spaced cannot be merged without a copy.
    assert!(!x.narrow(1, 0, 2).reshape(&[4, 4]).storage().same(x.storage()));
    assert_eq!(x.narrow(1, 0, 2).reshape(&[4, 4]).select(0, 2).to_vec::<f32>(), [12.0, 13.0, 14.0, 15.0]);
    assert_eq!(x.slice(-1, -3, 99, 2).select(0, 0).select(0, 0).to_vec::<f32>(), [1.0, 3.0]);
    assert_eq!(x.permute(&[2, 0, 1]).strides(), [1, 12, 4]);
    assert_eq!(x.select(0, 1).expand(&[2, 3, 4]).strides(), [0, 4, 1]);
}

#[test]
fn write_rows_is_in_place_alone_and_a_copy_where_shared() {
    let cpu = Device::cpu();
    let rows = |value: f64, len: usize| Tensor::full([2, 1, len, 3], value, DType::F32, &cpu);
    let mut cache = Tensor::zeros([2, 1, 4, 3], DType::F32, &cpu);
    let address = |t: &Tensor| t.storage().buffer::<tensor::cpu::CpuBuffer>().unwrap().as_slice::<u8>().as_ptr();
    let before = address(&cache);
    cache.write_rows(&[0, 2], &rows(1.0, 2));
    assert_eq!(address(&cache), before, "alone it is written in place");
    let at = |t: &Tensor| t.select(1, 0).select(-1, 0).to_vec::<f32>();
    assert_eq!(at(&cache), [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]);

    let shared = cache.clone();
    let view = cache.narrow(2, 0, 1);
    cache.write_rows(&[3, 0], &rows(2.0, 1));
    assert_eq!(at(&cache), [1.0, 1.0, 0.0, 2.0, 2.0, 0.0, 1.0, 1.0]);
    assert_eq!(at(&shared), [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0], "another owner sees no change");
    assert_eq!(at(&view), [1.0, 0.0]);

    // A transposed cache and source.
    let mut wide = Tensor::zeros([2, 4, 1, 3], DType::F32, &cpu).transpose(1, 2);
    let source = Generator::new(1).normal([2, 2, 1, 3], 0.0, 1.0, DType::F32, &cpu).transpose(1, 2);
    wide.write_rows(&[1, 1], &source);
    assert_eq!(wide.narrow(2, 1, 2).to_vec::<f32>(), source.to_vec::<f32>());
    assert_eq!(wide.narrow(2, 0, 1).to_vec::<f32>(), [0.0; 6]);
}
