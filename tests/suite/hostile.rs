//! How the CLI handles other programs on the port, proxies, and malicious servers.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use e2e::CommandLine;
use e2e::program::{Program, SERVER, answer};
use serde_json::json;

fn cli_of(port: &str) -> CommandLine {
    let mut cli = CommandLine::fresh();
    cli.set("K8S_CLI_API_PORT", port);
    cli.set("NO_COLOR", "1");
    cli
}

const HTML: &str = "content-type: text/html\r\n";

/// Responses of other programs and proxies: status, headers, body, and the exit code and message of the CLI.
const FOREIGN_RESPONSES: [(&str, &str, &str, i32, &str); 7] = [
    (
        "404 Not Found",
        HTML,
        "<h1>Nothing here</h1>",
        5,
        "it returned 404 Not Found with a web page",
    ),
    (
        "200 OK",
        HTML,
        "<h1>Welcome</h1>",
        5,
        "is not a k8s-cli server: it returned 200 OK with a web page",
    ),
    (
        "404 Not Found",
        "",
        "{\"detail\": \"Not Found\"}",
        5,
        "is not a k8s-cli server: it returned 404 Not Found",
    ),
    (
        "502 Bad Gateway",
        HTML,
        "<h1>nginx</h1>",
        5,
        "cannot reach the server: 502 Bad Gateway",
    ),
    (
        "401 Unauthorized",
        HTML,
        "<h1>nginx</h1>",
        4,
        "rejected the credentials",
    ),
    (
        "403 Forbidden",
        HTML,
        "<h1>nginx</h1>",
        4,
        "denied access: 403 Forbidden",
    ),
    (
        "302 Found",
        "location: https://login.example/\r\n",
        "",
        5,
        "to `https://login.example/`",
    ),
];

#[test]
fn a_response_of_another_program_is_an_error() {
    for (status, headers, body, code, expected) in FOREIGN_RESPONSES {
        let program = Program::start(move |_| answer(status, headers, body));
        let cli = cli_of(&program.port());
        for arguments in [
            ["jobs", "status", "abcd1234"].as_slice(),
            &["jobs", "list"],
            &["jobs", "submit", "--", "true"],
            &["api", "start"],
            &["api", "status"],
        ] {
            let stderr = cli.run(arguments).failed(code);
            assert!(
                stderr.contains(expected) && !stderr.contains("<h1>"),
                "{arguments:?}: {stderr}"
            );
            assert!(
                !stderr.contains("running at") && !stderr.contains("not found"),
                "{arguments:?}: {stderr}"
            );
        }
    }
}

#[test]
fn an_older_server_is_recognized() {
    let health = r#"{"status": "ok", "service": "k8s-cli-api"}"#;
    let program = Program::start(move |_| answer("200 OK", "content-type: application/json\r\n", health));
    let cli = cli_of(&program.port());
    for arguments in [["jobs", "list"], ["api", "start"]] {
        let stderr = cli.run(&arguments).failed(5);
        assert!(
            stderr.contains("is too old for this version") && stderr.contains("api stop"),
            "{stderr}"
        );
    }
}

/// A server disconnects a client that pauses for too long, e.g., in a pager.
#[test]
fn an_interrupted_log_is_resumed_without_follow() {
    let line = |second: u32, text: &str| format!("2026-11-24T10:00:0{second}.000000000Z {text}\n");
    let all = [line(1, "one"), line(2, "two"), line(3, "three")].concat();
    let cuts = std::sync::Mutex::new(0);
    let program = Program::start(move |path| {
        if !path.contains("/logs") {
            return malicious_response(path);
        }
        let mut cuts = cuts.lock().unwrap();
        *cuts += 1;
        let whole = answer("200 OK", SERVER, &all);
        // The first response is cut.
        let missing = if *cuts == 1 { line(3, "three").len() + 2 } else { 0 };
        whole[..whole.len() - missing].to_owned()
    });
    let cli = cli_of(&program.port());
    assert_eq!(
        cli.run(&["jobs", "logs", "abcd1234", "--no-follow"]).ok(),
        "one\ntwo\nthree\n"
    );
}

