//! A proxy between a server and its Kubernetes that can drop all data, as a network or a load balancer may.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kube::config::Kubeconfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Forwards connections to a Kubernetes API until it holds them.
pub struct Proxy {
    held: Arc<watch::Sender<u64>>,
    kubeconfig: PathBuf,
}

impl Proxy {
    /// Starts a proxy for the Kubernetes API of a kubeconfig.
    pub async fn start(kubeconfig: &Path) -> Self {
        let mut config = Kubeconfig::read_from(kubeconfig).unwrap();
        let cluster = config.clusters[0].cluster.as_mut().unwrap();
        let server = cluster.server.clone().unwrap();
        let target = server.strip_prefix("https://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        cluster.server = Some(format!("https://{}", listener.local_addr().unwrap()));
        let path = std::env::temp_dir().join(format!("k8s-cli-e2e-proxy-{:016x}", fastrand::u64(..)));
        std::fs::write(&path, serde_json::to_vec(&config).unwrap()).unwrap();
        let held = Arc::new(watch::Sender::new(0));
        tokio::spawn(accept(listener, target, Arc::clone(&held)));
        Self { held, kubeconfig: path }
    }

    /// The kubeconfig of a server that uses the proxy.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Drops all data of open connections, which stay open. New connections work.
    pub fn silence(&self) {
        self.held.send_modify(|generation| *generation += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.kubeconfig);
    }
}

async fn accept(listener: TcpListener, target: String, held: Arc<watch::Sender<u64>>) {
    while let Ok((client, _)) = listener.accept().await {
        let (target, held) = (target.clone(), held.subscribe());
        tokio::spawn(async move {
            if let Ok(server) = TcpStream::connect(target).await {
                pass(client, server, held).await;
            }
        });
    }
}

async fn pass(client: TcpStream, server: TcpStream, mut held: watch::Receiver<u64>) {
    held.borrow_and_update();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let there = tokio::io::copy(&mut from_client, &mut to_server);
    let back = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let size = from_server.read(&mut buffer).await.unwrap_or(0);
            if held.has_changed().unwrap_or(true) {
                // Keep the sockets open, because the client would notice a closed connection.
                std::future::pending::<()>().await;
            }
            if size == 0 || to_client.write_all(&buffer[..size]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = there => {}
        () = back => {}
    }
}
