//! Command-line flags and environment variables of the server.

mod values;

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Parser, ValueEnum};
use executor::FieldPath;
use http::HeaderValue;

pub use self::values::{AdvertiseUrl, ArchiveChoice};
use self::values::{parse_advertise_url, parse_archive, parse_domain, parse_image, parse_origin, parse_root_path};

/// Serves the k8s-cli REST API and runs tasks on Kubernetes.
///
/// Uses the cluster configured by KUBECONFIG or ~/.kube/config, or the cluster this process runs in. If no cluster is
/// configured, tasks run on this machine.
#[derive(Debug, Clone, Parser)]
#[command(name = "k8s-cli-api", version, max_term_width = 100)]
pub struct Args {
    /// Port to listen on. If 0, the system chooses a free port, which the server logs.
    #[arg(long, env = "K8S_CLI_API_PORT", default_value_t = 8000)]
    pub port: u16,

    /// IP address to listen on. The X-User header is trusted; bind to a non-loopback address only behind an
    /// authenticating proxy.
    #[arg(long, env = "K8S_CLI_API_HOST", default_value = "127.0.0.1")]
    pub host: IpAddr,

    /// When listening on loopback, accept requests from every account of this machine. By default, only the server's
    /// own account and root are accepted.
    #[arg(long, env = "K8S_CLI_API_ALLOW_LOCAL_USERS", value_parser = BoolishValueParser::new())]
    pub allow_local_users: bool,

    /// UID of another account of this machine to accept when listening on loopback, e.g., that of a proxy; can be
    /// repeated.
    #[arg(long, env = "K8S_CLI_API_ALLOW_UID", value_name = "UID", value_delimiter = ',')]
    pub allow_uid: Vec<u32>,

    /// Additional host name to accept in requests, e.g., the public name of a proxy; can be repeated. By default, a
    /// server on loopback accepts only the names of this machine, and any other server accepts every name.
    #[arg(long, env = "K8S_CLI_API_ALLOWED_HOST", value_name = "HOST", value_delimiter = ',', value_parser = crate::host_guard::parse_allowed_host)]
    pub allowed_host: Vec<String>,

    /// Origin whose web pages may use the API, e.g., `https://tasks.example.com`; can be repeated. By default,
    /// browsers let only the server's own pages use it.
    #[arg(long, env = "K8S_CLI_API_CORS_ORIGIN", value_name = "ORIGIN", value_delimiter = ',', value_parser = parse_origin)]
    pub cors_origin: Vec<HeaderValue>,

    /// Path prefix under which a proxy serves this server if it strips the prefix from requests, e.g., /k8s-cli.
    #[arg(long, env = "K8S_CLI_API_ROOT_PATH", value_name = "PATH", default_value = "", hide_default_value = true, value_parser = parse_root_path)]
    pub root_path: String,

    /// Where to run tasks.
    #[arg(long, env = "K8S_CLI_API_BACKEND", value_enum, default_value_t = BackendChoice::Auto)]
    pub backend: BackendChoice,

    /// Directory for all data when tasks run on this machine. Defaults to
    /// ~/.local/share/k8s-cli, or `$XDG_DATA_HOME/k8s-cli` if set.
    #[arg(long, env = "K8S_CLI_API_STATE_DIR", value_name = "DIRECTORY")]
    pub state_dir: Option<PathBuf>,

    /// Loopback address on which to serve the Kubernetes API of this machine to kubectl. The server logs the kubeconfig
    /// to use.
    #[arg(long, env = "K8S_CLI_API_KUBE_LISTEN", value_name = "ADDRESS")]
    pub kube_listen: Option<SocketAddr>,

    /// Maximum log size per node, in MiB, when tasks run on this machine. The oldest output is removed first.
    #[arg(long, env = "K8S_CLI_API_LOG_LIMIT", value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    pub log_limit: u64,

    /// Maximum size of all logs together, in MiB, when tasks run on this machine. The oldest logs are removed first.
    #[arg(long, env = "K8S_CLI_API_TOTAL_LOG_LIMIT", value_name = "MIB", default_value_t = 10_240, value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    pub total_log_limit: u64,

