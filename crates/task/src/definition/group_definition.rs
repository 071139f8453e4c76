//! The definition of a group: tasks that run one after the other, as a pipeline, or side by side, as a sweep.

use std::collections::HashSet;
use std::num::NonZeroU32;

use serde::Serialize;
use serde_json::{Value, json};

use super::secrets::{REDACTED, hide_in_errors, redact};
use super::task_definition::TaskDefinition;
use crate::name::Name;
use crate::validation::{self, ErrorDetail, Fields, LocItem, MAX_ERRORS, Validator, coerce};

/// The maximum number of tasks in a group.
pub const MAX_GROUP_TASKS: u32 = 1000;

/// The maximum number of tasks that run one after the other: each of them knows the IDs of all.
pub(super) const MAX_SERIAL_TASKS: u32 = 100;

/// The maximum number of nodes of all tasks of a group together: each is a Job that a single request creates.
pub const MAX_GROUP_NODES: u32 = 2000;

/// How the tasks of a group run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "execution", rename_all = "lowercase")]
pub enum Execution {
    /// One after the other. The first failure cancels the tasks after it.
    Serial,
    /// Side by side.
    Parallel {
        /// How many run at the same time; `None` means all.
        #[serde(skip_serializing_if = "Option::is_none")]
        max_parallel: Option<NonZeroU32>,
    },
}

/// A valid group of tasks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupDefinition {
    /// The name of the group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// How its tasks run.
    #[serde(flatten)]
    pub execution: Execution,
    /// The tasks, in order; at least one.
    pub tasks: Vec<TaskDefinition>,
}

impl GroupDefinition {
    /// Parses a definition from a request body, and reports every error in it and in its tasks. `max_nodes` is the limit
    /// of the server for each task.
    pub fn parse(body: &Value, max_nodes: u32) -> Result<Self, Vec<ErrorDetail>> {
        let mut errors = Vec::new();
        let group = validation::validate(&without_tasks(body), "body", Group::from_value);
        let group = group.map_err(|found| errors.extend(found)).ok();
        let bodies = body["tasks"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut tasks = Vec::new();
        // The list is parsed only if its length is valid.
        for (index, task) in bodies.iter().take(MAX_GROUP_TASKS as usize).enumerate() {
            match TaskDefinition::parse(task, max_nodes) {
                Ok(task) => tasks.push(task),
                Err(found) => errors.extend(found.into_iter().map(|error| of_task(index, error))),
            }
            if errors.len() >= MAX_ERRORS {
                break;
            }
        }
        errors.truncate(MAX_ERRORS);
        let nodes = tasks.iter().map(|task| u64::from(task.num_nodes)).sum::<u64>();
        if errors.is_empty() && nodes > MAX_GROUP_NODES.into() {
            let reason =
                format!("the tasks of a group can have at most {MAX_GROUP_NODES} nodes together ({nodes} nodes)");
            errors.push(ErrorDetail::value_error(
                ["body", "tasks"].map(LocItem::from),
                reason,
                json!(nodes),
            ));
        }
        hide_in_errors(&mut errors);
        match group {
            Some(Group { name, execution }) if errors.is_empty() => Ok(Self { name, execution, tasks }),
            _ => Err(errors),
        }
    }

    /// The warnings about its tasks, each once.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut known = HashSet::new();
        let all = self.tasks.iter().flat_map(|task| &task.warnings);
        all.filter(|warning| known.insert(warning.as_str())).cloned().collect()
    }
}

/// What a group has besides its tasks.
struct Group {
    name: Option<Name>,
    execution: Execution,
}

impl Group {
    fn from_value(value: &Value, validator: &mut Validator) -> Option<Self> {
        let mut fields = Fields::from_value(value, validator)?;
        let name = fields.optional("name", Name::from_value);
        let is_serial = fields.with_default("execution", false, parse_execution);
        let max_parallel = fields.optional("max_parallel", parse_max_parallel);
        if is_serial == Some(true) && fields.has("max_parallel") {
            fields.value_error("max_parallel", "tasks that run one after the other have no such limit");
        }
        let most = if is_serial == Some(true) {
            MAX_SERIAL_TASKS
        } else {
            MAX_GROUP_TASKS
        };
        let tasks = fields.required("tasks", |value, validator| check_length(value, validator, most));
        fields.deny_unknown_fields(|_| None);
        tasks?;
        let execution = if is_serial? {
            Execution::Serial
        } else {
            Execution::Parallel { max_parallel }
        };
        Some(Self { name, execution })
    }
}

/// Returns whether the tasks run one after the other.
fn parse_execution(value: &Value, validator: &mut Validator) -> Option<bool> {
    match coerce::string(value, validator)?.as_str() {
        "serial" => Some(true),
        "parallel" => Some(false),
        other => validator.value_error(
            format!("invalid execution `{other}`; expected `serial` or `parallel`"),
            value,
        ),
    }
}

