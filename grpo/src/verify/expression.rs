use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::Rational;

/// How often an expression may use each of the given numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Uses {
    /// Each exactly once: Countdown as in TinyZero.
    #[default]
    ExactlyOnce,
    /// Each at most once: the looser rule that some data sets state.
    AtMostOnce,
}

/// Why an expression is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// Longer than [`Expression::MAX_LENGTH`].
    #[error("longer than {} characters", Expression::MAX_LENGTH)]
    TooLong,
    /// Brackets and signs nested deeper than [`Expression::MAX_DEPTH`].
    #[error("nested deeper than {}", Expression::MAX_DEPTH)]
    TooDeep,
    /// Not the grammar.
    #[error("expected {expected} at byte {position}")]
    Syntax {
        /// What could have stood there.
        expected: &'static str,
        /// Where, in bytes from the start.
        position: usize,
    },
    /// A division by zero.
    #[error("divides by zero")]
    DivisionByZero,
    /// A value that does not fit the exact arithmetic.
    #[error("a value is too large to compute exactly")]
    Overflow,
    /// The numbers are not the given ones.
    #[error("uses the numbers {used:?} where {given:?} are given")]
    Numbers {
        /// The numbers in the expression.
        used: Vec<i64>,
        /// The numbers of the problem.
        given: Vec<i64>,
    },
    /// The right numbers, and another value.
    #[error("equals {value}, not {target}")]
    Value {
        /// What the expression equals.
        value: Rational,
        /// What it should equal.
        target: i64,
    },
}

/// An arithmetic expression over `+ - * / ( )` and integers, already evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression {
    /// Its exact value, with the usual precedence.
    pub value: Rational,
    /// The numbers it uses, in the order in which they stand.
    pub numbers: Vec<i64>,
}

impl Expression {
    /// The longest text that is looked at, in bytes.
    pub const MAX_LENGTH: usize = 1024;
    /// The deepest nesting of brackets and signs.
    pub const MAX_DEPTH: usize = 64;

    /// Parses and evaluates `text`.
    ///
    /// # Errors
    /// Syntax, size, division by zero, overflow; the first one met from the left.
    pub fn parse(text: &str) -> Result<Expression, ExpressionError> {
        if text.len() > Self::MAX_LENGTH {
            return Err(ExpressionError::TooLong);
        }
        let mut parser = Parser { text: text.as_bytes(), position: 0, depth: 0, numbers: Vec::new() };
        let value = parser.sum()?;
        match parser.peek() {
            None => Ok(Expression { value, numbers: parser.numbers }),
            Some(_) => Err(parser.expected("an operator or the end")),
        }
    }
}

/// Checks that `text` makes `target` from `numbers`.
///
/// ```
/// use grpo::verify::{Uses, check_expression};
/// assert!(check_expression("(8+2)*3-7", &[2, 3, 7, 8], 23, Uses::ExactlyOnce).is_ok());
/// assert!(check_expression("8+2*3", &[2, 3, 7, 8], 14, Uses::AtMostOnce).is_ok());
/// assert!(check_expression("8+2*3", &[2, 3, 7, 8], 14, Uses::ExactlyOnce).is_err());
/// ```
///
/// # Errors
/// What is wrong with it, see [`ExpressionError`].
pub fn check_expression(text: &str, numbers: &[i64], target: i64, uses: Uses) -> Result<(), ExpressionError> {
    let expression = Expression::parse(text)?;
    let mut left = numbers.to_vec();
    let all_given = expression.numbers.iter().all(|used| {
        let found = left.iter().position(|given| given == used);
        found.map(|at| left.swap_remove(at)).is_some()
    });
    if !all_given || (uses == Uses::ExactlyOnce && !left.is_empty()) {
        return Err(ExpressionError::Numbers { used: expression.numbers, given: numbers.to_vec() });
    }
    if expression.value != Rational::from(target) {
        return Err(ExpressionError::Value { value: expression.value, target });
    }
    Ok(())
}

