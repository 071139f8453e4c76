//! Parses `config.hooks`, the scripts that a node runs before its processes receive SIGTERM.

use serde::Serialize;
use serde_json::Value;

use super::duration::MAX_DURATION_SECONDS;
use super::ignored::word;
use super::keys::HOOKS;
use super::scripts::{MAX_SCRIPT_BYTES, deny_nul};
use crate::validation::{Fields, Validator, coerce};

/// SkyPilot's maximum number of hooks.
pub(super) const MAX_HOOKS: usize = 32;

/// SkyPilot's maximum size of a hook, in bytes.
pub(super) const MAX_HOOK_BYTES: usize = 16 * 1024;

/// SkyPilot's default timeout of a hook, in seconds.
pub const DEFAULT_HOOK_TIMEOUT_SECONDS: u32 = 3600;

/// The maximum size of all scripts of a task together, in bytes. They are stored in one ConfigMap, which Kubernetes
/// limits to 1 MiB.
const MAX_ALL_SCRIPTS_BYTES: usize = 2 * MAX_SCRIPT_BYTES;

/// SkyPilot's events. Here, each of them is SIGTERM.
pub(super) const HOOK_EVENTS: &[&str] = &["stop", "preemption", "down"];

/// A script that a node runs on SIGTERM, while the processes of the task still run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hook {
    /// The Bash script.
    pub run: String,
    /// Its timeout in seconds, if the task sets one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_secs: Option<u32>,
}

pub(super) fn parse_hooks(value: &Value, validator: &mut Validator) -> Option<Vec<Hook>> {
    let hooks = coerce::list(value, validator, MAX_HOOKS, parse_hook)?;
    Some(hooks.into_iter().flatten().collect())
}

/// Parses a hook: `Some(None)` if it has no event, and therefore never runs.
fn parse_hook(value: &Value, validator: &mut Validator) -> Option<Option<Hook>> {
    let mut fields = Fields::from_value(value, validator)?;
    let run = fields.required("run", parse_run);
    let events = fields.optional("events", |value, validator| {
        coerce::list(value, validator, HOOK_EVENTS.len(), |value, validator| {
            word(value, validator, HOOK_EVENTS)
        })
    });
    let timeout_secs = fields.optional("timeout", parse_timeout);
    HOOKS.finish(fields);
    let run = run?;
    if events.is_some_and(|events| events.is_empty()) {
        validator.warn("a hook in `config.hooks` has no effect: its `events` are empty; leave them out for all events");
        return Some(None);
    }
    Some(Some(Hook { run, timeout_secs }))
}

fn parse_run(value: &Value, validator: &mut Validator) -> Option<String> {
    let text = coerce::string(value, validator)?;
    if text.len() > MAX_HOOK_BYTES {
        let bytes = text.len();
        return validator.value_error(
            format!(
                "the hook exceeds the limit of {MAX_HOOK_BYTES} bytes ({bytes} bytes); store it in a volume or in the image"
            ),
            value,
        );
    }
    deny_nul(value, validator, text)
}

fn parse_timeout(value: &Value, validator: &mut Validator) -> Option<u32> {
    let seconds = coerce::integer(value, validator)?;
    match u32::try_from(seconds) {
        Ok(timeout @ 1..=MAX_DURATION_SECONDS) => Some(timeout),
        _ => validator.value_error(format!("must be from 1 to {MAX_DURATION_SECONDS} seconds"), value),
    }
}

/// Checks the size of the hooks and the scripts together.
pub(super) fn check_total_bytes(
    hooks: &[Hook],
    setup: Option<&str>,
    run: &str,
    body: &Value,
    validator: &mut Validator,
) -> Option<()> {
    let hook_bytes: usize = hooks.iter().map(|hook| hook.run.len()).sum();
    let bytes = hook_bytes + setup.map_or(0, str::len) + run.len();
    if hooks.is_empty() || bytes <= MAX_ALL_SCRIPTS_BYTES {
        return Some(());
    }
    let reason = format!(
        "`setup`, `run`, and the hooks exceed the limit of {MAX_ALL_SCRIPTS_BYTES} bytes ({bytes} bytes); store some of \
         them in a volume or in the image"
    );
    validator.within("config", |validator| {
        validator.within("hooks", |validator| {
            validator.value_error(reason, &body["config"]["hooks"])
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::TaskDefinition;
    use super::{Hook, MAX_HOOK_BYTES, MAX_HOOKS};

    fn parse(hooks: &Value) -> Result<TaskDefinition, (String, String)> {
        let body = json!({"run": "true", "config": {"hooks": hooks}});
        TaskDefinition::parse(&body, 1).map_err(|errors| {
            let error = serde_json::to_value(&errors[0]).unwrap();
            (error["loc"].to_string(), errors[0].msg.clone())
        })
    }

    #[test]
    fn hooks_keep_their_order_and_timeouts() {
        let task = parse(&json!([
            {"run": "save", "events": ["stop", "PREEMPTION"], "timeout": "90"},
            {"run": "tell", "events": null},
        ]));
        let hook = |run: &str, timeout_secs| Hook {
            run: run.to_owned(),
            timeout_secs,
        };
        let task = task.unwrap();
        assert_eq!(task.hooks, [hook("save", Some(90)), hook("tell", None)]);
        assert_eq!(task.warnings, [] as [&str; 0]);
        assert_eq!(parse(&json!([])).unwrap().hooks, []);
    }

    #[test]
    fn a_hook_without_events_never_runs() {
        let task = parse(&json!([{"run": "save", "events": []}])).unwrap();
        assert_eq!((task.hooks.len(), task.warnings.len()), (0, 1));
        assert!(task.warnings[0].contains("`events` are empty"), "{:?}", task.warnings);
    }

    #[test]
    fn a_mistake_in_a_hook_is_named_with_its_place() {
        let long = "#".repeat(MAX_HOOK_BYTES + 1);
        for (hook, field, message) in [
            (json!({}), "run", "Field required"),
            (json!({"run": long}), "run", "exceeds the limit of 16384 bytes"),
            (json!({"run": "a\0"}), "run", "NUL"),
            (json!({"run": "a", "timeout": 0}), "timeout", "must be from 1 to"),
            (json!({"run": "a", "timeout": -5}), "timeout", "must be from 1 to"),
            (
                json!({"run": "a", "events": ["crash"]}),
                "events",
                "unknown value `crash`",
            ),
            (
                json!({"run": "a", "event": ["stop"]}),
                "event",
                "did you mean `events`?",
            ),
        ] {
            let (loc, told) = parse(&json!([{"run": "fine"}, hook])).unwrap_err();
            let place = format!(r#"["body","config","hooks",1,"{field}""#);
            assert!(loc.starts_with(&place) && told.contains(message), "{loc} {told}");
        }
        let too_many = vec![json!({"run": "a"}); MAX_HOOKS + 1];
        assert!(parse(&json!(too_many)).is_err());
    }

    #[test]
    fn the_scripts_and_the_hooks_fit_in_one_object() {
        let script = "#".repeat(495_000);
        let hooks = vec![json!({"run": "#".repeat(MAX_HOOK_BYTES)}); 2];
        let body = json!({"setup": script, "run": script, "config": {"hooks": hooks}});
        let errors = TaskDefinition::parse(&body, 1).unwrap_err();
        assert!(errors[0].msg.contains("1000000 bytes"), "{}", errors[0].msg);
    }
}
