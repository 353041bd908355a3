//! A Hopper GPU in a process: parses PTX and runs it, adversarially but legally, and names what is wrong with it.
//!
//! ```
//! use std::sync::Arc;
//! use ptx::{Gpu, Launch, Module, Options};
//!
//! let source = r#"
//!     .version 8.4
//!     .target sm_90a
//!     .address_size 64
//!     .visible .entry twice(.param .u64 p) {
//!         .reg .b32 %r<3>;
//!         .reg .b64 %rd<4>;
//!         ld.param.u64 %rd1, [p];
//!         mov.u32 %r1, %tid.x;
//!         mul.wide.u32 %rd2, %r1, 4;
//!         add.s64 %rd3, %rd1, %rd2;
//!         ld.global.u32 %r2, [%rd3];
//!         shl.b32 %r2, %r2, 1;
//!         st.global.u32 [%rd3], %r2;
//!         ret;
//!     }"#;
//! let module = Arc::new(Module::parse("twice.ptx", source).unwrap());
//! let mut gpu = Gpu::new(Options::default());
//! let buffer = gpu.alloc(8).unwrap();
//! gpu.write(buffer, &[1, 0, 0, 0, 2, 0, 0, 0]).unwrap();
//! let module = gpu.load(module).unwrap();
//! gpu.launch(&Launch::new(module, "twice").block(2).args((buffer,))).assert_clean();
//! assert_eq!(gpu.read(buffer, 8).unwrap(), [2, 0, 0, 0, 4, 0, 0, 0]);
//! ```

mod counters;
pub mod driver;
mod exec;
mod gpu;
mod hazard;
mod ir;
pub mod launch;
pub mod matrix;
mod mbarrier;
mod mem;
pub mod num;
pub mod observe;
mod replace;
mod request;
pub mod standin;
pub mod suppress;
pub mod tensor_map;
mod text;

pub use counters::Counters;
pub use exec::module::Module;
pub use gpu::Gpu;
pub use hazard::{Hazard, HazardKind, Level};
pub use ir::{KernelInfo, ParamInfo};
pub use mem::MemoryError;
pub use request::{
    Arg, Args, Argument, Asynchrony, Dim3, Election, Failure, Fault, FaultKind, Launch, ModuleHandle, Options, Report,
};
pub use text::{Error, Errors};
