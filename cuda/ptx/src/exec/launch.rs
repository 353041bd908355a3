//! A launch, from its checks to its report.

use super::bulk::{self, Asyncs};
use super::flow::Stop;
use super::grid::Grid;
use super::kernel::Kernel;
use super::machine::{Machine, Pace, Ready};
use super::module::Module;
use super::residents::Residents;
use super::rng::Rng;
use super::schedule::Scheduler;
use super::seeing::Probes;
use super::standing;
use super::step::Engine;
use crate::counters::Recorder;
use crate::hazard::Level;
use crate::mem::{Global, Memory, Order, Tracker};
use crate::observe::{Observed, Watches, trace};
use crate::request::{FaultKind, Launch, Options, Report};

/// Memory by which the CTAs of a cooperative launch synchronise: `grid_workspace` of `cooperative_groups`, all zeros at first.
fn workspace(global: &mut Global) -> Result<u64, String> {
    const BYTES: u64 = 256;
    let at = global.alloc(BYTES).map_err(|e| format!("the grid's workspace: {e}"))?;
    global.fill(at, 0, BYTES).map_err(|e| format!("the grid's workspace: {e}"))?;
    Ok(at)
}

/// Runs a launch, or says why it cannot begin.
pub(crate) fn launch(
    options: &Options,
    global: &mut Global,
    module: &Module,
    globals: &[u64],
    launch: &Launch,
    (number, seed, before): (u32, u64, Option<u32>),
) -> Result<Report, String> {
    let program = &module.program;
    let entry = program.entry(&launch.entry).ok_or_else(|| format!("there is no kernel `{}`", launch.entry))?;
    let grid = Grid::new(launch, entry, options.multiprocessors)?;
    let parameters = launch.pack(&entry.params)?;
    let observe = &options.observe;
    let probes = Probes::new(&observe.probes, program, &grid)?;
    let watch = (!observe.watches.is_empty()).then(|| Box::new(Watches::new(&observe.watches, grid.warps, grid.cluster_ctas)));
    let mut rng = Rng::new(seed);
    let election = rng.draw() as u32;
    // Few CTAs at once run fast and in the cache; a seed now and then takes as many as fit.
    let few = [1, 2, 3, 4, 8, 16][rng.below(6) as usize];
    let window = if launch.cooperative { grid.clusters } else { few.min(grid.max_resident) };
    // The parameters lie in memory of their own, for code that takes their address.
    let params = global.alloc(parameters.len() as u64).and_then(|at| {
        global.write(at, &parameters)?;
        global.set_read_only(at)?;
        Ok(at)
    });
    let workspace = if launch.cooperative { Some(workspace(global)?) } else { None };
    let params = params.map_err(|e| format!("parameters: {e}"))?;
    let order = Order::new(grid.threads, grid.cluster_ctas);
    let tracker = Tracker::new(order, number, options.hazards, seed).overlapping(before);
    let residents = Residents::new(grid.max_resident.min(grid.clusters), grid.cluster_ctas);
    let seeing = observe.trace.is_some() || probes.is_some() || watch.is_some();
    let mut mem = Memory::new(std::mem::take(global), tracker);
    mem.watch = watch;
    let machine = Machine {
        seeing,
        probes,
        mem,
        rng,
        pace: Pace::default(),
        ready: Ready::new(residents.ctas.len(), &grid),
        counters: options.counters.then(|| Recorder::new(module.code.len())),
        trace: observe.trace.as_ref().map(|request| {
            let linear = |cta| (0..grid.ctas() as u32).find(|&l| grid.cta_id(l) == cta).unwrap_or(u32::MAX);
            let opcodes = program.sources.iter().map(|s| s.opcode.as_str());
            Box::new(trace::Recorder::new(request, grid.warps, opcodes, linear))
        }),
        printed: String::new(),
        kernel: Kernel {
            program,
            entry,
            options,
            launch,
            grid,
            globals,
            parameters,
            params,
            workspace: workspace.unwrap_or(0),
            election,
        },
    };
    let mut scheduler = Scheduler::new(Engine { module, machine, residents, asyncs: Asyncs::default() }, window);
    let result = scheduler.run();
    let limited = |f: &Stop| matches!(f.kind, FaultKind::StepLimit | FaultKind::TimeLimit | FaultKind::Interrupted);
    let standing = if result.as_ref().is_err_and(limited) { standing::table(&mut scheduler.engine) } else { String::new() };
    let Engine { machine: mut m, mut asyncs, .. } = scheduler.engine;
    bulk::end_launch(&mut m, &mut asyncs, result.is_ok());
    let all = m.mem.tracker.hazards.resolve(&entry.name, |site| m.kernel.place(site));
    let (hazards, strict) = all.into_iter().partition(|h| options.strict || h.level == Level::Error);
    let report = Report {
        kernel: entry.name.clone(),
        seed: options.seed,
        fault: result.err().map(|fault| *fault),
        instructions: m.pace.instructions,
        hazards,
        strict,
        counters: m.counters.map(|c| c.finish(&entry.name, m.kernel.grid.ctas(), |pc| program.line(pc))),
        printed: m.printed,
        observed: Observed {
            sightings: m.probes.map(|p| p.seen).unwrap_or_default(),
            writes: m.mem.watch.map(|w| w.finish(|site| m.kernel.place(site))).unwrap_or_default(),
            trace: m.trace.map(|t| t.finish(&entry.name, m.pace.steps, |site| m.kernel.place(site), |pc| program.line(pc).0)),
        },
        standing,
    };
    *global = m.mem.global;
    for own in workspace.into_iter().chain([params]) {
        global.take_back(own).expect("it was allocated here");
    }
    Ok(report)
}
