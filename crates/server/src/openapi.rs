//! Builds the OpenAPI document from the routes, and adds what all operations have in common.

use bytes::Bytes;
use serde_json::{Value, json};
use task::user;

use crate::router;

/// Excludes control characters, and spaces at either end.
const USER_PATTERN: &str = "^[!-~\\u00a0-\\uffff]([ -~\\u00a0-\\uffff]*[!-~\\u00a0-\\uffff])?$";

/// Matches a subset of the accepted values: a number with a unit, or a UTC timestamp.
const SINCE_PATTERN: &str = "^([1-9][0-9]{0,4}[smhd]|20[0-9]{2}-0[1-9]-[12][0-9]T[01][0-9]:[0-5][0-9]:[0-5][0-9]Z)$";

/// Routes that do not require a user.
const PUBLIC: &[&str] = &["/", "/healthz", "/readyz", "/version", "/metrics"];

/// The document as JSON. `max_nodes` is the limit of this server, and `root_path` the prefix that a proxy strips from
/// the paths of requests.
pub fn document(max_nodes: u32, root_path: &str) -> Bytes {
    let (_, openapi) = router::api();
    let mut document = serde_json::to_value(openapi).expect("the document can be encoded as JSON");
    document["info"] = json!({
        "title": "k8s-cli API",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "Runs tasks on Kubernetes.",
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    });
    if !root_path.is_empty() {
        document["servers"] = json!([{"url": root_path}]);
    }
    document["components"]["schemas"]["TaskDefinition"]["properties"]["num_nodes"]["maximum"] = json!(max_nodes);
    document["components"]["schemas"]["ValidationError"] = validation_error_schema();
    document["components"]["schemas"]["HTTPValidationError"] = json!({
        "type": "object",
        "required": ["detail"],
        "properties": {"detail": {"type": "array", "items": reference("ValidationError")}},
    });
    document["components"]["schemas"]["ErrorResponse"] = json!({
        "type": "object",
        "required": ["detail"],
        "properties": {"detail": {"type": "string"}},
    });
    let paths = document["paths"].as_object_mut().expect("the document has paths");
    for (path, operations) in paths {
        for (method, operation) in operations.as_object_mut().expect("a path has operations") {
            add_common_parts(path, method, operation);
        }
    }
    Bytes::from(serde_json::to_vec(&document).expect("the document can be encoded as JSON"))
}

/// Adds the parameters and responses that all operations have in common.
fn add_common_parts(path: &str, method: &str, operation: &mut Value) {
    let is_public = PUBLIC.contains(&path);
    if !is_public {
        let header = json!({
            "name": "X-User",
            "in": "header",
            "required": true,
            "description": "The name of the user. It is matched exactly.",
            // HTTP strips spaces at either end of a header value.
            "schema": {"type": "string", "minLength": 1, "maxLength": user::MAX_BYTES, "pattern": USER_PATTERN},
            "example": "alice@example.com",
        });
        match operation.get_mut("parameters").and_then(Value::as_array_mut) {
            Some(parameters) => parameters.push(header),
            None => operation["parameters"] = json!([header]),
        }
    }
    let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        constrain_parameter(parameter);
    }
    let has_body = operation.get("requestBody").is_some();
    let responses = &mut operation["responses"];
    for (_, response) in responses.as_object_mut().expect("an operation has responses") {
        if response.get("content").is_none() {
            response["content"] = json_content("ErrorResponse");
        }
    }
    if is_public {
        return;
    }
    let mut add = |status: &str, description: &str, schema: &str| {
        if responses.get(status).is_none() {
            responses[status] = json!({"description": description, "content": json_content(schema)});
        }
    };
    add(
        "403",
        "The client's account, or the host that the request names, is not allowed.",
        "ErrorResponse",
    );
    add("404", "Not found.", "ErrorResponse");
    add(
        "422",
        "The request is invalid; the response lists the errors.",
        "HTTPValidationError",
    );
    add("500", "The server or the cluster failed.", "ErrorResponse");
    add(
        "503",
        "The server has reached a limit; try again later.",
        "ErrorResponse",
    );
    if has_body {
        add("400", "The body is not valid UTF-8.", "ErrorResponse");
        add("408", "The body was not received in time.", "ErrorResponse");
        add("413", "The body is too large.", "ErrorResponse");
    }
    if path.ends_with("/logs") && method == "get" {
        add("429", "The user has too many open log streams.", "ErrorResponse");
    }
}

/// Adds constraints that the Rust types of parameters do not express.
fn constrain_parameter(parameter: &mut Value) {
    // As in FastAPI, an optional query parameter can be omitted, but has no way to be null.
    if parameter["in"] == "query"
        && let Some(types) = parameter["schema"]["type"].as_array()
    {
        let kind = types
            .iter()
            .find(|kind| *kind != "null")
            .cloned()
            .unwrap_or(Value::Null);
        parameter["schema"]["type"] = kind;
    }
    match parameter["name"].as_str() {
        Some("since") => parameter["schema"]["pattern"] = json!(SINCE_PATTERN),
        Some("Idempotency-Key") => {
            parameter["schema"] = json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"});
        }
        _ => {}
    }
}

fn validation_error_schema() -> Value {
    json!({
        "type": "object",
        "required": ["type", "loc", "msg", "input"],
        "properties": {
            "type": {"type": "string"},
            "loc": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}},
            "msg": {"type": "string"},
            "input": {},
            "ctx": {"type": "object"},
        },
    })
}

fn json_content(schema: &str) -> Value {
    json!({"application/json": {"schema": reference(schema)}})
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    #[test]
    fn the_document_is_what_it_was() {
        let document: Value = serde_json::from_slice(&super::document(1000, "")).unwrap();
        insta::assert_json_snapshot!(document);
    }
}
