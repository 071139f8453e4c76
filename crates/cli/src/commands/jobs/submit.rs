//! `k8s-cli jobs submit`.

use std::collections::HashMap;

use bytes::Bytes;
use serde_json::{Value, json};
use task::wire::TaskStatus;

use super::outcome::{Ending, follow_to_the_end};
use crate::args::{Format, Submit};
use crate::client::{DryRun, Submitted};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::logs::LogOptions;
use crate::output::{self, print, say, warn};
use crate::task_file::TaskFile;
use crate::things::get;

pub async fn run(context: &Context, args: Submit) -> Result<()> {
    let Submit {
        file,
        detach,
        quiet,
        exit_code,
        no_exit_code,
        dry_run,
        output,
        idempotency_key,
        overrides,
        url: _,
        command,
    } = args;
    if output.is_some() && !dry_run && !detach {
        return Err(Error::Usage("`--output` requires `--dry-run` or `--detach`".to_owned()));
    }
    let mut task = match &file {
        Some(path) => TaskFile::read(path)?,
        None => TaskFile::command(&command)?,
    };
    task.apply(&overrides)?;
    task.check()?;
    task.warnings().iter().for_each(|warning| warn(warning));
    let key = idempotency_key.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    if dry_run {
        let answer = send(context, &task, "/tasks/submit?dry_run=true", &key).await?;
        let answer: DryRun = context.client.decode_as_sent(&answer)?;
        return print_manifests(&answer.manifests, output.unwrap_or(Format::Yaml));
    }
    let answer = send(context, &task, "/tasks/submit", &key).await?;
    let Submitted { task_id: id } = context.client.decode(&answer)?;
    match output {
        Some(Format::Json) => return print(&output::json(&json!({"task_id": id}))),
        Some(Format::Yaml) => return print(&output::yaml(&json!({"task_id": id}))?),
        _ if quiet => return print(&id),
        _ => {}
    }
    if detach {
        print(&id)?;
        say(&format!("submitted; follow it with `k8s-cli jobs logs {id}`"));
        return Ok(());
    }
    say(&format!("task {id} submitted"));
    let status = get::<TaskStatus>(&context.client, &id).await?;
    let ending = match (exit_code, no_exit_code) {
        (true, _) => Ending::TheTasks,
        (_, true) => Ending::OfTheFollowing,
        _ => Ending::Failure,
    };
    follow_to_the_end(context, &status.item, &LogOptions::default(), ending).await
}

/// Sends the task; shows what the server rejects at its place in the task file.
async fn send(context: &Context, task: &TaskFile, path: &str, key: &str) -> Result<Bytes> {
    let submit = async || context.client.submit(path, task.body(), key).await;
    let (answer, warnings) = match context.with_server(submit).await {
        Err(Error::Invalid { faults, .. }) if faults.iter().all(|fault| fault.loc.first() == Some(&json!("body"))) => {
            return Err(Error::Task(task.report(&faults)));
        }
        answered => answered?,
    };
    warnings.iter().for_each(|warning| warn(warning));
    Ok(answer)
}

/// Prints manifests in a form that `kubectl apply -f -` accepts.
fn print_manifests(manifests: &[Value], format: Format) -> Result<()> {
    if format == Format::Json {
        let list = HashMap::from([
            ("items", json!(manifests)),
            ("kind", json!("List")),
            ("apiVersion", json!("v1")),
        ]);
        return print(&output::json(&json!(list)));
    }
    let documents: Vec<String> = manifests.iter().map(output::yaml).collect::<Result<_>>()?;
    print(&documents.join("---\n"))
}