fn parse_max_parallel(value: &Value, validator: &mut Validator) -> Option<NonZeroU32> {
    let number = u32::try_from(coerce::integer(value, validator)?).ok();
    let number = number.and_then(NonZeroU32::new);
    number.or_else(|| validator.value_error("must be a positive number of tasks", value))
}

fn check_length(value: &Value, validator: &mut Validator, most: u32) -> Option<()> {
    match value.as_array().map(Vec::len) {
        None => validator.push_error("list_type", "Input should be a valid list", value),
        Some(0) => validator.value_error("a group needs at least one task", value),
        Some(length) if length > most as usize => validator.value_error(
            format!("such a group can have at most {most} tasks ({length} tasks)"),
            &json!(length),
        ),
        Some(_) => Some(()),
    }
}

/// The body without what its tasks contain, because errors repeat it, and tasks contain secrets.
fn without_tasks(body: &Value) -> Value {
    let Value::Object(fields) = body else {
        return body.clone();
    };
    let shown = |(key, value): (&String, &Value)| {
        let value = match value {
            Value::Array(tasks) if key == "tasks" => tasks.iter().map(|_| Value::Null).collect(),
            Value::Object(_) | Value::String(_) if key == "tasks" => REDACTED.into(),
            value => redact(value).body.into_owned(),
        };
        (key.clone(), value)
    };
    Value::Object(fields.iter().map(shown).collect())
}

/// The error of a task at its place in the group.
fn of_task(index: usize, mut error: ErrorDetail) -> ErrorDetail {
    error.loc.splice(1..1, [LocItem::from("tasks"), LocItem::from(index)]);
    error
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Execution, GroupDefinition};
    use crate::definition::MAX_NODES;

    fn errors(body: &Value) -> Vec<(String, String)> {
        let errors = GroupDefinition::parse(body, MAX_NODES).unwrap_err();
        let loc =
            |loc: &[crate::validation::LocItem]| loc.iter().map(ToString::to_string).collect::<Vec<_>>().join(".");
        errors
            .iter()
            .map(|error| (loc(&error.loc), error.msg.clone()))
            .collect()
    }

    #[test]
    fn tasks_run_side_by_side_unless_the_group_is_serial() {
        let parse = |body| GroupDefinition::parse(&body, MAX_NODES).unwrap();
        let all = parse(json!({"tasks": [{"run": "a"}, {"run": "b"}]}));
        assert_eq!(all.execution, Execution::Parallel { max_parallel: None });
        assert_eq!(all.tasks.len(), 2);
        let some = parse(json!({"tasks": [{"run": "a"}], "max_parallel": 3}));
        assert_eq!(json!(some)["max_parallel"], 3);
        let serial = parse(json!({"name": "steps", "execution": "serial", "tasks": [{"run": "a"}]}));
        assert_eq!(
            (serial.execution, json!(serial)["execution"].clone()),
            (Execution::Serial, json!("serial"))
        );
    }

    #[test]
    fn an_error_of_a_task_has_its_place_in_the_group() {
        let body = json!({"tasks": [{"run": "a"}, {"run": "b", "num_nodes": 0}, {}], "nmae": "x"});
        let places: Vec<String> = errors(&body).into_iter().map(|(loc, _)| loc).collect();
        assert_eq!(places, ["body.nmae", "body.tasks.1.num_nodes", "body.tasks.2.run"]);
    }

    #[test]
    fn limits_of_a_group_are_errors() {
        let only = |body: Value| errors(&body).remove(0);
        assert_eq!(only(json!({})).0, "body.tasks");
        assert_eq!(
            only(json!({"tasks": []})).1,
            "Value error, a group needs at least one task"
        );
        assert_eq!(
            only(json!({"tasks": [{"run": "a"}], "max_parallel": 0})).0,
            "body.max_parallel"
        );
        let serial = json!({"tasks": [{"run": "a"}], "execution": "serial", "max_parallel": 2});
        assert_eq!(only(serial).0, "body.max_parallel");
        assert!(
            only(json!({"tasks": vec![json!({"run": "a"}); 1001]}))
                .1
                .contains("1000")
        );
        let long = json!({"tasks": vec![json!({"run": "a"}); 101], "execution": "serial"});
        assert!(only(long).1.contains("at most 100 tasks"));
        let large = json!({"tasks": vec![json!({"run": "a", "num_nodes": 1000}); 3]});
        assert!(only(large).1.contains("3000 nodes"));
    }

    #[test]
    fn no_error_repeats_a_secret() {
        let task = json!({"run": 1, "secrets": {"TOKEN": "canary"}, "sercets": {"A": "canary"}});
        for body in [
            json!({"tasks": [task]}),
            json!({"tasks": {"a": task}}),
            json!({"taks": [task]}),
            json!({"tasks": [], "secrets": {"A": "canary"}}),
            json!({"name": task, "tasks": []}),
        ] {
            let errors = GroupDefinition::parse(&body, MAX_NODES).unwrap_err();
            let text = serde_json::to_string(&errors).unwrap();
            assert!(!text.contains("canary"), "{body}: {text}");
        }
    }
}
