//! Records events about objects, for the controllers and the kubelet.

use std::time::Duration;

use serde_json::json;

use crate::object::{Kind, Object, format_time};
use crate::status_error::StatusError;
use crate::store::Transaction;

/// Records events about objects on behalf of a component, like client-go's `EventRecorder`.
#[derive(Debug, Clone, Copy)]
pub struct EventRecorder {
    component: &'static str,
}

impl EventRecorder {
    pub const fn new(component: &'static str) -> Self {
        Self { component }
    }

    pub fn normal(
        self,
        transaction: &mut Transaction<'_>,
        about: &Object,
        reason: &str,
        message: &str,
    ) -> Result<(), StatusError> {
        self.record(transaction, about, "Normal", reason, message)
    }

    pub fn warning(
        self,
        transaction: &mut Transaction<'_>,
        about: &Object,
        reason: &str,
        message: &str,
    ) -> Result<(), StatusError> {
        self.record(transaction, about, "Warning", reason, message)
    }

    /// Records an event about an object. A repetition increments the count of the earlier event.
    fn record(
        self,
        transaction: &mut Transaction<'_>,
        about: &Object,
        event_type: &str,
        reason: &str,
        message: &str,
    ) -> Result<(), StatusError> {
        let namespace = match about.namespace() {
            "" => "default",
            namespace => namespace,
        };
        let now = format_time(transaction.now);
        // A hash of the content in the name makes repetitions easy to find.
        let name = format!("{}.{:016x}", about.name(), fingerprint(&[about.uid(), reason, message]));
        if let Some(mut known) = transaction.get(Kind::Event, namespace, &name)? {
            let count = known.value["count"].as_u64().unwrap_or(1).saturating_add(1);
            known.value["count"] = count.into();
            known.value["lastTimestamp"] = now.into();
            return transaction.update(known).map(drop);
        }
        let mut event = Object::new(
            Kind::Event,
            json!({
                "metadata": {"name": name, "namespace": namespace, "creationTimestamp": now},
                "involvedObject": {
                    "kind": about.kind.name(),
                    "namespace": about.namespace(),
                    "name": about.name(),
                    "uid": about.uid(),
                    "apiVersion": about.kind.api_version(),
                    "resourceVersion": about.version().to_string(),
                },
                "reason": reason,
                "message": message,
                "source": {"component": self.component},
                "firstTimestamp": now,
                "lastTimestamp": now,
                "count": 1,
                "type": event_type,
                "reportingComponent": self.component,
                "reportingInstance": "",
            }),
        );
        event.set("uid", transaction.random.uid());
        transaction.create(event).map(drop)
    }
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
pub(super) fn prune(transaction: &mut Transaction<'_>, life: Duration) -> Result<bool, StatusError> {
    const MAX_BATCH: i64 = 200;
    let old = transaction.list_old_events(transaction.now - life, MAX_BATCH)?;
    let count = old.len();
    for event in old {
        transaction.remove(event)?;
    }
    Ok(i64::try_from(count) == Ok(MAX_BATCH))
}
