//! The real `kubectl` on the embedded engine and, to check the tests themselves, on a real cluster.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use e2e::{Backend, World, eventually};
use serde_json::{Value, json};

/// `kubectl` in the namespace of a world.
struct Kubectl {
    kubeconfig: Option<std::path::PathBuf>,
    namespace: String,
}

impl Kubectl {
    /// `None` if `kubectl` is not installed.
    fn of(world: &World) -> Option<Self> {
        let found = Command::new("kubectl").args(["version", "--client"]).output();
        if found.is_err() {
            println!("skipped: kubectl is not installed");
            return None;
        }
        Some(Self {
            kubeconfig: world.state_dir().map(|directory| directory.join("kubeconfig")),
            namespace: world.cluster.namespace.clone(),
        })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        if let Some(path) = &self.kubeconfig {
            command.env("KUBECONFIG", path);
        }
        command.args(["--namespace", &self.namespace]).args(arguments);
        command
    }

    fn output(&self, arguments: &[&str], input: Option<&str>) -> Output {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        if let (Some(input), Some(stdin)) = (input, child.stdin.as_mut()) {
            std::io::Write::write_all(stdin, input.as_bytes()).unwrap();
        }
        child.wait_with_output().unwrap()
    }

    /// Returns the output of a command that must succeed.
    fn run(&self, arguments: &[&str]) -> String {
        self.pipe(arguments, None)
    }

    fn feed(&self, arguments: &[&str], input: &Value) -> String {
        self.pipe(arguments, Some(&input.to_string()))
    }

    fn pipe(&self, arguments: &[&str], input: Option<&str>) -> String {
        let output = self.output(arguments, input);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "kubectl {arguments:?}: {}",
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }
}

fn job(name: &str, script: &str) -> Value {
    let image = "python:3.13-slim";
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"backoffLimit": 0, "template": {
        "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [
            {"name": "main", "image": image, "command": ["/bin/bash", "-c", script]},
        ]},
    }}})
}

