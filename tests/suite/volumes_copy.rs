//! What is in a volume, and copies between this machine and a volume.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use e2e::{Backend, CommandLine, World, eventually, small_task};
use rustix::process::{Pid, Signal, kill_process};
use task::TaskState;

use super::files::{LIMIT, TREE_HASH, folder, noise, tree_hash};
use super::large_files::fetching;

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
    // The `ls` of busybox writes `?` for the escape.
    assert!(root.contains("[31m") && root.contains(" -> nowhere"), "{root}");
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
    assert!(!ran.contains('\u{1b}') && ran.contains("[31m"), "{ran}");
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

/// What a script prints that begins in the root of the volume.
async fn in_volume(world: &World, script: &str) -> String {
    let task = small_task(format!("cd /data\n{script}")).volume("/data", "my-data");
    let id = world.api.submit(&task).await;
    let _ = world
        .api
        .wait_for_status(&id, LIMIT, "the end", |status| status.status.is_final())
        .await;
    let log = world.api.log_text(&id, "").await;
    let _ = world.api.stop(&id).await.ok();
    log
}

async fn with_volume(world: &World) -> CommandLine {
    world.api.create_small_volume("my-data").await;
    CommandLine::of(world)
}

/// Copies, checks that nothing is printed and no task is left, and returns what is said.
async fn copied(world: &World, cli: &CommandLine, source: &str, target: &str) -> String {
    let ran = cli.run(&["volumes", "cp", source, target]);
    let said = ran.stderr.clone();
    assert_eq!(ran.ok(), "", "{said}");
    assert_eq!(world.api.task_ids().await, [""; 0]);
    said
}

