//! The `pods/log` subresource.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use jiff::Timestamp;

use super::query::Query;
use super::request::{Api, ResourceRequest};
use super::{read, responses};
use crate::field_errors::FieldErrors;
use crate::kubelet::PodLogOptions;
use crate::object::{Object, add_seconds};
use crate::status_error::StatusError;

/// Streams a pod's log as plain text.
pub(super) async fn stream(api: &Api, request: ResourceRequest) -> Result<Response, StatusError> {
    let object = read::fetch_object(api, &request.target).await?;
    let pod = Object {
        kind: request.target.kind,
        value: serde_json::from_slice(&object).map_err(StatusError::internal)?,
    };
    let options = log_options(&request.query, api.clock.now())?;
    check_log_exists(&pod, &request.query)?;
    if !pod.value["spec"]["nodeName"].is_string() {
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
    let reader = kubelet.read_log(&pod, options);
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
    let container = pod.value["spec"]["containers"][0]["name"].as_str().unwrap_or_default();
    if let Some(asked) = query.get("container").filter(|asked| *asked != container) {
        return Err(StatusError::bad_request(format!(
            "container {asked} is not valid for pod {}",
            pod.name()
        )));
    }
    if query.flag("previous") {
        return Err(StatusError::bad_request(format!(
            "previous terminated container \"{container}\" in pod \"{}\" not found",
            pod.name()
        )));
    }
    if !pod.value["spec"]["nodeName"].is_string() {
        return Ok(());
    }
    let state = &pod.value["status"]["containerStatuses"][0]["state"];
    let runs_or_ran = state["running"].is_object() || state["terminated"].is_object();
    if !runs_or_ran {
        let reason = state["waiting"]["reason"].as_str().unwrap_or("ContainerCreating");
        return Err(StatusError::bad_request(format!(
            "container \"{container}\" in pod \"{}\" is waiting to start: {reason}",
            pod.name()
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
