//! Invalid values in a task or a request, as Pydantic reports them.

use serde_json::Value;
use task::definition::keys;

/// A value that the server rejected.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
pub(crate) struct FieldError {
    /// Pydantic's error type, e.g., `extra_forbidden`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// The path to the value. The first step is `body`, `query`, `header`, or `path`.
    pub loc: Vec<Value>,
    pub msg: String,
}

impl FieldError {
    /// The path without its first step.
    pub(crate) fn path(&self) -> Vec<String> {
        let step = |step: &Value| step.as_str().map_or_else(|| step.to_string(), str::to_owned);
        self.loc.iter().skip(1).map(step).collect()
    }

    /// The same error in the value at another path.
    pub(crate) fn at(&self, path: &[String]) -> Self {
        let steps = path.iter().map(|step| Value::from(step.as_str()));
        Self {
            loc: self.loc.iter().take(1).cloned().chain(steps).collect(),
            ..self.clone()
        }
    }

    /// The message in the words of task files instead of Pydantic's.
    pub(crate) fn message(&self) -> String {
        match self.kind.as_str() {
            "extra_forbidden" => self.unknown_key_message(),
            "string_type" => self.with_shapes("expected text"),
            "dict_type" | "model_attributes_type" => self.with_shapes("expected keys with values"),
            "list_type" => self.with_shapes("expected a list"),
            "int_type" | "int_parsing" | "int_from_float" => "expected a whole number".to_owned(),
            "bool_type" | "bool_parsing" => "expected `true` or `false`".to_owned(),
            "missing" => "required, but missing".to_owned(),
            _ => self.lowercase_message(),
        }
    }

    /// What is expected, with the shapes that the value of a key of the task file can have: the parser names only the one
    /// that it tried last.
    fn with_shapes(&self, plain: &str) -> String {
        if self.loc.first().is_none_or(|root| root != "body") {
            return plain.to_owned();
        }
        let mut path = self.path();
        path.retain(|step| !matches!(step.as_str(), "any_of" | "ordered") && step.parse::<usize>().is_err());
        let path = path.join(".");
        let (parent, name) = path.rsplit_once('.').unwrap_or(("", &path));
        let section = keys::SECTIONS.iter().find(|section| section.path == parent);
        let key = section.and_then(|section| section.key(name));
        let examples = key.map_or(&[][..], |key| key.examples);
        match examples {
            [] => plain.to_owned(),
            [only] => format!("{plain}, e.g., `{only}`"),
            [all @ .., last] => format!("expected, e.g., `{}`, or `{last}`", all.join("`, `")),
        }
    }

    /// Says why a known key is rejected, or which key an unknown one resembles.
    fn unknown_key_message(&self) -> String {
        match self.msg.split_once(": ") {
            Some((_, nearest)) if nearest.starts_with("did you mean") => format!("unknown key; {nearest}"),
            Some((_, reason)) => reason.to_owned(),
            None => "unknown key".to_owned(),
        }
    }

    /// The server's message in lower case and without Pydantic's prefix `Value error, `.
    fn lowercase_message(&self) -> String {
        let message = self.msg.strip_prefix("Value error, ").unwrap_or(&self.msg);
        let mut characters = message.chars();
        match characters.next() {
            Some(first) => first.to_lowercase().chain(characters).collect(),
            None => String::new(),
        }
    }

    /// Whether the name of the field is wrong and not its value.
    pub(crate) fn is_unknown_field(&self) -> bool {
        self.kind == "extra_forbidden"
    }
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.path().join(".");
        if path.is_empty() {
            formatter.write_str(&self.message())
        } else {
            write!(formatter, "`{path}`: {}", self.message())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::FieldError;

    #[test]
    fn a_field_error_names_the_path_and_says_it_in_our_words() {
        let text = |loc, msg: &str| {
            FieldError {
                kind: String::new(),
                loc,
                msg: msg.to_owned(),
            }
            .to_string()
        };
        let loc = vec![json!("body"), json!("resources"), json!("ports"), json!(1)];
        assert_eq!(text(loc, "Value error, no port"), "`resources.ports.1`: no port");
        assert_eq!(text(vec![json!("body")], "Field required"), "field required");
    }

    #[test]
    fn a_value_of_the_wrong_type_is_told_the_shapes_that_exist() {
        let message = |kind: &str, path: &str| {
            let steps = std::iter::once("body").chain(path.split('.'));
            let kind = kind.to_owned();
            FieldError {
                kind,
                loc: steps.map(|step| json!(step)).collect(),
                msg: String::new(),
            }
            .message()
        };
        assert_eq!(
            message("string_type", "resources.any_of.0.cpus"),
            "expected, e.g., `4`, `0.5`, `500m`, or `4+`"
        );
        assert_eq!(
            message("string_type", "setup"),
            "expected text, e.g., `pip install numpy`"
        );
        assert_eq!(message("string_type", "envs.A"), "expected text");
        assert_eq!(
            message("dict_type", "envs"),
            "expected keys with values, e.g., `{LR: 0.1}`"
        );
        for (kind, path, shape) in [
            ("string_type", "resources.image_id", "docker:"),
            ("string_type", "workdir", "{url: "),
            ("string_type", "resources.accelerators", "`{H100: 8}`"),
            ("model_attributes_type", "resources.job_recovery", "`FAILOVER`"),
        ] {
            assert!(message(kind, path).contains(shape), "{path}: {}", message(kind, path));
        }
    }

    #[test]
    fn pydantics_words_become_those_of_task_files() {
        let message = |kind: &str, msg: &str| {
            let (kind, msg) = (kind.to_owned(), msg.to_owned());
            FieldError {
                kind,
                loc: Vec::new(),
                msg,
            }
            .message()
        };
        assert_eq!(
            message("string_type", "Input should be a valid string"),
            "expected text"
        );
        let unknown = "Extra inputs are not permitted";
        assert_eq!(message("extra_forbidden", unknown), "unknown key");
        let nearest = format!("{unknown}: did you mean `cpus`?");
        assert_eq!(
            message("extra_forbidden", &nearest),
            "unknown key; did you mean `cpus`?"
        );
        assert_eq!(
            message("extra_forbidden", &format!("{unknown}: use `envs`")),
            "use `envs`"
        );
    }
}
