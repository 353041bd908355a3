//! Barriers of CTAs, warps and clusters, and mbarriers: who waits until when.

use super::TimeError;
use super::cta::{Bar, Named};
use super::engine::{Engine, Step};
use super::sm::Event;
use super::warp::{Timed, Why};
use crate::exec::barriers::{Barrier, BarrierOp};
use crate::exec::bulk::barrier::{Count, MbarrierOp};
use crate::exec::flow::At;
use crate::exec::lanes::lanes_of;
use crate::exec::residents::Reduce;
use crate::exec::warp::Wait;
use crate::exec::warp_ops;
use crate::hazard::HazardKind;
use crate::ir::{Addr, Class, Reg};
use crate::mbarrier::{Mbarrier, State};
use crate::mem::{Space, Which};

/// An mbarrier: slot of its CTA, offset in its shared memory.
type Key = (u32, u32);

impl Engine<'_> {
    /// `bar`, `barrier`, `bar.warp.sync`, `barrier.cluster`.
    pub(super) fn barrier(&mut self, timed: &mut Timed, op: &BarrierOp, at: At<'_>, time: u64) -> Result<Step, TimeError> {
        let next = Step::Next(time, Why::Issue);
        match op {
            BarrierOp::Named(b) => self.named(timed, b, at, time),
            BarrierOp::WarpSync(members) => {
                let flow = warp_ops::gather(&mut self.machine, &mut timed.warp, *members, at).map_err(TimeError::from)?;
                Ok(flow.and_then(super::execute::gathering).map_or(next, Step::Retry))
            }
            BarrierOp::ClusterArrive { aligned, .. } | BarrierOp::ClusterWait { aligned, .. }
                if *aligned && !at.is_converged(&timed.warp) =>
            {
                Ok(Step::Retry(Wait::Converge))
            }
            BarrierOp::ClusterArrive { .. } => {
                let (slot, index) = (timed.warp.slot, timed.warp.index);
                let n = self.machine.kernel.grid.cluster_ctas;
                let cluster = self.clusters[(slot / n) as usize].as_mut().expect("its cluster is there");
                cluster.arrived += at.mask.count_ones();
                cluster.pending.push((slot, index, cluster.generation));
                self.complete_cluster(slot / n, time, timed.warp.live.count_ones());
                Ok(next)
            }
            BarrierOp::ClusterWait { .. } => {
                let (slot, index) = (timed.warp.slot, timed.warp.index);
                let n = self.machine.kernel.grid.cluster_ctas;
                let cluster = self.clusters[(slot / n) as usize].as_mut().expect("its cluster is there");
                let Some(i) = cluster.pending.iter().position(|p| (p.0, p.1) == (slot, index)) else {
                    return Ok(next);
                };
                let generation = cluster.pending[i].2;
                if cluster.generation == generation {
                    cluster.waiting.push((slot, index));
                    return Ok(Step::Retry(Wait::ClusterBarrier { generation }));
                }
                cluster.pending.swap_remove(i);
                Ok(Step::Next(cluster.released.max(time), Why::Cluster))
            }
        }
    }

    fn named(&mut self, timed: &mut Timed, b: &Barrier, at: At<'_>, time: u64) -> Result<Step, TimeError> {
        if b.aligned && !at.is_converged(&timed.warp) {
            return Ok(Step::Retry(Wait::Converge));
        }
        let id = self.word(timed, b.id, at, "the barrier's number")?;
        let count = b.count.map(|c| self.word(timed, c, at, "the barrier's count")).transpose()?;
        let slot = timed.warp.slot;
        let index = timed.warp.index;
        let cta = self.ctas[slot as usize].as_mut().expect("its CTA is there");
        let Some(state) = cta.barriers.get_mut(id as usize) else {
            return Err(TimeError::Kernel { message: format!("barrier {id}: there are 16") });
        };
        state.count = count;
        let live = timed.warp.live.count_ones();
        state.arrived += if b.aligned { 32 } else { at.mask.count_ones() * 32 / live.max(1) };
        if let Some((how, d, p, negated)) = b.reduce {
            let regs = &timed.warp.regs;
            let votes = if negated { !regs.pred[p as usize] } else { regs.pred[p as usize] } & at.mask;
            state.unknown |= regs.undef_pred(p) & at.mask != 0;
            state.votes[0] += votes.count_ones();
            state.votes[1] += at.mask.count_ones();
            state.results.push((index, at.mask, how, d));
            at.define(&mut timed.warp);
        }
        let generation = state.generation;
        if !b.arrive {
            state.waiting.push(index);
        }
        self.complete_barrier(slot, id, time, Some(timed));
        let cta = self.ctas[slot as usize].as_ref().expect("its CTA is there");
        if b.arrive {
            return Ok(Step::Next(time, Why::Issue));
        }
        if cta.barriers[id as usize].generation != generation {
            return Ok(Step::Next(time + self.card.barrier, Why::Barrier));
        }
        Ok(Step::Block(Wait::Barrier { id, generation }))
    }

    /// Completes a barrier of a CTA if everyone is there. `running` is the warp that is taken out of it.
    pub(super) fn complete_barrier(&mut self, slot: u32, id: u32, time: u64, mut running: Option<&mut Timed>) {
        let cta = self.ctas[slot as usize].as_mut().expect("its CTA is there");
        let wanted = cta.barriers[id as usize].count.unwrap_or(32 * cta.alive);
        let state = &mut cta.barriers[id as usize];
        if state.arrived == 0 || state.arrived < wanted {
            return;
        }
        let generation = state.generation + 1;
        let state = std::mem::replace(state, Named { generation, ..Named::default() });
        for (w, lanes, how, d) in state.results {
            let timed = match &mut running {
                Some(t) if t.warp.index == w => Some(&mut **t),
                _ => cta.warps[w as usize].as_deref_mut(),
            };
            let Some(timed) = timed else { continue };
            let [popc, voters] = state.votes;
            let (reg, holds) = match how {
                Reduce::Popc => {
                    timed.warp.regs.put32(d, &[popc; 32], lanes);
                    (Reg { class: Class::B32, index: d }, false)
                }
                Reduce::And => (Reg { class: Class::Pred, index: d }, popc == voters),
                Reduce::Or => (Reg { class: Class::Pred, index: d }, popc > 0),
            };
            if reg.class == Class::Pred {
                timed.warp.regs.put_pred(d, if holds { u32::MAX } else { 0 }, lanes);
            }
            timed.warp.regs.set_undef(reg, if state.unknown { u32::MAX } else { 0 }, lanes);
        }
        for w in state.waiting {
            self.wake(slot, w, time + self.card.barrier);
        }
    }

    /// Completes a cluster's barrier if every live thread has arrived, those of a `running` warp of so many lanes too, which is taken out of its
    /// CTA.
    pub(super) fn complete_cluster(&mut self, cluster: u32, time: u64, running: u32) {
        let n = self.machine.kernel.grid.cluster_ctas;
        let first = (cluster * n) as usize;
        let Some(state) = self.clusters[cluster as usize].as_mut() else { return };
        if state.arrived == 0 {
            return;
        }
        let warps = self.ctas[first..first + n as usize].iter().flatten().flat_map(|c| c.warps.iter().flatten());
        let live = running + warps.map(|w| w.warp.live.count_ones()).sum::<u32>();
        if state.arrived < live {
            return;
        }
        state.arrived = 0;
        state.generation += 1;
        state.released = time + self.card.cluster_barrier;
        let (released, waiting) = (state.released, std::mem::take(&mut state.waiting));
        for (slot, warp) in waiting {
            let Some(cta) = self.ctas[slot as usize].as_ref() else { continue };
            let event = Event::Wake { slot, cta: cta.linear, warp };
            self.sms[cta.sm as usize].expect(released, event);
        }
    }

    /// The CTA and the offset of an mbarrier.
    pub(super) fn mbarrier_at(&mut self, timed: &Timed, space: Space, address: u64, at: At<'_>) -> Result<Key, TimeError> {
        match self.machine.mem.locate(timed.warp.home, space, address, true) {
            Ok((Which::Shared(slot), base, _)) => Ok((slot, (address - base) as u32)),
            Ok(_) => Err(self.misplaced(at, address, HazardKind::MbarrierNotInitialized)),
            // The hazard is the interpreter's to name; here the operation goes nowhere.
            Err(HazardKind::PeerGone) => Ok((u32::MAX, 0)),
            Err(kind) => Err(self.misplaced(at, address, kind)),
        }
    }

    /// `mbarrier…`
    pub(super) fn mbarrier(&mut self, timed: &mut Timed, op: &MbarrierOp, at: At<'_>, time: u64) -> Result<Step, TimeError> {
        let next = Step::Next(time, Why::Issue);
        let own = timed.warp.slot;
        match op {
            MbarrierOp::Init { addr, space, count } => {
                for (key, lane) in self.keys(timed, addr, *space, at)? {
                    let count = self.word(timed, *count, at.only(lane), "the count of an mbarrier")?;
                    let state = Mbarrier::init(count).map_err(|e| TimeError::Kernel { message: e.to_string() })?;
                    let cta = self.ctas[key.0 as usize].as_mut().expect("it was located");
                    cta.mbarriers.retain(|b| b.offset != key.1);
                    cta.mbarriers.push(Bar { offset: key.1, state, phase: 0, waiting: Vec::new() });
                }
            }
            MbarrierOp::Inval { addr, space } => {
                for (key, _) in self.keys(timed, addr, *space, at)? {
                    self.ctas[key.0 as usize].as_mut().expect("it was located").mbarriers.retain(|b| b.offset != key.1);
                }
            }
            MbarrierOp::Tx { addr, space, bytes, complete } => {
                for (key, lane) in self.keys(timed, addr, *space, at)? {
                    let bytes = self.word(timed, *bytes, at.only(lane), "the transaction count")?;
                    let complete = *complete;
                    self.change(key.0, key.1, time, |b| match complete {
                        true => b.complete_tx(bytes).unwrap_or(false),
                        false => b.expect_tx(bytes).is_err(),
                    });
                }
            }
            MbarrierOp::Arrive(op) => {
                let keys = self.keys(timed, &op.addr, op.space, at)?;
                let mut state = [0; 32];
                for (key, lane) in keys {
                    let count = match op.count {
                        Count::One | Count::Expect(_) => 1,
                        Count::Many(r) => self.word(timed, r, at.only(lane), "the count of an arrival")?,
                    };
                    let expected = match op.count {
                        Count::Expect(r) => Some(self.word(timed, r, at.only(lane), "the bytes to expect")?),
                        _ => None,
                    };
                    let Some(cta) = self.ctas.get_mut(key.0 as usize).and_then(|c| c.as_mut()) else { continue };
                    let (sm, linear) = (cta.sm, cta.linear);
                    let Some(bar) = cta.mbarrier(key.1) else {
                        return Err(self.misplaced(at, key.1.into(), HazardKind::MbarrierNotInitialized));
                    };
                    state[lane as usize] = State { phase: bar.phase, pending: bar.state.pending }.encode();
                    if let Some(bytes) = expected {
                        let _ = bar.state.expect_tx(bytes);
                    }
                    if key.0 == own {
                        self.change(key.0, key.1, time, |b| b.arrive(count, op.drop).unwrap_or(false));
                    } else {
                        let event = Event::Arrived { slot: key.0, cta: linear, offset: key.1, count };
                        self.sms[sm as usize].expect(time + self.card.remote, event);
                    }
                }
                timed.warp.regs.put64(op.state, &state, at.mask);
                at.define(&mut timed.warp);
                timed.set_ready(at.defs, time + self.card.mbarrier);
            }
            MbarrierOp::Wait(op) => {
                let value = if op.parity { Class::B32 } else { Class::B64 };
                let reg = Reg { class: value, index: op.value };
                if timed.warp.regs.undef(reg) & at.mask != 0 {
                    return Err(self.unknown(timed, at, reg, "the phase of a wait"));
                }
                let mut passed = 0;
                for (key, lane) in self.keys(timed, &op.addr, op.space, at)? {
                    let cta = self.ctas[key.0 as usize].as_mut().expect("it was located");
                    let Some(bar) = cta.mbarrier(key.1) else {
                        return Err(self.misplaced(at, key.1.into(), HazardKind::MbarrierNotInitialized));
                    };
                    let value = timed.warp.regs.get(reg, lane as usize);
                    let (over, phase) = match op.parity {
                        true => (bar.state.is_past_parity(value & 1 == 1), bar.phase),
                        false => (bar.phase > State::decode(value).phase, State::decode(value).phase),
                    };
                    if over {
                        passed |= 1 << lane;
                    } else if op.blocks {
                        bar.waiting.push(timed.warp.index);
                        return Ok(Step::Retry(Wait::Mbarrier { slot: key.0, offset: key.1, phase }));
                    }
                }
                timed.warp.regs.put_pred(op.done, passed, at.mask);
                at.define(&mut timed.warp);
                timed.set_ready(at.defs, time + self.card.predicate);
            }
            MbarrierOp::PendingCount { count, state } => {
                let counts = timed.warp.regs.r64[*state as usize].map(|s| State::decode(s).pending);
                timed.warp.regs.put32(*count, &counts, at.mask);
                at.define(&mut timed.warp);
            }
        }
        Ok(next)
    }

    /// The mbarriers that the lanes name.
    fn keys(&mut self, timed: &Timed, addr: &Addr, space: Space, at: At<'_>) -> Result<Vec<(Key, u32)>, TimeError> {
        let a = self.addresses(timed, addr, at)?;
        let mut keys = Vec::with_capacity(1);
        for lane in lanes_of(at.mask) {
            // Most often all lanes name one.
            let same = keys.last().filter(|_| lane > 0 && a[lane] == a[lane - 1] && at.mask >> (lane - 1) & 1 == 1);
            let key = match same {
                Some((key, _)) => *key,
                None => self.mbarrier_at(timed, space, a[lane], at)?,
            };
            keys.push((key, lane as u32));
        }
        Ok(keys)
    }
}
