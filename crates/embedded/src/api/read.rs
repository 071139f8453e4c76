//! GET: single objects and lists.

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;

use super::path::Target;
use super::view::View;
use super::{Api, Call, answer, query};
use crate::refusal::Refusal;
use crate::store::{self, Query};

/// Reads the object that a path refers to, as stored.
pub(super) async fn fetch(api: &Api, target: &Target) -> Result<Bytes, Refusal> {
    let (namespace, name) = target.one();
    let (kind, namespace, name) = (target.kind, namespace.to_owned(), name.to_owned());
    let missing = Refusal::not_found(kind, &name);
    let found = api
        .store
        .read(move |connection| store::get(connection, kind, &namespace, &name))
        .await?;
    found.ok_or(missing)
}

pub(super) async fn get(api: &Api, call: Call) -> Result<Response, Refusal> {
    let object = fetch(api, &call.target).await?;
    let shown = View::accepted(&call.headers, api.clock).one(call.target.kind, &object);
    Ok(answer::json(StatusCode::OK, shown))
}

/// Builds the query of the store for a list.
pub(super) fn wanted(call: &Call) -> Result<Query, Refusal> {
    let kind = call.target.kind;
    let namespace = if kind.namespaced {
        call.target.namespace.clone()
    } else {
        None
    };
    let limit = call
        .query
        .number("limit")?
        .and_then(|limit| usize::try_from(limit).ok());
    Ok(Query {
        kind,
        namespace,
        labels: call.query.labels()?,
        fields: call.query.fields(kind)?,
        limit: limit.filter(|limit| *limit > 0),
        from: call.query.page()?,
    })
}

pub(super) async fn list(api: &Api, call: Call) -> Result<Response, Refusal> {
    // Lists always have the latest state, which satisfies any version; an invalid one is still an error.
    call.query.version()?;
    let wanted = wanted(&call)?;
    let kind = wanted.kind;
    let view = View::accepted(&call.headers, api.clock);
    let body = api
        .store
        .read(move |connection| {
            let page = store::list(connection, &wanted)?;
            Ok(view.list(kind, &page.objects, page.version, page.next.as_ref().map(query::token)))
        })
        .await?;
    Ok(answer::json(StatusCode::OK, body))
}
