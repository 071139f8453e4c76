//! The exact output of every command, in a pipe and on terminals of 40, 80, and 200 columns.
//!
//! On the embedded engine only: names of cluster nodes and reasons depend on the cluster.

use e2e::{Backend, CommandLine, Ran, World};

/// Where a command prints to.
#[derive(Clone, Copy)]
struct Place {
    width: Option<u16>,
    name: &'static str,
    /// Placeholders for the task and the volume that are created there.
    task: &'static str,
    volume: &'static str,
}

const PIPE: Place = Place {
    width: None,
    name: "in a pipe",
    task: "TASKpipe",
    volume: "data-pip",
};

const PLACES: [Place; 4] = [
    PIPE,
    Place {
        width: Some(40),
        name: "40 columns",
        task: "TASKco40",
        volume: "data-c40",
    },
    Place {
        width: Some(80),
        name: "80 columns",
        task: "TASKco80",
        volume: "data-c80",
    },
    Place {
        width: Some(200),
        name: "200 columns",
        task: "TASKc200",
        volume: "data-200",
    },
];

/// A CLI whose whole output is recorded.
struct Recorded {
    cli: CommandLine,
    /// What differs in each run, with placeholders of the same length.
    names: Vec<(String, String)>,
    text: String,
}

fn is_here() -> bool {
    let is_here = Backend::chosen() == Backend::Embedded;
    if !is_here {
        println!("skipped on Cluster: names of cluster nodes and reasons depend on it");
    }
    is_here
}

impl Recorded {
    async fn on(arguments: &[&str]) -> Option<(World, Self)> {
        if !is_here() {
            return None;
        }
        let world = World::own(arguments).await;
        let names = vec![
            (world.api.base().to_owned(), "http://SERVER".to_owned()),
            (world.cluster.namespace.clone(), "e2e-NAMESPAC".to_owned()),
        ];
        let recorded = Self::of(CommandLine::of(&world), names);
        Some((world, recorded))
    }

    fn of(cli: CommandLine, mut names: Vec<(String, String)>) -> Self {
        names.push((cli.home().to_str().unwrap().to_owned(), "/HOME".to_owned()));
        let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
        names.push((format!("   {machine}\n"), "   MACHINE\n".to_owned()));
        Self {
            cli,
            names,
            text: String::new(),
        }
    }

    /// Replaces `id` with `name` from now on, which must have the same length.
    fn name(&mut self, id: &str, name: &str) -> String {
        assert_eq!(id.len(), name.len());
        self.names.push((id.to_owned(), name.to_owned()));
        id.to_owned()
    }

    fn submit(&mut self, name: &str, arguments: &[&str]) -> String {
        let all = [&["jobs", "submit", "-q"], arguments].concat();
        let id = self.cli.run(&all).ok();
        self.name(id.trim(), name)
    }

    /// Runs a read-only command in every place.
    fn run(&mut self, arguments: &[&str]) {
        for place in PLACES {
            self.run_at(place, arguments);
        }
    }

    fn ran_at(&self, place: Place, arguments: &[&str]) -> Ran {
        match place.width {
            None => self.cli.run(arguments),
            Some(width) => self.cli.on_terminal(width, arguments),
        }
    }

    /// Runs a command in a pipe, or on a terminal of some width, and records its output.
    fn run_at(&mut self, place: Place, arguments: &[&str]) {
        let ran = self.ran_at(place, arguments);
        // The ID of a submitted and followed task is printed before its log.
        let made = ran
            .stderr
            .strip_prefix("task ")
            .and_then(|line| line.split_once(" submitted\n"));
        if let Some((id, _)) = made {
            self.name(id, place.task);
        }
        self.keep(place.name, arguments, &ran);
    }

    fn keep(&mut self, place: &str, arguments: &[&str], ran: &Ran) {
        let stdout = String::from_utf8_lossy(&ran.stdout)
            .replace("\r\n", "\n")
            .replace('\x1b', "␛");
        let mut text = format!("$ k8s-cli {}    # {place}\n{stdout}", arguments.join(" "));
        if !ran.stderr.is_empty() {
            text.push_str(&format!("--- standard error\n{}", ran.stderr));
        }
        if ran.code != 0 {
            text.push_str(&format!("--- exit code {}\n", ran.code));
        }
        for (id, name) in &self.names {
            text = text.replace(id, name);
        }
        self.text.push_str(&text);
        self.text.push('\n');
    }

