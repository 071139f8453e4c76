//! `k8s-cli jobs list`: lists tasks once, or again at each change.

use std::collections::HashMap;

use serde_json::Value;
use task::wire::TaskStatus;

use super::history::print_history;
use crate::args::{Format, ListArgs, SortKey};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::{Item, ListView, WithRaw, escape_json, print, print_items_below, print_message, yaml};
use crate::resources::{TaskWatch, list, print_list};

pub(crate) async fn run(context: &Context, args: ListArgs) -> Result<()> {
    if args.includes_past() {
        return print_history(context, &args).await;
    }
    if args.watch {
        return watch(context, &args).await;
    }
    let tasks = select(list(&context.client, args.all_users).await?, &args);
    let filter = match (args.status.is_empty(), &args.name) {
        (true, None) => "",
        (false, None) => " with this status",
        (true, Some(_)) => " with this name",
        (false, Some(_)) => " with this status and name",
    };
    let view = ListView::of_list(&args.format, args.all_users, context.terminal);
    print_list(&tasks, &view, &context.user.name, filter)
}

/// The tasks that the arguments ask for, in their order; `tasks` has the oldest first.
fn select(mut tasks: Vec<WithRaw<TaskStatus>>, args: &ListArgs) -> Vec<WithRaw<TaskStatus>> {
    if !args.status.is_empty() {
        tasks.retain(|task| args.status.iter().any(|filter| filter.state() == task.item.status));
    }
    if let Some(pattern) = &args.name {
        tasks.retain(|task| pattern.matches(&task.item.name));
    }
    if let Some(last) = args.last {
        // The server lists the oldest first.
        tasks.drain(..tasks.len().saturating_sub(last));
    }
    match args.sort_by {
        SortKey::Age => {}
        SortKey::Name => tasks.sort_by(|left, right| left.item.name.cmp(&right.item.name)),
        SortKey::Status => tasks.sort_by_key(|task| task.item.status),
        SortKey::Nodes => tasks.sort_by_key(|task| task.item.metadata.num_nodes),
        SortKey::User => tasks.sort_by(|left, right| left.item.username.cmp(&right.item.username)),
    }
    tasks
}

/// Prints all tasks once, then each task that changes, until Ctrl-C.
async fn watch(context: &Context, args: &ListArgs) -> Result<()> {
    tokio::select! {
        result = watch_until_error(context, args) => result,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            Err(Error::Interrupted)
        }
    }
}

async fn watch_until_error(context: &Context, args: &ListArgs) -> Result<()> {
    let mut known: HashMap<String, String> = HashMap::new();
    let mut view = ListView::of_list(&args.format, args.all_users, context.terminal);
    let mut widths = Vec::new();
    let mut task_watch = TaskWatch::new(&context.client, args.all_users);
    loop {
        task_watch.next().await?;
        let mut all: Vec<WithRaw<TaskStatus>> = task_watch.tasks().values().cloned().collect();
        all.sort_by(|left, right| left.item.created_at.cmp(&right.item.created_at));
        let mut tasks = select(all, args);
        // A missing task was stopped, or its status no longer matches `--status`.
        let is_listed = |id: &String| tasks.iter().any(|task| task.item.id() == id);
        let gone: Vec<String> = known.keys().filter(|id| !is_listed(id)).cloned().collect();
        for id in gone {
            known.remove(&id);
            print_message(&format!("task {id} is no longer in the list"));
        }
        tasks.retain(|task| known.get(task.item.id()).is_none_or(|raw| raw != task.raw.get()));
        for task in &tasks {
            known.insert(task.item.id().to_owned(), task.raw.get().to_owned());
        }
        if !tasks.is_empty() {
            print_changes(&tasks, &view, &mut widths)?;
            view.headers = false;
        }
    }
}

fn print_changes(tasks: &[WithRaw<TaskStatus>], view: &ListView, widths: &mut Vec<usize>) -> Result<()> {
    match view.format {
        // One object per line (JSON Lines), because a stream has no end at which to close a list.
        Format::Json => print(
            &tasks
                .iter()
                .map(|task| format!("{}\n", escape_json(task.raw.get())))
                .collect::<String>(),
        ),
        Format::Yaml => {
            let documents: Vec<String> = tasks.iter().map(yaml_document).collect::<Result<_>>()?;
            print(&documents.concat())
        }
        _ => print_items_below(tasks, view, widths),
    }
}

/// One document of a YAML stream.
fn yaml_document(task: &WithRaw<TaskStatus>) -> Result<String> {
    let value: Value = serde_json::from_str(task.raw.get()).map_err(std::io::Error::from)?;
    Ok(format!("---\n{}", yaml(&value)?))
}
