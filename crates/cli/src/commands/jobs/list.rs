//! `k8s-cli jobs list`.

use std::collections::HashMap;

use serde_json::Value;
use task::TaskState;
use task::wire::TaskStatus;

use crate::args::{Format, List, SortKey, StateName};
use crate::client::Away;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::{Item, Kept, REFRESH, plain_json, print, print_items, print_items_below, say, yaml};
use crate::things::{list, say_none};

pub async fn run(context: &Context, args: List) -> Result<()> {
    if args.watch {
        return watch(context, &args).await;
    }
    let tasks = tasks(context, &args).await?;
    let format = args.format.format();
    if tasks.is_empty() && matches!(format, Format::Table | Format::Wide) {
        let which = if args.status.is_empty() {
            ""
        } else {
            " with this status"
        };
        say_none::<TaskStatus>(args.all_users, &context.user.name, which);
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
        // The server lists the oldest first.
        SortKey::Age => {}
        SortKey::Name => tasks.sort_by(|left, right| left.item.name.cmp(&right.item.name)),
        SortKey::Status => tasks.sort_by_key(|kept| kept.item.status),
        SortKey::Nodes => tasks.sort_by_key(|kept| kept.item.metadata.num_nodes),
        SortKey::User => tasks.sort_by(|left, right| left.item.username.cmp(&right.item.username)),
    }
    Ok(tasks)
}

fn state(name: StateName) -> TaskState {
    match name {
        StateName::Pending => TaskState::Pending,
        StateName::Running => TaskState::Running,
        StateName::Completed => TaskState::Completed,
        StateName::Failed => TaskState::Failed,
    }
}

/// Prints all tasks once, then each task that changes, until Ctrl-C.
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
    let mut was_seen = false;
    let mut away = Away::default();
    let mut widths = Vec::new();
    loop {
        let mut tasks = match tasks(context, args).await {
            Ok(tasks) => tasks,
            // Fail immediately if the first request fails; after that, wait for the server to come back.
            Err(error) if !was_seen => return Err(error),
            Err(error) => {
                away.ride_out(error)?;
                tokio::time::sleep(REFRESH).await;
                continue;
            }
        };
        was_seen = true;
        away.is_back();
        // A missing task was stopped, or its status no longer matches `--status`.
        let is_there = |id: &String| tasks.iter().any(|kept| kept.item.id() == id);
        let gone: Vec<String> = known.keys().filter(|id| !is_there(id)).cloned().collect();
        for id in gone {
            known.remove(&id);
            say(&format!("task {id} is no longer in the list"));
        }
        tasks.retain(|kept| known.get(kept.item.id()).is_none_or(|raw| raw != kept.raw.get()));
        for kept in &tasks {
            known.insert(kept.item.id().to_owned(), kept.raw.get().to_owned());
        }
        if !tasks.is_empty() {
            print_changes(&tasks, args, headers, context, &mut widths)?;
            headers = false;
        }
        tokio::time::sleep(REFRESH).await;
    }
}

fn print_changes(
    tasks: &[Kept<TaskStatus>],
    args: &List,
    headers: bool,
    context: &Context,
    widths: &mut Vec<usize>,
) -> Result<()> {
    match args.format.format() {
        // One object per line (JSON Lines), because a stream has no end at which to close a list.
        Format::Json => print(
            &tasks
                .iter()
                .map(|kept| format!("{}\n", plain_json(kept.raw.get())))
                .collect::<String>(),
        ),
        Format::Yaml => {
            let documents: Vec<String> = tasks.iter().map(one_yaml).collect::<Result<_>>()?;
            print(&documents.concat())
        }
        format => print_items_below(tasks, format, args.all_users, headers, context.terminal, widths),
    }
}

/// One document of a YAML stream.
fn one_yaml(kept: &Kept<TaskStatus>) -> Result<String> {
    let value: Value = serde_json::from_str(kept.raw.get()).map_err(std::io::Error::from)?;
    Ok(format!("---\n{}", yaml(&value)?))
}
