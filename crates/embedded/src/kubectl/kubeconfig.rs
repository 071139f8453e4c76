//! Credentials for the engine's API: a certificate, a token, and the kubeconfig that contains both.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::ByteString;
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::files::{Fsync, private_file_options, rename_into_place};

/// The server's TLS configuration, and the clients' credentials. Persisted, so that kubeconfigs stay valid across
/// restarts.
pub(crate) struct Credentials {
    stored: StoredCredentials,
    pub tls: Arc<ServerConfig>,
}

/// The persisted part. It contains secrets, so the file is readable by its owner only.
#[derive(Serialize, Deserialize)]
struct StoredCredentials {
    /// PEM.
    certificate: String,
    /// DER; base64 in the file.
    certificate_der: ByteString,
    /// PKCS #8 in DER; base64 in the file.
    key: ByteString,
    token: String,
}

/// The bearer token that requests must present.
#[derive(Clone)]
pub(crate) struct BearerToken(Arc<str>);

impl BearerToken {
    /// Checks an `Authorization` header. The comparison does not stop at the first difference, so that its duration
    /// doesn't reveal how much of a guess is right.
    pub(crate) fn matches_header(&self, header: Option<&str>) -> bool {
        let Some(sent) = header.and_then(|text| text.strip_prefix("Bearer ")) else {
            return false;
        };
        let differences = sent
            .bytes()
            .zip(self.0.bytes())
            .fold(0, |all, (one, other)| all | (one ^ other));
        sent.len() == self.0.len() && differences == 0
    }
}

fn certificate_error(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Certificate(Box::new(error))
}

impl StoredCredentials {
    fn generate() -> Result<Self, Error> {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).map_err(certificate_error)?;
        Ok(Self {
            certificate: made.cert.pem(),
            certificate_der: ByteString(made.cert.der().to_vec()),
            key: ByteString(made.signing_key.serialize_der()),
            // 244 random bits, in characters that need no quoting in any format.
            token: format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple()),
        })
    }
}

impl Credentials {
    /// Loads the credentials from a directory, or creates them there.
    pub(crate) fn load_or_create(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("access.json");
        // A corrupt file is replaced with new credentials; kubeconfigs with the old ones stop working.
        let known = std::fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let stored = match known {
            Some(stored) => stored,
            None => {
                let stored = StoredCredentials::generate()?;
                let text = serde_json::to_string(&stored).map_err(certificate_error)?;
                replace_private_file(&path, &text).map_err(|source| Error::StateDir { path, source })?;
                stored
            }
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(stored.key.0.clone()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(certificate_error)?
            .with_no_client_auth()
            .with_single_cert(vec![stored.certificate_der.0.clone().into()], key)
            .map_err(certificate_error)?;
        Ok(Self {
            stored,
            tls: Arc::new(tls),
        })
    }

    pub(crate) fn token(&self) -> BearerToken {
        BearerToken(self.stored.token.as_str().into())
    }

    /// Writes a kubeconfig that is readable by its owner only.
    pub(crate) fn write_kubeconfig(&self, path: &Path, address: SocketAddr) -> io::Result<()> {
        let host = match address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let config = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "k8s-cli",
            "clusters": [{"name": "k8s-cli", "cluster": {
                "server": format!("https://{host}:{}", address.port()),
                "certificate-authority-data": ByteString(self.stored.certificate.clone().into_bytes()),
            }}],
            "users": [{"name": "k8s-cli", "user": {"token": self.stored.token}}],
            "contexts": [{"name": "k8s-cli", "context": {
                "cluster": "k8s-cli", "user": "k8s-cli", "namespace": "default",
            }}],
        });
        replace_private_file(path, &format!("{config:#}\n"))
    }
}

/// Replaces a file atomically, with mode 0600: other processes never read a partial file, and other users read nothing.
fn replace_private_file(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;
    let is_private = std::fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o077 == 0);
    if is_private && std::fs::read_to_string(path).is_ok_and(|known| known == text) {
        // The usual case. Not writing lets the server start while the disk is full.
        return Ok(());
    }
    let new_path = path.with_extension("new");
    // Left over from a crash. The mode applies to new files only, hence `create_new`.
    let _ = std::fs::remove_file(&new_path);
    let mut file = private_file_options().create_new(true).open(&new_path)?;
    file.write_all(text.as_bytes())?;
    // Without a sync, a power cut could leave an empty file; its replacement would have another token than the users'
    // kubeconfigs.
    rename_into_place(&file, &new_path, path, Fsync::Yes)
}
