//! What `PyYAML`, which SkyPilot uses, makes of an unquoted scalar: it implements YAML 1.1.
//!
//! Source: `yaml/resolver.py` and `yaml/constructor.py` of yaml/pyyaml.

/// Whether it reads a scalar as a value with another text than the written one, as Python prints it.
pub(super) fn differs(written: &str) -> bool {
    const WORDS: [&str; 4] = ["yes", "no", "on", "off"];
    let is_word = |word: &&str| {
        let first = word[..1].to_ascii_uppercase();
        [
            written == *word,
            written == word.to_ascii_uppercase(),
            written == first + &word[1..],
        ]
        .contains(&true)
    };
    WORDS.iter().any(is_word)
        || integer_differs(written)
        || is_sexagesimal_float(written)
        || is_constant(written)
        || float(written).is_some_and(|text| text != written)
        || time_differs(written)
}

/// Whether it is an integer with another text: `+1`, `-0`, `0x10`, `0b1`, `012`, `1_000`, `12:30`.
fn integer_differs(written: &str) -> bool {
    let digits = unsigned(written);
    let is_made_of = |text: &str, is_digit: fn(&char) -> bool| {
        !text.is_empty() && text.chars().all(|character| character == '_' || is_digit(&character))
    };
    if let Some(rest) = digits.strip_prefix("0x") {
        return is_made_of(rest, char::is_ascii_hexdigit);
    }
    if let Some(rest) = digits.strip_prefix("0b") {
        return is_made_of(rest, |digit| matches!(digit, '0' | '1'));
    }
    if let Some(rest) = digits.strip_prefix('0') {
        let is_zero = rest.is_empty() && written != "0";
        return is_zero || is_made_of(rest, |digit| matches!(digit, '0'..='7'));
    }
    let (first, minutes) = digits.split_once(':').unwrap_or((digits, "0"));
    let is_integer =
        starts_with_digit(first) && is_made_of(first, char::is_ascii_digit) && minutes.split(':').all(is_of_sixty);
    is_integer && (digits.contains([':', '_']) || written.starts_with('+'))
}

/// Whether it is a number of seconds such as `1:30.5`.
fn is_sexagesimal_float(written: &str) -> bool {
    let Some((whole, fraction)) = unsigned(written).split_once('.') else {
        return false;
    };
    let Some((first, minutes)) = whole.split_once(':') else {
        return false;
    };
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    starts_with_digit(first) && is_digits(first) && minutes.split(':').all(is_of_sixty) && is_digits(fraction)
}

/// Whether it is infinity or no number, which Python prints without the dot.
fn is_constant(written: &str) -> bool {
    [".inf", ".Inf", ".INF"].contains(&unsigned(written)) || [".nan", ".NaN", ".NAN"].contains(&written)
}

/// The text of a float: `1.50` is `1.5`. `None` for everything else, such as `1e3`, which is text.
fn float(written: &str) -> Option<String> {
    let (mantissa, exponent) = match written.find(['e', 'E']) {
        Some(at) => (&written[..at], Some(&written[at + 1..])),
        None => (written, None),
    };
    let (whole, fraction) = unsigned(mantissa).split_once('.')?;
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    let has_start = match whole {
        // A sign needs a digit to follow.
        "" => mantissa.starts_with('.') && starts_with_digit(fraction),
        _ => starts_with_digit(whole),
    };
    let is_exponent = |text: &str| {
        let digits = text.strip_prefix(['-', '+']);
        digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
    };
    if !has_start || !is_digits(whole) || !is_digits(fraction) || !exponent.is_none_or(is_exponent) {
        return None;
    }
    written.replace('_', "").parse().ok().map(python_text)
}

/// How Python prints a float: with an exponent if it is large or small.
fn python_text(number: f64) -> String {
    let scientific = format!("{number:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    match exponent.parse::<i32>() {
        Ok(exponent @ -4..16) => {
            let plain = number.to_string();
            if exponent < 0 || plain.contains('.') {
                plain
            } else {
                format!("{plain}.0")
            }
        }
        Ok(exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
        Err(_) => scientific,
    }
}

/// Whether it is a date with a time that Python prints in another form than `2026-01-31 10:00:00`.
fn time_differs(written: &str) -> bool {
    let Some((date, time)) = written.split_once(['T', 't', ' ', '\t']) else {
        return false;
    };
    let is_number = |text: &str, lengths: std::ops::RangeInclusive<usize>| {
        lengths.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    let is_date = match date.split('-').collect::<Vec<_>>()[..] {
        [year, month, day] => is_number(year, 4..=4) && is_number(month, 1..=2) && is_number(day, 1..=2),
        _ => false,
    };
    let time = time.trim_start();
    let is_time = match time.splitn(3, ':').collect::<Vec<_>>()[..] {
        [hour, minute, second] => {
            let is_rest = |character: char| character.is_ascii_digit() || " \t.:+-Z".contains(character);
            let is_second = second.get(..2).is_some_and(|start| is_number(start, 2..=2)) && second.chars().all(is_rest);
            is_number(hour, 1..=2) && is_number(minute, 2..=2) && is_second
        }
        _ => false,
    };
    let is_printed_so = written.len() == "2026-01-31 10:00:00".len() && written.as_bytes()[10] == b' ';
    is_date && is_time && !is_printed_so
}

fn unsigned(written: &str) -> &str {
    written.strip_prefix(['-', '+']).unwrap_or(written)
}

fn starts_with_digit(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit())
}

/// Whether it is a number of minutes or seconds.
fn is_of_sixty(text: &str) -> bool {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    is_number && (text.len() == 1 || text.len() == 2 && text.as_bytes()[0] <= b'5')
}

#[cfg(test)]
mod tests {
    use super::differs;

    #[test]
    fn what_python_prints_otherwise_differs() {
        for written in [
            "yes",
            "No",
            "ON",
            "off",
            "012",
            "-07",
            "00",
            "0x10",
            "-0xfF",
            "0b101",
            "+1",
            "-0",
            "+0",
            "1_000",
            "12:30",
            "1:2:03",
            "12:30.5",
            "1.10",
            ".5",
            "1.",
            "+1.5",
            "1.5e-4",
            "1.0e+3",
            "1_0.5",
            "1.0e+20",
            ".inf",
            "-.INF",
            ".NaN",
            "2026-01-31T10:00:00",
            "2026-1-31 10:00:00",
            "2026-01-31 10:00:00Z",
            "2026-01-31T10:00:00.5+01:00",
        ] {
            assert!(differs(written), "{written}");
        }
    }

    #[test]
    fn what_python_prints_as_written_or_takes_for_text_does_not() {
        for written in [
            "",
            "yEs",
            "y",
            "0",
            "1",
            "-1",
            "08",
            "0o17",
            "1.5",
            "-0.5",
            "1.0",
            "1e3",
            "1.5e4",
            "1.5e-10",
            "1e400",
            "0.0001",
            "-.5",
            "+.5",
            "10:99",
            "09:30",
            "a:b",
            "1.2.3",
            "1.2.3:4",
            "0x",
            "_1",
            "2026-01-31",
            "2026-01-31 10:00:00",
            "10.0.0.1:80",
            "inf",
            ".",
            "..",
            "-",
            "+",
            "x 1:2:3",
            "1.5e+300",
            "é1",
            "2026-01-31 é",
            "2026-01-31 1:22:3é",
        ] {
            assert!(!differs(written), "{written}");
        }
    }
}
