//! Issue: from an instruction's operands to an operation in the queue, with every check of addresses and sizes.

use super::barrier;
use super::map;
use super::queue;
use super::state::{Asyncs, End, Key, Pending, Piece};
use crate::exec::access::{addresses, range, within};
use crate::exec::combine::Action;
use crate::exec::flow::{At, Flow, Stop};
use crate::exec::machine::Machine;
use crate::exec::warp::Warp;
use crate::hazard::HazardKind;
use crate::ir::{Addr, Class, Reg};
use crate::mem::shadow::{AsyncStep, IN_FLIGHT, Pattern, Step};
use crate::mem::{Layout, Scope, Space, Which, lanes_of, mapa};
use crate::request::FaultKind;
use crate::tensor_map::{ElementType, Interleave, TensorMap};
use crate::text::ast::Type;

/// `cp.async`: to shared memory, from global memory.
#[allow(missing_docs)]
pub struct CopyAsync {
    pub to: Addr,
    pub from: Addr,
    pub bytes: u32,
    /// Bytes that are read; the rest is zero.
    pub size: Option<u16>,
    /// Predicate, and whether it is negated, under which nothing is read.
    pub ignore: Option<(u16, bool)>,
}

/// One side of a bulk copy.
pub enum Side {
    /// Shared memory, of any CTA in the cluster.
    Shared(Addr),
    /// Global memory.
    Global(Addr),
    /// A box of a tensor: its map, and registers of the coordinates.
    Tensor {
        /// Generic address of the map.
        map: Addr,
        /// Innermost first.
        coordinates: Vec<u16>,
    },
}

/// How a bulk copy's completion is told.
pub enum Signal {
    /// By bytes on an mbarrier.
    Barrier(Addr),
    /// By the thread's bulk group.
    Group,
}

/// `cp.async.bulk`, `cp.reduce.async.bulk`, plain and tensor.
#[allow(missing_docs)]
pub struct CopyBulk {
    pub to: Side,
    pub from: Side,
    /// Register of the bytes; a tensor's box has its own.
    pub size: Option<u16>,
    pub signal: Signal,
    /// Register of the mask of CTAs.
    pub multicast: Option<u16>,
    /// A reduction, and its type unless the tensor map has it.
    pub reduce: Option<(Action, Option<Type>)>,
}

/// An address and the space it counts in.
#[allow(missing_docs)]
pub struct Target {
    pub addr: Addr,
    pub space: Space,
}

/// `st.async` and `red.async`.
#[allow(missing_docs)]
pub struct StoreAsync {
    pub target: Target,
    /// Registers, and whether they have 64 bits.
    pub values: Vec<(u16, bool)>,
    pub barrier: Addr,
    pub reduce: Option<(Action, Type)>,
}

