//! Builds the OpenAPI document from the routes, and adds what all operations have in common.

use bytes::Bytes;
use serde_json::{Value, json};
use task::user;

use crate::extract::{IDEMPOTENCY_KEY_PATTERN, MAX_IDEMPOTENCY_KEY, MAX_LIMIT};
use crate::router;

/// Routes that do not require a user.
const PUBLIC: &[&str] = &["/", "/healthz", "/readyz", "/version", "/metrics"];

/// Routes that require the token of a task instead of a user.
const OF_TASKS: &[&str] = &[
    "/files/{file_set_id}/manifest",
    "/files/{file_set_id}/contents",
    "/outputs/contents",
    "/outputs/{file_set_id}",
];

/// Routes whose responses have an `ETag`.
const CONDITIONAL: &[&str] = &[
    "/tasks",
    "/tasks/{task_id}",
    "/groups/{group_id}",
    "/history",
    "/history/{task_id}",
    "/usage",
    "/volumes",
    "/volumes/{volume_id}",
    "/nodes",
    "/gpus",
];

/// Routes whose responses may have `Warning` headers.
const WITH_WARNINGS: &[&str] = &["/tasks/submit", "/groups/submit", "/history", "/usage"];

/// Routes that store files.
const UPLOADS: &[&str] = &[
    "/files/contents",
    "/files/{file_set_id}",
    "/outputs/contents",
    "/outputs/{file_set_id}",
];

/// The document as JSON. `max_nodes` is the limit of this server, and `root_path` the prefix that a proxy strips from
/// the paths of requests.
pub(crate) fn document(max_nodes: u32, root_path: &str) -> Bytes {
    let (_, openapi) = router::api();
    let mut document = serde_json::to_value(openapi).expect("the document can be encoded as JSON");
    document["info"] = json!({
        "title": "k8s-cli API",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "Runs tasks on Kubernetes.",
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    });
    document["servers"] = json!([{"url": if root_path.is_empty() { "/" } else { root_path }}]);
    document["tags"] = json!([
        {"name": "tasks", "description": "Submit, inspect, and stop tasks."},
        {"name": "groups", "description": "Submit, inspect, and stop tasks together: pipelines and sweeps."},
        {"name": "history", "description": "Inspect past tasks, which may have been deleted."},
        {"name": "files", "description": "Store files for tasks."},
        {"name": "volumes", "description": "Create, inspect, and delete volumes, which outlive tasks."},
        {"name": "cluster", "description": "What tasks run on."},
        {"name": "health", "description": "State of the server; requires no user."},
    ]);
    let components = &mut document["components"];
    components["schemas"]["TaskDefinition"]["properties"]["num_nodes"]["maximum"] = json!(max_nodes);
    let schemas = components["schemas"].as_object_mut().expect("the document has schemas");
    schemas.extend(error_schemas());
    components["headers"] = headers();
    components["responses"] = error_responses();
    components["securitySchemes"] = json!({"User": {
        "type": "apiKey",
        "in": "header",
        "name": "X-User",
        "description": format!(
            "The name of the user: 1 to {} bytes without control characters. It is matched exactly. The server does not \
             authenticate it. Behind a proxy that authenticates users, leave it empty: the proxy sets it.",
            user::MAX_BYTES
        ),
    }, "Task": {
        "type": "http",
        "scheme": "bearer",
        "description": "The token of a task, with which its nodes fetch its files and send its outputs.",
    }});
    let paths = document["paths"].as_object_mut().expect("the document has paths");
    for (path, operations) in paths {
        for (method, operation) in operations.as_object_mut().expect("a path has operations") {
            add_common_parts(path, method, operation);
        }
    }
    Bytes::from(serde_json::to_vec(&document).expect("the document can be encoded as JSON"))
}

/// Adds the security, parameters, and responses that all operations have in common.
fn add_common_parts(path: &str, method: &str, operation: &mut Value) {
    let is_public = PUBLIC.contains(&path);
    operation["security"] = match path {
        path if OF_TASKS.contains(&path) => json!([{"Task": []}]),
        _ if is_public => json!([]),
        _ => json!([{"User": []}]),
    };
    let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        constrain_parameter(parameter, path == "/history");
    }
    let has_body = operation.get("requestBody").is_some();
    let responses = &mut operation["responses"];
    for (_, response) in responses.as_object_mut().expect("an operation has responses") {
        if response.get("content").is_none() {
            response["content"] = json_content("ErrorResponse");
        }
    }
    if method == "get" && CONDITIONAL.contains(&path) {
        let headers = json!({"ETag": reference("headers", "ETag")});
        responses["200"]["headers"] = headers.clone();
        responses["304"] = json!({"description": "The client has the current content.", "headers": headers});
        add_parameter(operation, if_none_match());
    }
    if WITH_WARNINGS.contains(&path) {
        operation["responses"]["200"]["headers"]["Warning"] = reference("headers", "Warning");
    }
    let responses = &mut operation["responses"];
    let mut add = |status: &str, name: &str| responses[status] = reference("responses", name);
    add("400", "BadRequest");
    add("403", "Forbidden");
    if path == "/metrics" {
        add("503", "Unavailable");
    }
    if is_public {
        return;
    }
    if has_body {
        add("408", "RequestTimeout");
        add("413", "PayloadTooLarge");
        add("415", "UnsupportedMediaType");
    }
    add("422", "InvalidRequest");
    if path.ends_with("/logs") || path == "/tasks/events" {
        add("429", "TooManyRequests");
    }
    add("500", "ServerError");
    add("503", "Unavailable");
    if has_body && UPLOADS.contains(&path) {
        add("507", "InsufficientStorage");
    }
}

