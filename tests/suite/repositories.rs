//! A task starts in a clone of a git repository.

use e2e::{Backend, CommandLine, GitServer, World, small_task};
use serde_json::json;
use task::TaskState;

/// `oauth2` and the token `canary` as HTTP's Basic authentication has them.
const AUTHORIZATION: &str = "Basic b2F1dGgyOmNhbmFyeQ==";

const IMAGES_LACK_GIT: &str = "its images have no git";

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_of_all_nodes_starts_in_a_new_clone() {
    if Backend::Cluster.lacks(IMAGES_LACK_GIT) {
        return;
    }
    let world = World::own(&[]).await;
    let server = GitServer::start(None).await;
    server.commit("train.sh", "echo trained");
    // The first node that fails ends the others, but not before the setup of all has ended.
    let mut task = json!(
        small_task("echo x >new; exit 1")
            .nodes(2)
            .recovery(json!({"max_restarts_on_errors": 1}))
    );
    task["workdir"] = json!({"url": server.url(), "ref": "main"});
    task["setup"] = json!("source ./train.sh; cat train.sh; echo; ls; git rev-parse HEAD");
    let id = world.api.submit(&task).await;
    world.api.wait_for(&id, TaskState::Failed).await;
    let commit = server.git(&["rev-parse", "HEAD"]);
    for node in 0..2 {
        let log = world.api.log_text(&id, &format!("?node={node}")).await;
        for attempt in ["", " attempt-2"] {
            let prefix = format!("node-{node}{attempt} | ");
            let lines = log.lines().filter_map(|line| line.strip_prefix(&prefix));
            // What git says is standard error, which may come later; and `new` is not kept.
            let is_ours = |line: &&str| !line.starts_with("HEAD is now at") && !line.starts_with("[k8s-cli: ");
            let lines: Vec<&str> = lines.filter(is_ours).collect();
            assert_eq!(lines, ["trained", "echo trained", "train.sh", &commit], "{log}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_and_a_commit_of_the_past_are_cloned_and_files_are_put_into_the_clone() {
    if Backend::Cluster.lacks(IMAGES_LACK_GIT) {
        return;
    }
    let world = World::own(&[]).await;
    let cli = CommandLine::of(&world);
    let server = GitServer::start(None).await;
    let first = server.commit("version", "1");
    server.commit("version", "2");
    server.git(&["tag", "-a", "v2", "-m", "second"]);
    server.commit("version", "3");
    cli.write("local", "mine");
    cli.write(
        "task.yaml",
        &format!(
            "envs: {{URL: '{}'}}\nworkdir: {{url: $URL}}\nfile_mounts: {{version.local: local}}\nrun: cat version version.local\n",
            server.url()
        ),
    );
    for (git_ref, expected) in [
        (None, "3mine"),
        (Some("v2"), "2mine"),
        (Some(first.as_str()), "1mine"),
        (Some(&first[..7]), "1mine"),
    ] {
        let mut command = vec!["jobs", "submit", "task.yaml"];
        command.extend(git_ref.iter().flat_map(|git_ref| ["--git-ref", git_ref]));
        let log = cli.run(&command).ok();
        assert!(log.ends_with(expected), "{git_ref:?}: {log}");
        assert!(log.contains("HEAD is now at"), "{log}");
    }
    let url = server.url();
    let log = cli
        .run(&["jobs", "submit", "--git-url", &url, "--", "cat", "version"])
        .ok();
    assert!(log.ends_with('3'), "{log}");
    let error = cli
        .run(&["jobs", "submit", "--git-url", "file:///srv", "--", "true"])
        .failed(2);
    assert!(
        error.contains("`--git-url`: repositories are cloned by https and ssh only"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_repository_is_opened_by_the_token_of_the_caller_which_nobody_sees() {
    if Backend::Cluster.lacks(IMAGES_LACK_GIT) {
        return;
    }
    let world = World::own(&[]).await;
    let mut cli = CommandLine::of(&world);
    let server = GitServer::start(Some(AUTHORIZATION)).await;
    server.commit("version", "1");
    let url = server.url();
    let command = [
        "jobs",
        "submit",
        "--name",
        "private",
        "--git-url",
        &url,
        "--",
        "cat",
        "version",
    ];
    let failed = cli.run(&command);
    let log = String::from_utf8_lossy(&failed.stdout).into_owned() + &failed.stderr;
    failed.failed(100);
    assert!(
        log.contains("a private repository needs a token as the secret `GIT_TOKEN`"),
        "{log}"
    );
    let status = world.api.tasks().await.pop().unwrap();
    let message = status.message.unwrap();
    assert!(message.contains("cannot clone `http://127.0.0.1:"), "{message}");
    cli.set("GIT_TOKEN", "canary");
    let ran = cli.run(&command);
    let note = "note: `GIT_TOKEN` of your environment is passed as a secret of the task";
    assert_eq!(ran.stderr.matches(note).count(), 1, "{}", ran.stderr);
    let log = ran.ok();
    assert!(log.ends_with('1') && !log.contains("canary"), "{log}");
    let script = "cat .git/config; tr '\\0' '\\n' </proc/1/cmdline; ls -A .git";
    let log = cli.run(&["jobs", "submit", "--git-url", &url, "--", script]).ok();
    assert!(log.contains("[remote \"origin\"]") && !log.contains("canary"), "{log}");
    let manifests = cli
        .run(&["jobs", "submit", "--dry-run", "--git-url", &url, "--", "true"])
        .ok();
    assert!(
        manifests.contains("GIT_TOKEN") && !manifests.contains("canary"),
        "{manifests}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_without_git_fails_the_node_with_what_to_do() {
    if Backend::Embedded.lacks("its tasks have the programs of this machine") {
        return;
    }
    let world = World::own(&[]).await;
    let mut task = json!(small_task("echo never"));
    task["workdir"] = json!({"url": "https://example.com/org/repo"});
    let id = world.api.submit(&task).await;
    let status = world.api.wait_for(&id, TaskState::Failed).await;
    let expected =
        "cannot clone `https://example.com/org/repo`: `git` is not in the image; install it, or use another image";
    let message = status.message.unwrap();
    assert!(message.contains(expected), "{message}");
    let log = world.api.log_text(&id, "").await;
    assert_eq!(log, format!("{expected}\n"));
}