/// `cp.async`
pub(super) fn copy_async(
    m: &mut Machine<'_>,
    asyncs: &mut Asyncs,
    warp: &mut Warp,
    op: &CopyAsync,
    at: At<'_>,
) -> Result<Flow, Stop> {
    let to = addresses(m, warp, &op.to, at);
    let from = addresses(m, warp, &op.from, at);
    let ignored = op.ignore.map_or(0, |(p, negated)| {
        let p = warp.regs.pred[p as usize];
        if negated { !p } else { p }
    });
    let who = queue::copy_agent(m, asyncs, warp.id) * 32;
    let mut read = 0;
    for lane in lanes_of(at.mask) {
        let l = lane as usize;
        let bytes = op.bytes as usize;
        let mut valid = op.size.map_or(op.bytes, |r| warp.regs.r32[r as usize][l]);
        if ignored >> lane & 1 == 1 {
            valid = 0;
        }
        if valid > op.bytes {
            let message = format!("cp.async: {valid} bytes are read of {} that are copied", op.bytes);
            return m.fault(warp, at.only(lane), FaultKind::IllegalInstruction, message);
        }
        let to = range(m, warp, at.only(lane), Space::Shared, to[l], op.bytes.into(), op.bytes.into(), true)?;
        let Some((to, to_offset)) = to else { continue };
        let mut source = None;
        if valid > 0 {
            let found = range(m, warp, at.only(lane), Space::Global, from[l], valid.into(), op.bytes.into(), false)?;
            read |= 1 << lane;
            source = found;
        }
        let enabled = m.mem.tracker.enabled;
        if let Some((which, offset)) = source.filter(|_| enabled) {
            let step = Step { warp: &warp.order, pc: at.pc, strength: None };
            let (segment, tracker) = m.mem.parts_of(which);
            for unit in (0..valid as usize).step_by(4) {
                let n = (valid as usize - unit).min(4);
                let n = if n == 3 { 4.min(bytes) } else { n };
                segment.read(&Pattern::One(offset + unit, 1 << lane), n, &step, tracker);
            }
        }
        let (segment, tracker) = m.mem.parts_of(to);
        if enabled {
            let issuers = [(&warp.order, lane)];
            let step =
                AsyncStep { who: who + lane, stamp: IN_FLIGHT, issuers: &issuers, pc: at.pc, proxy: false, strength: None };
            segment.touch_async(to_offset, bytes, true, &step, tracker);
        }
        segment.set_initialized(to_offset, bytes, false);
        segment.bytes_mut(to_offset, bytes).fill(0xFF);
        let site = warp.site(at.pc, lane);
        queue::push_copy(m, asyncs, warp.id, lane, site, source, (to, to_offset), op.bytes, valid);
    }
    if let Some(c) = &mut m.counters {
        c.global(at.pc, read, &from, op.bytes);
    }
    m.effect();
    Ok(Flow::Next)
}

/// `cp.async.mbarrier.arrive`: the lanes' copies so far, and then an arrival, become operations of the barrier.
pub(super) fn arrive_copies(
    m: &mut Machine<'_>,
    asyncs: &mut Asyncs,
    warp: &mut Warp,
    addr: &Addr,
    space: Space,
    noinc: bool,
    at: At<'_>,
) -> Result<Flow, Stop> {
    let a = addresses(m, warp, addr, at);
    let mut keys = [None; 32];
    for lane in lanes_of(at.mask) {
        keys[lane as usize] = barrier::find(m, asyncs, warp, at.only(lane), space, a[lane as usize])?;
    }
    let order = &mut m.mem.tracker.order;
    let agent = order.agent(true);
    let stamp = order.now();
    let mut clock = order.publish(&mut warp.order, at.mask);
    order.with_agent_lanes(&mut clock, agent, at.mask, stamp);
    for lane in lanes_of(at.mask) {
        let Some(key) = keys[lane as usize] else { continue };
        let site = warp.site(at.pc, lane);
        if !noinc {
            barrier::expect_arrival(m, asyncs, key, site);
        }
        queue::hand_over_copies(m, asyncs, warp.id, lane, site, agent * 32 + lane, stamp, key, clock.clone());
    }
    m.effect();
    Ok(Flow::Next)
}

/// One copy of a lane, resolved: both memories, the pieces, and what lies outside of the tensor.
struct Resolved {
    to: Which,
    from: Which,
    pieces: Vec<Piece>,
    fills: Vec<(u32, u32)>,
    fill: [u8; 8],
    /// The range of shared memory that is written or read.
    box_range: (u32, u32),
    /// Bytes that the mbarrier counts.
    bytes: u32,
    reduce: Option<(Action, Type)>,
    /// How a tensor lies in shared memory.
    layout: Option<Layout>,
}

