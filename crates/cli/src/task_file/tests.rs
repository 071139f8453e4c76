//! Parsing of task files and display of their errors.

use serde_json::json;

use super::file::TaskFile;
use super::{Overrides, SweepArgs, TaskSet};
use crate::error::Error;
use crate::field_error::FieldError;

fn parsed(text: &str) -> TaskFile {
    TaskFile::parse("task.yaml".to_owned(), text.to_owned()).unwrap_or_else(|error| panic!("{error}"))
}

/// The error message without color.
fn validation_error(text: &str) -> String {
    let parsed = TaskSet::parse("task.yaml".to_owned(), text, Some("task".to_owned()));
    let error = match parsed {
        Ok(task) => task.validate().expect_err("the task is invalid"),
        Err(error) => error,
    };
    assert_eq!(error.exit_code(), 2);
    anstream::adapter::strip_str(&error.to_string()).to_string()
}

#[test]
fn variables_hold_what_was_written() {
    let task = parsed("run: a\nenvs: {A: 012, B: 1.10, C: 12:30, D: yes, E: true, F: '1', G: 1e3, H: 0x10, I: ~}\n");
    let expected = json!({"A": "012", "B": "1.10", "C": "12:30", "D": "yes", "E": true, "F": "1", "G": "1e3", "H": "0x10", "I": null});
    assert_eq!(task.body()["envs"], expected);
    let warned: Vec<&str> = task
        .warnings()
        .iter()
        .map(|warning| warning.split('`').nth(1).unwrap())
        .collect();
    assert_eq!(warned, ["A: 012", "B: 1.10", "C: 12:30", "D: yes", "H: 0x10"]);
    let task = parsed("run: a\nenvs: {A: 1e400, B: .inf, C: '.inf', D: -1e400, E: 2026-01-31T10:00:00}\n");
    let expected = json!({"A": "1e400", "B": ".inf", "C": ".inf", "D": "-1e400", "E": "2026-01-31T10:00:00"});
    assert_eq!(task.body()["envs"], expected);
    assert_eq!(task.warnings().len(), 2, "{:?}", task.warnings());
}

#[test]
fn a_script_is_text_whatever_it_looks_like() {
    assert_eq!(
        parsed("run: true\nsetup: 012\n").body(),
        &json!({"run": "true", "setup": "012"})
    );
}

#[test]
fn numbers_elsewhere_are_numbers() {
    let task = parsed("run: a\nnum_nodes: 2\nresources: {cpus: 0.5, use_spot: true}\n");
    assert_eq!(task.body()["num_nodes"], json!(2));
    assert_eq!(task.body()["resources"], json!({"cpus": 0.5, "use_spot": true}));
}

#[test]
fn scripts_keep_their_lines_and_json_is_yaml() {
    assert_eq!(parsed("run: |\n  a\n  b\n").body(), &json!({"run": "a\nb\n"}));
    assert_eq!(
        parsed("{\"run\": \"a\", \"num_nodes\": 2}").body(),
        &json!({"run": "a", "num_nodes": 2})
    );
}

#[test]
fn anchors_and_merges_work() {
    let task = parsed("run: a\nresources: &r {cpus: 1}\nenvs:\n  <<: {A: x}\n  B: y\n");
    assert_eq!(task.body()["envs"], json!({"A": "x", "B": "y"}));
}

#[test]
fn flags_win_over_the_file_and_are_named_when_they_are_wrong() {
    let mut task = parsed("run: a\nresources: {cpus: 1}\nenvs: {A: x, B: y}\n");
    let overrides = Overrides {
        cpus: Some("many".to_owned()),
        num_nodes: Some(3),
        env: vec!["A=z".to_owned()],
        volume: vec!["data:/data".to_owned()],
        ..Overrides::default()
    };
    task.apply(&overrides).unwrap();
    assert_eq!(task.body()["envs"], json!({"A": "z", "B": "y"}));
    assert_eq!(task.body()["volumes"], json!({"/data": "data"}));
    let error = anstream::adapter::strip_str(&task.validate().unwrap_err().to_string()).to_string();
    assert!(error.starts_with("error: `--cpus`: "), "{error}");
}

