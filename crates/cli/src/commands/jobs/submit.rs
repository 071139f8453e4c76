//! `k8s-cli jobs submit`: uploads files, submits tasks, and follows their log.

use std::collections::HashMap;

use bytes::Bytes;
use serde_json::{Value, json};
use task::wire::{BackendKind, ServerVersion, TaskStatus};

use super::group::follow_group;
use super::kept::tell_outputs;
use super::outcome::{ExitCodePolicy, follow_to_end};
use crate::args::{Format, SubmitArgs, format_of, paths_of};
use crate::client::{DryRunResponse, GroupSubmitResponse, SubmitResponse, patiently};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::field_error::FieldError;
use crate::logs::LogOptions;
use crate::output::{self, plural, print, print_message, print_warning};
use crate::resources::{get, get_whole_group};
use crate::task_file::{TaskParts, TaskSet};
use crate::upload::{FILES_TOO_LARGE, Known, Verbosity, are_files_gone, largest, upload};

/// The variables of a shell that say where programs are.
const SHELL_VARIABLES: [&str; 3] = ["PATH", "VIRTUAL_ENV", "CONDA_PREFIX"];

/// The status if the idempotency key was used for another task.
const CONFLICT: u16 = 409;

/// What the server cannot know of such a key.
const KEY_AND_FILES: &str =
    "; the files of the task, or their modification times, may differ from those of the first submit";

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
        mut overrides,
        sweep,
        url: _,
        skypilot: _,
        command,
    } = args;
    let format = format_of(&output);
    if format.is_some() && !dry_run && !detach {
        return Err(Error::Usage(
            "a format for `--output` requires `--dry-run` or `--detach`; for a path of the task, write, e.g., `./results`"
                .to_owned(),
        ));
    }
    overrides.outputs = paths_of(output);
    let tasks = match &file {
        Some(path) => TaskSet::read(path)?,
        None => TaskSet::from_command(&command)?,
    };
    let mut task = complete(tasks.apply(&overrides, &sweep)?, quiet)?;
    adapt_to_machine(context, &mut task, idempotency_key.is_some()).await?;
    let key = match idempotency_key {
        Some(key) => Key::OfUser(key),
        None => Key::New(uuid::Uuid::new_v4().to_string()),
    };
    let verbosity = if quiet { Verbosity::Quiet } else { Verbosity::Normal };
    if dry_run {
        let path = format!("{}?dry_run=true", task.path());
        let body = send(context, &task, &path, &key, verbosity).await?;
        let response: DryRunResponse = context.client.decode_unescaped(&body)?;
        return print_manifests(&response.manifests, format.unwrap_or(Format::Yaml));
    }
    let body = send(context, &task, task.path(), &key, verbosity).await?;
    let submitted = Submitted::decode(context, &body, task.is_group())?;
    let id = &submitted.id;
    match format {
        Some(Format::Json) => return print(&output::json(&submitted.response)),
        Some(Format::Yaml) => return print(&output::yaml(&submitted.response)?),
        _ if quiet => return print(id),
        _ => {}
    }
    if detach {
        print(id)?;
        print_message(&format!("submitted; follow it with `k8s-cli jobs logs {id}`"));
        return Ok(());
    }
    print_message(&submitted.message);
    let policy = match (exit_code, no_exit_code) {
        (true, _) => ExitCodePolicy::TaskCode,
        (_, true) => ExitCodePolicy::IgnoreOutcome,
        _ => ExitCodePolicy::FailureCode,
    };
    follow(context, &task, (id, &submitted.task_ids), policy).await
}

/// Adds the credentials of this machine that the task needs, and checks it.
fn complete(mut task: TaskSet, quiet: bool) -> Result<TaskSet> {
    let git_variables = task.add_git_credentials()?;
    task.validate()?;
    for variable in git_variables.into_iter().filter(|_| !quiet) {
        print_message(&format!(
            "note: `{variable}` of your environment is passed as a secret of the task"
        ));
    }
    task.warnings().iter().for_each(|warning| print_warning(warning));
    Ok(task)
}

/// A task or group that was submitted.
struct Submitted {
    /// What is said to the user.
    message: String,
    /// The response, for scripts.
    response: Value,
    id: String,
    task_ids: Vec<String>,
}

impl Submitted {
    fn decode(context: &Context, body: &Bytes, is_group: bool) -> Result<Self> {
        if is_group {
            let GroupSubmitResponse { group_id, task_ids } = context.client.decode(body)?;
            return Ok(Self {
                message: format!("group {group_id} submitted: {}", plural(task_ids.len(), "task")),
                response: json!({"group_id": group_id, "task_ids": task_ids}),
                id: group_id,
                task_ids,
            });
        }
        let SubmitResponse { task_id } = context.client.decode(body)?;
        Ok(Self {
            message: format!("task {task_id} submitted"),
            response: json!({"task_id": task_id}),
            id: task_id.clone(),
            task_ids: vec![task_id],
        })
    }
}

