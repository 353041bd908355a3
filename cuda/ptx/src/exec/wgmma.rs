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
//! **Memory.** The reads belong to an asynchronous agent, one a warpgroup, ordered after what the issuing warps knew at issue;
//! a generic write that no proxy fence follows is a hazard. The wait makes the reads known to the warp that waits.

mod chain;
mod multiply;
mod op;

pub use op::{WgmmaOp, decode};

use std::collections::VecDeque;
use std::sync::Arc;

use super::lanes::ALL;
use super::matrix::{self, Accumulator};
use super::warp::Warp;
use super::{At, Flow, Machine, Stop, Wait};
use crate::hazard::HazardKind;
use crate::ir::{Class, Reg};
use crate::mem::WarpOrder;
use crate::request::{Asynchrony, FaultKind};
use chain::{Chain, POISON};
use multiply::run;
use op::{M, Shape, Source, Wgmma};

/// What one warp contributed to a wgmma when it issued it.
struct Call {
    scale_d: bool,
    a: u64,
    b: u64,
    /// A register was touched after the last fence.
    unfenced: bool,
    /// What the warp knew.
    order: Option<WarpOrder>,
}

/// A wgmma that some warp has issued and not every warp has waited for.
struct Pending {
    pc: u32,
    op: Arc<Wgmma>,
    chain: usize,
    calls: [Option<Call>; 4],
    /// Runs as soon as it can.
    early: bool,
    /// The interval of the warpgroup's agent in which it reads.
    stamp: u32,
}

/// A warp's view of the sequence.
#[derive(Default)]
struct Progress {
    /// How many it has issued.
    issued: u64,
    /// How many of them are in groups.
    committed: u64,
    /// Ends of the groups that it has not waited for.
    groups: VecDeque<u64>,
    /// How many it has waited for.
    retired: u64,
}

/// Four warps and what they have in flight.
#[derive(Default)]
pub struct Warpgroup {
    warps: [Progress; 4],
    /// Those from number `first` on.
    queue: VecDeque<Pending>,
    first: u64,
    /// How many have run.
    executed: u64,
    chains: Vec<Chain>,
    agent: Option<u32>,
}

impl Warpgroup {
    fn pending(&mut self, number: u64) -> &mut Pending {
        &mut self.queue[(number - self.first) as usize]
    }

    fn issued_by_all(&self) -> u64 {
        self.warps.iter().map(|w| w.issued).min().unwrap_or(0)
    }

    /// The chain of these registers; a new one if there is none.
    fn chain(&mut self, op: &Wgmma) -> usize {
        let fits = |c: &Chain| c.d == op.d && c.n == op.n && c.accumulator == op.accumulator;
        if let Some(i) = self.chains.iter().position(fits) {
            return i;
        }
        let (floats, integers) = if op.accumulator == Accumulator::S32 { (0, M * op.n) } else { (M * op.n, 0) };
        let chain = Chain {
            d: op.d.clone(),
            n: op.n,
            accumulator: op.accumulator,
            floats: vec![0.0; floats],
            integers: vec![0; integers],
            undefined: Vec::new(),
            clobbered: Vec::new(),
            held: [false; 4],
            last: [0; 4],
        };
        // Chains that nobody uses any more are replaced; numbers in the queue stay valid.
        let free =
            (0..self.chains.len()).find(|&i| !self.chains[i].held.contains(&true) && self.queue.iter().all(|p| p.chain != i));
        match free {
            Some(i) => {
                self.chains[i] = chain;
                i
            }
            None => {
                self.chains.push(chain);
                self.chains.len() - 1
            }
        }
    }
}

/// What a warp remembers about the registers of wgmma.
#[derive(Default)]
pub struct Touches {
    /// Counts fences.
    fences: u32,
    /// For each 32-bit register, the number of fences when something else last touched it, plus one.
    touched: Vec<u32>,
    /// For each 32-bit register, the number of fences when a wgmma last accumulated into it, plus one, and its shape.
    accumulated: Vec<(u32, Option<Shape>)>,
}

impl Touches {
    /// An instruction that is no wgmma touches `reg`.
    pub fn touch(&mut self, reg: Reg) {
        if reg.class == Class::B32 {
            *at(&mut self.touched, reg.index) = self.fences + 1;
        }
    }
}

fn at<T: Clone + Default>(list: &mut Vec<T>, index: u16) -> &mut T {
    let index = usize::from(index);
    if list.len() <= index {
        list.resize(index + 1, T::default());
    }
    &mut list[index]
}

fn take(m: &mut Machine<'_>, slot: u32, group: usize) -> Warpgroup {
    let cta = m.ctas[slot as usize].as_mut().expect("a warp's CTA is resident");
    std::mem::take(&mut cta.warpgroups[group])
}

fn put(m: &mut Machine<'_>, slot: u32, group: usize, state: Warpgroup) {
    m.ctas[slot as usize].as_mut().expect("a warp's CTA is resident").warpgroups[group] = state;
}

