//! Kernels that a compiler made: right for many seeds and shapes, without a single hazard.

use proptest::prelude::*;
use ptx::Module;

use crate::cases::{self, *};
use crate::harness::*;

/// Every case, right under every seed.
fn all_right(cases: Vec<Case>, seeds: u64) {
    let failures: Vec<String> = cases
        .iter()
        .flat_map(|case| {
            let module = case.module();
            (0..seeds).filter_map(move |seed| match case.run(&module, seed, None) {
                End::Right { .. } => None,
                end => Some(format!("{} with seed {seed}: {}", case.entry, describe(&end))),
            })
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// How a run ended, in words.
pub fn describe(end: &End) -> String {
    match end {
        End::Right { instructions } => format!("right, {instructions} instructions"),
        End::Wrong(message) => format!("wrong result: {message}"),
        End::Hazards(hazards) => hazards.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        End::Fault(message, _) => format!("fault: {message}"),
    }
}

#[test]
fn control_flow() {
    all_right(cases::control(), 8);
}

#[test]
fn cuda_cores() {
    all_right(cases::simt(), 8);
}

#[test]
fn clusters_and_bulk_copies() {
    all_right(cases::asynchronous(), 8);
}

#[test]
fn tensor_cores() {
    all_right(cases::gemms(), 3);
}

#[test]
fn recursion_is_refused() {
    let error = Module::parse("recursion.ptx", &kernel_text("recursion")).err().expect("recursion is refused").to_string();
    assert!(error.contains("recurs") && error.contains("recursion.ptx"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    /// Any shape that the kernels take, any schedule.
    #[test]
    fn matmul_tiled_any_shape(m in 1usize..50, n in 1usize..50, k in 1usize..70, seed in any::<u64>()) {
        right(matmul_tiled(m, n, k), seed)?;
    }

    #[test]
    fn gemm_mma_any_shape(m in 1usize..150, n in 1usize..150, k8 in 1usize..20, seed in any::<u64>()) {
        right(gemm_mma(m, n, 8 * k8), seed)?;
    }

    #[test]
    fn gemm_split_k_any_shape(m in 1usize..130, n4 in 1usize..33, k8 in 1usize..40, splits in 1u32..5, seed in any::<u64>()) {
        right(split_k(m, 4 * n4, 8 * k8, splits), seed)?;
    }

    #[test]
    fn gemm_fp8_any_shape(m in 1usize..100, n in 1usize..100, k128 in 1usize..5, seed in any::<u64>()) {
        right(fp8(m, n, 128 * k128), seed)?;
    }

    #[test]
    fn gemm_wgmma_any_shape(
        m in 1usize..300, n8 in 1usize..30, k8 in 1usize..30, clusters in 1u32..3, wide in any::<bool>(), seed in any::<u64>()
    ) {
        let gemm = if wide { gemm_n128 } else { gemm_n64 };
        right(gemm(m, 8 * n8, 8 * k8, 2 * clusters), seed)?;
    }
}

fn right(case: Case, seed: u64) -> Result<(), TestCaseError> {
    let end = case.run(&case.module(), seed, None);
    prop_assert!(end.is_right(), "{}: {}", case.entry, describe(&end));
    Ok(())
}
