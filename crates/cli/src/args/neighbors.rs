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
        "you cannot log in to a task; `k8s-cli jobs submit -- COMMAND` runs a command as a new task",
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

/// The commands that a flag is explained for; each stands for those below it, too.
type Commands = &'static [&'static str];

const ALL: Commands = &[""];
const JOBS: Commands = &["jobs"];
const SUBMIT: Commands = &["jobs submit"];

/// Flags of neighbors: on which commands, how they are written there, and what to write instead. The first that fits counts.
const FLAGS: &[(Commands, &[&str], &str)] = &[
    (
        SUBMIT,
        &["-y", "--yes"],
        "this command does not ask; leave the flag out",
    ),
    (
        SUBMIT,
        &["-n"],
        "a name is `--name NAME`; the namespace is the server's (`k8s-cli api serve --namespace`)",
    ),
    (&["jobs logs"], &["-n", "--lines"], "write `--tail LINES`"),
    (&["jobs logs"], &["-t"], "write `--timestamps`"),
    (
        &["jobs logs"],
        &["-p", "--previous"],
        "the log has all attempts of a task, one after the other",
    ),
    (&["api logs"], &["-n", "--lines"], "write `--tail LINES`"),
    (
        ALL,
        &["-n", "--namespace", "-A", "--all-namespaces"],
        "the namespace is the server's (`k8s-cli api serve --namespace`); `--all-users` shows what others have",
    ),
    (
        SUBMIT,
        &["--secret", "--secret-file"],
        "there are no secrets beside variables: `--env NAME` takes the value from here, and whoever may read Jobs in Kubernetes can read it",
    ),
    (
        SUBMIT,
        &["--down", "--autostop", "--idle-minutes-to-autostop", "-i"],
        "the nodes of a task go when it ends; leave the flag out",
    ),
    (SUBMIT, &["--dryrun"], "write `--dry-run`"),
    (
        SUBMIT,
        &["--file", "-f", "--filename"],
        "name the file without a flag: `k8s-cli jobs submit task.yaml`",
    ),
    (&["jobs list"], &["-f", "--follow"], "write `--watch`"),
    (
        &["jobs status"],
        &["-f", "--follow", "-w", "--watch"],
        "`k8s-cli jobs top TASK` shows it as it runs",
    ),
    (
        &["jobs wait"],
        &["-f", "--follow"],
        "`k8s-cli jobs logs TASK` follows the log",
    ),
    (&["jobs stop", "jobs wait"], &["-a"], "write `--all`"),
    (
        &["jobs stop"],
        &["-f", "--force"],
        "write `--yes` to stop without a question",
    ),
    (
        ALL,
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
    (SUBMIT, &["--nodes", "--replicas"], "write `--num-nodes N`"),
    (SUBMIT, &["--cpu"], "write `--cpus N`"),
    (SUBMIT, &["--mem"], "write `--memory SIZE`"),
    (
        SUBMIT,
        &["--gpu", "--accelerators"],
        "write `--gpus N` or `--gpus MODEL:N`",
    ),
    (SUBMIT, &["--image-id"], "write `--image IMAGE`"),
    (SUBMIT, &["-e"], "write `--env NAME=VALUE`"),
    (SUBMIT, &["-v", "--mount"], "write `--volume NAME:/path`"),
    (SUBMIT, &["--detach-run", "--no-follow"], "write `--detach`"),
    (
        SUBMIT,
        &["--workdir", "--use-spot", "--instance-type", "--disk-size", "--ports"],
        "there is no flag for it; `docs/API.md` says what the task file can have",
    ),
    (
        JOBS,
        &["-l", "--selector"],
        "tasks have no labels of yours; name them, or use `--status`",
    ),
    (ALL, &["-v"], "the version is `k8s-cli --version`"),
];

/// What to say of a word or a flag that is a neighbor's; `None` when it is none.
pub fn sentence(error: &clap::Error) -> Option<String> {
    let command = command(error)?;
    let typed = |kind| match error.get(kind) {
        Some(ContextValue::String(typed)) => typed.split('=').next(),
        _ => None,
    };
    let (word, instead) = match error.kind() {
        // The words are those of tasks; volumes and servers have their own.
        ErrorKind::InvalidSubcommand if matches!(command.as_str(), "" | "jobs") => {
            let word = typed(ContextKind::InvalidSubcommand)?;
            let (_, instead) = WORDS.iter().find(|(words, _)| words.contains(&word))?;
            (word, instead)
        }
        ErrorKind::UnknownArgument => {
            let flag = typed(ContextKind::InvalidArg)?;
            let fits = |commands: Commands| commands.iter().any(|above| is_below(&command, above));
            let (_, _, instead) = FLAGS
                .iter()
                .find(|(commands, flags, _)| flags.contains(&flag) && fits(commands))?;
            (flag, instead)
        }
        _ => return None,
    };
    Some(format!("`{word}` is not known here: {instead}"))
}

/// The command that does not know it, as words: `jobs submit`. It is in the usage line, behind the program and before what it takes.
fn command(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::StyledStr(usage)) = error.get(ContextKind::Usage) else {
        return None;
    };
    let usage = usage.to_string();
    let is_word = |word: &&str| word.starts_with(|letter: char| letter.is_ascii_lowercase());
    let words = usage.split_whitespace().skip_while(|word| *word != "k8s-cli").skip(1);
    Some(words.take_while(is_word).collect::<Vec<_>>().join(" "))
}

