//! Pure numerics: what a Hopper's floating-point instructions compute, as functions of bits.
//!
//! - [`exact`]: the slow road that is always right. A finite number is a wide integer times a power of two; every
//!   operation is exact up to a sticky bit, then rounded once, to any format and in any direction.
//! - [`single`], [`double`], [`half`]: arithmetic of f32, f64, and f16/bf16 (scalar; the packed types are two of them).
//! - [`convert`]: conversions between the formats, and between them and integers.
//! - [`approx`]: `ex2`, `lg2`, `sin`, … that PTX only bounds.
//! - [`lanes`]: the hot ones over a warp's 32 lanes, in loops that a compiler vectorises.
//! - [`tensor`]: the dot products of the tensor cores.
//!
//! Values travel as raw bits, so that a NaN's payload never depends on the host. Directed rounding never touches the
//! processor's control word. Where PTX says "canonical NaN", it is 0x7fffffff for f32 and 0x7fff for f16 and bf16; f64 keeps
//! the payload of the first NaN operand, made quiet.

pub mod approx;
pub mod convert;
pub mod double;
pub mod exact;
pub mod half;
pub mod lanes;
pub mod single;
pub mod tensor;

pub use exact::{BF16, E4M3, E5M2, Exact, F16, F32, F64, Format, Rounding, TF32};

/// The NaN that every f32 instruction returns.
pub const NAN32: u32 = 0x7fff_ffff;
/// The NaN that every f16 and bf16 instruction returns.
pub const NAN16: u16 = 0x7fff;
/// The NaN of a 64-bit instruction that had none among its operands.
pub const NAN64: u64 = 0xfff8_0000_0000_0000;

/// The modifiers of an f32 or half instruction that change its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mode {
    /// `.rn`, `.rz`, `.rm` or `.rp`.
    pub rounding: Rounding,
    /// `.ftz`: subnormal operands and results become zeros of the same sign.
    pub ftz: bool,
    /// `.sat`: the result is clamped to [0, 1], a NaN to +0.
    pub saturate: bool,
}

impl Mode {
    /// Rounds to nearest even and changes nothing else.
    pub const NEAREST: Mode = Mode { rounding: Rounding::Nearest, ftz: false, saturate: false };
}
