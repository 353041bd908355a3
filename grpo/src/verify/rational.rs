use std::fmt;

/// An exact fraction in lowest terms, its denominator above zero. Arithmetic that leaves `i128` gives `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rational {
    numerator: i128,
    denominator: i128,
}

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Rational {
    /// `numerator / denominator`; `None` if the denominator is zero or the reduced fraction does not fit.
    pub fn new(numerator: i128, denominator: i128) -> Option<Rational> {
        if denominator == 0 {
            return None;
        }
        let (n, d) = (numerator.unsigned_abs(), denominator.unsigned_abs());
        let common = gcd(n, d);
        let denominator_reduced = i128::try_from(d / common).ok()?;
        let size = i128::try_from(n / common).ok()?;
        let negative = (numerator < 0) != (denominator < 0);
        Some(Rational { numerator: if negative { -size } else { size }, denominator: denominator_reduced })
    }

    /// `self + other`
    pub fn checked_add(self, other: Rational) -> Option<Rational> {
        let left = self.numerator.checked_mul(other.denominator)?;
        let right = other.numerator.checked_mul(self.denominator)?;
        Rational::new(left.checked_add(right)?, self.denominator.checked_mul(other.denominator)?)
    }

    /// `-self`; always there, since a numerator's size is at most `i128::MAX`.
    pub fn negated(self) -> Rational {
        Rational { numerator: -self.numerator, ..self }
    }

    /// Its size without its sign.
    pub(crate) fn abs(self) -> Rational {
        Rational { numerator: self.numerator.abs(), ..self }
    }

    /// `self − other`
    pub fn checked_sub(self, other: Rational) -> Option<Rational> {
        self.checked_add(other.negated())
    }

    /// `self · other`
    pub fn checked_mul(self, other: Rational) -> Option<Rational> {
        Rational::new(self.numerator.checked_mul(other.numerator)?, self.denominator.checked_mul(other.denominator)?)
    }

    /// `self / other`; `None` also if `other` is zero.
    pub fn checked_div(self, other: Rational) -> Option<Rational> {
        self.checked_mul(Rational::new(other.denominator, other.numerator)?)
    }
}

impl From<i64> for Rational {
    fn from(value: i64) -> Rational {
        Rational { numerator: i128::from(value), denominator: 1 }
    }
}

impl fmt::Display for Rational {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.denominator {
            1 => write!(f, "{}", self.numerator),
            denominator => write!(f, "{}/{denominator}", self.numerator),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lowest_terms_and_sign() {
        let half = Rational::new(-3, -6).unwrap();
        assert_eq!(half, Rational::new(1, 2).unwrap());
        assert_eq!(Rational::new(3, -6).unwrap().to_string(), "-1/2");
        assert_eq!(half.checked_add(half).unwrap(), Rational::from(1));
        assert_eq!(Rational::new(0, -7).unwrap(), Rational::from(0));
    }

    #[test]
    fn what_does_not_fit_is_none() {
        assert_eq!(Rational::new(1, 0), None);
        assert_eq!(Rational::new(i128::MIN, 1), None);
        assert_eq!(Rational::new(1, i128::MIN), None);
        assert!(Rational::new(i128::MIN, 2).is_some());
        let large = Rational::new(i128::MAX, 1).unwrap();
        assert_eq!(large.checked_add(Rational::from(1)), None);
        assert_eq!(large.checked_mul(large), None);
        assert_eq!(large.checked_div(Rational::from(0)), None);
        assert_eq!(large.negated().negated(), large);
    }

    proptest! {
        // Small operands: the same identities in i128, cross-multiplied, with no reduction to share a mistake with.
        #[test]
        fn agrees_with_cross_multiplication(a in -99i128..99, b in 1i128..99, c in -99i128..99, d in 1i128..99) {
            let (x, y) = (Rational::new(a, b).unwrap(), Rational::new(c, d).unwrap());
            let is = |r: Rational, n: i128, m: i128| r.numerator * m == n * r.denominator;
            prop_assert!(is(x.checked_add(y).unwrap(), a * d + c * b, b * d));
            prop_assert!(is(x.checked_sub(y).unwrap(), a * d - c * b, b * d));
            prop_assert!(is(x.checked_mul(y).unwrap(), a * c, b * d));
            match x.checked_div(y) {
                Some(quotient) => prop_assert!(is(quotient, a * d, b * c)),
                None => prop_assert_eq!(c, 0),
            }
        }

        #[test]
        fn never_panics(a: i128, b: i128, c: i128, d: i128) {
            if let (Some(x), Some(y)) = (Rational::new(a, b), Rational::new(c, d)) {
                let _ = (x.checked_add(y), x.checked_sub(y), x.checked_mul(y), x.checked_div(y), x.to_string());
            }
        }
    }
}
