//! Parses request paths.

use percent_encoding::percent_decode_str;

use crate::object::{KINDS, Kind};
use crate::refusal::Refusal;

/// What a path refers to.
#[derive(Debug, PartialEq)]
pub(super) enum Path {
    Objects(Target),
    Document(Document),
    /// `SelfSubjectAccessReview`: whether the user may do something.
    AccessReview,
    /// `/readyz`, which fails while the store is not writable.
    Readiness,
}

/// A document about the API itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Document {
    Versions,
    Groups,
    Group(String),
    Resources { group: String },
    Version,
    Health,
    OpenApi,
    OpenApiOf { group: String },
}

/// Objects of a kind, or one of them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Target {
    pub kind: &'static Kind,
    /// `None` for all namespaces; empty for cluster-scoped kinds.
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub subresource: Option<String>,
}

impl Target {
    /// Namespace and name of a single object.
    pub fn one(&self) -> (&str, &str) {
        (
            self.namespace.as_deref().unwrap_or_default(),
            self.name.as_deref().unwrap_or_default(),
        )
    }
}

pub(super) fn parse(path: &str) -> Result<Path, Refusal> {
    let decoded: Vec<String> = path
        .split('/')
        .filter(|step| !step.is_empty())
        .map(|step| percent_decode_str(step).decode_utf8_lossy().into_owned())
        .collect();
    let steps: Vec<&str> = decoded.iter().map(String::as_str).collect();
    let known = |group: &str| KINDS.iter().any(|kind| kind.group == group);
    let document = match steps.as_slice() {
        ["api"] => Document::Versions,
        ["apis"] => Document::Groups,
        ["version"] => Document::Version,
        ["healthz" | "livez"] => Document::Health,
        ["readyz"] => return Ok(Path::Readiness),
        ["openapi", "v3"] => Document::OpenApi,
        ["openapi", "v3", "api", "v1"] => Document::OpenApiOf { group: String::new() },
        ["openapi", "v3", "apis", group, "v1"] if known(group) => Document::OpenApiOf {
            group: (*group).to_owned(),
        },
        ["apis", group] if known(group) => Document::Group((*group).to_owned()),
        ["api", "v1"] => Document::Resources { group: String::new() },
        ["apis", group, "v1"] if known(group) => Document::Resources {
            group: (*group).to_owned(),
        },
        ["apis", "authorization.k8s.io", "v1", "selfsubjectaccessreviews"] => return Ok(Path::AccessReview),
        ["api", "v1", rest @ ..] => return objects("", rest),
        ["apis", group, "v1", rest @ ..] => return objects(group, rest),
        _ => return Err(Refusal::no_such_path()),
    };
    Ok(Path::Document(document))
}

fn objects(group: &str, steps: &[&str]) -> Result<Path, Refusal> {
    let find = |plural: &str, namespaced: bool| {
        KINDS
            .iter()
            .find(|kind| kind.group == group && kind.plural == plural && (kind.namespaced || !namespaced))
            .ok_or_else(Refusal::no_such_path)
    };
    let owned = |text: &&str| (*text).to_owned();
    let (kind, namespace, rest) = match steps {
        // `namespaces/NAME/status` is a subresource of the namespace, not a kind within it.
        ["namespaces", namespace, plural, rest @ ..] if !matches!(*plural, "status" | "finalize") => {
            (find(plural, true)?, Some((*namespace).to_owned()), rest)
        }
        [plural, rest @ ..] => {
            let kind = find(plural, false)?;
            if kind.namespaced && !rest.is_empty() {
                return Err(Refusal::no_such_path());
            }
            (kind, (!kind.namespaced).then(String::new), rest)
        }
        [] => return Err(Refusal::no_such_path()),
    };
    let [name, subresource] = match rest {
        [] => [None, None],
        [name] => [Some(name), None],
        [name, subresource] => [Some(name), Some(subresource)],
        _ => return Err(Refusal::no_such_path()),
    };
    let subresource = subresource.map(owned);
    let possible = match subresource.as_deref() {
        None => true,
        Some("status") => kind.has_status,
        Some("log" | "eviction") => kind.plural == "pods",
        Some(_) => false,
    };
    if !possible {
        return Err(Refusal::no_such_path());
    }
    Ok(Path::Objects(Target {
        kind,
        namespace,
        name: name.map(owned),
        subresource,
    }))
}

#[cfg(test)]
mod tests {
    use super::{Path, parse};

    /// Resource, namespace, name, and subresource.
    type Named = (String, Option<String>, Option<String>, Option<String>);

    fn read(path: &str) -> Option<Named> {
        match parse(path) {
            Ok(Path::Objects(target)) => Some((
                target.kind.resource(),
                target.namespace,
                target.name,
                target.subresource,
            )),
            _ => None,
        }
    }

    #[test]
    fn paths_name_what_they_name_in_kubernetes() {
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            read("/api/v1/namespaces/a/pods/b/log"),
            Some(("pods".into(), text("a"), text("b"), text("log")))
        );
        assert_eq!(
            read("/apis/batch/v1/jobs"),
            Some(("jobs.batch".into(), None, None, None))
        );
        assert_eq!(
            read("/api/v1/nodes/x"),
            Some(("nodes".into(), text(""), text("x"), None))
        );
        assert_eq!(
            read("/api/v1/namespaces/x"),
            Some(("namespaces".into(), text(""), text("x"), None))
        );
        assert_eq!(read("/api/v1/namespaces/x/status").unwrap().3, text("status"));
        for path in [
            "/api/v1/jobs",
            "/api/v1/pods/x",
            "/apis/batch/v2/jobs",
            "/api/v1/namespaces/a/nodes",
            "/x",
            "/api/v1/namespaces/a/pods/b/exec",
        ] {
            assert_eq!(read(path), None, "{path}");
        }
    }
}
