//! Instructions in which the lanes of a warp meet: `shfl`, `vote`, `match`, `redux`, `activemask`, `elect`.

use super::combine::{ACTIONS, Action};
use super::flow::{At, Flow, Stop};
use super::lanes::lanes_of;
use super::machine::Machine;
use super::warp::Warp;
use crate::hazard::HazardKind;
use crate::ir::{Class, Cx, Reg};
use crate::request::Election;
use crate::text::ast::Type::{self, *};

/// An instruction of this family. `members` is the register that names the lanes.
pub struct WarpOp {
    kind: Kind,
    members: Option<u16>,
}

enum Kind {
    Shuffle { how: Shuffle, d: u16, p: Option<u16>, a: u16, b: u16, c: u16 },
    Vote { how: Vote, d: u16, a: u16, negated: bool },
    MatchAny { d: u16, a: Reg },
    MatchAll { d: u16, p: Option<u16>, a: Reg },
    Reduce { how: Action, ty: Type, d: u16, a: u16 },
    ActiveMask { d: u16 },
    Elect { d: u16, p: u16 },
}

#[derive(Clone, Copy, PartialEq)]
enum Shuffle {
    Up,
    Down,
    Bfly,
    Idx,
}

#[derive(Clone, Copy, PartialEq)]
enum Vote {
    All,
    Any,
    Uni,
    Ballot,
}

fn op(kind: Kind, members: Option<u16>) -> Result<WarpOp, String> {
    Ok(WarpOp { kind, members })
}

/// The decoder of this family.
pub fn decode(cx: &mut Cx<'_>) -> Result<WarpOp, String> {
    let head = cx.head();
    if head == "activemask" {
        cx.ty_of(&[B32])?;
        cx.end(1)?;
        let d = cx.dst(0, B32)?;
        return op(Kind::ActiveMask { d }, None);
    }
    if !cx.has("sync") {
        return Err(format!("`{}`: the form without .sync does not exist on this architecture", cx.inst.opcode));
    }
    match head {
        "shfl" => shuffle(cx),
        "vote" => vote(cx),
        "match" => matching(cx),
        "redux" => {
            cx.eat("sync");
            let Some(how) = cx.pick(&ACTIONS[..8]) else { return cx.unknown() };
            let ty = cx.ty_of(&[U32, S32, B32])?;
            if matches!(how, Action::Inc | Action::Dec) || matches!(how, Action::And | Action::Or | Action::Xor) != (ty == B32) {
                return cx.unknown();
            }
            cx.end(3)?;
            let (d, a) = (cx.dst(0, ty)?, cx.src(1, ty)?);
            let members = cx.src(2, B32)?;
            op(Kind::Reduce { how, ty, d, a }, Some(members))
        }
        _ => {
            cx.eat("sync");
            cx.end(2)?;
            let (d, Some(p)) = cx.pair(0)? else { return Err("elect.sync writes `d|p`".into()) };
            let (d, p) = (cx.dst_of(d, B32)?, cx.dst_of(p, Pred)?);
            let members = cx.src(1, B32)?;
            op(Kind::Elect { d, p }, Some(members))
        }
    }
}

fn shuffle(cx: &mut Cx<'_>) -> Result<WarpOp, String> {
    cx.eat("sync");
    let modes = [("up", Shuffle::Up), ("down", Shuffle::Down), ("bfly", Shuffle::Bfly), ("idx", Shuffle::Idx)];
    let Some(how) = cx.pick(&modes) else { return cx.unknown() };
    cx.ty_of(&[B32])?;
    cx.end(5)?;
    let (d, p) = cx.pair(0)?;
    let d = cx.dst_of(d, B32)?;
    let p = p.map(|p| cx.dst_of(p, Pred)).transpose()?;
    let (a, b, c) = (cx.src(1, B32)?, cx.src(2, B32)?, cx.src(3, B32)?);
    let members = cx.src(4, B32)?;
    op(Kind::Shuffle { how, d, p, a, b, c }, Some(members))
}

fn vote(cx: &mut Cx<'_>) -> Result<WarpOp, String> {
    cx.eat("sync");
    let modes = [("all", Vote::All), ("any", Vote::Any), ("uni", Vote::Uni), ("ballot", Vote::Ballot)];
    let Some(how) = cx.pick(&modes) else { return cx.unknown() };
    let ty: Type = if how == Vote::Ballot { B32 } else { Pred };
    cx.ty_of(&[ty])?;
    cx.end(3)?;
    let d = cx.dst(0, ty)?;
    let (a, negated) = cx.predicate(cx.operand(1)?)?;
    let members = cx.src(2, B32)?;
    op(Kind::Vote { how, d, a, negated }, Some(members))
}

