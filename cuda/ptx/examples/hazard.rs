//! A kernel with a race that a card shows once in many launches, or never: what the interpreter says of it.

use ptx::{Gpu, Launch};

/// Runs both kernels.
pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut gpu = Gpu::default();
    let module = gpu.load_ptx("block_sum.ptx", include_str!("block_sum.ptx"))?;
    let (input, sums) = (gpu.upload(&[1i32; 256]), gpu.uninit::<i32>(1));
    for entry in ["block_sum", "block_sum_lockstep"] {
        let report = gpu.launch(&Launch::new(module, entry).block(256).args((input, sums, 256)));
        match report.clean() {
            Ok(report) => println!("`{}`: clean, {} instructions", report.kernel, report.instructions),
            Err(failure) => println!("{failure}"),
        }
    }
    Ok(())
}
