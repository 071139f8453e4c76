//! The `pods/log` subresource.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PodSpec, PodStatus};

use super::query::Query;
use super::request::{Api, ResourceRequest};
use super::{read, responses};
use crate::field_errors::FieldErrors;
use crate::kubelet::PodLogOptions;
use crate::object::{Object, add_seconds};
use crate::resources::{container_state, is_bound};
use crate::status_error::StatusError;

/// Streams a pod's log as plain text.
pub(super) async fn stream(api: &Api, request: ResourceRequest) -> Result<Response, StatusError> {
    let object = read::fetch_object(api, &request.target).await?;
    let pod = Object::decode(request.target.kind, &object)?;
    let options = log_options(&request.query, api.clock.now())?;
    check_log_exists(&pod, &request.query)?;
    if !is_bound(&pod) {
        // The pod is not scheduled yet, so there is no kubelet to ask. kube-apiserver responds with 204, too.
        return Ok(responses::with_content_type(
            StatusCode::NO_CONTENT,
            "text/plain",
            Body::empty(),
        ));
    }
    let Some(kubelet) = &api.kubelet else {
        // Without a kubelet, no container has written a log.
        return Ok(responses::with_content_type(
            StatusCode::OK,
            "text/plain",
            Body::empty(),
        ));
    };
    let reader = kubelet.read_log(pod.uid(), options);
    let stopping = api.stopping.clone();
    let body = futures::stream::unfold((reader, stopping), |(mut reader, stopping)| async move {
        // Followed logs may never end by themselves, so shutdown ends them.
        let next = tokio::select! {
            next = reader.next() => next,
            () = stopping.cancelled() => return None,
        };
        match next {
            Ok(bytes) => bytes.map(|bytes| (Ok(bytes), (reader, stopping))),
            Err(error) => Some((Err(error), (reader, stopping))),
        }
    });
    Ok(responses::with_content_type(
        StatusCode::OK,
        "text/plain",
        Body::from_stream(body),
    ))
}

/// Rejects a request for a log that doesn't exist, with Kubernetes' messages.
fn check_log_exists(pod: &Object, query: &Query) -> Result<(), StatusError> {
    let pod_name = pod.name();
    let spec: PodSpec = pod.spec()?;
    let container = spec.containers.first().map_or("", |container| &container.name);
    if let Some(asked) = query.get("container").filter(|asked| *asked != container) {
        return Err(StatusError::bad_request(format!(
            "container {asked} is not valid for pod {pod_name}"
        )));
    }
    if query.flag("previous") {
        return Err(StatusError::bad_request(format!(
            "previous terminated container \"{container}\" in pod \"{pod_name}\" not found"
        )));
    }
    if !is_bound(pod) {
        return Ok(());
    }
    let status: PodStatus = pod.status()?;
    let state = container_state(&status);
    let runs_or_ran = state.is_some_and(|state| state.running.is_some() || state.terminated.is_some());
    if !runs_or_ran {
        let reason = state.and_then(|state| state.waiting.as_ref()?.reason.as_deref());
        let reason = reason.unwrap_or("ContainerCreating");
        return Err(StatusError::bad_request(format!(
            "container \"{container}\" in pod \"{pod_name}\" is waiting to start: {reason}"
        )));
    }
    Ok(())
}

fn log_options(query: &Query, now: Timestamp) -> Result<PodLogOptions, StatusError> {
    let mut errors = FieldErrors::default();
    let mut count = |name: &str, least: i64| -> Result<Option<i64>, StatusError> {
        let number = query.number(name)?;
        if let Some(number) = number.filter(|number| *number < least) {
            let why = match least {
                0 => "must be greater than or equal to 0",
                _ => "must be greater than 0",
            };
            errors.invalid(name, number, why);
        }
        Ok(number)
    };
    let tail = count("tailLines", 0)?;
    let limit = count("limitBytes", 1)?;
    let seconds = count("sinceSeconds", 1)?;
    let mut since = None;
    if let Some(text) = query.get("sinceTime") {
        let time: Result<Timestamp, _> = text.parse();
        since = Some(time.map_err(|error| StatusError::bad_request(format!("sinceTime: {error}")))?);
        if seconds.is_some() {
            errors.forbidden("[]", "at most one of `sinceTime` or `sinceSeconds` may be specified");
        }
    }
    if !errors.is_empty() {
        return Err(StatusError::invalid_option("PodLogOptions", "", &errors));
    }
    if let Some(seconds) = seconds {
        since = Some(add_seconds(now, seconds.saturating_neg()));
    }
    let size = |number: Option<i64>| number.and_then(|number| usize::try_from(number).ok());
    Ok(PodLogOptions {
        follow: query.flag("follow"),
        timestamps: query.flag("timestamps"),
        since,
        tail: size(tail),
        limit: size(limit),
    })
}