    /// Namespace for all tasks and volumes. Defaults to the namespace of the current kubeconfig context.
    #[arg(long, short, env = "K8S_CLI_API_NAMESPACE")]
    pub namespace: Option<String>,

    /// Log format.
    #[arg(long, env = "K8S_CLI_API_LOG_FORMAT", value_enum, default_value_t = LogFormat::Auto)]
    pub log_format: LogFormat,

    /// Log level: error, warn, info, debug, trace, or directives per module, e.g., `info,executor=debug`.
    #[arg(long, env = "K8S_CLI_API_LOG_LEVEL", default_value = "info")]
    pub log_level: String,

    /// Maximum number of nodes per task.
    #[arg(long, env = "K8S_CLI_API_MAX_NODES", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=i64::from(task::definition::MAX_NODES)))]
    pub max_nodes: u32,

    /// Default time limit per node for tasks that don't set `max_duration`, e.g., 90s, 30m, or 2h. Unlimited by
    /// default.
    #[arg(long, env = "K8S_CLI_API_MAX_DURATION", value_name = "TIME", value_parser = task::definition::parse_duration)]
    pub max_duration: Option<Duration>,

    /// Default provisioning timeout for tasks that don't set `provision_timeout`, e.g., 90s, 30m, or 2h. A task fails
    /// if its nodes are not all scheduled within this time. Unlimited by default.
    #[arg(long, env = "K8S_CLI_API_PROVISION_TIMEOUT", value_name = "TIME", value_parser = task::definition::parse_duration)]
    pub provision_timeout: Option<Duration>,

    /// How long to keep finished tasks and their logs, e.g., 90s, 30m, 2h, or 7d. By default, they are kept until they
    /// are stopped.
    #[arg(long, env = "K8S_CLI_API_TTL_AFTER_FINISHED", value_name = "TIME", value_parser = task::definition::parse_duration)]
    pub ttl_after_finished: Option<Duration>,

    /// Where to keep records and logs of tasks after the tasks are deleted: `file:///DIRECTORY`, `s3://BUCKET/PREFIX`,
    /// `gs://BUCKET/PREFIX`, or `az://CONTAINER/PREFIX`, with keys and endpoint in the usual environment variables, or
    /// `none`. Defaults to the state directory when tasks run on this machine, and to `none` on a cluster.
    #[arg(long, env = "K8S_CLI_API_ARCHIVE", value_name = "URL", value_parser = parse_archive)]
    pub archive: Option<ArchiveChoice>,

    /// How long records and logs are kept in the archive, e.g., 30d, counted from the end of the task. Defaults to 30d
    /// when tasks run on this machine, and is unlimited on a cluster.
    #[arg(long, env = "K8S_CLI_API_ARCHIVE_MAX_AGE", value_name = "TIME", value_parser = task::definition::parse_duration)]
    pub archive_max_age: Option<Duration>,

    /// Maximum size of the logs in the archive, in MiB. The oldest logs are deleted first; their records stay. Defaults
    /// to 10240, and at most a tenth of the disk, when tasks run on this machine, and is unlimited on a cluster.
    #[arg(long, env = "K8S_CLI_API_ARCHIVE_MAX_SIZE", value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    pub archive_max_size: Option<u64>,

    /// Maximum size of the logs of one user in the archive, in MiB. The oldest logs of that user are deleted first; their
    /// records stay. Unlimited by default.
    #[arg(long, env = "K8S_CLI_API_ARCHIVE_MAX_SIZE_PER_USER", value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    pub archive_max_size_per_user: Option<u64>,

    /// Directory for the index of the archive, which can be deleted at any time while the server is stopped. By default,
    /// the server builds the index at each start when tasks run on a cluster.
    #[arg(long, env = "K8S_CLI_API_ARCHIVE_INDEX", value_name = "DIRECTORY")]
    pub archive_index: Option<PathBuf>,

