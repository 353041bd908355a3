//! What goes wrong sticks to the stream, is reported at the next synchronisation or read-back, once, and nothing is computed from it.

use crate::{device, panic_of};
use cuda::Options;
use tensor::{DType, Device, Tensor};

/// An index of one position.
fn at(position: i64, gpu: &Device) -> Tensor {
    Tensor::from_slice(&[position], 1, gpu)
}

#[test]
fn a_position_that_does_not_exist_is_reported_by_the_next_synchronisation() {
    let gpu = device(1);
    let x = Tensor::ones([3, 2], DType::F32, &gpu);
    for (bad, size) in [(3, 3), (-1, 3)] {
        let y = x.index_select(0, &at(bad, &gpu)).add(1.0);
        let message = gpu.synchronize().unwrap_err().to_string();
        assert!(message.contains(&format!("position {bad} does not exist in a dimension of size {size}")), "{message}");
        assert!(message.contains("index_select: "), "{message} names the operation");
        gpu.synchronize().expect("a fault is reported once");
        drop(y);
    }
    let index = Tensor::from_slice(&[0i64, 7], [1, 2], &gpu);
    type Op<'a> = (&'static str, Box<dyn Fn() -> Tensor + 'a>);
    let ops: [Op<'_>; 6] = [
        ("gather", Box::new(|| x.t().gather(1, &index))),
        ("scatter", Box::new(|| x.t().scatter(1, &index, 1.0))),
        ("scatter_add", Box::new(|| x.t().scatter_add(1, &index, &x.t()))),
        ("index_add", Box::new(|| x.index_add(0, &at(7, &gpu), &x.narrow(0, 0, 1), 2.0))),
        ("embedding", Box::new(|| Tensor::embedding(&x, &index))),
        ("take_along_dim", Box::new(|| x.t().take_along_dim(&index, Some(1)))),
    ];
    for (name, op) in &ops {
        let y = op();
        let _later = x.index_select(0, &at(0, &gpu));
        let message = panic_of(|| drop(y.to_vec::<f32>()));
        assert!(message.contains(&format!("{name}: position 7 ")), "{message}");
    }
    // From the end: as it was given, not as what it would stand for.
    let message = panic_of(|| drop(x.take_along_dim(&at(-5, &gpu).unsqueeze(1), Some(0)).to_vec::<f32>()));
    assert!(message.contains("take_along_dim: position -5 does not exist in a dimension of size 3"), "{message}");
    let loss = x.cross_entropy(&Tensor::from_slice(&[0i64, 1, 9], 3, &gpu), &Default::default());
    let message = panic_of(|| drop(loss.to_vec::<f32>()));
    assert!(message.contains("cross_entropy: position 9 "), "{message}");
    assert_eq!(x.sum((), false).item::<f32>(), 6.0, "the device goes on");
}

#[test]
fn out_of_memory_says_what_was_asked_and_what_is_free() {
    let gpu = cuda::interpreted_with(Options { memory: 1 << 20, ..Options::default() });
    let small = Tensor::ones([1 << 10], DType::F32, &gpu);
    let lost = Tensor::zeros([1 << 20], DType::F32, &gpu);
    let after = small.add(1.0);
    let message = panic_of(|| drop(small.to_vec::<f32>()));
    let free = (1 << 20) - (1 << 12);
    assert!(
        message.contains(&format!("out of memory: {} bytes were asked for, {free} of 1048576 are free", 1 << 22)),
        "{message}"
    );
    assert!(message.starts_with("to_vec: interpreted: zeros: a tensor of shape [1048576] of f32: out of memory"), "{message}");
    // It was reported. What was not computed stays lost, and so does what is made of it.
    assert_eq!(small.to_vec::<f32>(), [1.0; 1 << 10]);
    for t in [&lost, &after] {
        assert!(panic_of(|| drop(t.to_bytes())).contains("was lost to a fault that was reported before"));
    }
    let message = panic_of(|| drop(after.exp().to_vec::<f32>()));
    assert!(message.contains("unary_f32: an operand was lost to a fault"), "{message}");
    gpu.synchronize().unwrap();
    // From the host it is reported at once.
    let message = panic_of(|| drop(Tensor::from_vec(vec![0f32; 1 << 20], 1 << 20, &gpu)));
    assert!(message.contains("out of memory: 4194304 bytes"), "{message}");
}

#[test]
fn the_first_fault_is_the_one_reported() {
    let gpu = device(2);
    let x = Tensor::ones([4], DType::F32, &gpu);
    let _first = x.index_select(0, &at(9, &gpu));
    let _second = x.index_select(0, &at(11, &gpu));
    assert!(gpu.synchronize().unwrap_err().to_string().contains("position 9 "));
    gpu.synchronize().unwrap();
}

#[test]
fn a_tensor_of_another_device_is_refused_by_name() {
    let (gpu, other) = (device(0), cuda::interpreted());
    let x = Tensor::ones([2], DType::F32, &other);
    assert!(
        panic_of(|| drop(Tensor::ones([2], DType::F32, &Device::cpu()).add(&x.to_device(&gpu)))).contains("operands on cpu and ")
    );
    assert!(panic_of(|| drop(gpu.unary(tensor::UnaryOp::Exp, &x))).contains("was handed a tensor on interpreted"));
}

#[test]
fn without_a_driver_a_card_is_refused_in_one_sentence() {
    // Where there is a card, an ordinal that no machine has.
    match cuda::device(1000) {
        Ok(_) => panic!("a thousand cards"),
        Err(e) => {
            let text = e.to_string();
            assert!(text.contains("no NVIDIA driver was found") || text.contains("there is no device cuda:1000"), "{text}");
            assert!(!text.contains('\n'), "{text}");
        }
    }
}
