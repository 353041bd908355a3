//! `setmaxnreg` and the registers of a CTA (PTX ISA, "setmaxnreg").
//!
//! A CTA starts with so many registers a thread as the compiler was told to use at most. `dec` gives a warp's registers to the CTA's
//! pool, `inc` takes them from there and waits until there are enough. What all warps together ask for must therefore fit
//! into what the CTA was given: on a card the launch hangs otherwise, here it is a deadlock that names the sums.
//!
//! The launch may say how many a thread has at entry ([`Launch::registers`]). Otherwise ptxas knows it from `.maxnreg`, or from
//! `.minnctapersm` with `.maxntid` or `.reqntid`: as many as let so many CTAs share the registers of an SM. In a kernel that says
//! neither it ignores `setmaxnreg`, and so does the machine. The registers of a warp that has ended count as free.

use super::flow::{At, Flow};
use super::kernel::Kernel;
use super::machine::Machine;
use super::residents::Cta;
use super::warp::{Wait, Warp};
use crate::hazard::{HazardKind, Site};
use crate::ir::{Cx, Entry};
use crate::request::Launch;
use crate::text::ast::Type;

/// Registers of an SM.
const SM_REGISTERS: u32 = 65_536;
/// Registers are given to threads by so many, and no thread has more than [`MOST`].
const GRAIN: u32 = 8;
const MOST: u32 = 256;
/// Threads of a warp, for which registers are counted whether they exist or not.
const LANES: u32 = 32;

/// `setmaxnreg`.
pub struct SetRegisters {
    /// Registers a thread.
    pub(crate) count: u32,
    /// `.inc`, or else `.dec`.
    pub(crate) inc: bool,
}

/// The decoder of `setmaxnreg`.
pub fn decode(cx: &mut Cx<'_>) -> Result<SetRegisters, String> {
    let inc = cx.lead("inc");
    if !(inc || cx.lead("dec")) {
        return cx.unknown();
    }
    cx.expect(&["sync", "aligned"])?;
    cx.ty_of(&[Type::U32])?;
    cx.end(1)?;
    let n = cx.int(0)?;
    if !(24..=i64::from(MOST)).contains(&n) || n % i64::from(GRAIN) != 0 {
        return Err(format!("setmaxnreg: {n} is not a multiple of {GRAIN} from 24 to {MOST}"));
    }
    Ok(SetRegisters { count: n as u32, inc })
}

/// Registers a thread that the kernel starts with, if the launch or the kernel says enough.
pub(crate) fn at_entry(launch: &Launch, entry: &Entry) -> Option<u32> {
    if let Some(n) = launch.registers.or(entry.maxnreg) {
        return Some(n.next_multiple_of(GRAIN).min(MOST));
    }
    let block = entry.reqntid.or(entry.maxntid)?;
    let threads = block.iter().product::<u32>().max(1).next_multiple_of(LANES);
    let ctas = entry.minnctapersm?.max(1);
    let each = SM_REGISTERS / threads.saturating_mul(ctas);
    Some((each - each % GRAIN).min(MOST))
}

/// The registers of a CTA: what each warp holds and what is free.
pub struct Registers {
    /// Registers a thread at entry; `None`: not known, and `setmaxnreg` does nothing.
    at_entry: Option<u32>,
    free: u32,
    warps: Vec<Share>,
}

#[derive(Clone, Default)]
struct Share {
    /// Registers a thread.
    held: u32,
    /// The same once what the warp waits for has come.
    wanted: u32,
    /// The `setmaxnreg` that it has executed.
    executed: Vec<u32>,
}

impl Registers {
    /// Those of a CTA that starts.
    pub fn new(kernel: &Kernel<'_>) -> Registers {
        let at_entry = at_entry(kernel.launch, kernel.entry);
        let held = at_entry.unwrap_or(0);
        let share = Share { held, wanted: held, executed: Vec::new() };
        Registers { at_entry, free: 0, warps: vec![share; kernel.grid.warps as usize] }
    }

    /// Whether so many are free.
    pub fn has(&self, registers: u32) -> bool {
        self.free >= registers
    }

    /// Why a warp waits, in sums.
    pub fn shortage(&self, warp: u32) -> String {
        let (given, warps) = (self.at_entry.unwrap_or(0), self.warps.len() as u32);
        let groups: Vec<String> = self.warps.chunks(4).map(|g| g[0].wanted.to_string()).collect();
        let asked: u32 = self.warps.iter().map(|w| w.wanted * LANES).sum();
        format!(
            "waits at setmaxnreg.inc {} for registers that do not come: the CTA was given {given} x {} threads = {}, its warpgroups \
             hold and ask for {} a thread, {asked} in all, and {} are free",
            self.warps[warp as usize].wanted,
            warps * LANES,
            given * warps * LANES,
            groups.join(" + "),
            self.free
        )
    }
}

/// The instruction's work.
pub fn execute(m: &mut Machine<'_>, registers: &mut Registers, warp: &mut Warp, op: &SetRegisters, at: At<'_>) -> Flow {
    if !at.is_converged(warp) {
        return Flow::Converge;
    }
    let entry = m.kernel.entry;
    if entry.maxntid.is_none() && entry.reqntid.is_none() && entry.maxnreg.is_none() {
        m.report(HazardKind::UndefinedBehavior, warp.site(at.pc, 0), None, || {
            "setmaxnreg in a kernel without .maxntid, .reqntid or .maxnreg".into()
        });
    }
    let share = &mut registers.warps[warp.index as usize];
    if registers.at_entry.is_some() && op.inc {
        let more = op.count.saturating_sub(share.held) * LANES;
        share.wanted = share.held.max(op.count);
        if registers.free < more {
            return Flow::Retry(Wait::Registers { more });
        }
        registers.free -= more;
        share.held = share.wanted;
    } else if registers.at_entry.is_some() {
        let left = share.held.min(op.count);
        registers.free += (share.held - left) * LANES;
        (share.held, share.wanted) = (left, left);
        m.ready.wake_cta(warp.slot);
    }
    share.executed.push(at.pc);
    m.effect();
    Flow::Next
}

/// A warp of the CTA has ended, and with the `last` it shows whether each warpgroup executed the same.
pub fn warp_ended(m: &mut Machine<'_>, cta: &mut Cta, warp: &Warp, last: bool) {
    let registers = &mut cta.registers;
    let share = &mut registers.warps[warp.index as usize];
    let back = std::mem::take(&mut share.held) * LANES;
    share.wanted = 0;
    registers.free += back;
    if registers.warps.iter().any(|w| w.wanted != w.held) {
        m.ready.wake_cta(warp.slot);
    }
    if !last {
        return;
    }
    for (g, group) in registers.warps.chunks(4).enumerate() {
        let same = |w: &Share| w.executed == group[0].executed;
        let Some(other) = group.iter().position(|w| !same(w)) else { continue };
        let (a, b) = (&group[0].executed, &group[other].executed);
        let differ = (0..a.len().max(b.len())).find(|&i| a.get(i) != b.get(i)).unwrap_or(0);
        let (w, pc) = a.get(differ).map_or((other, b.get(differ)), |pc| (0, Some(pc)));
        let first = warp.id - warp.index + 4 * g as u32;
        let site = Site::new(*pc.unwrap_or(&0), first + w as u32, 0);
        m.report(HazardKind::UndefinedBehavior, site, None, || {
            "not all warps of the warpgroup execute this setmaxnreg, or not in the same order".into()
        });
    }
}
