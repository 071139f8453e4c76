//! `k8s-cli jobs outputs`: lists or downloads what a task has kept.

use std::path::Path;

use files::{Entry, EntryKind, HumanSize};

use crate::args::OutputsArgs;
use crate::context::Context;
use crate::download::{download, find_outputs, read_manifest, summary};
use crate::error::{Error, Result};
use crate::output::{Cell, Table, escape_line, fixed, flexible, plural, print, print_message};
use crate::resources::{ReadTarget, Target, find_read_target};

pub(crate) async fn run(context: &Context, args: OutputsArgs) -> Result<()> {
    let task = match find_read_target(&context.client, &args.task).await? {
        ReadTarget::Present(Target::Task(task)) => task.item.task_id,
        ReadTarget::Past(record) => record.task.task_id,
        ReadTarget::Present(Target::Group(group)) => {
            let ids: Vec<&str> = group.tasks.iter().map(|task| task.item.task_id.as_str()).collect();
            return Err(Error::Usage(format!(
                "`{}` is a group; choose one of its {}: {}",
                args.task,
                plural(ids.len(), "task"),
                ids.join(", ")
            )));
        }
    };
    let outputs = find_outputs(context, &task).await?;
    if args.list {
        let manifest = read_manifest(context, &task, &outputs).await?;
        return print_entries(context, manifest.entries());
    }
    let manifest = download(context, (&task, &outputs), &args.dir, &format!("the outputs of {task}")).await?;
    let names: Vec<String> = top_level(manifest.entries())
        .map(|entry| shown(&args.dir, entry))
        .collect();
    print_message(&format!("downloaded {}: {}", summary(&manifest), names.join(", ")));
    Ok(())
}

/// What is not in a folder of the manifest. It may be in folders that were made for it.
fn top_level(entries: &[Entry]) -> impl Iterator<Item = &Entry> {
    entries.iter().filter(|entry| entry.path.parent().is_none())
}

fn shown(dir: &Path, entry: &Entry) -> String {
    format!(
        "`{}`",
        escape_line(&dir.join(entry.path.as_path()).display().to_string())
    )
}

/// Prints files and links, and folders that are empty.
fn print_entries(context: &Context, entries: &[Entry]) -> Result<()> {
    let mut table = Table::new(&[fixed("SIZE"), flexible("PATH")]);
    for (index, entry) in entries.iter().enumerate() {
        let next = entries.get(index + 1);
        let path = entry.path.as_path().display();
        let row = match &entry.kind {
            EntryKind::File { .. } => (HumanSize(entry.kind.size()).to_string(), path.to_string()),
            EntryKind::Link { target } => {
                let target = String::from_utf8_lossy(target.as_bytes());
                ("-".to_owned(), format!("{path} -> {target}"))
            }
            // The next entry is in the folder, if anything is.
            EntryKind::Directory { .. }
                if next.is_some_and(|next| next.path.parent() == Some(entry.path.as_bytes())) =>
            {
                continue;
            }
            EntryKind::Directory { .. } => ("-".to_owned(), format!("{path}/")),
        };
        table.add_row(vec![Cell::from(row.0), Cell::from(row.1)]);
    }
    print(&table.render(context.terminal, true))
}