/// Returns the first lines of a command's output, and ends it.
fn first_lines(mut child: Child, count: usize) -> Vec<String> {
    let lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let lines = lines.take(count).collect();
    let _ = child.kill();
    let _ = child.wait();
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_creates_waits_for_and_reads_a_job() {
    let world = World::own(&[]).await;
    let Some(kubectl) = Kubectl::of(&world) else { return };
    let made = kubectl.feed(&["create", "-f", "-"], &job("hello", "echo one; sleep 1; echo two"));
    assert_eq!(made, "job.batch/hello created\n");
    let waited = kubectl.run(&["wait", "--for=condition=complete", "--timeout=60s", "job/hello"]);
    assert_eq!(waited, "job.batch/hello condition met\n");
    assert_eq!(kubectl.run(&["logs", "job/hello"]), "one\ntwo\n");
    assert_eq!(kubectl.run(&["logs", "job/hello", "--tail=1"]), "two\n");
    let stamped = kubectl.run(&["logs", "job/hello", "--timestamps"]);
    assert!(
        stamped.lines().all(|line| line.contains('T') && line.contains("Z ")),
        "{stamped}"
    );
    let again = kubectl.output(&["create", "-f", "-"], Some(&job("hello", "true").to_string()));
    assert!(String::from_utf8_lossy(&again.stderr).contains("jobs.batch \"hello\" already exists"));
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_shows_objects_in_tables() {
    let world = World::own(&[]).await;
    let Some(kubectl) = Kubectl::of(&world) else { return };
    world.api.create_volume(&json!({"name": "data", "size": "1Mi"})).await;
    kubectl.feed(&["create", "-f", "-"], &job("shown", "sleep 600"));
    eventually(Duration::from_secs(60), "the pod to run", async || {
        kubectl.run(&["get", "pods"]).contains("Running").then_some(())
    })
    .await;
    let all = kubectl.run(&["get", "jobs,pods,pvc,nodes,events", "-o", "wide"]);
    for word in [
        "COMPLETIONS",
        "job.batch/shown",
        "0/1",
        "pod/shown-",
        "Running",
        "persistentvolumeclaim/data-",
        "STORAGECLASS",
        "node/",
        "Ready",
        "INTERNAL-IP",
        "SuccessfulCreate",
        "Scheduled",
        "python:3.13-slim",
    ] {
        assert!(all.contains(word), "{word} in {all}");
    }
    let names = kubectl.run(&["get", "jobs", "-o", "name"]);
    assert_eq!(names, "job.batch/shown\n");
    let path = kubectl.run(&["get", "job", "shown", "-o", "jsonpath={.spec.backoffLimit}"]);
    assert_eq!(path, "0");
    let described = kubectl.run(&["describe", "job", "shown"]);
    for word in [
        "Name:             shown",
        "Pods Statuses:",
        "1 Active",
        "Created pod: shown-",
    ] {
        assert!(described.contains(word), "{word} in {described}");
    }
    assert!(kubectl.run(&["describe", "nodes"]).contains("Allocatable:"));
    kubectl.run(&["delete", "job", "shown"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_follows_objects_and_logs() {
    let world = World::own(&[]).await;
    let Some(kubectl) = Kubectl::of(&world) else { return };
    let watching = kubectl.start(&["get", "jobs", "--watch", "--no-headers"]);
    // The watch may begin before or after the Job is created; it shows the Job in both cases.
    kubectl.feed(
        &["create", "-f", "-"],
        &job("followed", "echo one; sleep 2; echo two; sleep 600"),
    );
    let seen = first_lines(watching, 1);
    assert!(seen[0].starts_with("followed "), "{seen:?}");
    eventually(Duration::from_secs(60), "the pod to run", async || {
        kubectl.run(&["get", "pods"]).contains("Running").then_some(())
    })
    .await;
    assert_eq!(
        first_lines(kubectl.start(&["logs", "-f", "job/followed"]), 2),
        ["one", "two"]
    );
    kubectl.run(&["delete", "job", "followed"]);
    assert_eq!(kubectl.run(&["get", "jobs", "-o", "name"]), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_changes_objects() {
    let world = World::own(&[]).await;
    let Some(kubectl) = Kubectl::of(&world) else { return };
    let mut config =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1", "b": "2"}});
    let apply = ["apply", "-f", "-"];
    assert_eq!(kubectl.feed(&apply, &config), "configmap/c created\n");
    assert_eq!(kubectl.feed(&apply, &config), "configmap/c unchanged\n");
    config["data"] = json!({"a": "3"});
    assert_eq!(kubectl.feed(&apply, &config), "configmap/c configured\n");
    let data = ["get", "configmap", "c", "-o", "jsonpath={.data}"];
    assert_eq!(kubectl.run(&data), r#"{"a":"3"}"#);
    assert_eq!(
        kubectl.run(&["label", "configmap", "c", "color=red"]),
        "configmap/c labeled\n"
    );
    assert_eq!(
        kubectl.run(&["get", "configmaps", "-l", "color=red", "-o", "name"]),
        "configmap/c\n"
    );
    assert_eq!(
        kubectl.run(&["label", "configmap", "c", "color-"]),
        "configmap/c unlabeled\n"
    );
    assert_eq!(
        kubectl.run(&["annotate", "configmap", "c", "note=x"]),
        "configmap/c annotated\n"
    );
    for (kind, patch) in [
        ("strategic", r#"{"data": {"p": "4"}}"#),
        ("merge", r#"{"data": {"p": "5"}}"#),
        ("json", r#"[{"op": "replace", "path": "/data/p", "value": "6"}]"#),
    ] {
        let patched = kubectl.run(&["patch", "configmap", "c", "--type", kind, "-p", patch]);
        assert_eq!(patched, "configmap/c patched\n", "{kind}");
    }
    assert_eq!(kubectl.run(&data), r#"{"a":"3","p":"6"}"#);
    config["data"] = json!({"s": "7"});
    let applied = kubectl.feed(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &config);
    assert_eq!(applied, "configmap/c serverside-applied\n");
    let wrong = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "w"}, "dta": {}});
    let refused = kubectl.output(&["create", "-f", "-"], Some(&wrong.to_string()));
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("unknown field \"dta\""),
        "{refused:?}"
    );
    assert_eq!(kubectl.run(&["delete", "configmap", "c"]), "configmap \"c\" deleted\n");
    let gone = kubectl.output(&["get", "configmap", "c"], None);
    assert!(String::from_utf8_lossy(&gone.stderr).contains("configmaps \"c\" not found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsupported_kubectl_encoding_gets_a_suggestion() {
    let world = World::own(&[]).await;
    let Some(kubectl) = Kubectl::of(&world) else { return };
    let create = ["create", "configmap", "settings", "--from-literal=a=b"];
    let output = kubectl.output(&create, None);
    let stderr = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let way = "add `--dry-run=client --output yaml` and pipe the output to `kubectl apply --filename -`";
        assert!(stderr.contains(way), "{stderr}");
        let object = kubectl.run(&[create.as_slice(), &["--dry-run=client", "--output", "yaml"]].concat());
        kubectl.pipe(&["apply", "--filename", "-"], Some(&object));
    }
    let data = kubectl.run(&["get", "configmap", "settings", "--output", "jsonpath={.data.a}"]);
    assert_eq!(data, "b");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_requires_its_token() {
    if Backend::Cluster.lacks("the operator configures its access") {
        return;
    }
    let world = World::own(&[]).await;
    let Some(kubectl) = Kubectl::of(&world) else { return };
    let refused = kubectl.output(&["get", "secrets", "--token=wrong"], None);
    let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && stderr.contains("must be logged in"),
        "{stderr}"
    );
    let state = world.state_dir().unwrap();
    for (path, mode) in [
        (state.to_owned(), 0o700),
        (state.join("kubeconfig"), 0o600),
        (state.join("access.json"), 0o600),
    ] {
        let found = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(found & 0o777, mode, "{}", path.display());
    }
}
