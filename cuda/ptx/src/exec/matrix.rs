//! The tensor-core families: `ldmatrix`, `stmatrix`, `movmatrix` and `mma.sync` here, dense or [`sparse`]; [`wmma`]; wgmma is in
//! [`super::wgmma`].
//!
//! Refused by name: Volta's m8n8k4 on f16, and what sm_90 lacks (8-bit and 6-bit `ldmatrix` and `stmatrix`).

pub mod sparse;
pub(crate) mod wmma;

use smallvec::SmallVec;

use super::access;
use super::flow::{At, Flow, Stop};
use super::lanes::V32;
use super::machine::Machine;
use super::warp::Warp;
use crate::counters::TensorKind;
use crate::hazard::HazardKind;
use crate::ir::{Addr, Class, Cx, Reg};
use crate::matrix::fragment::{self, Accumulator};
use crate::mem::{Block, SHARED_BASE, Sem, Space as Where, WINDOW};
use crate::num::Rounding;
use crate::num::half::Kind;
use crate::num::single::canonical;
use crate::num::tensor::{self, Element, Precision, Tile};
use crate::request::FaultKind;
use crate::text::ast::{Space, Type};
use sparse::Sparse;
use wmma::Wmma;

/// An instruction of these families.
pub enum Matrix {
    /// `ldmatrix`.
    Load(Eights),
    /// `stmatrix`.
    Store(Eights),
    /// `movmatrix`: transposes an 8×8 matrix held by the warp.
    Transpose {
        /// Result.
        d: u16,
        /// Operand.
        a: u16,
    },
    /// `mma.sync` but on f64.
    Multiply(Multiply),
    /// `mma.sync` on f64.
    MultiplyF64(MultiplyF64),
    /// `wmma`.
    Wmma(Wmma),
}

/// One, two or four 8×8 matrices of 16-bit elements between shared memory and registers.
pub struct Eights {
    /// The registers, one a matrix.
    pub(crate) registers: SmallVec<[u16; 4]>,
    pub(crate) address: Addr,
    /// `.shared` was written: the address is one of shared memory, else generic.
    pub(crate) shared: bool,
    transposed: bool,
}

/// `mma.sync` of m16n8 or m8n8.
pub struct Multiply {
    pub(crate) m: usize,
    pub(crate) k: usize,
    pub(crate) a: Element,
    b: Element,
    accumulator: Accumulator,
    saturate: bool,
    /// `.xor.popc`, of bits.
    xor: bool,
    /// A holds half of its elements.
    sparse: Option<Sparse>,
    registers: [SmallVec<[u16; 4]>; 4],
}

/// `mma.sync` on f64.
pub struct MultiplyF64 {
    pub(crate) m: usize,
    pub(crate) k: usize,
    rounding: Rounding,
    registers: [SmallVec<[u16; 8]>; 4],
}

/// Columns of every `mma.sync` shape.
pub(crate) const N: usize = 8;

/// What a type means as A or B, and as C or D.
type Roles = (Option<Element>, Option<Accumulator>);

/// The types of matrices.
pub(super) const TYPES: [(&str, Roles); 12] = [
    ("f16", (Some(Element::F16), Some(Accumulator::F16))),
    ("bf16", (Some(Element::Bf16), None)),
    ("tf32", (Some(Element::Tf32), None)),
    ("e4m3", (Some(Element::E4m3), None)),
    ("e5m2", (Some(Element::E5m2), None)),
    ("s8", (Some(Element::S8), None)),
    ("u8", (Some(Element::U8), None)),
    ("s4", (Some(Element::S4), None)),
    ("u4", (Some(Element::U4), None)),
    ("b1", (Some(Element::B1), None)),
    ("f32", (None, Some(Accumulator::F32))),
    ("s32", (None, Some(Accumulator::S32))),
];

