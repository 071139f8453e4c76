//! What must hold for whatever a client writes. The targets of `fuzz/` look for inputs that break it.

use serde_json::Value;

use crate::definition::{MAX_SECONDS, parse_duration};
use crate::{Quantity, TaskDefinition, VolumeDefinition, time};

/// The body of a submit, or of a new volume: it is read, or all of its faults are told.
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
        assert!(!faults.is_empty(), "refused without a reason");
        let told = serde_json::to_vec(&faults).unwrap_or_default();
        assert!(
            told.len() <= 8 * data.len() + 64 * 1024,
            "{} bytes of faults",
            told.len()
        );
    }
}

/// Amounts and times: what is taken is within its bounds, and is taken again as it was understood.
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
