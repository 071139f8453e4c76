//! Quantities in task definitions: Kubernetes quantities, and SkyPilot's sizes such as `16`, `16+`, and `32GB`.

use std::fmt;

use quantity::NANOS_PER_UNIT;
use serde::{Serialize, Serializer};

const NANOS_PER_MILLI: i128 = NANOS_PER_UNIT / 1000;
/// 1 EiB, more than any cluster node has. A larger value is most likely bytes that were read as GiB.
const MAX_BYTES: i128 = 1 << 60;
/// More than any cluster node has.
const MAX_CPUS: i64 = 1_000_000;
/// No container starts with less. A smaller value is most likely `m` (milli) where `Mi` was meant.
const MIN_MEMORY_BYTES: i128 = 1 << 20;

/// The pattern of a size, for the OpenAPI document; [`Quantity::parse_size`] implements the rule. It does not say that a
/// size is more than 0 and at most 1 EiB.
pub(crate) const SIZE_PATTERN: &str = r"^\+?([0-9]+\.?[0-9]*|\.[0-9]+)([numkMGTPE]|[KMGTP][BbIi]|Ei|[kmgtp][bi])?$";

/// The maximum length of a size: a sign, the digits that `quantity` reads, and a unit.
pub(crate) const MAX_SIZE_LENGTH: usize = 1 + quantity::MAX_DIGITS + 2;

/// A quantity in a form that Kubernetes accepts, and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantity {
    text: String,
    /// The value in billionths, because the smallest suffix is `n` (nano).
    nanos: i128,
}