fn matching(cx: &mut Cx<'_>) -> Result<WarpOp, String> {
    let Some(all) = cx.pick(&[("all", true), ("any", false)]) else { return cx.unknown() };
    cx.expect(&["sync"])?;
    let ty = cx.ty_of(&[B32, B64])?;
    cx.end(3)?;
    let (d, p) = cx.pair(0)?;
    let d = cx.dst_of(d, B32)?;
    let p = p.map(|p| cx.dst_of(p, Pred)).transpose()?;
    let a = cx.src(1, ty)?;
    let a = Reg { class: if ty == B64 { Class::B64 } else { Class::B32 }, index: a };
    let members = cx.src(2, B32)?;
    match (all, p) {
        (true, p) => op(Kind::MatchAll { d, p, a }, Some(members)),
        (false, None) => op(Kind::MatchAny { d, a }, Some(members)),
        _ => cx.unknown(),
    }
}

/// The instruction's work.
pub fn execute(m: &mut Machine<'_>, warp: &mut Warp, op: &WarpOp, at: At<'_>) -> Result<Flow, Stop> {
    let Some(members) = op.members else {
        let Kind::ActiveMask { d } = op.kind else { unreachable!("only activemask names no lanes") };
        warp.regs.put32(d, &[at.mask; 32], at.mask);
        at.define(warp);
        return Ok(Flow::Next);
    };
    if let Some(flow) = gather(m, warp, members, at)? {
        return Ok(flow);
    }
    m.mem.tracker.order.sync_lanes(&mut warp.order, at.mask);
    // Lanes with the same member mask meet; in all code but the strangest there is one.
    let named = warp.regs.r32[members as usize];
    let mut left = at.mask;
    while left != 0 {
        let first = named[left.trailing_zeros() as usize];
        let group = lanes_of(left).filter(|&l| named[l] == first).fold(0, |g, l| g | 1 << l);
        left &= !group;
        meet(m, warp, &op.kind, first & at.mask, at.of(group));
    }
    Ok(Flow::Next)
}

/// Lanes execute, all with the member mask of which `members` are here.
fn meet(m: &mut Machine<'_>, warp: &mut Warp, kind: &Kind, members: u32, at: At<'_>) {
    let group = at.mask;
    match kind {
        Kind::Shuffle { how, d, p, a, b, c } => shuffle_lanes(m, warp, *how, (*d, *p), (*a, *b, *c), members, at),
        Kind::Vote { how, d, a, negated } => {
            let undef = warp.regs.undef_pred(*a) & members;
            let p = warp.regs.pred[*a as usize];
            let votes = members & if *negated { !p } else { p };
            // A vote that is defined may settle the matter.
            let (yes, no) = (votes & !undef != 0, members & !votes & !undef != 0);
            let settled = match how {
                Vote::All => no,
                Vote::Any => yes,
                Vote::Uni => yes && no,
                Vote::Ballot => false,
            };
            let undef = if settled { 0 } else { undef };
            let holds = match how {
                Vote::All => votes == members,
                Vote::Any => votes != 0,
                Vote::Uni => votes == members || votes == 0,
                Vote::Ballot => {
                    warp.regs.put32(*d, &[votes; 32], group);
                    set_all(warp, at, undef);
                    return;
                }
            };
            warp.regs.put_pred(*d, if holds { u32::MAX } else { 0 }, group);
            set_all(warp, at, undef);
        }
        Kind::MatchAny { d, a } => {
            let mut out = [0; 32];
            for l in lanes_of(group) {
                let v = warp.regs.get(*a, l);
                out[l] = lanes_of(members).filter(|&o| warp.regs.get(*a, o) == v).fold(0, |g, o| g | 1 << o);
            }
            let undef = warp.regs.undef(*a) & members;
            warp.regs.put32(*d, &out, group);
            set_all(warp, at, undef);
        }
        Kind::MatchAll { d, p, a } => {
            let v = warp.regs.get(*a, group.trailing_zeros() as usize);
            let same = lanes_of(members).all(|o| warp.regs.get(*a, o) == v);
            let undef = warp.regs.undef(*a) & members;
            warp.regs.put32(*d, &[if same { members } else { 0 }; 32], group);
            if let Some(p) = p {
                warp.regs.put_pred(*p, if same { u32::MAX } else { 0 }, group);
            }
            set_all(warp, at, undef);
        }
        Kind::Reduce { how, ty, d, a } => {
            let r = &warp.regs.r32[*a as usize];
            let f = |x: u32, y: u32| how.apply(*ty, x.into(), y.into(), false) as u32;
            let value = lanes_of(members).map(|l| r[l]).reduce(f).unwrap_or(0);
            let undef = warp.regs.undef32(*a) & members;
            warp.regs.put32(*d, &[value; 32], group);
            set_all(warp, at, undef);
        }
        Kind::Elect { d, p } => {
            let n = members.count_ones();
            let k = match m.kernel.options.election {
                Election::Lowest => 0,
                Election::Seeded => (m.kernel.election ^ members.wrapping_mul(0x9e37_79b9)) % n.max(1),
            };
            let leader = lanes_of(members).nth(k as usize).unwrap_or(0) as u32;
            warp.regs.put32(*d, &[leader; 32], group);
            warp.regs.put_pred(*p, 1 << leader, group);
            at.define(warp);
        }
        Kind::ActiveMask { .. } => unreachable!("it names no lanes"),
    }
}

