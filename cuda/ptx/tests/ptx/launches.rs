//! Launches from Rust: typed arguments against `.param`, and one report for hazards and faults.

use std::sync::Arc;

use ptx::tensor_map::{ElementType, TensorMap};
use ptx::{Argument, FaultKind, Gpu, HazardKind, Launch, Module, ModuleHandle, Options};

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
    assert!(lines.next().unwrap().starts_with("`grid_sum_without_barrier` with seed 0: "), "{message}");
    assert!(lines.all(|line| line.starts_with("  ") && line.contains("launches.cu:")) && message.contains('\n'), "{message}");

    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| gpu.launch(&launch).assert_clean())).unwrap_err();
    let text = panic.downcast::<String>().unwrap();
    assert!(text.starts_with("`grid_sum_without_barrier` with seed 0: ") && text.contains("launches.cu:"), "{text}");
}

#[test]
fn typed_memory_goes_in_and_comes_out() {
    let (mut gpu, module) = gpu(1);
    let x = gpu.upload(&[1.0f32, 2.0, 3.0, 4.0]);
    let y = gpu.uninit::<f32>(4);
    gpu.launch(&Launch::new(module, "half_of").block(4).args((x, y, 4))).assert_clean();
    // What nothing wrote is an error, unless it is asked for.
    let message = gpu.download::<f32>(y).unwrap_err().to_string();
    assert!(message.contains("byte 8 of 16") && message.contains("never written"), "{message}");
    assert_eq!(gpu.download_written::<f32>(y).unwrap(), [Some(2.0), Some(4.0), None, None]);
    assert_eq!(gpu.download::<f32>(y.part(0..8)).unwrap(), [2.0, 4.0]);
    // The next launch works on the same memory, and what is uninitialised stays so.
    let z = gpu.zeros::<f32>(4);
    let report = gpu.launch(&Launch::new(module, "half_of").block(4).args((y, z, 4)));
    report.assert_clean();
    assert_eq!(gpu.download::<f32>(z).unwrap(), [4.0, 8.0, 0.0, 0.0]);
    let report = gpu.launch(&Launch::new(module, "half_of").block(8).args((y, z, 8)));
    assert!(report.hazards.iter().any(|h| h.kind == HazardKind::UninitializedRead), "{:?}", report.hazards);
    gpu.store(y, &[5.0f32; 4]);
    assert_eq!(gpu.download::<f32>(y).unwrap(), [5.0; 4]);
    assert_eq!(gpu.download::<[u8; 4]>(y.part(4..8)).unwrap(), [5.0f32.to_le_bytes()]);
    let odd = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| gpu.download::<f32>(y.part(0..7)))).unwrap_err();
    assert!(odd.downcast::<String>().unwrap().contains("7 bytes holds no whole number of f32"));
}

#[test]
fn a_struct_is_built_by_field_or_is_rusts_own() {
    #[repr(C)]
    #[derive(Clone, Copy, bytemuck::NoUninit)]
    struct Wrong(u64);
    let (mut gpu, module) = gpu(2);
    let (x, out) = (gpu.upload(&[1.0f32, 2.0, 3.0]), gpu.uninit::<f32>(3));
    let tile = gpu.upload(&(0..64).map(|i| i as f32).collect::<Vec<_>>());
    let map = TensorMap::dense(ElementType::F32, tile.ptr(), &[64, 1], &[64, 1]);
    let scale = Argument::structure(192).with(0, 2.0f32).with(8, x).with(16, out).with(24, 3).with(64, &map);
    let launch = Launch::new(module, "scale").block(64);
    gpu.launch(&launch.clone().args((scale,))).assert_clean();
    assert_eq!(gpu.download::<f32>(out).unwrap(), [2.0, 6.0, 10.0]);
    let fault = gpu.launch(&launch.args((Wrong(1),))).fault.unwrap();
    assert!(fault.message.contains("takes 192 bytes, found 8") && fault.message.contains("Wrong"), "{fault}");
    for (at, word) in [(32, "multiple of 64"), (128, "leaves a struct of 192")] {
        let build = || Argument::structure(192).with(at, &map);
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(build)).unwrap_err();
        assert!(panic.downcast::<String>().unwrap().contains(word));
    }
}

#[test]
fn variables_are_buffers() {
    let (mut gpu, module) = gpu(3);
    let (x, out) = (gpu.upload(&[1.0f32, 2.0]), gpu.uninit::<f32>(2));
    let table = gpu.upload(&[100.0f32, 200.0]);
    assert!(gpu.variable(module, "no such").is_none());
    let [coefficients, pointer, calls] = ["coefficients", "table", "calls"].map(|name| gpu.variable(module, name).unwrap());
    gpu.store(coefficients, &[0.0f32, 1.0, 0.0, 1.0]);
    gpu.store(pointer, &[table.ptr()]);
    gpu.launch(&Launch::new(module, "polynomial").block(2).args((x, out))).assert_clean();
    assert_eq!(gpu.download::<f32>(out).unwrap(), [102.0, 210.0]);
    assert_eq!(gpu.download::<u32>(calls).unwrap(), [41]);
}

#[test]
fn schedules_are_tried_until_one_fails() {
    let mut tried = 0;
    let end = Gpu::schedules(8, |gpu| {
        tried += 1;
        let module = gpu.load_ptx("launches.ptx", &kernel_text("launches")).map_err(|e| e.to_string())?;
        let (x, partial, out) = (gpu.upload(&[1i32; 8]), gpu.uninit::<i32>(2), gpu.uninit::<i32>(8));
        let launch = Launch::new(module, "grid_sum").grid(2).block(4).cooperative(true).args((x, partial, out, 8));
        gpu.launch(&launch).clean().map_err(|e| e.to_string())?;
        if gpu.download::<i32>(out) == Ok(vec![8; 8]) && tried == 3 { Err("the third".to_string()) } else { Ok(()) }
    });
    assert_eq!((end, tried), (Err("the third".to_string()), 3));
}