/// Whether [`check_expression`] accepts some expression for `target` that uses each of `numbers` exactly once: any brackets, signs and
/// operators, with fractions on the way. The work grows with the number of subsets of `numbers` and more; six take a second at most.
pub(crate) fn is_reachable(numbers: &[i64], target: i64) -> bool {
    // By set of numbers, as bits: the values that expressions of them have. Signs are left out, for `-` may stand before everything.
    let mut values: Vec<HashSet<Rational>> = vec![HashSet::new()];
    let all = (1usize << numbers.len()) - 1;
    for set in 1..=all {
        if set.is_power_of_two() {
            // The grammar's numbers have no sign: -3 is the number 3.
            let number = numbers[set.trailing_zeros() as usize];
            values.push((number >= 0).then(|| Rational::from(number)).into_iter().collect());
            continue;
        }
        // Each way to cut it in two, once: the first part has the lowest number.
        let parts = (1..set).filter(|part| part & !set == 0 && part & (set & set.wrapping_neg()) != 0);
        let pairs = parts.flat_map(|part| {
            let (left, right) = (&values[part], &values[set - part]);
            left.iter().flat_map(move |&x| right.iter().map(move |&y| (x, y)))
        });
        let results = pairs.flat_map(|(x, y)| {
            let results = [x.checked_add(y), x.checked_sub(y), x.checked_mul(y), x.checked_div(y), y.checked_div(x)];
            results.into_iter().flatten().map(Rational::abs)
        });
        if set == all {
            return results.into_iter().any(|value| value == Rational::from(target).abs());
        }
        let results = results.collect();
        values.push(results);
    }
    // One number, or none.
    values[all].contains(&Rational::from(target).abs())
}

/// Recursive descent that evaluates as it goes: `sum = product {(+|-) product}`, `product = factor {(*|/) factor}`,
/// `factor = -factor | ( sum ) | integer`. Spaces may stand between tokens.
struct Parser<'a> {
    text: &'a [u8],
    position: usize,
    depth: usize,
    numbers: Vec<i64>,
}

