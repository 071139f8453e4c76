//! A server process for one test.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// A running server, killed on drop.
pub struct Server {
    child: Child,
    base: String,
    arguments: Vec<String>,
    setting: Setting,
}

/// How a server is started, apart from its arguments.
#[derive(Default)]
pub struct Setting {
    /// Additional environment variables.
    pub environment: Vec<(String, OsString)>,
    /// The command that becomes the server, with its arguments; empty to start the server itself.
    pub launcher: Vec<String>,
}

impl Server {
    /// Prepares the server's program with these arguments, on a free port.
    #[must_use]
    pub fn command(arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(["--port", "0"]).args(arguments);
        command
    }

    /// Starts a server and waits until it listens.
    #[must_use]
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_on(None, arguments)
    }

    /// Starts a server on the cluster of a kubeconfig instead of the one of all tests.
    #[must_use]
    pub fn start_on(kubeconfig: Option<&Path>, arguments: &[&str]) -> Self {
        let kubeconfig = kubeconfig.map(|path| ("KUBECONFIG".to_owned(), path.into()));
        let setting = Setting {
            environment: kubeconfig.into_iter().collect(),
            ..Setting::default()
        };
        Self::start_with(setting, arguments)
    }

    /// Starts a server with a given setting.
    #[must_use]
    pub fn start_with(setting: Setting, arguments: &[&str]) -> Self {
        let mut all = vec!["--log-format", "json"];
        if !arguments.contains(&"--port") {
            all.extend_from_slice(&["--port", "0"]);
        }
        all.extend_from_slice(arguments);
        let arguments: Vec<String> = all.into_iter().map(str::to_owned).collect();
        let (child, base, kube) = spawn(&arguments, &setting);
        let mut server = Self {
            child,
            base,
            arguments,
            setting,
        };
        if let Some(kube) = kube {
            // Keep the address after a restart.
            server.replace("--kube-listen", kube);
        }
        server
    }

    /// The URL of the server.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Kills it with SIGKILL, as a power cut would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends SIGTERM and waits; returns whether it exited with code 0.
    pub fn terminate(&mut self) -> bool {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").arg(&pid).status().unwrap().success());
        self.child.wait().unwrap().success()
    }

    fn replace(&mut self, option: &str, value: String) {
        let index = self.arguments.iter().position(|argument| argument == option).unwrap() + 1;
        self.arguments[index] = value;
    }

    /// The process ID.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Starts it again at the same address.
    pub fn restart(&mut self) {
        let port = self.base.rsplit(':').next().unwrap().to_owned();
        self.replace("--port", port);
        let (child, base, _) = spawn(&self.arguments, &self.setting);
        self.child = child;
        self.base = base;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary of the same build, or the one that `K8S_CLI_API_BIN` names.
fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("K8S_CLI_API_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().join("k8s-cli-api")
}

fn spawn(arguments: &[String], setting: &Setting) -> (Child, String, Option<String>) {
    let mut command = match setting.launcher.split_first() {
        Some((launcher, more)) => {
            let mut command = Command::new(launcher);
            command.args(more).arg(binary());
            command
        }
        None => Command::new(binary()),
    };
    let mut child = command
        .envs(setting.environment.iter().map(|(name, value)| (name, value)))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("cannot run the server; run `cargo build -p server`");
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut seen = Vec::new();
    let mut kube = None;
    let base = loop {
        let Some(Ok(line)) = log.next() else {
            panic!("the server did not start: {}", seen.join("\n"));
        };
        let entry: Value = serde_json::from_str(&line).unwrap_or_default();
        if entry["event"] == "kube_listening" {
            kube = entry["address"].as_str().map(str::to_owned);
        }
        if entry["event"] == "listening" {
            break format!("http://{}", entry["address"].as_str().unwrap());
        }
        seen.push(line);
    };
    // A full pipe would block the server.
    let echo = std::env::var_os("K8S_CLI_TEST_SERVER_LOG").is_some();
    std::thread::spawn(move || {
        for line in log.map_while(Result::ok) {
            if echo {
                eprintln!("{line}");
            }
        }
    });
    (child, base, kube)
}
