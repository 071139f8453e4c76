//! Parses `ports`, the ports on which the first node of a task can be reached.

use serde_json::Value;

use crate::validation::{Validator, coerce};

/// The highest TCP port.
const MAX_PORT: i64 = 65_535;

/// The maximum number of ports and port ranges.
const MAX_RANGES: usize = 256;

/// The maximum number of ports that are exposed: a Service lists each of them.
pub(super) const MAX_EXPOSED_PORTS: usize = 100;

/// Parses a port, a range such as `10052-10100`, or a list of both. Returns the ports in ascending order, or none with a
/// warning if there are too many.
pub(super) fn parse_ports(value: &Value, validator: &mut Validator) -> Option<Vec<u16>> {
    let ranges = match value {
        Value::Array(_) => coerce::list(value, validator, MAX_RANGES, parse_range)?,
        _ => vec![parse_range(value, validator)?],
    };
    let count: usize = ranges.iter().map(|(first, last)| usize::from(last - first) + 1).sum();
    if count > MAX_EXPOSED_PORTS {
        validator.warn(format!(
            "`resources.ports` has no effect: at most {MAX_EXPOSED_PORTS} ports can be exposed ({count} ports)"
        ));
        return Some(Vec::new());
    }
    let mut ports: Vec<u16> = ranges.into_iter().flat_map(|(first, last)| first..=last).collect();
    ports.sort_unstable();
    ports.dedup();
    Some(ports)
}

fn parse_range(value: &Value, validator: &mut Validator) -> Option<(u16, u16)> {
    let port = |number: i64| u16::try_from(number).ok().filter(|_| (1..=MAX_PORT).contains(&number));
    if let Value::String(text) = value
        && let Some((first, last)) = text.split_once('-')
    {
        let bound = |text: &str| text.parse().ok().and_then(port);
        return match (bound(first), bound(last)) {
            (Some(first), Some(last)) if first <= last => Some((first, last)),
            _ => validator.value_error(
                format!("invalid port range `{text}`; expected, e.g., `8080-8090`"),
                value,
            ),
        };
    }
    match port(coerce::integer(value, validator)?) {
        Some(port) => Some((port, port)),
        None => validator.value_error(format!("a port must be a number from 1 to {MAX_PORT}"), value),
    }
}
