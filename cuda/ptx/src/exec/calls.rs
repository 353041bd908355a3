//! `call`: direct, through a pointer, and to the functions that the machine itself provides.

use super::flow::{After, At, Stop};
use super::lanes::lanes_of;
use super::machine::Machine;
use super::printf;
use super::warp::{Split, Warp};
use crate::ir::decode::Name;
use crate::ir::program::Function;
use crate::ir::{Cx, NO_PC};
use crate::request::FaultKind;
use crate::text::ast::{Operand, Space, Type};

/// Whom a call calls.
#[derive(Clone, Copy, Debug)]
pub enum Callee {
    /// A function, by number.
    Direct(u32),
    /// The function whose handle a 64-bit register holds.
    Indirect(u16),
}

/// A call.
pub struct Call {
    /// Whom.
    pub callee: Callee,
    /// Places in the frame and sizes of the arguments.
    pub arguments: Vec<(u32, u32)>,
    /// Of the results.
    pub results: Vec<(u32, u32)>,
}

/// The decoder of this family.
pub fn decode(cx: &mut Cx<'_>) -> Result<Call, String> {
    cx.eat("uni");
    cx.no_more_parts()?;
    let mut at = 0;
    let results = match cx.operand(0)? {
        Operand::List(list) => {
            at = 1;
            frame_places(cx, list)?
        }
        _ => Vec::new(),
    };
    let Operand::Name(name) = cx.operand(at)? else { return cx.unknown() };
    let mut arguments = Vec::new();
    let mut next = at + 1;
    if let Some(Operand::List(list)) = cx.inst.operands.get(next) {
        arguments = frame_places(cx, list)?;
        next += 1;
    }
    let callee = match cx.scopes.find(name).cloned() {
        Some(Name::Function(f)) => {
            cx.scopes.callees.push(f);
            Callee::Direct(f)
        }
        Some(Name::Register { ty, .. }) if ty.bits() == 64 => {
            cx.scopes.indirect = true;
            let pointer = cx.src(at, Type::U64)?;
            match cx.inst.operands.get(next) {
                Some(Operand::Name(label)) => match cx.scopes.find(label) {
                    Some(Name::Prototype(params, returns)) => {
                        let sizes = |places: &[(u32, u32)]| places.iter().map(|p| p.1).collect::<Vec<_>>();
                        if *params != sizes(&arguments) || *returns != sizes(&results) {
                            return Err(format!("the call does not fit its prototype `{label}`"));
                        }
                    }
                    Some(Name::Targets(_)) => {}
                    _ => return Err(format!("there is no prototype `{label}`")),
                },
                _ => return Err("an indirect call needs a prototype".into()),
            }
            next += 1;
            Callee::Indirect(pointer)
        }
        Some(_) => return Err(format!("`{name}` is no function")),
        None => return Err(format!("call of `{name}`, which nothing defines")),
    };
    if next != cx.count() {
        return Err(format!("`{}` has too many operands", cx.inst.opcode));
    }
    Ok(Call { callee, arguments, results })
}

fn frame_places(cx: &Cx<'_>, list: &[Operand]) -> Result<Vec<(u32, u32)>, String> {
    list.iter()
        .map(|o| match o {
            Operand::Name(name) => match cx.scopes.find(name) {
                Some(Name::Frame { space: Space::Param, offset, bytes }) => Ok((*offset, *bytes)),
                _ => Err(format!("`{name}` is no .param variable of this function")),
            },
            _ => Err("arguments and results of a call must be .param variables".into()),
        })
        .collect()
}

/// Copies places of the frame in the lanes of `mask`.
fn copy(warp: &mut Warp, from: &[(u32, u32)], to: &[(u32, u32)], mask: u32) {
    for lane in lanes_of(mask) {
        for (&(a, n), &(b, _)) in from.iter().zip(to) {
            warp.local.copy(lane as u32, a, b, n);
        }
    }
}

