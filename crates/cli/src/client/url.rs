//! The URL of the server.

use std::fmt;
use std::net::IpAddr;

use crate::error::{Error, Result};

/// The default port of a server.
const DEFAULT_PORT: u16 = 8000;

/// The URL of a server, without a trailing slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiUrl {
    text: String,
    /// The same without a password, for messages.
    without_password: String,
    host: String,
    is_default: bool,
}

impl ApiUrl {
    /// The given URL or, by default, that of a server on this machine.
    pub(crate) fn resolve(given: Option<&str>) -> Result<Self> {
        match given.filter(|text| !text.is_empty()) {
            Some(text) => Self::parse(text),
            None => Self::local_server(),
        }
    }

    fn parse(text: &str) -> Result<Self> {
        let invalid = || {
            Error::Usage(format!(
                "invalid server URL `{}`; expected, e.g., `http://host:8000`",
                redact_password(text)
            ))
        };
        let url = reqwest::Url::parse(text).map_err(|_| invalid())?;
        let host = url
            .host_str()
            .filter(|_| matches!(url.scheme(), "http" | "https"))
            .ok_or_else(invalid)?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(invalid());
        }
        let mut without_password = url.clone();
        if without_password.password().is_some() {
            let _ = without_password.set_password(None);
        }
        Ok(Self {
            text: url.as_str().trim_end_matches('/').to_owned(),
            without_password: without_password.as_str().trim_end_matches('/').to_owned(),
            host: host.to_owned(),
            is_default: false,
        })
    }

    /// Where `k8s-cli api start` starts a server. The server reads the same variable.
    fn local_server() -> Result<Self> {
        let port = match std::env::var("K8S_CLI_API_PORT") {
            Ok(text) => text
                .parse()
                .map_err(|_| Error::Usage(format!("invalid port `{text}` in K8S_CLI_API_PORT")))?,
            Err(_) => DEFAULT_PORT,
        };
        let mut url = Self::parse(&format!("http://127.0.0.1:{port}"))?;
        url.is_default = true;
        Ok(url)
    }

    /// Whether the user has not set a URL. Only then may the CLI start a server on demand.
    pub(crate) fn is_default(&self) -> bool {
        self.is_default
    }

    /// Whether the connection is without TLS.
    pub(crate) fn is_plain(&self) -> bool {
        self.text.starts_with("http:")
    }

    pub(crate) fn is_this_machine(&self) -> bool {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// The URL of `path` below this one.
    pub(crate) fn join(&self, path: &str) -> String {
        format!("{}{path}", self.text)
    }

    /// The port, explicit or implied by the scheme.
    pub(crate) fn port(&self) -> Option<u16> {
        reqwest::Url::parse(&self.text).ok()?.port_or_known_default()
    }
}

impl fmt::Display for ApiUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.without_password)
    }
}

/// Removes user name and password from text that is not a valid URL, for the error message. Cuts at the last `@`,
/// because a password may contain one.
fn redact_password(text: &str) -> String {
    let Some((before, host)) = text.rsplit_once('@') else {
        return text.to_owned();
    };
    let scheme = before.split_once("://").map(|(scheme, _)| format!("{scheme}://"));
    format!("{}…@{host}", scheme.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::ApiUrl;

    #[test]
    fn a_password_is_not_shown() {
        for text in [
            "http://alice:hunter2@host:1",
            "http://alice:hunter2@host/?a=1",
            "alice:hunter2@host",
            "http://alice:hunter2@",
            "htp://alice:hunter2@host",
            "http://alice:hunt@hunter2@host:port",
        ] {
            let shown = match ApiUrl::resolve(Some(text)) {
                Ok(url) => format!("{url}"),
                Err(error) => error.to_string(),
            };
            assert!(!shown.contains("hunt"), "{shown}");
        }
    }

    #[test]
    fn an_address_has_a_scheme_and_a_host() {
        for text in [
            "http://localhost:8000",
            "https://tasks.example.com/api/",
            "http://[::1]:1",
        ] {
            assert!(ApiUrl::resolve(Some(text)).is_ok(), "{text}");
        }
        for text in ["localhost:8000", "ftp://host", "nothing", "http://", "http://host/?a=1"] {
            assert!(ApiUrl::resolve(Some(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn paths_are_added_behind_one_slash() {
        let url = ApiUrl::resolve(Some("https://tasks.example.com/api/")).unwrap();
        assert_eq!(url.to_string(), "https://tasks.example.com/api");
    }

    #[test]
    fn this_machine_is_known_by_all_its_names() {
        let here = |text| ApiUrl::resolve(Some(text)).unwrap().is_this_machine();
        assert!(here("http://localhost:1") && here("http://127.0.0.2:1") && here("http://[::1]:1"));
        assert!(!here("http://example.com"));
    }
}
