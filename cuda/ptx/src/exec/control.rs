//! Control flow: branches, returns, exits, traps; named barriers and `barrier.cluster`; clocks, sleep, and instructions that only
//! tune a real card.

use smallvec::SmallVec;

use super::lanes::lanes_of;
use super::warp::{Split, Warp};
use super::{After, At, Cta, Flow, Machine, Stop, Wait, calls};
use crate::gpu::FaultKind;
use crate::hazard::HazardKind;
use crate::ir::decode::Name;
use crate::ir::{Cx, Decode, NO_PC, Op};
use crate::mem::{SyncPoint, Synced};
use crate::text::ast::{Operand, Type};

/// `brx.idx`: a jump through a table.
pub struct BranchIndexed {
    /// Register of the index.
    pub index: u16,
    /// Targets: labels until the function is linked.
    pub targets: Vec<u32>,
    /// Where all paths meet.
    pub join: u32,
}

/// How a barrier combines the threads' predicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduce {
    /// Number of threads for which it holds.
    Popc,
    /// Whether it holds for all.
    And,
    /// Whether it holds for any.
    Or,
}

/// Instructions of this family that are no transfers.
pub enum Control {
    /// `bar`/`barrier` `.sync`, `.red` and `.arrive`.
    Barrier(Barrier),
    /// `bar.warp.sync`, with the register of the lanes.
    WarpSync(u16),
    /// `barrier.cluster.arrive`.
    ClusterArrive {
        /// Demands that the warp is converged.
        aligned: bool,
        /// Orders memory.
        release: bool,
    },
    /// `barrier.cluster.wait`.
    ClusterWait {
        /// Demands that the warp is converged.
        aligned: bool,
        /// Orders memory.
        acquire: bool,
    },
    /// Reads a clock into a register.
    Clock {
        /// Destination.
        d: u16,
        /// Which.
        which: Clock,
    },
    /// `nanosleep`.
    Sleep,
    /// `setmaxnreg`: registers, and whether it asks for more.
    SetMaxRegisters(u32),
    /// `griddepcontrol`, `pmevent`: nothing to do where launches run one after the other.
    Hint,
}

/// Clocks.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum Clock {
    Clock32,
    ClockHi,
    Clock64,
    Global64,
    GlobalLo,
    GlobalHi,
}

/// `bar` and `barrier`.
pub struct Barrier {
    /// Register of the barrier's number.
    pub id: u16,
    /// Register of the number of threads.
    pub count: Option<u16>,
    /// `.arrive`: does not wait.
    pub arrive: bool,
    /// Warps come as a whole.
    pub aligned: bool,
    /// `.red`: how, destination, predicate and its negation.
    pub reduce: Option<(Reduce, u16, u16, bool)>,
}

/// State of one named barrier of a CTA.
#[derive(Debug, Default)]
pub struct NamedBarrier {
    /// Threads that have arrived.
    pub arrived: u32,
    /// Threads that were asked for; `None`: the whole CTA.
    pub count: Option<u32>,
    /// Warps (number in the CTA) that have arrived, with their lanes, and whether they wait.
    pub warps: Vec<(u32, u32, bool)>,
    /// What they know.
    point: SyncPoint,
    /// Counts completions.
    pub generation: u64,
    /// Threads whose predicate held.
    popc: u32,
    /// Threads that gave one.
    voters: u32,
    /// Who gets the reduction: warp, lanes, kind, destination.
    results: Vec<(u32, u32, Reduce, u16)>,
    /// Instruction that arrived first.
    first: Option<(u32, u32)>,
}

/// State of a cluster's barrier.
#[derive(Debug, Default)]
pub struct ClusterBarrier {
    /// Threads that have arrived.
    pub arrived: u32,
    /// Counts completions.
    pub generation: u64,
    point: SyncPoint,
    /// What the last completion gives to those who wait.
    synced: Option<Synced>,
    /// Lanes that have arrived in this phase and not waited yet, by warp: (slot, warp, lanes, generation).
    pub pending: Vec<(u32, u32, u32, u64)>,
}

