//! Runs the lines of the script with the git of this machine, and repositories in folders.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::json;
use task::TaskDefinition;
use task::definition::Workdir;
use tempfile::TempDir;

use super::{CLONE, clone};

/// A repository, and a working folder.
struct Machine {
    root: TempDir,
    /// The commits of `main`, the oldest first.
    commits: Vec<String>,
}

impl Machine {
    /// `main` with three commits of `file`, the tag `v1` on the second, and the branch `side/x` with `other`.
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let repository = root.path().join("repository");
        for folder in [&repository, &root.path().join("work"), &root.path().join("home")] {
            fs::create_dir(folder).unwrap();
        }
        let git = |arguments: &[&str]| git(&repository, arguments);
        git(&["init", "-q", "-b", "main"]);
        let mut commits = Vec::new();
        for text in ["1", "2", "3"] {
            fs::write(repository.join("file"), text).unwrap();
            git(&["add", "."]);
            git(&["commit", "-qm", text]);
            commits.push(git(&["rev-parse", "HEAD"]));
        }
        git(&["tag", "-a", "v1", "-m", "first", &commits[1]]);
        git(&["checkout", "-qb", "side/x"]);
        fs::write(repository.join("other"), "x").unwrap();
        git(&["add", "."]);
        git(&["commit", "-qm", "side"]);
        git(&["checkout", "-q", "main"]);
        Self { root, commits }
    }

    fn work(&self) -> PathBuf {
        self.root.path().join("work")
    }

    /// Clones a revision from the repository at `url`, with more variables.
    fn clone_from(&self, url: &str, git_ref: &str, protocols: &str, variables: &[(&str, &str)]) -> Output {
        let script = CLONE.replace("/dev/termination-log", "\"$REPORT\"");
        let call = "PATH=${SEARCH-$PATH}\nk8s_cli_clone \"$@\"";
        Command::new("timeout")
            .args(["60", "/bin/bash", "-c", &format!("{script}{call}"), "k8s-cli"])
            .args([url, git_ref, protocols, "https://example.com", "; the hint"])
            .current_dir(self.work())
            .env("REPORT", self.root.path().join("report"))
            .env("HOME", self.root.path().join("home"))
            .envs(variables.iter().copied())
            .output()
            .unwrap()
    }

    fn clone(&self, git_ref: &str) -> Output {
        // With `file://`, a clone of a folder is as shallow as one of a server.
        let url = format!("file://{}", self.root.path().join("repository").display());
        self.clone_from(&url, git_ref, "file", &[])
    }

    fn file(&self) -> String {
        fs::read_to_string(self.work().join("file")).unwrap()
    }

    fn report(&self) -> String {
        fs::read_to_string(self.root.path().join("report")).unwrap_or_default()
    }
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let identity = ["-c", "user.name=n", "-c", "user.email=e@example.com"];
    let output = Command::new("git")
        .args(identity)
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn lines(url: &str, git_ref: Option<&str>) -> String {
    let body = json!({"run": "true", "workdir": {"url": url, "ref": git_ref}});
    let definition = TaskDefinition::parse(&body, 1).unwrap();
    clone(definition.workdir.as_ref().and_then(Workdir::repository).unwrap())
}

#[test]
fn a_branch_a_tag_a_commit_and_an_abbreviation_of_one_are_cloned() {
    let machine = Machine::new();
    let [first, second, third] = [&machine.commits[0], &machine.commits[1], &machine.commits[2]];
    for (git_ref, commit) in [
        ("", third),
        ("main", third),
        ("v1", second),
        ("refs/heads/main", third),
        (first, first),
        (&second[..8], second),
    ] {
        let output = machine.clone(git_ref);
        assert!(output.status.success(), "{git_ref}: {output:?}");
        assert_eq!(&git(&machine.work(), &["rev-parse", "HEAD"]), commit, "{git_ref}");
        assert_eq!(git(&machine.work(), &["status", "--porcelain"]), "", "{git_ref}");
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(log.contains(&format!("HEAD is now at {}", &commit[..7])), "{log}");
    }
    assert!(machine.clone("side/x").status.success());
    assert!(machine.work().join("other").exists());
}

#[test]
fn only_the_commit_of_a_branch_is_fetched() {
    let machine = Machine::new();
    assert!(machine.clone("main").status.success());
    assert_eq!(git(&machine.work(), &["rev-list", "--count", "HEAD"]), "1");
}

#[test]
fn a_node_that_was_here_before_has_the_files_of_the_repository_and_keeps_others() {
    let machine = Machine::new();
    fs::create_dir_all(machine.work().join(".git")).unwrap();
    for name in ["file", "mine", ".git/index.lock", ".git/shallow.lock"] {
        fs::write(machine.work().join(name), "half").unwrap();
    }
    let output = machine.clone("main");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(machine.file(), "3");
    assert!(machine.work().join("mine").exists());
    assert!(machine.clone("v1").status.success());
    assert_eq!(machine.file(), "2");
}

#[test]
fn what_is_missing_ends_the_node_with_what_to_do() {
    let machine = Machine::new();
    let output = machine.clone("no-such-branch");
    assert!(!output.status.success());
    let report = machine.report();
    assert!(report.ends_with("`: see the log of the node; the hint\n"), "{report}");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("no-such-branch"),
        "{output:?}"
    );
    let output = machine.clone_from("https://example.com/x", "", "https", &[("SEARCH", "/nowhere")]);
    assert!(!output.status.success());
    let expected =
        "cannot clone `https://example.com/x`: `git` is not in the image; install it, or use another image\n";
    assert!(machine.report().ends_with(expected), "{}", machine.report());
}

