//! What an instruction does, and which family decodes it.
//!
//! # How a family of instructions hooks in
//!
//! A family is one file of `exec/` (a folder if it is big). One that works lane by lane on registers alone has
//!
//! ```text
//! pub fn decode(cx: &mut Cx<'_>) -> lanes::Decode     // a function over all 32 lanes, written with the macro `lanes!`, and operands
//! ```
//!
//! The others have a type of their own, which is a variant of [`Op`] (boxed if big), and
//!
//! ```text
//! pub fn decode(cx: &mut Cx<'_>) -> Result<Family, String>
//! pub fn execute(m: &mut Machine<'_>, warp: &mut Warp, op: &Family, at: At<'_>) -> Result<Flow, Stop>
//! ```
//!
//! listed in [`decode`] here and in `step.rs`. `decode` reads the words of the name ([`Cx::lead`], [`Cx::part`]), takes the
//! modifiers it knows, which stand in any order ([`Cx::eat`], [`Cx::pick`], [`Cx::ty`]), ends with [`Cx::end`] so that a left-over one is an error, and turns operands into register
//! indices with [`Cx::src`], [`Cx::dst`], [`Cx::address`] and their like. These also note which registers the instruction reads and
//! writes, so that undefinedness and registers in flight are tracked without the family's help. Every form that is not
//! understood is an `Err` that names the culprit: nothing is ever ignored.

use super::atomics::{self, Atomic};
use super::barriers::{self, BarrierOp};
use super::bulk::{self, Bulk};
use super::calls::{self, Call};
use super::control::{self, Control, Transfer};
use super::lanes::LaneFn;
use super::matrix::{self, Matrix};
use super::memory::{self, MemoryOp};
use super::registers::{self, SetRegisters};
use super::warp_ops::{self, WarpOp};
use super::wgmma::{self, WgmmaOp};
use super::{bits, compare, cvt, float, int, moves, video};
use crate::ir::{Args, Cx, Guard, Reg};
use crate::text::ast::Type;

/// An instruction, ready to run.
pub struct Inst {
    pub guard: Guard,
    pub op: Op,
    /// Where in the module's list of registers its own start: first those read, then those written.
    pub refs: u32,
    /// How many it reads.
    pub uses: u16,
    /// How many it writes.
    pub defs: u16,
    /// It is no wgmma, but accesses registers that a wgmma of its function works on in its own time.
    pub touches_wgmma: bool,
}

impl Inst {
    /// Its registers, of the module's list: those read, and those written.
    #[inline]
    pub fn registers<'r>(&self, refs: &'r [Reg]) -> (&'r [Reg], &'r [Reg]) {
        refs[self.refs as usize..][..self.uses as usize + self.defs as usize].split_at(self.uses as usize)
    }
}

/// What an instruction does.
pub enum Op {
    /// Lane by lane over registers; a result is undefined where it depends on an operand that is ([`super::undefined`]).
    Lane(LaneFn, Args),
    /// The same, where each bit of a result depends on single bits of the operands: undefinedness is one of bits, too.
    Bitwise(LaneFn, Args),
    /// `bra`, `brx`, `ret`, `exit`, `trap`.
    Transfer(Transfer),
    Call(Box<Call>),
    /// Clocks, sleep, and what only tunes a real card.
    Control(Control),
    /// `bar`, `barrier`.
    Barrier(Box<BarrierOp>),
    /// `ld`, `st` and their like.
    Memory(Box<MemoryOp>),
    /// `atom`, `red`.
    Atomic(Box<Atomic>),
    /// `shfl`, `vote`, `match`, `redux`, `activemask`, `elect`.
    Warp(Box<WarpOp>),
    /// `ldmatrix`, `stmatrix`, `movmatrix`, `mma`, `wmma`.
    Matrix(Box<Matrix>),
    Wgmma(WgmmaOp),
    /// `setmaxnreg`.
    Registers(SetRegisters),
    /// `cp.async…`, `mbarrier…` and what belongs to them.
    Bulk(Box<Bulk>),
}

/// Instructions whose results depend bit by bit on their operands, by the first part of their opcode.
const BITWISE: [&str; 13] = ["mov", "and", "or", "xor", "not", "lop3", "shl", "shr", "shf", "prmt", "bfe", "bfi", "selp"];

