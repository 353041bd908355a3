//! Numerics against plain statements of what each instruction means: tables of every value of a format, wide integers, the
//! host's own operations.

use proptest::prelude::*;
use ptx::num::convert::{self, How, Type, convert};
use ptx::num::exact::{self, BF16, E4M3, E5M2, F16, F32, F64, Format, Rounding, TF32};
use ptx::num::half::{self, Kind};
use ptx::num::single::{self, Extremum, Property};
use ptx::num::tensor::{self, Element, Precision, Tile};
use ptx::num::{Mode, NAN16, NAN32, approx, double, lanes};

const ALL: [Rounding; 5] = [Rounding::Nearest, Rounding::NearestAway, Rounding::Zero, Rounding::Down, Rounding::Up];
const PTX: [Rounding; 4] = [Rounding::Nearest, Rounding::Zero, Rounding::Down, Rounding::Up];

/// Every finite value of a format that is not negative, ascending, from the definition: mantissa times power of two.
fn values(exponent_bits: i32, mantissa_bits: i32, top_is_special: bool, count: usize) -> Vec<f64> {
    let bias = (1 << (exponent_bits - 1)) - 1;
    let fields = (1 << exponent_bits) - i32::from(top_is_special);
    let mut all = Vec::new();
    for field in 0..fields {
        for mantissa in 0..1 << mantissa_bits {
            let fraction = f64::from(mantissa) / f64::from(1 << mantissa_bits);
            all.push(if field == 0 { fraction * 2f64.powi(1 - bias) } else { (1.0 + fraction) * 2f64.powi(field - bias) });
        }
    }
    all.truncate(count);
    all
}

fn tables() -> Vec<(Type, Format, Vec<f64>)> {
    vec![
        (Type::F16, F16, values(5, 10, true, usize::MAX)),
        (Type::Bf16, BF16, values(8, 7, true, usize::MAX)),
        (Type::Tf32, TF32, values(8, 10, true, usize::MAX)),
        (Type::E5m2, E5M2, values(5, 2, true, usize::MAX)),
        (Type::E4m3, E4M3, values(4, 3, false, 127)),
    ]
}

/// The index of the value that `x` ≥ 0 rounds to; `table.len()` for overflow.
fn rounded(x: f64, table: &[f64], rounding: Rounding, negative: bool) -> usize {
    let above = table.partition_point(|&v| v < x);
    if above < table.len() && table[above] == x {
        return above;
    }
    let below = above - 1;
    // What the next value would be if the format went on.
    let top = table.len() - 1;
    let next = if above > top { table[top] + (table[top] - table[top - 1]) } else { table[above] };
    let past = x >= next;
    let to_half = (x - table[below]).partial_cmp(&(next - x)).unwrap();
    let up = match rounding {
        Rounding::Nearest => past || to_half.is_gt() || (to_half.is_eq() && below % 2 == 1),
        Rounding::NearestAway => past || to_half.is_ge(),
        Rounding::Zero => false,
        Rounding::Down => negative,
        Rounding::Up => !negative,
    };
    if up { above } else { below }
}

#[test]
fn every_pattern_of_a_narrow_format_has_its_value() {
    for (kind, format, table) in tables() {
        let sign = format.zero(true);
        for (i, &value) in table.iter().enumerate() {
            let bits = (i as u64) << format.padding;
            assert_eq!(convert::to_f64(bits, kind), value, "{kind:?} {bits:#x}");
            assert_eq!(convert::to_f64(bits | sign, kind), -value, "{kind:?} -{bits:#x}");
            // Widening and coming back changes nothing, whatever the direction.
            for rounding in ALL {
                let how = How { rounding, ..How::default() };
                assert_eq!(convert(convert(bits | sign, kind, Type::F64, how), Type::F64, kind, how), bits | sign);
            }
        }
    }
    for bits in 0..=u16::MAX {
        let half = ::half::f16::from_bits(bits);
        let brain = ::half::bf16::from_bits(bits);
        let or_nan = |x: f32| if x.is_nan() { NAN32 } else { x.to_bits() };
        assert_eq!(convert::f16_to_f32(bits), or_nan(half.to_f32()), "{bits:#x}");
        assert_eq!(convert::bf16_to_f32(bits), or_nan(brain.to_f32()), "{bits:#x}");
    }
    assert!(convert::e4m3_to_f32(0x7f).is_nan() && convert::e4m3_to_f32(0xff).is_nan() && convert::e4m3_to_f32(0x7e) == 448.0);
    assert!(convert::e5m2_to_f32(0xfc) == f32::NEG_INFINITY && convert::e5m2_to_f32(0x7d).is_nan());
}

