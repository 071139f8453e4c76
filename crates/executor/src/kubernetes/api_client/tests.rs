//! Which calls are retried, and for how long.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clock::Clock;
use http::{Request, Response};
use http_body_util::Full;
use kube::client::Body;
use serde_json::json;
use tokio::time::Instant;
use tower::service_fn;

use super::ApiClient;
use crate::kubernetes::{self, ConfigMap};

/// Calls to a kube-apiserver that gives these answers in turn, repeating the last one, and the times at which it was
/// called.
fn api_client(answers: Vec<Response<String>>) -> (ApiClient, Arc<Mutex<Vec<Instant>>>) {
    let asked: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let (times, answers) = (Arc::clone(&asked), Arc::new(answers));
    let server = service_fn(move |_: Request<Body>| {
        let mut times = times.lock().unwrap();
        let answer = answers[times.len().min(answers.len() - 1)].clone();
        times.push(Instant::now());
        async move { Ok::<_, Infallible>(answer.map(|text| Full::new(bytes::Bytes::from(text)))) }
    });
    let client = kubernetes::client(server, "default");
    (ApiClient::new(client, "default".to_owned(), Clock::system()), asked)
}

fn answer(code: u16, retry_after: Option<&str>) -> Response<String> {
    let mut response = Response::builder().status(code);
    if let Some(seconds) = retry_after {
        response = response.header("retry-after", seconds);
    }
    let body = match code {
        200 => json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}}),
        code => json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "busy"}),
    };
    response.body(body.to_string()).unwrap()
}

/// Whether a call succeeded, and after how many seconds each try was made.
async fn tried(answers: Vec<Response<String>>) -> (bool, Vec<f64>) {
    let (client, asked) = api_client(answers);
    let start = Instant::now();
    let result = client.get::<ConfigMap>("read it", "one").await;
    let asked = asked.lock().unwrap();
    let times = asked.iter().map(|time| time.duration_since(start).as_secs_f64());
    (result.is_ok(), times.map(|time| (time * 10.0).round() / 10.0).collect())
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_busy_is_given_the_time_that_it_asks_for() {
    let busy = || answer(429, Some("4"));
    assert_eq!(tried(vec![busy(), answer(200, None)]).await, (true, vec![0.0, 4.0]));
    // A shorter time than our own pause changes nothing.
    let short = || answer(429, Some("0"));
    assert_eq!(
        tried(vec![short(), short(), answer(200, None)]).await,
        (true, vec![0.0, 0.1, 0.5])
    );
    let date = answer(503, Some("Wed, 21 Oct 2026 07:28:00 GMT"));
    assert_eq!(tried(vec![date, answer(200, None)]).await, (true, vec![0.0, 0.1]));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_the_limit_of_a_call() {
    let hour = || answer(429, Some("3600"));
    assert_eq!(tried(vec![hour()]).await, (false, vec![0.0]));
    let eight = || answer(429, Some("8"));
    assert_eq!(tried(vec![eight()]).await, (false, vec![0.0, 8.0, 16.0]));
    assert_eq!(tried(vec![answer(500, None)]).await, (false, vec![0.0, 0.1, 0.5, 2.0]));
    assert_eq!(tried(vec![answer(403, None)]).await, (false, vec![0.0]));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_never_answered_ends_in_time() {
    let silent =
        service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Full<bytes::Bytes>>, Infallible>>());
    let client = ApiClient::new(
        kubernetes::client(silent, "default"),
        "default".to_owned(),
        Clock::system(),
    );
    let start = Instant::now();
    assert!(client.get::<ConfigMap>("read it", "one").await.is_err());
    assert!(start.elapsed() <= Duration::from_secs(31), "{:?}", start.elapsed());
}

/// A kube-apiserver that does not answer in time is left to the cache, which must hear from it every few seconds.
#[tokio::test(start_paused = true)]
async fn only_an_api_server_that_says_so_is_not_ready() {
    for (code, is_ready) in [
        (200, true),
        (401, true),
        (403, true),
        (404, true),
        (500, false),
        (503, false),
    ] {
        let (client, _) = api_client(vec![answer(code, None)]);
        let checked = client.check_ready().await;
        assert_eq!(checked.is_ok(), is_ready, "{code}");
        if let Err(error) = checked {
            assert!(error.to_string().contains("busy"), "{error}");
        }
    }
    let silent =
        service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Full<bytes::Bytes>>, Infallible>>());
    let client = kubernetes::client(silent, "default");
    let start = Instant::now();
    ApiClient::new(client, "default".to_owned(), Clock::system())
        .check_ready()
        .await
        .unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "a kubelet's probe waits for a second"
    );
}
