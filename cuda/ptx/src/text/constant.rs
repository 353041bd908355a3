//! Constant expressions (PTX ISA 4.5.5): integers of 64 bits, signed or not, and doubles.

use super::ast::Literal;
use super::lexer::Kind;
use super::parser::{Parser, Result_};

/// A value on its way: an integer's sign decides how it is divided, shifted and compared.
#[derive(Clone, Copy, Debug)]
enum Value {
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    /// `0f…`, which only stands alone.
    Bits(u32),
}
use Value::{Bits, Float, Signed, Unsigned};

/// Binary operators, loosest first; those of a row bind alike.
const LEVELS: [&[&str]; 10] = [
    &["||"],
    &["&&"],
    &["|"],
    &["^"],
    &["&"],
    &["==", "!="],
    &["<=", ">=", "<", ">"],
    &["<<", ">>"],
    &["+", "-"],
    &["*", "/", "%"],
];

impl Parser<'_> {
    /// Whether what comes can only be a constant expression; `(` and `!` have other meanings too.
    pub(super) fn at_constant(&self) -> bool {
        match self.peek() {
            Some(Kind::Number(_) | Kind::Unsigned(_) | Kind::Word("WARP_SZ") | Kind::Punct('-' | '+' | '~' | '(')) => true,
            Some(Kind::Punct('!')) => !matches!(self.peek_second(), Some(Kind::Word(w)) if w != "WARP_SZ"),
            _ => false,
        }
    }

    /// A constant expression.
    pub(super) fn constant(&mut self) -> Result_<Literal> {
        Ok(match self.conditional()? {
            Signed(v) => Literal::Int(v),
            Unsigned(v) => Literal::Int(v as i64),
            Float(v) => Literal::F64(v),
            Bits(b) => Literal::F32(b),
        })
    }

    /// A constant expression that is an integer.
    pub(super) fn integer(&mut self, what: &str) -> Result_<i64> {
        let line = self.line();
        match self.constant()? {
            Literal::Int(v) => Ok(v),
            _ => Err((line, format!("{what} must be an integer"))),
        }
    }

    fn conditional(&mut self) -> Result_<Value> {
        let line = self.line();
        let condition = self.binary(0)?;
        if !self.eat('?') {
            return Ok(condition);
        }
        let yes = self.nested(Self::conditional)?;
        self.expect(':')?;
        let no = self.nested(Self::conditional)?;
        let chosen = if is_true(condition).map_err(|m| (line, m))? { yes } else { no };
        // The type is that of both.
        Ok(match (chosen, yes, no) {
            (Signed(v), Unsigned(_), _) | (Signed(v), _, Unsigned(_)) => Unsigned(v as u64),
            _ => chosen,
        })
    }

    fn binary(&mut self, level: usize) -> Result_<Value> {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        while let Some(operator) = operators.iter().copied().find(|o| self.at_operator(o)) {
            let line = self.line();
            self.at += if operator == "%" { 1 } else { operator.len() };
            let right = self.binary(level + 1)?;
            left = apply(operator, left, right).map_err(|m| (line, m))?;
        }
        Ok(left)
    }

    /// Whether the operator comes, and not a longer one that starts alike.
    fn at_operator(&self, operator: &str) -> bool {
        // `%` before a space is a word of its own.
        if operator == "%" {
            return matches!(self.peek(), Some(Kind::Word("%") | Kind::Punct('%')));
        }
        let next = |i: usize| match self.tokens.get(self.at + i).map(|t| t.kind) {
            Some(Kind::Punct(c)) => Some(c),
            _ => None,
        };
        let fits = operator.chars().enumerate().all(|(i, c)| next(i) == Some(c));
        let longer = match operator {
            "|" | "&" => next(1) == operator.chars().next(),
            "<" | ">" => matches!(next(1), Some('<' | '>' | '=')),
            _ => false,
        };
        fits && !longer
    }

    fn unary(&mut self) -> Result_<Value> {
        let line = self.line();
        let operator = match self.peek() {
            Some(Kind::Punct(c @ ('-' | '+' | '~' | '!'))) => c,
            _ => return self.primary(),
        };
        self.at += 1;
        let value = self.nested(Self::unary)?;
        let wrong = || Err((line, format!("`{operator}` does not apply to this constant")));
        Ok(match (operator, value) {
            ('+', v @ (Signed(_) | Unsigned(_) | Float(_))) => v,
            ('-', Signed(v)) => Signed(v.wrapping_neg()),
            ('-', Unsigned(v)) => Unsigned(v.wrapping_neg()),
            ('-', Float(v)) => Float(-v),
            ('~', Signed(v)) => Signed(!v),
            ('~', Unsigned(v)) => Unsigned(!v),
            ('!', Signed(_) | Unsigned(_)) => Signed(i64::from(!is_true(value).map_err(|m| (line, m))?)),
            _ => return wrong(),
        })
    }

    fn primary(&mut self) -> Result_<Value> {
        let line = self.line();
        match self.peek() {
            Some(Kind::Number(n)) => {
                self.at += 1;
                Ok(match n {
                    Literal::Int(v) if v < 0 => Unsigned(v as u64),
                    Literal::Int(v) => Signed(v),
                    Literal::F64(v) => Float(v),
                    Literal::F32(b) => Bits(b),
                })
            }
            Some(Kind::Unsigned(v)) => {
                self.at += 1;
                Ok(Unsigned(v))
            }
            Some(Kind::Word("WARP_SZ")) => {
                self.at += 1;
                Ok(Signed(32))
            }
            Some(Kind::Punct('(')) => {
                self.at += 1;
                // A cast, or parentheses.
                if let Some(Kind::Word(to @ (".s64" | ".u64"))) = self.peek() {
                    self.at += 1;
                    self.expect(')')?;
                    let bits = match self.nested(Self::unary)? {
                        Signed(v) => v,
                        Unsigned(v) => v as i64,
                        _ => return Err((line, format!("`({to})` does not apply to this constant"))),
                    };
                    return Ok(if to == ".s64" { Signed(bits) } else { Unsigned(bits as u64) });
                }
                let inner = self.nested(Self::conditional)?;
                self.expect(')')?;
                Ok(inner)
            }
            _ => self.unexpected("a constant"),
        }
    }
}

