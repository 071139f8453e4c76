//! Getting one object, and listing many.

use axum::response::Response;
use http::StatusCode;

use super::view::View;
use super::{Api, Call, answer, query};
use crate::refusal::Refusal;
use crate::store::{self, Query};

/// One object.
pub(super) async fn get(api: &Api, call: Call) -> Result<Response, Refusal> {
    let (namespace, name) = call.target.one();
    let (kind, namespace, name) = (call.target.kind, namespace.to_owned(), name.to_owned());
    let missing = Refusal::not_found(kind, &name);
    let found = api
        .store
        .read(move |connection| store::get(connection, kind, &namespace, &name))
        .await?;
    let object = found.ok_or(missing)?;
    Ok(answer::json(
        StatusCode::OK,
        View::accepted(&call.headers).one(kind, &object),
    ))
}

/// What to list.
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

/// Many objects.
pub(super) async fn list(api: &Api, call: Call) -> Result<Response, Refusal> {
    call.query.version()?;
    let wanted = wanted(&call)?;
    let kind = wanted.kind;
    let view = View::accepted(&call.headers);
    let body = api
        .store
        .read(move |connection| {
            let page = store::list(connection, &wanted)?;
            Ok(view.list(kind, &page.objects, page.version, page.next.as_ref().map(query::token)))
        })
        .await?;
    Ok(answer::json(StatusCode::OK, body))
}