impl Parser<'_> {
    fn peek(&mut self) -> Option<u8> {
        while self.text.get(self.position) == Some(&b' ') {
            self.position += 1;
        }
        self.text.get(self.position).copied()
    }

    fn expected(&self, expected: &'static str) -> ExpressionError {
        ExpressionError::Syntax { expected, position: self.position }
    }

    fn sum(&mut self) -> Result<Rational, ExpressionError> {
        let mut value = self.product()?;
        while let Some(operator @ (b'+' | b'-')) = self.peek() {
            self.position += 1;
            let right = self.product()?;
            let result = if operator == b'+' { value.checked_add(right) } else { value.checked_sub(right) };
            value = result.ok_or(ExpressionError::Overflow)?;
        }
        Ok(value)
    }

    fn product(&mut self) -> Result<Rational, ExpressionError> {
        let mut value = self.factor()?;
        while let Some(operator @ (b'*' | b'/')) = self.peek() {
            self.position += 1;
            let right = self.factor()?;
            if operator == b'/' && right == Rational::from(0) {
                return Err(ExpressionError::DivisionByZero);
            }
            let result = if operator == b'*' { value.checked_mul(right) } else { value.checked_div(right) };
            value = result.ok_or(ExpressionError::Overflow)?;
        }
        Ok(value)
    }

    fn factor(&mut self) -> Result<Rational, ExpressionError> {
        if self.depth == Expression::MAX_DEPTH {
            return Err(ExpressionError::TooDeep);
        }
        self.depth += 1;
        let value = match self.peek() {
            Some(b'-') => {
                self.position += 1;
                self.factor()?.negated()
            }
            Some(b'(') => {
                self.position += 1;
                let value = self.sum()?;
                if self.peek() != Some(b')') {
                    return Err(self.expected("')'"));
                }
                self.position += 1;
                value
            }
            Some(b'0'..=b'9') => self.integer()?,
            _ => return Err(self.expected("a number, '-' or '('")),
        };
        self.depth -= 1;
        Ok(value)
    }

    fn integer(&mut self) -> Result<Rational, ExpressionError> {
        let mut value = 0i64;
        while let Some(digit @ b'0'..=b'9') = self.text.get(self.position) {
            let next = value.checked_mul(10).and_then(|tens| tens.checked_add(i64::from(digit - b'0')));
            value = next.ok_or(ExpressionError::Overflow)?;
            self.position += 1;
        }
        self.numbers.push(value);
        Ok(Rational::from(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(text: &str) -> Result<String, ExpressionError> {
        Expression::parse(text).map(|expression| expression.value.to_string())
    }

    #[test]
    fn precedence_brackets_and_signs() {
        for (text, expected) in [
            ("2+3*4", "14"),
            ("(2+3)*4", "20"),
            ("10-4-3", "3"),
            ("24/4/3", "2"),
            ("7/2", "7/2"),
            ("7/2*2", "7"),
            ("-3 + (77*28 - 2 + 51)/3", "732"),
            ("2--3", "5"),
            ("- ( 3 * -2 + 3 - -6 )", "-3"),
            (" 12 ", "12"),
        ] {
            assert_eq!(value(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_expression_says_why() {
        let syntax = |expected, position| Err(ExpressionError::Syntax { expected, position });
        assert_eq!(value(""), syntax("a number, '-' or '('", 0));
        assert_eq!(value("1+"), syntax("a number, '-' or '('", 2));
        assert_eq!(value("+1"), syntax("a number, '-' or '('", 0));
        assert_eq!(value("(1+2"), syntax("')'", 4));
        assert_eq!(value("1+2)"), syntax("an operator or the end", 3));
        assert_eq!(value("1 2"), syntax("an operator or the end", 2));
        assert_eq!(value("1**2"), syntax("a number, '-' or '('", 2));
        assert_eq!(value("2=2"), syntax("an operator or the end", 1));
        assert_eq!(value("1/(3-3)"), Err(ExpressionError::DivisionByZero));
        assert_eq!(value("99999999999999999999"), Err(ExpressionError::Overflow));
        let power = ["9000000000000000000"; 3].join("*");
        assert_eq!(value(&power), Err(ExpressionError::Overflow));
    }

    #[test]
    fn size_is_bounded() {
        let nested = |depth: usize| "(".repeat(depth) + "1" + &")".repeat(depth);
        assert_eq!(value(&nested(Expression::MAX_DEPTH - 1)).as_deref(), Ok("1"));
        assert_eq!(value(&nested(Expression::MAX_DEPTH)), Err(ExpressionError::TooDeep));
        assert_eq!(value(&("-".repeat(500) + "1")), Err(ExpressionError::TooDeep));
        // Depth is nesting, not length: a long flat sum is fine.
        assert_eq!(value(&("1".to_string() + &"+1".repeat(500))).as_deref(), Ok("501"));
        assert_eq!(value(&"1".repeat(Expression::MAX_LENGTH + 1)), Err(ExpressionError::TooLong));
    }

    #[test]
    fn each_number_is_used_as_often_as_it_is_given() {
        let check = |text: &str, uses| check_expression(text, &[6, 1, 6], 11, uses);
        assert_eq!(check("6+6-1", Uses::ExactlyOnce), Ok(()));
        assert_eq!(
            check("6+6-1-0", Uses::ExactlyOnce).unwrap_err().to_string(),
            "uses the numbers [6, 6, 1, 0] where [6, 1, 6] are given"
        );
        assert!(matches!(check("6+6-1+6-6", Uses::AtMostOnce), Err(ExpressionError::Numbers { .. })));
        assert_eq!(check("6+6+1", Uses::ExactlyOnce).unwrap_err().to_string(), "equals 13, not 11");
        assert!(matches!(check("11", Uses::AtMostOnce), Err(ExpressionError::Numbers { .. })));
        assert_eq!(check_expression("6+6", &[6, 1, 6], 12, Uses::AtMostOnce), Ok(()));
        // Digits do not run together into new numbers.
        assert!(check_expression("61", &[6, 1], 61, Uses::ExactlyOnce).is_err());
    }

    /// Every expression of three numbers without signs, as text.
    fn expressions(numbers: [i64; 3]) -> Vec<String> {
        let mut all = Vec::new();
        for [a, b, c] in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]].map(|order| order.map(|i| numbers[i]))
        {
            for first in "+-*/".chars() {
                for second in "+-*/".chars() {
                    all.push(format!("({a}{first}{b}){second}{c}"));
                    all.push(format!("{a}{first}({b}{second}{c})"));
                }
            }
        }
        all
    }

    #[test]
    fn a_target_is_reachable_if_and_only_if_an_expression_for_it_is_accepted() {
        for numbers in [[1, 2, 3], [3, 3, 8], [4, 6, 1], [0, 5, 7], [9, 9, 9], [2, 4, 8]] {
            let expressions = expressions(numbers);
            for target in -100..=800 {
                let accepted = |text: &String| check_expression(text, &numbers, target, Uses::ExactlyOnce).is_ok();
                let signed = |text: &String| accepted(text) || accepted(&format!("-({text})"));
                assert_eq!(is_reachable(&numbers, target), expressions.iter().any(signed), "{numbers:?} {target}");
            }
        }
        // Fractions on the way: 8/(3-8/3), and 24 from 1, 3, 4, 6 by 6/(1-3/4).
        assert!(is_reachable(&[3, 3, 8, 8], 24) && is_reachable(&[1, 3, 4, 6], 24));
        assert!(!is_reachable(&[1, 1, 1, 1], 24));
        assert!(is_reachable(&[7], 7) && is_reachable(&[7], -7) && !is_reachable(&[7], 8) && !is_reachable(&[], 0));
        // A number with a sign cannot be written.
        assert!(!is_reachable(&[-3, 5], 2));
    }

    /// A random expression as text, beside its value by another route: a fraction that is never reduced, `None` once
    /// something was divided by zero. Eight numbers below 20 keep both parts far inside `i128`.
    fn tree() -> impl Strategy<Value = (String, Option<(i128, i128)>)> {
        let number = (0u8..20).prop_map(|n| (n.to_string(), Some((i128::from(n), 1))));
        number.prop_recursive(3, 8, 2, |inner| {
            let operator = prop::sample::select(vec!['+', '-', '*', '/']);
            (inner.clone(), operator, inner).prop_map(|((left, x), operator, (right, y))| {
                let value = x.zip(y).and_then(|((a, b), (c, d))| match operator {
                    '+' => Some((a * d + c * b, b * d)),
                    '-' => Some((a * d - c * b, b * d)),
                    '*' => Some((a * c, b * d)),
                    _ => (c != 0).then_some((a * d, b * c)),
                });
                (format!("({left}{operator} {right})"), value)
            })
        })
    }

    proptest! {
        #[test]
        fn agrees_with_unreduced_fractions((text, expected) in tree()) {
            let value = Expression::parse(&text).map(|expression| expression.value);
            match expected {
                Some((n, d)) => prop_assert_eq!(value, Ok(Rational::new(n, d).unwrap())),
                None => prop_assert_eq!(value, Err(ExpressionError::DivisionByZero)),
            }
        }

        /// Whatever the verifier accepts is reachable. The other way round is the test below.
        #[test]
        fn what_is_accepted_is_reachable((text, _) in tree()) {
            if let Ok(Expression { value, numbers }) = Expression::parse(&text)
                && let Ok(target) = value.to_string().parse()
                && numbers.len() <= 5
            {
                prop_assert_eq!(check_expression(&text, &numbers, target, Uses::ExactlyOnce), Ok(()));
                prop_assert!(is_reachable(&numbers, target), "{text}");
            }
        }

        #[test]
        fn never_panics(text in any::<String>()) {
            let _ = check_expression(&text, &[1, 2], 3, Uses::ExactlyOnce);
        }

        #[test]
        fn never_panics_on_its_own_alphabet(text in "[-+*/() 0-9]{0,80}") {
            let _ = check_expression(&text, &[1, 2], 3, Uses::AtMostOnce);
        }
    }
}