/// A program in the place of git or ssh that records its arguments, its variables, and the key.
fn spy(machine: &Machine, name: &str) -> String {
    let bin = machine.root.path().join("bin");
    fs::create_dir_all(&bin).unwrap();
    let path = bin.join(name);
    let record = machine.root.path().join("record");
    let program = format!(
        "#!/bin/bash\n{{ echo \"$@\"; env; while [ $# != 0 ]; do [ \"$1\" != -i ] || {{ stat -c %a \"$2\"; cat \"$2\"; }}; shift; done; }} >>{}\nexit 1\n",
        record.display()
    );
    fs::write(&path, program).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:{}", bin.display(), std::env::var("PATH").unwrap())
}

#[test]
fn ssh_gets_the_key_in_a_file_of_its_own_that_is_gone_afterwards() {
    let machine = Machine::new();
    let path = spy(&machine, "ssh");
    let key = "-----BEGIN KEY-----\r\ncanary\r\n-----END KEY-----";
    let output = machine.clone_from(
        "git@example.com:x",
        "main",
        "ssh",
        &[("SEARCH", &path), ("GIT_SSH_KEY", key)],
    );
    assert!(!output.status.success());
    let record = fs::read_to_string(machine.root.path().join("record")).unwrap();
    let arguments = record.lines().next().unwrap();
    for wanted in [
        "BatchMode=yes",
        "StrictHostKeyChecking=accept-new",
        "IdentitiesOnly=yes",
        "example.com",
    ] {
        assert!(arguments.contains(wanted), "{arguments}");
    }
    assert!(!arguments.contains("canary"), "{arguments}");
    assert!(
        record.contains("\n600\n-----BEGIN KEY-----\ncanary\n-----END KEY-----\n"),
        "{record}"
    );
    assert!(!machine.work().join(".git/k8s-cli-key").exists());
    assert!(
        machine.report().ends_with("see the log of the node\n"),
        "{}",
        machine.report()
    );
    let output = machine.clone_from("git@example.com:x", "main", "ssh", &[("SEARCH", &path)]);
    assert!(!output.status.success());
    assert!(machine.report().ends_with("the hint\n"), "{}", machine.report());
}

#[test]
fn the_token_is_in_no_argument_and_not_for_other_hosts() {
    let machine = Machine::new();
    let path = spy(&machine, "git");
    let script = |action: &str| format!("#!/bin/bash\n{action}\n");
    let bin = machine.root.path().join("bin/git");
    // Asks for the password as git does when a server wants one, and records what is visible of this process.
    let action = format!(
        "case \" $* \" in *' fetch '*) ;; *) exec {real} \"$@\" ;; esac\n\
         tr '\\0' '\\n' </proc/$$/cmdline\n\
         options=(); while [ \"$1\" = -c ]; do options+=(-c \"$2\"); shift 2; done\n\
         for url in https://example.com/x https://example.org/x http://example.com/x; do\n\
           echo \"== $url\"; printf 'url=%s\\n\\n' \"$url\" | {real} \"${{options[@]}}\" credential fill 2>&1\n\
         done; exit 1",
        real = String::from_utf8(Command::new("which").arg("git").output().unwrap().stdout)
            .unwrap()
            .trim()
    );
    fs::write(&bin, script(&action)).unwrap();
    let token = [("SEARCH", path.as_str()), ("GIT_TOKEN", "canary\n")];
    let output = machine.clone_from("https://example.com/x", "main", "https", &token);
    let seen = String::from_utf8(output.stdout).unwrap();
    let parts: Vec<&str> = seen.split("== ").collect();
    assert_eq!(parts.len(), 4, "{seen} {:?}", String::from_utf8_lossy(&output.stderr));
    assert!(!parts[0].contains("canary"), "{}", parts[0]);
    assert!(parts[1].contains("username=oauth2\npassword=canary\n"), "{}", parts[1]);
    for other in &parts[2..] {
        assert!(
            other.contains("terminal prompts disabled") && !other.contains("canary"),
            "{other}"
        );
    }
    let config = fs::read_to_string(machine.work().join(".git/config")).unwrap();
    assert!(!config.contains("canary"), "{config}");
}

#[test]
fn an_address_and_a_ref_are_quoted_and_have_their_protocols() {
    let last = |text: String| text.lines().rev().nth(1).unwrap().to_owned();
    assert_eq!(
        last(lines("https://x/it's", Some("a$(b)"))),
        r"(unset K8S_CLI_FILES_TOKEN; cd /sky_workdir && k8s_cli_clone 'https://x/it'\''s' 'a$(b)' 'https' 'https://x' '; a private repository needs a token as the secret `GIT_TOKEN`') || exit 1"
    );
    for (url, wanted) in [
        (
            "git@x:y",
            "'ssh' '' '; the server may want a private key as the secret `GIT_SSH_KEY`')",
        ),
        ("http://127.0.0.1:1/y", "'http:https' 'http://127.0.0.1:1' '; a private"),
        (
            "http://x/y",
            "'http:https' '' '; a private repository needs `https://`')",
        ),
    ] {
        let line = last(lines(url, None));
        assert!(line.contains(&format!("'{url}' '' {wanted}")), "{line}");
    }
}
