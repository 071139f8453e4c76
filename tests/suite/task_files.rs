//! What becomes of each file in `tests/task_files`, which are in the manner of real ones.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use e2e::{CommandLine, World};
use serde_json::Value;
use task::definition::keys::{self, Section, Support};

/// The volumes that the files mount.
const VOLUMES: [&str; 3] = ["nlp-data", "group-library", "shared-checkpoints"];

/// All files with their text, in the order of their names.
fn task_files() -> BTreeMap<String, String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("task_files");
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

async fn cli_with_volumes(world: &World) -> CommandLine {
    for volume in VOLUMES {
        world.api.create_small_volume(volume).await;
    }
    // A task may copy the folder in which the command runs, and the home directory is refused.
    CommandLine::of(world).in_folder("work")
}

/// Every scalar in a manifest by its path.
fn flatten(path: &str, value: &Value, all: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                flatten(&format!("{path}.{key}"), value, all);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                // Variables and volumes have names, which say more than their place.
                let step = item["name"].as_str().map_or_else(|| index.to_string(), str::to_owned);
                flatten(&format!("{path}[{step}]"), item, all);
            }
        }
        scalar => drop(all.insert(path.to_owned(), scalar.to_string())),
    }
}

/// The pod of the first Job, and the number of Jobs.
fn pod_of(dry_run: &[u8]) -> BTreeMap<String, String> {
    let list: Value = serde_json::from_slice(dry_run).unwrap();
    let jobs: Vec<&Value> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|item| item["kind"] == "Job")
        .collect();
    let template = &jobs[0]["spec"]["template"];
    let mut pod = BTreeMap::from([("jobs".to_owned(), jobs.len().to_string())]);
    flatten("metadata", &template["metadata"], &mut pod);
    flatten("spec", &template["spec"], &mut pod);
    // The scripts have tests of their own, identifiers change, and the path of an item has its name.
    let left_out = [
        "args[",
        "task-id",
        "group-id",
        "task-name",
        "submission",
        "subdomain",
        "pod-group-name",
        "claimName",
        "configMap.name",
        "K8S_CLI_LINK_HOME",
        "secretRef",
        "].name",
        "SKYPILOT_",
    ];
    pod.retain(|path, _| !left_out.iter().any(|part| path.contains(part)));
    pod
}

#[tokio::test(flavor = "multi_thread")]
async fn every_task_file_gives_a_manifest_or_a_sentence() {
    let world = World::new().await;
    let cli = cli_with_volumes(&world).await;
    cli.write("README.md", "text");
    let dry_run = |name: &str, flags: &[&str]| cli.run(&[&["jobs", "submit", "--dry-run", name], flags].concat());
    cli.write("plain.yaml", "run: \"true\"");
    let plain = pod_of(&dry_run("plain.yaml", &["-o", "json"]).stdout);
    let mut report = String::new();
    let files = task_files();
    assert!(files.len() >= 60, "{}", files.len());
    for (name, text) in files {
        cli.write(&name, &text);
        // What becomes of it depends on the backend: a task on this machine would write to the machine itself.
        if ["mounts-local.yaml", "mounts-bucket-url.yaml"].contains(&name.as_str()) {
            continue;
        }
        let ran = dry_run(&name, &[]);
        writeln!(report, "{name}").unwrap();
        // How large the cluster nodes are differs.
        for line in ran
            .stderr
            .lines()
            .filter(|line| !line.contains("the task stays pending until one is added"))
        {
            let line = line.replace(&cli.folder().display().to_string(), "HOME");
            writeln!(report, "    {line}").unwrap();
        }
        match ran.code {
            0 => {
                let json = dry_run(&name, &["-o", "json"]).stdout;
                let differences = pod_of(&json)
                    .into_iter()
                    .filter(|(path, value)| plain.get(path) != Some(value));
                for (path, value) in differences {
                    writeln!(report, "  {path}: {value}").unwrap();
                }
            }
            2 => {}
            code => panic!("{name} ended with {code}: {}", ran.stderr),
        }
        writeln!(report).unwrap();
    }
    insta::assert_snapshot!(report);
}