/// The decoder of this family.
pub fn decode(cx: &mut Cx<'_>) -> Decode {
    match cx.head() {
        "bra" => {
            cx.eat("uni");
            cx.end(1)?;
            Ok(Op::Branch { target: cx.label(0)?, join: NO_PC })
        }
        "brx" => {
            if !cx.eat("idx") {
                return cx.unknown();
            }
            cx.eat("uni");
            cx.end(2)?;
            let index = cx.src(0, Type::U32)?;
            let Operand::Name(list) = cx.operand(1)? else { return cx.unknown() };
            let Some(Name::Targets(names)) = cx.scopes.find(list).cloned() else {
                return Err(format!("there is no .branchtargets list `{list}`"));
            };
            let targets = names.iter().map(|n| cx.label_named(n)).collect::<Result<_, _>>()?;
            Ok(Op::BranchIndexed(Box::new(BranchIndexed { index, targets, join: NO_PC })))
        }
        "ret" => {
            cx.eat("uni");
            cx.end(0)?;
            Ok(if cx.scopes.entry { Op::Exit } else { Op::Return })
        }
        "exit" => cx.end(0).map(|()| Op::Exit),
        "trap" | "brkpt" => cx.end(0).map(|()| Op::Trap),
        "bar" | "barrier" => decode_barrier(cx).map(|c| Op::Control(Box::new(c))),
        "nanosleep" => {
            cx.ty_of(&[Type::U32])?;
            cx.end(1)?;
            cx.src(0, Type::U32)?;
            Ok(Op::Control(Box::new(Control::Sleep)))
        }
        "setmaxnreg" => {
            if !(cx.eat("inc") || cx.eat("dec")) || !cx.eat("sync") || !cx.eat("aligned") {
                return cx.unknown();
            }
            cx.ty_of(&[Type::U32])?;
            cx.end(1)?;
            let n = cx.int(0)?;
            if !(24..=256).contains(&n) || n % 8 != 0 {
                return Err(format!("setmaxnreg: {n} is not a multiple of 8 from 24 to 256"));
            }
            Ok(Op::Control(Box::new(Control::SetMaxRegisters(n as u32))))
        }
        "griddepcontrol" => {
            if !(cx.eat("launch_dependents") || cx.eat("wait")) {
                return cx.unknown();
            }
            cx.end(0)?;
            Ok(Op::Control(Box::new(Control::Hint)))
        }
        "pmevent" => {
            let _ = cx.eat("mask");
            cx.end(1)?;
            cx.int(0)?;
            Ok(Op::Control(Box::new(Control::Hint)))
        }
        _ => cx.unknown(),
    }
}

