//! What a PTX instruction becomes in machine code, and what that costs.
//!
//! | PTX | machine instructions | pipe |
//! |---|---|---|
//! | `mov` of registers, `cvta`, `ld.param`, conversions that only widen without a sign | 0: the assembler renames, or reads the constant bank | – |
//! | `add`, `sub`, `min`, `max`, logic, shifts, `setp`, `selp`, `prmt`, `bfe`, … of 32 bits | 1; of 64 bits 2 | ALU |
//! | `mul`, `mad` of 32 bits, `.wide` | 1; `.hi` 2; of 64 bits 4 | FMA, at half rate |
//! | `fma`, `add`, `mul` of f32, f16x2, bf16x2 | 1 | FMA |
//! | `min`, `max`, `setp`, `selp` of f32 | 1 | ALU |
//! | `ex2`, `rcp`, `rsqrt`, `lg2`, `sin`, `cos`, `tanh`, `sqrt.approx` | 1 with `.ftz`, 3 without (`sqrt`: 2 and 4) | special functions |
//! | `div.full`, `div.approx` | 3 and 5; `div.rn`, `sqrt.rn`, `rcp.rn` 10 | special functions, FMA |
//! | `div`, `rem` of integers by what is not constant | 20, of 64 bits 70 | special functions, FMA |
//! | conversions between f32 and 16-bit floats | 1, packed pairs 1 | ALU |
//! | conversions between integers and floats, and of doubles | 1 | special functions |
//! | doubles | 1 | FP64 |
//! | `ld`, `st`, `ldmatrix`, `stmatrix`, `shfl`, `atom`, `red`, `cp.async` | 1 | memory |
//! | `vote`, `match`, `redux`, `elect`, `activemask` | 1 | ALU |
//! | `bra` | 1 | branch |
//! | `bar`, `mbarrier`, fences, `griddepcontrol`, `setmaxnreg` | 1 | branch |
//! | `cp.async.bulk` | 5: its operands move to uniform registers | branch |
//! | `wgmma.mma_async` | 3: the same for its descriptors | tensor |
//! | `mma.sync` | 1 | tensor |
//!
//! What this leaves out: the assembler also removes common subexpressions, folds additions into addresses, moves what does not change out of
//! loops and runs what is the same in all lanes on the uniform pipe. Registers that are renamed, and constants, cost nothing here either.

use super::card::Card;
use crate::exec::memory::MemoryOp;
use crate::exec::module::Module;
use crate::exec::op::{Inst, Op};

/// A unit that takes instructions, of a scheduler's quarter of a multiprocessor or, for memory, of all four.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pipe {
    /// None: the instruction vanishes.
    None,
    /// Multiply-add of f32 and packed halves.
    Fma,
    /// Integers, logic, comparisons.
    Alu,
    /// Doubles.
    Double,
    /// Special functions.
    Special,
    /// Branches, barriers and all that is rare.
    Branch,
    /// Shared and global memory, shuffles.
    Memory,
    /// The tensor core.
    Tensor,
}

/// How many pipes there are.
pub const PIPES: usize = 8;

/// What an instruction costs, before what depends on its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Where it runs.
    pub pipe: Pipe,
    /// Machine instructions: clocks of the scheduler.
    pub slots: u16,
    /// Clocks for which it has the pipe to itself.
    pub busy: u16,
    /// Clocks until its result can be used.
    pub latency: u16,
}

/// The costs of a module's instructions.
pub fn table(card: &Card, module: &Module) -> Vec<Cost> {
    module.code.iter().zip(&module.program.sources).map(|(inst, source)| cost(card, inst, &source.opcode)).collect()
}