/// Takes the next type, of A or B.
pub(super) fn element(cx: &mut Cx<'_>) -> Result<Element, String> {
    let element = cx.pick(&TYPES).and_then(|t| t.0);
    element.ok_or_else(|| format!("`{}`: A and B have no such type", cx.inst.opcode))
}

/// Takes the next type, of C or D.
pub(super) fn accumulator(cx: &mut Cx<'_>) -> Result<Accumulator, String> {
    let accumulator = cx.pick(&TYPES).and_then(|t| t.1);
    accumulator.ok_or_else(|| format!("`{}`: C and D have no such type", cx.inst.opcode))
}

/// Whether the tensor cores combine these types.
pub(super) fn combine(a: Element, b: Element, accumulator: Accumulator) -> bool {
    use Element::{B1, Bf16, E4m3, E5m2, F16, S4, S8, Tf32, U4, U8};
    match (a, b) {
        (F16, F16) => accumulator != Accumulator::S32,
        (Bf16, Bf16) | (Tf32, Tf32) => accumulator == Accumulator::F32,
        (E4m3 | E5m2, E4m3 | E5m2) => accumulator != Accumulator::S32,
        (S8 | U8, S8 | U8) | (S4 | U4, S4 | U4) | (B1, B1) => accumulator == Accumulator::S32,
        _ => false,
    }
}

/// Which index of a matrix in memory, or of what `mma` was given, runs first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Layout {
    Row,
    Column,
}

/// Takes the next layout.
pub(super) fn layout(cx: &mut Cx<'_>) -> Option<Layout> {
    cx.pick(&[("row", Layout::Row), ("col", Layout::Column)])
}

/// The decoder of this family.
pub fn decode(cx: &mut Cx<'_>) -> Result<Matrix, String> {
    match cx.head() {
        "wmma" => wmma::decode(cx).map(Matrix::Wmma),
        "ldmatrix" | "stmatrix" => eights(cx),
        "movmatrix" => {
            cx.expect(&["sync", "aligned", "m8n8", "trans", "b16"])?;
            cx.end(2)?;
            Ok(Matrix::Transpose { d: cx.dst(0, Type::B32)?, a: cx.src(1, Type::B32)? })
        }
        _ => multiply(cx),
    }
}

fn eights(cx: &mut Cx<'_>) -> Result<Matrix, String> {
    let load = cx.head() == "ldmatrix";
    cx.expect(&["sync", "aligned"])?;
    if !cx.eat("m8n8") {
        return Err(format!("`{}`: sm_90 has the shape .m8n8 alone", cx.inst.opcode));
    }
    let Some(count) = cx.pick(&[("x1", 1), ("x2", 2), ("x4", 4)]) else { return cx.unknown() };
    let transposed = cx.eat("trans");
    let shared = cx.eat("shared") || cx.eat("shared::cta");
    if !cx.eat("b16") {
        return Err(format!("`{}`: sm_90 has the type .b16 alone", cx.inst.opcode));
    }
    cx.end(2)?;
    let (vector, address) = if load { (0, 1) } else { (1, 0) };
    let elements = cx.vector(vector, count)?;
    let registers = elements
        .iter()
        .map(|e| if load { cx.dst_of(e, Type::B32) } else { cx.src_of(e, Type::B32) })
        .collect::<Result<SmallVec<_>, _>>()?;
    let address = cx.address(address)?;
    if address.space.is_some_and(|s| s != Space::Shared) {
        return Err(format!("`{}` needs an address in shared memory", cx.inst.opcode));
    }
    let shared = shared || address.space == Some(Space::Shared);
    let eights = Eights { registers, address, shared, transposed };
    Ok(if load { Matrix::Load(eights) } else { Matrix::Store(eights) })
}