#[test]
fn a_program_that_does_not_respond_times_out() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let cli = cli_of(&silent.local_addr().unwrap().port().to_string());
    for arguments in [
        ["jobs", "list"].as_slice(),
        &["api", "start"],
        &["jobs", "submit", "--", "true"],
    ] {
        let start = Instant::now();
        let stderr = cli.run(arguments).failed(5);
        assert!(stderr.contains("did not respond within 2s"), "{arguments:?}: {stderr}");
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    }
    let doctor = cli.run(&["doctor"]);
    let stdout = String::from_utf8(doctor.stdout).unwrap();
    assert!(stdout.contains("another program may be using that port"), "{stdout}");
}

/// Moves the cursor, sets the title, and reverses a line, with and without an escape character.
const HOSTILE: &str = "\u{1b}[2J\u{1b}]0;title\u{7}\u{9b}31m\u{202e}\u{2066}\r";

/// Responses of a malicious server, with control characters in every text.
fn malicious_response(path: &str) -> String {
    let task = json!({
        "task_id": format!("abcd{HOSTILE}"), "name": format!("name{HOSTILE}"), "status": "pending",
        "reason": HOSTILE, "message": HOSTILE, "username": HOSTILE, "created_at": HOSTILE, "updated_at": HOSTILE,
        "metadata": {"job_name": HOSTILE, "namespace": HOSTILE, "num_nodes": 1, "node_jobs": [HOSTILE],
            "succeeded_nodes": 0, "failed_nodes": 0, "running_nodes": 0, "pending_nodes": 1},
    });
    let ok = |body: serde_json::Value| answer("200 OK", SERVER, &body.to_string());
    match path.split('?').next().unwrap_or_default() {
        "/version" => ok(json!({"version": HOSTILE, "backend": HOSTILE, "namespace": HOSTILE, "kubernetes": HOSTILE})),
        "/nodes" => {
            ok(json!({"nodes": [{"name": HOSTILE, "ready": true, "cpus": HOSTILE, "memory": HOSTILE, "gpus": 1}]}))
        }
        "/tasks" => ok(json!({"tasks": [task]})),
        "/tasks/abcd1234" => ok(task),
        "/tasks/submit" => {
            let fault = json!({"type": HOSTILE, "loc": ["body", HOSTILE], "msg": HOSTILE, "input": HOSTILE});
            answer(
                "422 Unprocessable Entity",
                SERVER,
                &json!({"detail": [fault]}).to_string(),
            )
        }
        "/volumes/create" => ok(json!({"volume_id": HOSTILE})),
        "/readyz" => answer(
            "503 Service Unavailable",
            SERVER,
            &json!({"detail": HOSTILE}).to_string(),
        ),
        path if path.ends_with("/stop") => answer("500 Internal Server Error", SERVER, HOSTILE),
        _ => ok(json!({})),
    }
}

#[test]
fn control_characters_of_a_server_are_escaped() {
    let program = Program::start(malicious_response);
    let cli = cli_of(&program.port());
    for arguments in [
        ["doctor"].as_slice(),
        &["api", "status"],
        &["jobs", "list"],
        &["jobs", "list", "-o", "wide", "--all-users"],
        &["jobs", "list", "-o", "json"],
        &["jobs", "list", "-o", "yaml"],
        &["jobs", "list", "-q"],
        &["jobs", "status", "abcd1234"],
        &["jobs", "status", "abcd1234", "-o", "json"],
        &["jobs", "status", "abcd1234", "-o", "yaml"],
        &["jobs", "submit", "--", "true"],
        &["jobs", "stop", "abcd1234"],
        &["volumes", "create", "data", "1Gi"],
    ] {
        let ran = cli.on_terminal(100, arguments);
        let shown = String::from_utf8(ran.stdout).unwrap() + &ran.stderr;
        // The terminal turns each newline into `\r\n`.
        let shown = shown.replace("\r\n", "\n");
        let has_effect = |character: char| {
            (character.is_control() && character != '\n')
                || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        assert!(!shown.contains(has_effect), "{arguments:?}: {shown:?}");
        // YAML escapes it differently.
        let is_escaped = ["\\u001b", "\\e", "\\x1B"].iter().any(|escape| shown.contains(escape));
        assert!(is_escaped, "{arguments:?}: {shown:?}");
    }
}

#[test]
fn json_output_keeps_the_text_of_the_server() {
    let program = Program::start(malicious_response);
    let cli = cli_of(&program.port());
    let list: serde_json::Value = cli.run(&["jobs", "list", "-o", "json"]).parsed();
    assert_eq!(list["tasks"][0]["reason"], HOSTILE);
}
