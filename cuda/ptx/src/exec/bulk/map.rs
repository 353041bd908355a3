//! Tensor maps in memory: reading one through its own proxy, changing one, and the fences between.
//!
//! TMA reads maps through a proxy of their own (PTX ISA, *Proxies* and *membar / fence*, `.proxy.tensormap::generic`). A map that
//! the kernel itself wrote is seen there only behind a release by who wrote it (or came after), and an acquire of that map by who uses
//! it (or came before) which comes after the release. Each release counts on its own: a later one, or of another map, takes
//! nothing back. `tensormap.cp_fenceproxy` is one operation of its warp: every lane's release covers all that it copied.

use std::collections::VecDeque;

use super::state::{Asyncs, MapFence};
use crate::exec::access::{addresses, range, refused};
use crate::exec::flow::{At, Flow, Stop};
use crate::exec::machine::Machine;
use crate::exec::warp::Warp;
use crate::hazard::{HazardKind, Site};
use crate::ir::Addr;
use crate::mem::shadow::{Pattern, Step};
use crate::mem::{Block, Clock, Scope, Sem, Space, Which, lanes_of};
use crate::request::FaultKind;
use crate::tensor_map::{Field, MAP_ALIGN, MAP_BYTES, TensorMap};

/// `fence.proxy.tensormap`
pub(super) fn fence(
    m: &mut Machine<'_>,
    asyncs: &mut Asyncs,
    warp: &mut Warp,
    scope: Scope,
    addr: Option<&Addr>,
    at: At<'_>,
) -> Result<Flow, Stop> {
    let mut maps = [None; 32];
    if let Some(addr) = addr {
        let a = addresses(m, warp, addr, at);
        for lane in lanes_of(at.mask) {
            let address = a[lane as usize];
            let map = range(m, warp, at.only(lane), Space::Generic, address, MAP_BYTES as u64, MAP_ALIGN, false)?;
            let Some(map) = map else { continue };
            maps[lane as usize] = Some(map);
        }
    }
    m.mem.tracker.order.fence(&mut warp.order, at.mask, scope);
    for lane in lanes_of(at.mask) {
        match maps[lane as usize] {
            Some(map) => acquire(m, asyncs, warp, lane, map),
            None if addr.is_none() => release(m, asyncs, warp, 1 << lane),
            None => {}
        }
    }
    Ok(Flow::Next)
}

/// Releases and acquires of one map that are remembered: more than a kernel has under way at a time.
const REMEMBERED: usize = 1024;

fn remember(fences: &mut VecDeque<MapFence>, fence: MapFence) {
    if fences.len() == REMEMBERED {
        fences.pop_front();
    }
    fences.push_back(fence);
}

/// The lanes release together all that they know and did.
fn release(m: &mut Machine<'_>, asyncs: &mut Asyncs, warp: &mut Warp, lanes: u32) {
    let visible = m.mem.tracker.order.publish(&mut warp.order, lanes);
    remember(&mut asyncs.map_fences.releases, MapFence { warp: warp.id, lanes, stamp: warp.order.stamp, visible });
}

fn acquire(m: &mut Machine<'_>, asyncs: &mut Asyncs, warp: &mut Warp, lane: u32, map: (Which, usize)) {
    let order = &mut m.mem.tracker.order;
    let mut visible = Clock::default();
    for release in asyncs.map_fences.releases.iter().filter(|r| r.is_known(warp, lane, order.warps)) {
        order.join(&mut visible, &release.visible);
    }
    order.publish(&mut warp.order, 1 << lane);
    let fence = MapFence { warp: warp.id, lanes: 1 << lane, stamp: warp.order.stamp, visible };
    remember(asyncs.map_fences.acquires.entry(map).or_default(), fence);
}

impl MapFence {
    /// Whether the lane comes after it.
    fn is_known(&self, warp: &Warp, lane: u32, warps: u32) -> bool {
        lanes_of(self.lanes).any(|by| warp.order.knows(lane, self.warp, by, self.stamp, warps))
    }
}