/// Decodes an instruction by the family that the first part of its opcode, and now and then another, names.
pub(super) fn decode(cx: &mut Cx<'_>) -> Result<Op, String> {
    let float = |p| Type::parse(p).is_some_and(|t| t.is_float());
    let extends = cx.head() == "cvt" && !cx.parts().any(|p| float(p) || p == "sat");
    let lanewise = if extends || BITWISE.contains(&cx.head()) { Op::Bitwise } else { Op::Lane };
    let lane = match cx.head() {
        "ldmatrix" | "stmatrix" | "movmatrix" | "mma" | "wmma" => return boxed(matrix::decode(cx), Op::Matrix),
        "wgmma" => return wgmma::decode(cx).map(Op::Wgmma),
        "st" if cx.has("async") || cx.has("bulk") => return boxed(bulk::decode(cx), Op::Bulk),
        "red" if cx.has("async") => return boxed(bulk::decode(cx), Op::Bulk),
        "mbarrier" | "cp" | "fence" | "membar" | "tensormap" => return boxed(bulk::decode(cx), Op::Bulk),
        "ld" | "ldu" | "st" | "prefetch" | "prefetchu" | "discard" | "applypriority" => {
            return boxed(memory::decode(cx), Op::Memory);
        }
        "atom" | "red" => return boxed(atomics::decode(cx), Op::Atomic),
        "shfl" | "vote" | "match" | "redux" | "activemask" | "elect" => return boxed(warp_ops::decode(cx), Op::Warp),
        "bar" | "barrier" => return boxed(barriers::decode(cx), Op::Barrier),
        "call" => return boxed(calls::decode(cx), Op::Call),
        "bra" | "brx" | "ret" | "exit" | "trap" | "brkpt" => return control::decode_transfer(cx).map(Op::Transfer),
        "mov" if control::reads_clock(cx) => return control::decode_clock(cx).map(Op::Control),
        "setmaxnreg" => return registers::decode(cx).map(Op::Registers),
        "nanosleep" | "pmevent" | "griddepcontrol" => return control::decode(cx).map(Op::Control),
        "add" | "sub" | "mul" | "mad" | "fma" | "div" | "rem" | "abs" | "neg" | "min" | "max" | "sqrt" | "rcp" => {
            if cx.parts().any(float) { float::decode(cx) } else { int::decode(cx) }
        }
        "mul24" | "mad24" | "addc" | "subc" | "madc" | "sad" | "dp4a" | "dp2a" => int::decode(cx),
        "and" | "or" | "xor" | "not" | "cnot" | "lop3" | "shl" | "shr" | "shf" | "prmt" | "bfe" | "bfi" | "bfind" | "brev"
        | "clz" | "popc" | "fns" | "szext" | "bmsk" => bits::decode(cx),
        "rsqrt" | "sin" | "cos" | "lg2" | "ex2" | "tanh" | "testp" | "copysign" => float::decode(cx),
        "cvt" => cvt::decode(cx),
        "setp" | "set" | "selp" | "slct" => compare::decode(cx),
        "mov" => moves::decode(cx),
        "vadd" | "vsub" | "vabsdiff" | "vmin" | "vmax" | "vshl" | "vshr" | "vmad" | "vset" | "vadd2" | "vsub2" | "vavrg2"
        | "vabsdiff2" | "vmin2" | "vmax2" | "vset2" | "vadd4" | "vsub4" | "vavrg4" | "vabsdiff4" | "vmin4" | "vmax4"
        | "vset4" => video::decode(cx),
        "createpolicy" => moves::decode_policy(cx),
        "cvta" | "isspacep" | "mapa" | "getctarank" => moves::decode_address(cx),
        "stacksave" | "stackrestore" | "alloca" => Err(format!("`{}`: a stack that grows is not supported", cx.inst.opcode)),
        "tex" | "tld4" | "txq" | "istypep" | "suld" | "sust" | "sured" | "suq" => {
            Err(format!("`{}`: textures and surfaces are not supported", cx.inst.opcode))
        }
        "multimem" => Err(format!("`{}`: addresses of several GPUs are not supported", cx.inst.opcode)),
        _ => Err(format!("unknown instruction `{}`", cx.inst.opcode)),
    };
    lane.map(|(f, args)| lanewise(f, args))
}

fn boxed<T>(decoded: Result<T, String>, op: fn(Box<T>) -> Op) -> Result<Op, String> {
    decoded.map(|x| op(Box::new(x)))
}