fn fits(call: &Call, f: &Function) -> bool {
    let same = |a: &[(u32, u32)], b: &[(u32, u32)]| a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.1 == y.1);
    same(&call.arguments, &f.signature.params) && same(&call.results, &f.signature.returns)
}

pub(crate) fn call(m: &mut Machine<'_>, warp: &mut Warp, split: &mut Split, call: &Call, at: At<'_>) -> Result<After, Stop> {
    let At { pc, mask, .. } = at;
    // Lanes that do not take part, or call another function, go their own way until this call has returned.
    let mut group = mask;
    let f = match call.callee {
        Callee::Direct(f) => f,
        Callee::Indirect(r) => {
            let undef = warp.regs.undef64(r);
            m.demand(warp, at, undef, "the pointer of an indirect call");
            let pointers = warp.regs.r64[r as usize];
            let first = pointers[mask.trailing_zeros() as usize];
            group = lanes_of(mask).filter(|&l| pointers[l] == first).fold(0, |g, l| g | 1 << l);
            let Some(f) = m.kernel.program.function_of(first) else {
                let message = format!("indirect call of {first:#x}, which is no function");
                return m.fault(warp, at.of(group), FaultKind::IllegalAddress, message);
            };
            f
        }
    };
    let program = &m.kernel.program;
    let function = &program.functions[f as usize];
    if function.start == NO_PC {
        if group == mask {
            split.pc += 1;
        } else {
            // The others are still to call.
            warp.fork(split, group, pc + 1, pc + 1, split.calls.clone());
        }
        printf::builtin(m, warp, &function.name, (&call.arguments, &call.results), at.of(group))?;
        return Ok(After::Go);
    }
    if function.entry {
        return m.fault(warp, at.of(group), FaultKind::IllegalInstruction, format!("call of the kernel `{}`", function.name));
    }
    if !fits(call, function) {
        let message = format!("the call's arguments or results do not fit `{}`", function.name);
        return m.fault(warp, at.of(group), FaultKind::IllegalInstruction, message);
    }
    let inside = |p: &u32| program.function_at(*p).is_some_and(|g| std::ptr::eq(g, function));
    if split.calls.iter().chain([&pc]).any(inside) {
        let message = format!("recursion through a pointer: `{}` is already active", function.name);
        return m.fault(warp, at.of(group), FaultKind::IllegalInstruction, message);
    }
    if group != split.mask {
        // The others stay: they call something else, or the guard lets them pass.
        warp.fork(split, group, pc, pc + 1, split.calls.clone());
        std::mem::swap(split, warp.splits.last_mut().expect("fork pushed a split"));
    }
    copy(warp, &call.arguments, &function.signature.params, group);
    split.calls.push(pc);
    split.pc = function.start;
    Ok(After::Go)
}

/// `ret` of the function that `call` called.
pub(crate) fn return_from(m: &Machine<'_>, warp: &mut Warp, split: &mut Split, call: &Call, mask: u32) {
    let next = split.calls.last().expect("a function was called") + 1;
    if mask != split.mask {
        let mut outer = split.calls.clone();
        outer.pop();
        let pc = split.pc;
        warp.fork(split, mask, pc, next, outer);
        split.pc = pc + 1;
        std::mem::swap(split, warp.splits.last_mut().expect("fork pushed a split"));
    }
    take_results(m, warp, call, mask);
    split.calls.pop();
    split.pc = next;
}

/// At a return: the results go to where the call at `pc` wants them.
fn take_results(m: &Machine<'_>, warp: &mut Warp, call: &Call, mask: u32) {
    let program = &m.kernel.program;
    let f = match call.callee {
        Callee::Direct(f) => f,
        Callee::Indirect(r) => {
            let pointer = warp.regs.r64[r as usize][mask.trailing_zeros() as usize];
            program.function_of(pointer).expect("the call went through this pointer")
        }
    };
    copy(warp, &program.functions[f as usize].signature.returns, &call.results, mask);
}