fn decode_barrier(cx: &mut Cx<'_>) -> Result<Control, String> {
    let bar = cx.head() == "bar";
    if bar && cx.eat("warp") {
        if !cx.eat("sync") {
            return cx.unknown();
        }
        cx.end(1)?;
        return Ok(Control::WarpSync(cx.src(0, Type::B32)?));
    }
    if !bar && cx.eat("cluster") {
        let arrive = cx.eat("arrive");
        if !arrive && !cx.eat("wait") {
            return cx.unknown();
        }
        let strong = if arrive { cx.eat("release") || !cx.eat("relaxed") } else { cx.eat("acquire") || true };
        let aligned = cx.eat("aligned");
        cx.end(0)?;
        return Ok(if arrive {
            Control::ClusterArrive { aligned, release: strong }
        } else {
            Control::ClusterWait { aligned, acquire: strong }
        });
    }
    cx.eat("cta");
    let kind = cx.part("sync, arrive or red")?;
    let reduce = match kind {
        "sync" | "arrive" => None,
        "red" => Some(
            cx.pick(&[("popc", Reduce::Popc), ("and", Reduce::And), ("or", Reduce::Or)])
                .ok_or("a barrier reduction is .popc, .and or .or")?,
        ),
        _ => return cx.unknown(),
    };
    let aligned = cx.eat("aligned") || bar;
    let (id, count, reduce) = match reduce {
        None => {
            cx.no_more_parts()?;
            let n = cx.count();
            if n == 0 || n > 2 || (kind == "arrive" && n != 2) {
                return Err(format!("`{}` takes a barrier and a count, not {n} operands", cx.inst.opcode));
            }
            (cx.src(0, Type::U32)?, if n == 2 { Some(cx.src(1, Type::U32)?) } else { None }, None)
        }
        Some(how) => {
            let ty = if how == Reduce::Popc { Type::U32 } else { Type::Pred };
            cx.ty_of(&[ty])?;
            cx.no_more_parts()?;
            let n = cx.count();
            if n != 3 && n != 4 {
                return Err(format!("`{}` takes 3 or 4 operands, not {n}", cx.inst.opcode));
            }
            let d = cx.dst(0, ty)?;
            let id = cx.src(1, Type::U32)?;
            let count = if n == 4 { Some(cx.src(2, Type::U32)?) } else { None };
            let last = cx.operand(n - 1)?;
            let (p, negated) = cx.predicate(last)?;
            (id, count, Some((how, d, p, negated)))
        }
    };
    Ok(Control::Barrier(Barrier { id, count, arrive: kind == "arrive", aligned, reduce }))
}

/// The clock that a special register reads, if it is one.
pub fn clock(name: &str) -> Option<(Clock, Type)> {
    Some(match name {
        "%clock" => (Clock::Clock32, Type::U32),
        "%clock_hi" => (Clock::ClockHi, Type::U32),
        "%clock64" => (Clock::Clock64, Type::U64),
        "%globaltimer" => (Clock::Global64, Type::U64),
        "%globaltimer_lo" => (Clock::GlobalLo, Type::U32),
        "%globaltimer_hi" => (Clock::GlobalHi, Type::U32),
        _ => return None,
    })
}

/// Branches, calls, returns, exits, traps.
pub(super) fn transfer(m: &mut Machine<'_>, warp: &mut Warp, split: &mut Split, mask: u32) -> Result<After, Stop> {
    let pc = split.pc;
    match &m.module.code[pc as usize].op {
        Op::Branch { target, join } => {
            let other = split.mask & !mask;
            if other == 0 {
                split.pc = *target;
            } else if mask == 0 {
                split.pc += 1;
            } else {
                if let Some(c) = &mut m.counters {
                    c.diverge(pc);
                }
                let (join, calls) = meeting(m, split, *join);
                warp.fork(split, mask, *target, join, calls);
                split.pc = pc + 1;
                // Which side goes first is the seed's choice.
                if m.rng.one_in(2) {
                    let last = warp.splits.last_mut().expect("fork pushed a split");
                    std::mem::swap(split, last);
                }
            }
            Ok(After::Go)
        }
        Op::BranchIndexed(b) => {
            let undef = warp.regs.undef32(b.index);
            m.demand(warp, pc, mask, undef, "the index of a jump table");
            let index = warp.regs.r32[b.index as usize];
            if let Some(lane) = lanes_of(mask).find(|&l| index[l] as usize >= b.targets.len()) {
                let message = format!("brx.idx: index {} of a table of {}", index[lane], b.targets.len());
                return m.fault(warp, pc, 1 << lane, FaultKind::IllegalInstruction, message);
            }
            let (join, calls) = meeting(m, split, b.join);
            let mut left = mask;
            let whole = split.mask;
            let mut forked = false;
            while left != 0 {
                let first = index[left.trailing_zeros() as usize];
                let same = lanes_of(left).filter(|&l| index[l] == first).fold(0, |s, l| s | 1 << l);
                left &= !same;
                let target = b.targets[first as usize];
                if same == split.mask {
                    split.pc = target;
                    return Ok(After::Go);
                }
                if !forked && let Some(c) = &mut m.counters {
                    c.diverge(pc);
                }
                forked = true;
                warp.fork(split, same, target, join, calls.clone());
            }
            debug_assert_eq!(split.mask, whole & !mask);
            split.pc = pc + 1;
            Ok(After::Go)
        }
        Op::Exit => {
            split.mask &= !mask;
            split.pc = pc + 1;
            leave(m, warp, mask);
            Ok(if split.mask == 0 { After::Gone } else { After::Go })
        }
        Op::Return => {
            let call = split.calls.last().copied().expect("a function was called");
            if mask != split.mask {
                let mut outer = split.calls.clone();
                outer.pop();
                warp.fork(split, mask, pc, call + 1, outer);
                split.pc = pc + 1;
                std::mem::swap(split, warp.splits.last_mut().expect("fork pushed a split"));
            }
            calls::take_results(m, warp, call, mask);
            split.calls.pop();
            split.pc = call + 1;
            Ok(After::Go)
        }
        Op::Call(call) => calls::call(m, warp, split, call, mask),
        Op::Trap => m.fault(warp, pc, mask, FaultKind::Trap, "trap"),
        _ => unreachable!("not a transfer"),
    }
}