fn cost(card: &Card, inst: &Inst, opcode: &str) -> Cost {
    let parts: Vec<&str> = opcode.split('.').collect();
    let has = |p: &str| parts.contains(&p);
    let of = |pipe, slots: u64, busy: u64, latency: u64| Cost {
        pipe,
        slots: slots as u16,
        busy: busy as u16,
        latency: latency as u16,
    };
    let nothing = of(Pipe::None, 0, 0, 0);
    let wide = if ["s64", "u64", "b64"].contains(parts.last().unwrap_or(&"")) { 2 } else { 1 };
    // Half the lanes in a clock.
    let alu = |n: u64| of(Pipe::Alu, n, 2 * n, card.alu + 2 * (n - 1));
    let fma = |n: u64| of(Pipe::Fma, n, n, card.alu + n - 1);
    let imad = |n: u64| of(Pipe::Fma, n, 2 * n, card.alu + 1 + 2 * (n - 1));
    // Four lanes in a clock.
    let special = |functions: u64, others: u64| {
        of(Pipe::Special, functions + others, 8 * functions, card.xu + 8 * (functions - 1) + card.alu * others)
    };
    let double = of(Pipe::Double, 1, 2, card.double);
    let control = |slots: u64, latency: u64| of(Pipe::Branch, slots, slots, latency);
    match &inst.op {
        Op::Transfer(_) | Op::Call(_) => return control(1, card.branch),
        Op::Memory(op) => {
            return match **op {
                MemoryOp::Param { .. } | MemoryOp::Hint => nothing,
                _ => of(Pipe::Memory, 1, 1, card.shared),
            };
        }
        Op::Atomic(_) => return of(Pipe::Memory, 1, 1, card.shared),
        Op::Warp(_) => {
            return match parts[0] {
                "shfl" => of(Pipe::Memory, 1, 1, card.shuffle),
                "activemask" => of(Pipe::Alu, 1, 2, card.alu),
                "elect" => of(Pipe::Alu, 2, 4, card.predicate),
                _ => of(Pipe::Alu, 1, 4, card.shuffle),
            };
        }
        Op::Matrix(_) if has("mma") || parts[0] == "mma" => return of(Pipe::Tensor, 1, 1, card.mma),
        Op::Matrix(_) => return of(Pipe::Memory, 1, 1, card.shared),
        Op::Wgmma(_) => return if has("mma_async") { of(Pipe::Branch, 3, 3, 0) } else { control(1, 0) },
        Op::Barrier(_) | Op::Registers(_) => return control(1, 0),
        Op::Bulk(_) => {
            return match parts[0] {
                "cp" if has("bulk") && !has("commit_group") && !has("wait_group") => control(5, 0),
                "cp" if has("commit_group") || has("wait_group") || has("wait_all") => control(1, 0),
                "cp" | "st" | "red" => of(Pipe::Memory, 1, 1, card.shared),
                _ => control(1, card.alu),
            };
        }
        Op::Control(_) => return control(1, card.alu),
        Op::Lane(..) | Op::Bitwise(..) => {}
    }
    let f64 = has("f64");
    let float = ["f32", "f16", "bf16", "f16x2", "bf16x2"].iter().any(|t| has(t));
    let ftz = if has("ftz") { 0 } else { 2 };
    match parts[0] {
        "mov" => match parts.last() {
            // A vector is put together or taken apart by a permutation, if its parts are halves of a word.
            Some(&"b32") if inst.uses + inst.defs > 2 => alu(1),
            _ => nothing,
        },
        "cvta" | "isspacep" | "createpolicy" => nothing,
        "mapa" | "getctarank" => alu(1),
        "cvt" => {
            let float = |p: &&&str| ["f16", "bf16", "f32", "f64", "tf32", "f16x2", "bf16x2", "e4m3x2", "e5m2x2"].contains(*p);
            let floats = parts.iter().filter(float).count();
            match floats {
                _ if f64 => special(1, 0),
                0 if parts[1..] == ["u64", "u32"] || parts[1..] == ["u32", "u16"] || parts[1..] == ["u32", "u64"] => nothing,
                0 => alu(1),
                // Between an integer and a float.
                1 => special(1, 0),
                _ => alu(1),
            }
        }
        "setp" | "set" if f64 => Cost { latency: card.predicate as u16, ..double },
        "setp" | "set" => Cost { latency: card.predicate as u16, ..alu(wide) },
        "selp" | "slct" => alu(wide),
        "ex2" | "rcp" | "rsqrt" | "lg2" | "tanh" if has("approx") && !f64 => special(1, ftz),
        "sin" | "cos" => special(1, 1),
        "sqrt" if has("approx") => special(1, ftz + 1),
        "sqrt" | "rcp" | "rsqrt" | "div" if f64 => Cost { slots: 12, latency: (card.double * 12) as u16, ..double },
        "div" if has("approx") || has("full") => special(1, ftz + 2),
        "div" | "sqrt" | "rcp" if float => special(1, 9),
        "div" | "rem" => special(1, if wide == 2 { 69 } else { 19 }),
        "fma" | "add" | "sub" | "mul" | "mad" if f64 => double,
        "min" | "max" | "abs" | "neg" if float => alu(1),
        "min" | "max" | "abs" | "neg" if f64 => double,
        "fma" | "add" | "sub" | "mul" | "mad" if float => fma(1),
        "mul" | "mad" if has("wide") => imad(1),
        "mul" | "mad" if has("hi") => imad(2 * wide),
        "mul" | "mad" => imad(if wide == 2 { 4 } else { 1 }),
        "mul24" | "mad24" | "dp4a" | "dp2a" => imad(1),
        "popc" | "brev" | "bfind" | "clz" | "fns" => of(Pipe::Special, wide, 8 * wide, card.xu),
        _ => alu(wide),
    }
}
