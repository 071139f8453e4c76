//! What every command prints, in a pipe and on terminals of 40, 80 and 200 columns, word for word.
//!
//! On the embedded engine only: names of machines and reasons are a cluster's own.

use e2e::{Backend, CommandLine, Ran, World};

/// A command line whose every word is kept.
struct Recorded {
    cli: CommandLine,
    /// What is different in each run, and what it is called here, of the same length.
    names: Vec<(String, String)>,
    text: String,
}

impl Recorded {
    async fn on(arguments: &[&str]) -> Option<(World, Self)> {
        if Backend::chosen() == Backend::Cluster {
            println!("not on a cluster: names of machines and reasons are its own");
            return None;
        }
        let world = World::own(arguments).await;
        let recorded = Self {
            cli: CommandLine::of(&world),
            names: vec![
                (world.api.base().to_owned(), "http://SERVER".to_owned()),
                (world.cluster.namespace.clone(), "e2e-NAMESPAC".to_owned()),
            ],
            text: String::new(),
        };
        Some((world, recorded))
    }

    /// Calls `id` by `name` from now on, which must be as long.
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

    /// Runs a command in a pipe and on terminals of these widths.
    fn run(&mut self, widths: &[u16], arguments: &[&str]) {
        let ran = self.cli.run(arguments);
        self.keep("in a pipe", arguments, &ran);
        for width in widths {
            let ran = self.cli.on_terminal(*width, arguments);
            self.keep(&format!("{width} columns"), arguments, &ran);
        }
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

    /// Compares with what was printed before.
    fn check(self, name: &str) {
        let mut settings = insta::Settings::clone_current();
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        for (pattern, replacement) in [
            (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", "2026-MM-DDTHH:MM:SS.ssssssZ"),
            (r"\(\d+s ago\)", "(##s ago)"),
            (r"after \d+s", "after ##s"),
            // An age of one digit and its padding, or of two: the columns stay where they are.
            (r"\b\ds  ", "##s "),
            (r"\b\d\ds  ", "##s  "),
            (r"\b\d{1,2}s\n", "##s\n"),
            (r#""127\.[\d.]+""#, "\"127.x.y.z\""),
            (r#"("?node_name"?): .*"#, "$1: MACHINE"),
            (r"(TASK[a-z0-9]{4})-[a-z0-9]{5}\b", "$1-PODid"),
        ] {
            settings.add_filter(pattern, replacement);
        }
        settings.bind(|| insta::assert_snapshot!(name, self.text));
    }
}

const WIDTHS: [u16; 3] = [40, 80, 200];

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_states_of_tasks() {
    let Some((_world, mut recorded)) = Recorded::on(&[]).await else {
        return;
    };
    recorded.run(&[80], &["jobs", "list"]);
    let done = recorded.submit("TASKdone", &["--name", "hello", "--", "echo", "hello"]);
    let failed = recorded.submit(
        "TASKfail",
        &[
            "--name",
            "a-name-that-is-rather-long-for-a-table",
            "--",
            "bash",
            "-c",
            "exit 3",
        ],
    );
    recorded.cli.run(&["jobs", "wait", &done, &failed, "-q"]).ok();
    let waiting = recorded.submit(
        "TASKwait",
        &["--name", "train", "--cpus", "900", "--num-nodes", "2", "--", "true"],
    );
    recorded.run(&WIDTHS, &["jobs", "list"]);
    recorded.run(&WIDTHS, &["jobs", "list", "--details"]);
    recorded.run(
        &[80],
        &["jobs", "list", "--all-users", "--sort-by", "name", "--no-headers"],
    );
    recorded.run(&[], &["jobs", "list", "--status", "failed,pending", "-q"]);
    recorded.run(&[], &["jobs", "list", "--status", "running"]);
    recorded.run(&[], &["jobs", "list", "--status", "completed", "-o", "json"]);
    recorded.run(&[], &["jobs", "list", "--status", "completed", "-o", "yaml"]);
    recorded.run(&WIDTHS, &["jobs", "status", &waiting]);
    recorded.run(&[80], &["jobs", "wait", &done]);
    recorded.run(&[80], &["jobs", "wait", &failed, "--for", "completed"]);
    recorded.run(&[80], &["jobs", "status", "nothing"]);
    recorded.run(&WIDTHS, &["jobs", "top", &waiting]);
    recorded.check("lists_and_states_of_tasks");
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
    recorded.cli.write(
        "task.yaml",
        "name: hello\nenvs: {TOKEN: }\nworkdir: ~/code\nrun: true\n",
    );
    recorded.run(&WIDTHS, &["jobs", "submit", "wrong.yaml"]);
    recorded.run(&[80], &["jobs", "submit", "task.yaml"]);
    recorded.cli.write(
        "warned.yaml",
        "envs: {A: 012}\nworkdir: .\nresources: {use_spot: true}\nrun: true\n",
    );
    let ran = recorded.cli.run(&["jobs", "submit", "warned.yaml", "--detach"]);
    let id = String::from_utf8_lossy(&ran.stdout).trim().to_owned();
    recorded.name(&id, "TASKwarn");
    recorded.keep("in a pipe", &["jobs", "submit", "warned.yaml", "--detach"], &ran);
    recorded.run(&[], &["jobs", "submit", "nothing.yaml"]);
    recorded.run(&[], &["jobs", "submit", "--env", "NOT_SET_HERE", "--", "true"]);
    recorded.run(&[], &["jobs", "submit", "--memory", "lots", "--", "true"]);
    let id = recorded.submit(
        "TASKid01",
        &[
            "--num-nodes",
            "2",
            "--",
            "bash",
            "-c",
            "[ $NODE_RANK = 0 ] || echo \"node 1 of two\"",
        ],
    );
    recorded.cli.run(&["jobs", "wait", &id, "-q"]).ok();
    recorded.run(&WIDTHS, &["jobs", "logs", &id, "--no-follow"]);
    recorded.run(&WIDTHS, &["jobs", "logs", &id, "--node", "1"]);
    recorded.run(&[], &["jobs", "logs", &id, "--node", "7"]);
    recorded.run(&[], &["jobs", "logs", &id, "--since", "long ago"]);
    recorded.run(&[80], &["jobs", "stop", &id]);
    recorded.run(&[], &["jobs", "stop", &id]);
    recorded.run(&[], &["jobs", "stop", "--all"]);
    recorded.run(&[80], &["jobs", "stop", "--all", "--yes"]);
    recorded.check("submits_logs_and_stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes() {
    let Some((_world, mut recorded)) = Recorded::on(&[]).await else {
        return;
    };
    recorded.run(&[80], &["volumes", "list"]);
    let id = recorded.cli.run(&["volumes", "create", "my-data", "10Gi", "-q"]).ok();
    let id = recorded.name(id.trim(), "VOLUMEid");
    recorded.run(&WIDTHS, &["volumes", "list"]);
    recorded.run(&WIDTHS, &["volumes", "list", "--details", "--all-users"]);
    recorded.run(&WIDTHS, &["volumes", "status", "my-data"]);
    recorded.run(&[], &["volumes", "status", &id, "-o", "yaml"]);
    recorded.run(&[], &["volumes", "status", "my-date"]);
    recorded.run(&[], &["volumes", "create", "no name", "much"]);
    recorded.run(&[80], &["volumes", "delete", "my-data"]);
    recorded.run(&[80], &["volumes", "delete", "my-data", "--force"]);
    recorded.check("volumes");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_servers_and_help() {
    let Some((_world, mut recorded)) = Recorded::on(&[]).await else {
        return;
    };
    let home = recorded.cli.home().to_str().unwrap().to_owned();
    recorded.names.push((home, "/HOME".to_owned()));
    recorded.run(&WIDTHS, &["auth", "whoami"]);
    recorded.run(&[80], &["auth", "login", "carol@example.com"]);
    recorded.run(&[], &["auth", "logout"]);
    recorded.run(&[], &["auth", "logout"]);
    recorded.run(&[80], &["api", "stop"]);
    recorded.run(&[80], &["api", "logs"]);
    recorded.run(&[80], &["man", "pages"]);
    recorded.run(&[], &["completions", "tcsh"]);
    recorded.run(&[], &["--api-url", "http://127.0.0.1:1", "jobs", "list"]);
    recorded.run(&[], &["--api-url", "nothing", "jobs", "list"]);
    recorded.run(&[], &["--user", "", "jobs", "list"]);
    recorded.run(&[80], &["api", "status"]);
    recorded.run(&[], &["jobs", "lits"]);
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
        vec!["doctor", "--help"],
        vec!["completions", "--help"],
    ] {
        recorded.run(&[], &words);
    }
    recorded.run(&[40, 80, 200], &["jobs", "logs", "-h"]);
    recorded.check("users_servers_and_help");
}
