//! Requests to Kubernetes that nothing disturbs: those of the kubelet, of a fellow tenant, and of whoever looks.

use std::pin::Pin;

use axum::Router;
use axum::body::{Body, to_bytes};
use futures::{Stream, StreamExt, stream};
use http::{Method, Request, header};
use serde_json::Value;
use tower::ServiceExt;

/// Where the Jobs are.
pub const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";
/// Where the pods are.
pub const PODS: &str = "/api/v1/namespaces/default/pods";
/// Where the ConfigMaps are.
pub const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// Where the events are.
pub const EVENTS: &str = "/api/v1/namespaces/default/events";

/// The API, without a network before it.
#[derive(Clone)]
pub struct Direct(Router);

impl Direct {
    /// Requests to this API.
    pub fn new(router: Router) -> Self {
        Self(router)
    }

    /// Makes a request; the object, or the refusal. A patch is a strategic one: conditions are merged by their types.
    pub async fn ask(&self, method: Method, path: &str, body: &Value) -> Result<Value, Value> {
        let content = match method {
            Method::PATCH => "application/strategic-merge-patch+json",
            _ => "application/json",
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, content)
            .body(Body::from(body.to_string()))
            .unwrap();
        let response = self.0.clone().oneshot(request).await.unwrap();
        let is_done = response.status().is_success();
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        if is_done { Ok(value) } else { Err(value) }
    }

    /// The events of a watch of everything at a path, from the beginning.
    pub async fn watch(&self, path: &str) -> Pin<Box<dyn Stream<Item = Value> + Send>> {
        let uri = format!("{path}?watch=true&resourceVersion=0&timeoutSeconds=100000");
        let request = Request::get(uri).body(Body::empty()).unwrap();
        let response = self.0.clone().oneshot(request).await.unwrap();
        let pieces = response.into_body().into_data_stream();
        // The engine gives whole lines.
        let events = pieces.flat_map(|piece| {
            let piece = piece.unwrap();
            let lines = piece.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            let events: Vec<Value> = lines.map(|line| serde_json::from_slice(line).unwrap()).collect();
            stream::iter(events)
        });
        Box::pin(events)
    }
}