/// `cp.async.bulk…`
pub(super) fn copy_bulk(
    m: &mut Machine<'_>,
    asyncs: &mut Asyncs,
    warp: &mut Warp,
    op: &CopyBulk,
    at: At<'_>,
) -> Result<Flow, Stop> {
    let multicast = match op.multicast {
        Some(r) => {
            m.demand(warp, at, warp.regs.undef32(r), "the multicast mask");
            Some(warp.regs.r32[r as usize])
        }
        None => None,
    };
    let mut left = at.mask;
    while left != 0 {
        let lane = left.trailing_zeros();
        let alike = lanes_of(left).filter(|&l| op.is_same(warp, lane, l)).fold(0, |mask, l| mask | 1 << l);
        left &= !alike;
        if alike.count_ones() > 1 && (op.reduce.is_some() || matches!(op.signal, Signal::Barrier(_))) {
            m.report(HazardKind::UndefinedBehavior.strict(), warp.site(at.pc, lane), None, || {
                let n = alike.count_ones();
                format!("{n} threads issue one and the same bulk copy; a card makes one of it, the ISA counts it {n} times")
            });
        }
        let resolved = match (&op.to, &op.from) {
            (Side::Tensor { map, coordinates }, Side::Shared(addr)) | (Side::Shared(addr), Side::Tensor { map, coordinates }) => {
                let store = matches!(op.to, Side::Tensor { .. });
                match tensor(m, asyncs, warp, at.only(lane), (map, coordinates), addr, store)? {
                    Some(r) => Some(reduction_of(m, warp, at.only(lane), op, r)?),
                    None => None,
                }
            }
            (Side::Shared(to) | Side::Global(to), Side::Shared(from) | Side::Global(from)) => {
                plain(m, warp, at.only(lane), op, to, from)?
            }
            _ => unreachable!("a tensor is copied to or from shared memory"),
        };
        let Some(resolved) = resolved else { continue };
        count(m, &resolved, at.pc);
        match &op.signal {
            Signal::Group => group(m, asyncs, warp, at.only(lane), alike, resolved),
            Signal::Barrier(addr) => {
                let address = addresses(m, warp, addr, at)[lane as usize];
                let mask = multicast.as_ref().map(|v| v[lane as usize]);
                signalled(m, asyncs, warp, at.only(lane), resolved, address, mask)?;
            }
        }
    }
    m.effect();
    Ok(Flow::Next)
}

impl CopyBulk {
    /// Whether two lanes give it the same operands.
    ///
    /// The ISA has each thread issue a copy of its own. A card issues a bulk copy once for a warp and set of operands (its operands
    /// are uniform registers; where lanes have different ones, the assembler makes a loop over them), and epilogues in which a whole
    /// warp executes one store count on it.
    pub(crate) fn is_same(&self, warp: &Warp, a: u32, b: u32) -> bool {
        let same = |reg: Reg| warp.regs.get(reg, a as usize) == warp.regs.get(reg, b as usize);
        let word = |&index: &u16| same(Reg { class: Class::B32, index });
        let side = |side: &Side| match side {
            Side::Shared(addr) | Side::Global(addr) => same(addr.base),
            Side::Tensor { map, coordinates } => same(map.base) && coordinates.iter().all(word),
        };
        let signal = match &self.signal {
            Signal::Barrier(addr) => same(addr.base),
            Signal::Group => true,
        };
        a == b || (side(&self.to) && side(&self.from) && signal && self.size.iter().chain(&self.multicast).all(word))
    }
}

fn count(m: &mut Machine<'_>, copy: &Resolved, pc: u32) {
    let Some(counters) = &mut m.counters else { return };
    counters.bulk(pc, copy.pieces.iter().map(|p| u64::from(p.len)).sum());
    for (which, source) in [(copy.from, true), (copy.to, false)] {
        if matches!(which, Which::Global(_)) {
            let base = m.mem.parts_of(which).0.base;
            for p in &copy.pieces {
                counters.touch(base + u64::from(if source { p.from } else { p.to }), p.len.into());
            }
        }
    }
}

/// The type that a reduction has on a tensor's elements, if it has any.
fn reduced_type(element: ElementType, action: Action) -> Option<Type> {
    use ElementType as E;
    let bits = matches!(action, Action::And | Action::Or | Action::Xor);
    let ty = match element {
        E::U32 | E::I32 if bits => Type::B32,
        E::U64 | E::I64 if bits => Type::B64,
        E::U32 => Type::U32,
        E::I32 => Type::S32,
        // Two's complement: an addition of u64 is one of s64.
        E::I64 if action == Action::Add => Type::U64,
        E::U64 => Type::U64,
        E::I64 => Type::S64,
        E::F16 => Type::F16,
        E::Bf16 => Type::BF16,
        E::F32 | E::F32Ftz => Type::F32,
        E::F64 => Type::F64,
        E::U8 | E::U16 | E::Tf32 | E::Tf32Ftz => return None,
    };
    action.reduces(ty).then_some(ty)
}

