//! `k8s-cli completions`, and the completion of tasks and volumes, which asks the server.

use std::time::Duration;

use clap_complete::aot::Shell;
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::Shells;
use task::wire::TaskStatus;
use task::wire::VolumeStatus;

use crate::args::Global;
use crate::client::{ApiUrl, Client};
use crate::error::{Error, Result};
use crate::output::print;
use crate::things::{Thing, list};
use crate::user::User;

/// Timeout for the server, because the user waits after pressing Tab.
const PATIENCE: Duration = Duration::from_millis(500);

/// Prints the completion script. The script calls this binary for candidates, so it need not be generated again after
/// updates.
pub fn run(shell: Shell) -> Result<()> {
    let shells = Shells::builtins();
    let completer = shells
        .completer(&shell.to_string())
        .ok_or_else(|| Error::Usage(format!("completions are not supported for {shell}")))?;
    let mut script = Vec::new();
    completer.write_registration("COMPLETE", "k8s_cli", "k8s-cli", "k8s-cli", &mut script)?;
    print(&String::from_utf8_lossy(&script))
}

pub fn tasks() -> Vec<CompletionCandidate> {
    candidates::<TaskStatus>()
}

pub fn volumes() -> Vec<CompletionCandidate> {
    candidates::<VolumeStatus>()
}

/// Values for `--volume`: each volume with the usual mount path.
pub fn volumes_to_mount() -> Vec<CompletionCandidate> {
    let volumes = known::<VolumeStatus>().unwrap_or_default();
    let mount = |name: &String| CompletionCandidate::new(format!("{name}:/data"));
    volumes.iter().map(|(_, name)| mount(name)).collect()
}

/// IDs, with names as help, and unique names. Without the server there are no candidates: an error message would end up
/// in the middle of the command line.
fn candidates<T: Thing>() -> Vec<CompletionCandidate> {
    let things = known::<T>().unwrap_or_default();
    let by_id = things
        .iter()
        .map(|(id, name)| CompletionCandidate::new(id).help(Some(name.clone().into())));
    // A name that several tasks share does not select one.
    let is_unique = |name: &String| things.iter().filter(|(_, other)| other == name).count() == 1;
    let names = things.iter().map(|(_, name)| name).filter(|name| is_unique(name));
    by_id.chain(names.map(CompletionCandidate::new)).collect()
}

#[tokio::main(flavor = "current_thread")]
async fn known<T: Thing>() -> Result<Vec<(String, String)>> {
    // The arguments are incomplete while the user types, so only variables can be read.
    let global = Global::from_environment()?;
    let url = ApiUrl::find(global.api_url.as_deref())?;
    let user = User::find(global.user.as_deref())?;
    let client = Client::new(&url, &user, global.trust_local_server)?;
    let things = tokio::time::timeout(PATIENCE, list::<T>(&client, false)).await;
    let things = things.map_err(|_| Error::TimedOut("the server did not respond in time".to_owned()))??;
    let both = |thing: &T| (thing.id().to_owned(), thing.name().to_owned());
    Ok(things.iter().map(|kept| both(&kept.item)).collect())
}
