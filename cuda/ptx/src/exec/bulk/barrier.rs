//! mbarriers: the instructions, and what each live object needs beside its 8 bytes: its phase's number, and what arrivals
//! publish to those who wait.

use super::ledger::Ledger;
use super::state::{Asyncs, Bar, Key};
use crate::exec::access::{addresses, range};
use crate::exec::flow::{At, Flow, Stop};
use crate::exec::machine::Machine;
use crate::exec::warp::{Asked, Wait, Warp};
use crate::hazard::{HazardKind, Site};
use crate::ir::Addr;
use crate::mbarrier::{Mbarrier, Misuse, State};
use crate::mem::shadow::Step;
use crate::mem::{Clock, Memory, Order, Scope, Space, Which, lanes_of};
use crate::request::FaultKind;

/// An `mbarrier` instruction.
#[allow(missing_docs)]
pub enum MbarrierOp {
    Init { addr: Addr, space: Space, count: u16 },
    Inval { addr: Addr, space: Space },
    Tx { addr: Addr, space: Space, bytes: u16, complete: bool },
    Arrive(Arrive),
    Wait(PhaseWait),
    PendingCount { count: u16, state: u16 },
}

/// What an arrival brings.
#[derive(Clone, Copy, Debug)]
pub enum Count {
    /// One arrival.
    One,
    /// As many as the register says.
    Many(u16),
    /// One arrival, and bytes to expect.
    Expect(u16),
}

/// `mbarrier.arrive` and `arrive_drop`.
#[allow(missing_docs)]
pub struct Arrive {
    pub addr: Addr,
    pub space: Space,
    pub state: u16,
    pub count: Count,
    pub drop: bool,
    pub no_complete: bool,
    /// The scope of the release; `None`: relaxed.
    pub release: Option<Scope>,
}

/// `mbarrier.test_wait` and `try_wait`.
#[allow(missing_docs)]
pub struct PhaseWait {
    pub addr: Addr,
    pub space: Space,
    pub done: u16,
    pub value: u16,
    pub parity: bool,
    pub blocks: bool,
    /// The scope of the acquire; `None`: relaxed.
    pub acquire: Option<Scope>,
}

fn value32(warp: &Warp, register: u16, lane: u32) -> u32 {
    warp.regs.r32[register as usize][lane as usize]
}

/// Executes one.
pub(super) fn execute(
    m: &mut Machine<'_>,
    asyncs: &mut Asyncs,
    warp: &mut Warp,
    op: &MbarrierOp,
    at: At<'_>,
) -> Result<Flow, Stop> {
    match op {
        MbarrierOp::Init { addr, space, count } => {
            let a = addresses(m, warp, addr, at);
            m.demand(warp, at, warp.regs.undef32(*count), "the count of an mbarrier");
            for lane in lanes_of(at.mask) {
                init(m, asyncs, warp, at.only(lane), *space, a[lane as usize], value32(warp, *count, lane))?;
            }
        }
        MbarrierOp::Inval { addr, space } => {
            let a = addresses(m, warp, addr, at);
            for lane in lanes_of(at.mask) {
                let Some(key) = find(m, asyncs, warp, at.only(lane), *space, a[lane as usize])? else { continue };
                asyncs.bars.remove(&key);
                let (segment, tracker) = m.mem.parts_of(Which::Shared(key.0));
                let step = Step { warp: &warp.order, pc: at.pc, strength: None };
                segment.unmark_mbarrier(key.1 as usize, lane, &step, tracker);
                segment.set_initialized(key.1 as usize, 8, false);
            }
        }
        MbarrierOp::Tx { addr, space, bytes, complete } => {
            let a = addresses(m, warp, addr, at);
            m.demand(warp, at, warp.regs.undef32(*bytes), "the transaction count");
            for lane in lanes_of(at.mask) {
                let Some(key) = find(m, asyncs, warp, at.only(lane), *space, a[lane as usize])? else { continue };
                visit(m, warp, at.only(lane), key);
                let bytes = value32(warp, *bytes, lane);
                let site = warp.site(at.pc, lane);
                if let Some(bar) = asyncs.bars.get_mut(&key) {
                    bar.last = Some(site);
                }
                if *complete {
                    complete_tx(m, asyncs, key, site, bytes);
                } else {
                    change(m, asyncs, key, site, |b| b.expect_tx(bytes).map(|()| false));
                }
            }
        }
        MbarrierOp::Arrive(op) => arrive(m, asyncs, warp, op, at)?,
        MbarrierOp::Wait(op) => return wait(m, asyncs, warp, op, at),
        MbarrierOp::PendingCount { count, state } => {
            let counts = warp.regs.r64[*state as usize].map(|s| State::decode(s).pending);
            warp.regs.put32(*count, &counts, at.mask);
            at.define(warp);
        }
    }
    m.effect();
    Ok(Flow::Next)
}