    /// Compares the output with the snapshot.
    fn check(self, name: &str) {
        let mut settings = insta::Settings::clone_current();
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        for (pattern, replacement) in [
            (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", "2026-MM-DDTHH:MM:SS.ssssssZ"),
            (r"\(\d+s ago\)", "(##s ago)"),
            (r"after \d+s", "after ##s"),
            // An age has one digit and padding, or two digits: the columns don't move.
            (r"\b\ds  ", "##s "),
            (r"\b\d\ds  ", "##s  "),
            (r"\b\d{1,2}s\n", "##s\n"),
            (r#""127\.[\d.]+""#, "\"127.x.y.z\""),
            (r#"("?node_name"?): .*"#, "$1: MACHINE"),
            (r"(TASK[a-z0-9]{4}(-node-\d)?)-[a-z0-9]{5}\b", "$1-PODid"),
            (r"\(PID \d+\)", "(PID NUMBER)"),
            (r"pid:     \d+", "pid:     NUMBER"),
            (r#"(\n  "pid"|\npid): \d+"#, "$1: NUMBER"),
            (
                r#"[^\s"]+ \([\d.]+ CPUs, [\w.]+ memory\)"#,
                "MACHINE (# CPUs, # memory)",
            ),
            (r"request: [0-9a-z]{8}\b", "request: REQUEST_"),
            (r#""request_id":"[0-9a-z]{8}""#, r#""request_id":"REQUEST_""#),
        ] {
            settings.add_filter(pattern, replacement);
        }
        settings.bind(|| insta::assert_snapshot!(name, self.text));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_states_of_tasks() {
    let Some((_world, mut recorded)) = Recorded::on(&[]).await else {
        return;
    };
    recorded.run(&["jobs", "list"]);
    let done = recorded.submit("TASKdone", &["--name", "hello", "--", "echo", "hello"]);
    let long = "a-name-that-is-rather-long-for-a-table";
    let failed = recorded.submit("TASKfail", &["--name", long, "--", "bash", "-c", "exit 3"]);
    recorded.cli.run(&["jobs", "wait", &done, &failed, "-q"]).ok();
    let nodes = ["--name", "train", "--cpus", "900", "--num-nodes", "2", "--", "true"];
    let waiting = recorded.submit("TASKwait", &nodes);
    recorded.run(&["jobs", "list"]);
    recorded.run(&["jobs", "list", "--details"]);
    recorded.run(&["jobs", "list", "--all-users", "--sort-by", "name", "--no-headers"]);
    recorded.run(&["jobs", "list", "--status", "failed,pending", "-q"]);
    recorded.run(&["jobs", "list", "--status", "running"]);
    recorded.run(&["jobs", "list", "--status", "completed", "-o", "json"]);
    recorded.run(&["jobs", "list", "--status", "completed", "-o", "yaml"]);
    recorded.run(&["jobs", "status", &waiting]);
    // Where the names of pods are cut, so are their random suffixes.
    for place in [PIPE, PLACES[3]] {
        recorded.run_at(place, &["jobs", "status", &waiting, "-o", "wide"]);
    }
    recorded.run(&["jobs", "wait", &done]);
    recorded.run(&["jobs", "wait", &failed, "--for", "completed"]);
    recorded.run(&["jobs", "status", "nothing"]);
    recorded.run(&["jobs", "status", "nothing", "-o", "json"]);
    recorded.run(&["jobs", "top", &waiting]);
    recorded.check("lists_and_states_of_tasks");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_was_run_again() {
    let Some((_world, mut recorded)) = Recorded::on(&[]).await else {
        return;
    };
    recorded.cli.write(
        "task.yaml",
        "resources: {job_recovery: {max_restarts_on_errors: 1}}\nrun: echo a try; exit 3\n",
    );
    let id = recorded.submit("TASKagai", &["--name", "again", "task.yaml"]);
    recorded.cli.run(&["jobs", "wait", &id, "-q"]).ok();
    recorded.run(&["jobs", "status", &id]);
    recorded.run(&["jobs", "logs", &id, "--no-follow"]);
    recorded.check("a_task_that_was_run_again");
}

#[tokio::test(flavor = "multi_thread")]
async fn submits_logs_and_stops() {
    let Some((_world, mut recorded)) = Recorded::on(&[]).await else {
        return;
    };
    recorded.cli.write(
        "wrong.yaml",
        "name: hello\nresource:\n  cpus: 4\nenvs:\n  A: 012\n  B: yes\nrun: |\n  echo hello\n",
    );
    recorded
        .cli
        .write("task.yaml", "name: hello\nenvs: {TOKEN: }\nworkdir: /code\nrun: true\n");
    recorded.run(&["jobs", "submit", "wrong.yaml"]);
    recorded.run(&["jobs", "submit", "task.yaml"]);
    recorded.cli.write(
        "warned.yaml",
        "envs: {A: 012}\nresources: {disk_tier: best}\nrun: true\n",
    );
    let ran = recorded.cli.run(&["jobs", "submit", "warned.yaml", "--detach"]);
    let id = String::from_utf8_lossy(&ran.stdout).trim().to_owned();
    recorded.name(&id, "TASKwarn");
    recorded.keep(PIPE.name, &["jobs", "submit", "warned.yaml", "--detach"], &ran);
    recorded.cli.run(&["jobs", "wait", &id, "-q"]).ok();
    recorded.run(&["jobs", "submit", "--exit-code", "--", "echo", "hello"]);
    recorded.run(&["jobs", "submit", "--exit-code", "--", "bash", "-c", "echo no; exit 7"]);
    recorded.run(&["jobs", "submit", "nothing.yaml"]);
    recorded.run(&["jobs", "submit", "--env", "NOT_SET_HERE", "--", "true"]);
    recorded.run(&["jobs", "submit", "--memory", "lots", "--", "true"]);
    recorded.run(&[
        "jobs",
        "submit",
        "--volume",
        "nothing:/data",
        "--dry-run",
        "-o",
        "json",
        "--",
        "true",
    ]);
    let script = "[ $NODE_RANK = 0 ] || echo \"node 1 of two\"";
    let id = recorded.submit("TASKid01", &["--num-nodes", "2", "--", "bash", "-c", script]);
    recorded.cli.run(&["jobs", "wait", &id, "-q"]).ok();
    recorded.run(&["jobs", "logs", &id, "--no-follow"]);
    recorded.run(&["jobs", "logs", &id, "--node", "1"]);
    recorded.run(&["jobs", "logs", &id, "--node", "7"]);
    recorded.run(&["jobs", "logs", &id, "--since", "long ago"]);
    recorded.run(&["jobs", "stop", "--all"]);
    recorded.run(&["jobs", "stop", "nothing"]);
    recorded.cli.run(&["jobs", "stop", "--all", "--yes"]).ok();
    for (place, name) in PLACES.into_iter().zip(["TASKstp1", "TASKstp2", "TASKstp3", "TASKstp4"]) {
        let id = recorded.submit(name, &["--", "sleep", "600"]);
        recorded.run_at(place, &["jobs", "stop", &id]);
        recorded.submit(&name.replace("stp", "all"), &["--", "sleep", "600"]);
        recorded.run_at(place, &["jobs", "stop", "--all", "--yes"]);
    }
    recorded.check("submits_logs_and_stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes() {
    let Some((_world, mut recorded)) = Recorded::on(&[]).await else {
        return;
    };
    recorded.run(&["volumes", "list"]);
    let id = recorded.cli.run(&["volumes", "create", "my-data", "10Gi", "-q"]).ok();
    let id = recorded.name(id.trim(), "VOLUMEid");
    recorded.run(&["volumes", "list"]);
    recorded.run(&["volumes", "list", "--details", "--all-users"]);
    recorded.run(&["volumes", "status", "my-data"]);
    recorded.run(&["volumes", "status", &id, "-o", "yaml"]);
    recorded.run(&["volumes", "status", "my-date"]);
    recorded.run(&["volumes", "create", "no name", "much"]);
    recorded.run(&["volumes", "delete", "my-data"]);
    for place in PLACES {
        let create = ["volumes", "create", place.volume, "1Gi"];
        let ran = recorded.ran_at(place, &create);
        let id = String::from_utf8_lossy(&ran.stdout).trim().to_owned();
        recorded.name(&id, &place.task.replace("TASK", "VOLU"));
        recorded.keep(place.name, &create, &ran);
        recorded.run_at(place, &["volumes", "delete", place.volume, "--force"]);
    }
    let create = ["volumes", "create", "twice", "1Gi"];
    let first = recorded.cli.run(&[create.as_slice(), &["-q"]].concat()).ok();
    recorded.name(first.trim(), "VOLUtwi1");
    let ran = recorded.cli.run(&create);
    let second = String::from_utf8_lossy(&ran.stdout).trim().to_owned();
    recorded.name(&second, "VOLUtwi2");
    recorded.keep(PIPE.name, &create, &ran);
    recorded.check("volumes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_ones_own() {
    if !is_here() {
        return;
    }
    let mut cli = CommandLine::with_free_port();
    cli.set("K8S_CLI_USER", "alice@example.com");
    let url = format!("http://127.0.0.1:{}", cli.variable("K8S_CLI_API_PORT").unwrap());
    let mut recorded = Recorded::of(cli, vec![(url, "http://SERVER".to_owned())]);
    recorded.run(&["doctor"]);
    recorded.run_at(PIPE, &["doctor", "-o", "json"]);
    recorded.run(&["api", "status"]);
    recorded.run_at(PIPE, &["api", "status", "-o", "json"]);
    recorded.run(&["api", "stop"]);
    recorded.run(&["api", "logs"]);
    for place in PLACES {
        recorded.run_at(place, &["api", "start"]);
        recorded.run_at(place, &["api", "start"]);
        recorded.run_at(place, &["api", "status"]);
        recorded.run_at(place, &["doctor"]);
        for format in ["json", "yaml"].into_iter().filter(|_| place.width.is_none()) {
            recorded.run_at(place, &["api", "status", "-o", format]);
            recorded.run_at(place, &["doctor", "-o", format]);
        }
        recorded.run_at(place, &["api", "stop"]);
        recorded.run_at(place, &["api", "logs", "--tail", "1"]);
    }
    recorded.check("a_server_of_ones_own");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_servers_and_help() {
    let Some((_world, mut recorded)) = Recorded::on(&[]).await else {
        return;
    };
    recorded.run(&["auth", "whoami"]);
    recorded.run(&["auth", "login", ""]);
    for place in PLACES {
        recorded.run_at(place, &["auth", "login", "carol@example.com"]);
        recorded.run_at(place, &["auth", "logout"]);
    }
    recorded.run(&["auth", "logout"]);
    recorded.run(&["man", "pages"]);
    recorded.run(&["completions", "bash"]);
    recorded.run_at(PIPE, &["completions", "zsh"]);
    recorded.run_at(PIPE, &["completions", "fish"]);
    recorded.run(&["completions", "tcsh"]);
    recorded.run(&["--api-url", "http://127.0.0.1:1", "jobs", "list"]);
    recorded.run(&["--api-url", "http://127.0.0.1:1", "jobs", "list", "-o", "json"]);
    recorded.run(&["--api-url", "nothing", "jobs", "list"]);
    recorded.run(&["--user", "", "jobs", "list"]);
    recorded.run(&["api", "status"]);
    recorded.run(&["jobs", "lits"]);
    for words in [
        vec!["--help"],
        vec!["jobs", "--help"],
        vec!["jobs", "submit", "--help"],
        vec!["jobs", "list", "--help"],
        vec!["jobs", "status", "--help"],
        vec!["jobs", "stop", "--help"],
        vec!["jobs", "logs", "--help"],
        vec!["jobs", "wait", "--help"],
        vec!["jobs", "top", "--help"],
        vec!["volumes", "--help"],
        vec!["volumes", "create", "--help"],
        vec!["volumes", "delete", "--help"],
        vec!["auth", "--help"],
        vec!["api", "--help"],
        vec!["api", "status", "--help"],
        vec!["doctor", "--help"],
        vec!["completions", "--help"],
    ] {
        recorded.run_at(PIPE, &words);
    }
    recorded.run(&["jobs", "logs", "-h"]);
    recorded.check("users_servers_and_help");
}