#[test]
fn a_variable_without_a_value_must_get_one() {
    let mut task = parsed("run: a\nenvs: {TOKEN: }\n");
    let error = anstream::adapter::strip_str(&task.validate().unwrap_err().to_string()).to_string();
    assert!(
        error.contains("`envs.TOKEN`: missing value; set it with `--env TOKEN=VALUE`"),
        "{error}"
    );
    let env = vec!["TOKEN=".to_owned()];
    task.apply(&Overrides {
        env,
        ..Overrides::default()
    })
    .unwrap();
    task.validate().unwrap();
}

#[test]
fn a_command_is_quoted_for_bash() {
    let words = ["echo", "it's", "$HOME", "a b"].map(str::to_owned);
    let task = TaskFile::from_command(&words).unwrap();
    let run = task.body()["run"].as_str().unwrap();
    let output = std::process::Command::new("bash").args(["-c", run]).output().unwrap();
    assert_eq!(output.stdout, b"it's $HOME a b\n");
}

#[test]
fn faults_are_shown_in_the_file() {
    insta::assert_snapshot!(validation_error(
        "name: hello\nnum_node: 2\nresources:\n  cpu: 4\n  memory: lots\nenvs:\n  1X: a\nrun: |\n  echo hello\n"
    ));
}

#[test]
fn a_file_without_scripts_is_a_task_that_runs_nothing() {
    let run = |text: &str| {
        let tasks = TaskSet::parse("task.yaml".to_owned(), text, None).unwrap();
        tasks.validate().unwrap();
        let warning = "the task has neither `setup` nor `run`, so it completes at once";
        assert_eq!(
            tasks.warnings().contains(&warning.to_owned()),
            tasks.body() != json!({"setup": "a"})
        );
        tasks.body()
    };
    assert_eq!(run("name: hello\n"), json!({"name": "hello", "run": ""}));
    assert_eq!(
        run("run:\nresources: {cpus: 1}\n"),
        json!({"resources": {"cpus": 1}, "run": ""})
    );
    assert_eq!(run("name: a\n---\nresources: {cpus: 1}\n")["run"], "");
    let pipeline = run("resources: {cpus: 1}\n---\nrun: a\n---\nname: x\n");
    let runs: Vec<_> = pipeline["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| &task["run"])
        .collect();
    assert_eq!(runs, ["", "a", ""]);
    assert_eq!(run("setup: a\n"), json!({"setup": "a"}));
}

#[test]
fn a_null_is_absent_only_for_a_key_that_exists() {
    let task = parsed("run: a\nservice:\nsecrets: []\nresources: {cpus: }\nvolumes: {/a: {name: x, sub_path: }}\n");
    task.validate().unwrap();
    for (text, place) in [
        ("run: a\nunknown:\n", "`unknown`: unknown key"),
        ("run: a\nresources: {cpu: }\n", "`resources.cpu`: unknown key"),
        ("run: a\nconfig: {x: }\n", "`config.x`: unknown key"),
        ("run: a\nvolumes: {/a: {name: x, x: }}\n", "`volumes./a.x`: unknown key"),
    ] {
        let error = validation_error(text);
        assert!(error.contains(place), "{error}");
    }
}

#[test]
fn a_fault_of_a_mount_is_shown_where_its_key_is_written() {
    let task = parsed("run: a\nenvs: {N: 1}\nfile_mounts:\n  /data/$N: {name: missing}\n");
    let error = FieldError {
        kind: "value_error".to_owned(),
        loc: ["body", "file_mounts", "/data/1"].map(|step| json!(step)).to_vec(),
        msg: "Value error, volume \"missing\" not found".to_owned(),
    };
    let shown = anstream::adapter::strip_str(&task.report(&[error]).to_string()).to_string();
    assert!(
        shown.contains("`file_mounts./data/$N`") && shown.contains("task.yaml:4:"),
        "{shown}"
    );
}

#[test]
fn what_is_no_yaml_is_shown_in_the_file() {
    let cases = [
        "run: 'open\n",
        "run: a\n  setup: b\n",
        "run: a\nrun: b\n",
        "run: a\n---\nnum_nodes: 0\nrun: b\n",
        "name: a\nexecution: parallel\n---\nrun: a\n---\nrun: b\n",
        "",
        "- run\n",
        "run: *nothing\n",
        "run: a\nresources: {cpus: .inf}\n",
        "run:\n\t- a\n",
    ];
    let shown: Vec<String> = cases
        .iter()
        .map(|text| format!("{text:?}\n{}", validation_error(text)))
        .collect();
    insta::assert_snapshot!(shown.join("\n\n"));
}

fn group_body(text: &str, overrides: &Overrides, sweep: &SweepArgs) -> serde_json::Value {
    let tasks = TaskSet::parse("steps.yaml".to_owned(), text, Some("steps".to_owned())).unwrap();
    tasks.apply(overrides, sweep).unwrap().body()
}

#[test]
fn several_documents_are_a_pipeline() {
    let text = "name: header\n---\nname: a\nrun: a\nenvs: {X: 1}\n---\n# nothing\n---\nrun: b\n";
    let flags = Overrides {
        env: vec!["X=2".to_owned()],
        ..Overrides::default()
    };
    let expected = json!({"name": "header", "execution": "serial", "tasks": [
        {"name": "a", "run": "a", "envs": {"X": "2"}},
        {"name": "header-2", "run": "b", "envs": {"X": "2"}},
    ]});
    assert_eq!(group_body(text, &flags, &SweepArgs::default()), expected);
    let named = Overrides {
        name: Some("mine".to_owned()),
        ..Overrides::default()
    };
    let body = group_body("run: a\n---\nrun: b\n", &named, &SweepArgs::default());
    assert_eq!(
        (&body["name"], &body["tasks"][1]["name"]),
        (&json!("mine"), &json!("mine-2"))
    );
}

#[test]
fn a_header_and_one_task_are_one_task() {
    let single = |text: &str| group_body(text, &Overrides::default(), &SweepArgs::default());
    assert_eq!(single("name: x\n---\nrun: a\n"), json!({"name": "x", "run": "a"}));
    assert_eq!(single("---\nrun: a\n---\n"), json!({"run": "a"}));
    assert_eq!(
        single("name: x\n---\nname: y\nrun: a\n"),
        json!({"name": "y", "run": "a"})
    );
}

#[test]
fn a_sweep_is_a_task_for_each_combination() {
    let sweep = SweepArgs {
        sweep: vec!["LR=[0.1,0.01]".to_owned()],
        max_parallel: Some(1),
        ..SweepArgs::default()
    };
    let expected = json!({"name": "train", "execution": "parallel", "max_parallel": 1, "tasks": [
        {"name": "train-0.1", "run": "a", "envs": {"LR": "0.1", "X": 1}},
        {"name": "train-0.01", "run": "a", "envs": {"LR": "0.01", "X": 1}},
    ]});
    let text = "name: train\nrun: a\nenvs: {LR: 1, X: 1}\n";
    let body = group_body(text, &Overrides::default(), &sweep);
    assert_eq!(body["tasks"][1]["envs"]["LR"], expected["tasks"][1]["envs"]["LR"]);
    assert_eq!(
        (&body["name"], &body["max_parallel"], &body["tasks"][0]["name"]),
        (&json!("train"), &json!(1), &json!("train-0.1"))
    );
    let pipeline = TaskSet::parse("a".to_owned(), "run: a\n---\nrun: b\n", None).unwrap();
    assert!(pipeline.apply(&Overrides::default(), &sweep).is_err());
}

#[test]
fn the_servers_faults_in_a_group_are_shown_in_their_document() {
    let text = "run: a\n---\nrun: b\nvolumes:\n  /data: missing\n";
    let tasks = TaskSet::parse("task.yaml".to_owned(), text, None).unwrap();
    let error = FieldError {
        kind: "value_error".to_owned(),
        loc: ["body", "tasks"]
            .map(|key| json!(key))
            .into_iter()
            .chain([json!(1), json!("volumes"), json!("/data")])
            .collect(),
        msg: "Value error, volume \"missing\" not found".to_owned(),
    };
    let shown = anstream::adapter::strip_str(&tasks.report(&[error]).to_string()).to_string();
    assert!(
        shown.contains("`volumes./data`: volume \"missing\" not found") && shown.contains(":5:"),
        "{shown}"
    );
}

#[test]
fn the_servers_faults_are_shown_in_the_file() {
    let task = parsed("run: a\nvolumes:\n  /data: missing\n");
    let error = FieldError {
        kind: "value_error".to_owned(),
        loc: vec![json!("body"), json!("volumes"), json!("/data")],
        msg: "Value error, volume \"missing\" not found".to_owned(),
    };
    let error = Error::InvalidTask(task.report(&[error]));
    insta::assert_snapshot!(anstream::adapter::strip_str(&error.to_string()).to_string());
}

/// The local parts of a set of tasks, by the number of their file and their target, and the body with them uploaded.
fn with_files(text: &str, overrides: &Overrides, sweep: &SweepArgs) -> (Vec<(usize, String)>, serde_json::Value) {
    let tasks = TaskSet::parse("steps.yaml".to_owned(), text, Some("steps".to_owned())).unwrap();
    let tasks = tasks.apply(overrides, sweep).unwrap();
    let parts = tasks.local_parts().unwrap();
    let id = |path: &std::path::Path| path.file_name().unwrap().display().to_string();
    let all = || {
        parts
            .iter()
            .flat_map(|of_task| of_task.parts.iter().map(|part| (of_task.file, part)))
    };
    let sets = all().map(|(_, part)| (part.source.clone(), id(&part.source.path)));
    let body = tasks.body_with(&parts, &sets.collect());
    let targets = all().map(|(number, part)| (number, part.target.clone()));
    (targets.collect(), body)
}

#[test]
fn each_task_of_a_group_names_the_files_that_it_copies() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["small", "large"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    let root = folder.path().display();
    let text = format!("run: a\nfile_mounts: {{/data: {root}/small}}\n---\nrun: b\n");
    let flags = Overrides {
        workdir: Some(format!("{root}/large")),
        ..Overrides::default()
    };
    let (parts, body) = with_files(&text, &flags, &SweepArgs::default());
    let expected = [(0, "."), (0, "/data"), (1, ".")].map(|(number, target)| (number, target.to_owned()));
    assert_eq!(parts, expected);
    assert_eq!(body["tasks"][0]["files"], json!({".": "large", "/data": "small"}));
    assert_eq!(body["tasks"][1]["files"], json!({".": "large"}));
    let sweep = SweepArgs {
        sweep: vec!["SIZE=small,large".to_owned()],
        ..SweepArgs::default()
    };
    let text = format!("run: a\nworkdir: /code\nfile_mounts: {{/data: '{root}/$SIZE'}}\n");
    let (_, body) = with_files(&text, &Overrides::default(), &sweep);
    assert_eq!(body["tasks"][0]["files"], json!({"/data": "small"}));
    assert_eq!(body["tasks"][1]["files"], json!({"/data": "large"}));
    assert_eq!(body["tasks"][1]["workdir"], json!("/code"));
}

#[test]
fn no_workdir_removes_that_of_the_file() {
    let flags = Overrides {
        no_workdir: true,
        ..Overrides::default()
    };
    let (parts, body) = with_files("run: a\nworkdir: missing\n", &flags, &SweepArgs::default());
    assert_eq!((parts, body), (Vec::new(), json!({"run": "a"})));
}

#[test]
fn a_folder_that_is_missing_is_shown_in_the_file_or_by_its_flag() {
    let message = validation_error("run: a\nworkdir: no/such/folder\n");
    assert!(
        message.starts_with("error: `workdir`: `no/such/folder` does not exist in `/"),
        "{message}"
    );
    assert!(message.contains("task.yaml:2:10"), "{message}");
    let mut task = parsed("run: a\nworkdir: /code\n");
    let flags = Overrides {
        workdir: Some("/no/such".to_owned()),
        ..Overrides::default()
    };
    task.apply(&flags).unwrap();
    let message = anstream::adapter::strip_str(&task.validate().unwrap_err().to_string()).to_string();
    assert_eq!(message, "error: `--workdir`: `/no/such` does not exist");
}

proptest::proptest! {
    /// Any text is either a task or an error, and every error can be displayed.
    #[test]
    fn no_file_is_too_strange(text in "[ -~\n\té€&*{}\\[\\]:,'\"|>-]{0,120}") {
        let parsed = TaskSet::parse("task.yaml".to_owned(), &text, None);
        if let Err(error) = parsed.and_then(|tasks| tasks.validate()) {
            proptest::prop_assert!(!error.to_string().is_empty());
        }
    }
}

#[test]
fn a_tag_that_nobody_knows_is_not_dropped() {
    for text in [
        "run: !secret name\n",
        "run: a\nenvs: {A: !vault path}\n",
        "run: a\nresources: !big {cpus: 1}\n",
    ] {
        assert!(validation_error(text).contains("tag"), "{text}");
    }
    parsed("run: !!str true\n");
}

#[test]
fn a_file_that_is_too_much_is_told_in_words() {
    let many = format!("run: a\nenvs: [{}]\n", "a,".repeat(300_000));
    let deep = format!("run: {}\n", "[".repeat(3000));
    for text in [many, deep] {
        let message = validation_error(&text);
        assert!(
            !message.contains("budget") && !message.contains("Nodes {"),
            "{}",
            &message[..200.min(message.len())]
        );
    }
}

#[test]
fn one_word_with_spaces_is_bash_and_several_words_are_a_command() {
    let run = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        TaskFile::from_command(&words).unwrap().body()["run"].clone()
    };
    assert_eq!(run(&["echo one > f; cat f"]), "echo one > f; cat f");
    assert_eq!(run(&["echo", "one > f"]), "echo 'one > f'");
    assert_eq!(run(&["true"]), "true");
}