fn is_below(command: &str, above: &str) -> bool {
    let rest = command.strip_prefix(above);
    rest.is_some_and(|rest| above.is_empty() || rest.is_empty() || rest.starts_with(' '))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{FLAGS, WORDS, sentence};
    use crate::args::Args;

    fn said(line: &str) -> Option<String> {
        let words = std::iter::once("k8s-cli").chain(line.split(' '));
        sentence(&Args::try_parse_from(words).err()?)
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
            ("--user bob queue", "jobs list"),
        ] {
            let said = said(&format!("{word} something")).unwrap_or_else(|| panic!("{word}"));
            assert!(said.contains(ours), "{said}");
        }
        for line in [
            "nothing",
            "--user bob volumes apply",
            "volumes get",
            "api ps",
            "auth status",
        ] {
            assert_eq!(said(line), None, "{line}");
        }
    }

    #[test]
    fn flags_of_neighbors_are_answered_for_the_command_that_was_typed() {
        for (line, ours) in [
            ("jobs submit -y task.yaml", "does not ask"),
            ("jobs submit -n x task.yaml", "--name"),
            ("jobs submit --secret=A task.yaml", "--env"),
            ("jobs submit --down task.yaml", "leave the flag out"),
            ("jobs submit --dryrun task.yaml", "--dry-run"),
            ("jobs submit -f task.yaml", "without a flag"),
            ("jobs submit -v data:/data task.yaml", "--volume"),
            ("--user bob jobs submit -v data:/data task.yaml", "--volume"),
            ("jobs launch --dryrun task.yaml", "--dry-run"),
            ("-v", "--version"),
            ("jobs logs x -n 100", "--tail"),
            ("jobs list -n default", "the namespace is the server's"),
            ("volumes list -n default", "the namespace is the server's"),
            ("jobs list -f", "--watch"),
            ("jobs status x -f", "jobs top"),
            ("jobs wait x -f", "jobs logs"),
        ] {
            let said = said(line).unwrap_or_else(|| panic!("{line}"));
            assert!(said.contains(ours), "{line}: {said}");
        }
        for line in [
            "jobs submit --nothing task.yaml",
            "volumes create --gpu 1",
            "jobs list --dryrun",
            "doctor -f",
        ] {
            assert_eq!(said(line), None, "{line}");
        }
    }

    #[test]
    fn what_is_ours_is_in_no_table() {
        for word in WORDS.iter().flat_map(|(words, _)| *words) {
            assert!(said(word).is_some(), "{word}");
        }
        for (commands, flags, instead) in FLAGS {
            for (command, flag) in commands
                .iter()
                .flat_map(|command| flags.iter().map(move |flag| (command, flag)))
            {
                // A command that has commands below it takes no flags of its own.
                let line = match *command {
                    "" => (*flag).to_owned(),
                    "jobs" => format!("jobs list {flag}"),
                    command => format!("{command} {flag} x"),
                };
                assert!(said(&line).is_some_and(|said| said.ends_with(instead)), "{line}");
            }
        }
    }
}
