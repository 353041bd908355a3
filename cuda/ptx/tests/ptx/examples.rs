//! The examples, run, and the structs of parameters that tests build by field.

#[path = "../../examples/hazard.rs"]
mod hazard;
#[path = "../../examples/property_test.rs"]
mod property_test;

#[test]
fn the_property_test_holds() {
    property_test::main();
}

#[test]
fn the_hazard_is_found() {
    hazard::main().unwrap();
    let mut gpu = ptx::Gpu::default();
    let module = gpu.load_ptx("block_sum.ptx", include_str!("../../examples/block_sum.ptx")).unwrap();
    let (input, sums) = (gpu.upload(&[1i32; 256]), gpu.uninit::<i32>(1));
    let launch = |entry| ptx::Launch::new(module, entry).block(256).args((input, sums, 256));
    gpu.launch(&launch("block_sum")).assert_clean();
    let message = gpu.launch(&launch("block_sum_lockstep")).clean().unwrap_err().to_string();
    assert!(message.contains("data race in shared memory") && message.contains("block_sum.cu:2"), "{message}");
}
