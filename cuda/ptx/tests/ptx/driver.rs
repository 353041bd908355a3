//! The interpreted driver by itself: memory, modules, launches, and what it refuses.

use ptx::driver::interpreted::{Interpreted, Options};
use ptx::driver::{Driver, DriverError};
use ptx::tensor_map::{ElementType, Swizzle, TensorMap};
use ptx::{FaultKind, HazardKind, Launch, ModuleHandle};

/// `p[i] += 1` for 32 threads, and a kernel in which all of them write one place.
const SOURCE: &str = r#"
.version 8.4
.target sm_80
.address_size 64
.visible .entry increment(.param .u64 p) {
    .reg .b32 %r<3>;
    .reg .b64 %rd<4>;
    ld.param.u64 %rd1, [p];
    mov.u32 %r1, %tid.x;
    mul.wide.u32 %rd2, %r1, 4;
    add.s64 %rd3, %rd1, %rd2;
    ld.global.u32 %r2, [%rd3];
    add.s32 %r2, %r2, 1;
    st.global.u32 [%rd3], %r2;
    ret;
}
.visible .entry race(.param .u64 p) {
    .reg .b32 %r<2>;
    .reg .b64 %rd<2>;
    ld.param.u64 %rd1, [p];
    mov.u32 %r1, %tid.x;
    st.global.u32 [%rd1], %r1;
    ret;
}
"#;

/// One block over one pointer.
fn launch(module: ModuleHandle, entry: &str, threads: u32, ptr: u64) -> Launch {
    Launch::new(module, entry).block(threads).args((ptr,))
}

#[test]
fn work_is_done_in_order() {
    let mut gpu = Interpreted::new(Options::default());
    let module = gpu.load("test.ptx", SOURCE).unwrap();
    let (x, y) = (gpu.alloc(128).unwrap(), gpu.alloc(128).unwrap());
    gpu.fill(x, 0, 128).unwrap();
    gpu.launch(&launch(module, "increment", 32, x)).unwrap();
    gpu.copy(y, x, 128).unwrap();
    gpu.launch(&launch(module, "increment", 32, x)).unwrap();
    gpu.upload(y, &[7; 4]).unwrap();
    gpu.synchronize().unwrap();
    let mut read = |ptr| {
        let mut bytes = vec![0; 128];
        gpu.download(&mut bytes, ptr).unwrap();
        bytes
    };
    assert_eq!(read(x), [2u8, 0, 0, 0].repeat(32));
    assert_eq!(read(y), [vec![7; 4], [1u8, 0, 0, 0].repeat(31)].concat());
}

#[test]
fn what_is_wrong_is_named() {
    let mut gpu = Interpreted::new(Options { memory: 1 << 20, ..Options::default() });
    let module = gpu.load("test.ptx", SOURCE).unwrap();
    let broken = ".version 8.4\n.target sm_80\n.address_size 64\n.visible .entry k() { frobnicate.u32; }";
    let message = gpu.load("broken.ptx", broken).unwrap_err().to_string();
    assert!(message.starts_with("loading broken.ptx: ") && message.contains("frobnicate"), "{message}");
    let free = DriverError::OutOfMemory { asked: 2 << 20, free: 1 << 20, total: 1 << 20 };
    assert_eq!(gpu.alloc(2 << 20), Err(free));
    let ptr = gpu.alloc(256).unwrap();
    let message = gpu.launch(&launch(module, "decrement", 32, ptr)).unwrap_err().to_string();
    assert!(message.starts_with("decrement: there is no kernel"), "{message}");
    let message = gpu.download(&mut [0; 8], ptr).unwrap_err().to_string();
    assert!(message.contains("byte 0 of 8 was never written"), "{message}");
    assert!(gpu.copy(ptr + 128, ptr, 8).is_err());
    gpu.launch(&launch(module, "race", 1, ptr)).unwrap();
    let message = gpu.launch(&launch(module, "race", 64, ptr)).unwrap_err().to_string();
    assert!(message.starts_with("race: ") && message.contains("data race") && message.contains("line 22"), "{message}");
    gpu.free(ptr).unwrap();
    assert!(gpu.free(ptr).is_err(), "freed twice");
}

#[test]
fn what_came_of_a_launch_is_reported_once() {
    let mut gpu = Interpreted::new(Options { counters: true, unwritten: true, ..Options::default() });
    let module = gpu.load("test.ptx", SOURCE).unwrap();
    let ptr = gpu.alloc(256).unwrap();
    assert!(gpu.report().is_none());
    gpu.launch(&launch(module, "race", 1, ptr)).unwrap();
    let report = gpu.report().unwrap().clean().unwrap();
    assert!(report.instructions == 4 && report.counters.is_some() && report.hazards.is_empty(), "{report:?}");
    assert!(gpu.report().is_none());
    gpu.launch(&launch(module, "race", 64, ptr)).unwrap_err();
    assert_eq!(gpu.report().unwrap().hazards[0].kind, HazardKind::GlobalRace);
    gpu.launch(&launch(module, "race", 4096, ptr)).unwrap_err();
    assert_eq!(gpu.report().unwrap().fault.unwrap().kind, FaultKind::InvalidLaunch);
    let mut bytes = [0; 8];
    gpu.download(&mut bytes, ptr).unwrap();
    assert_eq!(bytes[4..], [0xFF; 4], "what nothing wrote can be read, where that was asked for");
}

#[test]
fn a_tensor_map_breaks_no_limit_unnamed() {
    let mut gpu = Interpreted::new(Options::default());
    let address = gpu.alloc(1 << 16).unwrap();
    let map = TensorMap { swizzle: Swizzle::B128, ..TensorMap::dense(ElementType::Bf16, address, &[64, 32], &[64, 8]) };
    assert!(gpu.tensor_map(&map).unwrap().iter().any(|&b| b != 0));
    for (bad, named) in [
        (TensorMap { address: address + 8, ..map.clone() }, "16"),
        (TensorMap { strides: vec![120], ..map.clone() }, "16"),
        (TensorMap { box_dims: vec![64, 512], ..map.clone() }, "256"),
        (TensorMap { box_dims: vec![128, 8], ..map.clone() }, "128"),
    ] {
        let message = gpu.tensor_map(&bad).unwrap_err().to_string();
        assert!(message.contains(named), "{message} does not name {named}");
    }
}
