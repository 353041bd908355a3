//! `wmma`: matrices of a warp in fragments whose layout the ISA leaves open (9.7.14.4).
//!
//! The layout here is that of `mma.sync`: blocks of 8 rows by four lanes' registers. Of f16 a fragment of A or B holds each element
//! more than once where it has registers for it, as the ISA's sizes want.

use smallvec::SmallVec;

use super::{Accumulator, Layout, Precision, TYPES, count, layout};
use crate::counters::TensorKind;
use crate::exec::access::{self, SPACES};
use crate::exec::flow::{At, Flow, Stop};
use crate::exec::lanes::lanes_of;
use crate::exec::machine::Machine;
use crate::exec::warp::Warp;
use crate::hazard::HazardKind;
use crate::ir::{Addr, Class, Cx, Reg};
use crate::mem::{Block, GLOBAL_BASE, Sem, Space as Where};
use crate::num::Rounding;
use crate::num::half::Kind;
use crate::num::single::canonical;
use crate::num::tensor::{self, Element, Tile};
use crate::text::ast::{Space, Type};

/// An instruction of this family.
pub enum Wmma {
    Load(Transfer),
    Store(Transfer),
    Multiply(Multiply),
}

/// A fragment between registers and memory.
pub struct Transfer {
    fragment: Fragment,
    pub(crate) addr: Addr,
    space: Where,
    layout: Layout,
    /// Register of the elements from one row (or column) to the next; as long as one if it is left out.
    stride: Option<u16>,
    registers: SmallVec<[Reg; 8]>,
}

/// D = A B + C.
pub struct Multiply {
    pub(crate) shape: Shape,
    a: Number,
    b: Number,
    d: Number,
    c: Number,
    saturate: bool,
    /// `.xor.popc` rather than `.and.popc`, of bits.
    xor: bool,
    rounding: Rounding,
    registers: [SmallVec<[Reg; 8]>; 4],
}

type Shape = (usize, usize, usize);

const SHAPES: [(&str, Shape); 7] = [
    ("m16n16k16", (16, 16, 16)),
    ("m32n8k16", (32, 8, 16)),
    ("m8n32k16", (8, 32, 16)),
    ("m16n16k8", (16, 16, 8)),
    ("m8n8k4", (8, 8, 4)),
    ("m8n8k32", (8, 8, 32)),
    ("m8n8k128", (8, 8, 128)),
];

/// What a fragment consists of.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    Operand(Element),
    Sum(Accumulator),
    F64,
}

impl Number {
    fn bits(self) -> usize {
        match self {
            Number::Operand(e) => e.bits() as usize,
            Number::Sum(Accumulator::F16) => 16,
            Number::Sum(_) => 32,
            Number::F64 => 64,
        }
    }

    fn per_register(self) -> usize {
        (32 / self.bits()).max(1)
    }

