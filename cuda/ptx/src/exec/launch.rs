//! A launch, from its checks to its report.

use super::bulk::{self, Asyncs};
use super::grid::Grid;
use super::kernel::Kernel;
use super::machine::{Machine, Pace, Ready};
use super::module::Module;
use super::residents::Residents;
use super::rng::Rng;
use super::schedule::Scheduler;
use super::step::Engine;
use crate::counters::Recorder;
use crate::mem::{Global, Memory, Order, Tracker};
use crate::request::{Fault, FaultKind, Launch, Options, Report};

/// Runs a launch.
pub(crate) fn launch(
    options: &Options,
    global: &mut Global,
    module: &Module,
    globals: &[u64],
    launch: &Launch,
    (number, seed): (u32, u64),
) -> Result<Report, Fault> {
    let bad = |message: String| Fault::new(FaultKind::InvalidLaunch, message, None);
    let program = &module.program;
    let entry = program.entry(&launch.entry).ok_or_else(|| bad(format!("there is no kernel `{}`", launch.entry)))?;
    let grid = Grid::new(launch, entry).map_err(bad)?;
    let wanted = entry.params.last().map_or(0, |p| p.offset + p.size);
    if launch.params.len() != wanted as usize {
        return Err(bad(format!("`{}` takes {wanted} bytes of parameters, not {}", entry.name, launch.params.len())));
    }
    let mut rng = Rng::new(seed);
    let election = rng.draw() as u32;
    // Few CTAs at once run fast and in the cache; a seed now and then takes as many as fit.
    let window = [1, 2, 3, 4, 8, 16][rng.below(6) as usize].min(grid.max_resident);
    // The parameters lie in memory of their own, for code that takes their address.
    let params = global.alloc(launch.params.len() as u64).and_then(|at| {
        global.write(at, &launch.params)?;
        global.set_read_only(at)?;
        Ok(at)
    });
    let params = params.map_err(|e| bad(format!("parameters: {e}")))?;
    let tracker = Tracker::new(Order::new(grid.threads, grid.cluster_ctas), number, options.hazards, seed);
    let residents = Residents::new(grid.max_resident.min(grid.clusters), grid.cluster_ctas);
    let machine = Machine {
        mem: Memory::new(std::mem::take(global), tracker),
        rng,
        pace: Pace::default(),
        ready: Ready::new(residents.ctas.len(), &grid),
        counters: options.counters.then(|| Recorder::new(module.code.len())),
        printed: String::new(),
        kernel: Kernel { program, entry, options, launch, grid, globals, params, election },
    };
    let mut scheduler = Scheduler::new(Engine { module, machine, residents, asyncs: Asyncs::default() }, window);
    let result = scheduler.run();
    let Engine { machine: mut m, mut asyncs, .. } = scheduler.engine;
    bulk::end_launch(&mut m, &mut asyncs, result.is_ok());
    let report = Report {
        instructions: m.pace.instructions,
        hazards: m.mem.tracker.hazards.resolve(|site| m.kernel.place(site)),
        counters: m.counters.map(|c| c.finish(&entry.name, m.kernel.grid.ctas(), |pc| program.line(pc))),
        printed: m.printed,
    };
    *global = m.mem.global;
    global.free(params).expect("the parameters were allocated here");
    match result {
        Ok(()) => Ok(report),
        Err(mut fault) => {
            fault.hazards = report.hazards;
            fault.printed = report.printed;
            Err(*fault)
        }
    }
}
