//! Records events about objects, for the controllers and the kubelet.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::Deserialize;

use crate::object::{Kind, Object};
use crate::status_error::StatusError;
use crate::store::Transaction;

/// Records events about objects on behalf of a component, like client-go's `EventRecorder`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EventRecorder {
    component: &'static str,
}

impl EventRecorder {
    pub(crate) const fn new(component: &'static str) -> Self {
        Self { component }
    }

    pub(crate) fn normal(
        self,
        transaction: &mut Transaction<'_>,
        about: &Object,
        reason: &str,
        message: &str,
    ) -> Result<(), StatusError> {
        self.record(transaction, about, "Normal", reason, message)
    }

    pub(crate) fn warning(
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
        let now = Some(Time(transaction.now));
        // A hash of the content in the name makes repetitions easy to find.
        let name = format!("{}.{:016x}", about.name(), fingerprint(&[about.uid(), reason, message]));
        if let Some(known) = transaction.get(Kind::Event, namespace, &name)? {
            let mut event: Event = Event::deserialize(known.value())?;
            event.count = Some(event.count.unwrap_or(1).saturating_add(1));
            event.last_timestamp = now;
            return transaction.update(Object::encode(&event)?).map(drop);
        }
        let event = Event {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(namespace.to_owned()),
                uid: Some(transaction.random.uid()),
                creation_timestamp: now.clone(),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                kind: Some(about.kind.name().to_owned()),
                namespace: Some(about.namespace().to_owned()),
                name: Some(about.name().to_owned()),
                uid: Some(about.uid().to_owned()),
                api_version: Some(about.kind.api_version().to_owned()),
                resource_version: Some(about.version().to_string()),
                field_path: None,
            },
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            source: Some(EventSource {
                component: Some(self.component.to_owned()),
                host: None,
            }),
            first_timestamp: now.clone(),
            last_timestamp: now,
            count: Some(1),
            type_: Some(event_type.to_owned()),
            reporting_component: Some(self.component.to_owned()),
            reporting_instance: Some(String::new()),
            ..Event::default()
        };
        transaction.create(Object::encode(&event)?).map(drop)
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
