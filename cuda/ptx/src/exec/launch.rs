//! A launch, from its checks to its report.

use std::time::Instant;

use super::grid::Grid;
use super::kernel::Kernel;
use super::module::Module;
use super::parallel;
use super::plan::{Plan, run};
use super::rng::Rng;
use super::seeing::Probes;
use super::step::Engine;
use crate::mem::Global;
use crate::observe::{Observed, Watches, trace};
use crate::request::{Launch, Options, Report};

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
    global.recall(before);
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
    let kernel = Kernel {
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
    };
    let plan = Plan { module, kernel, number, before, seed, started: Instant::now() };
    // What is watched is seen on one machine.
    let watched = observe.trace.is_some() || probes.is_some() || watch.is_some();
    let side_by_side = if watched { None } else { parallel::run(&plan, global) };
    let report = side_by_side.unwrap_or_else(|| interleaved(&plan, global, rng, window, probes, watch));
    for own in workspace.into_iter().chain([params]) {
        global.take_back(own).expect("it was allocated here");
    }
    Ok(report)
}

/// Runs all clusters on one machine, `window` of them at once at first, and shows what is asked for.
fn interleaved(
    plan: &Plan<'_>,
    global: &mut Global,
    rng: Rng,
    window: u32,
    probes: Option<Box<Probes>>,
    watch: Option<Box<Watches>>,
) -> Report {
    let Kernel { program, entry, options, grid, .. } = &plan.kernel;
    let mut scheduler = plan.scheduler(std::mem::take(global), 0..grid.clusters, rng, window, plan.recorder());
    let m = &mut scheduler.engine.machine;
    m.trace = options.observe.trace.as_ref().map(|request| {
        let linear = |cta| (0..grid.ctas() as u32).find(|&l| grid.cta_id(l) == cta).unwrap_or(u32::MAX);
        let opcodes = program.sources.iter().map(|s| s.opcode.as_str());
        Box::new(trace::Recorder::new(request, grid.warps, opcodes, linear))
    });
    m.seeing = m.trace.is_some() || probes.is_some() || watch.is_some();
    (m.probes, m.mem.watch) = (probes, watch);
    let (fault, standing) = run(&mut scheduler);
    let Engine { machine: m, .. } = scheduler.engine;
    *global = m.mem.global;
    let observed = Observed {
        sightings: m.probes.map(|p| p.seen).unwrap_or_default(),
        writes: m.mem.watch.map(|w| w.finish(|site| m.kernel.place(site))).unwrap_or_default(),
        trace: m.trace.map(|t| t.finish(&entry.name, m.pace.steps, |site| m.kernel.place(site), |pc| program.line(pc).0)),
    };
    let report = plan.report(m.pace.instructions, &m.mem.tracker.hazards, m.counters, m.printed);
    Report { fault, standing, observed, ..report }
}
