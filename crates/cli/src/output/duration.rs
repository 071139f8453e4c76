//! Ages and durations in kubectl's format.

use jiff::{SignedDuration, Timestamp};

/// The age of an RFC 3339 timestamp; `<unknown>`, as with kubectl, if it is invalid.
pub(crate) fn age(time: &str) -> String {
    match time.parse::<Timestamp>() {
        Ok(then) => human_duration(Timestamp::now().duration_since(then)),
        Err(_) => "<unknown>".to_owned(),
    }
}

/// Formats a duration like kubectl: two units if the larger one is small
/// (<https://github.com/kubernetes/apimachinery/blob/master/pkg/util/duration/duration.go>).
pub(crate) fn human_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    let with = |large: i64, unit: &str, rest: i64, small: &str| match rest {
        0 => format!("{large}{unit}"),
        rest => format!("{large}{unit}{rest}{small}"),
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => with(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => with(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => with(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        _ => with(days / 365, "y", days % 365, "d"),
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::{age, human_duration};

    #[test]
    fn durations_are_kubectls() {
        for (seconds, text) in [
            (-5, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (599, "9m59s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (11_000, "3h3m"),
            (28_800, "8h"),
            (172_799, "47h"),
            (172_800, "2d"),
            (180_000, "2d2h"),
            (691_200, "8d"),
            (63_072_000, "2y"),
            (63_158_400, "2y1d"),
        ] {
            assert_eq!(human_duration(SignedDuration::from_secs(seconds)), text, "{seconds}");
        }
    }

    #[test]
    fn what_is_no_time_has_no_age() {
        assert_eq!(age("yesterday"), "<unknown>");
    }
}
