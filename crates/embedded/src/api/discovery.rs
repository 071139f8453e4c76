//! Discovery documents, OpenAPI, and access reviews.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::path::Document;
use super::{answer, write};
use crate::object::{KINDS, Kind};
use crate::refusal::Refusal;

/// Minor version of the Kubernetes release that the engine imitates.
const MINOR: &str = "37";

pub(super) fn document(document: &Document) -> Result<Response, Refusal> {
    let value = match document {
        Document::Health => {
            return Ok(answer::typed(
                StatusCode::OK,
                "text/plain; charset=utf-8",
                Body::from("ok"),
            ));
        }
        Document::Versions => json!({
            "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [],
        }),
        Document::Groups => {
            let groups: Vec<Value> = groups().into_iter().map(group).collect();
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        }
        Document::Group(name) => {
            let mut value = group(name);
            value["kind"] = "APIGroup".into();
            value["apiVersion"] = "v1".into();
            value
        }
        Document::Resources { group } => resources(group),
        Document::Version => json!({
            "major": "1", "minor": MINOR, "gitVersion": format!("v1.{MINOR}.0+k8s-cli"), "gitCommit": "",
            "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc",
            "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
        }),
        Document::OpenApi => open_api_index(),
        Document::OpenApiOf { group } => open_api(group),
    };
    Ok(answer::value(StatusCode::OK, &value))
}

fn groups() -> Vec<&'static str> {
    let mut names: Vec<&str> = KINDS
        .iter()
        .map(|kind| kind.group)
        .filter(|group| !group.is_empty())
        .collect();
    names.dedup();
    names
}

fn group(name: &str) -> Value {
    let version = json!({"groupVersion": format!("{name}/v1"), "version": "v1"});
    json!({"name": name, "versions": [version], "preferredVersion": version})
}

fn group_version(group: &str) -> String {
    match group {
        "" => "v1".to_owned(),
        group => format!("{group}/v1"),
    }
}

fn resources(group: &str) -> Value {
    let mut list = Vec::new();
    for kind in KINDS.iter().filter(|kind| kind.group == group) {
        let entry = |name: String, verbs: &[&str]| {
            json!({
                "name": name, "singularName": "", "namespaced": kind.namespaced, "kind": kind.kind, "verbs": verbs,
            })
        };
        let mut whole = entry(
            kind.plural.to_owned(),
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
        );
        whole["singularName"] = kind.singular.into();
        if !kind.short.is_empty() {
            whole["shortNames"] = json!(kind.short);
        }
        if matches!(kind.plural, "jobs" | "pods" | "services") {
            whole["categories"] = json!(["all"]);
        }
        list.push(whole);
        if kind.has_status {
            list.push(entry(format!("{}/status", kind.plural), &["get", "patch", "update"]));
        }
        if kind.plural == "pods" {
            list.push(entry("pods/log".to_owned(), &["get"]));
            let mut eviction = entry("pods/eviction".to_owned(), &["create"]);
            eviction["kind"] = "Eviction".into();
            eviction["group"] = "policy".into();
            eviction["version"] = "v1".into();
            list.push(eviction);
        }
    }
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version(group), "resources": list})
}

fn open_api_index() -> Value {
    let mut paths = Map::new();
    paths.insert("api/v1".to_owned(), json!({"serverRelativeURL": "/openapi/v3/api/v1"}));
    for group in groups() {
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
    for kind in KINDS.iter().filter(|kind| kind.group == group) {
        let within = if kind.namespaced { "/namespaces/{namespace}" } else { "" };
        let names = json!({"group": group, "version": "v1", "kind": kind.kind});
        let parameters: Vec<Value> = ["dryRun", "fieldManager", "fieldValidation", "force"]
            .iter()
            .map(|name| json!({"name": name, "in": "query", "schema": {"type": "string"}}))
            .collect();
        let operation = json!({
            "parameters": parameters, "responses": {"200": {"description": "OK"}},
            "x-kubernetes-action": "patch", "x-kubernetes-group-version-kind": names,
        });
        paths.insert(
            format!("{base}{within}/{}/{{name}}", kind.plural),
            json!({"patch": operation}),
        );
    }
    json!({
        "openapi": "3.0.0", "info": {"title": "Kubernetes", "version": format!("v1.{MINOR}.0")},
        "paths": paths, "components": {"schemas": schemas(group)},
    })
}

fn schemas(group: &str) -> Map<String, Value> {
    let of = |kind: &Kind| {
        let name = format!(
            "io.k8s.api.{}.v1.{}",
            if group.is_empty() { "core" } else { group },
            kind.kind
        );
        let names = json!([{"group": group, "version": "v1", "kind": kind.kind}]);
        let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "x-kubernetes-group-version-kind": names});
        (name, any)
    };
    KINDS.iter().filter(|kind| kind.group == group).map(of).collect()
}

/// Allows everything: the engine has a single user, and no RBAC.
pub(super) async fn access_review(body: Body) -> Result<Response, Refusal> {
    let bytes = write::body(body).await?;
    let mut review: Value = serde_json::from_slice(&bytes).map_err(|error| Refusal::bad_request(error.to_string()))?;
    review["kind"] = "SelfSubjectAccessReview".into();
    review["apiVersion"] = "authorization.k8s.io/v1".into();
    review["status"] = json!({"allowed": true, "reason": "the engine has a single user"});
    Ok(answer::value(StatusCode::CREATED, &review))
}
