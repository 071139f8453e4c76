//! A background server and its tasks inherit nothing from the process that started it.

use std::os::unix::fs::PermissionsExt;

use e2e::{Backend, CommandLine};
use serde_json::Value;

#[test]
fn the_background_server_inherits_nothing() {
    if Backend::chosen() == Backend::Cluster {
        println!("skipped on Cluster: the server would use it");
        return;
    }
    let cli = CommandLine::with_free_port();
    let start = cli.command(&["api", "start"]);
    let mut shell = std::process::Command::new("bash");
    shell
        .args([
            "-c",
            "exec 7>held 42<>held; umask 002; ulimit -S -n 512; trap '' USR1 QUIT; \"$@\"",
            "bash",
        ])
        .arg(start.get_program())
        .args(start.get_args());
    for (name, value) in start.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    let started = shell.current_dir(cli.home()).output().unwrap();
    assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    let record = std::fs::read(cli.home().join(".local/share/k8s-cli/api.json")).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    let process = std::path::PathBuf::from(format!("/proc/{}", record["pid"]));
    let files = std::fs::read_dir(process.join("fd")).unwrap();
    let open = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
    let held: Vec<_> = open.filter(|file| file.ends_with("held")).collect();
    let directory = std::fs::read_link(process.join("cwd")).unwrap();
    let session = std::fs::read_to_string(process.join("stat")).unwrap();
    let session = session
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .nth(3)
        .unwrap()
        .to_owned();
    // A task has what every container has, independent of the starting process and the server.
    let task = "umask; ulimit -S -n; grep SigIgn /proc/self/status";
    let seen = cli.run(&["jobs", "submit", "--", task]).ok();
    let server_directory = cli.home().join(".local/share/k8s-cli");
    let is_private = |name: &str| {
        let metadata = std::fs::metadata(server_directory.join(name)).unwrap();
        metadata.permissions().mode() & 0o077 == 0
    };
    let open_to_others: Vec<&str> = ["", "api.json", "api.log", "start.lock"]
        .into_iter()
        .filter(|name| !is_private(name))
        .collect();
    cli.run(&["api", "stop"]).ok();
    assert_eq!(open_to_others, Vec::<&str>::new());
    let seen: Vec<&str> = seen.split_whitespace().collect();
    let ["0022", "512", "SigIgn:", ignored] = seen[..] else {
        panic!("{seen:?}");
    };
    // The C library uses the real-time signals up to 33.
    let ignored = u64::from_str_radix(ignored, 16).unwrap() & 0x7fff_ffff;
    assert_eq!(ignored, 0, "signals that the parent ignored");
    assert_eq!(
        session,
        record["pid"].to_string(),
        "the server must have its own session"
    );
    assert_eq!((held, directory.as_path()), (Vec::new(), std::path::Path::new("/")));
}
