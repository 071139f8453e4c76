//! The value of a Kubernetes quantity such as `500m`, `1Gi` and `1e3`.
//!
//! Grammar: <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>.

/// How many of the smallest unit, `n`, are 1.
pub const NANO: i128 = 1_000_000_000;
const GIBIBYTE: i128 = 1 << 30;

/// The value in billionths. `None` when the text is no quantity, or is beyond 2^63 - 1.
#[must_use]
pub fn nanos(text: &str) -> Option<i128> {
    let value = unbounded(text)?;
    (value.abs() <= i128::from(i64::MAX) * NANO).then_some(value)
}

fn unbounded(text: &str) -> Option<i128> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let split = unsigned
        .find(|character: char| !character.is_ascii_digit() && character != '.')
        .unwrap_or(unsigned.len());
    let (digits, suffix) = unsigned.split_at(split);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || digits.len() > 30 {
        return None;
    }
    let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
    let (multiplier, divisor) = scale(suffix)?;
    let divisor = divisor.checked_mul(10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?)?;
    let numerator = mantissa.checked_mul(multiplier)?;
    // Kubernetes rounds what is finer than a billionth up.
    let value = numerator / divisor + i128::from(numerator % divisor != 0);
    Some(if negative { -value } else { value })
}

/// The factor of a suffix as a fraction, in billionths.
fn scale(suffix: &str) -> Option<(i128, i128)> {
    Some(match suffix {
        "n" => (1, 1),
        "u" => (1_000, 1),
        "m" => (1_000_000, 1),
        "" => (NANO, 1),
        "k" => (NANO * 1_000, 1),
        "M" => (NANO * 1_000_000, 1),
        "G" => (NANO * NANO, 1),
        "T" => (NANO * NANO * 1_000, 1),
        "P" => (NANO * NANO * 1_000_000, 1),
        "E" => (NANO * NANO * NANO, 1),
        "Ki" => (NANO << 10, 1),
        "Mi" => (NANO << 20, 1),
        "Gi" => (NANO * GIBIBYTE, 1),
        "Ti" => (NANO << 40, 1),
        "Pi" => (NANO << 50, 1),
        "Ei" => (NANO << 60, 1),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
            if exponent < 0 {
                (NANO, power)
            } else {
                (NANO.checked_mul(power)?, 1)
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::nanos;

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

    proptest! {
        #[test]
        fn every_whole_number_with_a_suffix_is_a_quantity(number in 0_i64..1_000_000, suffix in "|m|k|M|G|Ki|Mi|Gi") {
            let text = format!("{number}{suffix}");
            prop_assert!(nanos(&text).is_some());
        }

        #[test]
        fn no_text_makes_it_panic(text: String) {
            let _ = nanos(&text);
        }
    }
}
