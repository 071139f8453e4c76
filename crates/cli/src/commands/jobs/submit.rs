//! `k8s-cli jobs submit`.

use std::collections::HashMap;

use bytes::Bytes;
use serde_json::{Value, json};
use task::wire::{BackendKind, ServerVersion, TaskStatus};

use super::group::follow_group;
use super::outcome::{ExitCodePolicy, follow_to_end};
use crate::args::{Format, SubmitArgs};
use crate::client::{DryRunResponse, GroupSubmitResponse, SubmitResponse};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::field_error::FieldError;
use crate::logs::LogOptions;
use crate::output::{self, plural, print, print_message, print_warning};
use crate::resources::{get, get_whole_group};
use crate::task_file::TaskSet;
use crate::upload::{Known, Verbosity, upload};

/// The variables of a shell that say where programs are.
const SHELL_VARIABLES: [&str; 3] = ["PATH", "VIRTUAL_ENV", "CONDA_PREFIX"];

/// What the server says if it has deleted the files between their upload and the submit.
const FILES_GONE: &str = "files are not stored";

pub(crate) async fn run(context: &Context, args: SubmitArgs) -> Result<()> {
    let SubmitArgs {
        file,
        detach,
        quiet,
        exit_code,
        no_exit_code,
        dry_run,
        output,
        idempotency_key,
        overrides,
        sweep,
        url: _,
        skypilot: _,
        command,
    } = args;
    if output.is_some() && !dry_run && !detach {
        return Err(Error::Usage("`--output` requires `--dry-run` or `--detach`".to_owned()));
    }
    let tasks = match &file {
        Some(path) => TaskSet::read(path)?,
        None => TaskSet::from_command(&command)?,
    };
    let mut task = tasks.apply(&overrides, &sweep)?;
    task.validate()?;
    task.warnings().iter().for_each(|warning| print_warning(warning));
    if idempotency_key.is_none() {
        // With a key of the user, a repeat from another shell must be the same task.
        use_shell_environment(context, &mut task).await?;
    }
    let key = idempotency_key.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let verbosity = if quiet { Verbosity::Quiet } else { Verbosity::Normal };
    if dry_run {
        let body = send(
            context,
            &task,
            &format!("{}?dry_run=true", task.path()),
            &key,
            verbosity,
        )
        .await?;
        let response: DryRunResponse = context.client.decode_unescaped(&body)?;
        return print_manifests(&response.manifests, output.unwrap_or(Format::Yaml));
    }
    let body = send(context, &task, task.path(), &key, verbosity).await?;
    let (message, ids, id, count) = if task.is_group() {
        let GroupSubmitResponse { group_id, task_ids } = context.client.decode(&body)?;
        let count = task_ids.len();
        let message = format!("group {group_id} submitted: {}", plural(count, "task"));
        let ids = json!({"group_id": group_id, "task_ids": task_ids});
        (message, ids, group_id, count)
    } else {
        let SubmitResponse { task_id } = context.client.decode(&body)?;
        let message = format!("task {task_id} submitted");
        (message, json!({"task_id": task_id}), task_id, 1)
    };
    match output {
        Some(Format::Json) => return print(&output::json(&ids)),
        Some(Format::Yaml) => return print(&output::yaml(&ids)?),
        _ if quiet => return print(&id),
        _ => {}
    }
    if detach {
        print(&id)?;
        print_message(&format!("submitted; follow it with `k8s-cli jobs logs {id}`"));
        return Ok(());
    }
    print_message(&message);
    let policy = match (exit_code, no_exit_code) {
        (true, _) => ExitCodePolicy::TaskCode,
        (_, true) => ExitCodePolicy::IgnoreOutcome,
        _ => ExitCodePolicy::FailureCode,
    };
    if task.is_group() {
        let tasks = get_whole_group(&context.client, &id, count).await?;
        return follow_group(context, &tasks, &LogOptions::default(), policy).await;
    }
    let status = get::<TaskStatus>(&context.client, &id).await?;
    follow_to_end(context, &status.item, &LogOptions::default(), policy).await
}

/// Lets a task that runs on this machine find the programs that the commands of the submitting shell find, such as those
/// of a virtual environment. On a cluster, the image has its own.
async fn use_shell_environment(context: &Context, task: &mut TaskSet) -> Result<()> {
    if !context.client.url().is_this_machine() {
        return Ok(());
    }
    let version = async || context.client.get::<ServerVersion>("/version").await;
    let version = context.with_server(version).await?;
    // The other end may be a tunnel to another machine.
    if version.backend == BackendKind::Embedded && version.machine == peer::machine::boot_id() {
        for name in SHELL_VARIABLES {
            if let Ok(value) = std::env::var(name) {
                task.set_default_variable(name, &value);
            }
        }
    }
    Ok(())
}

/// Uploads what the task takes along, and sends the task; shows what the server rejects at its place in the task file.
async fn send(context: &Context, task: &TaskSet, path: &str, key: &str, verbosity: Verbosity) -> Result<Bytes> {
    let try_send = async |known: Known| {
        let sets = upload(context, task, verbosity, known).await?;
        let body = task.body_with(&sets)?;
        let submit = async || context.client.submit(path, &body, key).await;
        context.with_server(submit).await
    };
    let sent = match try_send(Known::Ask).await {
        // Files that no task refers to are deleted after a while, which may be now.
        Err(error) if are_files_gone(&error) => try_send(Known::No).await,
        result => result,
    };
    let (body, warnings) = match sent {
        Err(Error::Invalid { errors, .. }) if errors.iter().all(|error| error.loc.first() == Some(&json!("body"))) => {
            return Err(Error::InvalidTask(task.report(&errors)));
        }
        result => result?,
    };
    warnings.iter().for_each(|warning| print_warning(warning));
    Ok(body)
}

fn are_files_gone(error: &Error) -> bool {
    let is_gone = |error: &FieldError| error.msg.contains(FILES_GONE);
    matches!(error, Error::Invalid { errors, .. } if errors.iter().any(is_gone))
        || matches!(error, Error::Server(message) if message.status == Some(422) && message.text.contains(FILES_GONE))
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