#[tokio::test(flavor = "multi_thread")]
async fn task_files_that_need_no_gpu_run_to_their_end() {
    let world = World::new().await;
    let cli = cli_with_volumes(&world).await;
    let mut submitted = Vec::new();
    for (name, text) in task_files() {
        let needs_more = ["accelerators", "gpus", "image_id", "instance_type", "README.md"]
            .iter()
            .any(|word| text.contains(word));
        cli.write(&name, &text);
        let ran = cli.run(&["jobs", "submit", "-q", &name]);
        if ran.code != 0 {
            continue;
        }
        let id = ran.ok().trim().to_owned();
        if needs_more {
            cli.run(&["jobs", "stop", &id]).ok();
        } else {
            submitted.push((name, id));
        }
    }
    assert!(submitted.len() >= 20, "{submitted:?}");
    for (name, id) in submitted {
        let wait = cli.run(&["jobs", "wait", &id, "--for", "completed", "--timeout", "3m"]);
        assert_eq!(wait.code, 0, "{name}: {}", wait.stderr);
    }
}

/// A random file, and the keys in it that have no effect.
struct RandomFile {
    text: String,
    ignored: Vec<String>,
}

impl RandomFile {
    fn new() -> Self {
        let mut file = Self {
            text: "run: echo $LR\n".to_owned(),
            ignored: Vec::new(),
        };
        file.add_section(&keys::TASK, "");
        file
    }

    /// Adds some keys of a section with one of their examples.
    fn add_section(&mut self, section: &Section, indent: &str) {
        for key in section.keys.iter().filter(|key| key.name != "run") {
            let path = section.path_of(key.name);
            // The keys of a hook are those of an item in a list.
            let inner = keys::SECTIONS
                .iter()
                .find(|section| section.path == path && path != "config.hooks");
            match inner {
                Some(inner) if fastrand::bool() => {
                    self.text.push_str(&format!("{indent}{}:\n", key.name));
                    self.add_section(inner, &format!("{indent}  "));
                }
                // Most keys that change what runs are refused, so most files should have none of them.
                _ if fastrand::u8(..)
                    < if matches!(key.support, Support::Rejected { .. }) {
                        2
                    } else {
                        30
                    } =>
                {
                    let example = fastrand::choice(key.examples).copied().unwrap_or("text");
                    self.text.push_str(&format!("{indent}{}: {example}\n", key.name));
                    if matches!(key.support, Support::Ignored { .. }) {
                        self.ignored.push(path);
                    }
                }
                _ => {}
            }
        }
    }
}

/// Whatever SkyPilot's keys are combined, the result is a manifest that Kubernetes takes, with a warning for each key
/// without effect, or an error that names the place in the file.
#[tokio::test(flavor = "multi_thread")]
async fn any_combination_of_keys_gives_a_manifest_or_an_error_with_its_place() {
    let world = World::new().await;
    world.api.create_small_volume("my-data").await;
    let cli = CommandLine::of(&world).in_folder("work");
    let count = e2e::from_environment("K8S_CLI_E2E_FILES", 100);
    let mut accepted = 0;
    for number in 0..count {
        let name = format!("{number}.yaml");
        let file = RandomFile::new();
        cli.write(&name, &file.text);
        let ran = cli.run(&["jobs", "submit", "--dry-run", "-o", "json", &name]);
        let context = format!("{}\n{}", file.text, ran.stderr);
        match ran.code {
            0 => {
                accepted += 1;
                for path in &file.ignored {
                    assert!(
                        ran.stderr.contains(&format!("`{path}` has no effect")),
                        "{path}: {context}"
                    );
                }
            }
            2 => {
                let names_place =
                    ran.stderr.contains(&format!("--> {name}:")) || ran.stderr.contains(&format!("`{name}:"));
                assert!(names_place, "{context}");
            }
            code => panic!("{code}: {context}"),
        }
    }
    println!("{accepted} of {count} files were accepted");
    assert!(accepted > count / 10, "{accepted}");
}
