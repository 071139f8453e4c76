//! Who may use the engine's address: a certificate, a token, and the kubeconfig with both.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::error::Error;

/// What a client needs, and what the server checks it with. Made anew at each start.
pub(crate) struct Access {
    certificate: String,
    token: Token,
    pub tls: Arc<ServerConfig>,
}

/// What a request must show.
#[derive(Clone)]
pub(crate) struct Token(Arc<str>);

impl Token {
    /// Whether an `Authorization` header shows it. The time this takes says nothing about it.
    pub fn is_shown(&self, header: Option<&str>) -> bool {
        let Some(shown) = header.and_then(|text| text.strip_prefix("Bearer ")) else {
            return false;
        };
        let differences = shown.bytes().zip(self.0.bytes()).fold(0, |all, (one, other)| all | (one ^ other));
        shown.len() == self.0.len() && differences == 0
    }
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Certificate(Box::new(error))
}

impl Access {
    /// A new key, certificate and token.
    pub fn new() -> Result<Self, Error> {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).map_err(failed)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .map_err(failed)?;
        Ok(Self {
            certificate: made.cert.pem(),
            // 244 random bits, in a form that no file format changes.
            token: Token(format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple()).into()),
            tls: Arc::new(tls),
        })
    }

    /// What a request must show.
    pub fn token(&self) -> Token {
        self.token.clone()
    }

    /// Writes the kubeconfig, for its owner's eyes.
    pub fn write(&self, path: &Path, address: SocketAddr) -> io::Result<()> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let host = match address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let config = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "k8s-cli",
            "clusters": [{"name": "k8s-cli", "cluster": {
                "server": format!("https://{host}:{}", address.port()),
                "certificate-authority-data": k8s_openapi::ByteString(self.certificate.clone().into_bytes()),
            }}],
            "users": [{"name": "k8s-cli", "user": {"token": *self.token.0}}],
            "contexts": [{"name": "k8s-cli", "context": {
                "cluster": "k8s-cli", "user": "k8s-cli", "namespace": "default",
            }}],
        });
        // Another process never reads a half.
        let new = path.with_extension("new");
        let _ = std::fs::remove_file(&new);
        let mut file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&new)?;
        writeln!(file, "{config:#}")?;
        std::fs::rename(new, path)
    }
}
