//! What is said about a key of the task file, and how a part of the file with unknown or unused keys is reported.

use serde_json::Value;

use crate::validation::{Fields, Validator};

/// A part of the task file.
#[derive(Debug)]
pub struct Section {
    /// Where it is in the file, e.g., `resources`; empty for the file itself.
    pub path: &'static str,
    /// What it describes.
    pub summary: &'static str,
    /// Its keys, in the order in which they are documented.
    pub keys: &'static [Key],
}

/// A key of a section.
#[derive(Debug)]
pub struct Key {
    /// Its name in the file.
    pub name: &'static str,
    /// What it sets.
    pub summary: &'static str,
    /// Values as they are written in YAML.
    pub examples: &'static [&'static str],
    /// What this server makes of it.
    pub support: Support,
}

/// What this server makes of a key.
#[derive(Debug, Clone, Copy)]
pub enum Support {
    /// It has the effect that the summary describes.
    Full,
    /// It is accepted with a warning.
    Ignored {
        /// Why it has no effect, or what to use instead.
        reason: &'static str,
        /// Checks its format.
        check: Check,
    },
    /// It is rejected, because without it something else would run.
    Rejected {
        /// What to use instead.
        reason: &'static str,
        /// Whether a value asks for nothing, and is accepted.
        is_nothing: fn(&Value) -> bool,
    },
}

/// Checks the format of a key without effect. Returns whether the value asks for something, so that a warning is due;
/// `None` if it reported an error.
pub type Check = fn(&Value, &mut Validator) -> Option<bool>;

pub(super) const fn full(name: &'static str, summary: &'static str, examples: &'static [&'static str]) -> Key {
    let support = Support::Full;
    Key {
        name,
        summary,
        examples,
        support,
    }
}

pub(super) const fn ignored(
    name: &'static str,
    summary: &'static str,
    examples: &'static [&'static str],
    reason: &'static str,
    check: Check,
) -> Key {
    let support = Support::Ignored { reason, check };
    Key {
        name,
        summary,
        examples,
        support,
    }
}

pub(super) const fn rejected(name: &'static str, summary: &'static str, reason: &'static str) -> Key {
    rejected_unless(name, summary, reason, Value::is_null)
}

/// A key that is rejected unless its value asks for nothing.
pub(super) const fn rejected_unless(
    name: &'static str,
    summary: &'static str,
    reason: &'static str,
    is_nothing: fn(&Value) -> bool,
) -> Key {
    let support = Support::Rejected { reason, is_nothing };
    Key {
        name,
        summary,
        examples: &[],
        support,
    }
}

impl Section {
    /// The key with this name.
    #[must_use]
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The path of one of its keys, e.g., `resources.cpus`.
    #[must_use]
    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            return key.to_owned();
        }
        format!("{}.{key}", self.path)
    }

    /// Parses a key without effect, in its place among the others: errors are reported in the order of parsing.
    pub(crate) fn ignore(&self, fields: &mut Fields<'_, '_>, name: &str) {
        let Some(key) = self.key(name) else { return };
        if let Support::Ignored { reason, check } = key.support
            && fields.optional(key.name, check) == Some(true)
        {
            fields.warn(format!("`{}` has no effect: {reason}", self.path_of(key.name)));
        }
    }

    /// Ends the parsing of this section: warns of keys without effect, and reports those that are unknown or rejected.
    pub(crate) fn finish(&self, mut fields: Fields<'_, '_>) {
        for key in self.keys {
            match key.support {
                Support::Rejected { is_nothing, .. } => fields.accept_if(key.name, is_nothing),
                _ if fields.is_parsed(key.name) => {}
                _ => self.ignore(&mut fields, key.name),
            }
        }
        fields.deny_unknown_fields(|name| match self.key(name)?.support {
            Support::Rejected { reason, .. } => Some(reason),
            Support::Full | Support::Ignored { .. } => None,
        });
    }
}