/// Where a warp is: its warpgroup and its place there.
fn place_of(warp: &Warp) -> (usize, usize) {
    (warp.index as usize / 4, warp.index as usize % 4)
}

/// Executes one.
pub fn execute(m: &mut Machine<'_>, warp: &mut Warp, op: &WgmmaOp, at: At) -> Result<Flow, Stop> {
    if !matrix::whole_warp(m, warp, at) {
        return Ok(Flow::Converge);
    }
    match op {
        WgmmaOp::Multiply(x) => issue(m, warp, x, at)?,
        WgmmaOp::Fence => warp.touches.fences += 1,
        WgmmaOp::Commit => commit(m, warp),
        WgmmaOp::Wait(pending) => return wait(m, warp, *pending),
    }
    Ok(Flow::Next)
}

/// `wgmma.commit_group`.
fn commit(m: &mut Machine<'_>, warp: &Warp) {
    let (group, w) = place_of(warp);
    if let Some(state) = m.ctas[warp.slot as usize].as_mut().and_then(|c| c.warpgroups.get_mut(group)) {
        let progress = &mut state.warps[w];
        progress.groups.push_back(progress.issued);
        progress.committed = progress.issued;
    }
}

/// Issues a wgmma for one warp.
fn issue(m: &mut Machine<'_>, warp: &mut Warp, op: &Arc<Wgmma>, at: At) -> Result<(), Stop> {
    let (group, w) = place_of(warp);
    if warp.live != ALL || m.shape.warps < 4 * (group as u32 + 1) {
        return m.fault(
            warp,
            at.pc,
            at.mask,
            FaultKind::IllegalInstruction,
            "wgmma needs a warpgroup: four whole warps, the first a multiple of 4",
        );
    }
    let call = call(m, warp, op, at);
    matrix::count(m, at, op.a, 16 * op.n * op.k());
    let mut state = take(m, warp.slot, group);
    let number = state.warps[w].issued;
    if number == state.first + state.queue.len() as u64 {
        let early = m.options.asynchrony == Asynchrony::Eager || m.rng.below(8) == 0;
        let order = &mut m.mem.tracker.order;
        state.agent.get_or_insert_with(|| order.agent(false));
        let stamp = order.tick();
        let chain = state.chain(op);
        state.queue.push_back(Pending { pc: at.pc, op: op.clone(), chain, calls: [None, None, None, None], early, stamp });
    }
    let pending = state.pending(number);
    if pending.pc != at.pc {
        let other = m.place(m.site(warp, pending.pc, 0)).ptx_line;
        let message = format!("the warps of a warpgroup execute different wgmma: another executed that of PTX line {other}");
        return m.fault(warp, at.pc, at.mask, FaultKind::IllegalInstruction, message);
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
    let can_start = state.issued_by_all() > number;
    if can_start && early {
        run(m, warp, &mut state, number + 1);
    }
    put(m, warp.slot, group, state);
    if can_start {
        for other in 4 * group as u32..4 * group as u32 + 4 {
            if other != warp.index {
                m.wake(warp.slot, other);
            }
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
fn call(m: &mut Machine<'_>, warp: &mut Warp, op: &Wgmma, at: At) -> Call {
    let (index, negated) = op.scale_d;
    let (scale, scale_undef) = (warp.regs.pred[index as usize], warp.regs.undef_pred(index));
    m.demand(warp, at.pc, ALL, scale_undef, "scale-d");
    let mut uniform = scale == 0 || scale == ALL;
    let mut descriptor = |m: &mut Machine<'_>, register: u16, what: &str| {
        let values = &warp.regs.r64[register as usize];
        uniform &= values.iter().all(|v| *v == values[0]);
        m.demand(warp, at.pc, ALL, warp.regs.undef64(register), what);
        values[0]
    };
    let a = match op.source {
        Source::Descriptor(r) => descriptor(m, r, "the descriptor of A"),
        Source::Registers(_) => 0,
    };
    let b = descriptor(m, op.b_descriptor, "the descriptor of B");
    let site = m.site(warp, at.pc, 0);
    if !m.options.hazards {
        return Call { scale_d: (scale & 1 == 1) != negated, a, b, unfenced: false, order: None };
    }
    if !uniform {
        m.mem
            .tracker
            .hazards
            .report(HazardKind::UndefinedBehavior, site, None, || "the lanes of a warp give wgmma different operands".into());
    }
    let touches = &mut warp.touches;
    let now = touches.fences + 1;
    let mut why = (touches.fences == 0).then(|| "there was no wgmma.fence before the first wgmma".to_string());
    for reg in op.registers() {
        if *self::at(&mut touches.touched, reg.index) == now {
            why.get_or_insert_with(|| "a register of A or D was accessed after the last wgmma.fence".into());
        }
    }
    for &d in &op.d {
        let before = self::at(&mut touches.accumulated, d);
        if before.0 == now && before.1 != Some(op.shape()) {
            why.get_or_insert_with(|| "a wgmma of another shape accumulated into D after the last wgmma.fence".into());
        }
        *before = (now, Some(op.shape()));
    }
    // Sums in flight may be accumulated on as they are, but not be an operand, or part of another list.
    let crossing = op.a_registers().iter().any(|&index| warp.regs.flight(Reg { class: Class::B32, index }) == 2)
        || op.d.iter().any(|&index| warp.regs.flight(Reg { class: Class::B32, index }) != 0) && !accumulates(m, warp, op);
    if crossing {
        m.mem.tracker.hazards.report(HazardKind::RegisterInFlight, site, None, || {
            "a register of this wgmma is in flight for another one that was not waited for".into()
        });
    }
    let unfenced = why.is_some();
    if let Some(why) = why {
        m.mem.tracker.hazards.report(HazardKind::MissingWgmmaFence, site, None, || why);
    }
    Call { scale_d: (scale & 1 == 1) != negated, a, b, unfenced: unfenced || crossing, order: Some(warp.order.clone()) }
}

/// Whether D is, as a whole, what earlier wgmma in flight accumulate into.
fn accumulates(m: &Machine<'_>, warp: &Warp, op: &Wgmma) -> bool {
    let (group, w) = place_of(warp);
    let cta = m.ctas[warp.slot as usize].as_ref();
    cta.is_some_and(|c| c.warpgroups[group].chains.iter().any(|c| c.held[w] && c.d == op.d))
}

/// `wgmma.wait_group`: all but the last `pending` groups of the warp are complete.
fn wait(m: &mut Machine<'_>, warp: &mut Warp, pending: u32) -> Result<Flow, Stop> {
    let (group, w) = place_of(warp);
    if m.shape.warps < 4 * (group as u32 + 1) {
        return Ok(Flow::Next);
    }
    let mut state = take(m, warp.slot, group);
    let groups = &state.warps[w].groups;
    let over = groups.len().saturating_sub(pending as usize);
    let target = if over == 0 { state.warps[w].retired } else { groups[over - 1] };
    if state.issued_by_all() < target {
        put(m, warp.slot, group, state);
        return Ok(Flow::Retry(Wait::Warpgroup { target }));
    }
    run(m, warp, &mut state, target);
    state.warps[w].groups.drain(..over);
    if target > state.warps[w].retired {
        retire(m, warp, &mut state, w, target);
    }
    put(m, warp.slot, group, state);
    Ok(Flow::Next)
}

/// Whether all warps of the warpgroup have issued `target` wgmma.
pub fn is_over(m: &Machine<'_>, slot: u32, warp: u32, target: u64) -> bool {
    let group = warp as usize / 4;
    m.ctas[slot as usize].as_ref().is_none_or(|c| c.warpgroups[group].issued_by_all() >= target)
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
pub fn warp_ended(m: &mut Machine<'_>, warp: &Warp) {
    let (group, w) = place_of(warp);
    let Some(state) = m.ctas[warp.slot as usize].as_ref().and_then(|c| c.warpgroups.get(group)) else { return };
    let progress = &state.warps[w];
    let mut found = Vec::new();
    for number in progress.retired..progress.issued {
        let pc = state.queue[(number - state.first) as usize].pc;
        found.push((pc, number < progress.committed));
    }
    for (pc, committed) in found {
        let site = m.site(warp, pc, 0);
        let (kind, message) = if committed {
            (HazardKind::MissingWait, "the warp ended without a wgmma.wait_group for this wgmma")
        } else {
            (HazardKind::MissingCommit, "the warp ended without a wgmma.commit_group after this wgmma")
        };
        m.mem.tracker.hazards.report(kind, site, None, || message.into());
    }
}

/// The warp writes a register of D that is in flight.
pub fn clobber(m: &mut Machine<'_>, warp: &Warp, reg: Reg) {
    let (group, w) = place_of(warp);
    let Some(state) = m.ctas[warp.slot as usize].as_mut().and_then(|c| c.warpgroups.get_mut(group)) else { return };
    for chain in state.chains.iter_mut().filter(|c| c.held[w] && c.d.contains(&reg.index)) {
        chain.clobbered.push((w, reg.index));
    }
}

/// Why a register of the warp is in flight: the kind of hazard that touching it is.
pub fn blame(m: &Machine<'_>, warp: &Warp, reg: Reg) -> (HazardKind, String) {
    let (group, w) = place_of(warp);
    if let Some(state) = m.ctas[warp.slot as usize].as_ref().and_then(|c| c.warpgroups.get(group)) {
        let progress = &state.warps[w];
        for number in (progress.retired..progress.issued).rev() {
            let pending = &state.queue[(number - state.first) as usize];
            if pending.op.registers().any(|r| r == reg) {
                let line = m.place(m.site(warp, pending.pc, 0)).ptx_line;
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
