//! Cuts PTX text into tokens.

use super::ast::Literal;

/// A token and the line it starts on.
#[derive(Clone, Debug, PartialEq)]
pub struct Token<'a> {
    /// What it is.
    pub kind: Kind<'a>,
    /// Line, from 1.
    pub line: u32,
}

/// Kinds of tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind<'a> {
    /// A name with all its dotted parts: `ld.global.f32`, `.param`, `%tid.x`, `$L__BB0_1`, `_`.
    Word(&'a str),
    /// A number.
    Number(Literal),
    /// An integer with a `U` behind it.
    Unsigned(u64),
    /// The inside of a string literal, escapes untouched.
    Text(&'a str),
    /// One character of punctuation.
    Punct(char),
}

/// Cuts `source`; an error is a line and a message.
pub fn tokens(source: &str) -> Result<Vec<Token<'_>>, (u32, String)> {
    let bytes = source.as_bytes();
    let mut out = Vec::with_capacity(source.len() / 4);
    let (mut at, mut line) = (0, 1);
    while at < bytes.len() {
        let c = bytes[at];
        let start = at;
        let kind = match c {
            b'\n' => {
                line += 1;
                at += 1;
                continue;
            }
            b' ' | b'\t' | b'\r' | 0 => {
                at += 1;
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                while at < bytes.len() && bytes[at] != b'\n' {
                    at += 1;
                }
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                let end = source[at + 2..].find("*/").ok_or((line, "comment without an end".to_string()))?;
                line += source[at..at + 2 + end].matches('\n').count() as u32;
                at += end + 4;
                continue;
            }
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                if at >= bytes.len() {
                    return Err((line, "string without an end".to_string()));
                }
                at += 1;
                Kind::Text(&source[start + 1..at - 1])
            }
            b'0'..=b'9' => {
                at = number_end(bytes, at);
                let text = &source[start..at];
                let wrong = || (line, format!("`{text}` is not a number"));
                match (text.strip_suffix('U').map(number), number(text)) {
                    (Some(Some(Literal::Int(v))), _) => Kind::Unsigned(v as u64),
                    (None, Some(n)) => Kind::Number(n),
                    _ => return Err(wrong()),
                }
            }
            // `%` alone is an operator of constant expressions; before a letter it starts a register's name.
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'$' | b'%' | b'.' => {
                at += 1;
                // Directives and types may stand without a space between them: `.reg.b32`.
                let dots = c != b'.';
                loop {
                    match bytes.get(at) {
                        Some(b'.') if !dots => break,
                        Some(b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'$' | b'.') => at += 1,
                        Some(b':') if bytes.get(at + 1) == Some(&b':') => at += 2,
                        _ => break,
                    }
                }
                Kind::Word(&source[start..at])
            }
            c if c.is_ascii_punctuation() => {
                at += 1;
                Kind::Punct(c as char)
            }
            _ => return Err((line, format!("unexpected character `{}`", source[at..].chars().next().unwrap_or('?')))),
        };
        out.push(Token { kind, line });
        if let Kind::Text(t) = kind {
            line += t.matches('\n').count() as u32;
        }
    }
    Ok(out)
}

fn number_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    let hex = matches!(bytes.get(start + 1), Some(b'x' | b'X' | b'f' | b'F' | b'd' | b'D')) && bytes[start] == b'0';
    while let Some(&c) = bytes.get(at) {
        let exponent_sign = !hex && matches!(c, b'+' | b'-') && at > start && matches!(bytes[at - 1], b'e' | b'E');
        if c.is_ascii_alphanumeric() || c == b'.' || exponent_sign {
            at += 1;
        } else {
            break;
        }
    }
    at
}

fn number(text: &str) -> Option<Literal> {
    let lower = text.to_ascii_lowercase();
    if let Some(h) = lower.strip_prefix("0f") {
        return (h.len() == 8).then(|| u32::from_str_radix(h, 16).ok()).flatten().map(Literal::F32);
    }
    if let Some(h) = lower.strip_prefix("0d") {
        return (h.len() == 16).then(|| u64::from_str_radix(h, 16).ok()).flatten().map(|b| Literal::F64(f64::from_bits(b)));
    }
    let whole = lower.as_str();
    let parsed = if let Some(h) = whole.strip_prefix("0x") {
        u64::from_str_radix(h, 16)
    } else if let Some(b) = whole.strip_prefix("0b") {
        u64::from_str_radix(b, 2)
    } else if whole.len() > 1 && whole.starts_with('0') && whole.bytes().all(|c| c.is_ascii_digit()) {
        u64::from_str_radix(whole, 8)
    } else {
        whole.parse()
    };
    match parsed {
        Ok(v) => Some(Literal::Int(v as i64)),
        Err(_) if lower.bytes().all(|c| c.is_ascii_digit() || b".e+-".contains(&c)) => lower.parse().ok().map(Literal::F64),
        Err(_) => None,
    }
}
