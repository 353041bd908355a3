//! The forms of this family's instructions.

use super::barrier::{Arrive, Count, MbarrierOp, PhaseWait};
use super::copy::{CopyAsync, CopyBulk, Side, Signal, StoreAsync, Target};
use super::op::{Bulk, Fence};
use crate::exec::access::SCOPES;
use crate::exec::combine::{ACTIONS, Action};
use crate::ir::Addr;
use crate::ir::decode::class_of;
use crate::ir::{Class, Cx};
use crate::mem::{FencedSpace, Scope, Space};
use crate::tensor_map::Field;
use crate::text::ast::{self, Operand, Type};

/// The decoder of this family.
pub fn decode(cx: &mut Cx<'_>) -> Result<Bulk, String> {
    match cx.head() {
        "fence" if cx.has("tensormap::generic") => fence_map(cx),
        "fence" => fence(cx).map(Bulk::Fence),
        "membar" => membar(cx).map(Bulk::Fence),
        "mbarrier" => mbarrier(cx),
        "cp" => copy(cx),
        "st" | "red" => store(cx),
        "tensormap" => replace(cx),
        _ => cx.unknown(),
    }
}

fn membar(cx: &mut Cx<'_>) -> Result<Fence, String> {
    if cx.lead("proxy") {
        return proxy(cx);
    }
    let scopes = [("cta", Scope::Cta), ("gl", Scope::Gpu), ("sys", Scope::Sys)];
    let Some(scope) = cx.pick(&scopes) else { return cx.unknown() };
    cx.end(0)?;
    Ok(Fence::Memory(scope))
}

fn fence(cx: &mut Cx<'_>) -> Result<Fence, String> {
    if cx.lead("proxy") {
        return proxy(cx);
    }
    if cx.eat("mbarrier_init") {
        cx.expect(&["release", "cluster"])?;
        cx.end(0)?;
        return Ok(Fence::MbarrierInit);
    }
    let kind =
        cx.pick(&[("sc", Order::Both), ("acq_rel", Order::Both), ("acquire", Order::Acquire), ("release", Order::Release)]);
    let Some(scope) = cx.pick(&SCOPES) else { return cx.unknown() };
    if matches!(kind, Some(Order::Acquire | Order::Release)) {
        restriction(cx, kind == Some(Order::Acquire), scope)?;
    }
    cx.end(0)?;
    Ok(Fence::Memory(scope))
}

/// What a fence says that it orders; each orders both ways here, as a fence may.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    Both,
    Acquire,
    Release,
}

/// `.sync_restrict`: the fence orders what goes over objects in shared memory alone; here it orders all. An acquire is restricted to
/// those of the cluster, a release to those of the CTA.
fn restriction(cx: &mut Cx<'_>, acquire: bool, scope: Scope) -> Result<bool, String> {
    let found = cx.eat(if acquire { "sync_restrict::shared::cluster" } else { "sync_restrict::shared::cta" });
    if found && scope != Scope::Cluster { cx.unknown() } else { Ok(found) }
}

fn proxy(cx: &mut Cx<'_>) -> Result<Fence, String> {
    if cx.eat("async::generic") {
        let acquire = cx.eat("acquire");
        if !acquire && !cx.eat("release") {
            return cx.unknown();
        }
        let Some(scope) = cx.pick(&SCOPES) else { return cx.unknown() };
        if !restriction(cx, acquire, scope)? {
            return cx.unknown();
        }
        cx.end(0)?;
        return Ok(Fence::Restricted(scope));
    }
    let spaces =
        [("global", FencedSpace::Global), ("shared::cta", FencedSpace::Shared), ("shared::cluster", FencedSpace::Shared)];
    let fence = match cx.pick(&[("alias", Fence::Alias), ("async", Fence::Async(FencedSpace::All))]) {
        Some(Fence::Async(all)) => Fence::Async(cx.pick(&spaces).unwrap_or(all)),
        Some(other) => other,
        None => return cx.unknown(),
    };
    cx.end(0)?;
    Ok(fence)
}

fn fence_map(cx: &mut Cx<'_>) -> Result<Bulk, String> {
    if !cx.lead("proxy") {
        return cx.unknown();
    }
    cx.expect(&["tensormap::generic"])?;
    let acquire = cx.eat("acquire");
    if !acquire && !cx.eat("release") {
        return cx.unknown();
    }
    let Some(scope) = cx.pick(&SCOPES) else { return cx.unknown() };
    cx.end(if acquire { 2 } else { 0 })?;
    if !acquire {
        return Ok(Bulk::FenceMap(scope, None));
    }
    let addr = cx.address(0)?;
    if cx.int(1)? != 128 {
        return Err(format!("`{}` takes 128 bytes", cx.inst.opcode));
    }
    Ok(Bulk::FenceMap(scope, Some(addr)))
}