fn reduction_of(m: &Machine<'_>, warp: &Warp, at: At<'_>, op: &CopyBulk, r: (Resolved, TensorMap)) -> Result<Resolved, Stop> {
    let (mut resolved, map) = r;
    if let Some((how, _)) = op.reduce {
        let Some(ty) = reduced_type(map.element, how) else {
            let message = format!("there is no reduction {how:?} of {:?}", map.element);
            return m.fault(warp, at, FaultKind::IllegalInstruction, message);
        };
        resolved.reduce = Some((how, ty));
    }
    Ok(resolved)
}

/// `None`: it is dropped, as one side is gone.
fn plain(m: &mut Machine<'_>, warp: &Warp, at: At<'_>, op: &CopyBulk, to: &Addr, from: &Addr) -> Result<Option<Resolved>, Stop> {
    let lane = at.lane();
    let size = op.size.expect("a plain copy has a size");
    m.demand(warp, at, warp.regs.undef32(size), "the size of a bulk copy");
    let bytes = warp.regs.r32[size as usize][lane as usize];
    if !bytes.is_multiple_of(16) {
        let message = format!("a bulk copy of {bytes} bytes, which is no multiple of 16");
        let site = warp.site(at.pc, lane);
        m.report(HazardKind::Misaligned, site, None, || message.clone());
        return m.fault(warp, at, FaultKind::IllegalInstruction, message);
    }
    let space = |side: &Side| if matches!(side, Side::Global(_)) { Space::Global } else { Space::Shared };
    let (ta, fa) = (addresses(m, warp, to, at), addresses(m, warp, from, at));
    if bytes > 0 {
        within(m, warp, to, at, &ta, bytes.into());
        within(m, warp, from, at, &fa, bytes.into());
    }
    let (ta, fa) = (ta[lane as usize], fa[lane as usize]);
    let from = range(m, warp, at, space(&op.from), fa, bytes.into(), 16, false)?;
    let to = range(m, warp, at, space(&op.to), ta, bytes.into(), 16, true)?;
    let (Some((from, from_offset)), Some((to, to_offset))) = (from, to) else { return Ok(None) };
    let shared = if matches!(to, Which::Shared(_)) { to_offset } else { from_offset } as u32;
    Ok(Some(Resolved {
        to,
        from,
        pieces: vec![Piece { from: from_offset as u32, to: to_offset as u32, len: bytes }],
        fills: Vec::new(),
        fill: [0; 8],
        box_range: (shared, bytes),
        bytes,
        reduce: op.reduce.map(|(how, ty)| (how, ty.expect("a plain reduction names its type"))),
        layout: None,
    }))
}

