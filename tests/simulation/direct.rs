//! Requests to Kubernetes without faults: those of the kubelet, of the other tenant, and of the checks.

use std::pin::Pin;

use axum::Router;
use axum::body::{Body, to_bytes};
use futures::{Stream, StreamExt, stream};
use http::{Method, Request, header};
use serde_json::Value;
use tower::ServiceExt;

/// Path of the Jobs.
pub(crate) const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";
/// Path of the pods.
pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";
/// Path of the ConfigMaps.
pub(crate) const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// Path of the events.
pub(crate) const EVENTS: &str = "/api/v1/namespaces/default/events";

/// A client of the Kubernetes API without a network in between.
#[derive(Clone)]
pub(crate) struct Direct(Router);

impl Direct {
    /// Creates a client.
    pub(crate) fn new(router: Router) -> Self {
        Self(router)
    }

    /// Sends a request and returns the object, or else the Status object of the error. Patches are strategic merge
    /// patches, which merge conditions by type.
    pub(crate) async fn send(&self, method: Method, path: &str, body: &Value) -> Result<Value, Value> {
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

    /// Watches all objects at a path, including existing ones.
    pub(crate) async fn watch(&self, path: &str) -> Pin<Box<dyn Stream<Item = Value> + Send>> {
        let uri = format!("{path}?watch=true&resourceVersion=0&timeoutSeconds=100000");
        let request = Request::get(uri).body(Body::empty()).unwrap();
        let response = self.0.clone().oneshot(request).await.unwrap();
        let pieces = response.into_body().into_data_stream();
        // Each chunk of the engine consists of whole lines.
        let events = pieces.flat_map(|piece| {
            let piece = piece.unwrap();
            let lines = piece.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            let events: Vec<Value> = lines.map(|line| serde_json::from_slice(line).unwrap()).collect();
            stream::iter(events)
        });
        Box::pin(events)
    }
}
