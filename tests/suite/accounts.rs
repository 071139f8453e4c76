//! Other accounts of the machine: they cannot run commands as the owner of the server, or pretend to be the server.

use std::io::Read;
use std::net::TcpListener;
use std::time::Duration;

use e2e::program::{Program, SERVER, answer};
use e2e::{CommandLine, RawAnswer, World, as_another_account, raw};

/// Sends a request as another account.
fn request_as_another_account(base: &str, method: &'static str, path: &'static str) -> Option<RawAnswer> {
    let base = base.to_owned();
    as_another_account(move || {
        let headers: [(&str, &[u8]); 2] = [("X-User", b"alice"), ("Content-Type", b"application/json")];
        raw(&base, method, path, &headers, Some(br#"{"run": "true"}"#))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn another_account_of_the_machine_is_forbidden() {
    let world = World::own(&[]).await;
    for (method, path) in [
        ("POST", "/tasks/submit"),
        ("GET", "/tasks"),
        ("GET", "/healthz"),
        ("GET", "/nothing"),
    ] {
        let Some(answer) = request_as_another_account(world.api.base(), method, path) else {
            return;
        };
        assert_eq!(answer.status, 403, "{method} {path}");
        assert!(answer.header("x-request-id").is_some());
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(
            detail.contains("--allow-local-users") && detail.contains("uid 65534"),
            "{detail}"
        );
    }
    assert_eq!(world.api.tasks().await, []);
    let metrics = raw(world.api.base(), "GET", "/metrics", &[], None);
    let metrics = String::from_utf8(metrics.body).unwrap();
    let counted = r#"k8s_cli_http_requests_total{route="/tasks/submit",method="POST",status="403"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn allow_local_users_admits_all_accounts() {
    let world = World::own(&["--allow-local-users"]).await;
    if let Some(answer) = request_as_another_account(world.api.base(), "POST", "/tasks/submit") {
        assert_eq!(answer.status, 200);
    }
}

/// A program of another account that listens on this machine.
struct ForeignProgram {
    listener: TcpListener,
}

impl ForeignProgram {
    fn start() -> Option<Self> {
        let listener = as_another_account(|| TcpListener::bind("127.0.0.1:0").unwrap())?;
        Some(Self { listener })
    }

    fn port(&self) -> String {
        self.listener.local_addr().unwrap().port().to_string()
    }

    /// Whether a client has connected and sent something.
    fn has_received_data(&self) -> bool {
        self.listener.set_nonblocking(true).unwrap();
        while let Ok((mut stream, _)) = self.listener.accept() {
            stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            if stream.read(&mut [0; 1]).is_ok_and(|count| count > 0) {
                return true;
            }
        }
        false
    }
}

#[test]
fn nothing_is_sent_to_a_program_of_another_account() {
    let Some(program) = ForeignProgram::start() else {
        return;
    };
    let mut cli = CommandLine::fresh();
    cli.set("K8S_CLI_API_PORT", &program.port());
    let url = format!("http://localhost:{}", program.port());
    for arguments in [
        vec!["jobs", "submit", "--env", "TOKEN=secret", "--", "true"],
        vec!["--api-url", &url, "jobs", "submit", "--", "true"],
        vec!["jobs", "list"],
        vec!["api", "start"],
    ] {
        let stderr = cli.run(&arguments).failed(5);
        assert!(
            stderr.contains("belongs to another account (UID 65534)") && stderr.contains("--trust-local-server"),
            "{arguments:?}: {stderr}"
        );
    }
    assert!(!program.has_received_data());
}

#[test]
fn trust_local_server_uses_a_server_of_another_account() {
    let Some(program) = ForeignProgram::start() else {
        return;
    };
    let mut cli = CommandLine::fresh();
    cli.set("K8S_CLI_API_PORT", &program.port());
    let _program = Program::at(program.listener, |_| answer("200 OK", SERVER, r#"{"tasks": []}"#));
    cli.run(&["jobs", "list", "--trust-local-server"]).ok();
}
