//! Events: what the controllers and the node tell about an object.

use std::time::Duration;

use serde_json::json;

use crate::object::{Object, kind_of, time};
use crate::refusal::Refusal;
use crate::store::Transaction;

/// How serious an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As it should be.
    Normal,
    /// Not as it should be.
    Warning,
}

/// Tells something about an object. What was told before in the same words is counted.
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
    // The same words have the same name.
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

/// FNV-1a: short, the same in every process; nobody chooses the words to make two of them collide.
fn fingerprint(texts: &[&str]) -> u64 {
    let bytes = texts.iter().flat_map(|text| text.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Removes events that were not told again for a while; whether there may be more of them. A few at a time: everybody else
/// waits meanwhile.
pub(super) fn sweep(transaction: &mut Transaction<'_>, life: Duration) -> Result<bool, Refusal> {
    const AT_ONCE: i64 = 200;
    let old = transaction.old_events(transaction.now - life, AT_ONCE)?;
    let count = old.len();
    for event in old {
        transaction.remove(event)?;
    }
    Ok(i64::try_from(count) == Ok(AT_ONCE))
}
