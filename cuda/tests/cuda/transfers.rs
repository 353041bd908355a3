//! No operation computes on the host: between making its operands and reading its results, nothing is copied either way.

use crate::{backend, device};
use opspec::{Draw, Index, Op, Source};
use tensor::DType;

/// The result's shape depends on values: the host reads the counts and makes the positions.
fn reads_values(op: &Op) -> bool {
    matches!(op, Op::Index(Index::RepeatInterleaveCounts(_)))
}

#[test]
fn operations_copy_nothing() {
    let gpu = device(0);
    let (mut asked, start) = (0, backend(&gpu).transfers());
    for spec in opspec::all() {
        for (seed, &dtype) in spec.dtypes.iter().enumerate() {
            let case = spec.draw(&mut Source::seeded(seed as u64, dtype, Draw::Smooth));
            if reads_values(&case.op) || dtype == DType::Bool {
                continue;
            }
            let operands = case.tensors(&gpu);
            let before = backend(&gpu).transfers();
            let results = case.apply(&operands);
            assert_eq!(backend(&gpu).transfers(), before, "{} {dtype} copied between host and device", spec.name);
            case.check(&results).unwrap_or_else(|e| panic!("{e}"));
            asked += 1;
        }
    }
    assert!(asked > 200, "{asked} operations");
    let end = backend(&gpu).transfers();
    assert!(
        end.uploads >= start.uploads + asked && end.downloads >= start.downloads + asked,
        "what is copied is counted: {end:?}"
    );
}
