//! Register files of a warp, and the macro that turns a formula over one lane into a function over 32.

use std::collections::HashMap;

use super::standstill::mix;
use crate::ir::{Args, Class, Reg};

/// A warp's 32 values of a 32-bit register.
pub type V32 = [u32; 32];
/// A warp's 32 values of a 64-bit register.
pub type V64 = [u64; 32];

/// A lane-wise instruction: reads and writes registers as [`Args`] say, in the lanes of the mask.
pub type LaneFn = fn(&mut Regs, &Args, u32);

/// What the decoder of a lane-wise family gives.
pub type Decode = Result<(LaneFn, Args), String>;

/// All lanes.
pub const ALL: u32 = u32::MAX;

/// The registers of a warp.
pub struct Regs {
    /// 32-bit registers and narrower ones (zero-extended).
    pub r32: Vec<V32>,
    /// 64-bit registers.
    pub r64: Vec<V64>,
    /// Predicates, as lane masks.
    pub pred: Vec<u32>,
    /// For every register of the three files, in that order: the lanes in which nothing defined it.
    undef: Vec<u32>,
    /// Of those of which only a part is undefined: the bits, by lane; all ones where the whole register is undefined, or nothing.
    partly: HashMap<usize, Box<[u64; 32]>>,
    /// For every register: nonzero while an asynchronous operation reads (1) or writes (2) it.
    flight: Vec<u8>,
    /// How many registers are in flight.
    in_flight: u32,
    base: [usize; 3],
}

impl Regs {
    /// Registers of which none is defined.
    pub fn new(count: [u32; 3]) -> Regs {
        let [n32, n64, np] = count.map(|c| c as usize);
        let total = n32 + n64 + np;
        Regs {
            // Straight from the system, which gives a page when it is touched: compilers number registers up, and few are live in a warp that
            // finds nothing to do.
            r32: bytemuck::zeroed_vec(n32),
            r64: bytemuck::zeroed_vec(n64),
            pred: vec![0; np],
            undef: vec![ALL; total],
            partly: HashMap::new(),
            flight: vec![0; total],
            in_flight: 0,
            base: [0, n32, n32 + n64],
        }
    }

    fn at(&self, reg: Reg) -> usize {
        self.base[reg.class as usize] + reg.index as usize
    }

    /// A number that stands for the contents of all registers.
    pub fn digest(&self) -> u64 {
        let h = self.r32.as_flattened().iter().fold(0, |h, &x| mix(h, x.into()));
        let h = self.r64.as_flattened().iter().fold(h, |h, &x| mix(h, x));
        self.pred.iter().fold(h, |h, &x| mix(h, x.into()))
    }

    /// The lanes in which `reg` is undefined.
    #[inline]
    pub fn undef(&self, reg: Reg) -> u32 {
        self.undef[self.at(reg)]
    }

    /// Says in which of the lanes `mask` `reg` is undefined; the other lanes stay as they are.
    #[inline]
    pub fn set_undef(&mut self, reg: Reg, undef: u32, mask: u32) {
        let at = self.at(reg);
        let before = self.undef[at];
        self.undef[at] = (before & !mask) | (undef & mask);
        if before & mask != 0 && !self.partly.is_empty() {
            self.forget_bits(at, mask);
        }
    }

    /// What is undefined in the lanes of `mask` is so as a whole.
    #[cold]
    fn forget_bits(&mut self, at: usize, mask: u32) {
        let Some(bits) = self.partly.get_mut(&at) else { return };
        lanes_of(mask).for_each(|lane| bits[lane] = u64::MAX);
        if lanes_of(self.undef[at]).all(|lane| bits[lane] == u64::MAX) {
            self.partly.remove(&at);
        }
    }

    /// The bits of `reg` that are undefined, by lane.
    pub fn undefined_bits(&self, reg: Reg) -> [u64; 32] {
        let at = self.at(reg);
        let bits = self.partly.get(&at);
        std::array::from_fn(|lane| match self.undef[at] >> lane & 1 {
            0 => 0,
            _ => bits.map_or(u64::MAX, |bits| bits[lane]),
        })
    }

    /// Says which bits of `reg` are undefined in the lanes of `mask`; the other lanes stay as they are.
    pub fn set_undefined_bits(&mut self, reg: Reg, bits: &[u64; 32], mask: u32) {
        let some = lanes_of(mask).filter(|&lane| bits[lane] != 0).fold(0, |some, lane| some | 1 << lane);
        self.set_undef(reg, some, mask);
        if lanes_of(some).any(|lane| bits[lane] != u64::MAX) {
            let at = self.at(reg);
            let kept = self.partly.entry(at).or_insert_with(|| Box::new([u64::MAX; 32]));
            lanes_of(some).for_each(|lane| kept[lane] = bits[lane]);
        }
    }