/// Where the sides of a branch meet, with the call stack there: the static point, or the return to the caller.
fn meeting(_m: &Machine<'_>, split: &Split, join: u32) -> (u32, SmallVec<[u32; 4]>) {
    let mut calls = split.calls.clone();
    if join != NO_PC {
        return (join, calls);
    }
    match calls.pop() {
        Some(call) => (call + 1, calls),
        None => (NO_PC, calls),
    }
}

fn leave(m: &mut Machine<'_>, warp: &mut Warp, mask: u32) {
    warp.leave(mask);
    m.effect();
}

/// The instruction's work, but for transfers.
pub fn execute(m: &mut Machine<'_>, warp: &mut Warp, op: &Control, at: At) -> Result<Flow, Stop> {
    match op {
        Control::Barrier(b) => barrier(m, warp, b, at),
        Control::WarpSync(members) => {
            let members = *members;
            if let Some(flow) = super::warp_ops::gather(m, warp, members, at)? {
                return Ok(flow);
            }
            m.mem.tracker.order.sync_lanes(&mut warp.order, at.mask);
            Ok(Flow::Next)
        }
        Control::ClusterArrive { aligned, release } => {
            if *aligned && !at.is_converged(warp) {
                return Ok(Flow::Converge);
            }
            cluster_arrive(m, warp, at, *release)
        }
        Control::ClusterWait { aligned, acquire } => {
            if *aligned && !at.is_converged(warp) {
                return Ok(Flow::Converge);
            }
            cluster_wait(m, warp, at, *acquire)
        }
        Control::Clock { d, which } => {
            // A warp instruction of the whole machine is taken as a nanosecond and two cycles.
            let (cycles, nanoseconds) = (m.steps * 2, 1_700_000_000_000_000_000 + m.steps);
            let d = *d;
            match which {
                Clock::Clock32 => warp.regs.put32(d, &[cycles as u32; 32], at.mask),
                Clock::ClockHi => warp.regs.put32(d, &[(cycles >> 32) as u32; 32], at.mask),
                Clock::Clock64 => warp.regs.put64(d, &[cycles; 32], at.mask),
                Clock::Global64 => warp.regs.put64(d, &[nanoseconds; 32], at.mask),
                Clock::GlobalLo => warp.regs.put32(d, &[nanoseconds as u32; 32], at.mask),
                Clock::GlobalHi => warp.regs.put32(d, &[(nanoseconds >> 32) as u32; 32], at.mask),
            }
            m.define(warp, at.pc, at.mask);
            Ok(Flow::Next)
        }
        Control::Sleep => Ok(Flow::Block(Wait::Sleep { until: m.steps + u64::from(m.rng.below(256)) })),
        Control::SetMaxRegisters(_) => {
            if !at.is_converged(warp) {
                return Ok(Flow::Converge);
            }
            if m.entry.maxntid.is_none() && m.entry.reqntid.is_none() && m.entry.maxnreg.is_none() {
                let site = m.site(warp, at.pc, 0);
                m.mem.tracker.hazards.report(HazardKind::UndefinedBehavior, site, None, || {
                    "setmaxnreg in a kernel without .maxntid, .reqntid or .maxnreg".into()
                });
            }
            Ok(Flow::Next)
        }
        Control::Hint => Ok(Flow::Next),
    }
}

