//! The CLI and logs: bytes, closed pipes, and servers that restart.

use std::io::{BufRead, BufReader, Read};

use e2e::{Backend, CommandLine, World};

use crate::command_line::id_of;
use crate::logs::sha256;

/// 64 MiB of random bytes, with control sequences and markup, and a line of 1 MiB.
#[tokio::test(flavor = "multi_thread")]
async fn the_cli_does_not_change_the_bytes_of_a_log() {
    let world = World::new().await;
    let cli = CommandLine::of(&world);
    // Kubernetes keeps 10 MB of a log, and loses what is written faster than it is read.
    let random = match Backend::chosen() {
        Backend::Embedded => 64 << 20,
        Backend::Cluster => 4 << 20,
    };
    // containerd turns `\r\n` into `\n` before any client sees it.
    let script = r#"
        { head -c 1048576 /dev/zero | tr '\0' x; echo
          printf '\033[31mred\033[0m [/] [bold]x[/bold] \xff\xfe\x80 \x00\n'
          head -c RANDOM_BYTES /dev/urandom | tr -d '\r'; echo; } >/data/bytes
        sha256sum </data/bytes >/data/sum; cat /data/bytes"#
        .replace("RANDOM_BYTES", &random.to_string());
    cli.run(&["volumes", "create", "bytes", "1Gi", "-q"]).ok();
    let id = id_of(
        &cli.run(&[
            "jobs",
            "submit",
            "-q",
            "--name",
            "bytes",
            "--volume",
            "bytes:/data",
            "--",
            "bash",
            "-c",
            &script,
        ])
        .ok(),
    );
    let followed = cli.run(&["jobs", "logs", &id]);
    assert_eq!(followed.code, 0, "{}", followed.stderr);
    let sum = cli
        .run(&["jobs", "submit", "--volume", "bytes:/data", "--", "cat", "/data/sum"])
        .ok();
    assert_eq!(format!("{}  -\n", sha256(&followed.stdout)), sum);
    let read = cli.run(&["jobs", "logs", &id, "--no-follow"]);
    assert_eq!(format!("{}  -\n", sha256(&read.stdout)), sum);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_pipe_is_not_an_error() {
    let world = World::new().await;
    let cli = CommandLine::of(&world);
    let id = id_of(&cli.run(&["jobs", "submit", "-q", "--", "seq", "200000"]).ok());
    cli.run(&["jobs", "wait", &id]).ok();
    let mut child = cli.command(&["jobs", "logs", &id]).spawn().unwrap();
    let mut first = [0; 2];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()),
        (Some(0), "")
    );
}

/// The server is killed and restarted, then stopped and restarted, while three nodes are followed.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_loses_no_line_when_the_server_restarts() {
    const LINES: usize = 150;
    let mut world = World::own(&[]).await;
    let cli = CommandLine::of(&world);
    let script = format!("for i in $(seq {LINES}); do echo \"$NODE_RANK $i\"; sleep 0.05; done");
    let id = id_of(
        &cli.run(&["jobs", "submit", "-q", "--num-nodes", "3", "--", "bash", "-c", &script])
            .ok(),
    );
    let mut child = cli.command(&["jobs", "logs", &id]).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut seen = Vec::new();
    for round in 0..4 {
        // Somewhere in the middle of the log.
        for _ in 0..80 {
            seen.push(output.next().unwrap().unwrap());
        }
        if round % 2 == 0 {
            world.server().kill();
        } else {
            assert!(world.server().terminate());
        }
        world.server().restart();
    }
    seen.extend(output.map(Result::unwrap));
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert!(child.wait().unwrap().success(), "{stderr}");
    for rank in 0..3 {
        let prefix = format!("node-{rank} | {rank} ");
        let numbers: Vec<usize> = seen
            .iter()
            .filter_map(|line| line.strip_prefix(&prefix)?.parse().ok())
            .collect();
        assert_eq!(numbers, (1..=LINES).collect::<Vec<_>>(), "node {rank}: {stderr}");
    }
    assert_eq!(seen.len(), 3 * LINES, "only these lines must be printed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_prints_why_a_task_is_pending() {
    let world = World::new().await;
    let cli = CommandLine::of(&world);
    let mut child = cli
        .command(&["jobs", "submit", "--cpus", "900", "--", "true"])
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let line = stderr
        .find(|line| line.contains("pending: Unschedulable: "))
        .expect("the reason");
    assert!(line.contains("Insufficient cpu"), "{line}");
    let line = stderr
        .find(|line| line.contains("largest available node: "))
        .expect("the largest node");
    assert!(line.contains(" CPUs, ") && line.contains(" memory, "), "{line}");
    cli.run(&["jobs", "stop", "--all", "--yes"]).ok();
    assert!(stderr.any(|line| line.contains("was stopped")));
    assert_eq!(child.wait().unwrap().code(), Some(103));
}
