//! The client for buckets and web servers: with the proxies of the task, unlike that for the server of the task.

use std::time::Duration;

use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use reqwest::Client;
use reqwest::redirect::Policy;

use crate::error::Error;
use crate::origin::chain;
use crate::source;

/// How long connecting, and each part of an answer, may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// The most redirects of a download, as many as browsers follow.
const MAX_REDIRECTS: usize = 20;

/// A client for files of web servers.
pub(super) fn for_web() -> Result<Client, Error> {
    client(|builder| builder.https_only(true).redirect(Policy::limited(MAX_REDIRECTS)))
}

/// Where S3 keeps a bucket, if it says so.
pub(super) async fn region(bucket: &str) -> Result<Option<String>, Error> {
    // The certificate of `*.s3.amazonaws.com` is for one label only.
    let url = if bucket.contains('.') {
        format!("https://s3.amazonaws.com/{bucket}")
    } else {
        format!("https://{bucket}.s3.amazonaws.com")
    };
    let client = client(|builder| builder.redirect(Policy::none()))?;
    // If it cannot be reached, that shows when the bucket is read.
    let response = client.head(url).send().await.ok();
    let region = response
        .as_ref()
        .and_then(|response| response.headers().get("x-amz-bucket-region"));
    Ok(region.and_then(|value| value.to_str().ok()).map(str::to_owned))
}

fn client(configure: impl Fn(reqwest::ClientBuilder) -> reqwest::ClientBuilder) -> Result<Client, Error> {
    let builder = Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT);
    let builder = source::with_own_parts(configure(builder))?;
    builder.build().map_err(|error| Error::Client(chain(&error)))
}

/// Makes the client for a bucket.
#[derive(Debug)]
pub(super) struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        // A store never redirects a signed request to where it may go.
        let client = client(|builder| builder.redirect(Policy::none()));
        let client = client.map_err(|error| object_store::Error::Generic {
            store: "client",
            source: Box::new(error),
        })?;
        Ok(HttpClient::new(Service(client)))
    }
}

/// Tells answers apart that will be the same again: the errors of `object_store` hide the status, at least of lists.
#[derive(Debug)]
struct Service(Client);

/// An answer that will be the same again.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the store answered with status {status}{}", if matches!(status, 300..400) { "; the bucket may be in another region, which `AWS_REGION` names" } else { "" })]
pub(super) struct RefusedByStore {
    pub status: u16,
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let response = self.0.call(request).await?;
        let status = response.status();
        // These are repeated, or conditions that `object_store` has errors for.
        let is_passed_on = matches!(status.as_u16(), 304 | 408 | 409 | 412 | 425 | 429);
        if (status.is_redirection() || status.is_client_error()) && !is_passed_on {
            let refused = RefusedByStore {
                status: status.as_u16(),
            };
            return Err(HttpError::new(HttpErrorKind::Unknown, refused));
        }
        Ok(response)
    }
}
