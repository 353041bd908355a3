//! Run-time choice of the instruction set.
//!
//! A kernel is written once, as plain Rust, inside `dispatch!`. The macro compiles that one body three times: for the
//! build's own baseline, for AVX2 + FMA and for AVX-512, each under `#[target_feature]`, so that LLVM vectorises it for
//! the widest registers the processor turns out to have. Nothing is built with `-C target-cpu`, so one binary runs
//! everywhere.
//!
//! LLVM never re-associates or contracts floating-point arithmetic on its own. An element's result is therefore the same
//! in a vector body and in the scalar tail, and the same for AVX2 and AVX-512. The portable body has no fused
//! multiply-add where the baseline has none ([`fma`]), so its bits may differ from theirs.
//!
//! `SCRATCHWORK_ISA=portable|avx2|avx512` in the environment lowers the choice; of an instruction set that the processor
//! lacks, or a name that is none of these, a line on standard error says that it is ignored.

use std::io::Write;
use std::sync::OnceLock;

/// An instruction set that kernels are compiled for, from the least to the most capable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// What the build targets without asking the processor: SSE2 on x86-64, NEON on AArch64.
    Portable,
    /// AVX2 and FMA: 256-bit registers.
    Avx2,
    /// AVX-512 F, VL, BW and DQ: 512-bit registers.
    Avx512,
}

impl Isa {
    /// The best instruction set of this processor.
    fn detect() -> Isa {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq");
            if avx2 && avx512 {
                return Isa::Avx512;
            }
            if avx2 {
                return Isa::Avx2;
            }
        }
        Isa::Portable
    }

    /// What the environment asks for, or the best there is.
    fn choose() -> Isa {
        let best = Isa::detect();
        let Some(name) = std::env::var_os("SCRATCHWORK_ISA") else { return best };
        let why = match name.to_str() {
            Some("portable") => return Isa::Portable,
            Some("avx2") if best >= Isa::Avx2 => return Isa::Avx2,
            Some("avx512") if best >= Isa::Avx512 => return Isa::Avx512,
            Some("avx2" | "avx512") => "this processor does not have it",
            _ => "expected portable, avx2 or avx512",
        };
        // Nobody may be listening; that must not end a program.
        let _ = writeln!(std::io::stderr(), "warning: SCRATCHWORK_ISA={} is ignored: {why}", name.display());
        best
    }
}

/// The instruction set in use, detected once.
///
/// Never more than the processor has: that is what makes the calls inside `dispatch!` sound.
pub fn isa() -> Isa {
    static BEST: OnceLock<Isa> = OnceLock::new();
    #[cfg(test)]
    if let Some(isa) = forced::get() {
        return isa;
    }
    *BEST.get_or_init(Isa::choose)
}

/// Forcing an instruction set, for tests.
#[cfg(test)]
pub(crate) mod forced {
    use super::Isa;
    use std::cell::Cell;

    thread_local! {
        static FORCED: Cell<Option<Isa>> = const { Cell::new(None) };
    }

    pub(super) fn get() -> Option<Isa> {
        FORCED.get()
    }

    /// Runs `f` with [`super::isa`] answering `isa` on this thread. Kernels that spread over threads ask before they do.
    pub(crate) fn with<R>(isa: Isa, f: impl FnOnce() -> R) -> R {
        assert!(isa <= Isa::detect(), "this processor has no {isa:?}");
        let before = FORCED.replace(Some(isa));
        let result = f();
        FORCED.set(before);
        result
    }

    /// Runs `f` under every instruction set that this processor has.
    pub(crate) fn each(mut f: impl FnMut(Isa)) {
        for isa in [Isa::Portable, Isa::Avx2, Isa::Avx512] {
            if isa <= Isa::detect() {
                with(isa, || f(isa));
            }
        }
    }
}

/// Whether the build's baseline has a fused multiply-add instruction.
pub const BASELINE_FMA: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

/// A float with the arithmetic that the generic kernels need.
pub trait Real: Copy + Send + Sync + Default + PartialOrd + std::fmt::Debug + 'static {
    /// `self * b + c`, rounded once where `FMA`, twice elsewhere (a fused product without the instruction is a slow
    /// library call).
    fn fma<const FMA: bool>(self, b: Self, c: Self) -> Self;
    /// `self + b`.
    fn plus(self, b: Self) -> Self;
}

macro_rules! real {
    ($t:ty) => {
        impl Real for $t {
            #[inline(always)]
            fn fma<const FMA: bool>(self, b: $t, c: $t) -> $t {
                if FMA { self.mul_add(b, c) } else { self * b + c }
            }
            #[inline(always)]
            fn plus(self, b: $t) -> $t {
                self + b
            }
        }
    };
}
real!(f32);
real!(f64);

/// `a * b + c`; see [`Real::fma`]. Inside `dispatch!` write `fma::<FMA, _>(a, b, c)`.
#[inline(always)]
pub fn fma<const FMA: bool, T: Real>(a: T, b: T, c: T) -> T {
    a.fma::<FMA>(b, c)
}

/// Declares functions whose body is compiled for every [`Isa`] and chosen at run time by [`isa`].
///
/// Inside the body the constant `FMA: bool` says whether fused multiply-adds are cheap. Helpers that the body calls must
/// be `#[inline(always)]`, or they are compiled for the baseline.
macro_rules! dispatch {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block)+) => {$(
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::extra_unused_type_parameters, clippy::too_many_arguments, reason = "FMA serves bodies that need it; arguments are the caller's")]
            fn body<const FMA: bool>($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
                #[allow(clippy::too_many_arguments, reason = "arguments are the caller's")]
                fn avx512($($arg: $ty),*) $(-> $ret)? {
                    body::<true>($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments, reason = "arguments are the caller's")]
                fn avx2($($arg: $ty),*) $(-> $ret)? {
                    body::<true>($($arg),*)
                }
                match $crate::cpu::simd::isa() {
                    // SAFETY: `isa` names only what the processor was seen to have.
                    $crate::cpu::simd::Isa::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::cpu::simd::Isa::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::cpu::simd::Isa::Portable => {}
                }
            }
            body::<{ $crate::cpu::simd::BASELINE_FMA }>($($arg),*)
        }
    )+};
}
pub(crate) use dispatch;

#[cfg(test)]
mod tests {
    use super::*;

    dispatch! {
        fn axpy(a: f32, x: &[f32], y: &mut [f32]) {
            for (y, &x) in y.iter_mut().zip(x) {
                *y = fma::<FMA, _>(a, x, *y);
            }
        }
        fn fused() -> bool {
            FMA
        }
    }

    #[test]
    fn every_isa_runs_the_body() {
        let mut seen = Vec::new();
        forced::each(|isa| {
            assert_eq!(super::isa(), isa);
            assert_eq!(fused(), isa != Isa::Portable || BASELINE_FMA);
            let x: Vec<f32> = (0..37).map(|i| i as f32).collect();
            let mut y = vec![1.0; 37];
            axpy(2.0, &x, &mut y);
            assert!(y.iter().enumerate().all(|(i, &y)| y == 1.0 + 2.0 * i as f32));
            seen.push(isa);
        });
        assert_eq!(seen.last(), Some(&Isa::detect()));
        assert!(isa() <= Isa::detect());
    }
}