    fn register(self) -> Type {
        match self {
            Number::Sum(a) => a.register(),
            Number::F64 => Type::F64,
            Number::Operand(_) => Type::B32,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Role {
    A,
    B,
    /// C or D.
    C,
}

/// A matrix in the registers of a warp.
#[derive(Clone, Copy, Debug)]
struct Fragment {
    role: Role,
    shape: Shape,
    number: Number,
}

impl Fragment {
    /// The fragment, if there is such a one.
    fn new(role: Role, shape: Shape, number: Number) -> Option<Fragment> {
        use Element as E;
        let sixteen = matches!(shape, (16, 16, 16) | (32, 8, 16) | (8, 32, 16));
        let fits = match (role, number) {
            (Role::C, Number::Sum(Accumulator::F16)) => sixteen,
            (Role::C, Number::Sum(Accumulator::F32)) => sixteen || shape == (16, 16, 8),
            (Role::C, Number::Sum(Accumulator::S32)) => sixteen || matches!(shape, (8, 8, 32 | 128)),
            (_, Number::F64) => shape == (8, 8, 4),
            (Role::A | Role::B, Number::Operand(e)) => match e {
                E::F16 | E::Bf16 | E::S8 | E::U8 => sixteen,
                E::Tf32 => shape == (16, 16, 8),
                E::S4 | E::U4 => shape == (8, 8, 32),
                E::B1 => shape == (8, 8, 128),
                E::E4m3 | E::E5m2 => false,
            },
            _ => false,
        };
        fits.then_some(Fragment { role, shape, number })
    }

    fn extents(&self) -> (usize, usize) {
        let (m, n, k) = self.shape;
        match self.role {
            Role::A => (m, k),
            Role::B => (k, n),
            Role::C => (m, n),
        }
    }

    fn registers(&self) -> usize {
        let (rows, columns) = self.extents();
        match self.number {
            // Of f16 always eight, whatever the shape needs.
            Number::Operand(Element::F16) => 8,
            n => rows * columns / 32 / n.per_register(),
        }
    }

    /// Row and column of element `j` of register `r`.
    fn place(&self, lane: usize, r: usize, j: usize) -> (usize, usize) {
        let (group, thread) = (lane / 4, lane % 4);
        let (m, n, k) = self.shape;
        let per = self.number.per_register();
        let steps = (k / (4 * per)).max(1);
        match self.role {
            Role::A => (8 * (r % (m / 8)) + group, 4 * per * (r / (m / 8) % steps) + per * thread + j),
            Role::B => (4 * per * (r % steps) + per * thread + j, 8 * (r / steps % (n / 8)) + group),
            Role::C => {
                let i = r * per + j;
                let block = i / 2;
                (8 * (block % (m / 8)) + group, 8 * (block / (m / 8)) + 2 * thread + i % 2)
            }
        }
    }

    /// Takes the registers of operand `i`.
    fn operand(&self, cx: &mut Cx<'_>, i: usize, write: bool) -> Result<SmallVec<[Reg; 8]>, String> {
        let ty = self.number.register();
        let class = if ty == Type::F64 { Class::B64 } else { Class::B32 };
        let elements = cx.vector(i, self.registers())?;
        let index = elements.iter().map(|e| if write { cx.dst_of(e, ty) } else { cx.src_of(e, ty) });
        index.map(|index| Ok(Reg { class, index: index? })).collect()
    }

    /// The elements' bits, by row and column, and the lanes whose registers are undefined.
    fn gather(&self, warp: &Warp, registers: &[Reg], mut put: impl FnMut(usize, usize, u64)) -> u32 {
        let (bits, per) = (self.number.bits(), self.number.per_register());
        let mut undef = 0;
        for (r, reg) in registers.iter().enumerate() {
            undef |= warp.regs.undef(*reg);
            for lane in 0..32 {
                let word = warp.regs.get(*reg, lane);
                for j in 0..per {
                    let (row, column) = self.place(lane, r, j);
                    let value = if bits == 64 { word } else { word >> (bits * j) & ((1 << bits) - 1) };
                    put(row, column, value);
                }
            }
        }
        undef
    }
}

/// The decoder of this family.
pub fn decode(cx: &mut Cx<'_>) -> Result<Wmma, String> {
    match cx.part("load, store or mma")? {
        "load" => {
            let role = match cx.part("a, b or c")? {
                "a" => Role::A,
                "b" => Role::B,
                "c" => Role::C,
                _ => return cx.unknown(),
            };
            transfer(cx, role, true).map(Wmma::Load)
        }
        "store" => {
            if !cx.lead("d") {
                return cx.unknown();
            }
            transfer(cx, Role::C, false).map(Wmma::Store)
        }
        "mma" => multiply(cx).map(Wmma::Multiply),
        _ => cx.unknown(),
    }
}

/// Takes the next type, in the role.
fn number(cx: &mut Cx<'_>, role: Role) -> Option<Number> {
    if let Some(f64) = cx.find(|p| (p == "f64").then_some(Number::F64)) {
        return Some(f64);
    }
    let (operand, sum) = cx.pick(&TYPES)?;
    if role == Role::C { sum.map(Number::Sum) } else { operand.map(Number::Operand) }
}

fn transfer(cx: &mut Cx<'_>, role: Role, load: bool) -> Result<Transfer, String> {
    cx.expect(&["sync", "aligned"])?;
    let (Some(layout), Some(shape), space) = (layout(cx), cx.pick(&SHAPES), cx.pick(&SPACES)) else { return cx.unknown() };
    let Some(fragment) = number(cx, role).and_then(|n| Fragment::new(role, shape, n)) else {
        return Err(format!("`{}`: there is no such fragment", cx.inst.opcode));
    };
    let fixed = fragment.number.bits() < 8;
    if (fixed && layout != if role == Role::A { Layout::Row } else { Layout::Column })
        || !matches!(space, None | Some(Space::Global | Space::Shared))
    {
        return cx.unknown();
    }
    cx.no_more_parts()?;
    let n = cx.count();
    if n != 2 && n != 3 {
        return Err(format!("`{}` takes 2 or 3 operands, not {n}", cx.inst.opcode));
    }
    let (data, at) = if load { (0, 1) } else { (1, 0) };
    let addr = cx.address(at)?;
    let space = if addr.space == Some(Space::Shared) { Where::Shared } else { access::place(space) };
    let stride = if n == 3 { Some(cx.src(2, Type::U32)?) } else { None };
    cx.uses.clear();
    let registers = fragment.operand(cx, data, load)?;
    Ok(Transfer { fragment, addr, space, layout, stride, registers })
}

fn multiply(cx: &mut Cx<'_>) -> Result<Multiply, String> {
    let bits = cx.pick(&[("xor", true), ("and", false)]);
    if bits.is_some() {
        cx.expect(&["popc"])?;
    }
    cx.expect(&["sync", "aligned"])?;
    let (Some(rows), Some(columns), Some(shape)) = (layout(cx), layout(cx), cx.pick(&SHAPES)) else { return cx.unknown() };
    let saturate = cx.eat("satfinite");
    let rounding = cx.pick(&super::super::float::ROUNDINGS);
    let half = Number::Operand(Element::F16);
    let d = number(cx, Role::C);
    // Of f16 only the types of D and C are said.
    let left = cx.parts().filter(|p| TYPES.iter().any(|t| t.0 == *p) || *p == "f64").count();
    let (a, b, c) = match left {
        1 => (Some(half), Some(half), number(cx, Role::C)),
        _ => (number(cx, Role::A), number(cx, Role::B), number(cx, Role::C)),
    };
    let fragments = [(Role::C, d), (Role::A, a), (Role::B, b), (Role::C, c)];
    let fragments: Vec<Fragment> = fragments.iter().filter_map(|(role, n)| Fragment::new(*role, shape, (*n)?)).collect();
    let [d, a, b, c] = fragments[..] else {
        return Err(format!("`{}`: the tensor cores have no such combination of shape and types", cx.inst.opcode));
    };
    let fits = match (d.number, a.number, c.number) {
        (Number::Sum(Accumulator::S32), Number::Operand(e), Number::Sum(Accumulator::S32)) => e.is_integer(),
        (Number::Sum(_), Number::Operand(Element::F16), Number::Sum(_)) => left == 1,
        (Number::Sum(Accumulator::F32), Number::Operand(Element::Bf16 | Element::Tf32), Number::Sum(Accumulator::F32)) => true,
        (Number::F64, Number::F64, Number::F64) => true,
        _ => false,
    };
    let integer = matches!(a.number, Number::Operand(e) if e.is_integer());
    let one_bit = a.number == Number::Operand(Element::B1);
    if !fits
        || a.number != b.number
        || (saturate && (!integer || one_bit))
        || one_bit != bits.is_some()
        || (rounding.is_some() && a.number != Number::F64)
        || (a.number.bits() < 8 && (rows, columns) != (Layout::Row, Layout::Column))
    {
        return Err(format!("`{}`: the tensor cores have no such combination of shape and types", cx.inst.opcode));
    }
    cx.end(4)?;
    Ok(Multiply {
        shape,
        a: a.number,
        b: b.number,
        d: d.number,
        c: c.number,
        saturate,
        xor: bits == Some(true),
        rounding: rounding.unwrap_or(Rounding::Nearest),
        registers: [d.operand(cx, 0, true)?, a.operand(cx, 1, false)?, b.operand(cx, 2, false)?, c.operand(cx, 3, false)?],
    })
}

/// Executes one; all lanes are here.
pub fn execute(m: &mut Machine<'_>, warp: &mut Warp, op: &Wmma, at: At<'_>) -> Result<Flow, Stop> {
    match op {
        Wmma::Load(x) => x.run(m, warp, at, true)?,
        Wmma::Store(x) => x.run(m, warp, at, false)?,
        Wmma::Multiply(x) => x.run(m, warp, at),
    }
    Ok(Flow::Next)
}

impl Transfer {
    /// Moves register by register: its elements lie side by side along one layout, apart along the other.
    fn run(&self, m: &mut Machine<'_>, warp: &mut Warp, at: At<'_>, load: bool) -> Result<(), Stop> {
        let base = access::addresses(m, warp, &self.addr, at);
        if let Some(stride) = self.stride {
            m.demand(warp, at, warp.regs.undef32(stride), "the stride of a matrix");
        }
        let (rows, columns) = self.fragment.extents();
        let strides = self.stride.map(|s| warp.regs.r32[s as usize]);
        if base.iter().any(|b| *b != base[0]) || strides.is_some_and(|s| s.iter().any(|v| *v != s[0])) {
            let site = warp.site(at.pc, 0);
            m.report(HazardKind::UndefinedBehavior, site, None, || "the lanes of a warp give wmma different matrices".into());
        }
        let line = strides.map_or(if self.layout == Layout::Row { columns } else { rows }, |s| s[0] as usize);
        let (bits, per) = (self.fragment.number.bits(), self.fragment.number.per_register());
        // Whether a register's elements are neighbours in memory.
        let along = match self.fragment.role {
            Role::A => self.layout == Layout::Row,
            Role::B => self.layout == Layout::Column,
            Role::C => self.layout == Layout::Row,
        };
        let (pieces, bytes) = if along { (1, (bits * per / 8).max(bits / 8)) } else { (per, bits / 8) };
        for (r, reg) in self.registers.iter().enumerate() {
            let (mut words, mut undef) = ([0_u64; 32], 0);
            for j in 0..pieces {
                let addresses = std::array::from_fn(|lane| {
                    let (row, column) = self.fragment.place(lane, r, j);
                    let element = if self.layout == Layout::Row { row * line + column } else { column * line + row };
                    base[lane].wrapping_add((element * bits / 8) as u64)
                });
                access::count(m, at.pc, self.space, at.mask, &addresses, bytes as u32);
                let mut block = Block::default();
                if load {
                    let by = &mut warp.by(at.pc);
                    if let Err(fault) = m.mem.load(by, self.space, &addresses, at.mask, bytes, Sem::Weak, &mut block) {
                        return access::refused(m, warp, at, fault);
                    }
                    undef |= block.any_undefined;
                    for (word, read) in words.iter_mut().zip(&block.bytes) {
                        let value = read[..bytes].iter().rev().fold(0, |v, b| v << 8 | u64::from(*b));
                        *word |= value << (bits * j % 64);
                    }
                } else {
                    let undefined = warp.regs.undef(*reg) & at.mask;
                    if undefined != 0 {
                        let global = lanes_of(undefined).filter(|&l| addresses[l] >= GLOBAL_BASE).fold(0, |u, l| u | 1 << l);
                        m.demand(warp, at, global, "a value stored to global memory");
                        lanes_of(undefined).for_each(|l| block.undefined[l] = ((1_u32 << bytes) - 1) as u16);
                        block.any_undefined = undefined;
                    }
                    for (lane, write) in block.bytes.iter_mut().enumerate() {
                        let word = warp.regs.get(*reg, lane) >> (bits * j % 64);
                        write[..bytes].copy_from_slice(&word.to_le_bytes()[..bytes]);
                    }
                    let by = &mut warp.by(at.pc);
                    if let Err(fault) = m.mem.store(by, self.space, &addresses, at.mask, bytes, Sem::Weak, &block) {
                        return access::refused(m, warp, at, fault);
                    }
                    m.effect();
                }
            }
            if load {
                match reg.class {
                    Class::B64 => warp.regs.put64(reg.index, &words, at.mask),
                    _ => warp.regs.put32(reg.index, &words.map(|w| w as u32), at.mask),
                }
                warp.regs.set_undef(*reg, undef, at.mask);
            }
        }
        Ok(())
    }
}

impl Multiply {
    fn run(&self, m: &mut Machine<'_>, warp: &mut Warp, at: At<'_>) {
        let (rows, n, k) = self.shape;
        let fragment = |role, number| Fragment { role, shape: self.shape, number };
        let [a, b, c] = [fragment(Role::A, self.a), fragment(Role::B, self.b), fragment(Role::C, self.c)];
        let d = fragment(Role::C, self.d);
        let (mut x, mut y, mut z) = (vec![0_u64; rows * k], vec![0_u64; k * n], vec![0_u64; rows * n]);
        // An undefined lane of A or B spoils rows or columns; here, all.
        let mut undef = a.gather(warp, &self.registers[1], |row, step, v| x[row * k + step] = v);
        undef |= b.gather(warp, &self.registers[2], |step, column, v| y[step * n + column] = v);
        undef |= c.gather(warp, &self.registers[3], |row, column, v| z[row * n + column] = v);
        match self.a {
            Number::Operand(element) => {
                count(m, at, element, rows * n * k);
                self.sum(element, &x, &y, &mut z);
            }
            _ => {
                if let Some(c) = &mut m.counters {
                    c.tensor(at.pc, TensorKind::Double, (2 * rows * n * k) as u64);
                }
                for (row, z) in z.chunks_exact_mut(n).enumerate() {
                    for (column, sum) in z.iter_mut().enumerate() {
                        *sum = (0..k)
                            .fold(*sum, |s, i| crate::num::double::fma(x[row * k + i], y[i * n + column], s, self.rounding));
                    }
                }
            }
        }
        let (bits, per) = (self.d.bits(), self.d.per_register());
        for (r, reg) in self.registers[0].iter().enumerate() {
            let word = |lane: usize| {
                (0..per).fold(0, |w, j| {
                    let (row, column) = d.place(lane, r, j);
                    w | z[row * n + column] << (bits * j % 64)
                })
            };
            match reg.class {
                Class::B64 => warp.regs.r64[reg.index as usize] = std::array::from_fn(word),
                _ => warp.regs.r32[reg.index as usize] = std::array::from_fn(|lane| word(lane) as u32),
            }
            warp.regs.set_undef(*reg, if undef == 0 { 0 } else { u32::MAX }, at.mask);
        }
    }

    /// Adds the products to C, as bits of C, which become bits of D.
    fn sum(&self, element: Element, x: &[u64], y: &[u64], z: &mut [u64]) {
        let (_, n, k) = self.shape;
        let values = |bits: &[u64]| bits.iter().map(|b| element.value(*b as u32)).collect::<Vec<f32>>();
        let (a, b) = (values(x), values(y));
        if element.is_integer() {
            let mut sums = vec![0.0; z.len()];
            tensor::sum_bits_or_products(&mut sums, &a, &b, n, k, self.xor);
            for (z, sum) in z.iter_mut().zip(sums) {
                *z = u64::from(tensor::accumulate_s32(*z as i32, sum, self.saturate) as u32);
            }
            return;
        }
        let from = |bits: u64| match self.c {
            Number::Sum(Accumulator::F16) => Kind::F16.to_f32(bits as u16),
            _ => f32::from_bits(bits as u32),
        };
        let mut sums: Vec<f32> = z.iter().map(|b| from(*b)).collect();
        let half = self.d == Number::Sum(Accumulator::F16);
        let precision = if half { Precision::Half } else { Precision::Single };
        tensor::multiply_add(&mut sums, &Tile::new(&a, element), &Tile::new(&b, element), n, k, precision);
        for (z, sum) in z.iter_mut().zip(sums) {
            *z = if half { u64::from(Kind::F16.of_f32(sum)) } else { u64::from(canonical(sum)) };
        }
    }
}
