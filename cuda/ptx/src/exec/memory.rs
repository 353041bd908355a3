//! `ld`, `st` and their like in every space; local frames.

use super::access::{SPACES, Strength, addresses, count, modifiers, place, refused};
use super::flow::{At, Flow, Stop};
use super::lanes::{few, lanes_of};
use super::machine::Machine;
use super::warp::Warp;
use crate::ir::decode::Name;
use crate::ir::{Addr, Class, Cx, Reg};
use crate::mem::Space as Where;
use crate::mem::{Block, GLOBAL_BASE, Sem};
use crate::text::ast::{Operand, Space, Type};

/// Instructions of this family.
pub enum MemoryOp {
    /// `ld`.
    Load(Load),
    /// `st`.
    Store(Store),
    /// `ld.param` of a kernel at a fixed offset: the same bytes for all lanes.
    Param {
        /// Offset in the parameters.
        offset: u32,
        /// The element's type.
        ty: Type,
        /// Destinations.
        d: Vec<Reg>,
    },
    /// `prefetch`, `applypriority`: reads nothing.
    Hint,
    /// `discard`: the bytes become undefined.
    Discard(Addr, u32),
}

/// `ld`.
pub struct Load {
    pub(crate) addr: Addr,
    pub(crate) space: Where,
    pub(crate) ty: Type,
    pub(crate) d: Vec<Reg>,
    pub(crate) sem: Sem,
}

/// `st`.
pub struct Store {
    pub(crate) addr: Addr,
    pub(crate) space: Where,
    pub(crate) ty: Type,
    pub(crate) sources: Vec<Reg>,
    sem: Sem,
}

impl MemoryOp {
    /// Whether it may be a strong access to global memory.
    pub fn may_be_strong_and_global(&self) -> bool {
        let (space, sem) = match self {
            MemoryOp::Load(x) => (x.space, x.sem),
            MemoryOp::Store(x) => (x.space, x.sem),
            _ => return false,
        };
        !matches!(sem, Sem::Weak | Sem::ReadOnly) && matches!(space, Where::Generic | Where::Global)
    }
}

/// Types that `ld` and `st` take.
const TYPES: [Type; 15] = [
    Type::B8,
    Type::B16,
    Type::B32,
    Type::B64,
    Type::B128,
    Type::U8,
    Type::U16,
    Type::U32,
    Type::U64,
    Type::S8,
    Type::S16,
    Type::S32,
    Type::S64,
    Type::F32,
    Type::F64,
];

/// The decoder of this family.
pub fn decode(cx: &mut Cx<'_>) -> Result<MemoryOp, String> {
    let head = cx.head();
    match head {
        "ld" | "ldu" | "st" => decode_access(cx),
        "prefetch" | "prefetchu" => {
            cx.pick(&SPACES);
            const LEVELS: [&str; 5] = ["L1", "L2", "L2::evict_last", "L2::evict_normal", "tensormap"];
            if cx.find(|p| LEVELS.contains(&p).then_some(())).is_none() {
                return cx.unknown();
            }
            cx.end(1)?;
            cx.address(0)?;
            Ok(MemoryOp::Hint)
        }
        "discard" | "applypriority" => {
            cx.eat("global");
            cx.expect(&[if head == "discard" { "L2" } else { "L2::evict_normal" }])?;
            cx.end(2)?;
            let addr = cx.address(0)?;
            if cx.int(1)? != 128 {
                return Err(format!("`{head}` takes 128 bytes only"));
            }
            Ok(if head == "discard" { MemoryOp::Discard(addr, 128) } else { MemoryOp::Hint })
        }
        _ => cx.unknown(),
    }
}