fn add_parameter(operation: &mut Value, parameter: Value) {
    match operation.get_mut("parameters").and_then(Value::as_array_mut) {
        Some(parameters) => parameters.push(parameter),
        None => operation["parameters"] = json!([parameter]),
    }
}

/// Adds constraints that the Rust types of parameters do not express, and removes those that they have by accident.
fn constrain_parameter(parameter: &mut Value, is_history: bool) {
    let is_query = parameter["in"] == "query";
    if is_query || parameter["in"] == "header" {
        let schema = &mut parameter["schema"];
        // As in FastAPI, an optional parameter can be omitted, but has no way to be null.
        if let Some(types) = schema["type"].as_array() {
            schema["type"] = types
                .iter()
                .find(|kind| *kind != "null")
                .cloned()
                .unwrap_or(Value::Null);
        }
        // The number of bits is that of the Rust type. The server takes larger numbers, too.
        if let Some(schema) = schema.as_object_mut() {
            schema.shift_remove("format");
        }
    }
    if is_query && parameter["name"] == "limit" {
        parameter["schema"]["minimum"] = json!(1);
        if is_history {
            parameter["schema"]["maximum"] = json!(MAX_LIMIT);
        }
    }
    if parameter["name"] == "Idempotency-Key" {
        parameter["schema"] = json!({
            "type": "string", "minLength": 1, "maxLength": MAX_IDEMPOTENCY_KEY, "pattern": IDEMPOTENCY_KEY_PATTERN,
        });
    }
}

fn if_none_match() -> Value {
    json!({
        "name": "If-None-Match",
        "in": "header",
        "description": "`ETag` of the content that the client has. If that is current, the response is 304.",
        "required": false,
        "schema": {"type": "string"},
    })
}

/// The headers of several responses.
fn headers() -> Value {
    json!({
        "ETag": {"description": "Identifies the content.", "schema": {"type": "string"}},
        "Retry-After": {"description": "Seconds after which to try again.", "schema": {"type": "integer", "minimum": 0}},
        "Warning": {
            "description": "One header for each field that has no effect, for each warning of Kubernetes, and for what may be \
                missing in the response.",
            "schema": {"type": "string"},
        },
    })
}

/// The error responses of several operations.
fn error_responses() -> Value {
    let response = |description: &str| json!({"description": description, "content": json_content("ErrorResponse")});
    let with_header = |description: &str, name: &str, header: Value| {
        let mut response = response(description);
        response["headers"] = json!({ name: header });
        response
    };
    let retry_after = || reference("headers", "Retry-After");
    let encodings = json!({"description": "What the server accepts: `identity`.", "schema": {"type": "string"}});
    json!({
        "BadRequest": response("The request violates HTTP, or its body is not valid UTF-8."),
        "Forbidden": response("The client's account, the host that the request names, or the token is not allowed."),
        "RequestTimeout": response("The body was not received in time."),
        "PayloadTooLarge": response("The body is too large."),
        "UnsupportedMediaType": with_header("The body is compressed.", "Accept-Encoding", encodings),
        "InvalidRequest": {
            "description": "The request is invalid; the response lists the errors.",
            "content": json_content("HTTPValidationError"),
        },
        "InsufficientStorage": response("The server, or the user's share of it, has no room for the files."),
        "TooManyRequests": with_header("The user has too many open streams of logs or events.", "Retry-After", retry_after()),
        "ServerError": response("The server or the cluster failed."),
        "Unavailable": with_header("The server has reached a limit; try again later.", "Retry-After", retry_after()),
    })
}

