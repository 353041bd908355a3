//! Clusters side by side, on all threads, with one result.
//!
//! **How.** Each cluster runs on a machine of its own: its own scheduler, shared memory and order of events, choices from a stream
//! of its own seed, and a view of global memory as the launch found it ([`crate::mem::Frozen`]). If in the end no cluster wrote a byte of
//! global memory that another accessed, their writes are merged, and hazards and what was printed follow in the order of the
//! clusters. No interleaving of such clusters gives anything else.
//!
//! **If they meet**, all that is thrown away, and the launch runs from its start with its clusters interleaved on one machine, where a
//! race between them is found and named, and flags, locks and barriers of the grid work. The same is done if a cluster ends in a
//! fault, so that faults are found in memory that others wrote, too, or if it seems to wait for another. Kernels with atomics or strong
//! accesses that may be to global memory are for meeting: they go there at once, and so do those that allocate memory, are watched, or
//! may overlap with the launch before, whose accesses lie in the memory itself.
//!
//! **Why the number of threads does not matter.** Whether clusters meet depends on the program, its data and the seed alone: the accesses of
//! each are the same wherever and whenever it runs, and every pair is compared. With one thread the same clusters run one after
//! the other.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::kernel::Kernel;
use super::op::Op;
use super::plan::{self, Plan};
use super::rng::Rng;
use super::step::Engine;
use crate::counters::Recorder;
use crate::hazard::Hazards;
use crate::ir::NO_PC;
use crate::mem::{Frozen, Global, Merged};
use crate::request::{Fault, FaultKind, Report};

/// Work that is left is worth another thread from here on.
const WORTH_A_THREAD: Duration = Duration::from_millis(2);

/// What threads that run clusters share.
struct Shared<'g> {
    plan: &'g Plan<'g>,
    frozen: Arc<Frozen>,
    /// The cluster to run next.
    next: AtomicU32,
    /// No more clusters are to be run.
    stop: AtomicBool,
    done: Mutex<Done>,
}

/// What the clusters that ended did. Its order is that of the clusters only once it is sorted.
#[derive(Default)]
struct Done {
    memory: Merged,
    instructions: u64,
    steps: u64,
    counters: Option<Recorder>,
    said: Vec<(u32, Hazards, String)>,
    /// Clusters met, or one ended in a fault.
    in_vain: bool,
    /// The launch was given up from outside: how, and where a cluster stood.
    given_up: Option<(Fault, String)>,
}

/// Runs the clusters of a launch side by side. `None`: they meet, or may meet, and memory is as it was.
pub fn run(plan: &Plan<'_>, global: &mut Global) -> Option<Report> {
    let Kernel { options, launch, grid, .. } = &plan.kernel;
    if grid.clusters < 2 || launch.cooperative || plan.before.is_some() || !options.hazards || communicates(plan) {
        return None;
    }
    let shared = Shared {
        plan,
        frozen: Frozen::new(std::mem::take(global)),
        next: AtomicU32::new(0),
        stop: AtomicBool::new(false),
        done: Mutex::new(Done { counters: plan.recorder(), ..Done::default() }),
    };
    thread::scope(|scope| {
        let begin = Instant::now();
        let mut view = shared.view();
        if !shared.one(&mut view) {
            return;
        }
        let threads = match options.threads {
            0 => thread::available_parallelism().map_or(1, |n| n.get()),
            threads => threads,
        };
        let left = grid.clusters - 1;
        if begin.elapsed() * left > WORTH_A_THREAD {
            for _ in 1..threads.min(left as usize) {
                scope.spawn(|| {
                    let mut view = shared.view();
                    while shared.one(&mut view) {}
                    shared.count(view);
                });
            }
        }
        while shared.one(&mut view) {}
        shared.count(view);
    });
    let Shared { frozen, done, .. } = shared;
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    *global = frozen.thaw();
    if done.in_vain || done.steps > options.step_limit {
        return None;
    }
    let Done { memory, instructions, counters, mut said, given_up, .. } = done;
    memory.apply(plan.number, global);
    said.sort_by_key(|(cluster, ..)| *cluster);
    let (mut hazards, mut printed) = (Hazards::new(), String::new());
    for (_, found, text) in said {
        hazards.append(found);
        printed += &text;
    }
    let (fault, standing) = given_up.map_or((None, String::new()), |(fault, standing)| (Some(fault), standing));
    Some(Report { fault, standing, ..plan.report(instructions, &hazards, counters, printed) })
}

/// What a thread keeps from one cluster to the next.
struct View {
    global: Global,
    counters: Option<Recorder>,
}

impl Shared<'_> {
    fn view(&self) -> View {
        View { global: self.frozen.view(), counters: self.plan.recorder() }
    }

    /// Runs the next cluster. Returns whether there was one and more make sense.
    fn one(&self, view: &mut View) -> bool {
        let cluster = self.next.fetch_add(1, Ordering::Relaxed);
        if cluster >= self.plan.kernel.grid.clusters || self.stop.load(Ordering::Relaxed) {
            return false;
        }
        // A stream of its own: neighbouring seeds of the generator would give shifted copies of one.
        let rng = Rng::new(Rng::new(self.plan.seed.rotate_left(32) ^ u64::from(cluster)).draw());
        let global = std::mem::take(&mut view.global);
        let mut scheduler = self.plan.scheduler(global, cluster..cluster + 1, rng, 1, view.counters.take());
        let (fault, standing) = plan::run(&mut scheduler);
        let Engine { machine: m, .. } = scheduler.engine;
        view.counters = m.counters;
        view.global = m.mem.global;
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let alone = done.memory.absorb(cluster, &mut view.global);
        done.instructions += m.pace.instructions;
        done.steps += m.pace.steps;
        if !m.mem.tracker.hazards.is_empty() || !m.printed.is_empty() {
            done.said.push((cluster, m.mem.tracker.hazards, m.printed));
        }
        match fault {
            None if alone => return true,
            // Of no use to run again: the same limit would end it.
            Some(fault) if alone && matches!(fault.kind, FaultKind::TimeLimit | FaultKind::Interrupted) => {
                done.given_up.get_or_insert((fault, standing));
            }
            _ => done.in_vain = true,
        }
        self.stop.store(true, Ordering::Relaxed);
        false
    }

    /// Adds what a thread counted.
    fn count(&self, view: View) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(all), Some(mine)) = (&mut done.counters, view.counters) {
            all.append(mine);
        }
    }
}

/// Whether the kernel has instructions by which CTAs communicate through global memory, or functions that change what is allocated.
fn communicates(plan: &Plan<'_>) -> bool {
    if plan.module.program.functions.iter().any(|f| f.start == NO_PC && matches!(f.name.as_str(), "malloc" | "free")) {
        return true;
    }
    let functions = plan.module.program.functions.iter().filter(|f| !f.entry || f.name == plan.kernel.entry.name);
    functions.filter_map(|f| plan.module.code.get(f.start as usize..f.end as usize)).flatten().any(|inst| match &inst.op {
        Op::Atomic(op) => op.may_be_global(),
        Op::Memory(op) => op.may_be_strong_and_global(),
        Op::Bulk(op) => op.reduces_global(),
        _ => false,
    })
}