impl Quantity {
    /// Parses a quantity in Kubernetes' grammar. Returns `None` if it is invalid or exceeds 2^63 - 1.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(Self {
            text: text.to_owned(),
            nanos: quantity::Quantity::parse(text)?.nanos(),
        })
    }

    /// Parses a number of CPUs: `4`, `0.5`, `500m`, or SkyPilot's `4+` (at least 4), which becomes 4 because Kubernetes
    /// cannot express it. The error is a message for the user.
    pub fn parse_cpus(text: &str) -> Result<Self, String> {
        let parsed = Self::parse(text.strip_suffix('+').map_or(text, str::trim_end))
            .ok_or_else(|| format!("invalid number of CPUs `{text}`; expected, e.g., `4`, `0.5`, or `500m`"))?;
        if parsed.nanos < NANOS_PER_MILLI {
            return Err("the number of CPUs must be at least `1m`".to_owned());
        }
        if parsed.nanos > i128::from(MAX_CPUS) * NANOS_PER_UNIT {
            return Err(format!("the number of CPUs must be at most {MAX_CPUS}"));
        }
        if parsed.nanos % NANOS_PER_MILLI == 0 {
            return Ok(parsed);
        }
        // Kubernetes counts CPUs in thousandths and rounds up. Do the same here, so that the manifest shows it.
        let millis = parsed.nanos / NANOS_PER_MILLI + 1;
        Ok(Self {
            text: format!("{millis}m"),
            nanos: millis * NANOS_PER_MILLI,
        })
    }

    /// Parses an amount of memory: a Kubernetes quantity, or SkyPilot's `16`, `16+`, or `32GB`, whose units are powers
    /// of 1024. The error is a message for the user.
    pub fn parse_memory(text: &str) -> Result<Self, String> {
        let parsed = Self::parse_bytes(text.strip_suffix('+').map_or(text, str::trim_end)).ok_or_else(|| {
            format!("invalid amount of memory `{text}`; expected, e.g., `16`, `16GB`, `16Gi`, or `512Mi`")
        })?;
        if parsed.nanos < MIN_MEMORY_BYTES * NANOS_PER_UNIT {
            return Err(format!(
                "memory must be at least 1 MiB, not `{text}`; expected, e.g., `512Mi` or `16Gi`"
            ));
        }
        parsed.check_limit()
    }

    /// Parses the size of a volume, in the same units as memory. The error is a message for the user.
    pub fn parse_size(text: &str) -> Result<Self, String> {
        let parsed = Self::parse_bytes(text)
            .ok_or_else(|| format!("invalid size `{text}`; expected, e.g., `10Gi`, `500Mi`, or `100GB`"))?;
        if parsed.nanos <= 0 {
            return Err("the size must be greater than 0".to_owned());
        }
        parsed.check_limit()
    }

    /// This number of GiB for each of `cpus`. The error is a message for the user.
    pub fn gibibytes_times(&self, cpus: &Self) -> Result<Self, String> {
        let bytes = (self.nanos / NANOS_PER_MILLI)
            .saturating_mul(cpus.nanos / NANOS_PER_MILLI)
            .saturating_mul(1 << 30);
        let bytes = bytes / 1_000_000;
        if bytes < MIN_MEMORY_BYTES {
            return Err("memory must be at least 1 MiB".to_owned());
        }
        let memory = Self {
            text: bytes.to_string(),
            nanos: bytes.saturating_mul(NANOS_PER_UNIT),
        };
        memory.check_limit()
    }

    /// The quantity in a form that Kubernetes accepts.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn check_limit(self) -> Result<Self, String> {
        if self.nanos > MAX_BYTES * NANOS_PER_UNIT {
            return Err("must be at most 1 EiB; a number without a unit is in GiB".to_owned());
        }
        Ok(self)
    }

    fn parse_bytes(text: &str) -> Option<Self> {
        let digits = text.trim_end_matches(|last: char| last.is_ascii_alphabetic());
        let unit = &text[digits.len()..];
        let text = match unit {
            // The default unit is GB, and GB is 2^30 bytes; see `memory` in SkyPilot's "Task YAML" documentation.
            "" => format!("{digits}Gi"),
            _ => match skypilot_unit(unit) {
                Some(binary) => format!("{digits}{binary}"),
                None => text.to_owned(),
            },
        };
        let parsed = Self::parse(&text)?;
        if parsed.nanos % NANOS_PER_UNIT == 0 {
            return Some(parsed);
        }
        // Round up: Kubernetes has no fractions of a byte.
        let whole = parsed.nanos.div_euclid(NANOS_PER_UNIT) + 1;
        Some(Self {
            text: whole.to_string(),
            nanos: whole.checked_mul(NANOS_PER_UNIT)?,
        })
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// Accepts `gb`, `GB`, and `Gb`, but not `gB`. Only two-letter units are SkyPilot's, so that `G` keeps its meaning in
/// Kubernetes.
fn skypilot_unit(unit: &str) -> Option<&'static str> {
    let lower = unit.to_ascii_lowercase();
    let upper = unit.to_ascii_uppercase();
    let mut capitalized = lower.clone();
    capitalized.get_mut(..1)?.make_ascii_uppercase();
    if unit != lower && unit != upper && unit != capitalized {
        return None;
    }
    match lower.as_str() {
        "kb" | "ki" => Some("Ki"),
        "mb" | "mi" => Some("Mi"),
        "gb" | "gi" => Some("Gi"),
        "tb" | "ti" => Some("Ti"),
        "pb" | "pi" => Some("Pi"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{MAX_SIZE_LENGTH, Quantity, SIZE_PATTERN};

    /// Whether a size is more than 0 and at most 1 EiB, for numbers that a float has exactly.
    fn is_within_limits(number: &str, unit: &str) -> bool {
        let exponent = |units: &str, letter: char| units.find(letter).and_then(|at| i32::try_from(at).ok());
        let is_binary = unit.len() != 1;
        let factor = match unit.chars().next() {
            None => 1024_f64.powi(3),
            Some(letter) if is_binary => {
                exponent("_KMGTPE", letter.to_ascii_uppercase()).map_or(1.0, |power| 1024_f64.powi(power))
            }
            Some(letter) => exponent("num_kMGTPE", letter).map_or(1.0, |power| 1000_f64.powi(power - 3)),
        };
        let size = number.parse::<f64>().unwrap_or(0.0) * factor;
        size > 0.0 && size <= 1024_f64.powi(6)
    }

    #[test]
    fn memory_is_read_as_skypilot_and_as_kubernetes_read_it() {
        for (text, expected) in [
            ("16", "16Gi"),
            ("16+", "16Gi"),
            ("32GB", "32Gi"),
            ("1024mb", "1024Mi"),
            ("128Mi", "128Mi"),
            ("16G", "16G"),
            ("0.1", "107374183"),
        ] {
            assert_eq!(Quantity::parse_memory(text).unwrap().as_str(), expected, "{text}");
        }
        for text in ["500m", "lots", "0", "-1", "1073741824000", "gB", "1gB", "+"] {
            assert!(Quantity::parse_memory(text).is_err(), "{text}");
        }
    }

    #[test]
    fn cpus_are_more_than_nothing_in_steps_of_a_thousandth() {
        assert_eq!(Quantity::parse_cpus("4+").unwrap().as_str(), "4");
        assert_eq!(Quantity::parse_cpus("0.5").unwrap().as_str(), "0.5");
        assert_eq!(Quantity::parse_cpus("0.3333").unwrap().as_str(), "334m");
        for text in ["0", "-1", "0.0001", "1000001", "lots", "4x", "é", "1é"] {
            assert!(Quantity::parse_cpus(text).is_err(), "{text}");
        }
    }

    /// Every text of up to three letters, and some other ends.
    fn units() -> impl Iterator<Item = String> {
        let letters = || ('A'..='Z').chain('a'..='z');
        let two = letters().flat_map(move |first| letters().map(move |second| format!("{first}{second}")));
        let three = two
            .clone()
            .flat_map(move |two| letters().map(move |third| format!("{two}{third}")));
        let others = ["", "+", ".", " ", "e3", "E-3", "Gi ", "Gi+", "\n", "é"].map(str::to_owned);
        others
            .into_iter()
            .chain(letters().map(String::from))
            .chain(two)
            .chain(three)
    }

    #[test]
    fn the_pattern_of_a_size_has_the_units_of_the_parser() {
        let pattern = regex::Regex::new(SIZE_PATTERN).unwrap();
        for unit in units() {
            let text = format!("1{unit}");
            assert_eq!(pattern.is_match(&text), Quantity::parse_size(&text).is_ok(), "{text:?}");
        }
    }

    #[test]
    fn the_pattern_of_a_size_has_the_numbers_of_the_parser() {
        let pattern = regex::Regex::new(SIZE_PATTERN).unwrap();
        let longest = format!("+{}1Ti", "0".repeat(quantity::MAX_DIGITS - 1));
        assert_eq!(longest.len(), MAX_SIZE_LENGTH);
        for text in [
            "1", "1.5", "1.", ".5", "+1", "007", "", ".", "-1", "++1", "1..5", "1.5.", "1,5", "1_000", "1 ", " 1",
            "1e3", "0x1", "١", "1Ti", "1.5Gi", "500M", "1TB", "100000", &longest,
        ] {
            assert_eq!(pattern.is_match(text), Quantity::parse_size(text).is_ok(), "{text:?}");
        }
        let too_long = format!("{}1Ti", "0".repeat(quantity::MAX_DIGITS));
        assert!(Quantity::parse_size(&too_long).is_err());
    }

    proptest! {
        #[test]
        fn a_text_is_a_size_if_it_matches_the_pattern_and_is_within_the_limits(
            number in "[+-]?[0-9]{0,6}\\.?[0-9]{0,6}", unit in "[kKmMgGtTpPeEnu]?[iIbB]?",
        ) {
            let text = format!("{number}{unit}");
            let matches = regex::Regex::new(SIZE_PATTERN).unwrap().is_match(&text);
            prop_assert_eq!(matches && is_within_limits(&number, &unit), Quantity::parse_size(&text).is_ok(), "{}", text);
        }

        #[test]
        fn no_text_makes_a_parser_panic(text: String) {
            let _ = Quantity::parse_cpus(&text);
            let _ = Quantity::parse_memory(&text);
            let _ = Quantity::parse_size(&text);
        }
    }
}