/// Threads that a barrier waits for.
pub fn expected(m: &Machine<'_>, cta: &Cta, b: &NamedBarrier) -> u32 {
    match b.count {
        Some(n) => n,
        // Warps that have ended are not waited for.
        None => 32 * cta.alive.min(m.shape.warps),
    }
}

fn barrier(m: &mut Machine<'_>, warp: &mut Warp, b: &Barrier, at: At) -> Result<Flow, Stop> {
    if b.aligned && !at.is_converged(warp) {
        return Ok(Flow::Converge);
    }
    let undef = warp.regs.undef32(b.id) | b.count.map_or(0, |c| warp.regs.undef32(c));
    m.demand(warp, at.pc, at.mask, undef, "the barrier's number or count");
    let first = at.mask.trailing_zeros() as usize;
    let id = warp.regs.r32[b.id as usize][first];
    let count = b.count.map(|c| warp.regs.r32[c as usize][first]);
    let same = |r: u16, v: u32| lanes_of(at.mask).all(|l| warp.regs.r32[r as usize][l] == v);
    if !same(b.id, id) || !b.count.is_none_or(|c| same(c, count.unwrap_or(0))) {
        return m.fault(warp, at.pc, at.mask, FaultKind::IllegalInstruction, "lanes of a warp name different barriers or counts");
    }
    if id >= 16 {
        return m.fault(warp, at.pc, at.mask, FaultKind::IllegalInstruction, format!("barrier {id}: there are 16"));
    }
    if let Some(n) = count
        && (n == 0 || n % 32 != 0 || n > m.shape.warps * 32)
    {
        let all = m.shape.warps * 32;
        let message = format!("barrier {id}: a count of {n} threads is not a multiple of 32 from 32 to {all}");
        return m.fault(warp, at.pc, at.mask, FaultKind::IllegalInstruction, message);
    }
    m.effect();
    let slot = warp.slot as usize;
    let mut votes = 0;
    if let Some((_, _, p, negated)) = b.reduce {
        let undef = warp.regs.undef_pred(p);
        m.demand(warp, at.pc, at.mask, undef, "the predicate of a barrier's reduction");
        let p = warp.regs.pred[p as usize];
        votes = at.mask & if negated { !p } else { p };
    }
    let cta = m.ctas[slot].as_mut().expect("a warp's CTA is resident");
    let state = &mut cta.barriers[id as usize];
    if state.arrived > 0 && state.count != count {
        let (other, was) = (state.first, state.count);
        let site = m.site(warp, at.pc, first);
        let text = |c: Option<u32>| c.map_or("the whole CTA".to_string(), |n| format!("{n} threads"));
        let other = other.map(|(w, pc)| crate::hazard::Site::new(pc, w, 0));
        m.mem.tracker.hazards.report_pair(HazardKind::BarrierDivergence, site, other, None, || {
            format!("barrier {id} is waited for by {} here and by {} there", text(count), text(was))
        });
    }
    let state = &mut m.ctas[slot].as_mut().expect("as above").barriers[id as usize];
    if let Some(&(_, lanes, _)) = state.warps.iter().find(|(w, lanes, _)| *w == warp.index && lanes & at.mask != 0) {
        // A warp that only arrived is here again before the barrier completed.
        let site = m.site(warp, at.pc, (lanes & at.mask).trailing_zeros() as usize);
        m.mem.tracker.hazards.report(HazardKind::BarrierDivergence, site, None, || {
            format!("barrier {id}: the same threads arrive twice in one phase")
        });
    }
    let state = &mut m.ctas[slot].as_mut().expect("as above").barriers[id as usize];
    m.mem.tracker.order.arrive(&mut warp.order, at.mask, !b.arrive, &mut state.point);
    state.count = count;
    state.first.get_or_insert((warp.id, at.pc));
    state.warps.push((warp.index, at.mask, !b.arrive));
    // Warps count whole, whatever lanes they still have.
    state.arrived += if b.aligned { 32 } else { at.mask.count_ones() };
    if let Some((how, d, _, _)) = b.reduce {
        state.popc += votes.count_ones();
        state.voters += at.mask.count_ones();
        state.results.push((warp.index, at.mask, how, d));
    }
    let generation = state.generation;
    if let Some(c) = &mut m.counters {
        c.wait(at.pc);
    }
    m.define(warp, at.pc, at.mask);
    complete_barrier(m, warp.slot, id, Some(warp));
    if b.arrive {
        return Ok(Flow::Next);
    }
    Ok(Flow::Block(Wait::Barrier { id, generation }))
}

