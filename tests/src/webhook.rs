//! An admission webhook, as another team of a shared cluster may have.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Json, State};
use axum::routing::post;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::{Cluster, eventually};

/// A webhook for every new object of one kind in one namespace, deleted on drop.
pub struct Webhook {
    name: String,
    cluster: Cluster,
    requests: Arc<AtomicUsize>,
}

/// The delay of the first requests; later ones are allowed immediately.
#[derive(Clone)]
struct Delays {
    /// Number of requests for objects that are persisted.
    requests: Arc<AtomicUsize>,
    /// Number of dry-run requests, which are allowed immediately.
    dry_runs: Arc<AtomicUsize>,
    first: usize,
    pause: Duration,
}

impl Webhook {
    /// Creates a webhook that delays each of the `first` creates of Jobs by `pause` and then allows it.
    pub async fn slow(cluster: &Cluster, first: usize, pause: Duration) -> Self {
        let key = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = key.cert.der().to_vec();
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from(certificate.clone())],
                PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap(),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, dry_runs) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let delays = Delays {
            requests: Arc::clone(&requests),
            dry_runs: Arc::clone(&dry_runs),
            first,
            pause,
        };
        let router = Router::new().route("/", post(review)).with_state(delays);
        tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(config)), router));
        let name = format!("e2e-{:08x}", fastrand::u32(..));
        let configuration = json!({
            "metadata": {"name": name},
            "webhooks": [{
                "name": format!("{name}.example.com"), "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "timeoutSeconds": 30,
                "clientConfig": {"url": format!("https://{address}/"), "caBundle": base64(key.cert.pem().as_bytes())},
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": cluster.namespace}},
                "rules": [{"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}],
            }],
        });
        let configuration: ValidatingWebhookConfiguration = serde_json::from_value(configuration).unwrap();
        let api = cluster.global::<ValidatingWebhookConfiguration>();
        api.create(&PostParams::default(), &configuration).await.unwrap();
        wait_until_in_effect(cluster, &dry_runs).await;
        Self {
            name,
            cluster: cluster.clone(),
            requests,
        }
    }

    /// The name by which kube-apiserver knows it.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}.example.com", self.name)
    }

    /// Number of requests so far.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// Deletes the webhook.
    pub async fn remove(&self) {
        let api = self.cluster.global::<ValidatingWebhookConfiguration>();
        let _ = api.delete(&self.name, &DeleteParams::default()).await;
    }
}

/// Waits until kube-apiserver, which learns about webhooks from a watch, calls it.
async fn wait_until_in_effect(cluster: &Cluster, dry_runs: &AtomicUsize) {
    let pod = json!({"restartPolicy": "Never", "containers": [{"name": "task", "image": "none"}]});
    let probe = json!({"metadata": {"name": "probe"}, "spec": {"template": {"spec": pod}}});
    let probe: Job = serde_json::from_value(probe).unwrap();
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    eventually(Duration::from_secs(30), "the webhook to be in effect", async || {
        cluster.api::<Job>().create(&params, &probe).await.unwrap();
        (dry_runs.load(Ordering::Relaxed) > 0).then_some(())
    })
    .await;
}

async fn review(State(delays): State<Delays>, Json(review): Json<Value>) -> Json<Value> {
    if review["request"]["dryRun"] == true {
        delays.dry_runs.fetch_add(1, Ordering::Relaxed);
    } else if delays.requests.fetch_add(1, Ordering::Relaxed) < delays.first {
        tokio::time::sleep(delays.pause).await;
    }
    let response = json!({"uid": review["request"]["uid"], "allowed": true});
    Json(json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}))
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, router: Router) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, router) = (acceptor.clone(), router.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let service = hyper_util::service::TowerToHyperService::new(router);
            let connection = hyper::server::conn::http1::Builder::new();
            let _ = connection
                .serve_connection(hyper_util::rt::TokioIo::new(stream), service)
                .await;
        });
    }
}

/// Encodes bytes as in Kubernetes objects.
fn base64(bytes: &[u8]) -> String {
    serde_json::to_value(k8s_openapi::ByteString(bytes.to_vec()))
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap()
}
