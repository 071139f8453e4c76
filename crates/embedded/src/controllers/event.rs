//! Records events about objects, for the controllers and the node.

use std::time::Duration;

use serde_json::json;

use crate::object::{Object, kind_of, time};
use crate::refusal::Refusal;
use crate::store::Transaction;

/// Type of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Normal,
    Warning,
}

/// Records an event about an object. A repetition increments the count of the earlier event.
pub fn record(
    transaction: &mut Transaction<'_>,
    about: &Object,
    kind: Kind,
    source: &str,
    reason: &str,
    message: &str,
) -> Result<(), Refusal> {
    let namespace = match about.namespace() {
        "" => "default",
        namespace => namespace,
    };
    let now = time(transaction.now);
    // A hash of the content in the name makes repetitions easy to find.
    let name = format!("{}.{:016x}", about.name(), fingerprint(&[about.uid(), reason, message]));
    let events = kind_of("events");
    if let Some(mut known) = transaction.get(events, namespace, &name)? {
        let count = known.value["count"].as_u64().unwrap_or(1).saturating_add(1);
        known.value["count"] = count.into();
        known.value["lastTimestamp"] = now.into();
        return transaction.update(known).map(drop);
    }
    let kind = match kind {
        Kind::Normal => "Normal",
        Kind::Warning => "Warning",
    };
    let mut event = Object::new(
        events,
        json!({
            "metadata": {"name": name, "namespace": namespace, "creationTimestamp": now},
            "involvedObject": {
                "kind": about.kind.kind,
                "namespace": about.namespace(),
                "name": about.name(),
                "uid": about.uid(),
                "apiVersion": about.kind.api_version(),
                "resourceVersion": about.version().to_string(),
            },
            "reason": reason,
            "message": message,
            "source": {"component": source},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "type": kind,
            "reportingComponent": source,
            "reportingInstance": "",
        }),
    );
    event.set("uid", transaction.random.uid());
    transaction.create(event).map(drop)
}

/// FNV-1a: short, and stable across processes. It needn't resist deliberate collisions.
fn fingerprint(texts: &[&str]) -> u64 {
    let bytes = texts.iter().flat_map(|text| text.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Removes a batch of events that were not repeated for `life`; returns whether there may be more. Batches are small,
/// since all other writers wait for them.
pub(super) fn sweep(transaction: &mut Transaction<'_>, life: Duration) -> Result<bool, Refusal> {
    const AT_ONCE: i64 = 200;
    let old = transaction.old_events(transaction.now - life, AT_ONCE)?;
    let count = old.len();
    for event in old {
        transaction.remove(event)?;
    }
    Ok(i64::try_from(count) == Ok(AT_ONCE))
}
