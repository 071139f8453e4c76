//! Invariants that must hold for any input from a client. The targets of `fuzz/` search for inputs that break them.

use serde_json::Value;

use crate::definition::{MAX_DURATION_SECONDS, TaskDefinition, parse_duration};
use crate::quantity::Quantity;
use crate::time;
use crate::volume::VolumeDefinition;

/// The body of a submitted task or a new volume is either valid, or refused with errors of limited size.
pub fn bodies(data: &[u8]) {
    let Ok(body) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    for errors in [
        TaskDefinition::parse(&body, 1000).err(),
        VolumeDefinition::parse(&body).err(),
    ]
    .into_iter()
    .flatten()
    {
        assert!(!errors.is_empty(), "refused without an error");
        let encoded = serde_json::to_vec(&errors).unwrap_or_default();
        assert!(
            encoded.len() <= 8 * data.len() + 64 * 1024,
            "{} bytes of errors",
            encoded.len()
        );
    }
}

/// Accepted quantities and times are within their bounds, and parse again from their canonical form.
pub fn amounts(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for parse in [Quantity::parse_cpus, Quantity::parse_memory, Quantity::parse_size] {
        let Ok(quantity) = parse(text) else { continue };
        let again = quantity.to_string();
        assert!(Quantity::parse(&again).is_some(), "{text:?} became {again:?}");
    }
    if let Ok(duration) = parse_duration(text) {
        assert!(
            (1..=u64::from(MAX_DURATION_SECONDS)).contains(&duration.as_secs()),
            "{text:?}"
        );
    }
    if let Some(timestamp) = time::parse(text) {
        assert_eq!(time::parse(&timestamp.to_string()), Some(timestamp), "{text:?}");
    }
}
