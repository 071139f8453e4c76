//! The CLI on a real server: finding tasks, exit codes, prompts, and the background server.

use std::io::{BufRead, BufReader, Read, Write};
use std::time::{Duration, Instant};

use e2e::{Backend, CommandLine, World, eventually};
use serde_json::{Value, json};
use task::TaskState;
use task::wire::{TaskStatus, VolumeStatus};

const MINUTE: Duration = Duration::from_secs(60);

pub(crate) fn id_of(text: &str) -> String {
    text.lines().last().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_followed_to_its_end() {
    let world = World::new().await;
    let cli = CommandLine::of(&world);
    cli.write(
        "task.yaml",
        "name: hello\nnum_nodes: 2\nrun: echo \"hello from $NODE_RANK\"\n",
    );
    let ran = cli.run(&["jobs", "submit", "task.yaml"]);
    let stderr = ran.stderr.clone();
    let mut lines: Vec<String> = ran.ok().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["node-0 | hello from 0", "node-1 | hello from 1"]);
    assert!(
        stderr.contains(" submitted\n") && stderr.contains(" completed after "),
        "{stderr}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_code_returns_the_exit_code_of_the_task() {
    let world = World::new().await;
    let cli = CommandLine::of(&world);
    let stderr = cli
        .run(&["jobs", "submit", "--exit-code", "--", "bash", "-c", "exit 7"])
        .failed(7);
    assert!(stderr.contains("failed"), "{stderr}");
    cli.run(&["jobs", "submit", "--", "bash", "-c", "exit 7"]).failed(100);
    cli.run(&["jobs", "submit", "--no-exit-code", "--", "bash", "-c", "exit 7"])
        .ok();
    cli.run(&["jobs", "submit", "--exit-code", "--", "true"]).ok();
    let id = id_of(&cli.run(&["jobs", "submit", "-q", "--", "bash", "-c", "exit 3"]).ok());
    cli.run(&["jobs", "wait", &id]).ok();
    cli.run(&["jobs", "wait", &id, "--for", "completed"]).failed(1);
    cli.run(&["jobs", "logs", &id, "--exit-code"]).failed(3);
}

/// Starts a command that follows the log of a running task, and waits for its first line.
fn submit_and_follow(cli: &CommandLine, flags: &[&str]) -> std::process::Child {
    let task = ["--", "bash", "-c", "echo here; sleep 600"];
    let mut child = cli
        .command(&[&["jobs", "submit"], flags, &task].concat())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "here\n");
    child
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_of_a_stopped_task_exits_with_103() {
    let world = World::new().await;
    let cli = CommandLine::of(&world);
    for (flag, code) in [("--name=default", 103), ("--exit-code", 103), ("--no-exit-code", 0)] {
        let mut child = submit_and_follow(&cli, &[flag]);
        cli.run(&["jobs", "stop", "--all", "--yes"]).ok();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{flag}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_argument_with_spaces_is_a_line_of_bash() {
    let world = World::new().await;
    let cli = CommandLine::of(&world);
    let ran = cli.run(&["jobs", "submit", "--", "echo one > f; cat f"]);
    assert_eq!(ran.ok(), "one\n");
    let ran = cli.run(&["jobs", "submit", "--", "echo", "one > f; cat f"]);
    assert_eq!(ran.ok(), "one > f; cat f\n");
}

#[test]
fn a_failed_write_to_standard_output_is_an_error() {
    let cli = CommandLine::fresh();
    for arguments in [
        ["--help"].as_slice(),
        &["jobs", "submit", "--help"],
        &["--version"],
        &["completions", "bash"],
    ] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let status = cli.command(arguments).stdout(full).status().unwrap();
        assert_eq!(status.code(), Some(1), "{arguments:?}");
    }
}

#[test]
fn commands_of_similar_tools_get_a_suggestion() {
    let cli = CommandLine::fresh();
    let stderr = cli.run(&["launch", "task.yaml"]).failed(2);
    assert!(stderr.contains("use `k8s-cli jobs submit` to run a task"), "{stderr}");
    let stderr = cli.run(&["jobs", "submit", "-c", "mine", "task.yaml"]).failed(2);
    assert!(stderr.contains("use `--name NAME`"), "{stderr}");
    for (words, command) in [
        (&["train.py"][..], "-- python3 train.py`"),
        (&["echo hello"], "-- 'echo hello'`"),
        (&["echo", "hello"], "-- COMMAND`"),
    ] {
        let stderr = cli.run(&[&["jobs", "submit"], words].concat()).failed(2);
        assert!(stderr.contains(command), "{stderr}");
    }
    let stderr = cli.run(&["volumes", "apply", "v.yaml"]).failed(2);
    assert!(!stderr.contains("jobs submit"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_found_by_name_id_or_id_prefix() {
    let world = World::new().await;
    let cli = CommandLine::of(&world);
    let id = id_of(
        &cli.run(&["jobs", "submit", "-q", "--name", "train", "--", "sleep", "600"])
            .ok(),
    );
    for reference in [id.as_str(), "train", &id[..5]] {
        let shown = cli.run(&["jobs", "status", "-o", "name", reference]).ok();
        assert_eq!(shown.trim(), id);
    }
    let stderr = cli.run(&["jobs", "status", "trian"]).failed(3);
    assert!(stderr.contains("did you mean `train`?"), "{stderr}");
    let second = id_of(
        &cli.run(&["jobs", "submit", "-q", "--name", "train", "--", "sleep", "600"])
            .ok(),
    );
    let stderr = cli.run(&["jobs", "stop", "train"]).failed(2);
    assert!(stderr.contains(&id) && stderr.contains(&second), "{stderr}");
    cli.run(&["jobs", "stop", &id, &second]).ok();
    cli.run(&["jobs", "stop", &id]).failed(3);
    cli.run(&["jobs", "stop", &id, "--ignore-not-found"]).ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn wait_ends_with_its_timeout() {
    let world = World::new().await;
    let cli = CommandLine::of(&world);
    let id = id_of(&cli.run(&["jobs", "submit", "-q", "--", "sleep", "600"]).ok());
    cli.run(&["jobs", "wait", &id, "--for", "running", "--timeout", "1m"])
        .ok();
    cli.run(&["jobs", "wait", &id, "--timeout", "1s"]).failed(124);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigint_leaves_the_task_running() {
    let world = World::new().await;
    let cli = CommandLine::of(&world);
    let child = submit_and_follow(&cli, &[]);
    let pid = child.id().to_string();
    assert!(
        std::process::Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("is still running"), "{stderr}");
    assert_eq!(
        cli.run(&["jobs", "list", "-q", "--status", "running"])
            .ok()
            .lines()
            .count(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_prints_manifests_and_creates_nothing() {
    let world = World::new().await;
    let cli = CommandLine::of(&world);
    cli.write(
        "task.yaml",
        "name: hello\nnum_nodes: 2\nresources: {cpus: 2}\nrun: echo hello\n",
    );
    let text = cli.run(&["jobs", "submit", "task.yaml", "--dry-run"]).ok();
    assert_eq!(text.matches("kind: Job\n").count(), 2, "{text}");
    let list: Value = cli
        .run(&["jobs", "submit", "task.yaml", "--dry-run", "-o", "json"])
        .parsed();
    // The owner, the Service, and two Jobs.
    assert_eq!(list["items"].as_array().unwrap().len(), 4);
    cli.run(&["jobs", "submit", "--dry-run", "--volume", "nothing:/data", "--", "true"])
        .failed(2);
    assert_eq!(cli.run(&["jobs", "list", "-q"]).ok(), "");
    // Kubernetes validates the task, too: a quota rejects it.
    world.cluster.set_quota(json!({"count/jobs.batch": "0"})).await;
    let stderr = cli.run(&["jobs", "submit", "task.yaml", "--dry-run"]).failed(1);
    assert!(stderr.contains("exceeded quota"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_are_created_found_and_deleted() {
    let world = World::new().await;
    let cli = CommandLine::of(&world);
    let id = id_of(
        &cli.run(&["volumes", "create", "data", "1Gi", "-a", "ReadWriteOnce"])
            .ok(),
    );
    let shown: VolumeStatus = cli.run(&["volumes", "status", "data", "-o", "json"]).parsed();
    assert_eq!((shown.volume_id.as_str(), shown.size.as_str()), (id.as_str(), "1Gi"));
    let written = cli.run(&[
        "jobs",
        "submit",
        "--exit-code",
        "--volume",
        "data:/data",
        "--",
        "bash",
        "-c",
        "echo kept >/data/file",
    ]);
    written.ok();
    let read = cli.run(&["jobs", "submit", "--volume", "data:/data", "--", "cat", "/data/file"]);
    assert_eq!(read.ok(), "kept\n");
    let stderr = cli.run(&["volumes", "delete", "data"]).failed(2);
    assert!(stderr.contains("--force"), "{stderr}");
    cli.run(&["volumes", "delete", "data", "--force"]).ok();
    let stderr = cli
        .run(&["volumes", "create", "data", "much", "-s", "No Class"])
        .failed(2);
    assert!(
        stderr.contains("`SIZE`: ") && stderr.contains("`--storage-class`: "),
        "{stderr}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_the_server_point_into_the_task_file() {
    let world = World::new().await;
    let cli = CommandLine::of(&world);
    cli.write("task.yaml", "run: 'true'\nvolumes:\n  /data: missing\n");
    let stderr = cli.run(&["jobs", "submit", "task.yaml"]).failed(2);
    assert!(
        stderr.contains("task.yaml:3:10") && stderr.contains("volume \"missing\" not found"),
        "{stderr}"
    );
    let stderr = cli
        .run(&["jobs", "submit", "--num-nodes", "100000", "--", "true"])
        .failed(2);
    assert!(
        stderr.contains("`--num-nodes`: input should be less than or equal to 1000"),
        "{stderr}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_all_asks_for_confirmation() {
    let world = World::new().await;
    let cli = CommandLine::of(&world);
    let id = id_of(&cli.run(&["jobs", "submit", "-q", "--", "sleep", "600"]).ok());
    let stderr = cli.run(&["jobs", "stop", "--all"]).failed(2);
    assert!(
        stderr.contains("refusing to stop 1 task ") && stderr.contains("--yes"),
        "{stderr}"
    );
    let (mut child, mut terminal) = cli.start_on_terminal(80, &["jobs", "stop", "--all"]);
    terminal.write_all(b"n\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(id_of(&cli.run(&["jobs", "list", "-q"]).ok()), id);
    let (mut child, mut terminal) = cli.start_on_terminal(80, &["jobs", "stop", "--all"]);
    terminal.write_all(b"y\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(cli.run(&["jobs", "list", "-q"]).ok(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn list_watch_prints_changes() {
    let world = World::new().await;
    let cli = CommandLine::of(&world);
    let mut child = cli.command(&["jobs", "list", "--watch", "-o", "json"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let id = id_of(&cli.run(&["jobs", "submit", "-q", "--", "sleep", "3"]).ok());
    let mut states = Vec::new();
    while states.last() != Some(&TaskState::Completed) {
        let task: TaskStatus = serde_json::from_str(&lines.next().unwrap()).unwrap();
        assert_eq!(task.task_id, id);
        states.push(task.status);
    }
    assert!(states.contains(&TaskState::Running), "{states:?}");
    let mut stderr = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map_while(Result::ok);
    cli.run(&["jobs", "stop", &id]).ok();
    assert_eq!(stderr.next().unwrap(), format!("task {id} is no longer in the list"));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn top_shows_the_last_log_line_of_each_node() {
    let world = World::new().await;
    let cli = CommandLine::of(&world);
    let script = "echo \"epoch $((NODE_RANK + 7))\"; sleep 600";
    let id = id_of(
        &cli.run(&["jobs", "submit", "-q", "--num-nodes", "2", "--", "bash", "-c", script])
            .ok(),
    );
    let shown = eventually(MINUTE, "both lines", async || {
        let shown = cli.run(&["jobs", "top"]).ok();
        (shown.contains("epoch 7") && shown.contains("epoch 8")).then_some(shown)
    })
    .await;
    assert!(shown.contains(&id) && shown.contains("1 running"), "{shown}");
    let (mut child, mut terminal) = cli.start_on_terminal(100, &["jobs", "top"]);
    let mut screen = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&screen).contains("epoch 8") {
        let count = terminal.read(&mut buffer).unwrap();
        screen.extend_from_slice(&buffer[..count]);
    }
    terminal.write_all(b"q").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_include_the_ids_of_tasks() {
    let world = World::new().await;
    let cli = CommandLine::of(&world);
    let id = id_of(
        &cli.run(&["jobs", "submit", "-q", "--name", "train", "--", "sleep", "600"])
            .ok(),
    );
    let mut command = cli.command(&["--", "k8s-cli", "jobs", "logs", ""]);
    command
        .env("COMPLETE", "bash")
        .env("_CLAP_COMPLETE_INDEX", "3")
        .env("_CLAP_COMPLETE_SPACE", "true");
    let output = command
        .env("_CLAP_IFS", "\n")
        .env("_CLAP_COMPLETE_COMP_TYPE", "9")
        .output()
        .unwrap();
    let offered = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(offered.lines().any(|line| line == id), "{offered}");
    for shell in ["bash", "zsh", "fish"] {
        assert!(cli.run(&["completions", shell]).ok().contains("k8s-cli"), "{shell}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_submit_creates_one_task() {
    let world = World::new().await;
    let cli = CommandLine::of(&world);
    let submit = ["jobs", "submit", "-q", "--idempotency-key", "once", "--", "true"];
    assert_eq!(cli.run(&submit).ok(), cli.run(&submit).ok());
    let other = ["jobs", "submit", "-q", "--idempotency-key", "once", "--", "false"];
    let stderr = cli.run(&other).failed(1);
    assert!(stderr.contains("Idempotency-Key"), "{stderr}");
}

/// Without a server, a configuration, or a cluster.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_command_starts_a_server_by_itself() {
    if Backend::chosen() == Backend::Cluster {
        println!("skipped on Cluster: the server would use it");
        return;
    }
    let cli = CommandLine::with_free_port();
    let run = |arguments: &[&str]| {
        let ran = cli.run(arguments);
        let out = String::from_utf8_lossy(&ran.stdout).into_owned();
        (Some(ran.code), out, ran.stderr)
    };
    let (code, _, stderr) = run(&["jobs", "list"]);
    assert!(code == Some(5) && stderr.contains("k8s-cli api start"), "{stderr}");
    let (code, out, stderr) = run(&["doctor"]);
    assert!(code == Some(0) && out.contains("not running at"), "{out}{stderr}");
    let start = Instant::now();
    let (code, out, stderr) = run(&["jobs", "submit", "--", "echo", "first"]);
    assert_eq!((code, out.as_str()), (Some(0), "first\n"), "{stderr}");
    assert!(
        stderr.contains("started a server") && stderr.contains("on this machine"),
        "{stderr}"
    );
    println!("time from the first command to the last line: {:?}", start.elapsed());
    let (code, out, _) = run(&["api", "status"]);
    assert!(code == Some(0) && out.contains("pid: "), "{out}");
    let (code, out, stderr) = run(&["doctor"]);
    assert_eq!(code, Some(0), "{out}{stderr}");
    // A failed start must not hide this server.
    let elsewhere = CommandLine::with_free_port();
    let port = elsewhere.variable("K8S_CLI_API_PORT").unwrap().to_owned();
    let failed = cli
        .command(&["api", "start"])
        .env("K8S_CLI_API_PORT", port)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(
        !failed.status.success() && stderr.contains("in use by another server"),
        "{stderr}"
    );
    let (_, _, stderr) = run(&["api", "start"]);
    assert!(stderr.contains("already running"), "{stderr}");
    let (code, out, _) = run(&["api", "logs", "--tail", "1000"]);
    assert!(code == Some(0) && out.contains("task_submitted"), "{out}");
    let (code, _, stderr) = run(&["api", "stop"]);
    assert!(code == Some(0) && stderr.contains("stopped the server"), "{stderr}");
    let (code, _, stderr) = run(&["api", "stop"]);
    assert!(
        code == Some(0) && stderr.contains("no background server found"),
        "{stderr}"
    );
    // The next server, which a command that only reads starts, knows the finished task.
    let (_, out, stderr) = run(&["jobs", "list", "-q"]);
    assert!(stderr.contains("started a server"), "{stderr}");
    assert_eq!(out.lines().count(), 1);
    run(&["api", "stop"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_on_this_machine_finds_the_programs_of_the_shell() {
    if Backend::chosen() == Backend::Cluster {
        println!("skipped on Cluster: the image has its own programs");
        return;
    }
    let world = World::new().await;
    let mut cli = CommandLine::of(&world);
    let path = format!("{}/venv/bin:{}", cli.home().display(), std::env::var("PATH").unwrap());
    cli.set("PATH", &path);
    cli.set("VIRTUAL_ENV", "/venv");
    let run = "echo ${PATH%%:*} $VIRTUAL_ENV";
    let expected = format!("{}/venv/bin /venv\n", cli.home().display());
    assert_eq!(cli.run(&["jobs", "submit", "--", run]).ok(), expected);
    let own = [
        "jobs",
        "submit",
        "--env",
        "VIRTUAL_ENV=/own",
        "--env",
        "PATH=/usr/bin:/bin",
        "--",
        run,
    ];
    assert_eq!(cli.run(&own).ok(), "/usr/bin /own\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_login_file_is_that_of_the_python_cli() {
    let cli = CommandLine::fresh();
    cli.run(&["auth", "login", "élise@example.com"]).ok();
    assert_eq!(cli.run(&["auth", "whoami"]).ok(), "élise@example.com\n");
    let file = cli.home().join(".config/k8s-cli/user.json");
    let saved: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(saved["username"], "élise@example.com");
    assert_eq!(cli.run(&["--user", "bob", "auth", "whoami"]).ok(), "bob\n");
    cli.run(&["auth", "login", "a\tb"]).failed(2);
    std::fs::write(&file, "{").unwrap();
    let stderr = cli.run(&["auth", "whoami"]).failed(2);
    assert!(stderr.contains("invalid file"), "{stderr}");
    cli.run(&["auth", "logout"]).ok();
    assert_ne!(cli.run(&["auth", "whoami"]).ok(), "élise@example.com\n");
}
