//! Hints for commands and flags of similar CLIs (`sky`, `kubectl`, `docker`) that are spelled differently here.
//!
//! clap's own suggestion by edit distance is often wrong: for `launch` it offers `auth`.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Commands of other CLIs, and the hint to show for each.
const COMMAND_SUGGESTIONS: &[(&[&str], &str)] = &[
    (
        &["submit", "launch", "run", "apply", "create"],
        "use `k8s-cli jobs submit` to run a task",
    ),
    (
        &["exec", "ssh", "attach"],
        "running commands in a task is not supported; use `k8s-cli jobs submit -- COMMAND` to run one as a new task",
    ),
    (&["logs", "log", "tail"], "use `k8s-cli jobs logs TASK` to follow a log"),
    (
        &["queue", "ps", "list", "ls", "get"],
        "use `k8s-cli jobs list` to list your tasks",
    ),
    (
        &["status", "describe", "show", "inspect"],
        "use `k8s-cli jobs list` to list your tasks, or `k8s-cli jobs status TASK` to show one with its nodes",
    ),
    (
        &["cancel", "kill"],
        "use `k8s-cli jobs cancel TASK` to cancel a task and keep its log",
    ),
    (
        &["stop", "rm", "delete", "down"],
        "use `k8s-cli jobs cancel TASK` to cancel a task and keep its log, or `k8s-cli jobs stop TASK` to delete it",
    ),
    (&["wait"], "use `k8s-cli jobs wait TASK` to wait for a task"),
    (&["top"], "use `k8s-cli jobs top` for a live view of your tasks"),
    (&["info"], "use `k8s-cli doctor` to check your setup"),
    (
        &["nodes", "cost-report"],
        "use `k8s-cli gpus` to list the GPUs, or `k8s-cli doctor` to show cluster nodes",
    ),
    (
        &["start", "autostop"],
        "nothing stays after a task: its nodes are released when it finishes, and a submit gets new ones; `k8s-cli api start` \
         starts a server on this machine",
    ),
    (
        &["serve"],
        "services are not supported; `k8s-cli jobs submit` runs tasks, and `k8s-cli api serve` is the server itself",
    ),
    (&["server"], "use `k8s-cli api start` to start a server on this machine"),
    (
        &["login", "whoami", "logout"],
        "use `k8s-cli auth login NAME`, `k8s-cli auth whoami`, or `k8s-cli auth logout`",
    ),
    (
        &["version"],
        "use `k8s-cli --version` for the version of the CLI, or `k8s-cli api status` for that of the server",
    ),
    (&["storage"], "use `k8s-cli volumes list` to list your volumes"),
    (
        &["cp", "scp", "rsync"],
        "use `k8s-cli volumes cp` to copy to or from a volume, or `k8s-cli jobs outputs TASK` to download what a task has kept",
    ),
    (
        &["outputs", "download"],
        "use `k8s-cli jobs outputs TASK` to download what a task has kept",
    ),
];

/// Subcommands of other CLIs, by the command that they are typed after, and the hint to show for each.
const SUBCOMMAND_SUGGESTIONS: &[(&str, &[&str], &str)] = &[
    (
        "api",
        &["login"],
        "use `k8s-cli auth login NAME` for your name, and `--api-url URL` or `K8S_CLI_API_URL` for the server",
    ),
    ("api", &["info"], "use `k8s-cli api status`"),
    (
        "volumes",
        &["apply"],
        "use `k8s-cli volumes create NAME SIZE`, e.g., `k8s-cli volumes create data 10Gi -a ReadWriteMany`",
    ),
];

/// The commands a hint applies to, including their subcommands.
type CommandScope = &'static [&'static str];

const ALL: CommandScope = &[""];
const JOBS: CommandScope = &["jobs"];
const SUBMIT: CommandScope = &["jobs submit"];