#[test]
fn a_path_of_the_flag_is_kept_under_its_last_name() {
    let applied = |paths: &[&str]| {
        let mut task = parsed("run: a\noutputs: {./results: out}\n");
        let outputs = paths.iter().map(|path| (*path).to_owned()).collect();
        task.apply(&Overrides {
            outputs,
            ..Overrides::default()
        })
        .map(|()| task)
    };
    let task = applied(&["/tmp/model.pt", "./logs/"]).unwrap();
    assert_eq!(
        task.body()["outputs"],
        json!({"./results": "out", "model.pt": "/tmp/model.pt", "logs": "./logs/"})
    );
    task.validate().unwrap();
    for paths in [&["/"][..], &["."], &["~/"], &["/a/x", "/b/x"]] {
        assert_eq!(applied(paths).unwrap_err().exit_code(), 2, "{paths:?}");
    }
}

#[test]
fn an_output_outside_of_the_folder_is_an_error_at_its_place() {
    let error = validation_error("run: a\noutputs:\n  ../x: out\n");
    assert!(
        error.contains("task.yaml:3:9") && error.contains("without `.` and `..`"),
        "{error}"
    );
    let error = validation_error("run: a\noutputs: {/x: out}\n");
    assert!(error.contains("must be a relative path"), "{error}");
}