    /// Maximum size of the files that one user may store on the server for tasks, in MiB.
    #[arg(long, env = "K8S_CLI_API_MAX_USER_FILES", value_name = "MIB", default_value_t = 10_240, value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    pub max_user_files: u64,

    /// Maximum size of the files that all users together may store on the server for tasks, in MiB.
    #[arg(long, env = "K8S_CLI_API_MAX_FILES", value_name = "MIB", default_value_t = 102_400, value_parser = clap::value_parser!(u64).range(1..=1_073_741_824))]
    pub max_files: u64,

    /// Maximum compressed size, in MiB, of a task's files that are stored in ConfigMaps. Nodes fetch larger ones from
    /// the server; on a cluster, that requires `--helper-image`, `--advertise-url`, and `--archive`.
    #[arg(long, env = "K8S_CLI_API_MAX_TASK_FILES", value_name = "MIB", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=256))]
    pub max_task_files: u64,

    /// Image, built with `deploy/helper-image`, with the program that nodes use to fetch files and copy from buckets.
    #[arg(long, env = "K8S_CLI_API_HELPER_IMAGE", value_name = "IMAGE", value_parser = parse_image)]
    pub helper_image: Option<String>,

    /// URL at which pods reach this server, e.g., `http://k8s-cli.tasks.svc:8000`.
    #[arg(long, env = "K8S_CLI_API_ADVERTISE_URL", value_name = "URL", value_parser = parse_advertise_url)]
    pub advertise_url: Option<AdvertiseUrl>,

    /// Pod Security Standard that task pods comply with.
    #[arg(long, env = "K8S_CLI_API_POD_SECURITY", value_enum, default_value_t = PodSecurityChoice::Baseline)]
    pub pod_security: PodSecurityChoice,

    /// Service account whose token task pods receive. By default, they receive no token.
    #[arg(long, env = "K8S_CLI_API_SERVICE_ACCOUNT", value_name = "NAME")]
    pub service_account: Option<String>,

    /// Service account that tasks may choose with `remote_identity` or `pod_config`, and whose token they then receive;
    /// can be repeated. By default, tasks cannot choose any.
    #[arg(
        long,
        env = "K8S_CLI_API_ALLOW_SERVICE_ACCOUNT",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub allow_service_account: Vec<String>,

    /// How the `ports` of tasks can be reached. With `load-balancer`, the cluster provides an address outside of it.
    #[arg(long, env = "K8S_CLI_API_PORTS", value_enum, default_value_t = PortsChoice::ClusterIp)]
    pub ports: PortsChoice,

