//! `k8s-cli jobs list`.

use std::collections::HashMap;

use task::State;
use task::status::TaskStatus;

use crate::args::{Format, List, SortKey, StateName};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::{Item, Kept, REFRESH, print, print_items, say};
use crate::things::list;

/// Runs the command.
///
/// # Errors
/// The server does not give the list.
pub async fn run(context: &Context, args: List) -> Result<()> {
    if args.watch {
        return watch(context, &args).await;
    }
    let tasks = tasks(context, &args).await?;
    let format = args.format.format();
    if tasks.is_empty() && matches!(format, Format::Table | Format::Wide) {
        let of = if args.all_users {
            String::new()
        } else {
            format!(" of `{}`", context.user.name)
        };
        say(&format!(
            "no tasks{of}{}",
            if args.status.is_empty() { "" } else { " in these states" }
        ));
        return Ok(());
    }
    print_items(
        &tasks,
        format,
        args.all_users,
        !args.format.no_headers,
        context.terminal,
    )
}

async fn tasks(context: &Context, args: &List) -> Result<Vec<Kept<TaskStatus>>> {
    let mut tasks = list::<TaskStatus>(&context.client, args.all_users).await?;
    if !args.status.is_empty() {
        tasks.retain(|kept| args.status.iter().any(|name| state(*name) == kept.item.status));
    }
    match args.sort_by {
        // As they come: oldest first.
        SortKey::Age => {}
        SortKey::Name => tasks.sort_by(|left, right| left.item.name.cmp(&right.item.name)),
        SortKey::Status => tasks.sort_by_key(|kept| kept.item.status),
        SortKey::Nodes => tasks.sort_by_key(|kept| kept.item.metadata.num_nodes),
        SortKey::User => tasks.sort_by(|left, right| left.item.username.cmp(&right.item.username)),
    }
    Ok(tasks)
}

fn state(name: StateName) -> State {
    match name {
        StateName::Pending => State::Pending,
        StateName::Running => State::Running,
        StateName::Completed => State::Completed,
        StateName::Failed => State::Failed,
    }
}

/// Prints all tasks once, then each that changes, until Ctrl-C.
async fn watch(context: &Context, args: &List) -> Result<()> {
    tokio::select! {
        ended = watch_for_ever(context, args) => ended,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            Err(Error::Interrupted)
        }
    }
}

async fn watch_for_ever(context: &Context, args: &List) -> Result<()> {
    let mut known: HashMap<String, String> = HashMap::new();
    let mut headers = !args.format.no_headers;
    loop {
        let mut tasks = tasks(context, args).await?;
        tasks.retain(|kept| known.get(kept.item.id()).is_none_or(|raw| raw != kept.raw.get()));
        for kept in &tasks {
            known.insert(kept.item.id().to_owned(), kept.raw.get().to_owned());
        }
        if !tasks.is_empty() {
            print_changes(&tasks, args, headers, context)?;
            headers = false;
        }
        tokio::time::sleep(REFRESH).await;
    }
}

fn print_changes(tasks: &[Kept<TaskStatus>], args: &List, headers: bool, context: &Context) -> Result<()> {
    match args.format.format() {
        // One object in each line: a stream has no end at which a list could be closed.
        Format::Json => print(
            &tasks
                .iter()
                .map(|kept| format!("{}\n", kept.raw.get()))
                .collect::<String>(),
        ),
        format => print_items(tasks, format, args.all_users, headers, context.terminal),
    }
}
