//! Execution: a launch's CTAs and warps, and the loop that runs them.
//!
//! # The loop
//!
//! [`Machine::run`] picks a warp by the seed and lets it run a burst of instructions. A warp's lanes are in one or several
//! groups with a pc of their own ([`warp`]); one group runs at a time. `Machine::step` evaluates the guard, runs an
//! `Op::Lane` in place and hands every other `Op` to `Machine::execute`, which calls the family:
//!
//! ```text
//! pub fn execute(m: &mut Machine<'_>, warp: &mut Warp, op: &…, at: At) -> Result<Flow, Stop>
//! ```
//!
//! [`At`] has the lanes to execute and the pc, for hazards. While a warp runs it is not in its CTA's list, so the family may touch other
//! warps, shared memory and queues through `m` freely. What it returns:
//!
//! - `Flow::Next`: done.
//! - `Flow::Converge`: the instruction is `.aligned` and `at.mask` is not every live lane; the machine gathers the lanes and
//!   calls again. Use [`At::is_converged`].
//! - `Flow::Members`: the same for the named lanes of a `.sync` instruction.
//! - `Flow::Block`: done, but the lanes go on only when the [`Wait`] is over.
//! - `Flow::Retry`: the lanes wait, then the instruction is executed again (`try_wait`).
//! - `Flow::Yield`: done, and another warp should run.
//!
//! A wait is over when [`Machine::is_over`] says so; it is asked after [`Machine::wake`] was called for the warp or its CTA.
//! When nothing can run, `Machine::unstick` first lets an asynchronous operation land, then makes timed waits give up, then starts more
//! CTAs, and then reports a deadlock.
//!
//! # Registers
//!
//! `warp.regs.r32[i][lane]` and so on. Undefinedness: before an instruction the machine knows which of its operands are
//! undefined; a `Op::Lane` passes it on to the result by itself. Families mark what they write with `regs.set_undef`
//! ([`Machine::define`] marks all of the instruction's results as defined) and report what must not be undefined with
//! [`Machine::demand`]. Registers in flight (`regs.set_flight`) are checked by the machine before every instruction but those for which
//! `touches_flight` is true, which check themselves (wgmma).
//!
//! # Who fills what
//!
//! `matrix.rs` holds the tensor-core families; `bulk.rs` the asynchronous copies, mbarriers and fences with their queue
//! ([`bulk::Asyncs`]); [`crate::mem`] all memory but local frames, with the shadow and the clocks; [`crate::counters`] what the machine counts.

pub mod atomics;
pub mod barriers;
pub mod bits;
mod build;
pub mod bulk;
pub mod calls;
mod cfg;
pub mod compare;
pub mod control;
pub mod cvt;
pub mod float;
pub mod int;
pub mod lanes;
pub mod launch;
pub mod matrix;
pub mod memory;
pub mod module;
pub mod moves;
pub mod op;
pub mod printf;
pub mod rng;
mod schedule;
mod step;
pub mod warp;
pub mod warp_ops;
pub mod wgmma;

use crate::counters::Recorder;
use crate::hazard::{Hazard, HazardKind, Place, Site};
use crate::ir::{Entry, Reg};
use crate::mem::Memory;
use crate::request::{Fault, FaultKind, Launch, Options};
use module::Module;
use rng::Rng;
use step::After;
use warp::Warp;

/// The launch ends: a fault.
pub type Stop = Box<Fault>;

/// Where an instruction is and in which lanes.
#[derive(Clone, Copy, Debug)]
pub struct At {
    /// The instruction.
    pub pc: u32,
    /// Lanes that execute it.
    pub mask: u32,
    /// The wait before this was given up.
    pub timed_out: bool,
}

impl At {
    /// Whether every live lane of the warp is here.
    pub fn is_converged(&self, warp: &Warp) -> bool {
        self.mask == warp.live
    }
}

/// What happens after an instruction.
#[derive(Clone, Debug)]
pub enum Flow {
    /// The next instruction.
    Next,
    /// Gather all live lanes of the warp, then execute again.
    Converge,
    /// Gather the lanes of the mask, then execute again.
    Members(u32),
    /// The next instruction, when the wait is over.
    Block(Wait),
    /// This instruction again, when the wait is over.
    Retry(Wait),
    /// The next instruction, later.
    Yield,
}

/// What lanes wait for.
#[derive(Clone, Debug, PartialEq)]
pub enum Wait {
    /// All live lanes of the warp at this pc.
    Converge,
    /// These lanes at this pc.
    Members(u32),
    /// Completion of a named barrier.
    Barrier {
        /// Its number.
        id: u32,
        /// Its generation when the lanes arrived.
        generation: u64,
    },
    /// Completion of the cluster's barrier.
    ClusterBarrier {
        /// Its generation when the lanes arrived.
        generation: u64,
    },
    /// Something of the asynchronous families.
    Async(bulk::AsyncWait),
    /// All warps of the warpgroup have issued so many wgmma.
    Warpgroup {
        /// How many.
        target: u64,
    },
    /// Time.
    Sleep {
        /// The step until which the lanes sleep.
        until: u64,
    },
}

/// A CTA that is resident.
pub struct Cta {
    /// `%ctaid`
    pub id: [u32; 3],
    /// Its warps; the one that runs is taken out.
    pub warps: Vec<Option<Box<Warp>>>,
    /// Warps that have not ended.
    pub alive: u32,
    /// Named barriers.
    pub barriers: Vec<barriers::NamedBarrier>,
    /// What its warpgroups have in flight.
    pub warpgroups: Vec<wgmma::Warpgroup>,
}