#[test]
fn narrowing_rounds_to_the_neighbour_that_the_mode_names() {
    for (kind, format, table) in tables() {
        let mut points = Vec::new();
        for pair in table.windows(2) {
            let middle = f64::midpoint(pair[0], pair[1]);
            points.extend([
                pair[0],
                f64::midpoint(pair[0], middle),
                middle.next_down(),
                middle,
                middle.next_up(),
                pair[1].next_down(),
            ]);
        }
        let (last, step) = (table[table.len() - 1], table[table.len() - 1] - table[table.len() - 2]);
        points.extend([last, last + step / 4.0, last + step / 2.0, last + step, last + step * 3.0, last * 2.0]);
        for x in points {
            for rounding in ALL {
                for negative in [false, true] {
                    for satfinite in [false, true] {
                        let index = rounded(x, &table, rounding, negative);
                        let overflow = if satfinite { format.largest(false) } else { format.infinity(false) };
                        let expected = if index == table.len() { overflow } else { (index as u64) << format.padding };
                        let expected = expected | if negative { format.zero(true) } else { 0 };
                        let how = How { rounding, satfinite, ..How::default() };
                        let given = if negative { -x } else { x };
                        assert_eq!(
                            convert(given.to_bits(), Type::F64, kind, how),
                            expected,
                            "{given:e} to {kind:?} {rounding:?} satfinite {satfinite}"
                        );
                        // The short cuts for f32 say the same.
                        if rounding == Rounding::Nearest && !satfinite && f64::from(x as f32) == x {
                            let bits = (given as f32).to_bits();
                            match kind {
                                Type::F16 => assert_eq!(u64::from(convert::f32_to_f16(bits)), expected),
                                Type::Bf16 => assert_eq!(u64::from(convert::f32_to_bf16(bits)), expected),
                                _ => {}
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn special_values_convert_as_ptx_says() {
    let nan = f32::NAN.to_bits().into();
    let infinity = u64::from(f32::INFINITY.to_bits());
    let plain = How::default();
    let relu = How { relu: true, ..plain };
    let satfinite = How { satfinite: true, ..plain };
    let saturate = How { saturate: true, ..plain };
    assert_eq!(convert(nan, Type::F32, Type::F16, relu), 0x7fff);
    assert_eq!(convert(nan, Type::F32, Type::Bf16, satfinite), 0x7fff);
    assert_eq!(convert(nan, Type::F32, Type::E4m3, satfinite), 0x7f);
    assert_eq!(convert(nan, Type::F32, Type::E5m2, satfinite), 0x7f);
    assert_eq!(convert(nan, Type::F32, Type::F32, saturate), 0);
    assert_eq!(convert(infinity, Type::F32, Type::E4m3, satfinite), 0x7e);
    assert_eq!(convert(infinity | 1 << 31, Type::F32, Type::E5m2, satfinite), 0xfb);
    assert_eq!(convert(infinity, Type::F32, Type::F16, satfinite), 0x7bff);
    assert_eq!(convert((-3f32).to_bits().into(), Type::F32, Type::Bf16, relu), 0);
    assert_eq!(convert(1, Type::F32, Type::F64, How { ftz: true, ..plain }), 0);
    assert_eq!(convert(f64::MIN_POSITIVE.to_bits(), Type::F64, Type::F32, How { rounding: Rounding::Up, ..plain }), 1);
    let s32 = Type::Int { bits: 32, signed: true };
    let up = How { rounding: Rounding::Up, ..plain };
    assert_eq!(convert(1, Type::F32, s32, up), 1);
    assert_eq!(convert(1, Type::F32, s32, How { ftz: true, ..up }), 0);
    assert_eq!(convert(nan, Type::F32, s32, up), 0);
    assert_eq!(convert(f64::NAN.to_bits(), Type::F64, s32, up), 1 << 31);
    assert_eq!(convert(nan, Type::F32, Type::Int { bits: 64, signed: false }, up), 1 << 63);
    // f32 to integral f32 keeps the sign of a zero.
    let integral = How { integral: true, rounding: Rounding::Up, ..plain };
    assert_eq!(convert((-0.5f32).to_bits().into(), Type::F32, Type::F32, integral), 1 << 31);
}

fn any_f32() -> impl Strategy<Value = u32> {
    prop_oneof![
        any::<u32>(),
        // Neighbourhoods of the special places.
        (
            prop::sample::select(vec![0u32, 0x0080_0000, 0x3f80_0000, 0x7f80_0000, 0x7e80_0000, 0x3400_0000]),
            -3i32..4,
            any::<bool>()
        )
            .prop_map(|(base, offset, negative)| base.wrapping_add_signed(offset) & 0x7fff_ffff | u32::from(negative) << 31),
        any::<i16>().prop_map(|x| f32::from(x).to_bits()),
    ]
}

fn any_f64() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        any_f32().prop_map(|x| f64::from(f32::from_bits(x)).to_bits()),
        (prop::sample::select(vec![0u64, 1 << 52, 0x3ff << 52, 0x7ff << 52, 0x7fd << 52]), -3i64..4, any::<bool>())
            .prop_map(|(base, offset, negative)| base.wrapping_add_signed(offset) & !(1 << 63) | u64::from(negative) << 63),
    ]
}

fn same32(x: u32, y: f32) -> bool {
    x == if y.is_nan() { NAN32 } else { y.to_bits() }
}

fn same64(x: Option<u64>, y: f64) -> bool {
    x.map_or(y.is_nan(), |x| x == y.to_bits())
}

/// Down, nearest and up enclose the number as tightly as the format allows, and zero is the inner one.
fn encloses(by_mode: impl Fn(Rounding) -> u32) -> Result<(), TestCaseError> {
    let [nearest, zero, down, up] = PTX.map(|rounding| f32::from_bits(by_mode(rounding)));
    if nearest.is_nan() {
        prop_assert!(zero.is_nan() && down.is_nan() && up.is_nan());
        return Ok(());
    }
    prop_assert!(down <= nearest && nearest <= up);
    prop_assert!(nearest == down || nearest == up);
    prop_assert!(down == up || down.next_up() == up, "{down:e} {up:e}");
    let inner = if up > 0.0 { down } else { up };
    prop_assert!(zero == inner);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn nearest_is_the_hosts(a in any_f32(), b in any_f32(), c in any_f32()) {
        let [x, y, z] = [a, b, c].map(f32::from_bits);
        let near = Mode::NEAREST;
        prop_assert!(same32(single::add(a, b, near), x + y));
        prop_assert!(same32(single::mul(a, b, near), x * y));
        prop_assert!(same32(single::fma(a, b, c, near), x.mul_add(y, z)), "{x:e} {y:e} {z:e}");
        prop_assert!(same32(single::div(a, b, near), x / y));
        prop_assert!(same32(single::sqrt(a, near), x.sqrt()));
        // So does the road over wide integers.
        let (a, b, c) = (a.into(), b.into(), c.into());
        let exact = |bits: Option<u64>| bits.map_or(NAN32, |bits| bits as u32);
        prop_assert!(same32(exact(exact::add(a, b, F32, Rounding::Nearest)), x + y));
        prop_assert!(same32(exact(exact::mul(a, b, F32, Rounding::Nearest)), x * y));
        prop_assert!(same32(exact(exact::fma(a, b, c, F32, Rounding::Nearest)), x.mul_add(y, z)));
        prop_assert!(same32(exact(exact::div(a, b, F32, Rounding::Nearest)), x / y));
        prop_assert!(same32(exact(exact::sqrt(a, F32, Rounding::Nearest)), x.sqrt()));
    }

    #[test]
    fn nearest_is_the_hosts_in_f64(a in any_f64(), b in any_f64(), c in any_f64()) {
        let [x, y, z] = [a, b, c].map(f64::from_bits);
        prop_assert!(same64(exact::add(a, b, F64, Rounding::Nearest), x + y));
        prop_assert!(same64(exact::mul(a, b, F64, Rounding::Nearest), x * y));
        prop_assert!(same64(exact::fma(a, b, c, F64, Rounding::Nearest), x.mul_add(y, z)), "{x:e} {y:e} {z:e}");
        prop_assert!(same64(exact::div(a, b, F64, Rounding::Nearest), x / y));
        prop_assert!(same64(exact::sqrt(a, F64, Rounding::Nearest), x.sqrt()));
        if !x.is_nan() && !y.is_nan() {
            let sum = if (x + y).is_nan() { 0xfff8 << 48 } else { (x + y).to_bits() };
            prop_assert_eq!(double::add(a, b, Rounding::Nearest), sum);
        } else {
            prop_assert_eq!(double::mul(a, b, Rounding::Up), (if x.is_nan() { a } else { b }) | 1 << 51);
        }
    }

    #[test]
    fn directed_results_enclose(a in any_f32(), b in any_f32(), c in any_f32()) {
        let mode = |rounding| Mode { rounding, ..Mode::NEAREST };
        encloses(|rounding| single::add(a, b, mode(rounding)))?;
        encloses(|rounding| single::mul(a, b, mode(rounding)))?;
        encloses(|rounding| single::fma(a, b, c, mode(rounding)))?;
        encloses(|rounding| single::div(a, b, mode(rounding)))?;
        encloses(|rounding| single::sqrt(a, mode(rounding)))?;
    }

    /// Where the numbers fit wide integers, the enclosure is of the true value.
    #[test]
    fn directed_results_are_on_the_right_side(
        mantissas in prop::array::uniform3(-(1i128 << 24)..1 << 24),
        exponents in prop::array::uniform3(-12i32..12),
    ) {
        let number = |i: usize| (mantissas[i] as f32) * 2f32.powi(exponents[i] - 20);
        let [a, b, c] = [number(0), number(1), number(2)];
        // In units of 2^−64, of which a, b, c hold 2^32 and their products one.
        let units = |x: f32| (f64::from(x) * 2f64.powi(64)) as i128;
        let product = ((mantissas[0] * mantissas[1]) as f64 * 2f64.powi(exponents[0] + exponents[1] - 40 + 64)) as i128;
        let cases = [
            (units(a) + units(c), Box::new(move |m| single::add(a.to_bits(), c.to_bits(), m)) as Box<dyn Fn(Mode) -> u32>),
            (product, Box::new(move |m| single::mul(a.to_bits(), b.to_bits(), m))),
            (product + units(c), Box::new(move |m| single::fma(a.to_bits(), b.to_bits(), c.to_bits(), m))),
        ];
        for (truth, compute) in &cases {
            let [_, zero, down, up] = PTX.map(|rounding| f32::from_bits(compute(Mode { rounding, ..Mode::NEAREST })));
            prop_assert!(units(down) <= *truth && *truth <= units(up), "{truth}");
            prop_assert!(down == up || (units(down) < *truth && *truth < units(up)), "{truth}");
            prop_assert!(units(zero).abs() <= truth.abs());
        }
        // A quotient and a root by multiplying back.
        let [nearest, _, down, up] = PTX.map(|rounding| f32::from_bits(single::div(a.to_bits(), b.to_bits(), Mode { rounding, ..Mode::NEAREST })));
        if b != 0.0 && nearest != 0.0 {
            let back = |q: f32| f64::from(q) * f64::from(b.abs());
            let a = f64::from(a) * f64::from(b.signum());
            prop_assert!(back(down) <= a && a <= back(up));
        }
        let root = |rounding| f64::from(f32::from_bits(single::sqrt(a.abs().to_bits(), Mode { rounding, ..Mode::NEAREST })));
        prop_assert!(root(Rounding::Down).powi(2) <= f64::from(a.abs()) && f64::from(a.abs()) <= root(Rounding::Up).powi(2));
    }

    #[test]
    fn ftz_and_sat(a in any_f32(), b in any_f32(), c in any_f32()) {
        let flush = |x: f32| if x.is_subnormal() { 0f32.copysign(x) } else { x };
        let [x, y, z] = [a, b, c].map(|x| flush(f32::from_bits(x)));
        let ftz = Mode { ftz: true, ..Mode::NEAREST };
        prop_assert!(same32(single::add(a, b, ftz), flush(x + y)));
        prop_assert!(same32(single::fma(a, b, c, ftz), flush(x.mul_add(y, z))));
        let sat = Mode { saturate: true, ..ftz };
        let clamp = |x: f32| if x > 0.0 { x.min(1.0) } else { 0.0 };
        prop_assert!(same32(single::mul(a, b, sat), clamp(flush(x * y))));
        prop_assert!(same32(single::div(a, b, sat), clamp(flush(x / y))));
    }

    #[test]
    fn lanes_do_what_one_lane_does(
        a in prop::array::uniform32(any_f32()), b in prop::array::uniform32(any_f32()), c in prop::array::uniform32(any_f32()),
        rounding in prop::sample::select(PTX.to_vec()), ftz: bool, saturate: bool, nan: bool, xorsign_abs: bool,
    ) {
        let mode = Mode { rounding, ftz, saturate };
        let (sums, products) = (lanes::add(&a, &b, mode), lanes::mul(&a, &b, mode));
        let (differences, fused) = (lanes::sub(&a, &b, mode), lanes::fma(&a, &b, &c, mode));
        let how = Extremum { maximum: saturate, ftz, nan, xorsign_abs };
        let extrema = lanes::extremum(&a, &b, how);
        let converting = How { rounding, ftz, saturate, ..How::default() };
        for i in 0..32 {
            prop_assert_eq!(sums[i], single::add(a[i], b[i], mode));
            prop_assert_eq!(differences[i], single::add(a[i], b[i] ^ 1 << 31, mode));
            prop_assert_eq!(products[i], single::mul(a[i], b[i], mode));
            prop_assert_eq!(fused[i], single::fma(a[i], b[i], c[i], mode));
            prop_assert_eq!(extrema[i], single::extremum(a[i], b[i], how));
        }
        let s32 = Type::Int { bits: 32, signed: true };
        let u32_ = Type::Int { bits: 32, signed: false };
        for (from, to) in [
            (Type::F32, Type::F16), (Type::F32, Type::Bf16), (Type::F16, Type::F32), (Type::Bf16, Type::F32), (Type::F32, Type::F32),
            (s32, Type::F32), (u32_, Type::F32), (Type::F32, s32), (Type::F32, u32_), (Type::F32, Type::Tf32), (s32, u32_),
        ] {
            for how in [converting, How::default(), How { rounding: Rounding::Zero, ..How::default() }] {
                let all = lanes::convert32(&a, from, to, how);
                for i in 0..32 {
                    prop_assert_eq!(u64::from(all[i]), convert(a[i].into(), from, to, how), "{:#x} {:?} {:?}", a[i], from, to);
                }
            }
        }
    }

    #[test]
    fn integers_convert(bits: u64, from_bits in prop::sample::select(vec![8u8, 16, 32, 64]), from_signed: bool,
        to_bits in prop::sample::select(vec![8u8, 16, 32, 64]), to_signed: bool, saturate: bool) {
        let mask = u64::MAX >> (64 - from_bits);
        let value: i128 = match (from_bits, from_signed) {
            (8, true) => (bits as i8).into(), (16, true) => (bits as i16).into(), (32, true) => (bits as i32).into(), (_, true) => (bits as i64).into(),
            (_, false) => (bits & mask).into(),
        };
        let (from, to) = (Type::Int { bits: from_bits, signed: from_signed }, Type::Int { bits: to_bits, signed: to_signed });
        let how = How { saturate, ..How::default() };
        let clamped = match (to_bits, to_signed) {
            _ if !saturate => value,
            (8, true) => value.clamp(i8::MIN.into(), i8::MAX.into()), (8, false) => value.clamp(0, u8::MAX.into()),
            (16, true) => value.clamp(i16::MIN.into(), i16::MAX.into()), (16, false) => value.clamp(0, u16::MAX.into()),
            (32, true) => value.clamp(i32::MIN.into(), i32::MAX.into()), (32, false) => value.clamp(0, u32::MAX.into()),
            (_, true) => value.clamp(i64::MIN.into(), i64::MAX.into()), (_, false) => value.clamp(0, u64::MAX.into()),
        };
        prop_assert_eq!(convert(bits & mask, from, to, how), clamped as u64 & (u64::MAX >> (64 - to_bits)));
        // To floats: the host rounds to nearest; the other directions enclose the integer.
        prop_assert_eq!(convert(bits & mask, from, Type::F32, How::default()), u64::from((value as f32).to_bits()));
        prop_assert_eq!(convert(bits & mask, from, Type::F64, How::default()), (value as f64).to_bits());
        let directed = |rounding| f32::from_bits(convert(bits & mask, from, Type::F32, How { rounding, ..How::default() }) as u32);
        let (down, up) = (directed(Rounding::Down), directed(Rounding::Up));
        prop_assert!(down as i128 <= value && value <= up as i128 && (down == up || down.next_up() == up));
        prop_assert_eq!(directed(Rounding::Zero), if value < 0 { up } else { down });
    }

    #[test]
    fn floats_convert_to_integers(x in any_f32(), y in any_f64()) {
        let (a, b) = (f32::from_bits(x), f64::from_bits(y));
        let to = |signed, bits| Type::Int { bits, signed };
        let rni = How::default();
        let rzi = How { rounding: Rounding::Zero, ..rni };
        let rmi = How { rounding: Rounding::Down, ..rni };
        let rpi = How { rounding: Rounding::Up, ..rni };
        if !a.is_nan() {
            prop_assert_eq!(convert(x.into(), Type::F32, to(true, 32), rni), u64::from(a.round_ties_even() as i32 as u32));
            prop_assert_eq!(convert(x.into(), Type::F32, to(false, 32), rzi), u64::from(a as u32));
            prop_assert_eq!(convert(x.into(), Type::F32, to(true, 8), rmi), u64::from(a.floor() as i8 as u8));
            prop_assert_eq!(convert(x.into(), Type::F32, to(true, 64), rpi), a.ceil() as i64 as u64);
        }
        if !b.is_nan() {
            prop_assert_eq!(convert(y, Type::F64, to(true, 64), rpi), b.ceil() as i64 as u64);
            prop_assert_eq!(convert(y, Type::F64, to(false, 64), rmi), b.floor() as u64);
            prop_assert_eq!(convert(y, Type::F64, to(true, 16), rzi), u64::from(b as i16 as u16));
        }
    }

    /// Each half operation is the f64 result rounded once; f64 holds sums and products of halves exactly, or `fma`'s up to an
    /// error that a wide integer shows.
    #[test]
    fn half_arithmetic(a: u16, b: u16, c: u16, saturate: bool, relu: bool, ftz: bool) {
        for (kind, of) in [(Kind::F16, Type::F16), (Kind::Bf16, Type::Bf16)] {
            let format = of.format().unwrap();
            let mode = half::Mode { ftz: ftz && kind == Kind::F16, saturate, relu: relu && !saturate };
            let finish = |bits: Option<u64>| {
                let bits = bits.map_or(NAN16, |bits| bits as u16);
                let x = kind.to_f32(bits);
                let subnormal = x != 0.0 && x.abs() < kind.to_f32(if kind == Kind::F16 { 0x0400 } else { 0x0080 });
                let bits = if mode.ftz && subnormal { bits & 0x8000 } else { bits };
                let negative = bits & 0x8000 != 0;
                if mode.saturate {
                    if x.is_nan() || negative { 0 } else if x > 1.0 { kind.of_f32(1.0) } else { bits }
                } else if mode.relu && negative { 0 } else { bits }
            };
            let flush = |bits: u16| if mode.ftz && bits & 0x7c00 == 0 { bits & 0x8000 } else { bits };
            let [x, y, z] = [a, b, c].map(|x| u64::from(flush(x)));
            let near = Rounding::Nearest;
            prop_assert_eq!(kind.add(a, b, mode), finish(exact::add(x, y, format, near)));
            prop_assert_eq!(kind.mul(a, b, mode), finish(exact::mul(x, y, format, near)));
            prop_assert_eq!(kind.fma(a, b, c, mode), finish(exact::fma(x, y, z, format, near)));
        }
    }

    #[test]
    fn extrema(a in any_f32(), b in any_f32(), maximum: bool, nan: bool) {
        let (x, y) = (f32::from_bits(a), f32::from_bits(b));
        let how = Extremum { maximum, nan, ..Extremum::default() };
        let larger = |x: f32, y: f32| if x > y || (x == y && x.is_sign_positive()) { x } else { y };
        let pick = |x: f32, y: f32| match (x.is_nan(), y.is_nan()) {
            (true, true) => f32::NAN,
            (true, false) => if nan { f32::NAN } else { y },
            (false, true) => if nan { f32::NAN } else { x },
            _ => if maximum { larger(x, y) } else { -larger(-x, -y) },
        };
        prop_assert!(same32(single::extremum(a, b, how), pick(x, y)));
        let sign = if x.is_sign_negative() != y.is_sign_negative() { -1.0 } else { 1.0 };
        let of_magnitudes = single::extremum(a, b, Extremum { xorsign_abs: true, ..how });
        prop_assert!(same32(of_magnitudes, pick(x.abs(), y.abs()).copysign(sign)));
        let wide = double::extremum(f64::from(x).to_bits(), f64::from(y).to_bits(), how);
        if !x.is_nan() && !y.is_nan() {
            prop_assert_eq!(wide, f64::from(pick(x, y)).to_bits());
        }
        let (h, k) = (convert::f32_to_f16(a), convert::f32_to_f16(b));
        let chosen = pick(Kind::F16.to_f32(h), Kind::F16.to_f32(k));
        prop_assert_eq!(Kind::F16.extremum(h, k, how), Kind::F16.of_f32(chosen));
    }

    #[test]
    fn approximations_stay_within_their_bounds(a in any_f32(), b in any_f32()) {
        let (x, y) = (f64::from(f32::from_bits(a)), f64::from(f32::from_bits(b)));
        let close = |bits: u32, truth: f64, ulps: f64, absolute: f64| {
            let got = f64::from(f32::from_bits(bits));
            let rounded = truth as f32;
            if rounded.is_nan() || rounded.is_infinite() {
                return same32(bits, rounded) || (rounded.is_infinite() && got == f64::from(f32::MAX.copysign(rounded)));
            }
            let ulp = f64::from(rounded.abs().next_up()) - f64::from(rounded.abs());
            (got - truth).abs() <= ulps * ulp + absolute
        };
        prop_assert!(close(approx::rcp(a, false), 1.0 / x, 1.0, 0.0));
        prop_assert!(close(approx::sqrt(a, false), x.sqrt(), 1.0, 0.0));
        prop_assert!(close(approx::rsqrt(a, false), 1.0 / x.sqrt(), 1.0, 0.0));
        prop_assert!(close(approx::ex2(a, false), x.exp2(), 2.0, 0.0));
        prop_assert!(close(approx::lg2(a, false), x.log2(), 2.0, 2f64.powi(-22)));
        prop_assert!(close(approx::tanh(a), x.tanh(), 0.0, x.tanh().abs() * 2f64.powi(-11)));
        prop_assert!(close(approx::div_full(a, b, false), x / y, 2.0, 0.0));
        if x.abs() <= std::f64::consts::TAU {
            prop_assert!(close(approx::sin(a, false), x.sin(), 0.0, 2f64.powf(-20.5)));
            prop_assert!(close(approx::cos(a, false), x.cos(), 0.0, 2f64.powf(-20.5)));
        }
        if y.abs() > 2f64.powi(126) && y.is_finite() {
            let expected = if x.is_nan() || x.is_infinite() { f32::NAN } else { 0f32.copysign(x as f32) * 1f32.copysign(y as f32) };
            prop_assert!(same32(approx::div_approx(a, b, false), expected));
        }
    }

    /// The model of the tensor cores, restated with one wide integer in units of 2^−400.
    #[test]
    fn dot_products_are_aligned_and_truncated(
        element in prop::sample::select(vec![Element::F16, Element::Bf16, Element::Tf32, Element::E4m3, Element::E5m2]),
        precision in prop::sample::select(vec![Precision::Single, Precision::Short, Precision::Half, Precision::ShortHalf]),
        bits in prop::collection::vec(any::<u32>(), 3 * 16 + 16 * 8 + 3 * 8), spread in 0u32..31,
    ) {
        let (m, n, k) = (3, 8, 16);
        // Exponents of a few neighbouring binades, or of many; zeros now and then.
        let of = |x: u32| {
            let (width, mantissa) = match element {
                Element::F16 => (16, 10), Element::Bf16 => (16, 7), Element::Tf32 => (32, 23), Element::E4m3 => (8, 3), _ => (8, 2),
            };
            let fields = match element { Element::F16 | Element::E5m2 => 30, Element::E4m3 => 14, _ => 200 };
            let field = (if element.bits() < 16 || element == Element::F16 { 0 } else { 90 }) + (x >> 24) % (spread + 1).min(fields);
            if x.is_multiple_of(13) { 0 } else { (x & ((1 << mantissa) - 1)) | field << mantissa | (x >> 23 & 1) << (width - 1) }
        };
        let a: Vec<f32> = bits[..48].iter().map(|&x| element.value(of(x))).collect();
        let b: Vec<f32> = bits[48..176].iter().map(|&x| element.value(of(x))).collect();
        let half = matches!(precision, Precision::Half | Precision::ShortHalf);
        let c: Vec<f32> = bits[176..].iter().map(|&x| {
            let c = f32::from_bits((x & 0x807f_ffff) | (115 + x % 24) << 23);
            if half { Kind::F16.to_f32(Kind::F16.of_f32(c)) } else { c }
        }).collect();
        let mut d = c.clone();
        tensor::multiply_add(&mut d, &Tile::new(&a, element), &Tile::new(&b, element), n, k, precision);
        let least = |e: Element| match e { Element::F16 | Element::E5m2 => -14, Element::E4m3 => -6, _ => -126 };
        // Significand and exponent of its last bit, and the exponent for alignment.
        let parts = |x: f32, least: i32| {
            let field = (x.to_bits() >> 23 & 0xff) as i32;
            let significand = i128::from(x.to_bits() & 0x7f_ffff | if field == 0 { 0 } else { 0x80_0000 });
            (if x < 0.0 { -significand } else { significand }, field.max(1) - 150, (field.max(1) - 127).max(least))
        };
        let fraction = if matches!(precision, Precision::Single | Precision::Half) { 25 } else { 13 };
        for row in 0..m {
            for column in 0..n {
                let (s, last, e) = parts(c[row * n + column], if half { -14 } else { -126 });
                let mut terms = vec![(s, last, e)];
                for step in 0..k {
                    let (x, y) = (parts(a[row * k + step], least(element)), parts(b[step * n + column], least(element)));
                    terms.push((x.0 * y.0, x.1 + y.1, x.2 + y.2));
                }
                let top = terms.iter().filter(|t| t.0 != 0).map(|t| t.2).max().unwrap_or(-126).max(-126);
                let unit = top - fraction;
                let sum: i128 = terms.iter().map(|&(s, last, _)| {
                    let shift = last - unit;
                    if shift >= 0 { s << shift } else if shift < -126 { 0 } else { s / (1i128 << -shift) }
                }).sum();
                let exact = sum as f64 * 2f64.powi(unit);
                let expected = if half {
                    Kind::F16.to_f32(convert(exact.to_bits(), Type::F64, Type::F16, How::default()) as u16)
                } else {
                    let toward_zero = How { rounding: Rounding::Zero, ..How::default() };
                    let bits = convert(exact.to_bits(), Type::F64, Type::F32, toward_zero) as u32;
                    f32::from_bits(if precision == Precision::Short { bits >> 10 << 10 } else { bits })
                };
                let got = d[row * n + column];
                prop_assert!(got == expected, "{got:e} {expected:e} {element:?} {precision:?}");
            }
        }
    }
}

#[test]
fn a_fused_sum_next_to_a_tie_is_rounded_once() {
    let x = 1.0 + f32::EPSILON * 2048.0;
    for (a, c) in
        [(x, 0.0), (x, 1e-30), (x, -1e-30), (x * 2f32.powi(-70), 1e-45), (x * 2f32.powi(-70), f32::MIN_POSITIVE), (0.0, -0.0)]
    {
        let b = a.copysign(-1.0);
        for [a, b, c] in [[a, a, c], [a, b, c], [a, b, -c]] {
            let lanes = lanes::fma(&[a.to_bits(); 32], &[b.to_bits(); 32], &[c.to_bits(); 32], Mode::NEAREST);
            assert!(lanes.iter().all(|&d| same32(d, a.mul_add(b, c))), "{a:e} {b:e} {c:e}");
        }
    }
    // Without the care the first pair would give different results.
    let twice = |c: f32| (f64::from(x) * f64::from(x) + f64::from(c)) as f32;
    assert_ne!(twice(1e-30), x.mul_add(x, 1e-30));
}

#[test]
fn properties() {
    use Property::{Finite, Infinite, Normal, NotANumber, Number, Subnormal};
    let holds = |bits: u32| [Finite, Infinite, Number, NotANumber, Normal, Subnormal].map(|p| single::testp(bits, p));
    assert_eq!(holds(1f32.to_bits()), [true, false, true, false, true, false]);
    assert_eq!(holds(0x8000_0001), [true, false, true, false, false, true]);
    assert_eq!(holds(0), [true, false, true, false, false, true]);
    assert_eq!(holds(f32::NEG_INFINITY.to_bits()), [false, true, true, false, false, false]);
    assert_eq!(holds(NAN32), [false, false, false, true, false, false]);
    assert!(double::testp(f64::MIN_POSITIVE.to_bits(), Normal));
    assert_eq!(single::copysign((-1f32).to_bits(), 2f32.to_bits()), (-2f32).to_bits());
}

#[test]
fn what_a_tensor_core_loses() {
    let dot = |c: f32, products: &[f32], element, precision| {
        let k = products.len();
        let column: Vec<f32> = products.iter().flat_map(|&p| [p; 8]).collect();
        let mut d = [c; 8];
        tensor::multiply_add(&mut d, &Tile::new(&vec![1.0; k], element), &Tile::new(&column, element), 8, k, precision);
        assert!(d.iter().all(|x| x.to_bits() == d[0].to_bits()));
        d[0]
    };
    let tiny = 2f32.powi(-26);
    // Sixteen terms just too small to be aligned are lost, though they amount to 2^−22; as they are all there is, they count.
    assert_eq!(dot(1.0, &[tiny; 16], Element::Bf16, Precision::Single), 1.0);
    assert_eq!(dot(1.0, &[2.0 * tiny; 16], Element::Bf16, Precision::Single), 1.0 + 2f32.powi(-21));
    assert_eq!(dot(0.0, &[tiny; 16], Element::Bf16, Precision::Single), 2f32.powi(-22));
    // Truncation, not rounding: 1 + 3·2^−25 lies closer to 1 + 2^−23.
    assert_eq!(dot(1.0, &[2.0 * tiny, 2.0 * tiny, 2.0 * tiny], Element::Bf16, Precision::Single), 1.0);
    // fp8 wgmma keeps 13 bits.
    assert_eq!(dot(1.0, &[2f32.powi(-9), 2f32.powi(-9)], Element::E5m2, Precision::Short), 1.0 + 2f32.powi(-8));
    assert_eq!(dot(64.0, &[2f32.powi(-9); 4], Element::E5m2, Precision::Short), 64.0);
    assert_eq!(dot(64.0, &[2f32.powi(-9); 4], Element::E5m2, Precision::Single), 64.0 + 2f32.powi(-7));
    // Infinities and NaNs go their way.
    assert_eq!(dot(1.0, &[f32::INFINITY, 1.0], Element::F16, Precision::Single), f32::INFINITY);
    assert_eq!(dot(f32::NEG_INFINITY, &[f32::INFINITY, 1.0], Element::F16, Precision::Single).to_bits(), NAN32);
    assert_eq!(dot(65504.0, &[65504.0], Element::F16, Precision::Half), f32::INFINITY);
    assert_eq!(dot(f32::MAX, &[f32::MAX], Element::Tf32, Precision::Single), f32::INFINITY);
}

#[test]
fn f64_is_fused_and_integers_are_exact() {
    let (a, b) = ([0.1, 0.7, -0.3, 0.9], [1.3, -0.2, 0.6, 1.7, 0.4, -1.1]);
    let mut d = [0.25, -0.5, 0.125, 2.0, 1.0, 3.0];
    let mut expected = d;
    for row in 0..2 {
        for column in 0..3 {
            for step in 0..2 {
                let at = row * 3 + column;
                expected[at] = f64::mul_add(a[row * 2 + step], b[step * 3 + column], expected[at]);
            }
        }
    }
    tensor::multiply_add_f64(&mut d, &a, &b, 3, 2);
    assert_eq!(d, expected);
    let mut d = [1.0; 4];
    tensor::sum_products(&mut d, &[255.0, -128.0, 1.0, 2.0], &[255.0, 1.0, 127.0, -1.0], 2, 2);
    assert_eq!(d, [1.0 + 255.0 * 255.0 - 128.0 * 127.0, 1.0 + 255.0 + 128.0, 1.0 + 255.0 + 254.0, 0.0]);
}

#[test]
fn integer_sums_wrap_or_clamp() {
    assert_eq!(tensor::accumulate_s32(i32::MAX, 2.0, true), i32::MAX);
    assert_eq!(tensor::accumulate_s32(i32::MAX, 2.0, false), i32::MIN + 1);
    assert_eq!(tensor::accumulate_s32(i32::MIN, -1.0, true), i32::MIN);
    assert_eq!(tensor::accumulate_s32(5, -(32.0 * 255.0 * 128.0), true), 5 - 32 * 255 * 128);
}

#[test]
fn operands_of_the_tensor_cores() {
    use tensor::Element::{Bf16, E4m3, E5m2, F16, S8, Tf32, U8};
    assert_eq!(F16.value(0x1234_3c00), 1.0);
    assert_eq!(Bf16.value(0x1234_c000), -2.0);
    assert_eq!(Tf32.value((1.0f32 + f32::EPSILON).to_bits()), 1.0);
    assert_eq!((E4m3.value(0x38), E5m2.value(0x3c), S8.value(0xfff), U8.value(0xfff)), (1.0, 1.0, -1.0, 255.0));
    for element in [F16, Bf16, Tf32, E4m3, E5m2, S8, U8] {
        assert_eq!(element.bits() as usize * element.per_register(), 32);
    }
}
