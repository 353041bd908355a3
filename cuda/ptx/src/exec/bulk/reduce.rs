//! The element-wise reductions of bulk copies, `red.async` and tensor copies.

use half::{bf16, f16};

use crate::tensor_map::ElementType;

/// What is done with the old and the new value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Reduce {
    Add,
    Min,
    Max,
    Inc,
    Dec,
    And,
    Or,
    Xor,
}

/// On what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ReduceType {
    U32,
    S32,
    U64,
    S64,
    B32,
    B64,
    F16,
    Bf16,
    F32,
    F64,
}

impl Reduce {
    /// The names of the reductions.
    pub const NAMES: [(&'static str, Reduce); 8] = {
        use Reduce::*;
        [("add", Add), ("min", Min), ("max", Max), ("inc", Inc), ("dec", Dec), ("and", And), ("or", Or), ("xor", Xor)]
    };

    /// Whether the ISA has this reduction on the type.
    pub fn takes(self, ty: ReduceType) -> bool {
        use ReduceType::*;
        match self {
            Reduce::Add => !matches!(ty, S64 | B32 | B64),
            Reduce::Min | Reduce::Max => !matches!(ty, B32 | B64 | F32 | F64),
            Reduce::Inc | Reduce::Dec => ty == U32,
            Reduce::And | Reduce::Or | Reduce::Xor => matches!(ty, B32 | B64),
        }
    }
}

impl ReduceType {
    /// The type that a dotted part names.
    pub fn parse(part: &str) -> Option<ReduceType> {
        use ReduceType::*;
        let names = [
            ("u32", U32),
            ("s32", S32),
            ("u64", U64),
            ("s64", S64),
            ("b32", B32),
            ("b64", B64),
            ("f16", F16),
            ("bf16", Bf16),
            ("f32", F32),
            ("f64", F64),
        ];
        names.iter().find(|n| n.0 == part).map(|n| n.1)
    }

    /// The type that a reduction has on a tensor's elements, if it has any.
    pub fn of_elements(element: ElementType, op: Reduce) -> Option<ReduceType> {
        use ElementType as E;
        let bits = matches!(op, Reduce::And | Reduce::Or | Reduce::Xor);
        let ty = match element {
            E::U32 if bits => ReduceType::B32,
            E::I32 if bits => ReduceType::B32,
            E::U64 | E::I64 if bits => ReduceType::B64,
            E::U32 => ReduceType::U32,
            E::I32 => ReduceType::S32,
            // Two's complement: an addition of u64 is one of s64.
            E::I64 if op == Reduce::Add => ReduceType::U64,
            E::U64 => ReduceType::U64,
            E::I64 => ReduceType::S64,
            E::F16 => ReduceType::F16,
            E::Bf16 => ReduceType::Bf16,
            E::F32 | E::F32Ftz => ReduceType::F32,
            E::F64 => ReduceType::F64,
            E::U8 | E::U16 | E::Tf32 | E::Tf32Ftz => return None,
        };
        op.takes(ty).then_some(ty)
    }

    /// Bytes of an element.
    pub fn bytes(self) -> usize {
        use ReduceType::*;
        match self {
            F16 | Bf16 => 2,
            U32 | S32 | B32 | F32 => 4,
            U64 | S64 | B64 | F64 => 8,
        }
    }

    pub(crate) fn is_float(self) -> bool {
        use ReduceType::*;
        matches!(self, F16 | Bf16 | F32 | F64)
    }
}

fn flush(x: f32) -> f32 {
    if x.is_subnormal() { 0f32.copysign(x) } else { x }
}

fn integer<T: Copy + Ord>(op: Reduce, a: T, b: T, add: impl Fn(T, T) -> T, bits: impl Fn(T, T, Reduce) -> T) -> T {
    match op {
        Reduce::Add => add(a, b),
        Reduce::Min => a.min(b),
        Reduce::Max => a.max(b),
        _ => bits(a, b, op),
    }
}

/// Applies a reduction element by element: `old = op(old, new)`.
pub fn reduce(op: Reduce, ty: ReduceType, old: &mut [u8], new: &[u8]) {
    let n = ty.bytes();
    for (old, new) in old.chunks_exact_mut(n).zip(new.chunks_exact(n)) {
        macro_rules! with {
            ($t:ty, |$a:ident, $b:ident| $e:expr) => {{
                let ($a, $b) = (<$t>::from_le_bytes((&*old).try_into().unwrap()), <$t>::from_le_bytes(new.try_into().unwrap()));
                let result: $t = $e;
                old.copy_from_slice(&result.to_le_bytes());
            }};
        }
        match ty {
            ReduceType::U32 | ReduceType::B32 => with!(u32, |a, b| integer(op, a, b, u32::wrapping_add, |a, b, op| match op {
                Reduce::Inc =>
                    if a >= b {
                        0
                    } else {
                        a + 1
                    },
                Reduce::Dec =>
                    if a == 0 || a > b {
                        b
                    } else {
                        a - 1
                    },
                Reduce::And => a & b,
                Reduce::Or => a | b,
                _ => a ^ b,
            })),
            ReduceType::U64 | ReduceType::B64 => with!(u64, |a, b| integer(op, a, b, u64::wrapping_add, |a, b, op| match op {
                Reduce::And => a & b,
                Reduce::Or => a | b,
                _ => a ^ b,
            })),
            ReduceType::S32 => with!(i32, |a, b| integer(op, a, b, i32::wrapping_add, |a, _, _| a)),
            ReduceType::S64 => with!(i64, |a, b| integer(op, a, b, i64::wrapping_add, |a, _, _| a)),
            // Additions of f32 flush subnormals; those of the other types do not. A sum of two 16-bit floats rounded to f32
            // first is still right: f32 has more than twice their digits.
            ReduceType::F32 => with!(f32, |a, b| flush(flush(a) + flush(b))),
            ReduceType::F64 => with!(f64, |a, b| a + b),
            ReduceType::F16 => with!(f16, |a, b| match op {
                Reduce::Min =>
                    if a.is_nan() || b < a || (a == b && b.is_sign_negative()) {
                        b
                    } else {
                        a
                    },
                Reduce::Max =>
                    if a.is_nan() || b > a || (a == b && a.is_sign_negative()) {
                        b
                    } else {
                        a
                    },
                _ => f16::from_f32(a.to_f32() + b.to_f32()),
            }),
            ReduceType::Bf16 => with!(bf16, |a, b| match op {
                Reduce::Min =>
                    if a.is_nan() || b < a || (a == b && b.is_sign_negative()) {
                        b
                    } else {
                        a
                    },
                Reduce::Max =>
                    if a.is_nan() || b > a || (a == b && a.is_sign_negative()) {
                        b
                    } else {
                        a
                    },
                _ => bf16::from_f32(a.to_f32() + b.to_f32()),
            }),
        }
    }
}