/// `None`: it is dropped, as one side is gone.
fn tensor(
    m: &mut Machine<'_>,
    asyncs: &mut Asyncs,
    warp: &mut Warp,
    at: At<'_>,
    (map_address, coordinates): (&Addr, &[u16]),
    addr: &Addr,
    store: bool,
) -> Result<Option<(Resolved, TensorMap)>, Stop> {
    let lane = at.lane();
    let l = lane as usize;
    let map_address = addresses(m, warp, map_address, at)[l];
    let Some(map) = map::read(m, asyncs, warp, at, map_address)? else { return Ok(None) };
    if map.dims.len() != coordinates.len() {
        let message = format!("{} coordinates for a tensor map of rank {}", coordinates.len(), map.dims.len());
        return m.fault(warp, at, FaultKind::IllegalInstruction, message);
    }
    for &c in coordinates {
        m.demand(warp, at, warp.regs.undef32(c), "a coordinate of a tensor copy");
    }
    let coordinates: Vec<i32> = coordinates.iter().map(|&c| warp.regs.r32[c as usize][l] as i32).collect();
    let box_bytes = map.box_bytes();
    let address = addresses(m, warp, addr, at);
    within(m, warp, addr, at, &address, box_bytes.into());
    let address = address[l];
    let found = range(m, warp, at, Space::Shared, address, box_bytes.into(), 128, !store)?;
    let Some((shared, start)) = found else { return Ok(None) };
    let start = start as u32;
    let (mut pieces, mut fills) = (Vec::new(), Vec::new());
    let mut global: Option<(Which, u64, u64)> = None;
    let mut bad = None;
    let swizzle = map.swizzle;
    let swizzled = swizzle.span() > 16;
    let (mut low, mut high) = (u32::MAX, 0);
    map.rows(&coordinates, |row| {
        let width = map.extents()[0] * map.element.bytes() as u32;
        let step = if swizzled { 16 } else { width };
        for chunk in (0..width).step_by(step as usize) {
            let place = swizzle.apply(start + row.offset + chunk, 0);
            (low, high) = (low.min(place), high.max(place + step));
            let (a, b) = (chunk.max(row.skip), (chunk + step).min(row.skip + row.bytes));
            if a >= b {
                fills.push((place, step));
                continue;
            }
            if a > chunk {
                fills.push((place, a - chunk));
            }
            if b < chunk + step {
                fills.push((place + b - chunk, chunk + step - b));
            }
            let len = b - a;
            let address = row.address.wrapping_add(u64::from(a - row.skip));
            let inside = |g: &(Which, u64, u64)| address.wrapping_sub(g.1).checked_add(len.into()).is_some_and(|end| end <= g.2);
            if !global.as_ref().is_some_and(inside) {
                match m.mem.locate(warp.home, Space::Global, address, store) {
                    Ok(found) if inside(&found) && global.is_none_or(|g| g.0 == found.0) => global = Some(found),
                    Ok(_) => {
                        bad.get_or_insert((HazardKind::OutOfBounds, address));
                        continue;
                    }
                    Err(kind) => {
                        bad.get_or_insert((kind, address));
                        continue;
                    }
                }
            }
            let base = global.expect("just located").1;
            let (outer, inner) = ((address - base) as u32, place + a - chunk);
            pieces.push(if store { Piece { from: inner, to: outer, len } } else { Piece { from: outer, to: inner, len } });
        }
    });
    if let Some((kind, address)) = bad {
        let message = format!("the tensor map leads to {address:#x}: {}", kind.what());
        let site = warp.site(at.pc, lane);
        m.report(kind, site, Some(address), || message.clone());
        return m.fault(warp, at, FaultKind::IllegalAddress, message);
    }
    // Chunks of a narrow box can move beyond its image's end, though never beyond the 128 bytes they lie in.
    if let Some(segment) = m.mem.shared(match shared {
        Which::Shared(slot) => slot,
        _ => unreachable!("asked for shared memory"),
    }) && high as usize > segment.len()
    {
        let message = "the swizzle moves the box beyond the end of shared memory".to_string();
        return m.fault(warp, at, FaultKind::IllegalAddress, message);
    }
    let layout = (map.interleave == Interleave::None).then_some(Layout { swizzle, pc: at.pc });
    if let Some(layout) = layout.filter(|_| store) {
        check_layout(m, warp, at, shared, &pieces, layout);
    }
    let outer = global.map_or(shared, |g| g.0);
    let (to, from) = if store { (outer, shared) } else { (shared, outer) };
    let box_range = if high - low == box_bytes { (low, box_bytes) } else { (low, 0) };
    let resolved = Resolved { to, from, pieces, fills, fill: map.fill(), box_range, bytes: box_bytes, reduce: None, layout };
    Ok(Some((resolved, map)))
}

