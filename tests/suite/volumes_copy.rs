//! What is in a volume, and copies between this machine and a volume.

use std::io::{BufRead, BufReader};
use std::time::Duration;

use e2e::{Backend, CommandLine, World, eventually, small_task};
use rustix::process::{Pid, Signal, kill_process};
use task::TaskState;

use super::files::LIMIT;

/// A world with a volume that has some files, and no tasks.
async fn with_files(name: &str) -> World {
    let world = World::own(&[]).await;
    world.api.create_small_volume(name).await;
    let script = "cd /data; mkdir -p 'a b/c' -- -rf; echo one >'a b/x'; head -c 3000000 /dev/zero >'a b/c/large'; \
                  printf hello >'$HOME'; printf x >$'line\\nbreak\\e[31m'; ln -s nowhere link";
    let id = world.api.submit(&small_task(script).volume("/data", name)).await;
    world.api.wait_for(&id, TaskState::Completed).await;
    let _ = world.api.stop(&id).await.ok();
    world
}

/// The last words of the lines: names of files.
fn names(listing: &str) -> Vec<&str> {
    listing
        .lines()
        .skip(1)
        .filter_map(|line| line.split(' ').next_back())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_in_a_volume_are_listed_and_no_task_is_left() {
    let world = with_files("my-data").await;
    let cli = CommandLine::of(&world);
    let ran = cli.run(&["volumes", "ls", "my-data:/a b"]);
    assert_eq!(ran.stderr, "");
    let listing = ran.ok();
    assert!(listing.starts_with("total "), "{listing}");
    assert_eq!(names(&listing), [".", "..", "c", "x"]);
    let root = cli.run(&["volumes", "list", "my-data"]).ok();
    assert!(root.contains("\u{1b}[31m") && root.contains(" -> nowhere"), "{root}");
    let file = cli.run(&["volumes", "ls", "my-data:$HOME"]).ok();
    assert!(file.contains(" 5 ") && file.ends_with(" $HOME\n"), "{file}");
    assert_eq!(names(&cli.run(&["volumes", "ls", "my-data:/-rf"]).ok()), [".", ".."]);
    let usage = cli.run(&["volumes", "du", "my-data:a b"]).ok();
    let lines: Vec<&str> = usage.lines().collect();
    assert!(
        lines[0].ends_with("\ta b/c") || lines[1].ends_with("\ta b/c"),
        "{usage}"
    );
    assert!(
        lines[2].ends_with("\ta b") && lines[2].starts_with(['2', '3']),
        "{usage}"
    );
    assert_eq!(world.api.task_ids().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_in_a_volume_does_not_control_the_terminal() {
    let world = with_files("my-data").await;
    let cli = CommandLine::of(&world);
    let ran = cli.on_terminal(80, &["volumes", "ls", "my-data"]).ok();
    assert!(!ran.contains('\u{1b}') && ran.contains("\\u001b[31m"), "{ran}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_is_said() {
    let world = with_files("my-data").await;
    let cli = CommandLine::of(&world);
    for command in ["ls", "du"] {
        let error = cli.run(&["volumes", command, "my-data:/a b/y"]).failed(3);
        assert!(error.contains("volume `my-data` has no `a b/y`"), "{error}");
        let error = cli.run(&["volumes", command, "my-date:/x"]).failed(3);
        assert!(
            error.contains("volume \"my-date\" not found; list yours with `k8s-cli volumes list`"),
            "{error}"
        );
        let error = cli.run(&["volumes", command, "my-data:/../etc"]).failed(2);
        assert!(error.contains("must not contain `..`"), "{error}");
    }
    assert_eq!(world.api.task_ids().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_waits_for_is_said_and_ctrl_c_leaves_no_task() {
    if Backend::Cluster.lacks("others need its nodes, which would have to be cordoned") {
        return;
    }
    let world = with_files("my-data").await;
    world.cluster.cordon(true).await;
    let cli = CommandLine::of(&world);
    let mut child = cli.command(&["volumes", "ls", "my-data"]).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let line = stderr.next().expect("the reason");
    assert!(line.starts_with("pending: Unschedulable: "), "{line}");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let said: Vec<String> = stderr.collect();
    assert!(said[0].starts_with("interrupted; deleting task "), "{said:?}");
    eventually(LIMIT, "the task to be deleted", async || {
        world.api.task_ids().await.is_empty().then_some(())
    })
    .await;
    world.cluster.cordon(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_cannot_start_is_an_error() {
    if Backend::Embedded.lacks("it has no images") {
        return;
    }
    let world = World::own(&["--default-image", "localhost/no-such-image:1"]).await;
    world.api.create_small_volume("my-data").await;
    let cli = CommandLine::of(&world);
    let error = cli.run(&["volumes", "ls", "my-data"]).failed(1);
    assert!(error.contains("the pod of the task cannot start: "), "{error}");
    eventually(Duration::from_secs(60), "the task to be deleted", async || {
        world.api.task_ids().await.is_empty().then_some(())
    })
    .await;
}
