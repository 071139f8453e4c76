//! `k8s-cli completions`, and the completion of tasks and volumes, which asks the server.

use std::ffi::OsStr;
use std::time::Duration;

use clap::Command;
use clap_complete::aot::Shell;
use clap_complete::engine::{
    ArgValueCandidates, ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter,
};
use clap_complete::env::Shells;
use task::wire::{TaskStatus, VolumeStatus};

use crate::args::GlobalArgs;
use crate::client::{ApiUrl, Client};
use crate::error::{Error, Result};
use crate::output::print;
use crate::resources::{Resource, list};
use crate::user::User;

/// Timeout for the server, because the user waits after pressing Tab.
const TIMEOUT: Duration = Duration::from_millis(500);

/// Prints the completion script. The script calls this binary for candidates, so it need not be generated again after
/// updates.
pub(crate) fn run(shell: Shell) -> Result<()> {
    let shells = Shells::builtins();
    let completer = shells
        .completer(&shell.to_string())
        .ok_or_else(|| Error::Usage(format!("completions are not supported for {shell}")))?;
    let mut script = Vec::new();
    completer.write_registration("COMPLETE", "k8s_cli", "k8s-cli", "k8s-cli", &mut script)?;
    print(&String::from_utf8_lossy(&script))
}

/// Lets the shell complete tasks and volumes: every argument with one of these value names.
pub(crate) fn attach_completers(command: Command) -> Command {
    command
        .mut_args(|arg| {
            let is_named = |name: &str| arg.get_value_names().is_some_and(|names| names == [name]);
            if is_named("TASK") {
                arg.add(ArgValueCandidates::new(tasks))
            } else if is_named("VOLUME") {
                arg.add(ArgValueCandidates::new(volumes))
            } else if is_named("SRC") || is_named("DST") {
                arg.add(ArgValueCompleter::new(copy_places))
            } else if is_named("VOLUME[:PATH]") {
                arg.add(ArgValueCandidates::new(volumes))
            } else if is_named("NAME:PATH") {
                arg.add(ArgValueCandidates::new(volume_mounts))
            } else {
                arg
            }
        })
        .mut_subcommands(attach_completers)
}

fn tasks() -> Vec<CompletionCandidate> {
    candidates::<TaskStatus>()
}

fn volumes() -> Vec<CompletionCandidate> {
    candidates::<VolumeStatus>()
}

/// Values for `--volume`: each volume with the usual mount path.
fn volume_mounts() -> Vec<CompletionCandidate> {
    let volumes = names_by_id::<VolumeStatus>().unwrap_or_default();
    let mount = |name: &String| CompletionCandidate::new(format!("{name}:/data"));
    volumes.iter().map(|(_, name)| mount(name)).collect()
}

/// Values for `volumes cp`: paths, and each volume.
fn copy_places(current: &OsStr) -> Vec<CompletionCandidate> {
    let volumes = names_by_id::<VolumeStatus>().unwrap_or_default();
    let current_text = current.to_string_lossy();
    let is_meant = |name: &&String| name.starts_with(&*current_text);
    let names = volumes.iter().map(|(_, name)| name).filter(is_meant);
    let volumes: Vec<_> = names
        .map(|name| CompletionCandidate::new(format!("{name}:/")))
        .collect();
    PathCompleter::any()
        .complete(current)
        .into_iter()
        .chain(volumes)
        .collect()
}

/// IDs, with names as help, and unique names. Without the server there are no candidates: an error message would end up
/// in the middle of the command line.
fn candidates<T: Resource>() -> Vec<CompletionCandidate> {
    let resources = names_by_id::<T>().unwrap_or_default();
    let by_id = resources
        .iter()
        .map(|(id, name)| CompletionCandidate::new(id).help(Some(name.clone().into())));
    // A name that several tasks share does not select one.
    let is_unique = |name: &String| resources.iter().filter(|(_, other)| other == name).count() == 1;
    let names = resources.iter().map(|(_, name)| name).filter(|name| is_unique(name));
    by_id.chain(names.map(CompletionCandidate::new)).collect()
}

#[tokio::main(flavor = "current_thread")]
async fn names_by_id<T: Resource>() -> Result<Vec<(String, String)>> {
    // The arguments are incomplete while the user types, so only variables can be read.
    let global = GlobalArgs::from_environment()?;
    let url = ApiUrl::resolve(global.api_url.as_deref())?;
    let user = User::resolve(global.user.as_deref())?;
    let client = Client::new(&url, &user, global.trust_local_server)?;
    let resources = tokio::time::timeout(TIMEOUT, list::<T>(&client, false)).await;
    let resources = resources.map_err(|_| Error::TimedOut("the server did not respond in time".to_owned()))??;
    let id_and_name = |item: &T| (item.id().to_owned(), item.name().to_owned());
    Ok(resources.iter().map(|resource| id_and_name(&resource.item)).collect())
}

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory};
    use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter};

    use super::attach_completers;
    use crate::args::Args;

    /// The arguments with completers, as `command argument`.
    fn completed(command: &Command) -> Vec<String> {
        let own = command
            .get_arguments()
            .filter(|arg| arg.get::<ArgValueCandidates>().is_some() || arg.get::<ArgValueCompleter>().is_some());
        let own = own.map(|arg| arg.get_id().to_string());
        let below = command.get_subcommands().flat_map(completed);
        own.chain(below)
            .map(|path| format!("{} {path}", command.get_name()))
            .collect()
    }

    #[test]
    fn tasks_and_volumes_are_completed() {
        let expected = [
            "k8s-cli jobs submit volume",
            "k8s-cli jobs status tasks",
            "k8s-cli jobs stop tasks",
            "k8s-cli jobs cancel tasks",
            "k8s-cli jobs logs task",
            "k8s-cli jobs outputs task",
            "k8s-cli jobs wait tasks",
            "k8s-cli jobs top tasks",
            "k8s-cli volumes list path",
            "k8s-cli volumes du path",
            "k8s-cli volumes cp source",
            "k8s-cli volumes cp target",
            "k8s-cli volumes status volumes",
            "k8s-cli volumes delete volumes",
        ];
        assert_eq!(completed(&attach_completers(Args::command())), expected);
    }
}
