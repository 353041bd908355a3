//! What is to be seen at an instruction: its place in the trace, and registers and shared memory where a line is watched for.

use super::flow::At;
use super::grid::Grid;
use super::machine::Machine;
use super::warp::Warp;
use crate::hazard::listed;
use crate::ir::Program;
use crate::mem::Which;
use crate::observe::{Element, Probe, Register, Sighting, Table};
use crate::text::ast::Type;

/// Lines that are watched for.
pub struct Probes {
    probes: Vec<Placed>,
    /// Of each instruction: a watched line begins there.
    stops: Vec<bool>,
    pub seen: Vec<Sighting>,
}

/// A probe, in the machine's numbers.
struct Placed {
    probe: Probe,
    /// First instructions of the line.
    pcs: Vec<u32>,
    /// Warp in its CTA, lane.
    thread: Option<(u32, u32)>,
    left: u64,
}

impl Probes {
    /// The probes of lines that this module has; an error if it has the file, but nothing comes from the line.
    pub fn new(probes: &[Probe], program: &Program, grid: &Grid) -> Result<Option<Box<Probes>>, String> {
        let mut placed = Vec::new();
        let mut stops = vec![false; program.sources.len()];
        for probe in probes {
            let lines = lines_of(probe, program);
            let is_here = |pc: usize| lines[pc] == Some(probe.line);
            let pcs: Vec<u32> =
                (0..lines.len()).filter(|&pc| is_here(pc) && (pc == 0 || !is_here(pc - 1))).map(|pc| pc as u32).collect();
            if pcs.is_empty() {
                let mut near: Vec<u32> = lines.into_iter().flatten().collect();
                near.sort_by_key(|line| (line.abs_diff(probe.line), *line));
                near.dedup();
                if near.is_empty() {
                    continue;
                }
                near.truncate(4);
                near.sort_unstable();
                let near = listed(near.iter().map(u32::to_string));
                return Err(format!("no instruction comes from {}:{}; the nearest lines are {near}", probe.file, probe.line));
            }
            pcs.iter().for_each(|&pc| stops[pc as usize] = true);
            let [bx, by, _] = grid.block;
            let linear = |[x, y, z]: [u32; 3]| x + bx * (y + by * z);
            let thread = probe.thread.map(|t| (linear(t) / 32, linear(t) % 32));
            placed.push(Placed { pcs, thread, left: probe.times, probe: probe.clone() });
        }
        let any = !placed.is_empty();
        Ok(any.then(|| Box::new(Probes { probes: placed, stops, seen: Vec::new() })))
    }
}

/// Of each instruction, its line in the file that a probe means.
fn lines_of(probe: &Probe, program: &Program) -> Vec<Option<u32>> {
    let ptx = probe.is_file(&program.name);
    let of = |s: &crate::ir::program::Source| {
        let file = s.loc.and_then(|loc| Some((program.files.get(&loc.file)?, loc.line)));
        let source = file.filter(|(file, _)| probe.is_file(file)).map(|(_, line)| line);
        source.or(ptx.then_some(s.line))
    };
    program.sources.iter().map(of).collect()
}

/// Sees a step: `reached` are the lanes that are there, of which the guard lets those of `at` execute.
#[cold]
pub fn see(m: &mut Machine<'_>, warp: &Warp, reached: u32, at: At<'_>) {
    let step = m.pace.steps;
    if let Some(watch) = &mut m.mem.watch {
        watch.step = step;
    }
    if let Some(trace) = &mut m.trace
        && at.mask != 0
    {
        trace.issue(step, warp.site(at.pc, at.lane()), at.mask);
    }
    if m.probes.as_ref().is_some_and(|p| p.stops[at.pc as usize])
        && let Some(mut probes) = m.probes.take()
    {
        for placed in &mut probes.probes {
            if let Some(lane) = placed.lane(m, warp, reached, at.pc) {
                placed.left -= 1;
                probes.seen.push(sighting(m, warp, lane, at.pc, &placed.probe));
            }
        }
        m.probes = Some(probes);
    }
}

impl Placed {
    /// The lane that is looked at, if one is wanted here.
    fn lane(&self, m: &Machine<'_>, warp: &Warp, reached: u32, pc: u32) -> Option<u32> {
        if self.left == 0 || !self.pcs.contains(&pc) {
            return None;
        }
        let grid = &m.kernel.grid;
        if self.probe.cta.is_some_and(|cta| grid.cta_id(warp.id / grid.warps) != cta) {
            return None;
        }
        match self.thread {
            None => Some(reached.trailing_zeros()),
            Some((index, lane)) => (index == warp.index && reached >> lane & 1 == 1).then_some(lane),
        }
    }
}

fn sighting(m: &mut Machine<'_>, warp: &Warp, lane: u32, pc: u32, probe: &Probe) -> Sighting {
    let program = m.kernel.program;
    let lines = lines_of(probe, program);
    // A line of CUDA C++ is several of PTX.
    let mut last = pc as usize;
    while lines.get(last + 1) == Some(&lines[pc as usize]) {
        last += 1;
    }
    let (first_line, last_line) = (program.sources[pc as usize].line, program.sources[last].line);
    let texts: Vec<&str> = program.text(first_line, last_line);
    let mut registers: Vec<Register> = Vec::new();
    for (text, line) in texts.iter().zip(first_line..) {
        for name in words(text) {
            let Some((reg, ty)) = program.register(pc, name, line) else { continue };
            if registers.iter().all(|r| r.name != name) {
                let defined = warp.regs.undef(reg) >> lane & 1 == 0;
                let bits = defined.then(|| warp.regs.get(reg, lane as usize));
                registers.push(Register { name: name.into(), element: element(ty), bits });
            }
        }
    }
    let tables = probe.tables.iter().map(|table| (*table, contents(m, warp.slot, table))).collect();
    let at = m.kernel.place(warp.site(pc, lane));
    Sighting { step: m.pace.steps, at, text: texts.first().map_or_else(String::new, |t| t.to_string()), registers, tables }
}

/// What may be names of registers in a line of PTX.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    let code = text.split("//").next().unwrap_or_default();
    let part = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '%' | '.'));
    code.split(part).filter(|w| !w.is_empty() && !w.starts_with('.'))
}

/// Bits of a register's width.
fn element(ty: Type) -> Element {
    match ty.bits() {
        1 => Element::Pred,
        8 => Element::B8,
        16 => Element::B16,
        32 => Element::B32,
        _ => Element::B64,
    }
}

/// The elements of a table; `None` where nothing is defined.
fn contents(m: &mut Machine<'_>, slot: u32, table: &Table) -> Vec<Option<u64>> {
    let segment = m.mem.parts_of(Which::Shared(slot)).0;
    let size = table.element.bytes() as usize;
    let element = |(row, column)| {
        let at = table.place(row, column) as usize;
        let inside = at + size <= segment.len() && segment.initialized(at, size);
        let bytes = inside.then(|| segment.bytes(at, size))?;
        Some(bytes.iter().rev().fold(0, |all, b| all << 8 | u64::from(*b)))
    };
    (0..table.rows).flat_map(|row| (0..table.columns).map(move |column| (row, column))).map(element).collect()
}