fn decode_access(cx: &mut Cx<'_>) -> Result<MemoryOp, String> {
    let load = cx.head() != "st";
    let m = modifiers(cx)?;
    let ty = cx.ty_of(&TYPES)?;
    let total = ty.bytes() as usize * m.vector;
    if total > 16 {
        return Err(format!("`{}` moves {total} bytes a thread; 16 at most", cx.inst.opcode));
    }
    let operands = 2 + usize::from(m.cache_hint);
    cx.end(operands)?;
    if m.cache_hint {
        cx.src(2, Type::B64)?;
    }
    let (at, data) = if load { (1, 0) } else { (0, 1) };
    // The data's registers are noted; the address's undefinedness is checked apart.
    let addr = cx.address(at)?;
    cx.uses.clear();
    let elements = cx.vector(data, m.vector)?;
    let strength = m.strength.unwrap_or(Strength::Weak);
    let read_only = (m.read_only && m.strength.is_none()) || cx.head() == "ldu";
    let sem = if read_only { Sem::ReadOnly } else { strength.with(m.scope) };
    let allowed = match strength {
        Strength::Acquire => load,
        Strength::Release => !load,
        Strength::AcquireRelease => false,
        _ => true,
    };
    if !allowed {
        return cx.unknown();
    }
    let mut space = place(m.space);
    if m.space == Some(Space::Param) && cx.scopes.entry && addr.space != Some(Space::Param) {
        // A pointer into the kernel's parameters.
        space = Where::Generic;
    }
    if !load && m.space == Some(Space::Const) {
        return Err("st.const: constant memory cannot be written".into());
    }
    if load {
        let d = elements.iter().map(|e| cx.dst_wide(e, ty)).collect::<Result<Vec<_>, _>>()?;
        if let Some(offset) = kernel_param(cx, at) {
            let end = i64::from(offset.1);
            let from = i64::from(offset.0).wrapping_add(addr.offset);
            if addr.offset < 0 || addr.offset > end - total as i64 {
                return Err(format!("ld.param reads {total} bytes at offset {} of a parameter of {end}", addr.offset));
            }
            return Ok(MemoryOp::Param { offset: from as u32, ty, d });
        }
        Ok(MemoryOp::Load(Load { addr, space, ty, d, sem }))
    } else {
        if kernel_param(cx, at).is_some() {
            return Err("st.param: a kernel's parameters cannot be written".into());
        }
        let sources = elements.iter().map(|e| cx.src_wide(e, ty)).collect::<Result<Vec<_>, _>>()?;
        Ok(MemoryOp::Store(Store { addr, space, ty, sources, sem }))
    }
}

/// Offset and size of the kernel parameter that operand `i` names.
fn kernel_param(cx: &Cx<'_>, i: usize) -> Option<(u32, u32)> {
    let Ok(Operand::Address { base, .. }) = cx.operand(i) else { return None };
    let Operand::Name(name) = &**base else { return None };
    match cx.scopes.find(name) {
        Some(Name::KernelParam { offset, bytes }) => Some((*offset, *bytes)),
        _ => None,
    }
}

/// The instruction's work.
pub fn execute(m: &mut Machine<'_>, warp: &mut Warp, op: &MemoryOp, at: At<'_>) -> Result<Flow, Stop> {
    match op {
        MemoryOp::Load(x) => load(m, warp, x, at),
        MemoryOp::Store(x) => store(m, warp, x, at),
        MemoryOp::Param { offset, ty, d } => {
            let n = ty.bytes() as usize;
            let mut block = Block::default();
            let from = *offset as usize;
            let len = n * d.len();
            block.bytes[0][..len].copy_from_slice(&m.kernel.parameters[from..from + len]);
            block.bytes = [block.bytes[0]; 32];
            for (i, reg) in d.iter().enumerate() {
                put(warp, *reg, *ty, &block, i, at.mask);
            }
            at.define(warp);
            Ok(Flow::Next)
        }
        MemoryOp::Hint => Ok(Flow::Next),
        MemoryOp::Discard(addr, bytes) => {
            let mut a = addresses(m, warp, addr, at);
            let block = Block { undefined: [u16::MAX; 32], any_undefined: u32::MAX, ..Block::default() };
            for _ in 0..bytes / 16 {
                if let Err(fault) = m.mem.store(&mut warp.by(at.pc), Where::Generic, &a, at.mask, 16, Sem::Weak, &block) {
                    return refused(m, warp, at, fault);
                }
                a.iter_mut().for_each(|a| *a = a.wrapping_add(16));
            }
            m.effect();
            Ok(Flow::Next)
        }
    }
}

/// Element `i` of `N` bytes of each lane.
fn elements<const N: usize>(block: &Block, i: usize) -> [[u8; N]; 32] {
    std::array::from_fn(|l| std::array::from_fn(|b| block.bytes[l][N * i + b]))
}