/// A tensor is stored from shared memory: what another tensor copy wrote there must lie as this one's map has it.
fn check_layout(m: &mut Machine<'_>, warp: &Warp, at: At<'_>, shared: Which, pieces: &[Piece], layout: Layout) {
    let segment = m.mem.parts_of(shared).0;
    let chunks = pieces.iter().flat_map(|p| (p.from & !15..p.from + p.len).step_by(16));
    let known = chunks.filter_map(|at| Some((at, segment.layouts.of(at as usize)?)));
    let mut wrong = known.filter(|(at, was)| was.is_misread(*at, layout.swizzle, 0));
    if let Some((place, was)) = wrong.next() {
        let line = m.kernel.program.line(was.pc).1;
        m.report(HazardKind::LayoutMismatch, warp.site(at.pc, at.lane()), Some(place.into()), || {
            format!("the tensor map's swizzle is {}, the copy of PTX line {line} wrote by {}", layout.swizzle, was.swizzle)
        });
    }
}

/// A copy whose end a bulk group tells: from shared memory to global memory. It is the group of the first of the lanes `alike`.
fn group(m: &mut Machine<'_>, asyncs: &mut Asyncs, warp: &Warp, at: At<'_>, alike: u32, r: Resolved) {
    let lane = at.lane();
    let site = warp.site(at.pc, lane);
    let (thread, agents, stamp, group) = queue::bulk_thread(m, asyncs, site, alike);
    let issuers = [(&warp.order, lane)];
    let strength = r.reduce.map(|_| Scope::Gpu);
    if m.mem.tracker.enabled {
        for (agent, which, write) in [(agents.0, r.from, false), (agents.1, r.to, true)] {
            let step = AsyncStep { who: agent * 32, stamp, issuers: &issuers, pc: at.pc, proxy: true, strength };
            let (segment, tracker) = m.mem.parts_of(which);
            if !write && r.box_range.1 > 0 && r.fills.is_empty() {
                segment.touch_async(r.box_range.0 as usize, r.box_range.1 as usize, false, &step, tracker);
                continue;
            }
            for p in &r.pieces {
                segment.touch_async(if write { p.to } else { p.from } as usize, p.len as usize, write, &step, tracker);
            }
        }
    }
    let end = End::Group { thread, group };
    queue::push(m, asyncs, Pending::new(site, r.from, r.to, r.pieces, Vec::new(), [0; 8], r.reduce, end));
}

/// A copy whose end an mbarrier tells, in one CTA or, multicast, in several.
fn signalled(
    m: &mut Machine<'_>,
    asyncs: &mut Asyncs,
    warp: &Warp,
    at: At<'_>,
    r: Resolved,
    address: u64,
    multicast: Option<u32>,
) -> Result<(), Stop> {
    let lane = at.lane();
    let Which::Shared(slot) = r.to else { unreachable!("an mbarrier tells of copies to shared memory") };
    let n = warp.home.size;
    let ranks: Vec<u32> = match multicast {
        Some(mask) if mask & 0xFFFF == 0 || (mask & 0xFFFF) >> n != 0 => {
            let message = format!("multicast mask {mask:#x} in a cluster of {n} CTAs");
            return m.fault(warp, at, FaultKind::IllegalInstruction, message);
        }
        Some(mask) => lanes_of(mask & 0xFFFF).collect(),
        None => vec![slot - warp.home.base],
    };
    for rank in ranks {
        let address = match multicast {
            Some(_) => mapa(address as u32, rank).into(),
            None => address,
        };
        let Some(key) = barrier::find_for_copy(m, asyncs, warp, at, Space::Shared, address)? else { continue };
        let target = warp.home.base + rank;
        if key.0 != target {
            let message = "the mbarrier is not in the CTA of the destination".to_string();
            return m.fault(warp, at, FaultKind::IllegalInstruction, message);
        }
        let (site, to) = (warp.site(at.pc, lane), Which::Shared(target));
        let pieces = r.pieces.clone();
        let op = Pending::new(
            site,
            r.from,
            to,
            pieces,
            r.fills.clone(),
            r.fill,
            r.reduce,
            End::Barrier { key, bytes: r.bytes, agent: 0 },
        );
        let op = Pending { layout: r.layout, ..op };
        issue(m, asyncs, warp, at, op, key, r.box_range, true);
    }
    Ok(())
}