fn multiply(cx: &mut Cx<'_>) -> Result<Matrix, String> {
    // That indices ascend, as ordered metadata promises, changes nothing here.
    let sparse = cx.lead("sp") || cx.lead("sp::ordered_metadata");
    cx.expect(&["sync", "aligned"])?;
    let shapes = [
        ("m16n8k4", (16, 4)),
        ("m16n8k8", (16, 8)),
        ("m16n8k16", (16, 16)),
        ("m16n8k32", (16, 32)),
        ("m16n8k64", (16, 64)),
        ("m16n8k128", (16, 128)),
        ("m16n8k256", (16, 256)),
        ("m8n8k32", (8, 32)),
        ("m8n8k128", (8, 128)),
        ("m8n8k16", (8, 16)),
        ("m8n8k4", (8, 4)),
    ];
    let Some((m, k)) = cx.pick(&shapes) else {
        return Err(format!("`{}`: the tensor cores have no such shape", cx.inst.opcode));
    };
    if (layout(cx), layout(cx)) != (Some(Layout::Row), Some(Layout::Column)) {
        return Err(format!("`{}`: only .row.col is supported", cx.inst.opcode));
    }
    if cx.has("f64") && !sparse {
        return multiply_f64(cx, m, k);
    }
    let bits = cx.pick(&[("xor", true), ("and", false)]);
    if bits.is_some() {
        cx.expect(&["popc"])?;
    }
    let saturate = cx.eat("satfinite");
    let d = accumulator(cx)?;
    let (a, b) = (element(cx)?, element(cx)?);
    let c = accumulator(cx)?;
    // A step of k is that of 16 bytes of a row; the long shapes have two, the sparse ones twice as much of A's zeros.
    let step = 128 / a.bits() as usize;
    let shape = match (a.bits(), sparse) {
        (_, true) => m == 16 && (k == 2 * step || k == 4 * step) && !(a.bits() == 8 && !a.is_integer() && k == 2 * step),
        (1 | 4, _) => k == step || (m == 16 && k == 2 * step),
        (8, _) if a.is_integer() => k == step || (m == 16 && k == 2 * step),
        _ => m == 16 && (k == step || k == 2 * step),
    };
    let shape = shape && !(sparse && (a == Element::B1 || (a.bits() == 8 && !a.is_integer() && d == Accumulator::F16)));
    if c != d
        || !shape
        || !combine(a, b, d)
        || (saturate && !a.is_integer())
        || (a == Element::B1) != bits.is_some()
        || (a == Element::B1 && saturate)
    {
        return Err(format!("`{}`: the tensor cores have no such combination of shape and types", cx.inst.opcode));
    }
    cx.end(if sparse { 6 } else { 4 })?;
    let sparse = if sparse { Some(sparse::operands(cx, 4, a, k)?) } else { None };
    let held = if sparse.is_some() { k / 2 } else { k };
    let (in_d, in_a, in_b) = (m * N / 32 / d.per_register(), m * held / 32 / a.per_register(), k * N / 32 / b.per_register());
    Ok(Matrix::Multiply(Multiply {
        m,
        k,
        a,
        b,
        accumulator: d,
        saturate,
        xor: bits == Some(true),
        sparse,
        registers: [
            vector(cx, 0, in_d, d.register(), true)?,
            vector(cx, 1, in_a, Type::B32, false)?,
            vector(cx, 2, in_b, Type::B32, false)?,
            vector(cx, 3, in_d, d.register(), false)?,
        ],
    }))
}

fn multiply_f64(cx: &mut Cx<'_>, m: usize, k: usize) -> Result<Matrix, String> {
    let rounding = cx.pick(&super::float::ROUNDINGS).unwrap_or(Rounding::Nearest);
    if !(0..4).all(|_| cx.eat("f64")) || (m == 8 && k != 4) || k > 16 {
        return Err(format!("`{}`: the tensor cores have no such combination of shape and types", cx.inst.opcode));
    }
    cx.end(4)?;
    Ok(Matrix::MultiplyF64(MultiplyF64 {
        m,
        k,
        rounding,
        registers: [
            vector(cx, 0, m * N / 32, Type::F64, true)?,
            vector(cx, 1, m * k / 32, Type::F64, false)?,
            vector(cx, 2, k * N / 32, Type::F64, false)?,
            vector(cx, 3, m * N / 32, Type::F64, false)?,
        ],
    }))
}