/// Writes element `i` of what was loaded to a register, extended to its width.
pub(crate) fn put(warp: &mut Warp, reg: Reg, ty: Type, block: &Block, i: usize, mask: u32) {
    let signed = ty.is_signed();
    if few(mask) && ty != Type::B128 {
        let n = ty.bytes() as usize;
        for lane in lanes_of(mask) {
            let mut word = [0; 8];
            word[..n].copy_from_slice(&block.bytes[lane][n * i..n * i + n]);
            let (bits, beyond) = (u64::from_le_bytes(word), 64 - 8 * n as u32);
            let value = if signed { ((bits << beyond) as i64 >> beyond) as u64 } else { bits };
            match reg.class {
                Class::B32 => warp.regs.r32[reg.index as usize][lane] = value as u32,
                _ => warp.regs.r64[reg.index as usize][lane] = value,
            }
        }
        return;
    }
    let narrow = match (ty.bytes(), signed) {
        (1, false) => elements::<1>(block, i).map(|b| u64::from(b[0])),
        (1, true) => elements::<1>(block, i).map(|b| b[0] as i8 as u64),
        (2, false) => elements::<2>(block, i).map(|b| u64::from(u16::from_le_bytes(b))),
        (2, true) => elements::<2>(block, i).map(|b| i16::from_le_bytes(b) as u64),
        (4, _) if reg.class == Class::B32 => {
            return warp.regs.put32(reg.index, &elements::<4>(block, i).map(u32::from_le_bytes), mask);
        }
        (4, false) => elements::<4>(block, i).map(|b| u64::from(u32::from_le_bytes(b))),
        (4, true) => elements::<4>(block, i).map(|b| i32::from_le_bytes(b) as u64),
        (8, _) => elements::<8>(block, i).map(u64::from_le_bytes),
        _ => {
            warp.regs.put64(reg.index, &elements::<8>(block, 0).map(u64::from_le_bytes), mask);
            return warp.regs.put64(reg.index + 1, &elements::<8>(block, 1).map(u64::from_le_bytes), mask);
        }
    };
    match reg.class {
        Class::B32 => warp.regs.put32(reg.index, &narrow.map(|v| v as u32), mask),
        _ => warp.regs.put64(reg.index, &narrow, mask),
    }
}

fn load(m: &mut Machine<'_>, warp: &mut Warp, x: &Load, at: At<'_>) -> Result<Flow, Stop> {
    let n = x.ty.bytes() as usize * x.d.len();
    let a = addresses(m, warp, &x.addr, at);
    let mut block = Block::default();
    if let Err(fault) = m.mem.load(&mut warp.by(at.pc), x.space, &a, at.mask, n, x.sem, &mut block) {
        return refused(m, warp, at, fault);
    }
    count(m, at.pc, x.space, at.mask, &a, n as u32);
    if !matches!(x.sem, Sem::Weak | Sem::ReadOnly) {
        warp.questions += 1;
        m.poll(warp, a[at.lane() as usize]);
    }
    for (i, reg) in x.d.iter().enumerate() {
        put(warp, *reg, x.ty, &block, i, at.mask);
    }
    let size = x.ty.bytes();
    let undefined = block.any_undefined & at.mask;
    if undefined == 0 {
        at.define(warp);
        return Ok(Flow::Next);
    }
    for (i, reg) in x.d.iter().enumerate() {
        let mut bits = [0; 32];
        for l in lanes_of(undefined) {
            let bytes = u32::from(block.undefined[l]) >> (size * i as u32) & ((1_u32 << size) - 1);
            bits[l] = bits_of(bytes, size, x.ty.is_signed());
        }
        if x.ty == Type::B128 {
            let undef = lanes_of(undefined).filter(|&l| bits[l] != 0).fold(0, |u, l| u | 1 << l);
            warp.regs.set_undef(*reg, undef, at.mask);
            warp.regs.set_undef(Reg { class: Class::B64, index: reg.index + 1 }, undef, at.mask);
        } else {
            warp.regs.set_undefined_bits(*reg, &bits, at.mask);
        }
    }
    Ok(Flow::Next)
}

/// The bits of a register that are undefined where `bytes` of an element of `size` bytes are: all, where all of them are or the sign
/// that is extended is.
fn bits_of(bytes: u32, size: u32, signed: bool) -> u64 {
    let all = (1 << size) - 1;
    if bytes == all || (signed && bytes >> (size - 1) & 1 == 1) {
        return u64::MAX;
    }
    (0..size.min(8)).filter(|b| bytes >> b & 1 == 1).fold(0, |bits, b| bits | 0xff << (8 * b))
}