/// Flags of other CLIs: the commands they are used with, their spellings, and the hint to show. The first match wins.
const FLAG_SUGGESTIONS: &[(CommandScope, &[&str], &str)] = &[
    (
        &["jobs logs"],
        &["-n"],
        "pass the name of the task without a flag; for the last lines, use `--tail LINES`",
    ),
    (
        &["jobs logs"],
        &["--name"],
        "pass the name of the task without a flag: `k8s-cli jobs logs NAME`",
    ),
    (&["jobs logs"], &["--lines"], "use `--tail LINES`"),
    (
        &["jobs logs"],
        &["-s", "--sync-down"],
        "use `k8s-cli jobs logs TASK --no-follow > FILE` to store a log",
    ),
    (
        &["jobs logs"],
        &["--status"],
        "use `k8s-cli jobs status TASK` to show a task, or `k8s-cli jobs wait TASK` to exit with its state",
    ),
    (
        &["jobs list"],
        &["-s", "--skip-finished"],
        "use `--status pending,running`",
    ),
    (
        SUBMIT,
        &["--config"],
        "set the keys of `config` in the task file; `k8s-cli explain task.config` lists them",
    ),
    (&["jobs logs"], &["-t"], "use `--timestamps`"),
    (
        &["jobs logs"],
        &["-p", "--previous"],
        "the log already contains all attempts of a task",
    ),
    (&["api logs"], &["-n", "--lines"], "use `--tail LINES`"),
    (
        ALL,
        &["-n", "--namespace", "-A", "--all-namespaces"],
        "the namespace is set on the server (`k8s-cli api serve --namespace`); use `--all-users` to include other users",
    ),
    (
        SUBMIT,
        &["--file", "-f", "--filename"],
        "pass the file without a flag: `k8s-cli jobs submit task.yaml`",
    ),
    (&["jobs list"], &["-f", "--follow"], "use `--watch`"),
    (
        &["jobs status"],
        &["-f", "--follow", "-w", "--watch"],
        "use `k8s-cli jobs top TASK` for a live view",
    ),
    (
        &["jobs wait"],
        &["-f", "--follow"],
        "use `k8s-cli jobs logs TASK` to follow the log",
    ),
    (&["jobs stop", "jobs wait"], &["-a"], "use `--all`"),
    (
        &["jobs stop"],
        &["-f", "--force"],
        "use `--yes` to skip the confirmation",
    ),
    (
        SUBMIT,
        &["-c", "--cluster"],
        "there are no clusters to keep: the nodes of a task are released when it finishes; use `--name NAME` to name the task",
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
        "the server decides where tasks run; use `--api-url URL` to select another server",
    ),
    (SUBMIT, &["--nodes", "--replicas"], "use `--num-nodes N`"),
    (SUBMIT, &["--cpu"], "use `--cpus N`"),
    (SUBMIT, &["--mem"], "use `--memory SIZE`"),
    (
        SUBMIT,
        &["--gpu", "--accelerators"],
        "use `--gpus N` or `--gpus MODEL:N`",
    ),
    (SUBMIT, &["-e"], "use `--env NAME=VALUE`"),
    (SUBMIT, &["-v", "--mount"], "use `--volume NAME:/path`"),
    (SUBMIT, &["--no-follow"], "use `--detach`"),
    (SUBMIT, &["--array"], "use `--num-jobs N`, or `--sweep 'INDEX=1..10'`"),
    (
        JOBS,
        &["-l", "--selector"],
        "tasks have no user-defined labels; use `--status` to filter, or pass task names",
    ),
    (ALL, &["-v"], "use `k8s-cli --version` to print the version"),
];

/// The error message for a command or flag of another CLI; `None` if there is no hint for it.
pub(crate) fn suggest(error: &clap::Error) -> Option<String> {
    let command = rejecting_command(error)?;
    let typed = |kind| match error.get(kind) {
        Some(ContextValue::String(typed)) => typed.split('=').next(),
        _ => None,
    };
    let (word, hint) = match error.kind() {
        ErrorKind::InvalidSubcommand if !matches!(command.as_str(), "" | "jobs") => {
            let word = typed(ContextKind::InvalidSubcommand)?;
            let mut known = SUBCOMMAND_SUGGESTIONS.iter();
            let (_, _, hint) = known.find(|(parent, words, _)| *parent == command && words.contains(&word))?;
            (word, hint)
        }
        // The hints are about tasks, so `k8s-cli volumes get` must not suggest `jobs list`.
        ErrorKind::InvalidSubcommand => {
            let word = typed(ContextKind::InvalidSubcommand)?;
            let (_, hint) = COMMAND_SUGGESTIONS.iter().find(|(words, _)| words.contains(&word))?;
            (word, hint)
        }
        ErrorKind::UnknownArgument => {
            let flag = typed(ContextKind::InvalidArg)?;
            if command == "jobs submit" && !flag.starts_with('-') {
                let hint = "to run a command, use `k8s-cli jobs submit -- COMMAND`";
                return Some(format!("unexpected argument `{flag}`; {hint}"));
            }
            let applies = |scope: CommandScope| scope.iter().any(|parent| is_in_scope(&command, parent));
            let (_, _, hint) = FLAG_SUGGESTIONS
                .iter()
                .find(|(scope, flags, _)| flags.contains(&flag) && applies(scope))?;
            (flag, hint)
        }
        _ => return None,
    };
    Some(format!("unrecognized argument `{word}`; {hint}"))
}