fn init(
    m: &mut Machine<'_>,
    asyncs: &mut Asyncs,
    warp: &Warp,
    at: At<'_>,
    space: Space,
    address: u64,
    count: u32,
) -> Result<(), Stop> {
    let lane = at.lane();
    let Some((which, offset)) = range(m, warp, at, space, address, 8, 8, true)? else { return Ok(()) };
    let Which::Shared(slot) = which else {
        return m.fault(warp, at, FaultKind::IllegalAddress, "mbarrier.init outside shared memory");
    };
    let site = warp.site(at.pc, lane);
    let object = match Mbarrier::init(count) {
        Ok(object) => object,
        Err(misuse) => {
            m.report(HazardKind::MbarrierOverflow, site, Some(address), || misuse.to_string());
            return m.fault(warp, at, FaultKind::IllegalInstruction, misuse.to_string());
        }
    };
    let step = Step { warp: &warp.order, pc: at.pc, strength: None };
    let key = (slot, offset as u32);
    let again = asyncs.bars.contains_key(&key);
    let (segment, tracker) = m.mem.parts_of(which);
    if again {
        let why = || "mbarrier.init where an mbarrier is live; mbarrier.inval comes first".to_string();
        tracker.hazards.report(HazardKind::MbarrierReinit, site, Some(address), why);
        segment.unmark_mbarrier(offset, lane, &step, tracker);
    }
    if tracker.enabled {
        segment.mark_mbarrier(offset, lane, &step, tracker);
    }
    segment.set_initialized(offset, 8, true);
    segment.bytes_mut(offset, 8).copy_from_slice(&object.encode().to_le_bytes());
    let order = &mut m.mem.tracker.order;
    let bar = Bar {
        agent: order.agent(false),
        stamp: order.tick(),
        phase: 0,
        gathering: Clock::default(),
        done: Clock::default(),
        init: (warp.id, lane, warp.order.stamp),
        fence: None,
        now: Ledger::default(),
        before: Ledger::default(),
        last: None,
        from_others: false,
        done_from_others: false,
    };
    asyncs.bars.insert(key, bar);
    if let Some(t) = &mut m.trace {
        t.begin_phase(m.pace.steps, site, key.1, 0, count);
    }
    Ok(())
}

/// The live object at an address, which the lane must know to be initialised; `None` where its CTA has ended.
pub(super) fn find(
    m: &mut Machine<'_>,
    asyncs: &mut Asyncs,
    warp: &Warp,
    at: At<'_>,
    space: Space,
    address: u64,
) -> Result<Option<Key>, Stop> {
    let lane = at.lane();
    let Some((which, offset)) = range(m, warp, at, space, address, 8, 8, true)? else { return Ok(None) };
    let site = warp.site(at.pc, lane);
    let key = match which {
        Which::Shared(slot) => Some((slot, offset as u32)),
        _ => None,
    };
    let Some((key, bar)) = key.and_then(|k| Some((k, asyncs.bars.get(&k)?))) else {
        let message = format!("no mbarrier was initialised at {address:#x}");
        m.report(HazardKind::MbarrierNotInitialized, site, Some(address), || message.clone());
        let message = format!("{}: {message}", HazardKind::MbarrierNotInitialized.what());
        return m.fault(warp, at, FaultKind::IllegalInstruction, message);
    };
    let warps = m.kernel.grid.warps;
    let (agent, by, stamp) = bar.init;
    let published = warp.order.knows(lane, agent, by, stamp, warps)
        || bar.fence.is_some_and(|(fence, stamp)| warp.order.knows(lane, fence, by, stamp, warps));
    if !published && m.mem.tracker.enabled {
        let with = Site::new(at.pc, agent, by);
        let kind = HazardKind::MbarrierUnpublished;
        let what = if warp.order.knows_loosely(agent, by, stamp, warps) { kind.strict() } else { kind.into() };
        m.mem.tracker.hazards.report_pair(what, site, Some(with), Some(address), || {
            "nothing orders the mbarrier's initialisation before this use".into()
        });
    }
    Ok(Some(key))
}

