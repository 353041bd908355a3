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
//! read. The sums live in a [`Chain`] of the warpgroup, shared by all wgmma in flight that accumulate into the same registers, and
//! are written back by the wait. A wgmma whose registers were touched after the last `wgmma.fence` gives poison; so does one
//! before any fence. Accumulating again into the registers of an earlier wgmma of the same shape needs no fence, as the ISA says.
//!
//! **Memory.** The reads belong to an asynchronous agent, one a warpgroup, ordered after what the issuing warps knew at issue;
//! a generic write that no proxy fence follows is a hazard. The wait makes the reads known to the warp that waits.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::lanes::ALL;
use super::matrix::{self, Accumulator, Matrix};
use super::warp::Warp;
use super::{At, Flow, Machine, Stop, Wait};
use crate::gpu::{Asynchrony, FaultKind};
use crate::hazard::HazardKind;
use crate::ir::{Class, Cx, Op, Reg};
use crate::matrix::{Descriptor, Major, fragment};
use crate::mem::shadow::AsyncStep;
use crate::mem::{Segment, Tracker, WarpOrder, Which};
use crate::num::half::Kind;
use crate::num::single::canonical;
use crate::num::tensor::{self, Element, Precision};
use crate::text::ast::{Operand, Type};

/// What a register of D holds while it is in flight, and an element that nothing defined: a NaN as f32 and as two halves.
const POISON: u32 = 0x7fff_7fff;

/// Rows of A and D.
const M: usize = 64;

/// `wgmma.mma_async`.
pub struct Wgmma {
    n: usize,
    a: Element,
    b: Element,
    accumulator: Accumulator,
    saturate: bool,
    d: SmallVec<[u16; 16]>,
    source: Source,
    /// 64-bit register of B's descriptor.
    b_descriptor: u16,
    a_major: Major,
    b_major: Major,
    /// Predicate, and whether it is negated: D is added.
    scale_d: (u16, bool),
    negate_a: bool,
    negate_b: bool,
}

/// Where A comes from.
enum Source {
    Registers(SmallVec<[u16; 4]>),
    /// 64-bit register of its descriptor.
    Descriptor(u16),
}

impl Wgmma {
    fn k(&self) -> usize {
        256 / self.a.bits() as usize
    }

    fn a_registers(&self) -> &[u16] {
        match &self.source {
            Source::Registers(r) => r,
            Source::Descriptor(_) => &[],
        }
    }

    /// Registers that wgmma reads or writes on its own time.
    pub fn registers(&self) -> impl Iterator<Item = Reg> + '_ {
        self.d.iter().chain(self.a_registers()).map(|&index| Reg { class: Class::B32, index })
    }

    /// Whether the ISA lets the other accumulate into the same registers without a fence.
    fn same_shape(&self, other: &Wgmma) -> bool {
        self.n == other.n && self.k() == other.k() && self.accumulator == other.accumulator
    }
}

/// Decodes `wgmma.…`.
pub fn decode(cx: &mut Cx<'_>) -> Result<Matrix, String> {
    let operation = cx.part("an operation")?;
    if operation == "mma_async" && cx.has("sp") {
        return Err(format!("`{}`: sparse forms are not supported", cx.inst.opcode));
    }
    if !(cx.eat("sync") && cx.eat("aligned")) {
        return cx.unknown();
    }
    match operation {
        "fence" => cx.end(0).map(|()| Matrix::WgmmaFence),
        "commit_group" => cx.end(0).map(|()| Matrix::WgmmaCommit),
        "wait_group" => {
            cx.end(1)?;
            let n = cx.int(0)?;
            u32::try_from(n).map(Matrix::WgmmaWait).map_err(|_| format!("`{}` cannot wait for {n} groups", cx.inst.opcode))
        }
        "mma_async" => multiply(cx).map(Matrix::Wgmma),
        _ => cx.unknown(),
    }
}