/// The command that rejected the argument, e.g., `jobs submit`. clap reports it only in the usage line, between the
/// program name and the first placeholder.
fn rejecting_command(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::StyledStr(usage)) = error.get(ContextKind::Usage) else {
        return None;
    };
    let usage = usage.to_string();
    let is_word = |word: &&str| word.starts_with(|letter: char| letter.is_ascii_lowercase());
    let words = usage.split_whitespace().skip_while(|word| *word != "k8s-cli").skip(1);
    Some(words.take_while(is_word).collect::<Vec<_>>().join(" "))
}

fn is_in_scope(command: &str, parent: &str) -> bool {
    let rest = command.strip_prefix(parent);
    rest.is_some_and(|rest| parent.is_empty() || rest.is_empty() || rest.starts_with(' '))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{COMMAND_SUGGESTIONS, FLAG_SUGGESTIONS, suggest};
    use crate::args::Args;

    fn suggestion(line: &str) -> Option<String> {
        let words = std::iter::once("k8s-cli").chain(line.split(' '));
        suggest(&Args::try_parse_from(words).err()?)
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
            ("cancel", "jobs cancel"),
            ("down", "jobs stop"),
            ("info", "doctor"),
            ("nodes", "gpus"),
            ("run", "jobs submit"),
            ("ps", "jobs list"),
            ("jobs exec", "jobs submit"),
            ("--user bob queue", "jobs list"),
            ("autostop", "nothing stays after a task"),
            ("start", "nothing stays after a task"),
            ("serve", "services are not supported"),
            ("api login", "auth login"),
            ("--user bob volumes apply", "volumes create NAME SIZE"),
        ] {
            let text = suggestion(&format!("{word} something")).unwrap_or_else(|| panic!("{word}"));
            assert!(text.contains(ours), "{text}");
        }
        for line in ["nothing", "volumes get", "api ps", "auth status"] {
            assert_eq!(suggestion(line), None, "{line}");
        }
    }

    #[test]
    fn flags_of_neighbors_are_answered_for_the_command_that_was_typed() {
        for (line, ours) in [
            ("jobs submit -c mine task.yaml", "--name"),
            ("jobs submit --array 1-3 task.yaml", "--sweep"),
            ("jobs submit -f task.yaml", "without a flag"),
            ("jobs submit -v data:/data task.yaml", "--volume"),
            ("--user bob jobs submit -v data:/data task.yaml", "--volume"),
            ("jobs launch -c mine task.yaml", "--name"),
            ("-v", "--version"),
            ("jobs logs x -n 100", "--tail"),
            ("jobs logs -n train", "without a flag"),
            ("jobs logs --name train", "jobs logs NAME"),
            ("jobs logs x --sync-down", "--no-follow > FILE"),
            ("jobs logs x --status", "jobs status TASK"),
            ("jobs queue -s", "--status pending,running"),
            ("jobs queue --skip-finished", "--status pending,running"),
            ("jobs launch --config a.b=c task.yaml", "explain task.config"),
            ("jobs list -n default", "the namespace is set on the server"),
            ("volumes list -n default", "the namespace is set on the server"),
            ("jobs list -f", "--watch"),
            ("jobs status x -f", "jobs top"),
            ("jobs wait x -f", "jobs logs"),
        ] {
            let text = suggestion(line).unwrap_or_else(|| panic!("{line}"));
            assert!(text.contains(ours), "{line}: {text}");
        }
        for line in [
            "jobs submit --nothing task.yaml",
            "volumes create --gpu 1",
            "jobs list --dryrun",
            "doctor -f",
        ] {
            assert_eq!(suggestion(line), None, "{line}");
        }
    }

    #[test]
    fn what_is_ours_is_in_no_table() {
        for word in COMMAND_SUGGESTIONS.iter().flat_map(|(words, _)| *words) {
            assert!(suggestion(word).is_some(), "{word}");
        }
        for (commands, flags, hint) in FLAG_SUGGESTIONS {
            for (command, flag) in commands
                .iter()
                .flat_map(|command| flags.iter().map(move |flag| (command, flag)))
            {
                // A command with subcommands takes no flags itself.
                let line = match *command {
                    "" => (*flag).to_owned(),
                    "jobs" => format!("jobs list {flag}"),
                    command => format!("{command} {flag} x"),
                };
                assert!(suggestion(&line).is_some_and(|text| text.ends_with(hint)), "{line}");
            }
        }
    }
}