/// Semantics and scope: the scope of what the operation orders, `None` if it orders nothing. By default it is ordered, in the CTA.
fn sem(cx: &mut Cx<'_>, allowed: &str) -> Result<Option<Scope>, String> {
    let ordered = match cx.pick(&[("relaxed", false), (allowed, true)]) {
        Some(ordered) => ordered,
        None => return Ok(Some(Scope::Cta)),
    };
    match cx.pick(&SCOPES[..2]) {
        Some(scope) => Ok(ordered.then_some(scope)),
        None => Err(format!("`{}`: the scope is .cta or .cluster", cx.inst.opcode)),
    }
}

/// An mbarrier's address: the name of a shared variable is a shared address, whatever the instruction says.
fn barrier_address(cx: &mut Cx<'_>, i: usize, space: Space) -> Result<(Addr, Space), String> {
    let addr = cx.address(i)?;
    Ok((addr, if addr.space == Some(ast::Space::Shared) { Space::Shared } else { space }))
}

/// `.shared`, `.shared::cta`, `.shared::cluster` or nothing.
fn shared(cx: &mut Cx<'_>, cluster: bool) -> Space {
    if cx.eat("shared") || cx.eat("shared::cta") || (cluster && cx.eat("shared::cluster")) {
        Space::Shared
    } else {
        Space::Generic
    }
}

fn mbarrier(cx: &mut Cx<'_>) -> Result<Bulk, String> {
    let kind = cx.part("an operation")?;
    let op = match kind {
        "init" => {
            let space = shared(cx, false);
            cx.ty_of(&[Type::B64])?;
            cx.end(2)?;
            let (addr, space) = barrier_address(cx, 0, space)?;
            MbarrierOp::Init { addr, space, count: cx.src(1, Type::U32)? }
        }
        "inval" => {
            let space = shared(cx, false);
            cx.ty_of(&[Type::B64])?;
            cx.end(1)?;
            let (addr, space) = barrier_address(cx, 0, space)?;
            MbarrierOp::Inval { addr, space }
        }
        "expect_tx" | "complete_tx" => {
            // `.relaxed` is the only semantics, and the default.
            if cx.eat("relaxed") && cx.pick(&SCOPES[..2]).is_none() {
                return cx.unknown();
            }
            let space = shared(cx, true);
            cx.ty_of(&[Type::B64])?;
            cx.end(2)?;
            let (addr, space) = barrier_address(cx, 0, space)?;
            MbarrierOp::Tx { addr, space, bytes: cx.src(1, Type::U32)?, complete: kind == "complete_tx" }
        }
        "arrive" | "arrive_drop" => {
            let expect = cx.lead("expect_tx");
            let no_complete = !expect && cx.eat("noComplete");
            let release = sem(cx, "release")?;
            let remote = cx.has("shared::cluster");
            let space = shared(cx, true);
            cx.ty_of(&[Type::B64])?;
            cx.no_more_parts()?;
            let n = cx.count();
            let (least, most) = if expect || no_complete { (3, 3) } else { (2, 3) };
            if n < least || n > most {
                return Err(format!("`{}` takes {least} to {most} operands, not {n}", cx.inst.opcode));
            }
            if remote && !matches!(cx.operand(0)?, Operand::Sink) {
                return Err(format!("`{}`: a barrier of .shared::cluster returns no state", cx.inst.opcode));
            }
            let state = cx.dst(0, Type::B64)?;
            let (addr, space) = barrier_address(cx, 1, space)?;
            let count = match (expect, n) {
                (true, _) => Count::Expect(cx.src(2, Type::U32)?),
                (false, 3) => Count::Many(cx.src(2, Type::U32)?),
                _ => Count::One,
            };
            MbarrierOp::Arrive(Arrive { addr, space, state, count, drop: kind == "arrive_drop", no_complete, release })
        }
        "test_wait" | "try_wait" => {
            let parity = cx.lead("parity");
            let acquire = sem(cx, "acquire")?;
            let space = shared(cx, false);
            cx.ty_of(&[Type::B64])?;
            cx.no_more_parts()?;
            let n = cx.count();
            if n != 3 && !(n == 4 && kind == "try_wait") {
                return Err(format!("`{}` takes 3 operands, not {n}", cx.inst.opcode));
            }
            let done = cx.dst(0, Type::Pred)?;
            let (addr, space) = barrier_address(cx, 1, space)?;
            let value = cx.src(2, if parity { Type::U32 } else { Type::B64 })?;
            if n == 4 {
                cx.src(3, Type::U32)?;
            }
            MbarrierOp::Wait(PhaseWait { addr, space, done, value, parity, blocks: kind == "try_wait", acquire })
        }
        "pending_count" => {
            cx.ty_of(&[Type::B64])?;
            cx.end(2)?;
            MbarrierOp::PendingCount { count: cx.dst(0, Type::U32)?, state: cx.src(1, Type::B64)? }
        }
        _ => return cx.unknown(),
    };
    Ok(Bulk::Mbarrier(op))
}

