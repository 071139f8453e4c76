//! Parses query parameters.

use crate::object::{FieldSelector, Kind, LabelSelector};
use crate::refusal::{FieldErrors, Refusal};
use crate::store::Continue;

/// API group of the options types, e.g., of `CreateOptions`.
pub(super) const META: &str = "meta.k8s.io";

/// Decoded query parameters.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        Ok(Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect()))
    }

    /// Adds a requirement to the field selector.
    pub fn select(&mut self, field: &str, value: &str) {
        let known = self
            .get("fieldSelector")
            .map(|text| format!("{text},"))
            .unwrap_or_default();
        let selector = format!("{known}{field}={value}");
        self.0.retain(|(key, _)| key != "fieldSelector");
        self.0.push(("fieldSelector".to_owned(), selector));
    }

    /// A parameter; `None` if absent or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// A boolean parameter; true if present without a value.
    pub fn flag(&self, name: &str) -> bool {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.is_some_and(|(_, value)| matches!(value.as_str(), "" | "1" | "t" | "T" | "true" | "True" | "TRUE"))
    }

    /// An integer parameter. The error is that of Go's `strconv`, like kube-apiserver's.
    pub fn number(&self, name: &str) -> Result<Option<i64>, Refusal> {
        let number = self.get(name).map(str::parse).transpose();
        number.map_err(|_| {
            let text = self.get(name).unwrap_or_default();
            Refusal::bad_request(format!("strconv.ParseInt: parsing \"{text}\": invalid syntax"))
        })
    }

    pub fn labels(&self) -> Result<LabelSelector, Refusal> {
        LabelSelector::parse(self.get("labelSelector").unwrap_or_default())
    }

    pub fn fields(&self, kind: &Kind) -> Result<FieldSelector, Refusal> {
        FieldSelector::parse(kind, self.get("fieldSelector").unwrap_or_default())
    }

    /// The `resourceVersion` that the client has seen.
    pub fn version(&self) -> Result<Option<i64>, Refusal> {
        let Some(text) = self.get("resourceVersion") else {
            return Ok(None);
        };
        let version = text.parse().map_err(|_| {
            let why = "strconv.ParseUint: parsing \"".to_owned() + text + "\": invalid syntax";
            Refusal::bad_request(format!("resourceVersion: Invalid value: \"{text}\": {why}"))
        });
        version.map(Some)
    }

    /// Where a paginated list continues.
    pub fn page(&self) -> Result<Option<Continue>, Refusal> {
        self.get("continue").map(read_token).transpose()
    }

    /// Whether to check the request without storing anything.
    pub fn dry_run(&self, options: &str) -> Result<bool, Refusal> {
        match self.get("dryRun") {
            None => Ok(false),
            Some("All") => Ok(true),
            Some(other) => {
                let mut errors = FieldErrors::default();
                errors.unsupported("dryRun", other, &["All"]);
                Err(Refusal::invalid_option(options, META, errors))
            }
        }
    }
}

/// Encodes the `continue` token of the next page.
pub(super) fn token(next: &Continue) -> String {
    format!("{}.{}.{}", next.version, next.namespace, next.name)
}

fn read_token(text: &str) -> Result<Continue, Refusal> {
    let mut parts = text.splitn(3, '.');
    let mut part = || parts.next();
    let read = (|| {
        Some(Continue {
            version: part()?.parse().ok()?,
            namespace: part()?.to_owned(),
            name: part()?.to_owned(),
        })
    })();
    read.ok_or_else(|| Refusal::bad_request("continue key is not valid: not issued by this server"))
}
