//! The server, as the variables of the script name it, and single requests to it.

use std::path::PathBuf;
use std::time::Duration;

use files::{Content, ManifestHash};
use peer::PeerCheckLayer;
use reqwest::{Client, ClientBuilder, RequestBuilder, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use crate::error::Error;
use crate::origin::{ContentsRequest, Failure, Origin, Reply, chain, transient};
use crate::{ATTEMPT_HEADER, ATTEMPT_VARIABLE, TOKEN_VARIABLE, URL_FILE_VARIABLE, URL_VARIABLE, install};

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an answer may stall. The server waits for memory for up to 10 seconds.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// How much of an answer that is not from our server is shown, in characters.
const MAX_SHOWN: usize = 300;

/// The server.
pub(crate) struct Source {
    url: Url,
    token: String,
    /// The attempt of the task that this node belongs to.
    attempt: Option<u32>,
    pub(crate) client: Client,
}

/// Where the server is.
enum Url {
    Fixed(String),
    /// In a file, because it may change.
    InFile(PathBuf),
}

/// An error of our server.
#[derive(Deserialize)]
struct ErrorResponse {
    detail: Value,
}

impl Source {
    /// The server that the variables of this process name.
    pub(crate) fn from_environment() -> Result<Self, Error> {
        let variable = |name| match std::env::var(name) {
            Ok(text) if !text.is_empty() => Ok(Some(text)),
            Ok(_) | Err(std::env::VarError::NotPresent) => Ok(None),
            Err(_) => Err(Error::Variable {
                name,
                fault: "not valid UTF-8",
            }),
        };
        let missing = |name| Error::Variable { name, fault: "missing" };
        let url = match (variable(URL_VARIABLE)?, variable(URL_FILE_VARIABLE)?) {
            (Some(url), _) => Url::Fixed(url),
            (None, Some(path)) => Url::InFile(path.into()),
            (None, None) => return Err(missing(URL_VARIABLE)),
        };
        let token = variable(TOKEN_VARIABLE)?.ok_or_else(|| missing(TOKEN_VARIABLE))?;
        let attempt = variable(ATTEMPT_VARIABLE)?.map(|text| text.parse());
        let invalid = |_| Error::Variable {
            name: ATTEMPT_VARIABLE,
            fault: "not a number",
        };
        Self::new(url, token, attempt.transpose().map_err(invalid)?)
    }

    #[cfg(test)]
    pub(crate) fn at(url: &str, token: &str) -> Self {
        Self::of_attempt(1, url, token)
    }

    #[cfg(test)]
    pub(crate) fn of_attempt(attempt: u32, url: &str, token: &str) -> Self {
        Self::new(Url::Fixed(url.to_owned()), token.to_owned(), Some(attempt)).unwrap()
    }

    fn new(url: Url, token: String, attempt: Option<u32>) -> Result<Self, Error> {
        let builder = client(!matches!(&url, Url::Fixed(url) if url.starts_with("https:")))?;
        let builder = match url {
            // On the same machine, any account may listen on the port of a server that has ended.
            Url::InFile(_) if peer::REPORTS_OWNERS => builder.connector_layer(PeerCheckLayer),
            Url::InFile(_) | Url::Fixed(_) => builder,
        };
        Ok(Self {
            client: builder.build().map_err(|error| Error::Client(chain(&error)))?,
            url,
            token,
            attempt,
        })
    }

    async fn url(&self, set: &ManifestHash, what: &str) -> Result<String, Failure<Error>> {
        Ok(format!("{}/files/{set}/{what}", self.base().await?))
    }

    /// Whether an earlier attempt may have sent outputs. An older server does not say which attempt this is.
    pub(crate) fn has_predecessor(&self) -> bool {
        self.attempt.is_some_and(|attempt| attempt > 1)
    }

    /// The URL of the server, without a slash at the end.
    pub(crate) async fn base(&self) -> Result<String, Failure<Error>> {
        let url = match &self.url {
            Url::Fixed(url) => url.clone(),
            Url::InFile(path) => {
                let read = tokio::fs::read_to_string(path).await;
                // The server writes it when it starts.
                read.map_err(|error| Failure::Transient(format!("cannot read `{}`: {error}", path.display())))?
            }
        };
        Ok(url.trim().trim_end_matches('/').to_owned())
    }

    pub(crate) async fn send(&self, url: String, request: RequestBuilder) -> Result<Reply, Failure<Error>> {
        let request = match self.attempt {
            Some(attempt) => request.header(ATTEMPT_HEADER, attempt),
            None => request,
        };
        let response = request.bearer_auth(&self.token).send().await.map_err(transient)?;
        let status = response.status();
        if status.is_success() {
            return Ok(Reply { url, response });
        }
        let detail = detail(&response.text().await.unwrap_or_default());
        if is_transient(status) {
            return Err(Failure::Transient(format!("status {}: {detail}", status.as_u16())));
        }
        Err(Failure::Final(Error::Refused {
            url,
            status: status.as_u16(),
            detail,
        }))
    }
}

impl Origin for Source {
    type Error = Error;

    async fn manifest(&self, set: &ManifestHash) -> Result<Reply, Failure<Error>> {
        let url = self.url(set, "manifest").await?;
        let request = self.client.get(&url);
        self.send(url, request).await
    }

    async fn contents(&self, set: &ManifestHash, contents: &[Content]) -> Result<Reply, Failure<Error>> {
        let url = self.url(set, "contents").await?;
        let request = self.client.post(&url).json(&ContentsRequest::new(contents));
        self.send(url, request).await
    }
}

fn client(is_plain: bool) -> Result<ClientBuilder, Error> {
    let builder = Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        // A redirect could send the token to another host.
        .redirect(reqwest::redirect::Policy::none())
        // The proxy in the variables of a task is for the task, and not for its server.
        .no_proxy();
    if is_plain {
        // The image of a task may have no certificates, which would be an error.
        Ok(with_name(with_dns(builder)).tls_certs_only([]))
    } else {
        with_own_parts(builder)
    }
}

/// A client with what this program brings along: its name, a resolver, and the certificates of authorities.
pub(crate) fn with_own_parts(builder: ClientBuilder) -> Result<ClientBuilder, Error> {
    let builder = with_name(with_dns(builder));
    let Some(certificates) = installed_certificates() else {
        return Ok(builder);
    };
    let certificates = reqwest::Certificate::from_pem_bundle(&certificates);
    let certificates = certificates.map_err(|error| Error::Client(chain(&error)))?;
    Ok(builder.tls_certs_only(certificates))
}

fn with_name(builder: ClientBuilder) -> ClientBuilder {
    builder.user_agent(concat!("k8s-cli-helper/", env!("CARGO_PKG_VERSION")))
}

#[cfg(feature = "dns")]
fn with_dns(builder: ClientBuilder) -> ClientBuilder {
    builder.dns_resolver(dns::Resolver::default())
}

#[cfg(not(feature = "dns"))]
fn with_dns(builder: ClientBuilder) -> ClientBuilder {
    builder
}

/// The certificates that were installed with this program.
fn installed_certificates() -> Option<Vec<u8>> {
    let program = std::env::current_exe().ok()?;
    std::fs::read(program.with_file_name(install::CERTIFICATES)).ok()
}

/// Whether the same request may get another answer later.
pub(crate) fn is_transient(status: StatusCode) -> bool {
    // A full store stays full.
    status.is_server_error() && status != StatusCode::INSUFFICIENT_STORAGE || matches!(status.as_u16(), 408 | 425 | 429)
}

/// What an answer says about a failure.
fn detail(body: &str) -> String {
    let error = serde_json::from_str(body).map(|ErrorResponse { detail }| detail);
    match error {
        Ok(Value::String(text)) => text,
        // Errors of validation; the first one is enough.
        Ok(Value::Array(errors)) if errors.first().is_some_and(|error| error["msg"].is_string()) => {
            let message = errors[0]["msg"].as_str().unwrap_or_default();
            message.strip_prefix("Value error, ").unwrap_or(message).to_owned()
        }
        _ => body.chars().take(MAX_SHOWN).collect(),
    }
}

/// Resolves names without the C library, which cannot do it in a static binary.
#[cfg(feature = "dns")]
mod dns {
    use std::net::SocketAddr;
    use std::sync::{Arc, OnceLock};

    use hickory_resolver::TokioResolver;
    use reqwest::dns::{Addrs, Name, Resolve, Resolving};

    #[derive(Default)]
    pub(super) struct Resolver {
        /// Made when it is needed: an address needs none.
        resolver: Arc<OnceLock<TokioResolver>>,
    }

    impl Resolve for Resolver {
        fn resolve(&self, name: Name) -> Resolving {
            let known = Arc::clone(&self.resolver);
            Box::pin(async move {
                let resolver = match known.get() {
                    Some(resolver) => resolver,
                    None => {
                        let made = TokioResolver::builder_tokio()?.build()?;
                        known.get_or_init(|| made)
                    }
                };
                let found: Vec<_> = resolver.lookup_ip(name.as_str()).await?.iter().collect();
                // The port is that of the URL.
                let addresses = found.into_iter().map(|address| SocketAddr::new(address, 0));
                Ok(Box::new(addresses) as Addrs)
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::detail;

    #[test]
    fn the_reason_of_the_server_is_shown_and_a_page_of_a_proxy_is_cut() {
        assert_eq!(detail(r#"{"detail":"no such file set"}"#), "no such file set");
        let invalid = r#"{"detail":[{"loc":["body"],"msg":"Value error, too large"}]}"#;
        assert_eq!(detail(invalid), "too large");
        assert_eq!(detail(&"<html>".repeat(1000)).len(), 300);
    }
}
