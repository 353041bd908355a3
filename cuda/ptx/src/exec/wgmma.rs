//! wgmma: matrix products that four warps issue together and that complete later.
//!
//! **Order.** The warps of a warpgroup issue the same sequence of wgmma. One can start when all four have issued it; they
//! complete in order. Each runs at the latest moment that the ISA allows, when a warp's `wait_group` requires it, or, as the
//! seed draws, as soon as it can start. Only then are shared memory and the registers of A read, so a buffer that is
//! overwritten before the wait gives a wrong product, and a race. A wait by one warp means that the product is complete for all
//! four: one thread may release the shared buffers for its warpgroup, as CUTLASS's kernels do, and no barrier is needed to say that the
//! other warps are past their waits for these buffers, since they have issued the same wgmma.
//!
//! **Registers.** From issue until the warp's own covering wait D holds poison and counts as undefined and in flight, A as being
//! read. The sums live in a `Chain` of the warpgroup, shared by all wgmma in flight that accumulate into the same registers, and
//! are written back by the wait. A wgmma whose registers were touched after the last `wgmma.fence` gives poison; so does one
//! before any fence. Accumulating again into the registers of an earlier wgmma of the same shape needs no fence, as the ISA says.
//!
//! **Memory.** The reads belong to an asynchronous agent, one a warpgroup. Each warp reads the 16 rows of A that it multiplies (PTX
//! ISA, *Register Fragments and Shared Memory Matrix Layouts*: warp w of the warpgroup has rows 16w to 16w + 15), all four
//! read B. So a row of A is read after what its warp knew at issue, and needs no barrier with the others where a warp writes its own
//! rows; B is read after what all four knew. A generic write that no proxy fence follows is a hazard. The wait makes the reads known
//! to the warp that waits.

mod chain;
mod group;
mod multiply;
pub(crate) mod op;

pub use group::Warpgroup;
pub use op::{WgmmaOp, decode};

use std::sync::Arc;

use super::flow::{At, Flow, Stop};
use super::lanes::ALL;
use super::machine::Machine;
use super::matrix;
use super::warp::Wait;
use super::warp::Warp;
use crate::hazard::HazardKind;
use crate::ir::{Class, Reg};
use crate::request::{Asynchrony, FaultKind};
use chain::{Chain, POISON};
use group::{Call, Pending};
use multiply::run;
use op::{Source, Wgmma};

/// Where a warp is: its warpgroup and its place there.
fn place_of(warp: &Warp) -> (usize, usize) {
    (warp.index as usize / 4, warp.index as usize % 4)
}

/// The warps of a CTA, without the one that runs.
type Warps = [Option<Box<Warp>>];

/// Executes one, given the other warps of the CTA and its warpgroups.
pub fn execute(
    m: &mut Machine<'_>,
    warps: &Warps,
    groups: &mut [Warpgroup],
    warp: &mut Warp,
    op: &WgmmaOp,
    at: At<'_>,
) -> Result<Flow, Stop> {
    if !matrix::whole_warp(m, warp, at) {
        return Ok(Flow::Converge);
    }
    let (group, w) = place_of(warp);
    // The last warps of a CTA may be less than a warpgroup.
    let state = groups.get_mut(group);
    match (op, state) {
        (WgmmaOp::Multiply(x), Some(state)) if warp.live == ALL => issue(m, warps, state, warp, x, at)?,
        (WgmmaOp::Multiply(_), _) => {
            let message = "wgmma needs a warpgroup: four whole warps, the first a multiple of 4";
            return m.fault(warp, at, FaultKind::IllegalInstruction, message);
        }
        (WgmmaOp::Fence, _) => warp.touches.fence(),
        (WgmmaOp::Commit, Some(state)) => {
            state.warps[w].commit();
            if let Some(t) = &mut m.trace {
                t.commit(m.pace.steps, warp.id, state.warps[w].committed);
            }
        }
        (WgmmaOp::Wait(pending), Some(state)) => return Ok(wait(m, warps, state, warp, *pending)),
        (_, None) => {}
    }
    Ok(Flow::Next)
}

