//! Parses request paths.

use percent_encoding::percent_decode_str;

use crate::kubectl::DiscoveryDocument;
use crate::object::Kind;
use crate::status_error::StatusError;

/// What a path refers to.
#[derive(Debug, PartialEq)]
pub(super) enum RequestPath {
    Resource(ResourcePath),
    Discovery(DiscoveryDocument),
    /// `SelfSubjectAccessReview`: whether the user may do something.
    AccessReview,
    /// `/livez`.
    Liveness,
    /// `/readyz`, which fails while the store is not writable.
    Readiness,
}

/// A part of an object with requests of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subresource {
    Status,
    Log,
    Eviction,
}

impl Subresource {
    fn parse(name: &str, kind: Kind) -> Option<Self> {
        match name {
            "status" => kind.has_status().then_some(Self::Status),
            "log" => (kind == Kind::Pod).then_some(Self::Log),
            "eviction" => (kind == Kind::Pod).then_some(Self::Eviction),
            _ => None,
        }
    }
}

/// Objects of a kind, or one of them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ResourcePath {
    pub kind: Kind,
    /// `None` for all namespaces; empty for cluster-scoped kinds.
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub subresource: Option<Subresource>,
}

impl ResourcePath {
    /// Namespace and name of a single object.
    pub(crate) fn namespace_and_name(&self) -> (&str, &str) {
        (
            self.namespace.as_deref().unwrap_or_default(),
            self.name.as_deref().unwrap_or_default(),
        )
    }
}

pub(super) fn parse_path(path: &str) -> Result<RequestPath, StatusError> {
    let decoded: Vec<String> = path
        .split('/')
        .filter(|step| !step.is_empty())
        .map(|step| percent_decode_str(step).decode_utf8_lossy().into_owned())
        .collect();
    let steps: Vec<&str> = decoded.iter().map(String::as_str).collect();
    let known = |group: &str| Kind::ALL.into_iter().any(|kind| kind.group() == group);
    let document = match steps.as_slice() {
        ["api"] => DiscoveryDocument::Versions,
        ["apis"] => DiscoveryDocument::Groups,
        ["version"] => DiscoveryDocument::Version,
        ["healthz" | "livez"] => return Ok(RequestPath::Liveness),
        ["readyz"] => return Ok(RequestPath::Readiness),
        ["openapi", "v3"] => DiscoveryDocument::OpenApi,
        ["openapi", "v3", "api", "v1"] => DiscoveryDocument::OpenApiOf { group: String::new() },
        ["openapi", "v3", "apis", group, "v1"] if known(group) => DiscoveryDocument::OpenApiOf {
            group: (*group).to_owned(),
        },
        ["apis", group] if known(group) => DiscoveryDocument::Group((*group).to_owned()),
        ["api", "v1"] => DiscoveryDocument::Resources { group: String::new() },
        ["apis", group, "v1"] if known(group) => DiscoveryDocument::Resources {
            group: (*group).to_owned(),
        },
        ["apis", "authorization.k8s.io", "v1", "selfsubjectaccessreviews"] => return Ok(RequestPath::AccessReview),
        ["api", "v1", rest @ ..] => return parse_resource("", rest),
        ["apis", group, "v1", rest @ ..] => return parse_resource(group, rest),
        _ => return Err(StatusError::no_such_path()),
    };
    Ok(RequestPath::Discovery(document))
}

fn parse_resource(group: &str, steps: &[&str]) -> Result<RequestPath, StatusError> {
    let find = |plural: &str, namespaced: bool| {
        Kind::ALL
            .into_iter()
            .find(|kind| kind.group() == group && kind.plural() == plural && (kind.is_namespaced() || !namespaced))
            .ok_or_else(StatusError::no_such_path)
    };
    let owned = |text: &&str| (*text).to_owned();
    let (kind, namespace, rest) = match steps {
        // `namespaces/NAME/status` is a subresource of the namespace, not a kind within it.
        ["namespaces", namespace, plural, rest @ ..] if !matches!(*plural, "status" | "finalize") => {
            (find(plural, true)?, Some((*namespace).to_owned()), rest)
        }
        [plural, rest @ ..] => {
            let kind = find(plural, false)?;
            if kind.is_namespaced() && !rest.is_empty() {
                return Err(StatusError::no_such_path());
            }
            (kind, (!kind.is_namespaced()).then(String::new), rest)
        }
        [] => return Err(StatusError::no_such_path()),
    };
    let [name, subresource] = match rest {
        [] => [None, None],
        [name] => [Some(name), None],
        [name, subresource] => [Some(name), Some(subresource)],
        _ => return Err(StatusError::no_such_path()),
    };
    let subresource = match subresource {
        None => None,
        Some(name) => Some(Subresource::parse(name, kind).ok_or_else(StatusError::no_such_path)?),
    };
    Ok(RequestPath::Resource(ResourcePath {
        kind,
        namespace,
        name: name.map(owned),
        subresource,
    }))
}

#[cfg(test)]
mod tests {
    use super::{RequestPath, Subresource, parse_path};

    /// Resource, namespace, name, and subresource.
    type Parsed = (String, Option<String>, Option<String>, Option<Subresource>);

    fn parse(path: &str) -> Option<Parsed> {
        match parse_path(path) {
            Ok(RequestPath::Resource(target)) => Some((
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
            parse("/api/v1/namespaces/a/pods/b/log"),
            Some(("pods".into(), text("a"), text("b"), Some(Subresource::Log)))
        );
        assert_eq!(
            parse("/apis/batch/v1/jobs"),
            Some(("jobs.batch".into(), None, None, None))
        );
        assert_eq!(
            parse("/api/v1/nodes/x"),
            Some(("nodes".into(), text(""), text("x"), None))
        );
        assert_eq!(
            parse("/api/v1/namespaces/x"),
            Some(("namespaces".into(), text(""), text("x"), None))
        );
        assert_eq!(
            parse("/api/v1/namespaces/x/status").unwrap().3,
            Some(Subresource::Status)
        );
        for path in [
            "/api/v1/jobs",
            "/api/v1/pods/x",
            "/apis/batch/v2/jobs",
            "/api/v1/namespaces/a/nodes",
            "/x",
            "/api/v1/namespaces/a/pods/b/exec",
        ] {
            assert_eq!(parse(path), None, "{path}");
        }
    }
}
