//! Where file sets come from: two requests, and how they fail.

use std::error::Error as _;
use std::future::Future;

use files::{Content, ContentHash, ManifestHash};
use reqwest::Response;
use serde::Serialize;

use crate::error::Error;

/// A server that sends file sets to clients that may have them.
pub trait Origin: Send + Sync + 'static {
    /// Why a request will not succeed.
    type Error: From<Error> + Send + 'static;

    /// Asks for the manifest of a file set.
    fn manifest(&self, set: &ManifestHash) -> impl Future<Output = Result<Reply, Failure<Self::Error>>> + Send;

    /// Asks for a pack of these contents of a file set.
    fn contents(
        &self,
        set: &ManifestHash,
        contents: &[Content],
    ) -> impl Future<Output = Result<Reply, Failure<Self::Error>>> + Send;
}

/// The answer to a request that succeeded.
#[derive(Debug)]
pub struct Reply {
    /// Where it is from, for messages.
    pub url: String,
    /// Its body is what was asked for.
    pub response: Response,
}

/// Why a request failed.
#[derive(Debug)]
pub enum Failure<E> {
    /// It may succeed later.
    Transient(String),
    /// It will fail again.
    Final(E),
}

/// What is said while a file set is fetched.
pub trait Observer: Send + Sync + 'static {
    /// The files have this many bytes.
    fn begin(&self, bytes: u64);

    /// This many of them are written, or were there before.
    fn written(&self, bytes: u64);

    /// Nothing has arrived for a while.
    fn wait(&self, why: &str);

    /// Something arrives again.
    fn resume(&self);
}

/// The body of a request for contents.
#[derive(Debug, Serialize)]
pub struct ContentsRequest<'a> {
    contents: Vec<&'a ContentHash>,
}

impl<'a> ContentsRequest<'a> {
    /// Asks for these contents.
    #[must_use]
    pub fn new(contents: &'a [Content]) -> Self {
        Self {
            contents: contents.iter().map(Content::hash).collect(),
        }
    }
}

pub(crate) fn transient<E>(error: reqwest::Error) -> Failure<E> {
    Failure::Transient(chain(&error.without_url()))
}

/// An error with its causes: that of `reqwest` alone does not say why.
pub(crate) fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
