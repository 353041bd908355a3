//! From which shared variable an address was made, as far as the code says so.
//!
//! An address is made from a variable's name by moves, conversions and sums. A register whose every value is made so from one and the
//! same variable has that variable as its origin, and where it is used as an address, that must lie in the variable: an index
//! that is too large would otherwise find the neighbour in shared memory. Values that come from memory, from a function's
//! parameters or by other arithmetic have no origin, and a register that has both kinds of value has none either: then nothing is
//! checked.

use std::collections::HashMap;

use super::op::{Inst, Op};
use crate::ir::program::{Extent, Origins, Program};
use crate::ir::{Class, Constant, Entry, Reg};

/// What is known of the values of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Value {
    /// No value yet.
    #[default]
    Unset,
    /// Numbers, or addresses of unknown origin.
    Number,
    /// Addresses made from this variable.
    From(u32),
    /// Anything.
    Mixed,
}

use Value::{From, Mixed, Number, Unset};

impl Value {
    /// The values of both.
    fn or(self, other: Value) -> Value {
        match (self, other) {
            (Unset, v) | (v, Unset) => v,
            (a, b) if a == b => a,
            _ => Mixed,
        }
    }

    /// Sums of one of each.
    fn plus(self, other: Value) -> Value {
        match (self, other) {
            (Unset, _) | (_, Unset) => Unset,
            (Number, v) | (v, Number) => v,
            _ => Mixed,
        }
    }

    /// What other arithmetic makes of it.
    fn scrambled(self) -> Value {
        match self {
            Unset | Number => self,
            From(_) | Mixed => Mixed,
        }
    }
}

/// The registers of a kernel and of the functions that it may call.
struct Values([Vec<Value>; 2]);

impl Values {
    fn of(&self, reg: Reg) -> Value {
        self.0.get(reg.class as usize).map_or(Number, |v| v[reg.index as usize])
    }

    /// Adds a value; whether that is new.
    fn add(&mut self, reg: Reg, value: Value) -> bool {
        let Some(slot) = self.0.get_mut(reg.class as usize).map(|v| &mut v[reg.index as usize]) else { return false };
        let both = slot.or(value);
        std::mem::replace(slot, both) != both
    }
}

/// What an instruction writes, of what it reads.
fn result(op: &Op, opcode: &str, uses: &[Reg], values: &Values) -> Value {
    let read = || uses.iter().filter(|r| r.class != Class::Pred).map(|r| values.of(*r));
    let head = opcode.split('.').next().unwrap_or("");
    match head {
        "mov" | "cvta" | "cvt" | "add" | "addc" | "and" | "or" | "xor" | "lop3" | "bfi" => read().fold(Number, Value::plus),
        "mapa" => read().next().unwrap_or(Number),
        "selp" | "min" | "max" => read().fold(Unset, Value::or),
        "shfl" => read().next().unwrap_or(Number),
        "sub" => match read().collect::<Vec<_>>()[..] {
            [a, Number] => a,
            [a, b] => a.plus(b).scrambled(),
            _ => Mixed,
        },
        "mad" | "mad24" => match read().collect::<Vec<_>>()[..] {
            [a, b, c] => a.plus(b).scrambled().plus(c),
            _ => Mixed,
        },
        _ if matches!(op, Op::Lane(..)) => read().fold(Number, Value::plus).scrambled(),
        // From memory, or counted.
        _ => Number,
    }
}

/// The origins of a kernel's registers.
pub(super) fn find(program: &Program, code: &[Inst], refs: &[Reg], entry: &Entry) -> Origins {
    // A variable that is alone has no neighbour.
    if entry.shared.len() < 2 {
        return Origins::default();
    }
    let count = entry.registers.count;
    let mut values = Values([Class::B32, Class::B64].map(|class| vec![Unset; count[class as usize] as usize]));
    for &(reg, constant) in &entry.registers.constants {
        values.add(reg, if let Constant::Shared(v, _) = constant { From(v) } else { Number });
    }
    let functions = program.functions.iter().filter(|f| f.start == entry.start || !f.entry);
    let bodies: Vec<_> = functions.filter(|f| (f.end as usize) <= code.len()).map(|f| f.start as usize..f.end as usize).collect();
    loop {
        let mut changed = false;
        for pc in bodies.iter().cloned().flatten() {
            let (uses, defs) = code[pc].registers(refs);
            if !defs.is_empty() {
                let value = result(&code[pc].op, &program.sources[pc].opcode, uses, &values);
                changed |= defs.iter().fold(false, |new, reg| values.add(*reg, value) | new);
            }
        }
        if !changed {
            break;
        }
    }
    let mut extents = Vec::new();
    let mut numbers = HashMap::new();
    let mut number = |v: &Value| match *v {
        From(variable) => *numbers.entry(variable).or_insert_with(|| {
            let (start, variable) = (entry.shared[&variable], &program.shared[variable as usize]);
            let end = if variable.dynamic { u32::MAX } else { start.saturating_add(variable.bytes as u32) };
            extents.push(Extent { name: variable.name.clone(), start, end });
            extents.len() as u16
        }),
        _ => 0,
    };
    let registers = values.0.each_ref().map(|v| v.iter().map(&mut number).collect());
    Origins { registers, extents }
}