/// The lane's operation on an object in another CTA must be over before that CTA ends.
fn visit(m: &mut Machine<'_>, warp: &Warp, at: At<'_>, key: Key) {
    if key.0 != warp.home.slot() {
        m.mem.visit(&warp.order, warp.home, at.pc, at.mask, key.0, key.1.into());
    }
}

/// The object where a copy by the async proxy will complete: its initialisation must be visible to that proxy too.
pub(super) fn find_for_copy(
    m: &mut Machine<'_>,
    asyncs: &mut Asyncs,
    warp: &Warp,
    at: At<'_>,
    space: Space,
    address: u64,
) -> Result<Option<Key>, Stop> {
    let lane = at.lane();
    let Some(key) = find(m, asyncs, warp, at, space, address)? else { return Ok(None) };
    let warps = m.kernel.grid.warps;
    let bar = &asyncs.bars[&key];
    let (agent, by, stamp) = bar.init;
    let visible = warp.order.knows_fenced(lane, agent, by, stamp, warps)
        || bar.fence.is_some_and(|(fence, stamp)| warp.order.knows(lane, fence, by, stamp, warps));
    if !visible && m.mem.tracker.enabled {
        let site = warp.site(at.pc, lane);
        // Behind a barrier of the CTA cards are at peace with it, and much code has no fence there.
        let synchronized = warp.order.clock(lane).all.knows(agent, by, stamp, warps);
        let kind = HazardKind::MbarrierUnpublished;
        let what = if synchronized { kind.strict() } else { kind.into() };
        m.report(what, site, Some(address), || {
            "a copy completes on an mbarrier whose initialisation no fence.mbarrier_init (or fence.proxy.async) showed to the async proxy"
                .into()
        });
    }
    Ok(Some(key))
}

/// Applies `f`, which says whether the phase completed; a misuse is reported.
fn change(
    m: &mut Machine<'_>,
    asyncs: &mut Asyncs,
    key: Key,
    site: Site,
    f: impl FnOnce(&mut Mbarrier) -> Result<bool, Misuse>,
) -> bool {
    let offset = key.1 as usize;
    let (segment, tracker) = m.mem.parts_of(Which::Shared(key.0));
    let bits = u64::from_le_bytes(segment.bytes(offset, 8).try_into().expect("8 bytes"));
    let Some(mut object) = Mbarrier::decode(bits) else {
        tracker.hazards.report(HazardKind::MbarrierNotInitialized, site, Some(key.1.into()), || {
            "the bytes of the mbarrier were overwritten".into()
        });
        return false;
    };
    let before = object;
    let done = match f(&mut object) {
        Ok(done) => done,
        Err(misuse) => {
            tracker.hazards.report(HazardKind::MbarrierOverflow, site, Some(key.1.into()), || misuse.to_string());
            false
        }
    };
    segment.bytes_mut(offset, 8).copy_from_slice(&object.encode().to_le_bytes());
    if let Some(bar) = asyncs.bars.get_mut(&key) {
        let sent = bar.now.note(site, &before, &object, done);
        if let Some(t) = &mut m.trace {
            let left = if done { Mbarrier { pending: 0, tx: 0, ..object } } else { object };
            t.change(m.pace.steps, site, bar.init.0, key.1, sent.change(bar.phase, &left), done);
        }
    }
    if done {
        complete_phase(m, asyncs, key, site);
    }
    done
}

fn complete_phase(m: &mut Machine<'_>, asyncs: &mut Asyncs, key: Key, site: Site) {
    let order = &mut m.mem.tracker.order;
    let Some(bar) = asyncs.bars.get_mut(&key) else { return };
    let mut clock = std::mem::take(&mut bar.gathering);
    order.with_agent(&mut clock, bar.agent, bar.stamp);
    bar.done = clock;
    bar.before = std::mem::take(&mut bar.now);
    bar.done_from_others = std::mem::take(&mut bar.from_others);
    bar.stamp = order.tick();
    bar.phase += 1;
    if let Some(t) = &mut m.trace
        && let Some(object) = mbarrier_at(&mut m.mem, key)
    {
        t.begin_phase(m.pace.steps, Site::new(site.pc, bar.init.0, 0), key.1, bar.phase, object.expected);
    }
    m.effect();
    m.ready.wake_cta(key.0);
}

