//! A GPU that foretells: launches are timed instead of run.

use super::card::Card;
use super::engine::Engine;
use super::view::View;
use super::{Foretold, TimeError};
use crate::exec::grid::{Grid, room};
use crate::exec::kernel::Kernel;
use crate::exec::machine::{Machine, Pace, Ready};
use crate::exec::module::Module;
use crate::exec::registers::at_entry;
use crate::exec::rng::Rng;
use crate::mem::{Global, Memory, Order, Tracker};
use crate::request::{Launch, Options};

/// What a launch is timed for.
pub(crate) struct Request<'a> {
    pub card: &'a Card,
    pub module: &'a Module,
    /// Addresses of the module's variables.
    pub globals: &'a [u64],
    pub launch: &'a Launch,
}

/// CTAs of a multiprocessor, and what limits them.
fn occupancy(grid: &Grid, registers: Option<u32>) -> (u32, &'static str) {
    let room = room(grid.warps, grid.shared_bytes, registers.unwrap_or(0));
    let limits = room.into_iter().zip(["threads", "shared memory", "registers", "CTAs"]);
    limits.min_by_key(|l| l.0).map(|(n, why)| (n.max(1), why)).expect("four limits")
}

/// Foretells the time of a launch.
pub(crate) fn foretell(
    global: &mut Global,
    request: &Request<'_>,
    view: Option<View>,
) -> Result<(Foretold, Option<View>), TimeError> {
    let Request { card, module, globals, launch } = *request;
    let program = &module.program;
    let no = |e: &dyn std::fmt::Display| TimeError::Launch(e.to_string());
    let entry =
        program.entry(&launch.entry).ok_or_else(|| TimeError::Launch(format!("there is no kernel `{}`", launch.entry)))?;
    let options = Options { hazards: false, counters: false, multiprocessors: card.multiprocessors, ..Options::default() };
    let grid = Grid::new(launch, entry, card.multiprocessors).map_err(TimeError::Launch)?;
    let parameters = launch.pack(&entry.params).map_err(TimeError::Launch)?;
    let params = global.alloc(parameters.len() as u64).map_err(|e| no(&e))?;
    global.write(params, &parameters).map_err(|e| no(&e))?;
    let (per_sm, limited_by) = occupancy(&grid, at_entry(launch, entry));
    let ctas = grid.ctas();
    let order = Order::new(grid.threads, grid.cluster_ctas);
    let machine = Machine {
        mem: Memory::new(std::mem::take(global), Tracker::new(order, 1, false, 0)),
        rng: Rng::new(0),
        pace: Pace::default(),
        ready: Ready::new(0, &grid),
        counters: None,
        seeing: false,
        probes: None,
        trace: None,
        printed: String::new(),
        kernel: Kernel {
            program,
            entry,
            options: &options,
            launch,
            grid,
            globals,
            parameters,
            params,
            workspace: 0,
            election: 0,
        },
    };
    let mut engine = Engine::new(card, module, machine, per_sm, view);
    let result = engine.run();
    let foretold = result.map(|()| report(&engine, ctas, limited_by));
    *global = engine.machine.mem.global;
    global.take_back(params).expect("it was allocated here");
    Ok((foretold?, engine.view))
}

fn report(engine: &Engine<'_>, ctas: u64, limited_by: &'static str) -> Foretold {
    let card = engine.card;
    // A launch is over when its stores have arrived.
    let clocks = engine.sms.iter().map(|s| s.written).max().unwrap_or(0).max(engine.end).max(1);
    let all = f64::from(card.multiprocessors) * clocks as f64;
    let sum = |f: &dyn Fn(&super::sm::Work) -> f64| engine.sms.iter().map(|s| f(&s.work)).sum::<f64>() / all;
    let tensor = sum(&|w| w.tensor);
    let ghz = card.sustained(tensor);
    let seconds = clocks as f64 / (ghz * 1e9) + card.launch_us * 1e-6;
    let [l2, dram] = engine.traffic.bytes();
    let of = |bytes: f64, rate: f64| bytes / rate / clocks as f64;
    let flops = if engine.profile.tensor_flops > 0.0 { engine.profile.tensor_flops } else { engine.profile.flops as f64 };
    let [asked, had] = engine.traffic.sectors;
    Foretold {
        kernel: engine.machine.kernel.entry.name.clone(),
        card: card.name,
        clocks,
        ghz,
        us: seconds * 1e6,
        tflops: flops / seconds / 1e12,
        dram_gbs: dram / seconds / 1e9,
        l2_gbs: l2 / seconds / 1e9,
        l2_hits: if asked == 0 { 0.0 } else { had as f64 / asked as f64 },
        occupancy: engine.per_sm,
        limited_by,
        waves: ctas as f64 / f64::from(engine.per_sm * card.multiprocessors),
        shares: vec![
            ("tensor cores", tensor),
            ("DRAM", of(dram, card.dram_bytes())),
            ("L2", of(l2, card.l2_bytes)),
            ("shared memory", sum(&|w| w.shared)),
            ("issue slots", sum(&|w| w.issued as f64) / 4.0),
            ("FMA pipes", sum(&|w| w.fma as f64) / 4.0),
            ("special functions", sum(&|w| w.special as f64) / 4.0),
        ],
        roles: engine.profile.roles(&engine.module.program),
        instructions: engine.profile.issued(),
    }
}