    /// Lanes in which 32-bit register `index` is undefined.
    pub fn undef32(&self, index: u16) -> u32 {
        self.undef(Reg { class: Class::B32, index })
    }

    /// Lanes in which 64-bit register `index` is undefined.
    pub fn undef64(&self, index: u16) -> u32 {
        self.undef(Reg { class: Class::B64, index })
    }

    /// Lanes in which predicate `index` is undefined.
    #[inline]
    pub fn undef_pred(&self, index: u16) -> u32 {
        self.undef[self.base[2] + index as usize]
    }

    /// Whether any register is in flight.
    #[inline]
    pub fn any_in_flight(&self) -> bool {
        self.in_flight != 0
    }

    /// 0, or 1 while an asynchronous operation reads `reg`, or 2 while one writes it.
    pub fn flight(&self, reg: Reg) -> u8 {
        self.flight[self.at(reg)]
    }

    /// Puts `reg` in flight (1: it is read, 2: it is written) or takes it out (0).
    pub fn set_flight(&mut self, reg: Reg, state: u8) {
        let at = self.at(reg);
        self.in_flight = self.in_flight + u32::from(state != 0) - u32::from(self.flight[at] != 0);
        self.flight[at] = state;
    }

    /// Writes the lanes of `mask` of a 32-bit register.
    #[inline(always)]
    pub fn put32(&mut self, index: u16, values: &V32, mask: u32) {
        blend(&mut self.r32[index as usize], values, mask);
    }

    /// Writes the lanes of `mask` of a 64-bit register.
    #[inline(always)]
    pub fn put64(&mut self, index: u16, values: &V64, mask: u32) {
        blend(&mut self.r64[index as usize], values, mask);
    }

    /// Writes the lanes of `mask` of a predicate.
    #[inline(always)]
    pub fn put_pred(&mut self, index: u16, values: u32, mask: u32) {
        let p = &mut self.pred[index as usize];
        *p = (*p & !mask) | (values & mask);
    }

    /// The value of `reg` in `lane`, as 64 bits.
    pub fn get(&self, reg: Reg, lane: usize) -> u64 {
        match reg.class {
            Class::B32 => u64::from(self.r32[reg.index as usize][lane]),
            Class::B64 => self.r64[reg.index as usize][lane],
            Class::Pred => u64::from(self.pred[reg.index as usize] >> lane & 1),
        }
    }
}

/// Copies the lanes of `mask` from `new` to `old`.
#[inline(always)]
pub fn blend<T: Copy>(old: &mut [T; 32], new: &[T; 32], mask: u32) {
    if mask == ALL {
        *old = *new;
    } else {
        // Every lane is written, so that this is a selection by vectors and no branch a lane.
        for (lane, (o, n)) in old.iter_mut().zip(new).enumerate() {
            *o = if mask & (1 << lane) != 0 { *n } else { *o };
        }
    }
}

/// Whether so few lanes are on that working lane by lane is less than working on all 32.
#[inline(always)]
pub fn few(mask: u32) -> bool {
    mask != ALL && mask.count_ones() <= 8
}

/// The lanes of a mask, ascending, as indices.
#[inline]
pub fn lanes_of(mask: u32) -> impl Iterator<Item = usize> {
    crate::mem::lanes_of(mask).map(|lane| lane as usize)
}

/// A type that a register can be read and written as.
pub trait Lane: Copy {
    /// What a whole register is.
    type All: Copy;
    /// Register `i`.
    fn all(regs: &Regs, i: u16) -> Self::All;
    /// One lane of it.
    fn one(all: &Self::All, lane: usize) -> Self;
    /// One lane of register `i`.
    fn get(regs: &Regs, i: u16, lane: usize) -> Self;
    /// Writes one lane of register `i`.
    fn set(regs: &mut Regs, i: u16, lane: usize, value: Self);
    /// Writes the lanes of `mask` of register `i`.
    fn put(regs: &mut Regs, i: u16, values: &[Self; 32], mask: u32);
}

macro_rules! lane32 {
    ($($t:ty: $from:expr, $to:expr;)*) => { $(
        impl Lane for $t {
            type All = V32;
            #[inline(always)]
            fn all(regs: &Regs, i: u16) -> V32 { regs.r32[i as usize] }
            #[inline(always)]
            fn one(all: &V32, lane: usize) -> Self { let f: fn(u32) -> $t = $from; f(all[lane]) }
            #[inline(always)]
            fn get(regs: &Regs, i: u16, lane: usize) -> Self { Self::one(&regs.r32[i as usize], lane) }
            #[inline(always)]
            fn set(regs: &mut Regs, i: u16, lane: usize, value: Self) {
                let f: fn($t) -> u32 = $to;
                let bits = f(value);
                regs.r32[i as usize][lane] = bits;
            }
            #[inline(always)]
            fn put(regs: &mut Regs, i: u16, values: &[Self; 32], mask: u32) {
                let f: fn($t) -> u32 = $to;
                regs.put32(i, &std::array::from_fn(|l| f(values[l])), mask);
            }
        }
    )* };
}

