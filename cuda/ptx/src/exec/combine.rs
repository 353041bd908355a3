//! What atomics, the reductions of bulk copies and `redux` do with two values.

use crate::num::half::{self, Kind};
use crate::num::single::{self, Extremum};
use crate::num::{Mode, Rounding, double};
use crate::text::ast::Type::{self, *};

/// What is done to a value in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Add,
    Min,
    Max,
    Inc,
    Dec,
    And,
    Or,
    Xor,
    Exchange,
    Compare,
}
use Action::*;

/// Their names; the last two are atomics only.
pub const ACTIONS: [(&str, Action); 10] = [
    ("add", Add),
    ("min", Min),
    ("max", Max),
    ("inc", Inc),
    ("dec", Dec),
    ("and", And),
    ("or", Or),
    ("xor", Xor),
    ("exch", Exchange),
    ("cas", Compare),
];

impl Action {
    /// Whether bulk copies and their like have it on the type.
    pub fn reduces(self, ty: Type) -> bool {
        match self {
            Add => matches!(ty, U32 | S32 | U64 | F16 | BF16 | F32 | F64),
            Min | Max => matches!(ty, U32 | S32 | U64 | S64 | F16 | BF16),
            Inc | Dec => ty == U32,
            And | Or | Xor => matches!(ty, B32 | B64),
            Exchange | Compare => false,
        }
    }

    /// The value of a `ty` that takes the place of `old`, in the low bits. A sum of f32 flushes subnormals if `ftz` says so.
    pub fn apply(self, ty: Type, old: u64, new: u64, ftz: bool) -> u64 {
        let halves = |f: &dyn Fn(Kind, u16, u16) -> u16| {
            let kind = if matches!(ty, F16 | F16x2) { Kind::F16 } else { Kind::Bf16 };
            u64::from(half::packed([old as u32, new as u32], |[x, y]| f(kind, x, y)))
        };
        let (o32, n32) = (old as u32, new as u32);
        match (self, ty) {
            (Add, F32) => u64::from(single::add(o32, n32, Mode { ftz, ..Mode::NEAREST })),
            (Add, F64) => double::add(old, new, Rounding::Nearest),
            (Add, F16 | BF16 | F16x2 | BF16x2) => halves(&|kind, x, y| kind.add(x, y, half::Mode::default())),
            (Min | Max, F16 | BF16 | F16x2 | BF16x2) => {
                let how = Extremum { maximum: self == Max, ..Extremum::default() };
                halves(&|kind, x, y| kind.extremum(x, y, how))
            }
            (Add, _) => old.wrapping_add(new),
            (Min, S32) => u64::from((o32 as i32).min(n32 as i32) as u32),
            (Max, S32) => u64::from((o32 as i32).max(n32 as i32) as u32),
            (Min, S64) => (old as i64).min(new as i64) as u64,
            (Max, S64) => (old as i64).max(new as i64) as u64,
            (Min, _) => old.min(new),
            (Max, _) => old.max(new),
            (And, _) => old & new,
            (Or, _) => old | new,
            (Xor, _) => old ^ new,
            (Inc, _) if old >= new => 0,
            (Inc, _) => old + 1,
            (Dec, _) if old == 0 || old > new => new,
            (Dec, _) => old - 1,
            (Exchange | Compare, _) => new,
        }
    }

    /// Applies it to the elements of a reduction: `old` becomes what it makes of `old` and `new`.
    pub fn reduce(self, ty: Type, old: &mut [u8], new: &[u8]) {
        let n = ty.bytes() as usize;
        let value = |bytes: &[u8]| bytes.iter().rev().fold(0, |v, b| v << 8 | u64::from(*b));
        for (old, new) in old.chunks_exact_mut(n).zip(new.chunks_exact(n)) {
            let result = self.apply(ty, value(old), value(new), true);
            old.copy_from_slice(&result.to_le_bytes()[..n]);
        }
    }
}