/// Follows the task or group that was submitted, with the IDs of its tasks, and says at the end what they have kept.
async fn follow(context: &Context, task: &TaskSet, (id, ids): (&str, &[String]), policy: ExitCodePolicy) -> Result<()> {
    let options = LogOptions::default();
    let ended = if task.is_group() {
        let tasks = get_whole_group(&context.client, id, ids.len()).await?;
        follow_group(context, &tasks, &options, policy).await
    } else {
        let status = get::<TaskStatus>(&context.client, id).await?;
        follow_to_end(context, &status.item, &options, policy).await
    };
    if matches!(ended, Ok(()) | Err(Error::TaskFailed(_))) {
        for (id, _) in ids
            .iter()
            .zip(task.have_outputs())
            .filter(|(_, has_outputs)| *has_outputs)
        {
            tell_outputs(context, id).await;
        }
    }
    ended
}

/// The idempotency key of a submit.
enum Key {
    New(String),
    /// Given by the user: the server may know it from another run of the command.
    OfUser(String),
}

/// Lets a task that runs on this machine find the programs that the commands of the submitting shell find, such as those
/// of a virtual environment. Elsewhere, the image has its own, and its own folders. With a key of the user, a repeat from
/// another shell must be the same task.
async fn adapt_to_machine(context: &Context, task: &mut TaskSet, has_key: bool) -> Result<()> {
    let mistaken = task.mistaken_workdirs();
    if has_key && mistaken.is_empty() {
        return Ok(());
    }
    let is_here = runs_on_this_machine(context).await?;
    for workdir in mistaken.iter().filter(|_| !is_here) {
        print_warning(&format!(
            "`workdir: {}` is a folder of the container; to copy yours, use `--workdir`",
            output::escape_line(workdir)
        ));
    }
    if is_here && !has_key {
        for name in SHELL_VARIABLES {
            if let Ok(value) = std::env::var(name) {
                task.set_default_variable(name, &value);
            }
        }
    }
    Ok(())
}

async fn runs_on_this_machine(context: &Context) -> Result<bool> {
    if !context.client.url().is_this_machine() {
        return Ok(false);
    }
    let version = async || context.client.get::<ServerVersion>("/version").await;
    let version = context.with_server(version).await?;
    // The other end may be a tunnel to another machine.
    Ok(version.backend == BackendKind::Embedded && version.machine == peer::machine::boot_id())
}

/// Uploads the files of the task, and sends the task; shows what the server rejects at its place in the task file.
async fn send(context: &Context, task: &TaskSet, path: &str, key: &Key, verbosity: Verbosity) -> Result<Bytes> {
    let parts = task.local_parts()?;
    let try_send = async |known: Known| {
        let sets = upload(context, task, &parts, verbosity, known).await?;
        let body = task.body_with(&parts, &sets);
        let (Key::New(key) | Key::OfUser(key)) = key;
        let submit = async || context.client.submit(path, &body, key).await;
        let submit = async || context.with_server(submit).await;
        // The server was there for the files, so that it is away for the moment at most.
        if sets.is_empty() {
            submit().await
        } else {
            patiently(submit).await
        }
    };
    let sent = match try_send(Known::Ask).await {
        // Files that no task refers to are deleted after a while, which may be now.
        Err(error) if are_files_gone(&error) => try_send(Known::No).await,
        result => result,
    };
    let has_files = parts.iter().any(|of_task| !of_task.parts.is_empty());
    let (body, warnings) = match sent {
        Err(Error::Invalid { errors, .. }) if errors.iter().all(|error| error.loc.first() == Some(&json!("body"))) => {
            let errors: Vec<FieldError> = errors.into_iter().map(|error| with_largest(error, &parts)).collect();
            return Err(Error::InvalidTask(task.report(&errors)));
        }
        Err(Error::Server(mut message)) if message.status == Some(CONFLICT) && has_files => {
            if matches!(key, Key::OfUser(_)) {
                message.text.push_str(KEY_AND_FILES);
            }
            return Err(Error::Server(message));
        }
        result => result?,
    };
    warnings.iter().for_each(|warning| print_warning(warning));
    Ok(body)
}

/// The server knows that the files are too large, and this machine what to leave out.
fn with_largest(mut error: FieldError, parts: &[TaskParts]) -> FieldError {
    if !error.msg.contains(FILES_TOO_LARGE) {
        return error;
    }
    let at = error.loc.get(2).and_then(Value::as_u64).unwrap_or(0);
    let of_task = usize::try_from(at).ok().and_then(|at| parts.get(at));
    if let Some(largest) = of_task.and_then(largest) {
        error.msg.push_str("; ");
        error.msg.push_str(&largest);
    }
    error
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
