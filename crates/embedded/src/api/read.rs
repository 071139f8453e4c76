//! GET: single objects and lists.

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;

use super::path::ResourcePath;
use super::representation::Representation;
use super::request::{Api, ResourceRequest};
use super::{query, responses};
use crate::status_error::StatusError;
use crate::store::{self, ListQuery};

/// Reads the object that a path refers to, as stored.
pub(super) async fn fetch_object(api: &Api, target: &ResourcePath) -> Result<Bytes, StatusError> {
    let (namespace, name) = target.namespace_and_name();
    let (kind, namespace, name) = (target.kind, namespace.to_owned(), name.to_owned());
    let missing = StatusError::not_found(kind, &name);
    let found = api
        .store
        .read(move |connection| store::get_object(connection, kind, &namespace, &name))
        .await?;
    found.ok_or(missing)
}

pub(super) async fn get(api: &Api, request: ResourceRequest) -> Result<Response, StatusError> {
    let object = fetch_object(api, &request.target).await?;
    let shown = Representation::from_accept(&request.headers, api.clock).encode(request.target.kind, &object);
    Ok(responses::json(StatusCode::OK, shown))
}

/// Builds the query of the store for a list.
pub(super) fn list_query(request: &ResourceRequest) -> Result<ListQuery, StatusError> {
    let kind = request.target.kind;
    let namespace = if kind.is_namespaced() {
        request.target.namespace.clone()
    } else {
        None
    };
    let limit = request
        .query
        .number("limit")?
        .and_then(|limit| usize::try_from(limit).ok());
    Ok(ListQuery {
        kind,
        namespace,
        labels: request.query.label_selector()?,
        fields: request.query.field_selector(kind)?,
        limit: limit.filter(|limit| *limit > 0),
        from: request.query.continue_token()?,
    })
}

pub(super) async fn list(api: &Api, request: ResourceRequest) -> Result<Response, StatusError> {
    // Lists always have the latest state, which satisfies any version; an invalid one is still an error.
    request.query.resource_version()?;
    let list_query = list_query(&request)?;
    let kind = list_query.kind;
    let representation = Representation::from_accept(&request.headers, api.clock);
    let body = api
        .store
        .read(move |connection| {
            let page = store::list_objects(connection, &list_query)?;
            Ok(representation.encode_list(
                kind,
                &page.objects,
                page.version,
                page.next.as_ref().map(query::encode_continue),
            ))
        })
        .await?;
    Ok(responses::json(StatusCode::OK, body))
}
