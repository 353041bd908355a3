use super::Rational;

/// Why a text is not a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// Another form than `-1,234.5` or `3/4`.
    #[error("expected an integer, a decimal or a fraction")]
    Syntax,
    /// A number whose exact value does not fit.
    #[error("the number is too large to represent exactly")]
    Overflow,
    /// A fraction over zero.
    #[error("the denominator is zero")]
    ZeroDenominator,
}

/// Reads an integer, a decimal or a fraction of them: `72`, `-1,234.50`, `+.5`, `$18`, `3/4`.
///
/// Commas must set off groups of three digits of the integer part. The value is exact, so `0.50`, `.5` and `1/2` are equal.
///
/// # Errors
/// See [`NumberError`].
pub fn parse_number(text: &str) -> Result<Rational, NumberError> {
    match text.split_once('/') {
        None => decimal(text.trim()),
        Some((numerator, denominator)) => {
            let (numerator, denominator) = (decimal(numerator.trim())?, decimal(denominator.trim())?);
            if denominator == Rational::from(0) {
                return Err(NumberError::ZeroDenominator);
            }
            numerator.checked_div(denominator).ok_or(NumberError::Overflow)
        }
    }
}

fn decimal(text: &str) -> Result<Rational, NumberError> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let text = text.strip_prefix('$').unwrap_or(text);
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() && fraction.is_empty() {
        return Err(NumberError::Syntax);
    }
    if whole.contains(',') {
        let (mut groups, mut first) = (whole.split(','), true);
        let well_grouped = groups.all(|group| {
            let right_size = if first { (1..=3).contains(&group.len()) } else { group.len() == 3 };
            first = false;
            right_size
        });
        if !well_grouped {
            return Err(NumberError::Syntax);
        }
    }
    let (mut numerator, mut denominator) = (0i128, 1i128);
    let mut push = |digit: char| {
        let digit = digit.to_digit(10).ok_or(NumberError::Syntax)?;
        let shifted = numerator.checked_mul(10).and_then(|tens| tens.checked_add(i128::from(digit)));
        numerator = shifted.ok_or(NumberError::Overflow)?;
        Ok(())
    };
    whole.chars().filter(|&character| character != ',').try_for_each(&mut push)?;
    for digit in fraction.chars() {
        push(digit)?;
        denominator = denominator.checked_mul(10).ok_or(NumberError::Overflow)?;
    }
    let value = Rational::new(numerator, denominator).ok_or(NumberError::Overflow)?;
    Ok(if negative { value.negated() } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_data_sets_write() {
        for (text, expected) in [
            ("72", "72"),
            (" -8 ", "-8"),
            ("+5", "5"),
            ("109,200,000", "109200000"),
            ("1,234.50", "2469/2"),
            (".5", "1/2"),
            ("-0.125", "-1/8"),
            ("3.", "3"),
            ("187/482", "187/482"),
            ("6 / 8", "3/4"),
            ("-1/-2", "1/2"),
            ("$1,080", "1080"),
            ("-$5", "-5"),
            ("007", "7"),
            ("-0", "0"),
        ] {
            assert_eq!(parse_number(text).map(|number| number.to_string()).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            "-",
            ".",
            "$",
            "1,23",
            "1234,567",
            ",123",
            "1,",
            "1.2,3",
            "1.2.3",
            "1e3",
            "٣",
            "12 apples",
            "--1",
            "1/2/3",
            "1 2",
        ] {
            assert_eq!(parse_number(text), Err(NumberError::Syntax), "{text}");
        }
        assert_eq!(parse_number("1/0"), Err(NumberError::ZeroDenominator));
        assert_eq!(parse_number("0/0.0"), Err(NumberError::ZeroDenominator));
        assert_eq!(parse_number(&"9".repeat(40)), Err(NumberError::Overflow));
        assert_eq!(parse_number(&("0.".to_string() + &"0".repeat(40))), Err(NumberError::Overflow));
    }

    proptest! {
        #[test]
        fn integers_round_trip(value: i64) {
            prop_assert_eq!(parse_number(&value.to_string()), Ok(Rational::from(value)));
        }

        #[test]
        fn never_panics(text in any::<String>()) {
            let _ = parse_number(&text);
        }

        #[test]
        fn never_panics_on_its_own_alphabet(text in "[-+$,./0-9# ]{0,60}") {
            let _ = parse_number(&text);
        }
    }
}