fn pending(cx: &mut Cx<'_>) -> Result<u32, String> {
    cx.end(1)?;
    let n = cx.int(0)?;
    u32::try_from(n).map_err(|_| format!("`{}`: {n} groups", cx.inst.opcode))
}

fn copy(cx: &mut Cx<'_>) -> Result<Bulk, String> {
    let reduce = cx.lead("reduce");
    if !cx.lead("async") {
        return cx.unknown();
    }
    if cx.lead("bulk") {
        return bulk(cx, reduce);
    }
    if reduce {
        return cx.unknown();
    }
    if cx.has("ca") || cx.has("cg") {
        return copy_async(cx);
    }
    match cx.part("an operation")? {
        "commit_group" => {
            cx.end(0)?;
            Ok(Bulk::CommitCopies)
        }
        "wait_group" => Ok(Bulk::WaitCopies(Some(pending(cx)?))),
        "wait_all" => {
            cx.end(0)?;
            Ok(Bulk::WaitCopies(None))
        }
        "mbarrier" => {
            if !cx.lead("arrive") {
                return cx.unknown();
            }
            let noinc = cx.eat("noinc");
            let space = shared(cx, false);
            cx.ty_of(&[Type::B64])?;
            cx.end(1)?;
            let (addr, space) = barrier_address(cx, 0, space)?;
            Ok(Bulk::ArriveCopies(addr, space, noinc))
        }
        _ => cx.unknown(),
    }
}

/// The next space by its name: of the two of a copy, the first is the destination's.
fn space<'a>(cx: &mut Cx<'a>) -> Option<&'a str> {
    cx.find(|p| ["global", "shared", "shared::cta", "shared::cluster"].contains(&p).then_some(p))
}

fn copy_async(cx: &mut Cx<'_>) -> Result<Bulk, String> {
    let all_levels = cx.pick(&[("ca", true), ("cg", false)]) == Some(true);
    if !matches!((space(cx), space(cx)), (Some("shared" | "shared::cta"), Some("global"))) {
        return cx.unknown();
    }
    let hint = cx.eat("L2::cache_hint");
    let _ = cx.eat("L2::64B") || cx.eat("L2::128B") || cx.eat("L2::256B");
    cx.no_more_parts()?;
    let mut n = cx.count();
    if hint {
        n = n.saturating_sub(1);
        cx.src(n, Type::B64)?;
    }
    if n != 3 && n != 4 {
        return Err(format!("`{}` takes 3 or 4 operands and a hint, not {n}", cx.inst.opcode));
    }
    let bytes = cx.int(2)?;
    if !(matches!(bytes, 4 | 8) && all_levels || bytes == 16) {
        return Err(format!("`{}` cannot copy {bytes} bytes", cx.inst.opcode));
    }
    let (mut size, mut ignore) = (None, None);
    if n == 4 {
        let last = cx.operand(3)?;
        let predicate = match last {
            Operand::Not(_) => true,
            Operand::Name(name) => cx.is_predicate(name),
            _ => false,
        };
        if predicate {
            ignore = Some(cx.predicate(last)?);
        } else {
            size = Some(cx.src(3, Type::U32)?);
        }
    }
    Ok(Bulk::CopyAsync(CopyAsync { to: cx.address(0)?, from: cx.address(1)?, bytes: bytes as u32, size, ignore }))
}

/// `[map, {c0, c1, …}]`
fn tensor(cx: &mut Cx<'_>, i: usize, rank: usize) -> Result<Side, String> {
    let operand = cx.operand(i)?;
    let (map, rest) = cx.address_of(operand)?;
    let coordinates = match rest {
        [Operand::Vector(v)] => v.as_slice(),
        [one] => std::slice::from_ref(one),
        _ => return Err(format!("`{}` needs a tensor map and coordinates", cx.inst.opcode)),
    };
    if coordinates.len() != rank {
        return Err(format!("`{}` needs {rank} coordinates, not {}", cx.inst.opcode, coordinates.len()));
    }
    let mut out = Vec::new();
    for c in coordinates {
        out.push(cx.src_of(c, Type::S32)?);
    }
    Ok(Side::Tensor { map, coordinates: out })
}

