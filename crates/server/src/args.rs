//! The command line and the environment of the server.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Parser, ValueEnum};

/// Runs computing tasks on Kubernetes behind a REST API.
///
/// The cluster is the one that KUBECONFIG or ~/.kube/config names, or the one this process runs in. Where there is none,
/// the tasks run on this machine.
#[derive(Debug, Clone, Parser)]
#[command(name = "k8s-cli-api", version, max_term_width = 100)]
pub struct Args {
    /// Port to listen on; 0 picks a free one, which the log names.
    #[arg(long, env = "K8S_CLI_API_PORT", default_value_t = 8000)]
    pub port: u16,

    /// Address to listen on. The X-User header is believed, so let only a trusted proxy reach any other than loopback.
    #[arg(long, env = "K8S_CLI_API_HOST", default_value = "127.0.0.1")]
    pub host: IpAddr,

    /// Let every account of this machine use a server that listens on loopback, such as a proxy that runs as another account. Without it, only the server's own account and root may.
    #[arg(long, env = "K8S_CLI_API_ALLOW_LOCAL_USERS", value_parser = BoolishValueParser::new())]
    pub allow_local_users: bool,

    /// Another host name that clients may use, such as a proxy's public one; may be repeated. Without it, a server on loopback accepts only names of this machine, and any other server accepts all.
    #[arg(long, env = "K8S_CLI_API_ALLOWED_HOST", value_name = "HOST", value_delimiter = ',', value_parser = crate::host::parse)]
    pub allowed_host: Vec<String>,

    /// Where tasks run: auto is the cluster that is configured, and this machine when none is.
    #[arg(long, env = "K8S_CLI_API_BACKEND", value_enum, default_value_t = BackendChoice::Auto)]
    pub backend: BackendChoice,

    /// Folder for everything when tasks run on this machine; below ~/.local/share when absent.
    #[arg(long, env = "K8S_CLI_API_STATE_DIR", value_name = "FOLDER")]
    pub state_dir: Option<PathBuf>,

    /// Loopback address at which kubectl can use this machine's Kubernetes; the log names the kubeconfig to use.
    #[arg(long, env = "K8S_CLI_API_KUBE_LISTEN", value_name = "ADDRESS")]
    pub kube_listen: Option<SocketAddr>,

    /// Most MiB of log kept of one node when tasks run on this machine; then the oldest part goes.
    #[arg(long, env = "K8S_CLI_API_LOG_LIMIT", value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    pub log_limit: u64,

    /// Most MiB of log kept of all nodes together when tasks run on this machine; then the oldest logs go.
    #[arg(long, env = "K8S_CLI_API_TOTAL_LOG_LIMIT", value_name = "MIB", default_value_t = 10_240, value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    pub total_log_limit: u64,

    /// Namespace of all tasks and volumes; that of the kubeconfig's context when absent.
    #[arg(long, short, env = "K8S_CLI_API_NAMESPACE")]
    pub namespace: Option<String>,

    /// Form of the log: auto is text on a terminal, else JSON.
    #[arg(long, env = "K8S_CLI_API_LOG_FORMAT", value_enum, default_value_t = LogFormat::Auto)]
    pub log_format: LogFormat,

    /// Level of the log: error, warn, info, debug, trace, or directives such as `info,executor=debug`.
    #[arg(long, env = "K8S_CLI_API_LOG_LEVEL", default_value = "info")]
    pub log_level: String,

    /// Most nodes of one task.
    #[arg(long, env = "K8S_CLI_API_MAX_NODES", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=i64::from(task::definition::MAX_NODES)))]
    pub max_nodes: u32,

    /// How long each node of a task may run that says nothing of it: 90s, 30m, 2h; for ever when absent.
    #[arg(long, env = "K8S_CLI_API_MAX_DURATION", value_name = "TIME", value_parser = task::definition::parse_duration)]
    pub max_duration: Option<Duration>,

    /// How long the nodes of a task that says nothing of it may wait for a place on a machine: 90s, 30m, 2h; for ever when absent.
    #[arg(long, env = "K8S_CLI_API_PROVISION_TIMEOUT", value_name = "TIME", value_parser = task::definition::parse_duration)]
    pub provision_timeout: Option<Duration>,

    /// How long a task is kept after its end, with its log: 90s, 30m, 2h, 7d; until it is stopped when absent.
    #[arg(long, env = "K8S_CLI_API_TTL_AFTER_FINISHED", value_name = "TIME", value_parser = task::definition::parse_duration)]
    pub ttl_after_finished: Option<Duration>,

