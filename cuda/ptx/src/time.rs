//! How long a kernel takes on a card, foretold: the interpreter's front end drives a model of the card, without the data.
//!
//! The parser, the decoder, control flow, addresses, barriers and tensor maps are the interpreter's. Integers, predicates and addresses are computed; what
//! comes from memory that nobody filled is not known, and neither is what is computed from it: floats and products of matrices, as a rule. A branch or
//! an address that hangs on such a value is an error that names the line ([`TimeError::Unknown`]); it goes away when the launch gives the
//! buffer's contents. One thing is assumed: floats that are not known are not equal to anything, so that a kernel which guards a division by a
//! sum of 0 has a time.
//!
//! # The model
//! - **A multiprocessor** has four schedulers, each with a quarter of the warps and of the pipes. A scheduler issues one machine instruction in a
//!   clock, of the warp that could for the longest time. A warp issues in order, when the registers that its
//!   instruction names are ready and its pipe is free. What an instruction becomes in machine code, and what that costs, is a table (`cost.rs`).
//! - **Memory**: bank conflicts and lines of a warp's access are counted from its addresses. L1, the two halves of L2 and DRAM hold real lines, and
//!   each has a bandwidth (`traffic.rs`). A bulk copy is one request of all its lines.
//! - **Tensor cores**: a wgmma runs when its four warps have issued it and the tensor cores are free, for as long as its products or
//!   its operands in shared memory need (`copy.rs`).
//! - **Barriers, mbarriers, groups**: as the interpreter has them, each with the clocks that a wake-up takes (`sync.rs`).
//! - **The card**: CTAs are placed breadth-first, as many on a multiprocessor as its threads, shared memory and registers
//!   hold, and the next one starts where one ends. All multiprocessors are simulated (`engine.rs`).
//! - **The clock** falls with the use of the tensor cores, because of the power limit ([`Card::sustained`]).
//!
//! All constants stand in [`Card`] with their sources. What the model leaves out: instruction fetch, register banks, conflicts between what the tensor cores,
//! copies and warps want of shared memory at the same moment, TLBs, ECC, and all that other work on the card does.
//!
//! Time is the kernel's own plus what a launch costs on an idle card. Caches hold nothing that the kernel asks for; half of L2 is full of what others
//! wrote, which has to reach DRAM first, as in the loops by which speeds are measured.

mod card;
mod copy;
mod cost;
mod cta;
mod device;
mod engine;
mod execute;
mod foretell;
mod memory;
mod picture;
mod profile;
mod sm;
mod sync;
mod traffic;
mod view;
mod warp;

pub use card::{CARDS, Card};
pub use device::Device;
pub use profile::{Role, Waited};
pub use view::View;

use std::fmt;

use serde::Serialize;

use crate::request::Fault;

/// Why no time can be foretold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// Something that decides what happens was not computed.
    #[error(
        "PTX line {line}{}: {what} of `{opcode}` hangs on a value that is not computed{}; give the contents of the buffer that it comes from",
        source_line.as_ref().map_or(String::new(), |s| format!(" ({s})")),
        from.map_or(String::new(), |l| format!(", which comes from PTX line {l}"))
    )]
    Unknown {
        /// What is not known.
        what: String,
        /// Of which instruction.
        opcode: String,
        /// Its line in the PTX file.
        line: u32,
        /// Its place in the source.
        source_line: Option<String>,
        /// The line at which the value began not to be computed.
        from: Option<u32>,
    },
    /// Nothing will ever happen.
    #[error("nothing goes on: {waits}{}", if *more > 0 { format!("; and {more} more") } else { String::new() })]
    Stuck {
        /// What warps wait for.
        waits: String,
        /// Warps that are not named.
        more: usize,
    },
    /// The kernel is wrong; run it on the interpreter, which says more.
    #[error("{message}")]
    Kernel {
        /// What is wrong.
        message: String,
    },
    /// The launch cannot begin.
    #[error("{0}")]
    Launch(String),
}

impl From<Box<Fault>> for TimeError {
    fn from(fault: Box<Fault>) -> TimeError {
        TimeError::Kernel { message: fault.to_string() }
    }
}

/// The foretold time of a launch.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Foretold {
    /// The kernel.
    pub kernel: String,
    /// The card.
    pub card: &'static str,
    /// Clocks of the multiprocessors from the first CTA's start to the last one's end.
    pub clocks: u64,
    /// The clock that the card keeps under this load, GHz.
    pub ghz: f64,
    /// The whole, in microseconds.
    pub us: f64,
    /// Operations in a second, in TFLOP/s: those of the tensor cores, or of the CUDA cores if there are none.
    pub tflops: f64,
    /// Bytes that DRAM moved in a second, GB/s.
    pub dram_gbs: f64,
    /// Bytes that L2 moved in a second, GB/s.
    pub l2_gbs: f64,
    /// Of sectors asked of L2, the share that it had.
    pub l2_hits: f64,
    /// CTAs of a multiprocessor at a time.
    pub occupancy: u32,
    /// What limits them.
    pub limited_by: &'static str,
    /// Rounds of CTAs: those of the grid over those that the card holds.
    pub waves: f64,
    /// Share of each ceiling over the whole time.
    pub shares: Vec<(&'static str, f64)>,
    /// Where the time of warps goes.
    pub roles: Vec<Role>,
    /// Warp instructions of PTX that were executed.
    pub instructions: u64,
}

impl fmt::Display for Foretold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Foretold { kernel, card, us, clocks, ghz, tflops, .. } = self;
        writeln!(f, "{kernel} on {card}, foretold")?;
        writeln!(f, "  {us:.2} us: {clocks} clocks at {ghz:.3} GHz, and the launch")?;
        writeln!(
            f,
            "  {tflops:.1} TFLOP/s, {:.0} GB/s of DRAM, {:.0} GB/s of L2 (hits {:.0} %)",
            self.dram_gbs,
            self.l2_gbs,
            100.0 * self.l2_hits
        )?;
        writeln!(f, "  {} CTAs on a multiprocessor, limited by {}; {:.2} waves", self.occupancy, self.limited_by, self.waves)?;
        let shares: Vec<String> = self.shares.iter().map(|(name, share)| format!("{name} {:.1} %", 100.0 * share)).collect();
        writeln!(f, "  of the ceilings: {}", shares.join(", "))?;
        for role in &self.roles {
            let warps: Vec<String> = role.warps.iter().map(u32::to_string).collect();
            let shares: Vec<String> = role.shares.iter().map(|(name, share)| format!("{name} {:.0} %", 100.0 * share)).collect();
            writeln!(f, "  {} (warps {}): {}", role.name, warps.join(" "), shares.join(", "))?;
            for line in &role.lines {
                let source = line.source.as_ref().map_or(String::new(), |s| format!(" ({s})"));
                writeln!(
                    f,
                    "    {:5.1} % {} at PTX line {}{source}: {}",
                    100.0 * line.share,
                    line.why,
                    line.ptx_line,
                    line.opcode
                )?;
            }
        }
        Ok(())
    }
}