/// Completes barrier `id` of the CTA if everyone is there. `running` is the warp that is out of the CTA's list.
fn complete_barrier(m: &mut Machine<'_>, slot: u32, id: u32, mut running: Option<&mut Warp>) {
    let cta = m.ctas[slot as usize].as_ref().expect("resident");
    let state = &cta.barriers[id as usize];
    let wanted = expected(m, cta, state);
    if state.arrived == 0 || state.arrived < wanted {
        return;
    }
    let over = state.arrived > wanted;
    let cta = m.ctas[slot as usize].as_mut().expect("resident");
    let state = std::mem::take(&mut cta.barriers[id as usize]);
    cta.barriers[id as usize].generation = state.generation + 1;
    if over && let Some((w, pc)) = state.first {
        m.mem.tracker.hazards.report(HazardKind::BarrierDivergence, crate::hazard::Site::new(pc, w, 0), None, || {
            format!("barrier {id}: {} threads arrived where {wanted} were expected", state.arrived)
        });
    }
    let synced = m.mem.tracker.order.complete(state.point);
    for &(w, lanes, waits) in &state.warps {
        if waits && let Some(warp) = find(&mut running, &mut m.ctas, slot, w) {
            m.mem.tracker.order.resume(&mut warp.order, lanes, &synced);
        }
    }
    for &(w, lanes, how, d) in &state.results {
        let Some(warp) = find(&mut running, &mut m.ctas, slot, w) else { continue };
        match how {
            Reduce::Popc => warp.regs.put32(d, &[state.popc; 32], lanes),
            Reduce::And => warp.regs.put_pred(d, if state.popc == state.voters { u32::MAX } else { 0 }, lanes),
            Reduce::Or => warp.regs.put_pred(d, if state.popc > 0 { u32::MAX } else { 0 }, lanes),
        }
    }
    m.effect();
    m.wake_cta(slot);
}

/// Warp `w` of the CTA in `slot`, be it the running one.
fn find<'a>(running: &'a mut Option<&mut Warp>, ctas: &'a mut [Option<Cta>], slot: u32, w: u32) -> Option<&'a mut Warp> {
    match running {
        Some(r) if r.index == w => Some(r),
        _ => ctas[slot as usize].as_mut()?.warps[w as usize].as_deref_mut(),
    }
}

/// A warp of the CTA has ended: barriers that wait for the whole CTA may be complete now.
pub(super) fn somebody_left(m: &mut Machine<'_>, slot: u32) {
    for id in 0..16 {
        let Some(cta) = m.ctas[slot as usize].as_ref() else { return };
        if cta.barriers[id as usize].arrived > 0 && cta.barriers[id as usize].count.is_none() {
            complete_barrier(m, slot, id, None);
        }
    }
    complete_cluster(m, slot);
}