    /// Domain of the Ingresses that `--ports ingress` makes: port 8080 of a task is at `ID-8080.DOMAIN`.
    #[arg(long, env = "K8S_CLI_API_INGRESS_DOMAIN", value_name = "DOMAIN", value_parser = parse_domain,
        required_if_eq("ports", "ingress"))]
    pub ingress_domain: Option<String>,

    /// Class of these Ingresses. Defaults to that of the cluster.
    #[arg(long, env = "K8S_CLI_API_INGRESS_CLASS", value_name = "NAME")]
    pub ingress_class: Option<String>,

    /// Secret with a TLS certificate for all names below the domain. Without it, ports are reached by HTTP.
    #[arg(long, env = "K8S_CLI_API_INGRESS_TLS_SECRET", value_name = "NAME")]
    pub ingress_tls_secret: Option<String>,

    /// Image of tasks that don't set `image_id`. Defaults to python:3.13-slim.
    #[arg(long, env = "K8S_CLI_API_DEFAULT_IMAGE", value_name = "IMAGE")]
    pub default_image: Option<String>,

    /// CPUs and memory that tasks request if they set neither.
    #[arg(long, env = "K8S_CLI_API_DEFAULT_REQUESTS", value_enum, default_value_t = DefaultRequestsChoice::None)]
    pub default_requests: DefaultRequestsChoice,

    /// Field of the pod that tasks may set with `pod_config`, e.g., spec.hostNetwork, or `*` for all; can be repeated.
    /// By default, only fields that affect nothing but the task itself are allowed.
    #[arg(
        long,
        env = "K8S_CLI_API_ALLOW_POD_CONFIG",
        value_name = "FIELD",
        value_delimiter = ','
    )]
    pub allow_pod_config: Vec<FieldPath>,

    /// Cluster nodes are added on demand: accept tasks that no present node can run.
    #[arg(long, env = "K8S_CLI_API_AUTOSCALED", value_parser = BoolishValueParser::new())]
    pub autoscaled: bool,

    /// PersistentVolumeClaims without an owner that tasks may mount.
    #[arg(long, env = "K8S_CLI_API_SHARED_CLAIMS", value_enum, default_value_t = SharedClaimsChoice::Any)]
    pub shared_claims: SharedClaimsChoice,

    /// Maximum number of concurrent connections. Further connections receive status 503.
    #[arg(long, env = "K8S_CLI_API_MAX_CONNECTIONS", default_value_t = 8192)]
    pub max_connections: usize,

    /// Maximum number of concurrent connections per client. Further connections receive status 429. A client is an IP
    /// address or, on this machine, an account; a proxy counts as one client.
    #[arg(long, env = "K8S_CLI_API_MAX_CONNECTIONS_PER_CLIENT", default_value_t = 6144)]
    pub max_connections_per_client: usize,

    /// How long a connection may be idle between two requests, e.g., 90s or 3m. Keep it longer than the idle timeout of
    /// proxies and connection pools: a request that one sends while the server closes the connection fails.
    #[arg(long, env = "K8S_CLI_API_IDLE_TIMEOUT", value_name = "TIME", default_value = "3m", value_parser = task::definition::parse_duration)]
    pub idle_timeout: Duration,

    /// Maximum number of concurrent log streams. Further requests receive status 503.
    #[arg(long, env = "K8S_CLI_API_MAX_STREAMS", default_value_t = 4096)]
    pub max_streams: usize,

    /// Maximum number of concurrent log streams per user. Further requests receive status 429.
    #[arg(long, env = "K8S_CLI_API_MAX_STREAMS_PER_USER", default_value_t = 1024)]
    pub max_streams_per_user: usize,

    /// Detach from the session that starts the server. For `k8s-cli api start`.
    #[arg(long, hide = true)]
    pub background: bool,
}

/// Where tasks run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BackendChoice {
    /// The configured cluster, or this machine if no cluster is configured.
    Auto,
    /// The configured cluster; an error if no cluster is configured.
    Cluster,
    /// This machine.
    Embedded,
}

/// How the ports of tasks can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PortsChoice {
    /// From inside of the cluster.
    ClusterIp,
    /// From outside, through a load balancer.
    LoadBalancer,
    /// From outside, at host names below `--ingress-domain`.
    Ingress,
}

/// What a task requests that sets neither CPUs nor memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DefaultRequestsChoice {
    /// Nothing.
    None,
    /// 2 CPUs and 2 GiB, or 4 CPUs and 16 GiB per GPU.
    Skypilot,
}

/// A Pod Security Standard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PodSecurityChoice {
    /// Containers may run as root.
    Baseline,
    /// Containers run as user 1000, without any privileges.
    Restricted,
}

/// Which PersistentVolumeClaims without an owner can be mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SharedClaimsChoice {
    /// Any in the namespace.
    Any,
    /// Only those labeled k8s-cli/shared=true.
    Labelled,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// One JSON object per line.
    Json,
    /// Human-readable text.
    Text,
}

/// Prints the help, the version, or a usage error, and returns clap's exit code for it.
#[must_use]
pub fn print_error(error: &clap::Error) -> ExitCode {
    let printed = error.print().and_then(|()| std::io::stdout().flush());
    match printed {
        // `k8s-cli-api --help | head` closes the pipe early; that is not an error.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("error: cannot write output: {error}");
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
        // The tests share this process's environment, so pass the value as an argument instead: clap parses it the
        // same way.
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
        // Hide values set in the environment of the test run.
        insta::assert_snapshot!(
            Args::command()
                .term_width(100)
                .mut_args(|argument| argument.hide_env_values(true))
                .render_long_help()
        );
    }
}
