//! An object of a bucket or a file of a web server: a part of it in one request.

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, GetRange};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, IF_RANGE, LAST_MODIFIED, RANGE};
use reqwest::{Client, Response, StatusCode, Url};

use super::Failure;
use super::address::shown;
use super::bucket::{Bucket, Store, refused};
use crate::error::Error;
use crate::origin::{chain, transient};
use crate::source::is_transient;

/// A file to copy.
pub(super) enum Origin {
    Object { store: Store, bucket: Bucket, key: Path },
    Web { client: Client, url: Url },
}

/// How far a file has come.
#[derive(Debug, Clone, Default)]
pub(super) struct Position {
    /// How many bytes are there.
    pub bytes: u64,
    /// What tells whether the rest is of the same file.
    pub version: Option<String>,
}

/// The rest of a file.
pub(super) struct Rest {
    /// Where it begins: at the position, or at the beginning if the file is another one now.
    pub from: u64,
    /// The size of the whole file, if it is known.
    pub total: Option<u64>,
    pub version: Option<String>,
    pub stream: BoxStream<'static, Result<Bytes, Failure>>,
}

/// Why the rest of a file is not there.
pub(super) enum Refusal {
    Failure(Failure),
    /// It is another file now.
    Changed,
    /// There is none.
    Missing(Error),
}

impl Origin {
    /// The rest of the file.
    pub(super) async fn rest(&self, position: &Position) -> Result<Rest, Refusal> {
        // Without a version, the rest may be that of another file.
        let known = position.version.as_ref().filter(|_| position.bytes > 0);
        match self {
            Self::Object { store, bucket, key } => {
                let options = GetOptions {
                    if_match: known.cloned(),
                    range: known.map(|_| GetRange::Offset(position.bytes)),
                    ..GetOptions::default()
                };
                let of_object = Bucket {
                    key: key.clone(),
                    ..bucket.clone()
                };
                let got = store.get_opts(key, options).await;
                let got = got.map_err(|error| object_refusal(&of_object, error))?;
                Ok(Rest {
                    from: got.range.start,
                    total: Some(got.meta.size),
                    version: got.meta.e_tag.clone(),
                    stream: got.into_stream().map_err(move |error| of_object.failure(error)).boxed(),
                })
            }
            Self::Web { client, url } => {
                let mut request = client.get(url.clone());
                if let Some(version) = known {
                    request = request
                        .header(RANGE, format!("bytes={}-", position.bytes))
                        .header(IF_RANGE, version);
                }
                let response = request
                    .send()
                    .await
                    .map_err(|error| Refusal::Failure(web_failure(error)))?;
                rest_of_response(url, response, position.bytes)
            }
        }
    }
}

fn object_refusal(object: &Bucket, error: object_store::Error) -> Refusal {
    let is_beyond = refused(&error).is_some_and(|refused| refused.status == 416);
    if is_beyond || matches!(error, object_store::Error::Precondition { .. }) {
        return Refusal::Changed;
    }
    match object.failure(error) {
        Failure::Final(error @ Error::Nothing { .. }) => Refusal::Missing(error),
        failure => Refusal::Failure(failure),
    }
}

fn rest_of_response(url: &Url, response: Response, asked_from: u64) -> Result<Rest, Refusal> {
    let status = response.status();
    let url = shown(url.as_str());
    let headers = response.headers();
    let length: Option<u64> = text(headers, CONTENT_LENGTH.as_str()).and_then(|length| length.parse().ok());
    let (from, total) = match status {
        StatusCode::OK => (0, length),
        // A cache may send less than what was asked for, or something else.
        StatusCode::PARTIAL_CONTENT => match text(headers, CONTENT_RANGE.as_str()).and_then(parse_range) {
            Some((from, total)) if from == asked_from => (from, Some(total)),
            _ => return Err(Refusal::Changed),
        },
        StatusCode::RANGE_NOT_SATISFIABLE => return Err(Refusal::Changed),
        StatusCode::NOT_FOUND | StatusCode::GONE => return Err(Refusal::Missing(Error::Nothing { url })),
        status if is_transient(status) => {
            let why = format!("`{url}` answered with status {}", status.as_u16());
            return Err(Refusal::Failure(Failure::Transient(why)));
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            let advice = "it needs a login; use `curl` in `setup`, with a secret of the task".to_owned();
            return Err(Refusal::Failure(Failure::Final(Error::Denied { url, advice })));
        }
        status => {
            let reason = format!("the server answered with status {}", status.as_u16());
            return Err(Refusal::Failure(Failure::Final(Error::Store { url, reason })));
        }
    };
    Ok(Rest {
        from,
        total,
        version: version(headers),
        stream: response.bytes_stream().map_err(transient).boxed(),
    })
}

/// The first byte of `bytes FROM-TO/SIZE`, and the size of the whole file.
fn parse_range(text: &str) -> Option<(u64, u64)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (from, _) = range.split_once('-')?;
    Some((from.trim().parse().ok()?, size.trim().parse().ok()?))
}

/// What a server takes for a condition of a range: a strong tag, or a time.
fn version(headers: &HeaderMap) -> Option<String> {
    let tag = text(headers, ETAG.as_str()).filter(|tag| !tag.starts_with("W/"));
    tag.or_else(|| text(headers, LAST_MODIFIED.as_str())).map(str::to_owned)
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// A redirect to a protocol without encryption, or in a circle, will be the same again.
fn web_failure(error: reqwest::Error) -> Failure {
    if error.is_redirect() || error.is_builder() {
        let url = error.url().map_or_else(String::new, |url| shown(url.as_str()));
        let reason = chain(&error.without_url());
        return Failure::Final(Error::Store { url, reason });
    }
    transient(error)
}