/// Bytes have landed.
pub(super) fn complete_tx(m: &mut Machine<'_>, asyncs: &mut Asyncs, key: Key, site: Site, bytes: u32) {
    if let Some(bar) = asyncs.bars.get_mut(&key) {
        // Whose copy lands here has started.
        if m.kernel.grid.cluster_ctas > 1 {
            Order::started(&mut bar.gathering, site.warp / m.kernel.grid.warps);
        }
        change(m, asyncs, key, site, |b| b.complete_tx(bytes));
    } else {
        m.report(HazardKind::MbarrierNotInitialized, site, Some(key.1.into()), || {
            "a copy completes on an mbarrier that is gone".into()
        });
    }
}

/// An arrival that publishes `clock`.
pub(super) fn arrive_with(m: &mut Machine<'_>, asyncs: &mut Asyncs, key: Key, site: Site, clock: &Clock) {
    let Some(bar) = asyncs.bars.get_mut(&key) else { return };
    m.mem.tracker.order.join(&mut bar.gathering, clock);
    change(m, asyncs, key, site, |b| b.arrive(1, false));
}

/// One more arrival is expected in this phase.
pub(super) fn expect_arrival(m: &mut Machine<'_>, asyncs: &mut Asyncs, key: Key, site: Site) {
    change(m, asyncs, key, site, |b| b.increase_pending().map(|()| false));
}

/// The CTA of an mbarrier ends: its last phase must have had all that came in it.
pub(super) fn end(m: &mut Machine<'_>, key: Key, bar: &Bar) {
    let (Some(object), Some(site)) = (object(m, key), bar.last) else { return };
    let Mbarrier { pending, expected, tx, .. } = object;
    if pending != expected || tx != 0 {
        m.report(HazardKind::UnfinishedPhase.strict(), site, Some(key.1.into()), || {
            let arrived = expected.saturating_sub(pending);
            format!(
                "phase {} of an mbarrier ends with its CTA: {arrived} of {expected} arrivals, {tx} bytes still expected",
                bar.phase
            )
        });
    }
}

fn object(m: &mut Machine<'_>, key: Key) -> Option<Mbarrier> {
    mbarrier_at(&mut m.mem, key)
}

fn mbarrier_at(mem: &mut Memory, key: Key) -> Option<Mbarrier> {
    let segment = mem.shared(key.0)?;
    let offset = key.1 as usize;
    Mbarrier::decode(u64::from_le_bytes(segment.bytes(offset, 8).try_into().expect("8 bytes")))
}

fn arrive(m: &mut Machine<'_>, asyncs: &mut Asyncs, warp: &mut Warp, op: &Arrive, at: At<'_>) -> Result<(), Stop> {
    let a = addresses(m, warp, &op.addr, at);
    if let Count::Many(r) | Count::Expect(r) = op.count {
        m.demand(warp, at, warp.regs.undef32(r), "the count of an arrival");
    }
    let (mut left, mut dropped) = (at.mask, 0);
    while left != 0 {
        // Lanes that arrive on one barrier publish together.
        let address = a[left.trailing_zeros() as usize];
        let lanes = lanes_of(left).filter(|&l| a[l as usize] == address).fold(0, |s, l| s | 1 << l);
        left &= !lanes;
        let mut key = None;
        for lane in lanes_of(lanes) {
            key = find(m, asyncs, warp, at.only(lane), op.space, address)?;
        }
        let Some(key) = key else {
            dropped |= lanes;
            continue;
        };
        visit(m, warp, at.of(lanes), key);
        if key.0 != warp.home.slot() && op.release == Some(Scope::Cta) {
            m.report(HazardKind::NarrowScope.strict(), warp.site(at.pc, lanes.trailing_zeros()), Some(address), || {
                "the release of an arrival on another CTA's mbarrier has the scope .cta, not .cluster".into()
            });
        }
        let value = |warp: &Warp, lane| match op.count {
            Count::One => 1,
            Count::Many(r) | Count::Expect(r) => value32(warp, r, lane),
        };
        let mut rest = lanes;
        while rest != 0 {
            // Lanes behind the one that completes the phase belong to the next, and the next alone learns what they did.
            let mut pending = object(m, key).map_or(0, |o| o.pending);
            let mut part = 0;
            for lane in lanes_of(rest) {
                part |= 1 << lane;
                pending = pending.saturating_sub(if matches!(op.count, Count::Expect(_)) { 1 } else { value(warp, lane) });
                if pending == 0 {
                    break;
                }
            }
            rest &= !part;
            let order = &mut m.mem.tracker.order;
            let clock = match op.release {
                Some(_) => order.publish(&mut warp.order, part),
                None => order.publish_fenced(&warp.order, part, Scope::Cta),
            };
            for lane in lanes_of(part) {
                let Some(bar) = asyncs.bars.get_mut(&key) else { continue };
                bar.last = Some(warp.site(at.pc, lane));
                bar.from_others |= key.0 != warp.home.slot() && op.release.is_some();
                m.mem.tracker.order.join(&mut bar.gathering, &clock);
                let phase = bar.phase;
                let pending = object(m, key).map_or(0, |o| o.pending);
                let value = value(warp, lane);
                let site = warp.site(at.pc, lane);
                change(m, asyncs, key, site, |b| {
                    let mut count = value;
                    if matches!(op.count, Count::Expect(_)) {
                        b.expect_tx(value)?;
                        count = 1;
                    }
                    if op.no_complete { b.arrive_no_complete(count, op.drop).map(|()| false) } else { b.arrive(count, op.drop) }
                });
                warp.regs.r64[op.state as usize][lane as usize] = State { phase, pending }.encode();
            }
        }
    }
    at.mark(warp, dropped);
    Ok(())
}

