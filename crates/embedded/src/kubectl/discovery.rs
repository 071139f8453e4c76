//! Discovery documents and OpenAPI.

use k8s_openapi::Resource;
use k8s_openapi::api::policy::v1::Eviction;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIResource, APIResourceList};
use serde_json::{Map, Value, json};

use crate::object::Kind;

/// Minor version of the Kubernetes release that the engine imitates.
const MINOR: &str = "37";

/// A document about the API itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DiscoveryDocument {
    Versions,
    Groups,
    Group(String),
    Resources { group: String },
    Version,
    OpenApi,
    OpenApiOf { group: String },
}

pub(crate) fn document(document: &DiscoveryDocument) -> Value {
    match document {
        DiscoveryDocument::Versions => json!({
            "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [],
        }),
        DiscoveryDocument::Groups => {
            let groups: Vec<Value> = group_names().into_iter().map(api_group).collect();
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        }
        DiscoveryDocument::Group(name) => {
            let mut value = api_group(name);
            value["kind"] = "APIGroup".into();
            value["apiVersion"] = "v1".into();
            value
        }
        DiscoveryDocument::Resources { group } => json!(api_resources(group)),
        DiscoveryDocument::Version => json!({
            "major": "1", "minor": MINOR, "gitVersion": format!("v1.{MINOR}.0+k8s-cli"), "gitCommit": "",
            "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc",
            "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
        }),
        DiscoveryDocument::OpenApi => open_api_index(),
        DiscoveryDocument::OpenApiOf { group } => open_api(group),
    }
}

fn group_names() -> Vec<&'static str> {
    let mut names: Vec<&str> = Kind::ALL
        .into_iter()
        .map(|kind| kind.group())
        .filter(|group| !group.is_empty())
        .collect();
    names.dedup();
    names
}

/// Not k8s-openapi's `APIGroup`, which has a `kind` and an `apiVersion` in a list, too.
fn api_group(name: &str) -> Value {
    let version = json!({"groupVersion": format!("{name}/v1"), "version": "v1"});
    json!({"name": name, "versions": [version], "preferredVersion": version})
}

fn api_version(group: &str) -> String {
    match group {
        "" => "v1".to_owned(),
        group => format!("{group}/v1"),
    }
}

/// The short name that `kubectl` accepts, e.g., `po`.
const fn short_name(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Pod => Some("po"),
        Kind::PersistentVolumeClaim => Some("pvc"),
        Kind::ConfigMap => Some("cm"),
        Kind::Service => Some("svc"),
        Kind::Event => Some("ev"),
        Kind::Node => Some("no"),
        Kind::Namespace => Some("ns"),
        Kind::ResourceQuota => Some("quota"),
        Kind::ServiceAccount => Some("sa"),
        Kind::StorageClass => Some("sc"),
        Kind::Job | Kind::Secret => None,
    }
}

fn api_resources(group: &str) -> APIResourceList {
    let mut resources = Vec::new();
    for kind in Kind::ALL.into_iter().filter(|kind| kind.group() == group) {
        let entry = |name: String, verbs: &[&str]| APIResource {
            name,
            namespaced: kind.is_namespaced(),
            kind: kind.name().to_owned(),
            verbs: owned(verbs),
            ..APIResource::default()
        };
        resources.push(APIResource {
            singular_name: kind.singular(),
            short_names: short_name(kind).map(|name| owned(&[name])),
            categories: matches!(kind, Kind::Job | Kind::Pod | Kind::Service).then(|| owned(&["all"])),
            ..entry(
                kind.plural().to_owned(),
                &[
                    "create",
                    "delete",
                    "deletecollection",
                    "get",
                    "list",
                    "patch",
                    "update",
                    "watch",
                ],
            )
        });
        if kind.has_status() {
            resources.push(entry(format!("{}/status", kind.plural()), &["get", "patch", "update"]));
        }
        if kind == Kind::Pod {
            resources.push(entry("pods/log".to_owned(), &["get"]));
            resources.push(APIResource {
                kind: Eviction::KIND.to_owned(),
                group: Some(Eviction::GROUP.to_owned()),
                version: Some(Eviction::VERSION.to_owned()),
                ..entry("pods/eviction".to_owned(), &["create"])
            });
        }
    }
    APIResourceList {
        group_version: api_version(group),
        resources,
    }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn open_api_index() -> Value {
    let mut paths = Map::new();
    paths.insert("api/v1".to_owned(), json!({"serverRelativeURL": "/openapi/v3/api/v1"}));
    for group in group_names() {
        let url = format!("/openapi/v3/apis/{group}/v1");
        paths.insert(format!("apis/{group}/v1"), json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

/// The minimum that makes `kubectl` leave field validation to the server.
fn open_api(group: &str) -> Value {
    let base = match group {
        "" => "/api/v1".to_owned(),
        group => format!("/apis/{group}/v1"),
    };
    let mut paths = Map::new();
    for kind in Kind::ALL.into_iter().filter(|kind| kind.group() == group) {
        let within = if kind.is_namespaced() {
            "/namespaces/{namespace}"
        } else {
            ""
        };
        let names = json!({"group": group, "version": "v1", "kind": kind.name()});
        let parameters: Vec<Value> = ["dryRun", "fieldManager", "fieldValidation", "force"]
            .iter()
            .map(|name| json!({"name": name, "in": "query", "schema": {"type": "string"}}))
            .collect();
        let operation = json!({
            "parameters": parameters, "responses": {"200": {"description": "OK"}},
            "x-kubernetes-action": "patch", "x-kubernetes-group-version-kind": names,
        });
        paths.insert(
            format!("{base}{within}/{}/{{name}}", kind.plural()),
            json!({"patch": operation}),
        );
    }
    json!({
        "openapi": "3.0.0", "info": {"title": "Kubernetes", "version": format!("v1.{MINOR}.0")},
        "paths": paths, "components": {"schemas": schemas(group)},
    })
}

fn schemas(group: &str) -> Map<String, Value> {
    let of = |kind: Kind| {
        let name = format!(
            "io.k8s.api.{}.v1.{}",
            if group.is_empty() { "core" } else { group },
            kind.name()
        );
        let names = json!([{"group": group, "version": "v1", "kind": kind.name()}]);
        let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "x-kubernetes-group-version-kind": names});
        (name, any)
    };
    Kind::ALL
        .into_iter()
        .filter(|kind| kind.group() == group)
        .map(of)
        .collect()
}
