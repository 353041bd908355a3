//! A kernel held against plain Rust over random inputs and schedules: the body of `main` is the test.

use proptest::prelude::*;
use ptx::{Gpu, Launch};

/// The test.
pub fn main() {
    proptest!(ProptestConfig::with_cases(16), |(x in prop::collection::vec(-1000i32..1000, 1..700))| {
        Gpu::schedules(4, |gpu| {
            let module = gpu.load_ptx("block_sum.ptx", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/block_sum.ptx")))?;
            let blocks = x.len().div_ceil(256);
            let (input, sums) = (gpu.upload(&x), gpu.uninit::<i32>(blocks));
            let launch = Launch::new(module, "block_sum").grid(blocks as u32).block(256);
            gpu.launch(&launch.args((input, sums, x.len() as i32))).clean()?;
            let want: Vec<i32> = x.chunks(256).map(|block| block.iter().sum()).collect();
            prop_assert_eq!(gpu.download::<i32>(sums)?, want);
            Ok(())
        })?;
    });
}