fn is_true(v: Value) -> Result<bool, String> {
    match v {
        Signed(v) => Ok(v != 0),
        Unsigned(v) => Ok(v != 0),
        Float(_) | Bits(_) => Err("a condition of a constant expression must be an integer".into()),
    }
}

fn apply(operator: &str, a: Value, b: Value) -> Result<Value, String> {
    let truth = |t: bool| Ok(Signed(i64::from(t)));
    if let (Float(a), Float(b)) = (a, b) {
        return match operator {
            "+" => Ok(Float(a + b)),
            "-" => Ok(Float(a - b)),
            "*" => Ok(Float(a * b)),
            "/" => Ok(Float(a / b)),
            "<" => truth(a < b),
            "<=" => truth(a <= b),
            ">" => truth(a > b),
            ">=" => truth(a >= b),
            "==" => truth(a == b),
            "!=" => truth(a != b),
            _ => Err(format!("`{operator}` does not apply to floating-point constants")),
        };
    }
    let bits = |v: Value| match v {
        Signed(v) => Ok(v as u64),
        Unsigned(v) => Ok(v),
        Float(_) | Bits(_) => Err(format!("`{operator}` does not apply to these constants")),
    };
    let (x, y) = (bits(a)?, bits(b)?);
    // A shift has the type of what is shifted, all else is unsigned if either side is.
    let shift = matches!(operator, "<<" | ">>");
    let signed = matches!(a, Signed(_)) && (shift || matches!(b, Signed(_)));
    let number = |v: u64| Ok(if signed { Signed(v as i64) } else { Unsigned(v) });
    let (s, t) = (x as i64, y as i64);
    let amount = y.min(64) as u32;
    match operator {
        "+" => number(x.wrapping_add(y)),
        "-" => number(x.wrapping_sub(y)),
        "*" => number(x.wrapping_mul(y)),
        "/" | "%" if y == 0 => Err("a constant expression divides by zero".into()),
        "/" => number(if signed { s.wrapping_div(t) as u64 } else { x / y }),
        "%" => number(if signed { s.wrapping_rem(t) as u64 } else { x % y }),
        "<<" => number(x.checked_shl(amount).unwrap_or(0)),
        ">>" => number(if signed { (s >> amount.min(63)) as u64 } else { x.checked_shr(amount).unwrap_or(0) }),
        "<" => truth(if signed { s < t } else { x < y }),
        "<=" => truth(if signed { s <= t } else { x <= y }),
        ">" => truth(if signed { s > t } else { x > y }),
        ">=" => truth(if signed { s >= t } else { x >= y }),
        "==" => truth(x == y),
        "!=" => truth(x != y),
        "&" => number(x & y),
        "|" => number(x | y),
        "^" => number(x ^ y),
        "&&" => truth(x != 0 && y != 0),
        _ => truth(x != 0 || y != 0),
    }
}
