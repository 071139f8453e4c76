//! Invariants that must hold for any input from a client. The targets of `fuzz/` search for inputs that break them.

use serde_json::Value;

use crate::definition::{MAX_SECONDS, parse_duration};
use crate::{Quantity, TaskDefinition, VolumeDefinition, time};

/// The body of a submitted task or a new volume is either valid, or refused with errors of limited size.
pub fn bodies(data: &[u8]) {
    let Ok(body) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    for faults in [
        TaskDefinition::parse(&body, 1000).err(),
        VolumeDefinition::parse(&body).err(),
    ]
    .into_iter()
    .flatten()
    {
        assert!(!faults.is_empty(), "refused without an error");
        let told = serde_json::to_vec(&faults).unwrap_or_default();
        assert!(
            told.len() <= 8 * data.len() + 64 * 1024,
            "{} bytes of errors",
            told.len()
        );
    }
}

/// Accepted quantities and times are within their bounds, and parse again from their canonical form.
pub fn amounts(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for read in [Quantity::cpus, Quantity::memory, Quantity::size] {
        let Ok(amount) = read(text) else { continue };
        let again = amount.to_string();
        assert!(Quantity::parse(&again).is_some(), "{text:?} became {again:?}");
    }
    if let Ok(duration) = parse_duration(text) {
        assert!((1..=u64::from(MAX_SECONDS)).contains(&duration.as_secs()), "{text:?}");
    }
    if let Some(moment) = time::parse(text) {
        assert_eq!(time::parse(&moment.to_string()), Some(moment), "{text:?}");
    }
}
