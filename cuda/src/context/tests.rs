//! The checkers are checked: kernels with a mistake planted in their PTX, each of which must be found.

use super::{Context, MAPS};
use crate::kernels::{ATTENTION, BINARY, Family, MATMUL_SHARED_TILES, NORM, REDUCE, SOFTMAX, SORT, UNARY};
use crate::{Cuda, Options, interpreted_with};
use opspec::{Draw, Source};
use ptx::driver::interpreted::Interpreted;
use ptx::tensor_map::{ElementType, TensorMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tensor::{DType, Device};

/// An interpreted GPU on which a kernel of a family has another text in the place of the first occurrence of one.
fn mutant(seed: u64, family: Family, kernel: &str, from: &str, to: &str) -> Device {
    let ptx = family.ptx;
    let at = ptx.find(&format!(".visible .entry {kernel}(")).expect("the kernel");
    let at = at + ptx[at..].find(from).unwrap_or_else(|| panic!("{kernel} has no `{from}`"));
    let mutated = [&ptx[..at], to, &ptx[at + from.len()..]].concat().leak();
    let context = Context::new(Box::new(Interpreted::new(Options::pedantic(seed))));
    context.lock().module(Family { ptx: mutated, ..family }).expect("what is left is PTX");
    Cuda::device_over(context)
}

/// What the specification of `op` says of a device, over a few cases: the first complaint.
fn complaint(op: &str, dtype: DType, draw: Draw, device: impl Fn(u64) -> Device) -> Option<String> {
    let spec = opspec::all().into_iter().find(|s| s.name == op).expect("a specification");
    (0..3).find_map(|seed| {
        let case = spec.draw(&mut Source::seeded(seed, dtype, draw));
        match catch_unwind(AssertUnwindSafe(|| case.verify(&device(seed)))) {
            Ok(result) => result.err().map(|e| e.to_string()),
            Err(panic) => Some(panic.downcast_ref::<String>().cloned().unwrap_or_default()),
        }
    })
}

/// What is kept is what is given, and it does not grow without end.
#[test]
fn a_tensor_map_is_encoded_once() {
    let context = Context::new(Box::new(Interpreted::new(Options::default())));
    let map = |address| TensorMap::dense(ElementType::Bf16, address, &[64, 64], &[64, 8]);
    let first = context.tensor_map(map(4096)).expect("a sound map");
    assert_eq!(context.lock().maps.get(&map(4096)), Some(&first));
    context.lock().maps.insert(map(4096), [7; 128]);
    assert_eq!(context.tensor_map(map(4096)), Ok([7; 128]));
    assert_ne!(context.tensor_map(map(8192)), Ok(first));
    for i in 0..=MAPS as u64 {
        context.tensor_map(map(4096 * i)).expect("a sound map");
    }
    assert!((1..=MAPS).contains(&context.lock().maps.len()));
}

#[test]
fn every_planted_mistake_is_found() {
    // Operation, draw, kernel, text, its replacement, and what the complaint must say.
    type Plant = (&'static str, Draw, Family, &'static str, &'static str, &'static str, &'static str);
    const PLANTS: [Plant; 9] = [
        ("add", Draw::Smooth, BINARY, "binary_f32", "add.f32", "sub.f32", "expected"),
        ("softmax", Draw::Smooth, SOFTMAX, "softmax_f32", "div.rn.f32", "mul.rn.f32", "expected"),
        ("silu", Draw::Large, UNARY, "unary_f32", "setp.ge.u64", "setp.gt.u64", "unary_f32: "),
        ("matmul", Draw::Large, MATMUL_SHARED_TILES, "matmul_64_f32", "bar.sync \t0;", "", "race"),
        ("sum", Draw::Large, REDUCE, "reduce_columns_f32_f32", "bar.sync \t0;", "", "race"),
        ("rms_norm", Draw::Large, NORM, "rms_norm_f32", "add.f32", "sub.f32", "expected"),
        ("attention_causal", Draw::Large, ATTENTION, "attention_f32", "bar.warp.sync \t-1;", "", "race"),
        ("sort", Draw::Large, SORT, "sort_chunks", "bar.sync \t0;", "", "race"),
        ("cumsum", Draw::Large, REDUCE, "cumsum_f32", "setp.lt.u32", "setp.gt.u32", "expected"),
    ];
    let mut missed = vec![];
    for (op, draw, family, kernel, from, to, says) in PLANTS {
        match complaint(op, DType::F32, draw, |seed| mutant(seed, family, kernel, from, to)) {
            Some(text) if text.contains(says) => {}
            other => missed.push(format!("{op}: `{from}` to `{to}` in {kernel}: {other:?}")),
        }
        let sound = complaint(op, DType::F32, draw, |seed| interpreted_with(Options::pedantic(seed)));
        assert_eq!(sound, None, "{op} without the mistake");
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}