/// A folder with what a submit would leave out.
fn data(path: &Path) -> String {
    let made = folder(100);
    for name in [".git", "node_modules", "ignored"] {
        fs::create_dir(made.path().join(name)).unwrap();
        fs::write(made.path().join(name).join("x"), name).unwrap();
    }
    fs::write(made.path().join(".gitignore"), "ignored\n").unwrap();
    fs::rename(made.path(), path).unwrap();
    tree_hash(path)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_in_the_volume_as_it_is_here_and_nothing_is_left_out() {
    let world = World::own(&[]).await;
    let cli = with_volume(&world).await;
    let expected = data(&cli.home().join("data"));
    let said = copied(&world, &cli, "data", "my-data:/in/copy").await;
    assert!(
        said.starts_with("copied 106 files (") && said.ends_with(") to `my-data:/in/copy`\n"),
        "{said}"
    );
    assert_eq!(in_volume(&world, &format!("cd in/copy\n{TREE_HASH}")).await, expected);
    // The same once more, with its own name, and one file less: what is there stays.
    fs::remove_file(cli.home().join("data/.gitignore")).unwrap();
    fs::write(cli.home().join("data/ignored/x"), "changed").unwrap();
    assert!(
        copied(&world, &cli, "data/", "my-data:in/copy")
            .await
            .ends_with(" to `my-data:/in/copy`\n")
    );
    assert!(
        copied(&world, &cli, "data", "my-data:")
            .await
            .ends_with(" to `my-data:/data`\n")
    );
    let script = "cat in/copy/.gitignore in/copy/ignored/x; ls -A data/ignored; [ -e data/.gitignore ] || echo none";
    assert_eq!(in_volume(&world, script).await, "ignored\nchangedx\nnone\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_at_the_path_or_keeps_its_name() {
    let world = World::own(&[]).await;
    let cli = with_volume(&world).await;
    cli.write("a:b", "one");
    std::os::unix::fs::symlink("a:b", cli.home().join("link")).unwrap();
    copied(&world, &cli, "./a:b", "my-data:/x y/$HOME/-n'ew\"").await;
    copied(&world, &cli, "link", "my-data:/x y/").await;
    copied(&world, &cli, "./a:b", "my-data:$new").await;
    let script = "find . -type f | sort; cat 'x y/link'";
    let expected = "./$new\n./x y/$HOME/-n'ew\"\n./x y/link\none";
    assert_eq!(in_volume(&world, script).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_for_kubernetes_is_fetched_by_the_node() {
    let (world, _archive) = fetching(&[]).await;
    let cli = with_volume(&world).await;
    fs::create_dir(cli.home().join("data")).unwrap();
    fs::write(cli.home().join("data/large"), noise(9_000_000)).unwrap();
    let expected = tree_hash(&cli.home().join("data"));
    let said = copied(&world, &cli, "data", "my-data:/data").await;
    assert!(said.contains("uploaded 1 file (8.5 MiB) of `data`\n"), "{said}");
    assert_eq!(in_volume(&world, &format!("cd data\n{TREE_HASH}")).await, expected);
    // The server has it, and so does the volume.
    let said = copied(&world, &cli, "data", "my-data:/data").await;
    assert!(!said.contains("uploaded"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_cannot_be_is_said() {
    let world = with_files("my-data").await;
    let cli = CommandLine::of(&world);
    cli.write("file", "x");
    fs::create_dir(cli.home().join("dir")).unwrap();
    let failed = |source: &str, target: &str, code: i32| cli.run(&["volumes", "cp", source, target]).failed(code);
    for (source, target, code, reason) in [
        ("file", "./copy", 2, "neither `file` nor `./copy` is in a volume"),
        ("a:/x", "b:/y", 2, "one of `a:/x` and `b:/y` must be on this machine"),
        ("nowhere", "my-data:/x", 2, "cannot read `nowhere`"),
        ("file", "my-data:/../x", 2, "must not contain `..`"),
        ("file", "my-date:/x", 3, "volume \"my-date\" not found"),
        ("file", "my-data:/a b/x/y", 1, "cannot unpack the files of the task to "),
        ("dir", "my-data:/a b/x", 1, "cannot unpack the files of the task to "),
    ] {
        let error = failed(source, target, code);
        assert!(error.contains(reason), "{source} {target}: {error}");
    }
    fs::write(cli.home().join("large"), vec![7; 2 << 20]).unwrap();
    let error = failed("large", "my-date:/x", 3);
    assert!(!error.contains("uploaded"), "{error}");
    assert_eq!(world.api.task_ids().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_comes_back_as_it_was() {
    let (world, _archive) = fetching(&[]).await;
    let cli = with_volume(&world).await;
    let expected = data(&cli.home().join("data"));
    copied(&world, &cli, "data", "my-data:/in/data").await;
    let said = copied(&world, &cli, "my-data:/in/data", "out/copy").await;
    assert!(said.ends_with("copied 106 files (26 KiB) to `out/copy`\n"), "{said}");
    assert_eq!(tree_hash(&cli.home().join("out/copy")), expected);
    // What is there and not in the volume stays, and a changed file is replaced.
    fs::write(cli.home().join("out/copy/mine"), "stays").unwrap();
    fs::write(cli.home().join("out/copy/.gitignore"), "changed").unwrap();
    copied(&world, &cli, "my-data:in/data/", "out/copy").await;
    fs::remove_file(cli.home().join("out/copy/mine")).unwrap();
    assert_eq!(tree_hash(&cli.home().join("out/copy")), expected);
    // It keeps its name in a folder, and a file is one.
    copied(&world, &cli, "my-data:/in/data/.gitignore", ".").await;
    assert_eq!(fs::read_to_string(cli.home().join(".gitignore")).unwrap(), "ignored\n");
    copied(&world, &cli, "my-data:", "all/").await;
    assert_eq!(tree_hash(&cli.home().join("all/my-data/in/data")), expected);
    let error = cli.run(&["volumes", "cp", "my-data:/in/none", "x"]).failed(3);
    assert!(error.contains("volume `my-data` has no `in/none`"), "{error}");
    let error = cli.run(&["volumes", "cp", "my-data:/$x", "x"]).failed(2);
    assert!(error.contains("has a `$`"), "{error}");
    assert_eq!(world.api.task_ids().await, [""; 0]);
}
