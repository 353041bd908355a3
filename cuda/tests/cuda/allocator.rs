//! Blocks are used again, memory is counted, and what is idle goes back before an allocation fails.

use crate::backend;
use cuda::Options;
use tensor::{DType, Tensor};

fn recycling(memory: u64) -> tensor::Device {
    cuda::interpreted_with(Options { recycle: true, memory, ..Options::default() })
}

#[test]
fn a_loop_asks_the_driver_for_memory_once() {
    let gpu = recycling(1 << 30);
    let x = Tensor::ones([64, 64], DType::F32, &gpu);
    let blocks = |n: usize| {
        (0..n).for_each(|_| drop(x.exp().mul(&x).sum((), false)));
        backend(&gpu).memory().blocks
    };
    let first = blocks(1);
    assert_eq!(blocks(10), first);
    assert_eq!(x.add(2.0).sum((), false).item::<f32>(), 3.0 * 4096.0, "a block that is used again holds the new values");
    assert_eq!(backend(&gpu).memory().live, 64 * 64 * 4);
    drop(x);
    let memory = backend(&gpu).memory();
    assert_eq!(memory.live, 0);
    assert!(memory.idle > 0 && memory.peak >= 3 * 64 * 64 * 4, "{memory:?}");
}

#[test]
fn what_is_idle_goes_back_before_an_allocation_fails() {
    let gpu = recycling(1 << 20);
    drop(Tensor::zeros([150_000], DType::F32, &gpu));
    assert!(backend(&gpu).memory().idle > 500_000);
    // Another size class: it fits only once the idle block is given back.
    let x = Tensor::zeros([200_000], DType::F32, &gpu);
    gpu.synchronize().unwrap();
    assert_eq!(x.sum((), false).item::<f32>(), 0.0);
}

#[test]
fn views_keep_their_memory_and_give_it_back_once() {
    let gpu = crate::device(0);
    let x = Tensor::arange(0, 12, 1, DType::F32, &gpu).reshape(&[3, 4]);
    let view = x.t().narrow(0, 1, 2);
    drop(x);
    assert_eq!(view.to_vec::<f32>(), [1.0, 5.0, 9.0, 2.0, 6.0, 10.0]);
}