/// Issues a wgmma for one warp.
fn issue(
    m: &mut Machine<'_>,
    warps: &Warps,
    state: &mut Warpgroup,
    warp: &mut Warp,
    op: &Arc<Wgmma>,
    at: At<'_>,
) -> Result<(), Stop> {
    let (group, w) = place_of(warp);
    let call = call(m, state, warp, op, at);
    matrix::count(m, at, op.a, 16 * op.n * op.k());
    let number = state.warps[w].issued;
    if let Some(t) = &mut m.trace {
        t.product(m.pace.steps, warp.site(at.pc, 0), number);
    }
    if number == state.first + state.queue.len() as u64 {
        let early = m.kernel.options.asynchrony == Asynchrony::Eager || m.rng.below(8) == 0;
        let order = &mut m.mem.tracker.order;
        state.agent.get_or_insert_with(|| order.agent(false));
        let stamp = order.tick();
        let chain = state.chain(op);
        state.queue.push_back(Pending { pc: at.pc, op: op.clone(), chain, calls: [None, None, None, None], early, stamp });
    }
    let pending = state.pending(number);
    if pending.pc != at.pc {
        let other = m.kernel.place(warp.site(pending.pc, 0)).ptx_line;
        let message = format!("the warps of a warpgroup execute different wgmma: another executed that of PTX line {other}");
        return m.fault(warp, at, FaultKind::IllegalInstruction, message);
    }
    let (chain, early) = (pending.chain, pending.early);
    let scale_d = call.scale_d;
    pending.calls[w] = Some(call);
    hold(&mut state.chains[chain], warp, w, scale_d, number);
    for &index in op.a_registers() {
        let reg = Reg { class: Class::B32, index };
        if warp.regs.flight(reg) == 0 {
            warp.regs.set_flight(reg, 1);
        }
    }
    state.warps[w].issued += 1;
    if state.issued_by_all() > number {
        if early {
            run(m, warps, warp, state, number + 1);
        }
        for other in (4 * group as u32..4 * group as u32 + 4).filter(|other| *other != warp.index) {
            m.ready.wake(warp.slot, other);
        }
    }
    Ok(())
}

/// Puts D in flight: its values move to the chain, the registers get poison.
fn hold(chain: &mut Chain, warp: &mut Warp, w: usize, scale_d: bool, number: u64) {
    chain.last[w] = number;
    if std::mem::replace(&mut chain.held[w], true) {
        return;
    }
    if scale_d {
        chain.load(w, warp);
    }
    for &index in &chain.d {
        let reg = Reg { class: Class::B32, index };
        warp.regs.r32[index as usize] = [POISON; 32];
        warp.regs.set_undef(reg, ALL, ALL);
        warp.regs.set_flight(reg, 2);
    }
}

/// Checks the operands and registers of one warp.
fn call(m: &mut Machine<'_>, state: &Warpgroup, warp: &mut Warp, op: &Wgmma, at: At<'_>) -> Call {
    let (index, negated) = op.scale_d;
    let (scale, scale_undef) = (warp.regs.pred[index as usize], warp.regs.undef_pred(index));
    m.demand(warp, at, scale_undef, "scale-d");
    let mut uniform = scale == 0 || scale == ALL;
    let mut descriptor = |m: &mut Machine<'_>, register: u16, what: &str| {
        let values = &warp.regs.r64[register as usize];
        uniform &= values.iter().all(|v| *v == values[0]);
        m.demand(warp, at, warp.regs.undef64(register), what);
        values[0]
    };
    let a = match op.source {
        Source::Descriptor(r) => descriptor(m, r, "the descriptor of A"),
        Source::Registers(_) => 0,
    };
    let b = descriptor(m, op.b_descriptor, "the descriptor of B");
    let site = warp.site(at.pc, 0);
    let metadata = op.sparse.map(|s| {
        m.demand(warp, at, warp.regs.undef32(s.metadata), "the metadata of a sparse matrix");
        warp.regs.r32[s.metadata as usize]
    });
    if !m.kernel.options.hazards {
        return Call { scale_d: (scale & 1 == 1) != negated, a, b, unfenced: false, metadata, order: None };
    }
    if !uniform {
        m.report(HazardKind::UndefinedBehavior, site, None, || "the lanes of a warp give wgmma different operands".into());
    }
    let touches = &mut warp.touches;
    let mut why = (!touches.any_fence()).then_some("there was no wgmma.fence before the first wgmma");
    if op.registers().any(|reg| touches.is_touched(reg)) {
        why.get_or_insert("a register of A or D was accessed after the last wgmma.fence");
    }
    for &d in &op.d {
        if touches.accumulate(d, op.shape()) {
            why.get_or_insert("a wgmma of another shape accumulated into D after the last wgmma.fence");
        }
    }
    // Sums in flight may be accumulated on as they are, but not be an operand, or part of another list.
    let crossing = op.a_registers().iter().any(|&index| warp.regs.flight(Reg { class: Class::B32, index }) == 2)
        || op.d.iter().any(|&index| warp.regs.flight(Reg { class: Class::B32, index }) != 0) && !accumulates(state, warp, op);
    if crossing {
        m.report(HazardKind::RegisterInFlight, site, None, || {
            "a register of this wgmma is in flight for another one that was not waited for".into()
        });
    }
    let unfenced = why.is_some();
    if let Some(why) = why {
        m.report(HazardKind::MissingWgmmaFence, site, None, || why.into());
    }
    Call { scale_d: (scale & 1 == 1) != negated, a, b, unfenced: unfenced || crossing, metadata, order: Some(warp.order.clone()) }
}

