//! The functions that the machine itself provides: `vprintf`, `__assertfail`, and the heap of kernels, `malloc` and `free`.

use super::access;
use super::flow::{At, Stop};
use super::lanes::lanes_of;
use super::machine::Machine;
use super::warp::Warp;
use crate::hazard::HazardKind;
use crate::mem::{Block, MemoryError, Sem, Space};
use crate::request::FaultKind;

/// Places in the frame and sizes of a call's arguments or results.
type Places = [(u32, u32)];

/// Runs builtin `name` for the lanes of `mask`.
pub(super) fn builtin(
    m: &mut Machine<'_>,
    warp: &mut Warp,
    name: &str,
    (arguments, results): (&Places, &Places),
    at: At<'_>,
) -> Result<(), Stop> {
    match name {
        "vprintf" if sizes(arguments) == [8, 8] && sizes(results) == [4] => {
            for lane in lanes_of(at.mask) {
                let format = argument(m, warp, arguments[0], lane, at)?;
                let values = argument(m, warp, arguments[1], lane, at)?;
                let text = formatted(m, warp, at, lane, format, values)?;
                let count = text.len() as u32;
                m.printed.push_str(&text);
                result(m, warp, results[0], lane, &count.to_le_bytes(), at)?;
            }
            m.effect();
            Ok(())
        }
        "__assertfail" if sizes(arguments) == [8, 8, 4, 8, 8] => {
            let lane = at.lane() as usize;
            let [what, file, line, function] = [0, 1, 2, 3].map(|i| argument(m, warp, arguments[i], lane, at));
            let (what, file, line, function) = (what?, file?, line?, function?);
            let [what, file, function] = [what, file, function].map(|p| string(m, warp, at, lane, p));
            let message = format!("{}:{line}: {}: assertion `{}` failed", file?, function?, what?);
            m.fault(warp, at, FaultKind::Assert, message)
        }
        // Each block is an allocation of the device, so that what runs out of it or comes after `free` is named.
        "malloc" if sizes(arguments) == [8] && sizes(results) == [8] => {
            for lane in lanes_of(at.mask) {
                let bytes = argument(m, warp, arguments[0], lane, at)?;
                let address = m.mem.global.alloc(bytes).unwrap_or(0);
                result(m, warp, results[0], lane, &address.to_le_bytes(), at)?;
            }
            m.effect();
            Ok(())
        }
        "free" if sizes(arguments) == [8] && results.is_empty() => {
            for lane in lanes_of(at.mask) {
                let address = argument(m, warp, arguments[0], lane, at)?;
                if address == 0 {
                    continue;
                }
                if let Err(error) = m.mem.global.free(address) {
                    let kind = match error {
                        MemoryError::Freed { .. } => HazardKind::UseAfterFree,
                        _ => HazardKind::UndefinedBehavior,
                    };
                    m.report(kind, warp.site(at.pc, lane as u32), Some(address), || format!("free: {error}"));
                    return m.fault(warp, at, FaultKind::IllegalAddress, format!("free: {error}"));
                }
            }
            m.effect();
            Ok(())
        }
        _ => m.fault(warp, at, FaultKind::IllegalInstruction, format!("call of `{name}` with unexpected arguments")),
    }
}

/// Stores a lane's result of the call.
fn result(m: &mut Machine<'_>, warp: &mut Warp, place: (u32, u32), lane: usize, bytes: &[u8], at: At<'_>) -> Result<(), Stop> {
    let mut block = Block::default();
    block.bytes[lane][..bytes.len()].copy_from_slice(bytes);
    let places = [u64::from(place.0); 32];
    match m.mem.store(&mut warp.by(at.pc), Space::Local, &places, 1 << lane, bytes.len(), Sem::Weak, &block) {
        Ok(()) => Ok(()),
        Err(fault) => access::refused(m, warp, at, fault),
    }
}

fn sizes(places: &Places) -> Vec<u32> {
    places.iter().map(|p| p.1).collect()
}

/// A lane's argument of the call.
fn argument(m: &mut Machine<'_>, warp: &mut Warp, place: (u32, u32), lane: usize, at: At<'_>) -> Result<u64, Stop> {
    read(m, warp, at, lane, Space::Local, place.0.into(), place.1 as usize)
}

/// `bytes` (up to 8) of memory, as a number.
fn read(
    m: &mut Machine<'_>,
    warp: &mut Warp,
    at: At<'_>,
    lane: usize,
    space: Space,
    address: u64,
    bytes: usize,
) -> Result<u64, Stop> {
    let mut block = Block::default();
    match m.mem.load(&mut warp.by(at.pc), space, &[address; 32], 1 << lane, bytes, Sem::Weak, &mut block) {
        Ok(()) => {
            let mut word = [0; 8];
            word[..bytes].copy_from_slice(&block.bytes[lane][..bytes]);
            Ok(u64::from_le_bytes(word))
        }
        Err(fault) => access::refused(m, warp, at, fault),
    }
}

