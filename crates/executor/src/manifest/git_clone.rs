//! The part of a node's script that clones the repository of a task into the working folder.

use task::definition::{Repository, SSH_KEY_VARIABLE, Transport};

use super::quoting::quote;
use super::working_dir::{LINKS_HOME, WORKING_DIR};

/// Clones the repository `$1` in revision `$2`, or in its default branch, into the working folder, with the git protocols
/// `$3`. For the address `$4` alone, `GIT_TOKEN` is the password. `$5` is what may be missing if the clone fails.
///
/// What is in the folder stays, because the node may have been here before, and because volumes may be mounted in it;
/// files of the repository replace others of their name. One commit is fetched, unless `$2` may be a commit that a
/// server won't send by itself: an abbreviated one or, on an old server, one that is not the tip of a branch.
///
/// The token is in no argument, file, or address: git asks the helper, which is a line of `sh` with the name of the
/// variable. It is asked for the host of the repository only, so that a redirect does not get the token; other helpers of
/// the image might store it. OAuth tokens of GitLab need the user `oauth2`, and others take any. The key is a file that
/// only its owner may read, in a volume that is deleted with the pod, and is removed when git is done. `ssh` reads no key
/// from a pipe.
///
/// The folder belongs to root and the task may not, so that git needs to be told that it may work there, also in the
/// task's own commands. Old versions of git accept this only in a file of the home folder.
const CLONE: &str = r#"k8s_cli_clone() (
  url=$1 ref=$2 scope=$4 hint=$5 key=
  fail() {
    echo "cannot clone \`$url\`: $1" >&2
    echo "cannot clone \`$url\`: $1" >>/dev/termination-log
    exit 1
  }
  require() { command -v "$1" >/dev/null || fail "\`$1\` is not in the image; install it, or use another image"; }
  options=(-c advice.detachedHead=false -c init.defaultBranch=main -c "safe.directory=$PWD")
  run() { command git "${options[@]}" "$@"; }
  require git
  export GIT_TERMINAL_PROMPT=0 GIT_ALLOW_PROTOCOL=$3
  [ -z "$LINKS_HOME" ] || [ -O . ] || git config --global --add safe.directory "$PWD" 2>/dev/null
  rm -rf .git
  run init -q && run remote add origin "$url" || fail "see the log of the node"
  if [ "$3" = ssh ]; then
    [ -n "$GIT_SSH_COMMAND$GIT_SSH" ] || require ssh
    ssh="ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new"
    if [ -n "$GIT_SSH_KEY" ]; then
      key=$PWD/.git/k8s-cli-key
      trap 'rm -f "$key"' EXIT
      (umask 077; printf '%s\n' "${GIT_SSH_KEY//$'\r'}" >"$key") || fail "see the log of the node"
      ssh+=" -i $key -o IdentitiesOnly=yes"
      hint=
    fi
    [ -n "$GIT_SSH_COMMAND$GIT_SSH" ] || export GIT_SSH_COMMAND=$ssh
  elif [ -n "$scope" ] && [ -n "$GIT_TOKEN" ]; then
    export GIT_TOKEN=${GIT_TOKEN//[[:space:]]}
    options+=(-c credential.helper= -c "credential.$scope.helper=!f() { [ \"\$1\" != get ] || printf 'username=oauth2\\npassword=%s\\n' \"\$GIT_TOKEN\"; }; f")
    hint=
  fi
  if [[ $ref =~ ^[0-9a-f]{4,64}$ ]]; then
    run fetch -q --depth 1 origin "$ref" 2>/dev/null && commit=FETCH_HEAD ||
      { run fetch -q --tags origin '+refs/heads/*:refs/remotes/origin/*' && commit=$ref; }
  else
    run fetch -q --depth 1 origin "${ref:-HEAD}" && commit=FETCH_HEAD
  fi || fail "see the log of the node$hint"
  run checkout -f --detach "$commit" >&2 || fail "see the log of the node"
)
"#;

/// The lines that clone the repository. The node fails if they do.
pub(super) fn clone(repository: &Repository) -> String {
    let (protocols, scope) = match repository.url.transport() {
        // Nor may a redirect lead to a protocol without encryption.
        Transport::Https(scope) => ("https", scope.as_str()),
        Transport::HttpLoopback(scope) => ("http:https", scope.as_str()),
        Transport::Http => ("http:https", ""),
        Transport::Ssh => ("ssh", ""),
    };
    let hint = match repository.url.credential_variable() {
        Some(SSH_KEY_VARIABLE) => format!("; the server may want a private key as the secret `{SSH_KEY_VARIABLE}`"),
        Some(variable) => format!("; a private repository needs a token as the secret `{variable}`"),
        None => "; a private repository needs `https://`".to_owned(),
    };
    let git_ref = repository.git_ref.as_ref().map_or("", |git_ref| git_ref.as_str());
    let arguments = [repository.url.as_str(), git_ref, protocols, scope, &hint].map(quote);
    format!(
        "{}(unset K8S_CLI_FILES_TOKEN; cd {WORKING_DIR} && k8s_cli_clone {}) || exit 1\nunset -f k8s_cli_clone\n",
        CLONE.replace("LINKS_HOME", LINKS_HOME),
        arguments.join(" ")
    )
}

#[cfg(test)]
mod tests;