fn store(m: &mut Machine<'_>, warp: &mut Warp, x: &Store, at: At<'_>) -> Result<Flow, Stop> {
    let size = x.ty.bytes();
    let n = size as usize * x.sources.len();
    let a = addresses(m, warp, &x.addr, at);
    let mut block = Block::default();
    // Lanes with an element of which no byte is defined, or of a byte only some bits are. Else what is undefined may be padding.
    let mut void = 0;
    for (i, reg) in x.sources.iter().enumerate() {
        gather(warp, *reg, x.ty, &mut block, i, at.mask);
        let undef = warp.regs.undef(*reg) & at.mask;
        if undef != 0 {
            let bits = warp.regs.undefined_bits(*reg);
            for l in lanes_of(undef) {
                let byte = |b: &u32| bits[l] >> (8 * (b % 8)) & 0xff != 0;
                let bytes = (0..size).filter(byte).fold(0, |bytes, b| bytes | 1_u32 << b);
                block.undefined[l] |= (bytes << (size * i as u32)) as u16;
                block.any_undefined |= u32::from(bytes != 0) << l;
                let torn = |b| !matches!(bits[l] >> (8 * (b % 8)) & 0xff, 0 | 0xff);
                void |= u32::from(bytes == (1 << size) - 1 || (0..size).any(torn)) << l;
            }
        }
    }
    if void != 0 && x.space != Where::Local && x.space != Where::Shared {
        let global = lanes_of(void).filter(|&l| a[l] >= GLOBAL_BASE).fold(0, |u, l| u | 1 << l);
        m.demand(warp, at, global, "a value stored to global memory");
    }
    if let Err(fault) = m.mem.store(&mut warp.by(at.pc), x.space, &a, at.mask, n, x.sem, &block) {
        return refused(m, warp, at, fault);
    }
    if block.any_undefined & at.mask != 0 {
        spoil(m, warp, x, at, &a);
    }
    count(m, at.pc, x.space, at.mask, &a, n as u32);
    if x.space != Where::Local {
        m.effect();
    }
    Ok(Flow::Next)
}

/// What was stored is undefined in part: memory learns where that comes from.
#[cold]
fn spoil(m: &mut Machine<'_>, warp: &mut Warp, x: &Store, at: At<'_>, a: &[u64; 32]) {
    let size = x.ty.bytes() as usize;
    for (i, reg) in x.sources.iter().enumerate() {
        for (lanes, birth) in warp.births.of(*reg, warp.regs.undef(*reg) & at.mask, at.pc) {
            for lane in lanes_of(lanes) {
                m.mem.spoiled(&mut warp.by(at.pc), x.space, a[lane].wrapping_add((i * size) as u64), size, birth);
            }
        }
    }
}

/// Puts a register's values where element `i` of type `ty` lies.
pub(crate) fn gather(warp: &Warp, reg: Reg, ty: Type, block: &mut Block, i: usize, mask: u32) {
    if few(mask) && ty != Type::B128 {
        let n = ty.bytes() as usize;
        for lane in lanes_of(mask) {
            block.bytes[lane][n * i..n * i + n].copy_from_slice(&warp.regs.get(reg, lane).to_le_bytes()[..n]);
        }
        return;
    }
    fn copy<const N: usize, const M: usize, T: Copy>(
        block: &mut Block,
        i: usize,
        values: &[T; 32],
        bytes: impl Fn(T) -> [u8; M],
    ) {
        for (lane, v) in values.iter().enumerate() {
            block.bytes[lane][N * i..N * i + N].copy_from_slice(&bytes(*v)[..N]);
        }
    }
    let index = reg.index as usize;
    match (reg.class, ty.bytes()) {
        (Class::B32, 1) => copy::<1, 4, _>(block, i, &warp.regs.r32[index], u32::to_le_bytes),
        (Class::B32, 2) => copy::<2, 4, _>(block, i, &warp.regs.r32[index], u32::to_le_bytes),
        (Class::B32, _) => copy::<4, 4, _>(block, i, &warp.regs.r32[index], u32::to_le_bytes),
        (_, 1) => copy::<1, 8, _>(block, i, &warp.regs.r64[index], u64::to_le_bytes),
        (_, 2) => copy::<2, 8, _>(block, i, &warp.regs.r64[index], u64::to_le_bytes),
        (_, 4) => copy::<4, 8, _>(block, i, &warp.regs.r64[index], u64::to_le_bytes),
        (_, 8) => copy::<8, 8, _>(block, i, &warp.regs.r64[index], u64::to_le_bytes),
        _ => {
            copy::<8, 8, _>(block, 0, &warp.regs.r64[index], u64::to_le_bytes);
            copy::<8, 8, _>(block, 1, &warp.regs.r64[index + 1], u64::to_le_bytes);
        }
    }
}