/// The string at a generic address, up to its zero.
fn string(m: &mut Machine<'_>, warp: &mut Warp, at: At<'_>, lane: usize, address: u64) -> Result<String, Stop> {
    let mut out = Vec::new();
    loop {
        match read(m, warp, at, lane, Space::Generic, address + out.len() as u64, 1)? as u8 {
            0 => return Ok(String::from_utf8_lossy(&out).into_owned()),
            b => out.push(b),
        }
    }
}

/// What `printf` would print: `format` with the values packed at `values`, each aligned to its size.
fn formatted(m: &mut Machine<'_>, warp: &mut Warp, at: At<'_>, lane: usize, format: u64, values: u64) -> Result<String, Stop> {
    let format = string(m, warp, at, lane, format)?;
    let mut out = String::new();
    let mut rest = format.as_str();
    let mut next = values;
    while let Some(percent) = rest.find('%') {
        out.push_str(&rest[..percent]);
        rest = &rest[percent + 1..];
        let end = rest.find(|c: char| c.is_ascii_alphabetic() && !"hlLjzt".contains(c) || c == '%').unwrap_or(rest.len());
        let Some(conversion) = rest[end..].chars().next() else {
            out.push('%');
            break;
        };
        let spec = Spec::new(&rest[..end]);
        rest = &rest[end + conversion.len_utf8()..];
        if conversion == '%' {
            out.push('%');
            continue;
        }
        let mut spec = spec;
        let mut value = |m: &mut Machine<'_>, warp: &mut Warp, bytes: u64| {
            next = next.checked_next_multiple_of(bytes).unwrap_or(0);
            let v = read(m, warp, at, lane, Space::Generic, next, bytes as usize);
            next = next.wrapping_add(bytes);
            v
        };
        if spec.star_width {
            let w = value(m, warp, 4)? as u32 as i32;
            spec.left |= w < 0;
            spec.width = w.unsigned_abs() as usize;
        }
        if spec.star_precision {
            let p = value(m, warp, 4)? as u32 as i32;
            spec.precision = usize::try_from(p).ok();
        }
        spec.width = spec.width.min(MAX_WIDTH);
        spec.precision = spec.precision.map(|p| p.min(MAX_WIDTH));
        let text = match conversion {
            'd' | 'i' => {
                let v = if spec.long { value(m, warp, 8)? as i64 } else { i64::from(value(m, warp, 4)? as u32 as i32) };
                spec.signed(v < 0, spec.digits(v.unsigned_abs().to_string()))
            }
            'u' | 'x' | 'X' | 'o' => {
                let v = if spec.long { value(m, warp, 8)? } else { value(m, warp, 4)? };
                let prefix = match conversion {
                    'x' if spec.alternate && v != 0 => "0x",
                    'X' if spec.alternate && v != 0 => "0X",
                    'o' if spec.alternate && v != 0 => "0",
                    _ => "",
                };
                let digits = match conversion {
                    'x' => format!("{v:x}"),
                    'X' => format!("{v:X}"),
                    'o' => format!("{v:o}"),
                    _ => v.to_string(),
                };
                spec.pad(prefix, spec.digits(digits))
            }
            'c' => spec.pad("", char::from(value(m, warp, 4)? as u8).to_string()),
            's' => {
                let p = value(m, warp, 8)?;
                let s = string(m, warp, at, lane, p)?;
                spec.zero = false;
                spec.pad("", s.chars().take(spec.precision.unwrap_or(usize::MAX)).collect())
            }
            'p' => format!("{:#x}", value(m, warp, 8)?),
            'f' | 'F' | 'e' | 'E' | 'g' | 'G' | 'a' | 'A' => spec.float(f64::from_bits(value(m, warp, 8)?), conversion),
            other => format!("%{other}"),
        };
        out.push_str(&text);
    }
    out.push_str(rest);
    Ok(out)
}

/// The greatest width and precision that are obeyed: a kernel's number decides how much is printed.
const MAX_WIDTH: usize = 1024;

/// Flags, width and precision of a conversion.
#[derive(Default)]
struct Spec {
    left: bool,
    zero: bool,
    plus: bool,
    space: bool,
    alternate: bool,
    width: usize,
    star_width: bool,
    precision: Option<usize>,
    star_precision: bool,
    long: bool,
}

