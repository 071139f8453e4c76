//! Parses query parameters.

use crate::field_errors::FieldErrors;
use crate::object::Kind;
use crate::selector::{FieldSelector, LabelSelector};
use crate::status_error::StatusError;
use crate::store::{ContinueToken, WriteMode};

/// API group of the options types, e.g., of `CreateOptions`.
pub(super) const META: &str = "meta.k8s.io";

/// Decoded query parameters.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// Adds a requirement to the field selector.
    pub(crate) fn add_field_requirement(&mut self, field: &str, value: &str) {
        let known = self
            .get("fieldSelector")
            .map(|text| format!("{text},"))
            .unwrap_or_default();
        let selector = format!("{known}{field}={value}");
        self.0.retain(|(key, _)| key != "fieldSelector");
        self.0.push(("fieldSelector".to_owned(), selector));
    }

    /// A parameter; `None` if absent or empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// A boolean parameter; true if present without a value.
    pub(crate) fn flag(&self, name: &str) -> bool {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.is_some_and(|(_, value)| matches!(value.as_str(), "" | "1" | "t" | "T" | "true" | "True" | "TRUE"))
    }

    /// An integer parameter. The error is that of Go's `strconv`, like kube-apiserver's.
    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>, StatusError> {
        let number = self.get(name).map(str::parse).transpose();
        number.map_err(|_| {
            let text = self.get(name).unwrap_or_default();
            StatusError::bad_request(format!("strconv.ParseInt: parsing \"{text}\": invalid syntax"))
        })
    }

    pub(crate) fn label_selector(&self) -> Result<LabelSelector, StatusError> {
        LabelSelector::parse(self.get("labelSelector").unwrap_or_default())
    }

    pub(crate) fn field_selector(&self, kind: Kind) -> Result<FieldSelector, StatusError> {
        FieldSelector::parse(kind, self.get("fieldSelector").unwrap_or_default())
    }

    /// The `resourceVersion` that the client has seen.
    pub(crate) fn resource_version(&self) -> Result<Option<i64>, StatusError> {
        let Some(text) = self.get("resourceVersion") else {
            return Ok(None);
        };
        let version = text.parse().map_err(|_| {
            let why = "strconv.ParseUint: parsing \"".to_owned() + text + "\": invalid syntax";
            StatusError::bad_request(format!("resourceVersion: Invalid value: \"{text}\": {why}"))
        });
        version.map(Some)
    }

    /// Where a paginated list continues.
    pub(crate) fn continue_token(&self) -> Result<Option<ContinueToken>, StatusError> {
        self.get("continue").map(decode_continue).transpose()
    }

    /// Whether to check the request without storing anything (`dryRun`).
    pub(crate) fn write_mode(&self, options: &str) -> Result<WriteMode, StatusError> {
        match self.get("dryRun") {
            None => Ok(WriteMode::Commit),
            Some("All") => Ok(WriteMode::DryRun),
            Some(other) => {
                let mut errors = FieldErrors::default();
                errors.unsupported("dryRun", other, &["All"]);
                Err(StatusError::invalid_option(options, META, &errors))
            }
        }
    }
}

/// Encodes the `continue` token of the next page.
pub(super) fn encode_continue(next: &ContinueToken) -> String {
    format!("{}.{}.{}", next.version, next.namespace, next.name)
}

fn decode_continue(text: &str) -> Result<ContinueToken, StatusError> {
    let mut parts = text.splitn(3, '.');
    let mut part = || parts.next();
    let read = (|| {
        Some(ContinueToken {
            version: part()?.parse().ok()?,
            namespace: part()?.to_owned(),
            name: part()?.to_owned(),
        })
    })();
    read.ok_or_else(|| StatusError::bad_request("continue key is not valid: not issued by this server"))
}
