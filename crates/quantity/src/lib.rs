//! Kubernetes quantities, e.g., `500m`, `1Gi`, and `1e3`.
//!
//! Grammar: <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>.

use std::fmt;

/// Number of the smallest unit (`n`) in 1.
pub const NANOS_PER_UNIT: i128 = 1_000_000_000;
/// The maximum number of digits of a quantity, including the decimal point.
pub const MAX_DIGITS: usize = 30;
const GIBIBYTE: i128 = 1 << 30;

/// A quantity. Displays in its canonical form, in which Kubernetes returns it: in the same family of suffixes, with the
/// largest suffix that needs no fraction.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// The families of suffixes, as Kubernetes names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// `Ki`, `Mi`, ...
    BinarySi,
    /// `m`, none, `k`, `M`, ...
    DecimalSi,
    /// `e3`, `e-3`, ...
    DecimalExponent,
}

impl Quantity {
    /// Parses a quantity; `None` if it is invalid or its absolute value exceeds 2^63 - 1, the limit of Kubernetes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (is_negative, unsigned) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let split = unsigned
            .find(|character: char| !character.is_ascii_digit() && character != '.')
            .unwrap_or(unsigned.len());
        let (digits, suffix) = unsigned.split_at(split);
        let nanos = parse_nanos(digits, suffix)?;
        if nanos > i128::from(i64::MAX) * NANOS_PER_UNIT {
            return None;
        }
        Some(Self {
            nanos: if is_negative { -nanos } else { nanos },
            format: Format::of_suffix(suffix),
        })
    }

    /// The value in billionths.
    #[must_use]
    pub fn nanos(self) -> i128 {
        self.nanos
    }
}

impl Format {
    fn of_suffix(suffix: &str) -> Self {
        if suffix.ends_with('i') {
            Self::BinarySi
        } else if suffix.len() > 1 && suffix.starts_with(['e', 'E']) {
            Self::DecimalExponent
        } else {
            Self::DecimalSi
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (nanos, whole) = (self.nanos, self.nanos / NANOS_PER_UNIT);
        if nanos == 0 {
            return formatter.write_str("0");
        }
        // Like Kubernetes, write fractions of a byte and less than 1 Ki with decimal suffixes.
        if self.format == Format::BinarySi && nanos % NANOS_PER_UNIT == 0 && whole.abs() >= 1024 {
            let (number, power) = divide_out(whole, 1024, 6);
            return write!(formatter, "{number}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power]);
        }
        let (number, power) = divide_out(nanos, 1000, 9);
        if self.format != Format::DecimalExponent {
            let suffix = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][power];
            return write!(formatter, "{number}{suffix}");
        }
        match i32::try_from(power).unwrap_or(0) * 3 - 9 {
            0 => write!(formatter, "{number}"),
            exponent => write!(formatter, "{number}e{exponent}"),
        }
    }
}

/// Divides by `base` as often as that leaves no remainder, but at most `limit` times; returns how often, too.
fn divide_out(mut number: i128, base: i128, limit: usize) -> (i128, usize) {
    let mut power = 0;
    while number % base == 0 && power < limit {
        number /= base;
        power += 1;
    }
    (number, power)
}

fn parse_nanos(digits: &str, suffix: &str) -> Option<i128> {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || digits.len() > MAX_DIGITS {
        return None;
    }
    let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
    let (multiplier, divisor) = suffix_factor(suffix)?;
    let divisor = divisor.checked_mul(10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?)?;
    let numerator = mantissa.checked_mul(multiplier)?;
    // Like Kubernetes, round up what is smaller than a billionth.
    Some(numerator / divisor + i128::from(numerator % divisor != 0))
}

/// The factor of a suffix in billionths, as multiplier and divisor.
fn suffix_factor(suffix: &str) -> Option<(i128, i128)> {
    Some(match suffix {
        "n" => (1, 1),
        "u" => (1_000, 1),
        "m" => (1_000_000, 1),
        "" => (NANOS_PER_UNIT, 1),
        "k" => (NANOS_PER_UNIT * 1_000, 1),
        "M" => (NANOS_PER_UNIT * 1_000_000, 1),
        "G" => (NANOS_PER_UNIT * NANOS_PER_UNIT, 1),
        "T" => (NANOS_PER_UNIT * NANOS_PER_UNIT * 1_000, 1),
        "P" => (NANOS_PER_UNIT * NANOS_PER_UNIT * 1_000_000, 1),
        "E" => (NANOS_PER_UNIT * NANOS_PER_UNIT * NANOS_PER_UNIT, 1),
        "Ki" => (NANOS_PER_UNIT << 10, 1),
        "Mi" => (NANOS_PER_UNIT << 20, 1),
        "Gi" => (NANOS_PER_UNIT * GIBIBYTE, 1),
        "Ti" => (NANOS_PER_UNIT << 40, 1),
        "Pi" => (NANOS_PER_UNIT << 50, 1),
        "Ei" => (NANOS_PER_UNIT << 60, 1),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
            if exponent < 0 {
                (NANOS_PER_UNIT, power)
            } else {
                (NANOS_PER_UNIT.checked_mul(power)?, 1)
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Quantity;

    fn nanos(text: &str) -> Option<i128> {
        Quantity::parse(text).map(Quantity::nanos)
    }

    #[test]
    fn quantities_have_the_value_kubernetes_gives_them() {
        for (text, value) in [
            ("1", 1_000_000_000),
            ("500m", 500_000_000),
            ("1Ki", 1024 * 1_000_000_000),
            ("1e3", 1_000_000_000_000),
            ("1E-3", 1_000_000),
            (".5", 500_000_000),
            ("0.5Ki", 512 * 1_000_000_000),
        ] {
            assert_eq!(nanos(text), Some(value), "{text}");
        }
        for text in [
            "",
            "lots",
            "1gi",
            "1 Gi",
            "..",
            "1.2.3",
            "i",
            "1Ee",
            "1e99",
            "9999999999999999999",
        ] {
            assert_eq!(nanos(text), None, "{text}");
        }
    }

    #[test]
    fn quantities_are_written_back_as_kubernetes_writes_them() {
        for (text, expected) in [
            ("0.01", "10m"),
            ("1000m", "1"),
            ("1024Mi", "1Gi"),
            ("0.5Gi", "512Mi"),
            ("1Ki", "1Ki"),
            ("1500M", "1500M"),
            ("1000", "1k"),
            ("1e3", "1e3"),
            ("0Gi", "0"),
            ("0.5Ki", "512"),
            ("-2", "-2"),
            ("2E", "2E"),
        ] {
            assert_eq!(Quantity::parse(text).unwrap().to_string(), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_back_has_the_same_value(number in 0_i64..1_000_000, suffix in "|m|k|M|G|Ki|Mi|Gi|e3|e-3") {
            let text = format!("{number}{suffix}");
            prop_assert_eq!(nanos(&Quantity::parse(&text).unwrap().to_string()), nanos(&text));
        }

        #[test]
        fn every_whole_number_with_a_suffix_is_a_quantity(number in 0_i64..1_000_000, suffix in "|m|k|M|G|Ki|Mi|Gi") {
            let text = format!("{number}{suffix}");
            prop_assert!(nanos(&text).is_some());
        }

        #[test]
        fn no_text_makes_it_panic(text: String) {
            let _ = Quantity::parse(&text).map(|quantity| quantity.to_string());
        }
    }
}
