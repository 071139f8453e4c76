//! The CLI and what tasks have kept.

use std::fs;

use e2e::{CommandLine, World, eventually};

use super::files::{LIMIT, noise, tree_hash};
use super::large_files::fetching;

/// Runs a task with outputs, and returns its ID.
fn submitted(cli: &CommandLine, flags: &[&str]) -> (String, String) {
    cli.write(
        "task.yaml",
        "workdir: code\noutputs: {./results: out}\nrun: |\n  mkdir -p out/deep; echo one >out/deep/a; ln -s deep/a out/link\n  cp large.bin out; echo log >run.log\n",
    );
    let ran = cli.run(&[&["jobs", "submit", "task.yaml"], flags].concat());
    let hint = ran.stderr.lines().last().unwrap_or_default().to_owned();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let id = hint.trim_end_matches('`').rsplit(' ').next().unwrap().to_owned();
    (id, hint)
}

async fn with_code() -> (World, tempfile::TempDir, CommandLine) {
    let (world, archive) = fetching(&[]).await;
    let cli = CommandLine::of(&world);
    fs::create_dir(cli.home().join("code")).unwrap();
    fs::write(cli.home().join("code/large.bin"), noise(9_000_000)).unwrap();
    (world, archive, cli)
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_are_downloaded_beside_what_is_there_and_nothing_twice() {
    let (world, _archive, cli) = with_code().await;
    let (id, hint) = submitted(&cli, &[]);
    let expected = format!("outputs kept: 5 entries (8.5 MiB); download them with `k8s-cli jobs outputs {id}`");
    assert_eq!(hint, expected);
    let listed = cli.run(&["jobs", "outputs", &id, "--list"]).ok();
    let lines: Vec<&str> = listed.lines().map(str::trim_end).collect();
    assert_eq!(
        lines,
        [
            "SIZE      PATH",
            "4 B       results/deep/a",
            "8.5 MiB   results/large.bin",
            "-         results/link -> deep/a",
        ]
    );
    fs::create_dir_all(cli.home().join("here/results")).unwrap();
    cli.write("here/results/mine", "stays");
    cli.write("here/results/large.bin", "old");
    let ran = cli.run(&["jobs", "outputs", &id, "here"]);
    let said = "downloaded 2 files (8.5 MiB): `here/results`\n";
    assert_eq!((ran.stderr.as_str(), ran.stdout.len(), ran.code), (said, 0, 0));
    let large = fs::read(cli.home().join("here/results/large.bin")).unwrap();
    assert!(large == noise(9_000_000));
    assert_eq!(
        fs::read_to_string(cli.home().join("here/results/link")).unwrap(),
        "one\n"
    );
    assert_eq!(
        fs::read_to_string(cli.home().join("here/results/mine")).unwrap(),
        "stays"
    );
    // Also of a task that is gone.
    let before = tree_hash(&cli.home().join("here"));
    cli.run(&["jobs", "stop", &id]).ok();
    eventually(LIMIT, "the task to be gone", async || {
        (world.api.try_status(&id).await.status == 404).then_some(())
    })
    .await;
    cli.run(&["jobs", "outputs", &id, "here"]).ok();
    assert_eq!(tree_hash(&cli.home().join("here")), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_of_the_flag_is_kept_and_what_was_not_kept_is_said() {
    let (_world, _archive, cli) = with_code().await;
    let (id, _) = submitted(&cli, &["--output", "./run.log"]);
    cli.run(&["jobs", "outputs", &id]).ok();
    assert_eq!(fs::read_to_string(cli.home().join("run.log")).unwrap(), "log\n");
    assert!(cli.home().join("results/deep/a").exists());
    let id = cli.run(&["jobs", "submit", "-q", "--", "true"]).ok();
    let id = id.trim();
    cli.run(&["jobs", "wait", id]).ok();
    let error = cli.run(&["jobs", "outputs", id]).failed(3);
    assert!(error.contains("has kept no outputs"), "{error}");
    let error = cli.run(&["jobs", "outputs", "no-such-task"]).failed(3);
    assert!(error.contains("task `no-such-task` not found"), "{error}");
}