/// Whether D is, as a whole, what earlier wgmma in flight accumulate into.
fn accumulates(state: &Warpgroup, warp: &Warp, op: &Wgmma) -> bool {
    let (_, w) = place_of(warp);
    state.chains.iter().any(|c| c.held[w] && c.d == op.d)
}

/// `wgmma.wait_group`: all but the last `pending` groups of the warp are complete.
fn wait(m: &mut Machine<'_>, warps: &Warps, state: &mut Warpgroup, warp: &mut Warp, pending: u32) -> Flow {
    let (_, w) = place_of(warp);
    let groups = &state.warps[w].groups;
    let over = groups.len().saturating_sub(pending as usize);
    let target = if over == 0 { state.warps[w].retired } else { groups[over - 1] };
    if state.issued_by_all() < target {
        return Flow::Retry(Wait::Warpgroup { target });
    }
    run(m, warps, warp, state, target);
    state.warps[w].groups.drain(..over);
    if target > state.warps[w].retired {
        retire(m, warp, state, w, target);
    }
    Flow::Next
}

/// The warp has waited for all below `target`: their registers are its own again, their reads of memory are over.
fn retire(m: &mut Machine<'_>, warp: &mut Warp, state: &mut Warpgroup, w: usize, target: u64) {
    let (from, issued) = (state.warps[w].retired, state.warps[w].issued);
    for number in from..issued {
        for &index in state.pending(number).op.a_registers() {
            let reg = Reg { class: Class::B32, index };
            // Those of later ones stay in flight.
            if warp.regs.flight(reg) != 2 {
                warp.regs.set_flight(reg, u8::from(number >= target));
            }
        }
    }
    for chain in &mut state.chains {
        if chain.held[w] && chain.last[w] < target {
            chain.held[w] = false;
            chain.store(w, warp);
        }
    }
    let stamp = state.pending(target - 1).stamp;
    if let Some(agent) = state.agent {
        m.mem.tracker.order.acquire_agent(&mut warp.order, ALL, agent, stamp);
    }
    state.warps[w].retired = target;
    let done = state.warps.iter().map(|w| w.retired).min().unwrap_or(0);
    while state.first < done {
        state.queue.pop_front();
        state.first += 1;
    }
}

/// The warp has ended: what it never waited for is a hazard.
pub fn warp_ended(m: &mut Machine<'_>, groups: &[Warpgroup], warp: &Warp) {
    let (group, w) = place_of(warp);
    let Some(state) = groups.get(group) else { return };
    let progress = &state.warps[w];
    for number in progress.retired..progress.issued {
        let (kind, message) = if number < progress.committed {
            (HazardKind::MissingWait, "the warp ended without a wgmma.wait_group for this wgmma")
        } else {
            (HazardKind::MissingCommit, "the warp ended without a wgmma.commit_group after this wgmma")
        };
        let pc = state.queue[(number - state.first) as usize].pc;
        m.report(kind, warp.site(pc, 0), None, || message.into());
    }
}

/// The warp writes a register of D that is in flight.
pub fn clobber(groups: &mut [Warpgroup], warp: &Warp, reg: Reg) {
    let (group, w) = place_of(warp);
    let Some(state) = groups.get_mut(group) else { return };
    for chain in state.chains.iter_mut().filter(|c| c.held[w] && c.d.contains(&reg.index)) {
        chain.clobbered.push((w, reg.index));
    }
}

/// Why a register of the warp is in flight: the kind of hazard that touching it is.
pub fn blame(m: &Machine<'_>, groups: &[Warpgroup], warp: &Warp, reg: Reg) -> (HazardKind, String) {
    let (group, w) = place_of(warp);
    if let Some(state) = groups.get(group) {
        let progress = &state.warps[w];
        for number in (progress.retired..progress.issued).rev() {
            let pending = &state.queue[(number - state.first) as usize];
            if pending.op.registers().any(|r| r == reg) {
                let line = m.kernel.place(warp.site(pending.pc, 0)).ptx_line;
                return if number >= progress.committed {
                    (
                        HazardKind::MissingCommit,
                        format!("a register of the wgmma of PTX line {line}, which was not committed to a group"),
                    )
                } else {
                    (
                        HazardKind::RegisterInFlight,
                        format!("a register of the wgmma of PTX line {line}, which was not waited for"),
                    )
                };
            }
        }
    }
    (HazardKind::RegisterInFlight, "a register of an asynchronous operation that was not waited for".into())
}