/// The map at an address, as the lane's TMA sees it; `None` where it is gone.
pub(super) fn read(
    m: &mut Machine<'_>,
    asyncs: &mut Asyncs,
    warp: &Warp,
    at: At<'_>,
    address: u64,
) -> Result<Option<TensorMap>, Stop> {
    let lane = at.lane();
    let found = range(m, warp, at, Space::Generic, address, MAP_BYTES as u64, MAP_ALIGN, false)?;
    let Some((which, offset)) = found else { return Ok(None) };
    let warps = m.kernel.grid.warps;
    let (segment, tracker) = m.mem.parts_of(which);
    if tracker.enabled {
        let writers = segment.writers(offset, MAP_BYTES, tracker);
        let step = Step { warp: &warp.order, pc: at.pc, strength: None };
        for i in (0..MAP_BYTES).step_by(16) {
            segment.read(&Pattern::One(offset + i, 1 << lane), 16, &step, tracker);
        }
        for (who, stamp, pc) in writers {
            let acquires = asyncs.map_fences.acquires.get(&(which, offset)).into_iter().flatten().rev();
            let mut known = acquires.filter(|a| a.is_known(warp, lane, warps));
            if !known.any(|a| a.visible.all.knows(who / 32, who % 32, stamp, warps)) {
                let (site, other) = (Site::new(at.pc, warp.id, lane), Site::new(pc, who / 32, who % 32));
                tracker.hazards.report_pair(HazardKind::MissingProxyFence, site, Some(other), Some(address), || {
                    "a tensor map that the kernel wrote is used without fence.proxy.tensormap (release, then acquire) between"
                        .into()
                });
            }
        }
    }
    let bytes: [u8; MAP_BYTES] = segment.bytes(offset, MAP_BYTES).try_into().expect("the range was checked");
    let Some(map) = TensorMap::decode(&bytes) else {
        return m.fault(warp, at, FaultKind::IllegalInstruction, format!("no tensor map at {address:#x}"));
    };
    if let Err(e) = map.check() {
        return m.fault(warp, at, FaultKind::IllegalInstruction, format!("tensor map: {e}"));
    }
    Ok(Some(map))
}

/// `tensormap.cp_fenceproxy`: the warp copies a map from shared to global memory, and then releases it.
pub(super) fn copy(
    m: &mut Machine<'_>,
    asyncs: &mut Asyncs,
    warp: &mut Warp,
    to: &Addr,
    from: &Addr,
    scope: Scope,
    at: At<'_>,
) -> Result<Flow, Stop> {
    if !at.is_converged(warp) {
        return Ok(Flow::Converge);
    }
    // Eight lanes move 16 bytes each.
    let lanes = 0xFF & at.mask;
    let (mut to, mut from) = (addresses(m, warp, to, at), addresses(m, warp, from, at));
    for lane in 0..8 {
        (to[lane], from[lane]) = (to[lane] + 16 * lane as u64, from[lane] + 16 * lane as u64);
    }
    let mut block = Block::default();
    if let Err(fault) = m.mem.load(&mut warp.by(at.pc), Space::Shared, &from, lanes, 16, Sem::Weak, &mut block) {
        return refused(m, warp, at, fault);
    }
    if let Err(fault) = m.mem.store(&mut warp.by(at.pc), Space::Global, &to, lanes, 16, Sem::Weak, &block) {
        return refused(m, warp, at, fault);
    }
    let order = &mut m.mem.tracker.order;
    order.sync_lanes(&mut warp.order, at.mask);
    order.fence(&mut warp.order, at.mask, scope);
    release(m, asyncs, warp, at.mask);
    Ok(Flow::Next)
}

/// `tensormap.replace`
pub(super) fn replace(
    m: &mut Machine<'_>,
    warp: &mut Warp,
    addr: &Addr,
    space: Space,
    field: Field,
    (value, wide): (u16, bool),
    at: At<'_>,
) -> Result<Flow, Stop> {
    let a = addresses(m, warp, addr, at);
    for lane in lanes_of(at.mask) {
        let value = match wide {
            true => warp.regs.r64[value as usize][lane as usize],
            false => u64::from(warp.regs.r32[value as usize][lane as usize]),
        };
        let address = a[lane as usize];
        let found = range(m, warp, at.only(lane), space, address, MAP_BYTES as u64, MAP_ALIGN, true)?;
        let Some((which, offset)) = found else { continue };
        let (segment, tracker) = m.mem.parts_of(which);
        let bytes: [u8; MAP_BYTES] = segment.bytes(offset, MAP_BYTES).try_into().expect("the range was checked");
        // A map may be made from nothing: zeros, of which every field is then set.
        let blank = bytes.iter().all(|b| *b == 0).then(TensorMap::blank);
        let Some(mut map) = blank.or_else(|| TensorMap::decode(&bytes)) else {
            return m.fault(warp, at.only(lane), FaultKind::IllegalInstruction, format!("no tensor map at {address:#x}"));
        };
        if map.replace(field, value).is_none() {
            let message = format!("tensormap.replace: {value} is no {field:?} of this map");
            return m.fault(warp, at.only(lane), FaultKind::IllegalInstruction, message);
        }
        let step = Step { warp: &warp.order, pc: at.pc, strength: None };
        for i in (0..MAP_BYTES).step_by(8) {
            if tracker.enabled {
                segment.update(offset + i, 8, lane, &step, tracker);
            }
        }
        segment.bytes_mut(offset, MAP_BYTES).copy_from_slice(&map.to_bytes());
    }
    m.effect();
    Ok(Flow::Next)
}