impl Spec {
    fn new(text: &str) -> Spec {
        let mut s = Spec {
            long: text.contains('l') || text.contains('j') || text.contains('z') || text.contains('t'),
            ..Spec::default()
        };
        let text = text.trim_end_matches(|c: char| "hlLjzt".contains(c));
        let flags = text.len() - text.trim_start_matches(|c: char| "-+ #0".contains(c)).len();
        for c in text[..flags].chars() {
            match c {
                '-' => s.left = true,
                '0' => s.zero = true,
                '+' => s.plus = true,
                ' ' => s.space = true,
                _ => s.alternate = true,
            }
        }
        let (width, precision) = match text[flags..].split_once('.') {
            Some((w, p)) => (w, Some(p)),
            None => (&text[flags..], None),
        };
        s.star_width = width == "*";
        s.width = width.parse().unwrap_or(0);
        s.star_precision = precision == Some("*");
        s.precision = precision.map(|p| p.parse().unwrap_or(0));
        s
    }

    /// An integer's digits, as many as the precision wants.
    fn digits(&self, digits: String) -> String {
        let least = self.precision.unwrap_or(1);
        format!("{}{digits}", "0".repeat(least.saturating_sub(digits.len())))
    }

    fn signed(&self, negative: bool, digits: String) -> String {
        let sign = match (negative, self.plus, self.space) {
            (true, ..) => "-",
            (_, true, _) => "+",
            (_, _, true) => " ",
            _ => "",
        };
        self.pad(sign, digits)
    }

    /// Prefix and text, filled up to the width.
    fn pad(&self, prefix: &str, text: String) -> String {
        let fill = self.width.saturating_sub(prefix.chars().count() + text.chars().count());
        if self.left {
            format!("{prefix}{text}{}", " ".repeat(fill))
        } else if self.zero {
            format!("{prefix}{}{text}", "0".repeat(fill))
        } else {
            format!("{}{prefix}{text}", " ".repeat(fill))
        }
    }

    fn float(&self, v: f64, conversion: char) -> String {
        let upper = conversion.is_ascii_uppercase();
        let magnitude = v.abs();
        let precision = self.precision.unwrap_or(6);
        let text = if !v.is_finite() {
            (if v.is_nan() { "nan" } else { "inf" }).to_string()
        } else {
            match conversion.to_ascii_lowercase() {
                'f' => format!("{magnitude:.precision$}"),
                'e' => exponent(&format!("{magnitude:.precision$e}")),
                'g' => general(magnitude, precision.max(1), self.alternate),
                _ => hexadecimal(magnitude, self.precision),
            }
        };
        let text = if upper { text.to_ascii_uppercase() } else { text };
        let plain = Spec {
            zero: self.zero && v.is_finite(),
            left: self.left,
            width: self.width,
            plus: self.plus,
            space: self.space,
            ..Spec::default()
        };
        plain.signed(v.is_sign_negative() && !v.is_nan(), text)
    }
}

/// Rust's exponent to C's: at least two digits and a sign.
fn exponent(text: &str) -> String {
    let (mantissa, e) = text.split_once('e').unwrap_or((text, "0"));
    let e: i32 = e.parse().unwrap_or(0);
    format!("{mantissa}e{}{:02}", if e < 0 { '-' } else { '+' }, e.abs())
}

fn general(v: f64, precision: usize, keep: bool) -> String {
    let scientific = format!("{v:.*e}", precision - 1);
    let e: i32 = scientific.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    let trim = |s: &str| {
        if keep || !s.contains('.') { s.to_string() } else { s.trim_end_matches('0').trim_end_matches('.').to_string() }
    };
    if e < -4 || e >= precision as i32 {
        let (mantissa, e) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        exponent(&format!("{}e{e}", trim(mantissa)))
    } else {
        trim(&format!("{v:.*}", (precision as i32 - 1 - e).max(0) as usize))
    }
}

fn hexadecimal(v: f64, precision: Option<usize>) -> String {
    let bits = v.to_bits();
    let (mut mantissa, exponent) = (bits & ((1 << 52) - 1), (bits >> 52 & 0x7ff) as i32);
    let (mut lead, e) = match (exponent, mantissa) {
        (0, 0) => (0, 0),
        (0, _) => (0, -1022),
        _ => (1, exponent - 1023),
    };
    let mut digits = 13;
    if let Some(p) = precision.filter(|p| *p < 13) {
        let drop = 4 * (13 - p as u32);
        let whole = (lead << 52 | mantissa) as u128;
        let half = 1_u128 << (drop - 1);
        let rest = whole & ((1 << drop) - 1);
        let mut kept = whole >> drop;
        kept += u128::from(rest > half || (rest == half && kept & 1 != 0));
        lead = (kept >> (52 - drop)) as u64;
        mantissa = ((kept << drop) & ((1 << 52) - 1)) as u64;
        digits = p;
    }
    let all = format!("{mantissa:013x}");
    let shown = match precision {
        Some(p) if p >= 13 => format!("{all}{}", "0".repeat(p - 13)),
        Some(_) => all[..digits].to_string(),
        None => all.trim_end_matches('0').to_string(),
    };
    let point = if shown.is_empty() { "" } else { "." };
    format!("0x{lead}{point}{shown}p{e:+}")
}