lane32! {
    u32: |x| x, |x| x;
    i32: |x| x as i32, |x| x as u32;
    u16: |x| x as u16, u32::from;
    i16: |x| x as i16, |x| u32::from(x as u16);
    u8: |x| x as u8, u32::from;
    i8: |x| x as i8, |x| u32::from(x as u8);
    f32: f32::from_bits, f32::to_bits;
}

macro_rules! lane64 {
    ($($t:ty: $from:expr, $to:expr;)*) => { $(
        impl Lane for $t {
            type All = V64;
            #[inline(always)]
            fn all(regs: &Regs, i: u16) -> V64 { regs.r64[i as usize] }
            #[inline(always)]
            fn one(all: &V64, lane: usize) -> Self { let f: fn(u64) -> $t = $from; f(all[lane]) }
            #[inline(always)]
            fn get(regs: &Regs, i: u16, lane: usize) -> Self { Self::one(&regs.r64[i as usize], lane) }
            #[inline(always)]
            fn set(regs: &mut Regs, i: u16, lane: usize, value: Self) {
                let f: fn($t) -> u64 = $to;
                let bits = f(value);
                regs.r64[i as usize][lane] = bits;
            }
            #[inline(always)]
            fn put(regs: &mut Regs, i: u16, values: &[Self; 32], mask: u32) {
                let f: fn($t) -> u64 = $to;
                regs.put64(i, &std::array::from_fn(|l| f(values[l])), mask);
            }
        }
    )* };
}

lane64! {
    u64: |x| x, |x| x;
    i64: |x| x as i64, |x| x as u64;
    f64: f64::from_bits, f64::to_bits;
}

impl Lane for bool {
    type All = u32;
    #[inline(always)]
    fn all(regs: &Regs, i: u16) -> u32 {
        regs.pred[i as usize]
    }
    #[inline(always)]
    fn one(all: &u32, lane: usize) -> bool {
        all >> lane & 1 != 0
    }
    #[inline(always)]
    fn get(regs: &Regs, i: u16, lane: usize) -> bool {
        Self::one(&regs.pred[i as usize], lane)
    }
    #[inline(always)]
    fn set(regs: &mut Regs, i: u16, lane: usize, value: bool) {
        let p = &mut regs.pred[i as usize];
        *p = *p & !(1 << lane) | u32::from(value) << lane;
    }
    #[inline(always)]
    fn put(regs: &mut Regs, i: u16, values: &[bool; 32], mask: u32) {
        let bits = values.iter().enumerate().fold(0, |m, (l, &v)| m | u32::from(v) << l);
        regs.put_pred(i, bits, mask);
    }
}

/// `lanes!(d: u32 = |a: i32, b: u32| formula)` is a [`LaneFn`] that computes the formula in every lane. The sources are, in
/// order, the registers `a`, `b`, `c`, `f` of [`Args`]; `lanes!(how; …)` binds `how` to the modifiers.
macro_rules! lanes {
    ($d:ty = |$($x:ident: $t:ty),*| $e:expr) => { $crate::exec::lanes::lanes!(_how; $d = |$($x: $t),*| $e) };
    ($how:ident; $d:ty = |$($x:ident: $t:ty),*| $e:expr) => {{
        fn run(regs: &mut $crate::exec::lanes::Regs, args: &$crate::ir::Args, mask: u32) {
            use $crate::exec::lanes::Lane;
            let $how = args.how;
            let sources = [args.a, args.b, args.c, args.f];
            if $crate::exec::lanes::few(mask) {
                for lane in $crate::exec::lanes::lanes_of(mask) {
                    let mut next = 0;
                    $( let $x = { next += 1; <$t as Lane>::get(regs, sources[next - 1], lane) }; )*
                    let _ = next;
                    let value: $d = $e;
                    <$d as Lane>::set(regs, args.d, lane, value);
                }
                return;
            }
            let mut next = 0;
            $( let $x = { next += 1; <$t as Lane>::all(regs, sources[next - 1]) }; )*
            let _ = next;
            let out: [$d; 32] = std::array::from_fn(|lane| {
                $( let $x = <$t as Lane>::one(&$x, lane); )*
                $e
            });
            <$d as Lane>::put(regs, args.d, &out, mask);
        }
        run as $crate::exec::lanes::LaneFn
    }};
}
pub(crate) use lanes;
