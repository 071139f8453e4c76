//! Invalid values in a task or a request, as Pydantic reports them.

use serde_json::Value;

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

    /// The message in lower case and without Pydantic's prefix `Value error, `.
    pub(crate) fn message(&self) -> String {
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
}
