//! The part of SkyPilot's `config` that has a meaning here: `kubernetes.provision_timeout` and `kubernetes.kueue`.
//!
//! Source: <https://docs.skypilot.co/en/latest/reference/config.html#kubernetes>.

use std::time::Duration;

use serde_json::Value;

use crate::validation::{self, Cursor, Object};

/// The longest wait that can be asked for.
pub(super) const MAX_SECONDS: i64 = super::duration::MAX_SECONDS as i64;

/// The longest name of a queue, which becomes the value of a label.
pub(super) const MAX_QUEUE_LENGTH: usize = 63;

/// Keys of SkyPilot that have no meaning here.
const UNSUPPORTED: &[&str] = &[
    "active_workspace",
    "aws",
    "azure",
    "docker",
    "gcp",
    "hooks",
    "nvidia_gpus",
    "oci",
    "ssh",
];
const UNSUPPORTED_OF_KUBERNETES: &[&str] = &[
    "custom_metadata",
    "dws",
    "enable_docker",
    "pod_config",
    "quota",
    "remote_identity",
    "set_pod_resource_limits",
];

/// What a task asks of Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KubernetesConfig {
    /// How long its nodes may wait for a place; the server's default when absent.
    pub provision_timeout: Option<ProvisionTimeout>,
    /// Kueue's queue that the task waits in.
    pub local_queue_name: Option<String>,
}

/// How long the nodes of a task may wait until all have a place on a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProvisionTimeout {
    /// For ever.
    Never,
    /// So long.
    After(Duration),
}

impl ProvisionTimeout {
    /// The time, if there is an end to it.
    #[must_use]
    pub fn duration(self) -> Option<Duration> {
        match self {
            Self::Never => None,
            Self::After(duration) => Some(duration),
        }
    }
}

pub(super) fn read(value: &Value, cursor: &mut Cursor) -> Option<KubernetesConfig> {
    let mut object = Object::open(value, cursor)?;
    let kubernetes = object.optional("kubernetes", kubernetes);
    object.finish(UNSUPPORTED);
    Some(kubernetes.unwrap_or_default())
}

fn kubernetes(value: &Value, cursor: &mut Cursor) -> Option<KubernetesConfig> {
    let mut object = Object::open(value, cursor)?;
    let provision_timeout = object.optional("provision_timeout", provision_timeout);
    let local_queue_name = object.optional("kueue", kueue).flatten();
    object.finish(UNSUPPORTED_OF_KUBERNETES);
    Some(KubernetesConfig {
        provision_timeout,
        local_queue_name,
    })
}

/// Seconds. SkyPilot's word for "for ever" was 0 once, and is -1 now.
fn provision_timeout(value: &Value, cursor: &mut Cursor) -> Option<ProvisionTimeout> {
    let seconds = validation::integer(value, cursor)?;
    match u64::try_from(seconds) {
        Ok(0) => Some(ProvisionTimeout::Never),
        Ok(some) if seconds <= MAX_SECONDS => Some(ProvisionTimeout::After(Duration::from_secs(some))),
        Err(_) if seconds == -1 => Some(ProvisionTimeout::Never),
        _ => cursor.refuse(
            format!("write seconds from 1 to {MAX_SECONDS}, or -1 to wait for ever"),
            value,
        ),
    }
}

fn kueue(value: &Value, cursor: &mut Cursor) -> Option<Option<String>> {
    let mut object = Object::open(value, cursor)?;
    let queue = object.optional("local_queue_name", queue_name);
    object.finish(&[]);
    Some(queue)
}

/// An RFC 1123 label, as every object of a namespace that has no dots in its name.
fn queue_name(value: &Value, cursor: &mut Cursor) -> Option<String> {
    let name = validation::string(value, cursor)?;
    let is_end = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    let is_valid = name.len() <= MAX_QUEUE_LENGTH
        && bytes.first().is_some_and(is_end)
        && bytes.last().is_some_and(is_end)
        && bytes.iter().all(|byte| is_end(byte) || *byte == b'-');
    if is_valid {
        return Some(name);
    }
    cursor.refuse(
        format!("a queue has 1 to {MAX_QUEUE_LENGTH} lower case letters, digits and `-`"),
        value,
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::super::TaskDefinition;
    use super::ProvisionTimeout;

    fn parse(kubernetes: &Value) -> Result<TaskDefinition, String> {
        let body = json!({"run": "true", "config": {"kubernetes": kubernetes}});
        TaskDefinition::parse(&body, 1).map_err(|errors| errors[0].msg.clone())
    }

    #[test]
    fn a_provision_timeout_is_in_seconds_and_minus_one_is_for_ever() {
        let parsed = |seconds: Value| parse(&json!({"provision_timeout": seconds})).map(|task| task.kubernetes);
        let minute = Some(ProvisionTimeout::After(Duration::from_secs(60)));
        assert_eq!(parsed(json!(60)).unwrap().provision_timeout, minute);
        assert_eq!(parsed(json!("60")).unwrap().provision_timeout, minute);
        for never in [0, -1] {
            assert_eq!(
                parsed(json!(never)).unwrap().provision_timeout,
                Some(ProvisionTimeout::Never)
            );
        }
        assert_eq!(parsed(Value::Null).unwrap().provision_timeout, None);
        assert!(parsed(json!(-2)).is_err());
        assert!(parsed(json!(1_000_000_000)).is_err());
    }

    #[test]
    fn a_queue_is_named_as_kubernetes_names_things() {
        let parsed = |name: &str| parse(&json!({"kueue": {"local_queue_name": name}}));
        assert_eq!(
            parsed("team-a").unwrap().kubernetes.local_queue_name.as_deref(),
            Some("team-a")
        );
        for wrong in ["", "-a", "a-", "A", "a b", &"a".repeat(64)] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_skypilot_has_beside_is_named() {
        let message = parse(&json!({"pod_config": {}})).unwrap_err();
        assert!(message.contains("`pod_config` is a key of SkyPilot"), "{message}");
        let message = parse(&json!({"provision_timeouts": 1})).unwrap_err();
        assert!(message.contains("did you mean `provision_timeout`?"), "{message}");
    }
}