fn cluster_arrive(m: &mut Machine<'_>, warp: &mut Warp, at: At, release: bool) -> Result<Flow, Stop> {
    m.effect();
    let place = (warp.slot / m.shape.cluster_ctas) as usize;
    let barrier = &mut m.clusters[place].as_mut().expect("a warp's cluster is resident").barrier;
    let again =
        barrier.pending.iter().find(|(s, w, lanes, _)| (*s, *w) == (warp.slot, warp.index) && lanes & at.mask != 0).copied();
    if let Some((.., lanes, _)) = again {
        let site = m.site(warp, at.pc, (lanes & at.mask).trailing_zeros() as usize);
        m.mem
            .tracker
            .hazards
            .report(HazardKind::BarrierDivergence, site, None, || "barrier.cluster.arrive twice without a wait between".into());
    }
    let barrier = &mut m.clusters[place].as_mut().expect("as above").barrier;
    if release {
        m.mem.tracker.order.arrive(&mut warp.order, at.mask, false, &mut barrier.point);
    } else {
        m.mem.tracker.order.arrive_relaxed(&warp.order, &mut barrier.point);
    }
    barrier.pending.push((warp.slot, warp.index, at.mask, barrier.generation));
    barrier.arrived += at.mask.count_ones();
    complete_cluster_with(m, warp.slot, Some(warp));
    Ok(Flow::Next)
}

fn cluster_wait(m: &mut Machine<'_>, warp: &mut Warp, at: At, acquire: bool) -> Result<Flow, Stop> {
    let place = (warp.slot / m.shape.cluster_ctas) as usize;
    let barrier = &mut m.clusters[place].as_mut().expect("a warp's cluster is resident").barrier;
    let mut generation = None;
    let mut covered = 0;
    for p in barrier.pending.iter().filter(|p| (p.0, p.1) == (warp.slot, warp.index) && p.2 & at.mask != 0) {
        generation = Some(p.3);
        covered |= p.2;
    }
    let Some(generation) = generation.filter(|_| covered & at.mask == at.mask) else {
        let site = m.site(warp, at.pc, (at.mask & !covered).trailing_zeros() as usize);
        m.mem
            .tracker
            .hazards
            .report(HazardKind::BarrierDivergence, site, None, || "barrier.cluster.wait without an arrive before".into());
        return Ok(Flow::Next);
    };
    if barrier.generation == generation {
        if let Some(c) = &mut m.counters {
            c.wait(at.pc);
        }
        return Ok(Flow::Retry(Wait::ClusterBarrier { generation }));
    }
    for p in barrier.pending.iter_mut().filter(|p| (p.0, p.1) == (warp.slot, warp.index)) {
        p.2 &= !at.mask;
    }
    barrier.pending.retain(|p| p.2 != 0);
    if acquire && let Some(synced) = &barrier.synced {
        m.mem.tracker.order.join_synced(&mut warp.order, at.mask, synced);
    }
    Ok(Flow::Next)
}

fn complete_cluster(m: &mut Machine<'_>, slot: u32) {
    complete_cluster_with(m, slot, None);
}

/// Completes the cluster's barrier if every live thread of it has arrived.
fn complete_cluster_with(m: &mut Machine<'_>, slot: u32, running: Option<&Warp>) {
    let n = m.shape.cluster_ctas;
    let place = (slot / n) as usize;
    let Some(cluster) = &m.clusters[place] else { return };
    if cluster.barrier.arrived == 0 {
        return;
    }
    let mut live = running.map_or(0, |w| w.live.count_ones());
    for s in place as u32 * n..(place as u32 + 1) * n {
        live += m.ctas[s as usize].iter().flat_map(|c| c.warps.iter().flatten()).map(|w| w.live.count_ones()).sum::<u32>();
    }
    let cluster = m.clusters[place].as_mut().expect("checked above");
    if cluster.barrier.arrived < live {
        return;
    }
    cluster.barrier.arrived = 0;
    cluster.barrier.generation += 1;
    let point = std::mem::take(&mut cluster.barrier.point);
    cluster.barrier.synced = Some(m.mem.tracker.order.complete(point));
    m.effect();
    m.wake_cluster(slot);
}
