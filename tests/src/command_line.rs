//! The CLI as users run it: in a shell, in a pipe, and in a terminal of some width.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde::de::DeserializeOwned;

use crate::World;
use crate::deadline::Deadline;

/// `k8s-cli` for one user, with its own home directory.
pub struct CommandLine {
    home: PathBuf,
    folder: PathBuf,
    /// Set in the environment of each command.
    variables: Vec<(&'static str, String)>,
    _deadline: Deadline,
}

/// The result of a command.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// Returns the standard output of a successful command.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}", self.stderr);
        String::from_utf8(self.stdout).unwrap()
    }

    /// Returns the JSON output of a successful command as a type.
    pub fn parsed<T: DeserializeOwned>(self) -> T {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Returns the standard error of a command with this exit code.
    pub fn failed(self, code: i32) -> String {
        assert_eq!(
            self.code,
            code,
            "{}{}",
            String::from_utf8_lossy(&self.stdout),
            self.stderr
        );
        self.stderr
    }
}

impl CommandLine {
    /// Creates the CLI for the user and the server of a world.
    #[must_use]
    pub fn of(world: &World) -> Self {
        let mut cli = Self::fresh();
        cli.set("K8S_CLI_API_URL", world.api.base());
        cli.set("K8S_CLI_USER", "alice@example.com");
        cli
    }

    /// Creates the CLI as after a fresh installation.
    #[must_use]
    pub fn fresh() -> Self {
        let home = std::env::temp_dir().join(format!("k8s-cli-home-{:016x}", fastrand::u64(..)));
        std::fs::create_dir_all(&home).unwrap();
        Self {
            folder: home.clone(),
            home,
            variables: Vec::new(),
            _deadline: Deadline::start(None),
        }
    }

    /// Does the same, with a free port for its own server.
    #[must_use]
    pub fn with_free_port() -> Self {
        let mut cli = Self::fresh();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        cli.set("K8S_CLI_API_PORT", &free.local_addr().unwrap().port().to_string());
        cli
    }

    /// Sets a variable for all following commands.
    pub fn set(&mut self, name: &'static str, value: &str) {
        self.variables.push((name, value.to_owned()));
    }

    /// Returns a variable that was set.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        let set = self.variables.iter().find(|(known, _)| *known == name);
        set.map(|(_, value)| value.as_str())
    }

    /// The home directory.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Runs commands in a folder of the home directory, and writes files there.
    #[must_use]
    pub fn in_folder(mut self, name: &str) -> Self {
        self.folder = self.home.join(name);
        std::fs::create_dir_all(&self.folder).unwrap();
        self
    }

    /// The folder in which commands run, which is the home directory at first.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a file in the folder in which commands run.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.join(name), text).unwrap();
    }

    /// Prepares a command.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("K8S_CLI_") || name.starts_with("XDG_") {
                command.env_remove(name);
            }
        }
        for name in ["NO_COLOR", "CLICOLOR_FORCE", "CLICOLOR", "COLUMNS", "KUBECONFIG"] {
            command.env_remove(name);
        }
        command
            .args(arguments)
            .current_dir(&self.folder)
            .env("HOME", &self.home)
            .env("TERM", "xterm");
        command
            .envs(self.variables.iter().map(|(name, value)| (*name, value.as_str())))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command in a pipe.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Ran {
        let output = self
            .command(arguments)
            .output()
            .expect("cannot run the CLI; run `cargo build -p cli`");
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a command whose standard output is a terminal of this width, but whose standard error is not.
    #[must_use]
    pub fn on_terminal(&self, width: u16, arguments: &[&str]) -> Ran {
        let (terminal, end) = terminal(width);
        let mut command = self.command(arguments);
        let child = command.stdout(Stdio::from(end)).spawn().unwrap();
        drop(command);
        let reading = std::thread::spawn(move || read_all(terminal));
        let output = child.wait_with_output().unwrap();
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: reading.join().unwrap(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Starts a command with all streams on a terminal and returns the terminal's output.
    #[must_use]
    pub fn start_on_terminal(&self, width: u16, arguments: &[&str]) -> (Child, File) {
        let (terminal, end) = terminal(width);
        let mut command = self.command(arguments);
        command
            .stdin(end.try_clone().unwrap())
            .stderr(end.try_clone().unwrap())
            .stdout(end);
        (command.spawn().unwrap(), terminal)
    }
}

impl Drop for CommandLine {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

/// Opens a terminal of 24 rows and returns it with the end for the program.
fn terminal(width: u16) -> (File, OwnedFd) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let path = ptsname(&ours, Vec::new()).unwrap();
    let path = PathBuf::from(path.into_string().unwrap());
    let theirs = File::options().read(true).write(true).open(path).unwrap();
    let size = Winsize {
        ws_row: 24,
        ws_col: width,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&theirs, size).unwrap();
    (ours.into(), theirs.into())
}

/// Reads the whole output of a terminal. Linux reports its end as an error.
fn read_all(mut terminal: File) -> Vec<u8> {
    let mut shown = Vec::new();
    let mut buffer = [0; 65536];
    while let Ok(count) = terminal.read(&mut buffer) {
        if count == 0 {
            break;
        }
        shown.extend_from_slice(&buffer[..count]);
    }
    shown
}

/// The binary of the same build, or the one that `K8S_CLI_BIN` names.
fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("K8S_CLI_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().join("k8s-cli")
}