fn multiply(cx: &mut Cx<'_>) -> Result<Wgmma, String> {
    let shape = cx.part("a shape")?;
    let numbers = shape.strip_prefix("m64n").and_then(|s| s.split_once('k'));
    let Some((Ok(n), Ok(k))) = numbers.map(|(n, k)| (n.parse::<usize>(), k.parse::<usize>())) else {
        return Err(format!("`{}`: `.{shape}` is no shape of wgmma", cx.inst.opcode));
    };
    let saturate = cx.eat("satfinite");
    let accumulator = matrix::accumulator(cx)?;
    let (a, b) = (matrix::element(cx)?, matrix::element(cx)?);
    cx.end(cx.count())?;
    let legal_n = (8..=256).contains(&n) && n % 8 == 0 && (!a.is_integer() || n % 16 == 0 || n == 8 || n == 24);
    if !legal_n || k * a.bits() as usize != 256 || !matrix::combine(a, b, accumulator) || (saturate && !a.is_integer()) {
        return Err(format!("`{}`: wgmma has no such combination of shape and types", cx.inst.opcode));
    }
    let d = matrix::vector(cx, 0, n / 2 / accumulator.per_register(), accumulator.register(), true)?;
    let source = match cx.operand(1)? {
        Operand::Vector(_) => Source::Registers(matrix::vector(cx, 1, 4, Type::B32, false)?),
        _ => Source::Descriptor(cx.src(1, Type::B64)?),
    };
    let from_registers = matches!(source, Source::Registers(_));
    let b_descriptor = cx.src(2, Type::B64)?;
    let scale_d = cx.predicate(cx.operand(3)?)?;
    // Integers have no scales, and only 16-bit types may be transposed: those in registers already lie as they must.
    let scales = if a.is_integer() { 0 } else { 2 };
    let transposes = match a.bits() {
        16 if from_registers => 1,
        16 => 2,
        _ => 0,
    };
    cx.end(4 + scales + transposes)?;
    let mut negate = [false; 2];
    for (i, negate) in negate.iter_mut().enumerate().take(scales) {
        *negate = match cx.int(4 + i)? {
            1 => false,
            -1 => true,
            other => return Err(format!("`{}`: a scale is 1 or -1, not {other}", cx.inst.opcode)),
        };
    }
    let mut majors = [Major::K; 2];
    for i in 0..transposes {
        let major = match cx.int(6 + i)? {
            0 => Major::K,
            1 => Major::Mn,
            other => return Err(format!("`{}`: a transpose is 0 or 1, not {other}", cx.inst.opcode)),
        };
        majors[2 - transposes + i] = major;
    }
    let [negate_a, negate_b] = negate;
    let [a_major, b_major] = majors;
    Ok(Wgmma { n, a, b, accumulator, saturate, d, source, b_descriptor, a_major, b_major, scale_d, negate_a, negate_b })
}

/// Sums in flight, of one list of registers D.
struct Chain {
    d: SmallVec<[u16; 16]>,
    n: usize,
    accumulator: Accumulator,
    /// 64 × n, of the kind that the accumulator needs.
    floats: Vec<f32>,
    integers: Vec<i32>,
    /// Elements that nothing defined; empty if there are none.
    undefined: Vec<bool>,
    /// Warps and registers of D that were written meanwhile: what they hold in the end is anyone's guess.
    clobbered: Vec<(usize, u16)>,
    /// The warps whose rows are here and not in their registers.
    held: [bool; 4],
    /// The last wgmma that each warp issued into it.
    last: [u64; 4],
}

impl Chain {
    fn rows(&self, warp: usize) -> std::ops::Range<usize> {
        16 * warp * self.n..16 * (warp + 1) * self.n
    }

    fn spoil(&mut self, elements: impl Iterator<Item = usize>) {
        if self.undefined.is_empty() {
            self.undefined = vec![false; M * self.n];
        }
        for i in elements {
            self.undefined[i] = true;
        }
    }

    /// Where element `j` of register `r` in `lane` of `warp` is.
    fn place(&self, warp: usize, r: usize, lane: usize, j: usize) -> usize {
        let (row, column) = fragment::accumulator(lane, r * self.accumulator.per_register() + j);
        (16 * warp + row) * self.n + column
    }

    /// Takes the rows of `warp` from its registers.
    fn load(&mut self, warp: usize, from: &Warp) {
        for r in 0..self.d.len() {
            let index = self.d[r];
            let undef = from.regs.undef32(index);
            for (lane, &bits) in from.regs.r32[index as usize].iter().enumerate() {
                for j in 0..self.accumulator.per_register() {
                    let at = self.place(warp, r, lane, j);
                    match self.accumulator {
                        Accumulator::F16 => self.floats[at] = Kind::F16.to_f32((bits >> (16 * j)) as u16),
                        Accumulator::F32 => self.floats[at] = f32::from_bits(bits),
                        Accumulator::S32 => self.integers[at] = bits as i32,
                    }
                    if undef >> lane & 1 == 1 {
                        self.spoil(std::iter::once(at));
                    } else if !self.undefined.is_empty() {
                        self.undefined[at] = false;
                    }
                }
            }
        }
    }