fn wait(m: &mut Machine<'_>, asyncs: &mut Asyncs, warp: &mut Warp, op: &PhaseWait, at: At<'_>) -> Result<Flow, Stop> {
    warp.questions += 1;
    let a = addresses(m, warp, &op.addr, at);
    let undef = if op.parity { warp.regs.undef32(op.value) } else { warp.regs.undef64(op.value) };
    m.demand(warp, at, undef, "the phase that is waited for");
    let mut over = 0;
    let mut open = None;
    let mut left = at.mask;
    while left != 0 {
        let first = left.trailing_zeros();
        let address = a[first as usize];
        let value = |l: u32| match op.parity {
            true => u64::from(value32(warp, op.value, l)),
            false => warp.regs.r64[op.value as usize][l as usize],
        };
        let wanted = value(first);
        let lanes = lanes_of(left).filter(|&l| a[l as usize] == address && value(l) == wanted).fold(0, |s, l| s | 1 << l);
        left &= !lanes;
        let mut key = None;
        for lane in lanes_of(lanes) {
            key = find(m, asyncs, warp, at.only(lane), op.space, address)?;
        }
        let Some(key) = key else {
            // Nothing will come any more.
            over |= lanes;
            continue;
        };
        let site = warp.site(at.pc, first);
        let Some(object) = object(m, key) else { continue };
        let bar = &asyncs.bars[&key];
        let past = if op.parity {
            if wanted > 1 {
                m.report(HazardKind::UndefinedBehavior, site, Some(address), || {
                    format!("a phase parity is 0 or 1, not {wanted}")
                });
            }
            object.is_past_parity(wanted & 1 == 1)
        } else {
            let phase = State::decode(wanted).phase;
            if phase > bar.phase || phase + 1 < bar.phase {
                m.report(HazardKind::MbarrierWrongPhase, site, Some(address), || {
                    format!("the state is of phase {phase}, the mbarrier is in phase {}", bar.phase)
                });
            }
            phase < bar.phase
        };
        if past {
            over |= lanes;
            if op.acquire == Some(Scope::Cta) && bar.done_from_others {
                m.report(HazardKind::NarrowScope.strict(), site, Some(address), || {
                    "the acquire has the scope .cta, not .cluster, and another CTA arrived in the phase".into()
                });
            }
            let order = &m.mem.tracker.order;
            if op.acquire.is_some() && bar.phase > 0 {
                order.acquire(&mut warp.order, lanes, &bar.done);
            } else if bar.phase > 0 {
                order.acquire_at_fence(&mut warp.order, lanes, &bar.done);
            }
        } else {
            open = Some((key, bar.phase));
        }
    }
    if let Some((key, phase)) = open
        && over == 0
        && op.blocks
        && !at.timed_out
        && !m.rng.one_in(3)
    {
        if let Some(c) = &mut m.counters {
            c.wait(at.pc);
        }
        return Ok(Flow::Retry(Wait::Mbarrier { slot: key.0, offset: key.1, phase }));
    }
    warp.regs.put_pred(op.done, over, at.mask);
    at.define(warp);
    if over == at.mask {
        m.effect();
        return Ok(Flow::Next);
    }
    if let Some((key, _)) = open {
        warp.asked = Some(Asked { key, since: warp.executed });
    }
    m.poll(warp, a[at.lane() as usize]);
    // Who asks in vain lets others run, or a loop of test_wait would starve them.
    Ok(Flow::Yield)
}