/// Marks what the operation reads and writes, and queues it.
#[allow(clippy::too_many_arguments, reason = "what an asynchronous operation is")]
fn issue(
    m: &mut Machine<'_>,
    asyncs: &mut Asyncs,
    warp: &Warp,
    at: At<'_>,
    mut op: Pending,
    key: Key,
    whole: (u32, u32),
    proxy: bool,
) {
    let lane = at.lane();
    let bar = &asyncs.bars[&key];
    let (agent, stamp) = (bar.agent, bar.stamp);
    if let End::Barrier { agent: a, .. } = &mut op.end {
        *a = agent;
    }
    let issuers = [(&warp.order, lane)];
    let strength = op.reduce.map(|_| Scope::Cluster);
    let step = |stamp| AsyncStep { who: agent * 32, stamp, issuers: &issuers, pc: at.pc, proxy, strength };
    if m.mem.tracker.enabled {
        if let Some(from) = op.from {
            let (segment, tracker) = m.mem.parts_of(from);
            for p in &op.pieces {
                segment.touch_async(p.from as usize, p.len as usize, false, &step(stamp), tracker);
            }
        }
        let (segment, tracker) = m.mem.parts_of(op.to);
        let mut write = |at: u32, len: u32| segment.touch_async(at as usize, len as usize, true, &step(IN_FLIGHT), tracker);
        if whole.1 > 0 {
            write(whole.0, whole.1);
            op.whole = Some(whole);
        } else {
            op.pieces.iter().for_each(|p| write(p.to, p.len));
            op.fills.iter().for_each(|f| write(f.0, f.1));
        }
        if let Some(layout) = op.layout {
            let size = segment.len();
            let parts = op.pieces.iter().map(|p| (p.to, p.len)).chain(op.fills.iter().copied());
            parts.for_each(|(at, len)| segment.layouts.set(at as usize, len as usize, size, layout));
        }
    }
    if op.reduce.is_none() {
        let segment = m.mem.parts_of(op.to).0;
        for (at, len) in op.pieces.iter().map(|p| (p.to, p.len)).chain(op.fills.iter().copied()) {
            segment.set_initialized(at as usize, len as usize, false);
            segment.bytes_mut(at as usize, len as usize).fill(0xFF);
        }
    }
    queue::push(m, asyncs, op);
}

/// `st.async`, `red.async`
pub(super) fn store_async(
    m: &mut Machine<'_>,
    asyncs: &mut Asyncs,
    warp: &mut Warp,
    op: &StoreAsync,
    at: At<'_>,
) -> Result<Flow, Stop> {
    let to = addresses(m, warp, &op.target.addr, at);
    let barriers = addresses(m, warp, &op.barrier, at);
    for lane in lanes_of(at.mask) {
        let l = lane as usize;
        let mut data = Vec::new();
        for &(r, wide) in &op.values {
            if wide {
                data.extend(warp.regs.r64[r as usize][l].to_le_bytes());
            } else {
                data.extend(warp.regs.r32[r as usize][l].to_le_bytes());
            }
        }
        let len = data.len() as u64;
        let found = range(m, warp, at.only(lane), op.target.space, to[l], len, len, true)?;
        let Some((which, offset)) = found else { continue };
        let Some(key) = barrier::find(m, asyncs, warp, at.only(lane), op.target.space, barriers[l])? else { continue };
        if which != Which::Shared(key.0) {
            let message = "the mbarrier is not in the CTA of the destination";
            return m.fault(warp, at.only(lane), FaultKind::IllegalInstruction, message);
        }
        let site = warp.site(at.pc, lane);
        let piece = Piece { from: 0, to: offset as u32, len: len as u32 };
        let end = End::Barrier { key, bytes: len as u32, agent: 0 };
        let mut pending = Pending::new(site, which, which, vec![piece], Vec::new(), [0; 8], op.reduce, end);
        pending.from = None;
        pending.snapshot = Some((data, Vec::new()));
        issue(m, asyncs, warp, at.only(lane), pending, key, (offset as u32, len as u32), false);
    }
    m.effect();
    Ok(Flow::Next)
}
