//! Words and flags of neighboring programs (`sky`, `kubectl`, `docker`), answered with what they are called here.
//!
//! The nearest word by letters is often the wrong one: `launch` is not `auth`.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Words of commands, and what does that here.
const WORDS: &[(&[&str], &str)] = &[
    (
        &["submit", "launch", "run", "apply", "create"],
        "`k8s-cli jobs submit` runs a task",
    ),
    (
        &["exec", "ssh", "attach"],
        "a task runs in containers of its own, with no way in; `k8s-cli jobs submit -- COMMAND` runs another command",
    ),
    (&["logs", "log", "tail"], "`k8s-cli jobs logs TASK` follows a log"),
    (
        &["queue", "ps", "list", "ls", "get"],
        "`k8s-cli jobs list` shows your tasks",
    ),
    (
        &["status", "describe", "show", "inspect"],
        "`k8s-cli jobs list` shows your tasks, and `k8s-cli jobs status TASK` one of them with its nodes",
    ),
    (
        &["cancel", "stop", "kill", "rm", "delete", "down"],
        "`k8s-cli jobs stop TASK` stops a task",
    ),
    (&["wait"], "`k8s-cli jobs wait TASK` waits for a task"),
    (&["top"], "`k8s-cli jobs top` shows your tasks as they run"),
    (
        &["check", "info"],
        "`k8s-cli doctor` looks at everything that a task needs",
    ),
    (
        &["show-gpus", "gpus", "nodes", "cost-report"],
        "`k8s-cli doctor` shows the machines and their GPUs",
    ),
    (
        &["start", "serve", "server"],
        "`k8s-cli api start` starts a server on this machine",
    ),
    (
        &["login", "whoami", "logout"],
        "`k8s-cli auth login NAME`, `whoami` and `logout` say who you are",
    ),
    (
        &["version"],
        "`k8s-cli --version` prints the version, and `k8s-cli api status` that of the server",
    ),
    (&["storage"], "`k8s-cli volumes list` shows your volumes"),
];

/// Flags, and what to write instead.
const FLAGS: &[(&[&str], &str)] = &[
    (&["-y", "--yes"], "this command does not ask; leave the flag out"),
    (
        &["-n"],
        "a name is `--name NAME`; the namespace is the server's (`k8s-cli api serve --namespace`)",
    ),
    (
        &["--namespace", "-A", "--all-namespaces"],
        "the namespace is the server's (`k8s-cli api serve --namespace`); `--all-users` shows everybody's tasks",
    ),
    (
        &["--secret", "--secret-file"],
        "there are no secrets beside variables: `--env NAME` takes the value from here, and whoever may read Jobs in Kubernetes can read it",
    ),
    (
        &["--down", "--autostop", "--idle-minutes-to-autostop", "-i"],
        "the nodes of a task go when it ends; leave the flag out",
    ),
    (&["--dryrun"], "write `--dry-run`"),
    (
        &["--file", "-f", "--filename"],
        "name the file without a flag: `k8s-cli jobs submit task.yaml`",
    ),
    (
        &[
            "--cluster",
            "-c",
            "--infra",
            "--cloud",
            "--region",
            "--zone",
            "--context",
        ],
        "tasks run where the server's do; another server is `--api-url URL`",
    ),
    (&["--nodes", "--replicas"], "write `--num-nodes N`"),
    (&["--cpu"], "write `--cpus N`"),
    (&["--mem"], "write `--memory SIZE`"),
    (&["--gpu", "--accelerators"], "write `--gpus N` or `--gpus MODEL:N`"),
    (&["--image-id"], "write `--image IMAGE`"),
    (&["-e"], "write `--env NAME=VALUE`"),
    (&["-v", "--mount"], "write `--volume NAME:/path`"),
    (&["--detach-run", "--no-follow"], "write `--detach`"),
    (
        &["--workdir", "--use-spot", "--instance-type", "--disk-size", "--ports"],
        "there is no flag for it; `docs/API.md` says what the task file can have",
    ),
];

/// What to say of a word or a flag that is a neighbor's, below the word `first`; `None` when it is none.
pub fn sentence(error: &clap::Error, first: Option<&str>) -> Option<String> {
    // The words are those of tasks.
    if matches!(first, Some("volumes" | "volume" | "auth" | "api")) {
        return None;
    }
    let (kind, table) = match error.kind() {
        ErrorKind::InvalidSubcommand => (ContextKind::InvalidSubcommand, WORDS),
        ErrorKind::UnknownArgument => (ContextKind::InvalidArg, FLAGS),
        _ => return None,
    };
    let Some(ContextValue::String(typed)) = error.get(kind) else {
        return None;
    };
    let word = typed.split('=').next().unwrap_or(typed);
    let (_, instead) = table.iter().find(|(words, _)| words.contains(&word))?;
    Some(format!("`{word}` is not known here: {instead}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{FLAGS, WORDS, sentence};
    use crate::args::Args;

    fn said(line: &str) -> Option<String> {
        let words = std::iter::once("k8s-cli").chain(line.split(' '));
        sentence(&Args::try_parse_from(words).err()?, line.split(' ').next())
    }

    #[test]
    fn words_of_neighbors_are_answered_with_ours() {
        for (word, ours) in [
            ("submit", "jobs submit"),
            ("logs", "jobs logs"),
            ("launch", "jobs submit"),
            ("queue", "jobs list"),
            ("exec", "jobs submit"),
            ("status", "jobs status"),
            ("cancel", "jobs stop"),
            ("check", "doctor"),
            ("show-gpus", "doctor"),
            ("run", "jobs submit"),
            ("ps", "jobs list"),
            ("jobs queue", "jobs list"),
        ] {
            let said = said(&format!("{word} something")).unwrap_or_else(|| panic!("{word}"));
            assert!(said.contains(ours), "{said}");
        }
        assert_eq!(said("nothing"), None);
    }

    #[test]
    fn flags_of_neighbors_are_answered_with_ours() {
        for (flag, ours) in [
            ("-y", "does not ask"),
            ("-n", "--name"),
            ("--secret=A", "--env"),
            ("--down", "leave the flag out"),
            ("--dryrun", "--dry-run"),
        ] {
            let said = said(&format!("jobs submit {flag} task.yaml")).unwrap_or_else(|| panic!("{flag}"));
            assert!(said.contains(ours), "{said}");
        }
        assert_eq!(said("jobs submit --nothing task.yaml"), None);
    }

    #[test]
    fn what_is_ours_is_in_no_table() {
        for (words, _) in WORDS {
            for word in *words {
                assert!(said(word).is_some(), "{word}");
            }
        }
        for (flags, _) in FLAGS {
            for flag in *flags {
                assert!(said(&format!("jobs submit {flag} task.yaml")).is_some(), "{flag}");
            }
        }
    }
}