    /// Pod Security Standard that the pods of tasks meet; `restricted` runs them as user 1000, without any privileges.
    #[arg(long, env = "K8S_CLI_API_POD_SECURITY", value_enum, default_value_t = PodSecurityChoice::Baseline)]
    pub pod_security: PodSecurityChoice,

    /// Service account whose token the pods of tasks get; they get none when absent.
    #[arg(long, env = "K8S_CLI_API_SERVICE_ACCOUNT", value_name = "NAME")]
    pub service_account: Option<String>,

    /// Which PersistentVolumeClaims that belong to no user a task may mount: any in the namespace, or those labeled k8s-cli/shared=true.
    #[arg(long, env = "K8S_CLI_API_SHARED_CLAIMS", value_enum, default_value_t = SharedClaimsChoice::Any)]
    pub shared_claims: SharedClaimsChoice,

    /// Most connections at once; more are answered 503.
    #[arg(long, env = "K8S_CLI_API_MAX_CONNECTIONS", default_value_t = 8192)]
    pub max_connections: usize,

    /// Most connections of one client at once; more are answered 429. A client is an address or, on this machine, an account; a proxy is one client.
    #[arg(long, env = "K8S_CLI_API_MAX_CONNECTIONS_PER_CLIENT", default_value_t = 6144)]
    pub max_connections_per_client: usize,

    /// Most log streams at once; more are answered 503.
    #[arg(long, env = "K8S_CLI_API_MAX_STREAMS", default_value_t = 4096)]
    pub max_streams: usize,

    /// Most log streams of one user at once; more are answered 429.
    #[arg(long, env = "K8S_CLI_API_MAX_STREAMS_PER_USER", default_value_t = 1024)]
    pub max_streams_per_user: usize,

    /// Keep nothing of whoever starts this; for `k8s-cli api start`.
    #[arg(long, hide = true)]
    pub background: bool,
}

/// Where tasks run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BackendChoice {
    /// The cluster that is configured; this machine when none is.
    Auto,
    /// The cluster that is configured, or none.
    Cluster,
    /// This machine.
    Embedded,
}

/// A Pod Security Standard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PodSecurityChoice {
    /// Nothing beyond what every pod of a task meets.
    Baseline,
    /// No root, no privileges, no way to get any.
    Restricted,
}

/// Which claims without a user can be mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SharedClaimsChoice {
    /// Any in the namespace.
    Any,
    /// Those labeled k8s-cli/shared=true.
    Labelled,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Prints the help, the version, or what is wrong with a command line.
#[must_use]
pub fn print(error: &clap::Error) -> ExitCode {
    let printed = error.print().and_then(|()| std::io::stdout().flush());
    match printed {
        // The reader has what it wanted: `k8s-cli --help | head`.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("error: cannot write the output: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1)),
    }
}

#[cfg(test)]
mod tests {
    use clap::{ArgAction, CommandFactory, Parser};

    use super::Args;

    #[test]
    fn the_command_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn all_log_streams_of_one_client_leave_connections_for_others() {
        let args = Args::parse_from(["k8s-cli-api"]);
        assert!(args.max_streams < args.max_connections_per_client);
        assert!(args.max_connections_per_client < args.max_connections);
    }

    #[test]
    fn a_switch_in_the_environment_can_be_off() {
        // The variables of this process are everybody's, so the parser is asked as clap asks it for one.
        let parse = |text: &str| {
            let command = Args::command().mut_arg("allow_local_users", |argument| argument.action(ArgAction::Set));
            let matches = command.try_get_matches_from(["k8s-cli-api", "--allow-local-users", text]);
            matches.map(|matches| matches.get_flag("allow_local_users"))
        };
        for (text, is_on) in [
            ("1", true),
            ("true", true),
            ("yes", true),
            ("0", false),
            ("false", false),
            ("off", false),
        ] {
            assert_eq!(parse(text).unwrap(), is_on, "{text}");
        }
        assert!(parse("perhaps").is_err());
    }

    #[test]
    fn the_help_is_what_it_was() {
        // Defaults that the environment of the test overrides would be shown.
        insta::assert_snapshot!(
            Args::command()
                .term_width(100)
                .mut_args(|argument| argument.hide_env_values(true))
                .render_long_help()
        );
    }
}