/// The registers of operand `i`, a vector of `count`.
pub(super) fn vector<A>(cx: &mut Cx<'_>, i: usize, count: usize, ty: Type, write: bool) -> Result<SmallVec<A>, String>
where
    A: smallvec::Array<Item = u16>,
{
    cx.vector(i, count)?.iter().map(|e| if write { cx.dst_of(e, ty) } else { cx.src_of(e, ty) }).collect()
}

/// Whether every live lane is here; that a warp has fewer than 32 is a hazard.
pub(super) fn whole_warp(m: &mut Machine<'_>, warp: &Warp, at: At<'_>) -> bool {
    if at.is_converged(warp) && warp.live != u32::MAX && m.kernel.options.hazards {
        let site = warp.site(at.pc, warp.live.trailing_zeros() & 31);
        m.report(HazardKind::UndefinedBehavior, site, None, || "an instruction of all 32 lanes in a warp that has fewer".into());
    }
    at.is_converged(warp)
}

/// Executes one.
pub fn execute(m: &mut Machine<'_>, warp: &mut Warp, op: &Matrix, at: At<'_>) -> Result<Flow, Stop> {
    if !whole_warp(m, warp, at) {
        return Ok(Flow::Converge);
    }
    match op {
        Matrix::Load(x) => load(m, warp, x, at)?,
        Matrix::Store(x) => store(m, warp, x, at)?,
        Matrix::Transpose { d, a } => {
            let matrix = eight_by_eight(&warp.regs.r32[*a as usize]);
            let undef = if warp.regs.undef32(*a) == 0 { 0 } else { u32::MAX };
            warp.regs.r32[*d as usize] = registers_of(&matrix, true);
            set_undef32(warp, *d, undef);
        }
        Matrix::Multiply(x) => {
            count(m, at, x.a, x.m * N * x.k);
            if let Some(sparse) = x.sparse {
                m.demand(warp, at, warp.regs.undef32(sparse.metadata), "the metadata of a sparse matrix");
            }
            if !x.run(warp) {
                let site = warp.site(at.pc, 0);
                m.report(HazardKind::UndefinedBehavior, site, None, || sparse::INVALID.into());
            }
        }
        Matrix::Wmma(x) => return wmma::execute(m, warp, x, at),
        Matrix::MultiplyF64(x) => {
            if let Some(c) = &mut m.counters {
                c.tensor(at.pc, TensorKind::Double, (2 * x.m * N * x.k) as u64);
            }
            x.run(warp);
        }
    }
    Ok(Flow::Next)
}

/// Counts the operations of an instruction.
pub(super) fn count(m: &mut Machine<'_>, at: At<'_>, a: Element, products: usize) {
    if let Some(c) = &mut m.counters {
        // Hopper has no cores for less than a byte; its time is no matter here.
        let kind = match a.bits() {
            32 => TensorKind::Tf32,
            16 => TensorKind::Half,
            _ => TensorKind::Byte,
        };
        c.tensor(at.pc, kind, 2 * products as u64);
    }
}

fn set_undef32(warp: &mut Warp, index: u16, undef: u32) {
    warp.regs.set_undef(Reg { class: Class::B32, index }, undef, u32::MAX);
}

/// The 8×8 matrix whose rows lie across the lanes of a register.
fn eight_by_eight(register: &V32) -> [[u16; 8]; 8] {
    let mut matrix = [[0; 8]; 8];
    for (lane, &bits) in register.iter().enumerate() {
        for half in 0..2 {
            let (row, column) = fragment::eight_by_eight(lane, half, false);
            matrix[row][column] = (bits >> (16 * half)) as u16;
        }
    }
    matrix
}

/// The register that holds a matrix, or its transpose.
fn registers_of(matrix: &[[u16; 8]; 8], transposed: bool) -> V32 {
    std::array::from_fn(|lane| {
        let element = |half| {
            let (row, column) = fragment::eight_by_eight(lane, half, transposed);
            u32::from(matrix[row][column])
        };
        element(0) | element(1) << 16
    })
}

/// The addresses of the rows, given by the first lanes, with the space and those lanes.
fn rows_of(m: &mut Machine<'_>, warp: &Warp, x: &Eights, at: At<'_>) -> Result<([u64; 32], Where, u32), Stop> {
    let mask = u32::MAX >> (32 - 8 * x.registers.len());
    let addresses = access::addresses(m, warp, &x.address, at.of(mask));
    let space = if x.shared { Where::Shared } else { Where::Generic };
    let outside = |lane: &usize| addresses[*lane].wrapping_sub(SHARED_BASE) >= WINDOW;
    if !x.shared
        && let Some(lane) = super::lanes::lanes_of(mask).find(outside)
    {
        return m.fault(warp, at.only(lane as u32), FaultKind::IllegalAddress, "the address of a row is not in shared memory");
    }
    Ok((addresses, space, mask))
}

/// Reads the rows of the matrices, and says which hold something undefined.
fn read_rows(m: &mut Machine<'_>, warp: &mut Warp, x: &Eights, at: At<'_>) -> Result<([[u8; 16]; 32], u32), Stop> {
    let (addresses, space, mask) = rows_of(m, warp, x, at)?;
    let mut block = Block::default();
    if let Err(fault) = m.mem.load(&mut warp.by(at.pc), space, &addresses, mask, 16, Sem::Weak, &mut block) {
        return access::refused(m, warp, at, fault);
    }
    access::count(m, at.pc, space, mask, &addresses, 16);
    Ok((block.bytes, block.any_undefined & mask))
}

fn write_rows(
    m: &mut Machine<'_>,
    warp: &mut Warp,
    x: &Eights,
    rows: &[[u8; 16]; 32],
    undef: u32,
    at: At<'_>,
) -> Result<(), Stop> {
    let (addresses, space, mask) = rows_of(m, warp, x, at)?;
    let block = Block { bytes: *rows, undefined: [u16::MAX; 32], any_undefined: undef };
    if let Err(fault) = m.mem.store(&mut warp.by(at.pc), space, &addresses, mask, 16, Sem::Weak, &block) {
        return access::refused(m, warp, at, fault);
    }
    access::count(m, at.pc, space, mask, &addresses, 16);
    m.effect();
    Ok(())
}

fn load(m: &mut Machine<'_>, warp: &mut Warp, x: &Eights, at: At<'_>) -> Result<(), Stop> {
    let (rows, undef) = read_rows(m, warp, x, at)?;
    for (i, &d) in x.registers.iter().enumerate() {
        let row = |r: usize| {
            let bytes = &rows[8 * i + r];
            std::array::from_fn(|c| u16::from_le_bytes([bytes[2 * c], bytes[2 * c + 1]]))
        };
        warp.regs.r32[d as usize] = registers_of(&std::array::from_fn(row), x.transposed);
        // Lanes that hold a piece of an undefined row.
        let rows_undef = undef >> (8 * i) & 0xff;
        let mut lanes = 0;
        if rows_undef != 0 {
            for lane in 0..32 {
                let touches = (0..2).any(|half| rows_undef >> fragment::eight_by_eight(lane, half, x.transposed).0 & 1 == 1);
                lanes |= u32::from(touches) << lane;
            }
        }
        set_undef32(warp, d, lanes);
    }
    Ok(())
}

fn store(m: &mut Machine<'_>, warp: &mut Warp, x: &Eights, at: At<'_>) -> Result<(), Stop> {
    let mut rows = [[0; 16]; 32];
    let mut undef = 0;
    for (i, &a) in x.registers.iter().enumerate() {
        let register = &warp.regs.r32[a as usize];
        let bad = warp.regs.undef32(a);
        for (lane, &bits) in register.iter().enumerate() {
            for half in 0..2 {
                let (row, column) = fragment::eight_by_eight(lane, half, x.transposed);
                let value = (bits >> (16 * half)) as u16;
                rows[8 * i + row][2 * column..2 * column + 2].copy_from_slice(&value.to_le_bytes());
                undef |= (bad >> lane & 1) << (8 * i + row);
            }
        }
    }
    write_rows(m, warp, x, &rows, undef, at)
}

/// Rows and columns of D that an undefined operand reaches.
#[derive(Clone, Copy, Default)]
struct Taint {
    rows: u32,
    columns: u32,
}

impl Multiply {
    fn taint(&self, warp: &Warp) -> Taint {
        let mut taint = Taint::default();
        for (r, &index) in self.registers[1].iter().enumerate() {
            let undef = warp.regs.undef32(index);
            for lane in super::lanes::lanes_of(undef) {
                taint.rows |= 1 << fragment::a(lane, r, 0, self.a.per_register()).0;
            }
        }
        for (r, &index) in self.registers[2].iter().enumerate() {
            let undef = warp.regs.undef32(index);
            for lane in super::lanes::lanes_of(undef) {
                taint.columns |= 1 << fragment::b(lane, r, 0, self.b.per_register()).1;
            }
        }
        taint
    }

    /// Says whether the metadata, if there are any, are valid.
    fn run(&self, warp: &mut Warp) -> bool {
        let (m, k) = (self.m, self.k);
        let held = if self.sparse.is_some() { k / 2 } else { k };
        let taint = self.taint(warp);
        let r32 = &warp.regs.r32;
        let mut a = vec![0.0; m * held];
        let mut b = vec![0.0; k * N];
        let mut d = [0.0; 16 * N];
        let (per_a, per_b) = (self.a.per_register(), self.b.per_register());
        for (r, &index) in self.registers[1].iter().enumerate() {
            for (lane, &bits) in r32[index as usize].iter().enumerate() {
                for j in 0..per_a {
                    let (row, step) = fragment::a(lane, r, j, per_a);
                    a[row * held + step] = self.a.value(bits >> (self.a.bits() as usize * j));
                }
            }
        }
        let mut valid = true;
        if let Some(sparse) = self.sparse {
            let mut dense = vec![0.0; m * k];
            valid = sparse::expand(self.a, k, &a, &r32[sparse.metadata as usize], sparse, &mut dense);
            a = dense;
        }
        for (r, &index) in self.registers[2].iter().enumerate() {
            for (lane, &bits) in r32[index as usize].iter().enumerate() {
                for j in 0..per_b {
                    let (step, column) = fragment::b(lane, r, j, per_b);
                    b[step * N + column] = self.b.value(bits >> (self.b.bits() as usize * j));
                }
            }
        }
        let per_d = self.accumulator.per_register();
        let places = move |r: usize, lane: usize, j: usize| {
            let (row, column) = fragment::accumulator(lane, per_d * r + j);
            (row * N + column, row, column)
        };
        // Integers are summed apart from C: f32 holds the sum of products, but not C.
        if self.accumulator != Accumulator::S32 {
            for (r, &index) in self.registers[3].iter().enumerate() {
                for (lane, &bits) in r32[index as usize].iter().enumerate() {
                    for j in 0..per_d {
                        d[places(r, lane, j).0] = match self.accumulator {
                            Accumulator::F16 => Kind::F16.to_f32((bits >> (16 * j)) as u16),
                            _ => f32::from_bits(bits),
                        };
                    }
                }
            }
        }
        if self.accumulator == Accumulator::S32 {
            tensor::sum_bits_or_products(&mut d[..m * N], &a, &b, N, k, self.xor);
        } else {
            let precision = if self.accumulator == Accumulator::F16 { Precision::Half } else { Precision::Single };
            tensor::multiply_add(&mut d, &Tile::new(&a, self.a), &Tile::new(&b, self.b), N, k, precision);
        }
        // D's registers may be C's, in any order.
        let c: SmallVec<[(V32, u32); 4]> =
            self.registers[3].iter().map(|&i| (warp.regs.r32[i as usize], warp.regs.undef32(i))).collect();
        for (r, (&to, (c, undef))) in self.registers[0].iter().zip(c).enumerate() {
            let mut undef = undef;
            warp.regs.r32[to as usize] = std::array::from_fn(|lane| {
                let sum = |j| d[places(r, lane, j).0];
                match self.accumulator {
                    Accumulator::F16 => u32::from(Kind::F16.of_f32(sum(0))) | u32::from(Kind::F16.of_f32(sum(1))) << 16,
                    Accumulator::F32 => canonical(sum(0)),
                    Accumulator::S32 => tensor::accumulate_s32(c[lane] as i32, sum(0), self.saturate) as u32,
                }
            });
            if taint.rows | taint.columns != 0 {
                for lane in 0..32 {
                    let hit = (0..per_d).any(|j| {
                        let (_, row, column) = places(r, lane, j);
                        (taint.rows >> row | taint.columns >> column) & 1 == 1
                    });
                    undef |= u32::from(hit) << lane;
                }
            }
            set_undef32(warp, to, undef);
        }
        valid
    }
}

impl MultiplyF64 {
    fn run(&self, warp: &mut Warp) {
        let (m, k) = (self.m, self.k);
        let r64 = &warp.regs.r64;
        let (mut a, mut b, mut d) = ([0.0; 16 * 16], [0.0; 16 * N], [0.0; 16 * N]);
        let mut undef = 0;
        for list in &self.registers[1..] {
            for &index in list {
                undef |= warp.regs.undef64(index);
            }
        }
        for (r, &index) in self.registers[1].iter().enumerate() {
            for (lane, &bits) in r64[index as usize].iter().enumerate() {
                let (row, step) = fragment::a(lane, r, 0, 1);
                a[row * k + step] = f64::from_bits(bits);
            }
        }
        for (r, &index) in self.registers[2].iter().enumerate() {
            for (lane, &bits) in r64[index as usize].iter().enumerate() {
                let (step, column) = fragment::b(lane, r, 0, 1);
                b[step * N + column] = f64::from_bits(bits);
            }
        }
        for (r, &index) in self.registers[3].iter().enumerate() {
            for (lane, &bits) in r64[index as usize].iter().enumerate() {
                let (row, column) = fragment::accumulator(lane, r);
                d[row * N + column] = f64::from_bits(bits);
            }
        }
        match self.rounding {
            Rounding::Nearest => tensor::multiply_add_f64(&mut d[..m * N], &a[..m * k], &b[..k * N], N, k),
            rounding => {
                for (i, sum) in d[..m * N].iter_mut().enumerate() {
                    let (row, column) = (i / N, i % N);
                    let term = |s: u64, l: usize| {
                        crate::num::double::fma(a[row * k + l].to_bits(), b[l * N + column].to_bits(), s, rounding)
                    };
                    *sum = f64::from_bits((0..k).fold(sum.to_bits(), term));
                }
            }
        }
        for (r, &to) in self.registers[0].iter().enumerate() {
            warp.regs.r64[to as usize] = std::array::from_fn(|lane| {
                let (row, column) = fragment::accumulator(lane, r);
                d[row * N + column].to_bits()
            });
            // One undefined lane spoils a row or a column; for f64 the whole result counts as undefined.
            let undef = if undef == 0 { 0 } else { u32::MAX };
            warp.regs.set_undef(Reg { class: Class::B64, index: to }, undef, u32::MAX);
        }
    }
}
