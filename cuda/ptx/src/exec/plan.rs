//! A launch that was checked: it makes the machines that run its clusters, and the report of what they did.

use std::ops::Range;
use std::time::Instant;

use super::bulk::{self, Asyncs};
use super::flow::Stop;
use super::kernel::Kernel;
use super::machine::{Machine, Pace, Ready};
use super::module::Module;
use super::residents::Residents;
use super::rng::Rng;
use super::schedule::Scheduler;
use super::standing;
use super::step::Engine;
use crate::counters::Recorder;
use crate::hazard::{Hazards, Level};
use crate::mem::{Global, Memory, Order, Tracker};
use crate::observe::Observed;
use crate::request::{Fault, FaultKind, Report};

/// A launch that was checked.
pub struct Plan<'g> {
    pub module: &'g Module,
    pub kernel: Kernel<'g>,
    pub number: u32,
    /// The launch before, if this one may begin before that has ended.
    pub before: Option<u32>,
    /// The launch's own.
    pub seed: u64,
    pub started: Instant,
}

/// Runs a machine to the end of its clusters, or to a fault; where a limit ended it, also where everybody stood.
pub fn run(scheduler: &mut Scheduler<'_>) -> (Option<Fault>, String) {
    let result = scheduler.run();
    let engine = &mut scheduler.engine;
    let limited = |f: &Stop| matches!(f.kind, FaultKind::StepLimit | FaultKind::TimeLimit | FaultKind::Interrupted);
    let standing = if result.as_ref().is_err_and(limited) { standing::table(engine) } else { String::new() };
    bulk::end_launch(&mut engine.machine, &mut engine.asyncs, result.is_ok());
    (result.err().map(|fault| *fault), standing)
}

impl<'g> Plan<'g> {
    /// A machine that will run some of the clusters over `global`.
    pub fn scheduler(
        &self,
        global: Global,
        clusters: Range<u32>,
        rng: Rng,
        window: u32,
        counters: Option<Recorder>,
    ) -> Scheduler<'g> {
        let kernel = self.kernel.clone();
        let grid = &kernel.grid;
        let seed = self.seed ^ u64::from(clusters.start);
        let order = Order::new(grid.threads, grid.cluster_ctas);
        let tracker = Tracker::new(order, self.number, kernel.options.hazards, seed).overlapping(self.before);
        let residents = Residents::new(grid.max_resident.min(clusters.len() as u32), grid.cluster_ctas);
        let machine = Machine {
            mem: Memory::new(global, tracker),
            rng,
            pace: Pace::default(),
            ready: Ready::new(residents.ctas.len(), grid),
            counters,
            seeing: false,
            probes: None,
            trace: None,
            printed: String::new(),
            kernel,
        };
        let engine = Engine { module: self.module, machine, residents, asyncs: Asyncs::default() };
        Scheduler::new(engine, clusters, window, self.started)
    }

    /// A recorder, if counters are wanted.
    pub fn recorder(&self) -> Option<Recorder> {
        self.kernel.options.counters.then(|| Recorder::new(self.module.code.len()))
    }

    /// The report of what was done and found.
    pub fn report(&self, instructions: u64, hazards: &Hazards, counters: Option<Recorder>, printed: String) -> Report {
        let Kernel { program, entry, options, grid, .. } = &self.kernel;
        let all = hazards.resolve(&entry.name, |site| self.kernel.place(site));
        let (hazards, strict) = all.into_iter().partition(|h| options.strict || h.level == Level::Error);
        Report {
            kernel: entry.name.clone(),
            seed: options.seed,
            fault: None,
            instructions,
            hazards,
            strict,
            counters: counters.map(|c| c.finish(&entry.name, grid.ctas(), |pc| program.line(pc))),
            printed,
            observed: Observed::default(),
            standing: String::new(),
        }
    }
}
