//! The interpreted driver by itself: modules, streams, events, graphs, and what it refuses.

use cuda::Options;
use cuda::driver::interpreted::Interpreted;
use cuda::driver::{Driver, DriverError, Launch, MapType, Stream, Swizzle, TensorMap};

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

fn launch<'a>(kernel: cuda::driver::Kernel, threads: u32, args: &'a [u8]) -> Launch<'a> {
    Launch { kernel, grid: [1, 1, 1], block: [threads, 1, 1], cluster: [1, 1, 1], shared: 0, args }
}

fn read(gpu: &mut Interpreted, ptr: u64) -> Vec<u8> {
    let mut bytes = vec![0; 128];
    gpu.download(&mut bytes, ptr, Stream::DEFAULT).unwrap();
    bytes
}

#[test]
fn a_recorded_graph_runs_as_often_as_it_is_replayed() {
    let mut gpu = Interpreted::new(Options::default());
    let module = gpu.load("test", SOURCE).unwrap();
    let kernel = gpu.kernel(module, "increment").unwrap();
    let (x, y) = (gpu.alloc(128).unwrap(), gpu.alloc(128).unwrap());
    gpu.fill(x, 0, 128, Stream::DEFAULT).unwrap();
    let args = x.to_le_bytes();
    gpu.begin_graph(Stream::DEFAULT).unwrap();
    gpu.launch(&launch(kernel, 32, &args), Stream::DEFAULT).unwrap();
    gpu.copy(y, x, 128, Stream::DEFAULT).unwrap();
    assert!(gpu.begin_graph(Stream::DEFAULT).is_err(), "one recording at a time");
    let other = gpu.stream().unwrap();
    assert!(gpu.end_graph(other).is_err(), "another stream is not being recorded");
    let graph = gpu.end_graph(Stream::DEFAULT).unwrap();
    assert_eq!(read(&mut gpu, x), [0; 128], "recorded, not run");
    for _ in 0..3 {
        gpu.replay(graph, Stream::DEFAULT).unwrap();
    }
    assert_eq!(read(&mut gpu, y), [3u8, 0, 0, 0].repeat(32));
}

#[test]
fn streams_wait_for_events_and_time_passes() {
    let mut gpu = Interpreted::new(Options::default());
    let second = gpu.stream().unwrap();
    assert_ne!(second, Stream::DEFAULT);
    let start = gpu.record(Stream::DEFAULT).unwrap();
    gpu.wait(second, start).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2));
    let end = gpu.record(second).unwrap();
    assert!(gpu.elapsed(start, end).unwrap().as_millis() >= 2);
    gpu.synchronize().unwrap();
}

#[test]
fn what_is_wrong_is_named() {
    let mut gpu = Interpreted::new(Options { memory: 1 << 20, ..Options::default() });
    let module = gpu.load("test", SOURCE).unwrap();
    assert!(gpu.kernel(module, "decrement").unwrap_err().to_string().starts_with("decrement: "));
    let told =
        gpu.load("broken", ".version 8.4\n.target sm_80\n.address_size 64\n.visible .entry k() { frobnicate.u32; }").unwrap_err();
    assert!(told.to_string().contains("broken.ptx"), "{told}");
    let free = DriverError::OutOfMemory { asked: 2 << 20, free: 1 << 20, total: 1 << 20 };
    assert_eq!(gpu.alloc(2 << 20), Err(free));
    let ptr = gpu.alloc(256).unwrap();
    let told = gpu.download(&mut [0; 8], ptr, Stream::DEFAULT).unwrap_err().to_string();
    assert!(told.contains("never written"), "{told}");
    let race = gpu.kernel(module, "race").unwrap();
    gpu.launch(&launch(race, 1, &ptr.to_le_bytes()), Stream::DEFAULT).unwrap();
    let told = gpu.launch(&launch(race, 64, &ptr.to_le_bytes()), Stream::DEFAULT).unwrap_err().to_string();
    assert!(told.starts_with("race: ") && told.contains("data race") && told.contains("line 22"), "{told}");
    gpu.free(ptr).unwrap();
    assert!(gpu.free(ptr).is_err(), "freed twice");
}

#[test]
fn a_tensor_map_breaks_no_limit_unnamed() {
    let mut gpu = Interpreted::new(Options::default());
    let base = gpu.alloc(1 << 16).unwrap();
    let map =
        TensorMap { dtype: MapType::BF16, base, sizes: &[64, 32], strides: &[128], window: &[64, 8], swizzle: Swizzle::B128 };
    assert!(gpu.tensor_map(&map).unwrap().iter().any(|&b| b != 0));
    for (bad, named) in [
        (TensorMap { base: base + 8, ..map.clone() }, "16"),
        (TensorMap { strides: &[120], ..map.clone() }, "16"),
        (TensorMap { window: &[64, 512], ..map.clone() }, "256"),
        (TensorMap { window: &[128, 8], ..map.clone() }, "128"),
    ] {
        let told = gpu.tensor_map(&bad).unwrap_err().to_string();
        assert!(told.contains(named), "{told} does not name {named}");
    }
}