fn bulk(cx: &mut Cx<'_>, reduce: bool) -> Result<Bulk, String> {
    if !reduce {
        if cx.lead("commit_group") {
            cx.end(0)?;
            return Ok(Bulk::CommitGroup);
        }
        if cx.lead("wait_group") {
            let read = cx.lead("read");
            return Ok(Bulk::WaitGroup(pending(cx)?, read));
        }
        if cx.lead("prefetch") {
            return prefetch(cx);
        }
    }
    let rank = match cx.lead("tensor") {
        true => Some(rank(cx)?),
        false => None,
    };
    let (Some(to), Some(from)) = (space(cx), space(cx)) else { return cx.unknown() };
    let load = match (to, from) {
        ("shared::cluster" | "shared::cta", "global") if !reduce => true,
        ("global", "shared::cta") => false,
        ("shared::cluster", "shared::cta") if rank.is_none() => true,
        _ => return cx.unknown(),
    };
    let mut how = None;
    if reduce && rank.is_some() {
        how = Some((reduction(cx)?, None));
    }
    if rank.is_some() {
        im2col(cx)?;
        let _ = cx.eat("tile");
    }
    cx.expect(&[if load { "mbarrier::complete_tx::bytes" } else { "bulk_group" }])?;
    let multicast = load && from == "global" && to == "shared::cluster" && cx.eat("multicast::cluster");
    let hint = cx.eat("L2::cache_hint");
    if reduce && rank.is_none() {
        let op = reduction(cx)?;
        let noftz = cx.eat("noftz");
        let ty = cx.ty()?;
        let half = matches!(ty, Type::F16 | Type::BF16);
        if !op.reduces(ty) || (half && op == Action::Add) != noftz || (load && ty.is_float()) {
            return Err(format!("`{}` is no reduction that the ISA has", cx.inst.opcode));
        }
        how = Some((op, Some(ty)));
    }
    cx.no_more_parts()?;
    // Destination, source, size (plain copies), mbarrier, mask, hint.
    let wanted = 2 + usize::from(rank.is_none()) + usize::from(load) + usize::from(multicast) + usize::from(hint);
    cx.end(wanted)?;
    let (to, from) = match (rank, load) {
        (Some(rank), true) => (Side::Shared(cx.address(0)?), tensor(cx, 1, rank)?),
        (Some(rank), false) => (tensor(cx, 0, rank)?, Side::Shared(cx.address(1)?)),
        (None, _) => {
            let side = |addr: Addr, space: &str| if space == "global" { Side::Global(addr) } else { Side::Shared(addr) };
            (side(cx.address(0)?, to), side(cx.address(1)?, from))
        }
    };
    let mut next = 2;
    let size = if rank.is_none() { Some(cx.src(2, Type::U32)?) } else { None };
    next += usize::from(size.is_some());
    let signal = if load {
        next += 1;
        Signal::Barrier(cx.address(next - 1)?)
    } else {
        Signal::Group
    };
    let mask = if multicast { Some(cx.src(next, Type::U16)?) } else { None };
    next += usize::from(multicast);
    if hint {
        cx.src(next, Type::B64)?;
    }
    Ok(Bulk::CopyBulk(CopyBulk { to, from, size, signal, multicast: mask, reduce: how }))
}

fn rank(cx: &mut Cx<'_>) -> Result<usize, String> {
    let ranks = [("1d", 1), ("2d", 2), ("3d", 3), ("4d", 4), ("5d", 5)];
    cx.pick(&ranks).ok_or_else(|| format!("`{}` needs a rank of 1d to 5d", cx.inst.opcode))
}

fn im2col(cx: &Cx<'_>) -> Result<(), String> {
    match cx.parts().find(|p| p.starts_with("im2col")) {
        Some(p) => Err(format!("`{}`: mode .{p} is not implemented by the interpreter", cx.inst.opcode)),
        None => Ok(()),
    }
}

