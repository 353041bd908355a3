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

mod access;
mod atomics;
mod barriers;
mod births;
mod bits;
mod build;
mod bulk;
mod calls;
mod cfg;
mod combine;
mod compare;
mod control;
mod cvt;
mod float;
mod flow;
mod grid;
mod int;
mod kernel;
mod lanes;
pub mod launch;
mod machine;
mod matrix;
mod memory;
pub mod module;
mod moves;
mod op;
mod origins;
mod parallel;
mod plan;
mod printf;
mod registers;
mod residents;
mod rng;
mod schedule;
mod seeing;
mod standing;
mod standstill;
mod step;
mod touches;
mod undefined;
mod video;
mod warp;
mod warp_ops;
mod wgmma;
