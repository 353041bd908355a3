//! Launches from Rust: typed arguments against `.param`, and one report for hazards and faults.

use std::sync::Arc;

use ptx::{FaultKind, Gpu, Launch, Module, ModuleHandle, Options};

use crate::harness::kernel_text;

fn gpu(seed: u64) -> (Gpu, ModuleHandle) {
    let mut gpu = Gpu::new(Options { seed, ..Options::default() });
    let module = Module::parse("launches.ptx", &kernel_text("launches")).unwrap_or_else(|e| panic!("{e}"));
    let module = gpu.load(Arc::new(module)).unwrap();
    (gpu, module)
}

#[test]
fn arguments_are_held_against_the_parameters() {
    let (mut gpu, module) = gpu(0);
    let out = gpu.alloc(8).unwrap();
    let half = half::f16::from_f32(0.5);
    let brain = half::bf16::from_f32(0.25);
    let args = (out, 1u8, -2i8, 3u16, -4i16, 5u32, -6i32, 7u64, -8i64, half, brain, 0.125f32, 1e-3f64, true);
    gpu.launch(&Launch::new(module, "add_all").args(args)).assert_clean();
    let sum = f64::from_le_bytes(gpu.read(out, 8).unwrap().try_into().unwrap());
    assert_eq!(sum, 1.0 - 2.0 + 3.0 - 4.0 + 5.0 - 6.0 + 7.0 - 8.0 + 0.5 + 0.25 + 0.125 + 1e-3 + 1000.0);

    let refused = |gpu: &mut Gpu, launch: Launch, words: &[&str]| {
        let fault = gpu.launch(&launch).fault.expect("it is refused");
        assert_eq!(fault.kind, FaultKind::InvalidLaunch);
        for word in words {
            assert!(fault.message.contains(word), "{word:?} is not in: {fault}");
        }
    };
    let rows = || Launch::new(module, "sum_rows");
    refused(&mut gpu, rows().args((out, out, 3)), &["takes 4 parameters, not 3"]);
    refused(
        &mut gpu,
        rows().args((out, out, 3, 4u64)),
        &["parameter 3", "`.param .u32 sum_rows_param_3`", "takes 4 bytes", "found 8: u64"],
    );
    refused(&mut gpu, rows().args((out, out, 3, 4f32)), &["parameter 3", "takes an integer, found f32"]);
    refused(&mut gpu, rows().args((1.0f64, out, 3, 4)), &["parameter 0", "takes an integer, found f64"]);
    refused(&mut gpu, rows().params(vec![0; 23]), &["takes 24 bytes of parameters, not 23"]);
    let sum = Launch::new(module, "add_all").args((out, 1u8, 1u8, 1u16, 1u16, 1, 1, 1u64, 1u64, half, brain, 1, 1.0, true));
    refused(&mut gpu, sum, &["parameter 11", "takes a floating-point number, found i32"]);
}

#[test]
fn a_report_that_is_not_clean_says_so_at_the_callers_line() {
    let (mut gpu, module) = gpu(0);
    let (x, partial, out) = (gpu.alloc(80).unwrap(), gpu.alloc(80).unwrap(), gpu.alloc(320).unwrap());
    gpu.fill(x, 1, 80).unwrap();
    let launch = Launch::new(module, "grid_sum_without_barrier").grid(20).block(4).args((x, partial, out, 80));
    let message = gpu.launch(&launch).clean().unwrap_err().to_string();
    let mut lines = message.lines();
    assert!(lines.next().unwrap().starts_with("`grid_sum_without_barrier`: "), "{message}");
    assert!(lines.all(|line| line.starts_with("  ") && line.contains("launches.cu:")) && message.contains('\n'), "{message}");

    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| gpu.launch(&launch).assert_clean())).unwrap_err();
    let text = panic.downcast::<String>().unwrap();
    assert!(text.starts_with("`grid_sum_without_barrier`: ") && text.contains("launches.cu:"), "{text}");
}