    /// Gives the rows of `warp` back to its registers.
    fn store(&mut self, warp: usize, to: &mut Warp) {
        let bad = |at: usize| self.undefined.get(at).copied().unwrap_or(false);
        for (r, &index) in self.d.iter().enumerate() {
            let mut undef = 0;
            let register: &mut [u32; 32] = &mut to.regs.r32[index as usize];
            for (lane, out) in register.iter_mut().enumerate() {
                let at = |j| self.place(warp, r, lane, j);
                *out = match self.accumulator {
                    Accumulator::F16 => [0, 1].map(|j| u32::from(Kind::F16.of_f32(self.floats[at(j)])) << (16 * j)).iter().sum(),
                    Accumulator::F32 => canonical(self.floats[at(0)]),
                    Accumulator::S32 => self.integers[at(0)] as u32,
                };
                if !self.undefined.is_empty() && (0..self.accumulator.per_register()).any(|j| bad(at(j))) {
                    undef |= 1 << lane;
                    *out = POISON;
                }
            }
            if self.clobbered.contains(&(warp, index)) {
                undef = ALL;
                *register = [POISON; 32];
            }
            let reg = Reg { class: Class::B32, index };
            to.regs.set_undef(reg, undef, ALL);
            to.regs.set_flight(reg, 0);
        }
        self.clobbered.retain(|c| c.0 != warp);
    }
}

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
    /// For each 32-bit register, the number of fences when a wgmma last accumulated into it, plus one, and its instruction.
    accumulated: Vec<(u32, u32)>,
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

fn wgmma_at<'g>(m: &Machine<'g>, pc: u32) -> &'g Wgmma {
    match &m.module.code[pc as usize].op {
        Op::Matrix(x) => match &**x {
            Matrix::Wgmma(w) => w,
            _ => unreachable!("a queue holds wgmma only"),
        },
        _ => unreachable!("a queue holds wgmma only"),
    }
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

/// `wgmma.fence`.
pub fn fence(warp: &mut Warp) {
    warp.touches.fences += 1;
}

/// `wgmma.commit_group`.
pub fn commit(m: &mut Machine<'_>, warp: &Warp) {
    let (group, w) = place_of(warp);
    if let Some(state) = m.ctas[warp.slot as usize].as_mut().and_then(|c| c.warpgroups.get_mut(group)) {
        let progress = &mut state.warps[w];
        progress.groups.push_back(progress.issued);
        progress.committed = progress.issued;
    }
}

