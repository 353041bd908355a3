//! `wgmma.mma_async` as an instruction: its operands, and which forms there are.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::exec::matrix;
use crate::exec::matrix::sparse::{self, Sparse};
use crate::exec::touches::Shape;
use crate::ir::{Class, Cx, Reg};
use crate::matrix::Major;
use crate::matrix::fragment::Accumulator;
use crate::num::tensor::Element;
use crate::text::ast::{Operand, Type};

/// Rows of A and D.
pub(crate) const M: usize = 64;

/// An instruction of this family.
pub enum WgmmaOp {
    Multiply(Arc<Wgmma>),
    Fence,
    Commit,
    /// `wgmma.wait_group` with the number of groups that may stay pending.
    Wait(u32),
}

impl WgmmaOp {
    /// Registers that the instruction works on in its own time: A and D.
    pub fn asynchronous(&self) -> impl Iterator<Item = Reg> + '_ {
        let multiply = if let WgmmaOp::Multiply(x) = self { Some(x) } else { None };
        multiply.into_iter().flat_map(|x| x.registers())
    }
}

/// `wgmma.mma_async`.
pub struct Wgmma {
    pub(crate) n: usize,
    pub(crate) a: Element,
    pub(super) b: Element,
    pub(super) accumulator: Accumulator,
    pub(super) saturate: bool,
    pub(crate) d: SmallVec<[u16; 16]>,
    pub(crate) source: Source,
    /// 64-bit register of B's descriptor.
    pub(super) b_descriptor: u16,
    pub(super) a_major: Major,
    pub(super) b_major: Major,
    /// Predicate, and whether it is negated: D is added.
    pub(crate) scale_d: (u16, bool),
    pub(super) negate_a: bool,
    pub(super) negate_b: bool,
    /// A holds half of its elements.
    pub(crate) sparse: Option<Sparse>,
}

/// Where A comes from.
pub(crate) enum Source {
    Registers(SmallVec<[u16; 4]>),
    /// 64-bit register of its descriptor.
    Descriptor(u16),
}

impl Wgmma {
    pub(crate) fn k(&self) -> usize {
        if self.sparse.is_some() { 2 * self.held() } else { self.held() }
    }

    /// Elements of a row of A that are there.
    pub(crate) fn held(&self) -> usize {
        256 / self.a.bits() as usize
    }

    pub(crate) fn a_registers(&self) -> &[u16] {
        match &self.source {
            Source::Registers(r) => r,
            Source::Descriptor(_) => &[],
        }
    }

    /// Registers that wgmma reads or writes on its own time.
    pub fn registers(&self) -> impl Iterator<Item = Reg> + '_ {
        self.d.iter().chain(self.a_registers()).map(|&index| Reg { class: Class::B32, index })
    }

    /// Those of one shape may accumulate into the same registers without a fence between them.
    pub(super) fn shape(&self) -> Shape {
        (self.n, self.k(), self.accumulator)
    }
}

/// Decodes `wgmma.…`.
pub fn decode(cx: &mut Cx<'_>) -> Result<WgmmaOp, String> {
    let operation = cx.part("an operation")?;
    let sparse = operation == "mma_async" && (cx.lead("sp") || cx.lead("sp::ordered_metadata"));
    cx.expect(&["sync", "aligned"])?;
    match operation {
        "fence" => cx.end(0).map(|()| WgmmaOp::Fence),
        "commit_group" => cx.end(0).map(|()| WgmmaOp::Commit),
        "wait_group" => {
            cx.end(1)?;
            let n = cx.int(0)?;
            u32::try_from(n).map(WgmmaOp::Wait).map_err(|_| format!("`{}` cannot wait for {n} groups", cx.inst.opcode))
        }
        "mma_async" => multiply(cx, sparse).map(|x| WgmmaOp::Multiply(Arc::new(x))),
        _ => cx.unknown(),
    }
}

fn multiply(cx: &mut Cx<'_>, sparse: bool) -> Result<Wgmma, String> {
    let shape = |p: &str| {
        let (n, k) = p.strip_prefix("m64n")?.split_once('k')?;
        Some((n.parse::<usize>().ok()?, k.parse::<usize>().ok()?))
    };
    let Some((n, k)) = cx.find(shape) else {
        return Err(format!("`{}` lacks a shape of wgmma, such as .m64n128k16", cx.inst.opcode));
    };
    let saturate = cx.eat("satfinite");
    let bits = cx.eat("and") && cx.eat("popc");
    let accumulator = matrix::accumulator(cx)?;
    let (a, b) = (matrix::element(cx)?, matrix::element(cx)?);
    cx.end(cx.count())?;
    let legal_n = (8..=256).contains(&n) && n % 8 == 0 && (!a.is_integer() || n % 16 == 0 || n == 8 || n == 24);
    let one_bit = a == Element::B1;
    let legal = legal_n
        && k == (if sparse { 512 } else { 256 }) / a.bits() as usize
        && a.bits() != 4
        && !(one_bit && (sparse || saturate));
    if !legal || one_bit != bits || !matrix::combine(a, b, accumulator) || (saturate && !a.is_integer()) {
        return Err(format!("`{}`: wgmma has no such combination of shape and types", cx.inst.opcode));
    }
    let d = matrix::vector(cx, 0, n / 2 / accumulator.per_register(), accumulator.register(), true)?;
    let source = match cx.operand(1)? {
        Operand::Vector(_) => Source::Registers(matrix::vector(cx, 1, 4, Type::B32, false)?),
        _ => Source::Descriptor(cx.src(1, Type::B64)?),
    };
    let from_registers = matches!(source, Source::Registers(_));
    let b_descriptor = cx.src(2, Type::B64)?;
    let scale_at = if sparse { 5 } else { 3 };
    let sparse = if sparse { Some(sparse::operands(cx, 3, a, k)?) } else { None };
    // Not to be negated.
    let scale_d = (cx.src(scale_at, Type::Pred)?, false);
    // Integers have no scales, and only 16-bit types may be transposed: those in registers already lie as they must.
    let scales = if a.is_integer() { 0 } else { 2 };
    let transposes = match a.bits() {
        16 if from_registers => 1,
        16 => 2,
        _ => 0,
    };
    let first = scale_at + 1;
    cx.end(first + scales + transposes)?;
    let mut negate = [false; 2];
    for (i, negate) in negate.iter_mut().enumerate().take(scales) {
        *negate = match cx.int(first + i)? {
            1 => false,
            -1 => true,
            other => return Err(format!("`{}`: a scale is 1 or -1, not {other}", cx.inst.opcode)),
        };
    }
    let mut majors = [Major::K; 2];
    for i in 0..transposes {
        let major = match cx.int(first + 2 + i)? {
            0 => Major::K,
            1 => Major::Mn,
            other => return Err(format!("`{}`: a transpose is 0 or 1, not {other}", cx.inst.opcode)),
        };
        majors[2 - transposes + i] = major;
    }
    let [negate_a, negate_b] = negate;
    let [a_major, b_major] = majors;
    Ok(Wgmma { n, a, b, accumulator, saturate, d, source, b_descriptor, a_major, b_major, scale_d, negate_a, negate_b, sparse })
}
