//! `k8s-cli explain`: the keys of a task file, like `kubectl explain`.

use task::definition::keys::{self, Key, Section, Support};

use crate::error::{Error, Result};
use crate::output::print;

/// The name of the task file itself in a path.
const ROOT: &str = "task";

pub(crate) fn run(path: &str) -> Result<()> {
    let Some(inner) = strip_root(path) else {
        return Err(unknown(path));
    };
    match keys::find(inner).ok_or_else(|| unknown(path))? {
        (section, None) => print(&describe_section(section)),
        (section, Some(key)) => print(&describe_key(section, key)),
    }
}

/// The path within the file: `task.resources` is `resources`, and so is `resources` alone.
fn strip_root(path: &str) -> Option<&str> {
    match path.strip_prefix(ROOT) {
        Some("") => Some(""),
        Some(rest) => rest.strip_prefix('.'),
        None => Some(path),
    }
}

fn unknown(path: &str) -> Error {
    Error::Usage(format!(
        "unknown key `{path}`; list the keys with `k8s-cli explain task` or, e.g., `k8s-cli explain task.resources`"
    ))
}

/// The keys that are listed together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    Works,
    HasNoEffect,
    IsRejected,
}

impl Group {
    fn of(key: &Key) -> Self {
        match key.support {
            Support::Full => Self::Works,
            Support::Ignored { .. } => Self::HasNoEffect,
            Support::Rejected { .. } => Self::IsRejected,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Works => "Keys",
            Self::HasNoEffect => "Keys without effect, accepted with a warning",
            Self::IsRejected => "Keys that are rejected",
        }
    }
}

fn describe_section(section: &Section) -> String {
    let mut text = format!("{}\n", section.summary);
    for group in [Group::Works, Group::HasNoEffect, Group::IsRejected] {
        let keys: Vec<&Key> = section.keys.iter().filter(|key| Group::of(key) == group).collect();
        if keys.is_empty() {
            continue;
        }
        text.push_str(&format!("\n{}:\n", group.title()));
        for key in keys {
            text.push_str(&format!("  {}\n    {}\n", key.name, summary(key)));
        }
    }
    text
}

/// The summary of a key, and what this server makes of it.
fn summary(key: &Key) -> String {
    match key.support {
        Support::Full => key.summary.to_owned(),
        Support::Ignored { reason, .. } | Support::Rejected { reason, .. } => {
            format!("{} {}", key.summary, sentence(reason))
        }
    }
}

fn sentence(reason: &str) -> String {
    let mut letters = reason.chars();
    let first = letters
        .next()
        .map(|letter| letter.to_uppercase().to_string())
        .unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}

fn describe_key(section: &Section, key: &Key) -> String {
    let path = section.path_of(key.name);
    let mut text = format!("{path}\n\n{}\n", key.summary);
    match key.support {
        Support::Full => {}
        Support::Ignored { reason, .. } => text.push_str(&format!("\nIt has no effect: {reason}.\n")),
        Support::Rejected { reason, .. } => text.push_str(&format!("\nIt is rejected: {reason}.\n")),
    }
    if !key.examples.is_empty() {
        text.push_str("\nExamples:\n");
        text.extend(
            key.examples
                .iter()
                .map(|example| format!("  {}: {example}\n", key.name)),
        );
    }
    if keys::SECTIONS.iter().any(|section| section.path == path) {
        text.push_str(&format!("\nList its keys with `k8s-cli explain {ROOT}.{path}`.\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use task::definition::keys;

    use super::{describe_key, describe_section, strip_root};

    #[test]
    fn keys_are_explained() {
        insta::assert_snapshot!(describe_section(&keys::JOB_RECOVERY));
        insta::assert_snapshot!(describe_key(
            &keys::RESOURCES,
            keys::RESOURCES.key("disk_size").unwrap()
        ));
    }

    #[test]
    fn a_path_may_begin_with_task() {
        assert_eq!(strip_root("task"), Some(""));
        assert_eq!(strip_root("task.resources"), Some("resources"));
        assert_eq!(strip_root("resources.cpus"), Some("resources.cpus"));
        assert_eq!(strip_root("tasks"), None);
    }
}
