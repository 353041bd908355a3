//! Barriers: `bar` and `barrier` of a CTA, `bar.warp.sync`, `barrier.cluster`.

use super::flow::{At, Flow, Stop};
use super::lanes::lanes_of;
use super::machine::Machine;
use super::residents::{ClusterBarrier, Cta, Reduce, Residents};
use super::warp::Wait;
use super::warp::Warp;
use crate::hazard::{HazardKind, Site};
use crate::ir::Cx;
use crate::request::FaultKind;
use crate::text::ast::Type;

/// An instruction of this family.
pub enum BarrierOp {
    /// `bar`/`barrier` `.sync`, `.red` and `.arrive`.
    Named(Barrier),
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

/// The decoder of `bar` and `barrier`.
pub fn decode(cx: &mut Cx<'_>) -> Result<BarrierOp, String> {
    let bar = cx.head() == "bar";
    if bar && cx.lead("warp") {
        cx.expect(&["sync"])?;
        cx.end(1)?;
        return Ok(BarrierOp::WarpSync(cx.src(0, Type::B32)?));
    }
    if !bar && cx.lead("cluster") {
        let arrive = cx.lead("arrive");
        if !arrive && !cx.lead("wait") {
            return cx.unknown();
        }
        let strong = if arrive {
            cx.eat("release") || !cx.eat("relaxed")
        } else {
            cx.eat("acquire");
            true
        };
        let aligned = cx.eat("aligned");
        cx.end(0)?;
        return Ok(if arrive {
            BarrierOp::ClusterArrive { aligned, release: strong }
        } else {
            BarrierOp::ClusterWait { aligned, acquire: strong }
        });
    }
    cx.lead("cta");
    let Some(kind) = cx.find(|p| ["sync", "arrive", "red"].contains(&p).then_some(p)) else { return cx.unknown() };
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
    Ok(BarrierOp::Named(Barrier { id, count, arrive: kind == "arrive", aligned, reduce }))
}

/// The instruction's work.
pub fn execute(
    m: &mut Machine<'_>,
    residents: &mut Residents,
    warp: &mut Warp,
    op: &BarrierOp,
    at: At<'_>,
) -> Result<Flow, Stop> {
    match op {
        BarrierOp::Named(b) => barrier(m, residents.cta(warp.slot), warp, b, at),
        BarrierOp::WarpSync(members) => {
            let members = *members;
            if let Some(flow) = super::warp_ops::gather(m, warp, members, at)? {
                return Ok(flow);
            }
            m.mem.tracker.order.sync_lanes(&mut warp.order, at.mask);
            Ok(Flow::Next)
        }
        BarrierOp::ClusterArrive { aligned, release } => {
            if *aligned && !at.is_converged(warp) {
                return Ok(Flow::Converge);
            }
            Ok(cluster_arrive(m, residents, warp, at, *release))
        }
        BarrierOp::ClusterWait { aligned, acquire } => {
            if *aligned && !at.is_converged(warp) {
                return Ok(Flow::Converge);
            }
            Ok(cluster_wait(m, &mut residents.cluster(warp.slot).barrier, warp, at, *acquire))
        }
    }
}

fn barrier(m: &mut Machine<'_>, cta: &mut Cta, warp: &mut Warp, b: &Barrier, at: At<'_>) -> Result<Flow, Stop> {
    if b.aligned && !at.is_converged(warp) {
        return Ok(Flow::Converge);
    }
    let undef = warp.regs.undef32(b.id) | b.count.map_or(0, |c| warp.regs.undef32(c));
    m.demand(warp, at, undef, "the barrier's number or count");
    let first = at.mask.trailing_zeros() as usize;
    let id = warp.regs.r32[b.id as usize][first];
    let count = b.count.map(|c| warp.regs.r32[c as usize][first]);
    let same = |r: u16, v: u32| lanes_of(at.mask).all(|l| warp.regs.r32[r as usize][l] == v);
    if !same(b.id, id) || !b.count.is_none_or(|c| same(c, count.unwrap_or(0))) {
        return m.fault(warp, at, FaultKind::IllegalInstruction, "lanes of a warp name different barriers or counts");
    }
    if id >= 16 {
        return m.fault(warp, at, FaultKind::IllegalInstruction, format!("barrier {id}: there are 16"));
    }
    if let Some(n) = count
        && (n == 0 || n % 32 != 0 || n > m.kernel.grid.warps * 32)
    {
        let all = m.kernel.grid.warps * 32;
        let message = format!("barrier {id}: a count of {n} threads is not a multiple of 32 from 32 to {all}");
        return m.fault(warp, at, FaultKind::IllegalInstruction, message);
    }
    m.effect();
    let mut votes = 0;
    if let Some((_, _, p, negated)) = b.reduce {
        let undef = warp.regs.undef_pred(p);
        m.demand(warp, at, undef, "the predicate of a barrier's reduction");
        let p = warp.regs.pred[p as usize];
        votes = at.mask & if negated { !p } else { p };
    }
    let state = &mut cta.barriers[id as usize];
    if state.arrived > 0 && state.count != count {
        let (other, was) = (state.first, state.count);
        let site = warp.site(at.pc, at.lane());
        let text = |c: Option<u32>| c.map_or("the whole CTA".to_string(), |n| format!("{n} threads"));
        let other = other.map(|(w, pc)| Site::new(pc, w, 0));
        m.mem.tracker.hazards.report_pair(HazardKind::BarrierDivergence, site, other, None, || {
            format!("barrier {id} is waited for by {} here and by {} there", text(count), text(was))
        });
    }
    if b.arrive
        && let Some(&(_, lanes, _)) = state.warps.iter().find(|(w, lanes, _)| *w == warp.index && lanes & at.mask != 0)
    {
        // A warp may arrive at a barrier and then wait there, and counts twice; but one that arrives again without waiting fills
        // a phase that others are to fill.
        let site = warp.site(at.pc, (lanes & at.mask).trailing_zeros());
        m.report(HazardKind::BarrierDivergence, site, None, || {
            format!("barrier {id}: the same threads arrive twice in one phase")
        });
    }
    m.mem.tracker.order.arrive(&mut warp.order, at.mask, !b.arrive, &mut state.point);
    state.count = count;
    state.first.get_or_insert((warp.id, at.pc));
    // Warps count whole, whatever lanes they still have: lanes that come by themselves fill up their warp when the last is there.
    let live = warp.live.count_ones();
    let threads = |lanes: u32| lanes / live * 32 + lanes % live;
    let before = state.warps.iter().filter(|(w, ..)| *w == warp.index).map(|(_, lanes, _)| lanes.count_ones()).sum::<u32>();
    state.arrived += if b.aligned { 32 } else { threads(before + at.mask.count_ones()) - threads(before) };
    state.warps.push((warp.index, at.mask, !b.arrive));
    if let Some(t) = &mut m.trace {
        t.barrier(m.pace.steps, warp.site(at.pc, at.lane()), id, at.mask.count_ones());
    }
    if let Some((how, d, _, _)) = b.reduce {
        state.popc += votes.count_ones();
        state.voters += at.mask.count_ones();
        state.results.push((warp.index, at.mask, how, d));
    }
    let generation = state.generation;
    if let Some(c) = &mut m.counters {
        c.wait(at.pc);
    }
    at.define(warp);
    complete_barrier(m, cta, warp.slot, id, Some(warp));
    if b.arrive {
        return Ok(Flow::Next);
    }
    Ok(Flow::Block(Wait::Barrier { id, generation }))
}

/// Completes barrier `id` of the CTA if everyone is there. `running` is the warp that is out of the CTA's list.
fn complete_barrier(m: &mut Machine<'_>, cta: &mut Cta, slot: u32, id: u32, mut running: Option<&mut Warp>) {
    let state = &cta.barriers[id as usize];
    let wanted = state.expected(cta.alive);
    if state.arrived == 0 || state.arrived < wanted {
        return;
    }
    let over = state.arrived > wanted;
    if let Some(t) = &mut m.trace
        && let Some((w, _)) = state.first
    {
        t.complete(m.pace.steps, w, id);
    }
    let state = std::mem::take(&mut cta.barriers[id as usize]);
    let next = &mut cta.barriers[id as usize];
    next.generation = state.generation + 1;
    next.before = state.warps.iter().map(|w| w.0).collect();
    if over && let Some((w, pc)) = state.first {
        m.report(HazardKind::BarrierDivergence, Site::new(pc, w, 0), None, || {
            format!("barrier {id}: {} threads arrived where {wanted} were expected", state.arrived)
        });
    }
    let synced = m.mem.tracker.order.complete(state.point);
    for &(w, lanes, waits) in &state.warps {
        if waits && let Some(warp) = find(&mut running, &mut cta.warps, w) {
            m.mem.tracker.order.resume(&mut warp.order, lanes, &synced);
        }
    }
    for &(w, lanes, how, d) in &state.results {
        let Some(warp) = find(&mut running, &mut cta.warps, w) else { continue };
        match how {
            Reduce::Popc => warp.regs.put32(d, &[state.popc; 32], lanes),
            Reduce::And => warp.regs.put_pred(d, if state.popc == state.voters { u32::MAX } else { 0 }, lanes),
            Reduce::Or => warp.regs.put_pred(d, if state.popc > 0 { u32::MAX } else { 0 }, lanes),
        }
    }
    m.effect();
    m.ready.wake_cta(slot);
}

/// Warp `w` of the CTA, be it the running one.
fn find<'a>(running: &'a mut Option<&mut Warp>, warps: &'a mut [Option<Box<Warp>>], w: u32) -> Option<&'a mut Warp> {
    match running {
        Some(r) if r.index == w => Some(r),
        _ => warps[w as usize].as_deref_mut(),
    }
}

/// A warp of the CTA has ended: barriers that wait for the whole CTA, or the whole cluster, may be complete now.
pub(super) fn somebody_left(m: &mut Machine<'_>, residents: &mut Residents, slot: u32) {
    let cta = residents.cta(slot);
    for id in 0..16 {
        if cta.barriers[id as usize].arrived > 0 && cta.barriers[id as usize].count.is_none() {
            complete_barrier(m, cta, slot, id, None);
        }
    }
    complete_cluster(m, residents, slot, None);
}

/// The CTA has ended: arrivals that no completion took up.
pub(super) fn cta_ended(m: &mut Machine<'_>, cta: &Cta) {
    for (id, barrier) in cta.barriers.iter().enumerate().filter(|(_, b)| b.arrived > 0) {
        let Some((warp, pc)) = barrier.first else { continue };
        m.report(HazardKind::UnfinishedPhase.strict(), Site::new(pc, warp, 0), None, || {
            let of = barrier.count.map_or(String::new(), |n| format!(" of {n}"));
            format!("barrier {id} ends with its CTA: {}{of} threads have arrived since it last completed", barrier.arrived)
        });
    }
}

fn cluster_arrive(m: &mut Machine<'_>, residents: &mut Residents, warp: &mut Warp, at: At<'_>, release: bool) -> Flow {
    m.effect();
    let far = !release && m.mem.has_visited(&warp.order, warp.home);
    let barrier = &mut residents.cluster(warp.slot).barrier;
    let again =
        barrier.pending.iter().find(|(s, w, lanes, _)| (*s, *w) == (warp.slot, warp.index) && lanes & at.mask != 0).copied();
    if let Some((.., lanes, _)) = again {
        let site = warp.site(at.pc, (lanes & at.mask).trailing_zeros());
        m.report(HazardKind::BarrierDivergence, site, None, || "barrier.cluster.arrive twice without a wait between".into());
    }
    if release {
        m.mem.tracker.order.arrive(&mut warp.order, at.mask, false, &mut barrier.point);
    } else {
        m.mem.tracker.order.arrive_relaxed(&mut warp.order, at.mask, far, &mut barrier.point);
    }
    barrier.pending.push((warp.slot, warp.index, at.mask, barrier.generation));
    barrier.arrived += at.mask.count_ones();
    complete_cluster(m, residents, warp.slot, Some(warp));
    Flow::Next
}

fn cluster_wait(m: &mut Machine<'_>, barrier: &mut ClusterBarrier, warp: &mut Warp, at: At<'_>, acquire: bool) -> Flow {
    let mut generation = None;
    let mut covered = 0;
    for p in barrier.pending.iter().filter(|p| (p.0, p.1) == (warp.slot, warp.index) && p.2 & at.mask != 0) {
        generation = Some(p.3);
        covered |= p.2;
    }
    let Some(generation) = generation.filter(|_| covered & at.mask == at.mask) else {
        let site = warp.site(at.pc, (at.mask & !covered).trailing_zeros());
        m.report(HazardKind::BarrierDivergence, site, None, || "barrier.cluster.wait without an arrive before".into());
        return Flow::Next;
    };
    if barrier.generation == generation {
        if let Some(c) = &mut m.counters {
            c.wait(at.pc);
        }
        return Flow::Retry(Wait::ClusterBarrier { generation });
    }
    for p in barrier.pending.iter_mut().filter(|p| (p.0, p.1) == (warp.slot, warp.index)) {
        p.2 &= !at.mask;
    }
    barrier.pending.retain(|p| p.2 != 0);
    if acquire && let Some(synced) = &barrier.synced {
        m.mem.tracker.order.join_synced(&mut warp.order, at.mask, synced);
    }
    Flow::Next
}

/// Completes the cluster's barrier if every live thread of it has arrived. `running` is the warp that is out of its CTA's list.
fn complete_cluster(m: &mut Machine<'_>, residents: &mut Residents, slot: u32, running: Option<&Warp>) {
    let n = residents.cluster_ctas;
    let first = slot - slot % n;
    let live = |cta: &Cta| cta.warps.iter().flatten().map(|w| w.live.count_ones()).sum::<u32>();
    let ctas = residents.ctas[first as usize..(first + n) as usize].iter().flatten();
    let live = running.map_or(0, |w| w.live.count_ones()) + ctas.map(live).sum::<u32>();
    let barrier = &mut residents.cluster(slot).barrier;
    if barrier.arrived == 0 || barrier.arrived < live {
        return;
    }
    barrier.arrived = 0;
    barrier.generation += 1;
    barrier.synced = Some(m.mem.tracker.order.complete(std::mem::take(&mut barrier.point)));
    m.effect();
    m.ready.wake_cluster(slot);
}