/// Issues a wgmma for one warp.
pub fn issue(m: &mut Machine<'_>, warp: &mut Warp, op: &Wgmma, at: At) -> Result<(), Stop> {
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
        state.queue.push_back(Pending { pc: at.pc, chain, calls: [None, None, None, None], early, stamp });
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
        if before.0 == now && before.1 != at.pc && !wgmma_at(m, before.1).same_shape(op) {
            why.get_or_insert_with(|| "a wgmma of another shape accumulated into D after the last wgmma.fence".into());
        }
        *before = (now, at.pc);
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
pub fn wait(m: &mut Machine<'_>, warp: &mut Warp, pending: u32, at: At) -> Result<Flow, Stop> {
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
    let _ = at;
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
        let pc = state.pending(number).pc;
        for &index in wgmma_at(m, pc).a_registers() {
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
            let pc = state.queue[(number - state.first) as usize].pc;
            if wgmma_at(m, pc).registers().any(|r| r == reg) {
                let line = m.place(m.site(warp, pc, 0)).ptx_line;
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

/// Runs all below `target`, which every warp has issued.
fn run(m: &mut Machine<'_>, warp: &Warp, state: &mut Warpgroup, target: u64) {
    while state.executed < target {
        let number = state.executed;
        multiply_add(m, warp, state, number);
        state.executed += 1;
    }
}

fn multiply_add(m: &mut Machine<'_>, warp: &Warp, state: &mut Warpgroup, number: u64) {
    let pending = &state.queue[(number - state.first) as usize];
    let chain = &mut state.chains[pending.chain];
    let op = wgmma_at(m, pending.pc);
    let (n, k) = (op.n, op.k());
    for (w, call) in pending.calls.iter().enumerate() {
        let call = call.as_ref().expect("all warps have issued it");
        let rows = chain.rows(w);
        if !call.scale_d {
            match chain.accumulator {
                Accumulator::S32 => chain.integers[rows.clone()].fill(0),
                _ => chain.floats[rows.clone()].fill(0.0),
            }
            if !chain.undefined.is_empty() {
                chain.undefined[rows.clone()].fill(false);
            }
        }
        if call.unfenced {
            chain.spoil(rows);
        }
    }
    let mut a = vec![0.0; M * k];
    let mut b = vec![0.0; k * n];
    let mut reader = Reader::new(m, warp, pending, state.agent.unwrap_or(0));
    let calls = pending.calls.each_ref().map(|c| c.as_ref().expect("all warps have issued it"));
    if calls.iter().any(|c| (c.a, c.b) != (calls[0].a, calls[0].b)) {
        reader.hazard(m, HazardKind::UndefinedBehavior, "the warps of a warpgroup give wgmma different descriptors");
    }
    match &op.source {
        Source::Descriptor(_) => {
            let tile = Tile { extent: M, k, element: op.a, major: op.a_major, stride: k, stride_k: 1 };
            for row in reader.gather(m, calls[0].a, &tile, &mut a) {
                chain.spoil(row * n..(row + 1) * n);
            }
        }
        Source::Registers(registers) => {
            let first = warp.index - warp.index % 4;
            for w in 0..4 {
                let other = m.ctas[warp.slot as usize].as_ref().and_then(|c| c.warps[first as usize + w].as_deref());
                // The running warp is not in its CTA's list.
                let owner = if warp.index == first + w as u32 { Some(warp) } else { other };
                let Some(owner) = owner else { continue };
                let per = op.a.per_register();
                for (r, &index) in registers.iter().enumerate() {
                    let undef = owner.regs.undef32(index);
                    for (lane, &bits) in owner.regs.r32[index as usize].iter().enumerate() {
                        for j in 0..per {
                            let (row, step) = fragment::a(lane, r, j, per);
                            a[(16 * w + row) * k + step] = op.a.value(bits >> (op.a.bits() as usize * j));
                        }
                        if undef >> lane & 1 == 1 {
                            let row = 16 * w + fragment::a(lane, r, 0, per).0;
                            chain.spoil(row * n..(row + 1) * n);
                        }
                    }
                }
            }
        }
    }
    let tile = Tile { extent: n, k, element: op.b, major: op.b_major, stride: 1, stride_k: n };
    for column in reader.gather(m, calls[0].b, &tile, &mut b) {
        chain.spoil((0..M).map(|row| row * n + column));
    }
    if op.negate_a != op.negate_b {
        a.iter_mut().for_each(|x| *x = -*x);
    }
    let short = op.a.bits() == 8;
    let precision = match (chain.accumulator, short) {
        (Accumulator::F16, true) => Precision::ShortHalf,
        (Accumulator::F16, false) => Precision::Half,
        (_, true) => Precision::Short,
        (_, false) => Precision::Single,
    };
    if chain.accumulator == Accumulator::S32 {
        let mut sums = vec![0.0; M * n];
        tensor::sum_products(&mut sums, &a, &b, n, k);
        for (c, sum) in chain.integers.iter_mut().zip(sums) {
            *c = tensor::accumulate_s32(*c, sum, op.saturate);
        }
    } else {
        tensor::multiply_add(&mut chain.floats, &tensor::Tile::new(&a, op.a), &tensor::Tile::new(&b, op.b), n, k, precision);
    }
}

/// An operand in shared memory on its way to a dense array.
struct Tile {
    /// Rows of A, columns of B.
    extent: usize,
    k: usize,
    element: Element,
    major: Major,
    /// Distance in the array of neighbours along m or n, and along k.
    stride: usize,
    stride_k: usize,
}

/// Reads shared memory for one wgmma.
struct Reader {
    pc: u32,
    slot: u32,
    /// Number of the warpgroup's first warp in the launch.
    first: u32,
    agent: u32,
    stamp: u32,
    orders: SmallVec<[WarpOrder; 4]>,
}

impl Reader {
    fn new(m: &Machine<'_>, warp: &Warp, pending: &Pending, agent: u32) -> Reader {
        let orders = pending.calls.iter().flatten().filter_map(|c| c.order.clone()).collect();
        let _ = m;
        Reader { pc: pending.pc, slot: warp.slot, first: warp.id - warp.index % 4, agent, stamp: pending.stamp, orders }
    }

    fn hazard(&self, m: &mut Machine<'_>, kind: HazardKind, message: &str) {
        let site = crate::hazard::Site::new(self.pc, self.first, 0);
        m.mem.tracker.hazards.report(kind, site, None, || message.into());
    }

    /// Fills `out`; returns the rows or columns in which something is undefined.
    fn gather(&mut self, m: &mut Machine<'_>, descriptor: u64, tile: &Tile, out: &mut [f32]) -> SmallVec<[usize; 4]> {
        let mut undefined = SmallVec::new();
        let descriptor = match Descriptor::decode(descriptor) {
            Ok(descriptor) => descriptor,
            Err(message) => {
                self.hazard(m, HazardKind::UndefinedBehavior, message);
                undefined.extend(0..tile.extent);
                return undefined;
            }
        };
        let issuers: SmallVec<[(&WarpOrder, u32); 4]> = self.orders.iter().map(|o| (o, 0)).collect();
        let step =
            AsyncStep { who: self.agent * 32, stamp: self.stamp, issuers: &issuers, pc: self.pc, proxy: true, strength: None };
        let (segment, tracker): (&mut Segment, &mut Tracker) = m.mem.parts_of(Which::Shared(self.slot));
        let per = 128 / tile.element.bits() as usize;
        let (lines, chunks) = match tile.major {
            Major::K => (tile.extent, tile.k / per),
            Major::Mn => (tile.k, tile.extent / per),
        };
        let (along_line, across) = match tile.major {
            Major::K => (tile.stride_k, tile.stride),
            Major::Mn => (tile.stride, tile.stride_k),
        };
        let mut outside = None;
        for line in 0..lines {
            for chunk in 0..chunks {
                let address = descriptor.chunk(tile.major, line as u32, chunk as u32) as usize;
                // Row or column of byte `i` of the chunk.
                let index = |i: usize| match tile.major {
                    Major::K => line,
                    Major::Mn => chunk * per + i * 8 / tile.element.bits() as usize,
                };
                let Some(bytes) = segment.data.get(address..address + 16) else {
                    outside.get_or_insert(address);
                    undefined.extend((0..16).map(index));
                    continue;
                };
                let bytes: &[u8; 16] = bytes.try_into().expect("16 bytes");
                spread(tile.element, bytes, &mut out[line * across + chunk * per * along_line..], along_line);
                let bad = segment.undefined(address, 16);
                if bad != 0 {
                    undefined.extend((0..16).filter(|i| bad >> i & 1 == 1).map(index));
                }
                if !issuers.is_empty() {
                    segment.touch_async(address, 16, false, &step, tracker);
                }
            }
        }
        undefined.dedup();
        if let Some(address) = outside {
            let site = crate::hazard::Site::new(self.pc, self.first, 0);
            m.mem
                .tracker
                .hazards
                .report(HazardKind::OutOfBounds, site, Some(address as u64), || "wgmma reads beyond shared memory".into());
        }
        undefined
    }
}

/// Writes the values of a chunk's elements to `out`, `stride` apart.
fn spread(element: Element, bytes: &[u8; 16], out: &mut [f32], stride: usize) {
    fn each<const N: usize>(bytes: &[u8; 16], out: &mut [f32], stride: usize, value: impl Fn(u32) -> f32) {
        let (elements, _) = bytes.as_chunks::<N>();
        for (i, element) in elements.iter().enumerate() {
            let mut word = [0; 4];
            word[..N].copy_from_slice(element);
            out[i * stride] = value(u32::from_le_bytes(word));
        }
    }
    match element {
        Element::F16 => each::<2>(bytes, out, stride, |x| Element::F16.value(x)),
        Element::Bf16 => each::<2>(bytes, out, stride, |x| Element::Bf16.value(x)),
        Element::Tf32 => each::<4>(bytes, out, stride, |x| Element::Tf32.value(x)),
        Element::E4m3 => each::<1>(bytes, out, stride, |x| Element::E4m3.value(x)),
        Element::E5m2 => each::<1>(bytes, out, stride, |x| Element::E5m2.value(x)),
        Element::S8 => each::<1>(bytes, out, stride, |x| Element::S8.value(x)),
        Element::U8 => each::<1>(bytes, out, stride, |x| Element::U8.value(x)),
    }
}