/// The schemas of errors, by name.
fn error_schemas() -> [(String, Value); 3] {
    let validation_error = json!({
        "type": "object",
        "description": "One error of a request, in FastAPI's format.",
        "required": ["type", "loc", "msg", "input"],
        "properties": {
            "type": {"type": "string", "description": "Machine-readable kind of the error."},
            "loc": {
                "type": "array",
                "description": "Where the error is: `body`, `query`, or `header`, then keys and indices.",
                "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
            },
            "msg": {"type": "string", "description": "Human-readable explanation."},
            "input": {"description": "The invalid value, which may be cut."},
            "ctx": {
                "type": "object",
                "description": "Parts of the explanation, such as a limit.",
                "additionalProperties": true,
            },
        },
    });
    let validation_errors = json!({
        "type": "object",
        "description": "The errors of an invalid request.",
        "required": ["detail"],
        "properties": {"detail": {"type": "array", "items": reference("schemas", "ValidationError")}},
    });
    let error = json!({
        "type": "object",
        "description": "An error.",
        "required": ["detail"],
        "properties": {"detail": {"type": "string", "description": "Human-readable explanation."}},
    });
    [
        ("ErrorResponse".to_owned(), error),
        ("HTTPValidationError".to_owned(), validation_errors),
        ("ValidationError".to_owned(), validation_error),
    ]
}

fn json_content(schema: &str) -> Value {
    json!({"application/json": {"schema": reference("schemas", schema)}})
}

fn reference(kind: &str, name: &str) -> Value {
    json!({"$ref": format!("#/components/{kind}/{name}")})
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    fn document() -> Value {
        serde_json::from_slice(&super::document(1000, "")).unwrap()
    }

    /// All objects of the document, with their paths.
    fn objects<'d>(path: &str, value: &'d Value, found: &mut Vec<(String, &'d Value)>) {
        let inside: Vec<(String, &Value)> = match value {
            Value::Object(fields) => {
                found.push((path.to_owned(), value));
                fields.iter().map(|(key, value)| (key.clone(), value)).collect()
            }
            Value::Array(items) => items
                .iter()
                .enumerate()
                .map(|(at, value)| (at.to_string(), value))
                .collect(),
            _ => Vec::new(),
        };
        // What is in an example is no part of the document.
        for (key, value) in inside.iter().filter(|(key, _)| key != "examples") {
            objects(&format!("{path}/{key}"), value, found);
        }
    }

    fn operations(document: &Value) -> impl Iterator<Item = (&String, &String, &Value)> {
        let paths = document["paths"].as_object().unwrap().iter();
        paths.flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().iter();
            methods.map(move |(method, operation)| (path, method, operation))
        })
    }

    #[test]
    fn the_document_is_what_it_was() {
        insta::assert_json_snapshot!(document());
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let mut found = Vec::new();
        objects("", &document, &mut found);
        for (path, value) in found {
            let Some(target) = value["$ref"].as_str() else {
                continue;
            };
            let target = target.strip_prefix('#').unwrap();
            assert!(document.pointer(target).is_some(), "{path}: {target}");
        }
    }

    /// Code generators fail on several types, or give the parts names of their own.
    #[test]
    fn a_schema_has_one_type_and_a_name() {
        let document = document();
        let mut found = Vec::new();
        objects("", &document, &mut found);
        for (path, value) in found {
            if let Some(types) = value["type"].as_array() {
                assert!(types.len() == 2 && types[1] == "null", "{path}: {types:?}");
            }
            let has_alternatives = ["oneOf", "anyOf", "allOf"].iter().any(|key| value.get(key).is_some());
            let is_known = path.ends_with("SubmitResponse") || path.ends_with("/ValidationError/properties/loc/items");
            assert!(!has_alternatives || is_known, "{path}");
            let is_named = path.matches('/').count() == 3 && path.starts_with("/components/schemas/");
            let is_object = value["type"] == "object" && value.get("properties").is_some();
            assert!(!is_object || is_named, "{path}");
        }
    }

    #[test]
    fn no_two_names_differ_only_in_case() {
        let document = document();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let names: BTreeSet<String> = schemas.keys().map(|name| name.to_lowercase()).collect();
        assert_eq!(names.len(), schemas.len());
        let ids: BTreeSet<&str> = operations(&document)
            .filter_map(|(_, _, operation)| operation["operationId"].as_str())
            .collect();
        assert_eq!(ids.len(), operations(&document).count());
    }

    #[test]
    fn every_operation_says_what_it_does_and_who_may_call_it() {
        let document = document();
        for (path, method, operation) in operations(&document) {
            assert!(
                operation["summary"].as_str().is_some_and(|text| !text.is_empty()),
                "{path}"
            );
            let is_public = operation["security"].as_array().unwrap().is_empty();
            assert_eq!(is_public, super::PUBLIC.contains(&path.as_str()), "{method} {path}");
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            for parameter in parameters {
                assert_ne!(parameter["name"], "X-User", "{path}");
                assert!(
                    parameter.get("example").is_none(),
                    "Swagger UI sends an example: {path}"
                );
            }
        }
    }
}
