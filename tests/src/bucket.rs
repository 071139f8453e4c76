//! A bucket of a real S3-compatible server: moto, from the Python package `moto[server]`.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::Client;

use crate::eventually;

const PROGRAM: &str = "moto_server";

const NAME: &str = "archive";

/// How long the server may take to start: it imports a few hundred Python modules.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The most objects that [`Bucket::keys`] returns.
const MAX_KEYS: usize = 1000;

/// A bucket, gone with this value.
pub struct Bucket {
    child: Child,
    client: Client,
    address: SocketAddr,
}

impl Bucket {
    /// Starts the server and creates the bucket. Returns `None`, and prints the reason, if the server is not installed;
    /// if `K8S_CLI_E2E_PROXIES` is set, as in CI, the test fails instead.
    pub async fn start() -> Option<Self> {
        Self::start_on("127.0.0.1").await
    }

    /// Does the same at another address of this machine.
    pub async fn start_on(host: &str) -> Option<Self> {
        let host: IpAddr = host.parse().unwrap();
        let port = TcpListener::bind((host, 0)).unwrap().local_addr().unwrap().port();
        let started = Command::new(PROGRAM)
            .args(["--host", &host.to_string(), "--port", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = started else {
            assert!(
                std::env::var_os("K8S_CLI_E2E_PROXIES").is_none(),
                "`{PROGRAM}` is not installed; run `pip install 'moto[server]'`"
            );
            println!("skipped: `{PROGRAM}` is not installed");
            return None;
        };
        let bucket = Self {
            child,
            client: Client::builder().no_proxy().build().unwrap(),
            address: (host, port).into(),
        };
        eventually(START_LIMIT, "the bucket to be created", async || {
            let created = bucket.client.put(bucket.object("")).send().await.ok()?;
            created.status().is_success().then_some(())
        })
        .await;
        Some(bucket)
    }

    /// The address of the server.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a folder in the bucket.
    #[must_use]
    pub fn url(&self, folder: &str) -> String {
        format!("s3://{NAME}/{folder}")
    }

    /// The environment of a program that uses the bucket at this address.
    #[must_use]
    pub fn environment(&self, address: SocketAddr) -> Vec<(String, OsString)> {
        let variables = [
            ("AWS_ENDPOINT", format!("http://{address}")),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "key".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
        ];
        variables.map(|(name, value)| (name.to_owned(), value.into())).into()
    }

    /// Puts an object. The key is the path of a URL, so that it can be any.
    pub async fn put(&self, key: &str, text: impl Into<String>) {
        let sent = self
            .client
            .put(self.object(key))
            .body(text.into())
            .send()
            .await
            .unwrap();
        assert!(sent.status().is_success(), "{key}: {}", sent.status());
    }

    /// The keys of all objects, sorted.
    pub async fn keys(&self) -> Vec<String> {
        let request = self
            .client
            .get(self.object(&format!("?list-type=2&max-keys={MAX_KEYS}")));
        let list = request.send().await.unwrap().text().await.unwrap();
        assert!(list.contains("<IsTruncated>false</IsTruncated>"), "{list}");
        // Our keys have no characters that XML escapes.
        let keys = list
            .split("<Key>")
            .skip(1)
            .filter_map(|rest| rest.split("</Key>").next());
        keys.map(str::to_owned).collect()
    }

    fn object(&self, key: &str) -> String {
        format!("http://{}/{NAME}/{key}", self.address)
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
