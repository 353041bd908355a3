//! Execution. From the ground up:
//!
//! - [`lanes`]: the registers of a warp, and instructions that work on registers alone; [`warp`]: a warp and its groups of lanes.
//! - [`machine`]: what every instruction may work on; [`residents`] and [`bulk::Asyncs`]: what only some are given.
//! - The families of instructions, each with its decoder and its work, told by [`flow`] where they are and answering what comes next.
//! - [`op`]: all families as one type; [`module`]: code, made by `build.rs`.
//! - `step.rs` runs one instruction, `schedule.rs` decides who runs, `parallel.rs` has clusters run side by side, [`standing`] says
//!   where all are, [`seeing`] shows what is asked for, [`launch`] makes a report of it.
//!
//! Undefinedness: before an instruction the machine knows which of its operands are undefined; of a lane-wise one it finds out whether
//! the result depends on them ([`undefined`]). Families mark what they write ([`flow::At::mark`], [`flow::At::define`]) and report what
//! must not be undefined ([`machine::Machine::demand`]). Registers in flight are checked before every instruction but wgmma, which
//! checks them itself.

pub(crate) mod access;
pub(crate) mod atomics;
pub(crate) mod barriers;
mod births;
mod bits;
mod build;
pub(crate) mod bulk;
pub(crate) mod calls;
mod cfg;
pub(crate) mod combine;
mod compare;
pub(crate) mod control;
mod cvt;
mod float;
pub(crate) mod flow;
pub(crate) mod grid;
mod int;
pub(crate) mod kernel;
pub(crate) mod lanes;
pub mod launch;
pub(crate) mod machine;
pub(crate) mod matrix;
pub(crate) mod memory;
pub mod module;
mod moves;
pub(crate) mod op;
mod origins;
mod parallel;
mod plan;
mod printf;
pub(crate) mod registers;
pub(crate) mod residents;
pub(crate) mod rng;
pub(crate) mod schedule;
mod seeing;
mod standing;
mod standstill;
mod step;
mod touches;
pub(crate) mod undefined;
mod video;
pub(crate) mod warp;
pub(crate) mod warp_ops;
pub(crate) mod wgmma;