fn prefetch(cx: &mut Cx<'_>) -> Result<Bulk, String> {
    let rank = match cx.lead("tensor") {
        true => Some(rank(cx)?),
        false => None,
    };
    cx.expect(&["L2", "global"])?;
    im2col(cx)?;
    let _ = rank.is_some() && cx.eat("tile");
    let hint = cx.eat("L2::cache_hint");
    cx.end(if rank.is_some() { 1 } else { 2 } + usize::from(hint))?;
    match rank {
        Some(rank) => {
            tensor(cx, 0, rank)?;
        }
        None => {
            cx.address(0)?;
            cx.src(1, Type::U32)?;
        }
    }
    if hint {
        cx.src(cx.count() - 1, Type::B64)?;
    }
    Ok(Bulk::Prefetch)
}

fn reduction(cx: &mut Cx<'_>) -> Result<Action, String> {
    cx.pick(&ACTIONS[..8]).ok_or_else(|| format!("`{}` needs a reduction", cx.inst.opcode))
}

/// `st.async` and `red.async`.
fn store(cx: &mut Cx<'_>) -> Result<Bulk, String> {
    let red = cx.head() == "red";
    if !cx.lead("async") {
        return cx.unknown();
    }
    if red {
        cx.expect(&["relaxed", "cluster"])?;
    } else {
        let _ = cx.eat("weak");
    }
    let space = if cx.eat("shared::cluster") { Space::Shared } else { Space::Generic };
    cx.expect(&["mbarrier::complete_tx::bytes"])?;
    let reduce = if red { Some(reduction(cx)?) } else { None };
    let vector = if red { 1 } else { cx.pick(&[("v2", 2), ("v4", 4)]).unwrap_or(1) };
    let allowed: &[Type] = if red {
        &[Type::U32, Type::S32, Type::B32, Type::U64]
    } else {
        &[Type::B32, Type::B64, Type::U32, Type::U64, Type::S32, Type::S64, Type::F32, Type::F64]
    };
    let ty = cx.ty_of(allowed)?;
    cx.end(3)?;
    if vector == 4 && ty.bits() == 64 {
        return Err(format!("`{}` stores 16 bytes at most", cx.inst.opcode));
    }
    if reduce.is_some_and(|op| !op.reduces(ty)) {
        return cx.unknown();
    }
    let reduce = reduce.map(|op| (op, ty));
    let to = cx.address(0)?;
    let mut values = Vec::new();
    for e in cx.vector(1, vector)? {
        values.push((cx.src_of(e, ty)?, class_of(ty) == Class::B64));
    }
    Ok(Bulk::StoreAsync(StoreAsync { target: Target { addr: to, space }, values, barrier: cx.address(2)?, reduce }))
}

fn replace(cx: &mut Cx<'_>) -> Result<Bulk, String> {
    if cx.lead("cp_fenceproxy") {
        cx.expect(&["global", "shared::cta", "tensormap::generic", "release"])?;
        let Some(scope) = cx.pick(&SCOPES) else { return cx.unknown() };
        cx.expect(&["sync", "aligned"])?;
        cx.end(3)?;
        if cx.int(2)? != 128 {
            return Err(format!("`{}` takes 128 bytes", cx.inst.opcode));
        }
        return Ok(Bulk::CopyMap(cx.address(0)?, cx.address(1)?, scope));
    }
    if !cx.lead("replace") {
        return cx.unknown();
    }
    cx.expect(&["tile", "b1024"])?;
    let space = cx.pick(&[("global", Space::Global), ("shared::cta", Space::Shared)]).unwrap_or(Space::Generic);
    let ty = cx.ty_of(&[Type::B32, Type::B64])?;
    let name = cx.part("a field")?;
    let indexed = matches!(name, "box_dim" | "global_dim" | "global_stride" | "element_stride");
    cx.end(2 + usize::from(indexed))?;
    let index = if indexed { cx.int(1)? as usize } else { 0 };
    let field = match name {
        "global_address" => Field::GlobalAddress,
        "rank" => Field::Rank,
        "box_dim" => Field::BoxDim(index),
        "global_dim" => Field::GlobalDim(index),
        "global_stride" => Field::GlobalStride(index),
        "element_stride" => Field::ElementStride(index),
        "elemtype" => Field::ElementType,
        "interleave_layout" => Field::Interleave,
        "swizzle_mode" => Field::Swizzle,
        "fill_mode" => Field::Fill,
        _ => return cx.unknown(),
    };
    if (ty == Type::B64) != matches!(field, Field::GlobalAddress | Field::GlobalStride(_)) {
        return Err(format!("`{}`: the field has another size", cx.inst.opcode));
    }
    Ok(Bulk::Replace(cx.address(0)?, space, field, cx.src(1 + usize::from(indexed), ty)?, ty == Type::B64))
}