/// A cluster that is resident.
pub struct Cluster {
    /// CTAs that have not ended.
    pub alive: u32,
    /// `barrier.cluster`
    pub barrier: barriers::ClusterBarrier,
}

/// A launch in progress.
pub struct Machine<'g> {
    /// The module.
    pub module: &'g Module,
    /// The kernel.
    pub entry: &'g Entry,
    /// Options of the GPU.
    pub options: &'g Options,
    /// Grid, block and so on.
    pub launch: &'g Launch,
    /// Addresses of the module's variables.
    pub globals: &'g [u64],
    /// Address of the kernel's parameters.
    pub params: u64,
    /// All memory, its shadow and order, and what was found wrong.
    pub mem: Memory,
    /// Counters, if wanted.
    pub counters: Option<Recorder>,
    /// The seed's stream.
    pub rng: Rng,
    /// What the kernel printed.
    pub printed: String,
    /// Asynchronous operations under way.
    pub asyncs: bulk::Asyncs,
    /// Resident CTAs by slot; those of a cluster are neighbours. `None`: the slot is free.
    pub ctas: Vec<Option<Cta>>,
    /// Resident clusters: slot / CTAs a cluster.
    pub clusters: Vec<Option<Cluster>>,
    /// Shape of the grid.
    pub shape: launch::Shape,
    /// Warps that may be able to run: slot * warps a CTA + warp.
    ready: Vec<u32>,
    is_ready: Vec<bool>,
    /// Drawn once a launch, for `elect.sync`.
    election: u32,
    /// Next cluster to start.
    next_cluster: u32,
    /// Clusters that may be resident at once.
    window: u32,
    resident: u32,
    /// Warp instructions executed.
    pub steps: u64,
    /// Thread instructions executed.
    pub instructions: u64,
    /// Step at which the last cluster started.
    last_admit: u64,
    /// Reads since the last effect that may be those of a loop which waits for another thread.
    pub polls: u64,
    /// Step of the last event that others could see.
    pub last_effect: u64,
}

impl<'g> Machine<'g> {
    /// What `elect.sync` draws from: the same for a whole launch.
    pub fn election(&self) -> u32 {
        self.election
    }

    /// The site of a lane at an instruction.
    pub fn site(&self, warp: &Warp, pc: u32, lane: usize) -> Site {
        Site::new(pc, warp.id, lane as u32)
    }

    /// Something happened that another warp could see.
    pub fn effect(&mut self) {
        self.last_effect = self.steps;
        self.polls = 0;
    }

    /// The warp may be able to go on.
    pub fn wake(&mut self, slot: u32, warp: u32) {
        let r = slot * self.shape.warps + warp;
        if !std::mem::replace(&mut self.is_ready[r as usize], true) {
            self.ready.push(r);
        }
    }

    /// All warps of the CTA may be able to go on.
    pub fn wake_cta(&mut self, slot: u32) {
        for w in 0..self.shape.warps {
            if self.ctas[slot as usize].as_ref().is_some_and(|c| c.warps[w as usize].is_some()) {
                self.wake(slot, w);
            }
        }
    }

    /// All warps of the cluster that `slot` belongs to may be able to go on.
    pub fn wake_cluster(&mut self, slot: u32) {
        let first = slot - slot % self.shape.cluster_ctas;
        for s in first..first + self.shape.cluster_ctas {
            self.wake_cta(s);
        }
    }

    /// Marks every result of the instruction at `pc` as defined in the lanes of `mask`.
    pub fn define(&mut self, warp: &mut Warp, pc: u32, mask: u32) {
        for reg in self.defs(pc) {
            warp.regs.set_undef(*reg, 0, mask);
        }
    }

    /// Registers that the instruction reads.
    pub fn uses(&self, pc: u32) -> &'g [Reg] {
        self.module.code[pc as usize].registers(&self.module.refs).0
    }

    /// Registers that the instruction writes.
    pub fn defs(&self, pc: u32) -> &'g [Reg] {
        self.module.code[pc as usize].registers(&self.module.refs).1
    }

    /// Reports the lanes of `mask` in which `undef` says that `what` is undefined.
    pub fn demand(&mut self, warp: &Warp, pc: u32, mask: u32, undef: u32, what: &str) {
        let bad = mask & undef;
        if bad != 0 && self.options.hazards {
            let site = self.site(warp, pc, bad.trailing_zeros() as usize);
            self.mem.tracker.hazards.report(HazardKind::UninitializedRead, site, None, || format!("{what} is undefined"));
        }
    }

    /// Ends the launch with a fault at `pc` in the first lane of `mask`.
    pub fn fault<T>(&self, warp: &Warp, pc: u32, mask: u32, kind: FaultKind, message: impl Into<String>) -> Result<T, Stop> {
        let place = self.place(self.site(warp, pc, mask.trailing_zeros() as usize & 31));
        Err(Box::new(Fault::new(kind, message.into(), Some(place))))
    }

    /// Turns a site into lines, thread and CTA.
    pub fn place(&self, site: Site) -> Place {
        let (_, ptx_line, source) = self.module.program.line(site.pc);
        let (cta, warp) = (site.warp / self.shape.warps, site.warp % self.shape.warps);
        let thread = warp * 32 + u32::from(site.lane);
        Place { ptx_line, source, thread: launch::unlinear(thread, self.launch.block), cta: self.shape.cta_id(cta) }
    }

    /// Hazards with lines, for the report.
    pub fn resolved(&self) -> Vec<Hazard> {
        self.mem.tracker.hazards.resolve(|site| self.place(site))
    }
}
