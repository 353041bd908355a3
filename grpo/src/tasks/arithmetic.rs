//! Working out an expression from left to right, one operation at a time, as the traces of the arithmetic tasks do, in one of two
//! notations.

/// An arithmetic operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`, only where it leaves no remainder
    Divide,
}

impl Operator {
    /// How it is written.
    pub fn symbol(self) -> char {
        match self {
            Operator::Add => '+',
            Operator::Subtract => '-',
            Operator::Multiply => '*',
            Operator::Divide => '/',
        }
    }

    /// The operator written as `symbol`.
    pub fn from_symbol(symbol: char) -> Option<Operator> {
        [Operator::Add, Operator::Subtract, Operator::Multiply, Operator::Divide]
            .into_iter()
            .find(|operator| operator.symbol() == symbol)
    }

    /// `left ∘ right`; `None` for a division with a remainder or by zero, and on overflow.
    pub fn apply(self, left: i64, right: i64) -> Option<i64> {
        match self {
            Operator::Add => left.checked_add(right),
            Operator::Subtract => left.checked_sub(right),
            Operator::Multiply => left.checked_mul(right),
            Operator::Divide => (left.checked_rem(right)? == 0).then(|| left / right),
        }
    }
}

/// How an operation and its result are written: the two "languages" of the corpus, in which the same can be said equally well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Notation {
    /// `2+4=6-7=-1`, the one that is wanted.
    Infix,
    /// `2,4+6,7--1`: the operator follows its operands, the result follows the operator.
    Postfix,
}

impl Notation {
    /// The character that each operation of this notation has once, and none of the other.
    pub const fn mark(self) -> char {
        match self {
            Notation::Infix => '=',
            Notation::Postfix => ',',
        }
    }

    /// Which characters of a working are results. What follows a result is with it: it says that the result has ended.
    ///
    /// ```
    /// use grpo::tasks::arithmetic::Notation;
    /// let shown = |notation: Notation, working: &str| -> String {
    ///     working.chars().zip(notation.results(working)).map(|(c, on)| if on { c } else { '.' }).collect()
    /// };
    /// assert_eq!(shown(Notation::Infix, "2+4=6-7=-1+10=9"), "....6-..-1+...9");
    /// assert_eq!(shown(Notation::Postfix, "2,4+6,7--1,10+9"), "....6,..-1,...9");
    /// ```
    pub fn results(self, working: &str) -> Vec<bool> {
        let (mut in_result, mut in_operand, mut previous) = (false, false, ' ');
        let mark = |character: char| {
            let counts = in_result;
            let operator = Operator::from_symbol(character).is_some();
            match self {
                Notation::Infix if character == '=' => in_result = true,
                Notation::Infix if operator && previous != '=' => in_result = false,
                Notation::Postfix if character == ',' => (in_result, in_operand) = (false, true),
                Notation::Postfix if operator && in_operand => (in_result, in_operand) = (true, false),
                _ => {}
            }
            previous = character;
            counts
        };
        working.chars().map(mark).collect()
    }
}

/// An expression worked out from left to right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calculation {
    /// Every operation with its result: `2+4=6*7=42`, or `2,4+6,7*42`.
    pub working: String,
    /// The expression alone, with brackets where the usual precedence would read it otherwise: `(2+4)*7`.
    pub expression: String,
    /// What it equals: 42.
    pub value: i64,
}

impl Calculation {
    /// Works out `first ∘ n₁ ∘ n₂ …`; `None` where an operator does not apply.
    pub fn left_to_right(first: i64, rest: &[(Operator, i64)]) -> Option<Calculation> {
        Calculation::written(first, rest, Notation::Infix)
    }

    /// As [`left_to_right`](Self::left_to_right), the working in a notation.
    pub fn written(first: i64, rest: &[(Operator, i64)], notation: Notation) -> Option<Calculation> {
        let mut attempt = Calculation { working: first.to_string(), expression: first.to_string(), value: first };
        let mut is_sum = false;
        for &(operator, number) in rest {
            let symbol = operator.symbol();
            attempt.value = operator.apply(attempt.value, number)?;
            attempt.working += &match notation {
                Notation::Infix => format!("{symbol}{number}={}", attempt.value),
                Notation::Postfix => format!(",{number}{symbol}{}", attempt.value),
            };
            let adds = matches!(operator, Operator::Add | Operator::Subtract);
            if is_sum && !adds {
                attempt.expression = format!("({})", attempt.expression);
            }
            is_sum = adds;
            attempt.expression += &format!("{symbol}{number}");
        }
        Some(attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::{Expression, Rational};
    use proptest::prelude::*;

    #[test]
    fn works_from_left_to_right() {
        use Operator::*;
        let attempt = Calculation::left_to_right(2, &[(Add, 4), (Multiply, 7), (Subtract, 50), (Divide, 4)]).unwrap();
        assert_eq!(attempt.working, "2+4=6*7=42-50=-8/4=-2");
        assert_eq!(attempt.expression, "((2+4)*7-50)/4");
        assert_eq!(attempt.value, -2);
        let rest = [(Add, 4), (Multiply, 7), (Subtract, 50), (Divide, 4)];
        assert_eq!(Calculation::written(2, &rest, Notation::Postfix).unwrap().working, "2,4+6,7*42,50--8,4/-2");
        assert_eq!(Calculation::left_to_right(7, &[(Divide, 2)]), None);
        assert_eq!(Calculation::left_to_right(7, &[(Divide, 0)]), None);
        assert_eq!(Calculation::left_to_right(i64::MAX, &[(Add, 1)]), None);
    }

    proptest! {
        #[test]
        fn the_expression_means_what_was_worked_out(
            first in 0i64..30,
            rest in prop::collection::vec((prop::sample::select(vec!['+', '-', '*', '/']), 0i64..30), 0..6),
        ) {
            let rest: Vec<_> = rest.iter().map(|&(symbol, n)| (Operator::from_symbol(symbol).unwrap(), n)).collect();
            if let Some(attempt) = Calculation::left_to_right(first, &rest) {
                let parsed = Expression::parse(&attempt.expression).unwrap();
                prop_assert_eq!(parsed.value, Rational::from(attempt.value));
                prop_assert_eq!(parsed.numbers.len(), rest.len() + 1);
            }
        }
    }
}