/// Every result is undefined in all lanes if any lane's operand is.
fn set_all(warp: &mut Warp, at: At<'_>, undef: u32) {
    at.mark(warp, if undef != 0 { u32::MAX } else { 0 });
}

fn shuffle_lanes(
    m: &mut Machine<'_>,
    warp: &mut Warp,
    how: Shuffle,
    (d, p): (u16, Option<u16>),
    (a, b, c): (u16, u16, u16),
    members: u32,
    at: At<'_>,
) {
    let regs = &warp.regs;
    let (va, vb, vc) = (&regs.r32[a as usize], &regs.r32[b as usize], &regs.r32[c as usize]);
    let control = regs.undef32(b) | regs.undef32(c);
    let source_undef = regs.undef32(a);
    let (mut out, mut valid, mut undef, mut absent) = ([0; 32], 0_u32, control, 0_u32);
    for lane in 0..32_u32 {
        let l = lane as usize;
        let (b, clamp, segment) = (vb[l] & 31, vc[l] & 31, vc[l] >> 8 & 31);
        let (min, max) = (lane & segment, (lane & segment) | (clamp & !segment));
        let (source, inside) = match how {
            Shuffle::Up => (lane.wrapping_sub(b), (lane as i32 - b as i32) >= max as i32),
            Shuffle::Down => (lane + b, lane + b <= max),
            Shuffle::Bfly => (lane ^ b, lane ^ b <= max),
            Shuffle::Idx => {
                let j = min | (b & !segment);
                (j, j <= max)
            }
        };
        let source = if inside { source } else { lane };
        out[l] = va[source as usize];
        valid |= u32::from(inside) << lane;
        if members >> source & 1 == 0 {
            // The value of a lane that does not take part is undefined.
            absent |= 1 << lane;
        }
        undef |= (source_undef >> source & 1) << lane;
    }
    undef |= absent;
    m.demand(warp, at, control, "the lane or the mask of a shuffle");
    warp.regs.put32(d, &out, at.mask);
    warp.regs.set_undef(Reg { class: Class::B32, index: d }, undef, at.mask);
    if let Some(p) = p {
        warp.regs.put_pred(p, valid, at.mask);
        warp.regs.set_undef(Reg { class: Class::Pred, index: p }, control, at.mask);
    }
}

/// The lanes that a `.sync` instruction names in register `members` must all be here. `None`: they are; else what to return.
pub(crate) fn gather(m: &mut Machine<'_>, warp: &mut Warp, members: u16, at: At<'_>) -> Result<Option<Flow>, Stop> {
    let undef = warp.regs.undef32(members);
    m.demand(warp, at, undef, "the member mask");
    let named = &warp.regs.r32[members as usize];
    if at.mask == u32::MAX && named.iter().all(|&n| n == u32::MAX) {
        return Ok(None);
    }
    let mut need = 0;
    let mut outside = 0;
    for l in lanes_of(at.mask) {
        need |= named[l] & warp.live;
        outside |= !named[l] & 1 << l;
    }
    if outside != 0 {
        let site = warp.site(at.pc, outside.trailing_zeros());
        let mask = named[outside.trailing_zeros() as usize];
        m.report(HazardKind::UndefinedBehavior, site, None, || {
            format!("the executing lane is not in the member mask {mask:#010x}")
        });
    }
    Ok((need & !at.mask != 0).then_some(Flow::Members(need | at.mask)))
}
