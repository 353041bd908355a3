//! A Hopper GPU in a process: parses PTX and runs it, adversarially but legally, and names what is wrong with it.
//!
//! ```
//! use ptx::{Gpu, Launch};
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
//! let mut gpu = Gpu::default();
//! let module = gpu.load_ptx("twice.ptx", source)?;
//! let buffer = gpu.upload(&[1u32, 2]);
//! gpu.launch(&Launch::new(module, "twice").block(2).args((buffer,))).assert_clean();
//! assert_eq!(gpu.download::<u32>(buffer)?, [2, 4]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A property test of a kernel
//!
//! `cargo test` then runs it over random inputs, each with several [schedules](Gpu::schedules):
//!
//! ```
#![doc = include_str!("../examples/property_test.rs")]
//! ```
//!
//! * A [`Launch`] is built step by step; its arguments are typed and held against the kernel's `.param`s.
//! * A [`Buffer`] holds values: [`Gpu::upload`], [`Gpu::zeros`], [`Gpu::uninit`], [`Gpu::download`]. Memory lasts from launch to
//!   launch, with what was never written.
//! * A [`Report`] has all that came of a launch, hazards and faults: [`Report::assert_clean`] panics with them in words,
//!   [`Report::clean`] makes them an error.
//! * [`launch`] reads and writes launches as files, for `ptxi run`; [`driver`] runs the same on a card.

mod buffer;
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
#[cfg(feature = "nvrtc")]
pub mod nvrtc;
pub mod observe;
mod replace;
mod request;
pub mod standin;
pub mod suppress;
pub mod tensor_map;
mod text;
pub mod time;

pub use buffer::Buffer;
pub use counters::Counters;
pub use exec::module::Module;
pub use gpu::{Gpu, LoadError};
pub use hazard::{Hazard, HazardKind, Level};
pub use ir::{KernelInfo, ParamInfo};
pub use mem::MemoryError;
pub use request::{
    Arg, Args, Argument, Asynchrony, Dim3, Election, Failure, Fault, FaultKind, Launch, ModuleHandle, Options, Report,
};
pub use text::{Error, Errors};

/// What the README shows compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
