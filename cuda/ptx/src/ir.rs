//! Decoding: from the syntax tree to instructions that the machine runs without looking anything up.
//!
//! # How a family of instructions hooks in
//!
//! A family is one file of `exec/` (or a file of `ir/` and one of `exec/` if it is big) with
//!
//! ```text
//! pub fn decode(cx: &mut Cx<'_>) -> Decode          // Ok(op), or Err(what is wrong, naming the culprit)
//! ```
//!
//! listed in [`family`] under the first part of its opcodes. `decode` eats the dotted parts of the opcode in order
//! ([`Cx::eat`], [`Cx::pick`], [`Cx::ty`]), ends with [`Cx::end`] so that a left-over modifier is an error, and turns operands
//! into register indices with [`Cx::src`], [`Cx::dst`], [`Cx::address`] and their like. These also note which registers the
//! instruction reads and writes, so that undefinedness and registers in flight are tracked without the family's help. Every form
//! that is not understood is an `Err`: nothing is ever ignored.
//!
//! An instruction that works lane by lane on registers alone is an [`Op::Lane`]: a function over all 32 lanes, written with the
//! macro `lanes!` of [`crate::exec::lanes`]. Others get a variant of [`Op`] (boxed if big) and an `execute` called from
//! `Machine::execute` (see [`crate::exec`]).
//!
//! # Registers
//!
//! There are three files: 32-bit (8- and 16-bit registers live there, zero-extended), 64-bit (a b128 register is two of
//! them in a row), and predicates (a lane mask each). Immediates, symbol addresses and special registers that never change
//! ([`Constant`]) are registers too, filled when a warp starts, so that an operand is always an index. Recursion is refused, so each
//! function of the module has registers of its own and a call moves none.

mod build;
pub mod decode;
mod initial;
pub mod module;
pub mod operand;

pub use decode::{Cx, Decode};
pub use module::{Entry, Inst, Module, ParamInfo, Source};
pub use operand::{Addr, Args, Class, Constant, Guard, NO_PC, Reg, Special};

use crate::exec::lanes::LaneFn;

/// What an instruction does.
pub enum Op {
    /// Lane by lane over registers; a result is undefined where an operand is.
    Lane(LaneFn, Args),
    /// The same, but the function says itself what is undefined (`selp`, which reads one of two).
    LaneExact(LaneFn, Args),
    /// Nothing (`.pragma`-like instructions).
    Nop,
    /// `bra`: `target`, and where the two sides meet again.
    Branch {
        /// Target.
        target: u32,
        /// Immediate post-dominator; [`NO_PC`] when it is the function's end.
        join: u32,
    },
    /// `brx.idx`.
    BranchIndexed(Box<crate::exec::control::BranchIndexed>),
    /// `call`.
    Call(Box<crate::exec::calls::Call>),
    /// `ret` of a function.
    Return,
    /// `exit`, and `ret` of a kernel.
    Exit,
    /// `trap`.
    Trap,
    /// Barriers, clocks, sleep, fences and the like.
    Control(Box<crate::exec::control::Control>),
    /// `ld`, `st` and their like.
    Memory(Box<crate::exec::memory::MemoryOp>),
    /// `atom`, `red`.
    Atomic(Box<crate::exec::atomics::Atomic>),
    /// `shfl`, `vote`, `match`, `redux`, `activemask`, `elect`.
    Warp(Box<crate::exec::warp_ops::WarpOp>),
    /// `ldmatrix`, `stmatrix`, `movmatrix`, `mma`, `wgmma`.
    Matrix(Box<crate::exec::matrix::Matrix>),
    /// `cp.async…`, `mbarrier…` and what belongs to them.
    Bulk(Box<crate::exec::bulk::Bulk>),
}

/// The decoder of the opcodes whose first part is `head`, or `None` if there is none.
///
/// A decoder may look at the other parts and pass the instruction on to another family.
pub fn family(head: &str) -> Option<fn(&mut Cx<'_>) -> Decode> {
    use crate::exec::*;
    Some(match head {
        "ldmatrix" | "stmatrix" | "movmatrix" | "mma" | "wgmma" => matrix::decode,
        "mbarrier" | "cp" | "fence" | "membar" | "tensormap" => bulk::decode,
        "add" | "sub" | "mul" | "mad" | "fma" | "div" | "rem" | "abs" | "neg" | "min" | "max" | "sqrt" | "rcp" => arithmetic,
        "mul24" | "mad24" | "addc" | "subc" | "madc" | "sad" | "dp4a" | "dp2a" => int::decode,
        "and" | "or" | "xor" | "not" | "cnot" | "lop3" | "shl" | "shr" | "shf" | "prmt" | "bfe" | "bfi" | "bfind" | "brev"
        | "clz" | "popc" | "fns" | "szext" | "bmsk" => bits::decode,
        "rsqrt" | "sin" | "cos" | "lg2" | "ex2" | "tanh" | "testp" | "copysign" => float::decode,
        "cvt" => cvt::decode,
        "setp" | "set" | "selp" | "slct" => compare::decode,
        "mov" => moves::decode,
        "cvta" | "isspacep" | "mapa" | "getctarank" => moves::decode_address,
        "ld" | "ldu" | "st" | "prefetch" | "prefetchu" | "discard" | "applypriority" | "createpolicy" | "stacksave"
        | "stackrestore" | "alloca" | "istypep" => memory::decode,
        "atom" => atomics::decode,
        "red" => reduction,
        "shfl" | "vote" | "match" | "redux" | "activemask" | "elect" => warp_ops::decode,
        "bra" | "brx" | "ret" | "exit" | "trap" | "brkpt" | "bar" | "barrier" | "nanosleep" | "setmaxnreg" | "pmevent"
        | "griddepcontrol" => control::decode,
        "call" => calls::decode,
        _ => return None,
    })
}

/// `red`, and the asynchronous one.
fn reduction(cx: &mut Cx<'_>) -> Decode {
    use crate::exec::{atomics, bulk};
    if cx.has("async") { bulk::decode(cx) } else { atomics::decode(cx) }
}

/// Opcodes that are integer or floating by their type.
fn arithmetic(cx: &mut Cx<'_>) -> Decode {
    if cx.parts().any(|p| crate::text::ast::Type::parse(p).is_some_and(|t| t.is_float())) {
        crate::exec::float::decode(cx)
    } else {
        crate::exec::int::decode(cx)
    }
}
