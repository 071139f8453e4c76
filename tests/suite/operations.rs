//! Health checks, metrics, API documents, startup, and shutdown of the server.

use std::process::Command;
use std::time::Duration;

use e2e::{Api, World, eventually, raw, raw_from, small_task};
use futures::StreamExt;
use k8s_openapi::api::batch::v1::Job;
use serde_json::json;
use task::TaskState;

/// How long a metric may take to show what has happened.
const LIMIT: Duration = Duration::from_secs(30);

/// The sum of a metric over its labels.
pub(crate) async fn metric(api: &Api, name: &str) -> Option<f64> {
    let response = api.request(reqwest::Method::GET, "/metrics").send().await.unwrap();
    let text = response.text().await.unwrap();
    let values: Vec<f64> = text
        .lines()
        .filter(|line| line.starts_with(&format!("{name} ")) || line.starts_with(&format!("{name}{{")))
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn health_checks_need_no_user() {
    let world = World::new().await;
    for path in ["/", "/healthz", "/readyz"] {
        let answer = raw(world.api.base(), "GET", path, &[], None);
        assert_eq!(
            (answer.status, answer.json()),
            (200, json!({"status": "ok", "service": "k8s-cli-api"})),
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_page_cannot_run_commands_on_this_machine() {
    // Also on a cluster, where the page would use the kubeconfig of the user.
    let world = World::own(&["--allowed-host", "tasks.example.com"]).await;
    let address = world.api.base().strip_prefix("http://").unwrap();
    for (host, status) in [
        ("rebound.example", 403),
        ("[::1].rebound.example", 403),
        ("tasks.example.com", 200),
        (address, 200),
        ("localhost:80", 200),
    ] {
        let answer = raw_from(world.api.base(), host, "GET", "/tasks", &[("X-User", b"alice")], None);
        assert_eq!(answer.status, status, "{host}");
        assert!(answer.header("x-request-id").is_some(), "{host}");
    }
    let metrics = raw(world.api.base(), "GET", "/metrics", &[], None);
    let metrics = String::from_utf8(metrics.body).unwrap();
    assert!(
        metrics.contains(r#"k8s_cli_http_requests_total{route="/tasks",method="GET",status="403"} 2"#),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_tasks_and_calls_have_metrics() {
    let world = World::own(&[]).await;
    let id = world.api.run("true").await;
    world.api.status(&id).await;
    world.api.try_status("none").await;
    for name in [
        "k8s_cli_http_requests_total",
        "k8s_cli_http_request_seconds_count",
        "k8s_cli_submit_seconds_count",
        "k8s_cli_kubernetes_call_seconds_count",
        "k8s_cli_watch_events_total",
        "k8s_cli_cache_objects",
        "k8s_cli_cache_in_sync",
        "k8s_cli_http_connections",
        "process_resident_memory_bytes",
    ] {
        eventually(LIMIT, name, async || {
            metric(&world.api, name).await.filter(|value| *value > 0.0)
        })
        .await;
    }
    let text = raw(world.api.base(), "GET", "/metrics", &[], None);
    let text = String::from_utf8(text.body).unwrap();
    assert!(!text.contains(&id), "no metric may have the ID of a task as a label");
    assert!(
        text.contains(r#"route="/tasks/{task_id}",method="GET",status="404""#),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_documents_need_no_internet_access() {
    let world = World::new().await;
    for (page, script) in [
        ("/docs", "/docs/assets/swagger-ui-bundle.js"),
        ("/redoc", "/redoc/assets/redoc.standalone.js"),
    ] {
        let answer = raw(world.api.base(), "GET", page, &[], None);
        let html = String::from_utf8(answer.body.clone()).unwrap();
        assert_eq!(answer.status, 200);
        // The links are relative, so that the pages work behind a prefix.
        let link = format!("\"{}?v=", script.trim_start_matches('/'));
        assert!(html.contains(&link) && !html.contains("http"), "{html}");
        let asset = raw(world.api.base(), "GET", script, &[], None);
        assert_eq!(
            (asset.status, asset.header("content-type")),
            (200, Some("text/javascript"))
        );
    }
    let document = raw(world.api.base(), "GET", "/openapi.json", &[], None).json();
    assert_eq!(document["openapi"], "3.1.0");
    // The routes of the specification, including its health check.
    for path in [
        "/",
        "/tasks",
        "/tasks/submit",
        "/tasks/stop",
        "/tasks/{task_id}",
        "/tasks/{task_id}/stop",
        "/tasks/{task_id}/logs",
        "/volumes",
        "/volumes/create",
        "/volumes/{volume_id}",
    ] {
        assert!(document["paths"].get(path).is_some(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_harmless_request_id_is_kept() {
    let world = World::new().await;
    let answer = raw(world.api.base(), "GET", "/", &[("X-Request-Id", b"abc-123")], None);
    assert_eq!(answer.header("x-request-id"), Some("abc-123"));
    let answer = raw(world.api.base(), "GET", "/", &[("X-Request-Id", b"a b\"c")], None);
    assert!(answer.header("x-request-id").is_some_and(|id| id.len() == 8));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_server_ends_open_streams() {
    let mut world = World::own(&[]).await;
    let id = world.api.run("echo up; sleep 600").await;
    let mut stream = world.api.follow(&id).await.bytes_stream();
    stream.next().await.unwrap().unwrap();
    let start = std::time::Instant::now();
    assert!(world.server().terminate());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(stream.next().await.is_none_or(|chunk| chunk.is_err()));
}

/// The exit code and the last line of standard error of a server that cannot start.
fn failed_start(environment: &[(&str, &str)], arguments: &[&str]) -> (Option<i32>, String) {
    let server = std::env::current_exe()
        .unwrap()
        .ancestors()
        .nth(2)
        .unwrap()
        .join("k8s-cli-api");
    let mut command = Command::new(std::env::var_os("K8S_CLI_API_BIN").map_or(server, Into::into));
    command.args(["--port", "0"]).args(arguments).env_remove("KUBECONFIG");
    for (name, value) in environment {
        command.env(name, value);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), text.lines().last().unwrap_or_default().to_owned())
}

#[test]
fn a_server_without_a_usable_cluster_exits_with_an_error() {
    let directory = std::env::temp_dir().join(format!("k8s-cli-{:x}", fastrand::u64(..)));
    std::fs::create_dir(&directory).unwrap();
    let broken = directory.join("broken");
    std::fs::write(&broken, "not: [a kubeconfig").unwrap();
    let unreachable = directory.join("unreachable");
    let config = "apiVersion: v1\nkind: Config\nclusters: [{name: x, cluster: {server: 'http://127.0.0.1:9'}}]\n\
                  users: [{name: x, user: {}}]\ncontexts: [{name: x, context: {cluster: x, user: x}}]\ncurrent-context: x\n";
    std::fs::write(&unreachable, config).unwrap();
    let home = directory.to_str().unwrap();
    let missing = directory.join("missing");
    for (environment, sentence) in [
        (vec![("HOME", home)], "error: no Kubernetes cluster is configured"),
        (
            vec![("KUBECONFIG", missing.to_str().unwrap())],
            "error: invalid Kubernetes configuration",
        ),
        (
            vec![("KUBECONFIG", broken.to_str().unwrap())],
            "error: invalid Kubernetes configuration",
        ),
        (
            vec![("KUBECONFIG", unreachable.to_str().unwrap())],
            "error: could not reach the Kubernetes API",
        ),
    ] {
        let (code, line) = failed_start(&environment, &["--backend", "cluster"]);
        assert_eq!(code, Some(1), "{line}");
        assert!(line.starts_with(sentence), "{line}");
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_connection_error_names_its_cause_once() {
    let directory = std::env::temp_dir().join(format!("k8s-cli-{:x}", fastrand::u64(..)));
    std::fs::create_dir(&directory).unwrap();
    let kubeconfig = |name: &str, server: &str, user: &str| {
        let config = format!(
            "apiVersion: v1\nkind: Config\nclusters: [{{name: x, cluster: {{server: '{server}'}}}}]\n\
             users: [{{name: x, user: {user}}}]\ncontexts: [{{name: x, context: {{cluster: x, user: x}}}}]\ncurrent-context: x\n"
        );
        let path = directory.join(name);
        std::fs::write(&path, config).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let plugin = |command: &str| {
        format!(
            "{{exec: {{apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: {command}, \
             args: [-c, 'echo please log in first >&2; exit 3']}}}}"
        )
    };
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", proxy.local_addr().unwrap());
    let unreachable = kubeconfig("unreachable", "https://127.0.0.1:9", "{}");
    let missing = directory.join("missing").to_str().unwrap().to_owned();
    let list = format!("{missing}:{unreachable}");
    let failing = kubeconfig("failing", "https://127.0.0.1:9", &plugin("bash"));
    let absent = kubeconfig("absent", "https://127.0.0.1:9", &plugin("no-such-plugin"));
    for (path, parts) in [
        (&unreachable, ["at `https://127.0.0.1:9`", "Connection refused"]),
        (&list, ["at `https://127.0.0.1:9`", "Connection refused"]),
        (&failing, ["please log in first", "exit status: 3"]),
        (&absent, ["`no-such-plugin`", "No such file"]),
        (&missing, [missing.as_str(), "No such file"]),
    ] {
        let environment = [("KUBECONFIG", path.as_str()), ("HTTPS_PROXY", &address)];
        let (code, line) = failed_start(&environment, &["--backend", "cluster"]);
        assert_eq!(code, Some(1), "{line}");
        for part in parts {
            assert_eq!(line.matches(part).count(), 1, "{part}: {line}");
        }
        assert!(
            !line.contains("Some(") && !line.contains("\\n") && !line.contains("[112"),
            "{line}"
        );
    }
    proxy.set_nonblocking(true).unwrap();
    assert!(
        proxy.accept().is_err(),
        "an API server on this machine must be called without a proxy"
    );
    std::fs::remove_dir_all(&directory).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_is_the_same_after_a_restart() {
    let mut world = World::own(&[]).await;
    let task = small_task("exit $NODE_RANK").nodes(2);
    let (failed, done) = (world.api.submit(&task).await, world.api.run("true").await);
    world.api.wait_for(&failed, TaskState::Failed).await;
    world.api.wait_for(&done, TaskState::Completed).await;
    // The Jobs finish a moment later.
    let settled = eventually(Duration::from_secs(60), "all Jobs to be finished", async || {
        let jobs = [world.cluster.jobs(&failed).await, world.cluster.jobs(&done).await].concat();
        let has_ended = |job: &Job| job.status.as_ref().is_some_and(|status| status.conditions.is_some());
        jobs.iter().all(has_ended).then_some(())
    });
    settled.await;
    // The JSON itself: a client must not see any difference.
    let body = async |world: &World, id: &str| world.api.try_status(id).await.ok();
    let seen = async |world: &World| {
        let mut statuses = [body(world, &failed).await, body(world, &done).await];
        // The server's own observations have microseconds; Kubernetes has whole seconds.
        for status in &mut statuses {
            status["updated_at"].take();
        }
        statuses
    };
    let before = seen(&world).await;
    world.server().terminate();
    world.server().restart();
    assert_eq!(seen(&world).await, before);
    let first = body(&world, &done).await;
    world.server().terminate();
    world.server().restart();
    assert_eq!(
        body(&world, &done).await,
        first,
        "the time of the last change must be kept"
    );
    assert!(first["updated_at"].as_str() >= first["created_at"].as_str(), "{first}");
}
