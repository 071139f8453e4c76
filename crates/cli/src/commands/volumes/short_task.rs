//! Runs a task for a command, and deletes it at the end, whatever happens.

use std::io::{IsTerminal, Write};
use std::pin::pin;
use std::time::Duration;

use serde_json::Value;
use task::TaskState;
use task::wire::TaskStatus;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{sleep, timeout};

use crate::client::{RemoveResponse, SubmitResponse, patiently};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::logs::{LogEnd, LogOptions, follow_log};
use crate::output::{print_message, print_warning};
use crate::resources::get;

/// How long a task may be pending before it is said what it waits for. On a cluster, most start within this time.
const QUIET_TIME: Duration = Duration::from_secs(4);

/// How often a pending task is looked at.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How long to wait for the response to a submit that is interrupted. Without it, nobody knows what to delete.
const INTERRUPTED_SUBMIT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long deleting the task may take at the end.
const DELETE_TIMEOUT: Duration = Duration::from_secs(30);

/// Reasons for which a container never starts without intervention.
const FATAL_REASONS: [&str; 7] = [
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "RunContainerError",
];

/// A task that a command runs.
pub(super) struct ShortTask<'a> {
    context: &'a Context,
    pub id: String,
}

/// Submits a task, does something with it, and deletes it.
///
/// # Errors
/// [`Error::Interrupted`] after Ctrl-C, and errors of the submit and of `action`.
pub(super) async fn with_short_task<T>(
    context: &Context,
    body: &Value,
    action: impl AsyncFnOnce(&ShortTask<'_>) -> Result<T>,
) -> Result<T> {
    let mut interrupts = Interrupts::new()?;
    let id = submit(context, body, &mut interrupts).await?;
    let task = ShortTask { context, id };
    let result = tokio::select! {
        result = action(&task) => result,
        () = interrupts.next() => Err(Error::Interrupted),
    };
    if matches!(result, Err(Error::Interrupted)) {
        if std::io::stderr().is_terminal() {
            // End the line on which the terminal shows `^C`.
            print_message("");
        }
        print_message(&format!("interrupted; deleting task {}", task.id));
    }
    task.delete(&mut interrupts).await;
    result
}

/// Submits the task, and returns its ID. If that is interrupted, deletes the task.
async fn submit(context: &Context, body: &Value, interrupts: &mut Interrupts) -> Result<String> {
    let key = uuid::Uuid::new_v4().to_string();
    let send = async || context.client.submit("/tasks/submit", body, &key).await;
    let mut sending = pin!(patiently(async || context.with_server(send).await));
    tokio::select! {
        sent = &mut sending => return accepted(context, sent?),
        () = interrupts.next() => {}
    }
    match timeout(INTERRUPTED_SUBMIT_TIMEOUT, sending).await {
        Ok(Ok(sent)) => {
            let id = accepted(context, sent)?;
            ShortTask { context, id }.delete(interrupts).await;
        }
        Ok(Err(_)) => {}
        Err(_) => print_warning(&format!(
            "the server did not respond; task `{}` may exist, delete it with `k8s-cli jobs stop`",
            body["name"].as_str().unwrap_or_default()
        )),
    }
    Err(Error::Interrupted)
}

fn accepted(context: &Context, (body, warnings): (bytes::Bytes, Vec<String>)) -> Result<String> {
    warnings.iter().for_each(|warning| print_warning(warning));
    let SubmitResponse { task_id } = context.client.decode(&body)?;
    Ok(task_id)
}

impl ShortTask<'_> {
    /// Writes the log of the task to `sink` until the task ends, and returns how it ended. Says on standard error what it
    /// waits for.
    ///
    /// # Errors
    /// [`Error::Server`] if the task cannot start, or is deleted by somebody else.
    pub(super) async fn follow(&self, sink: Box<dyn Write>) -> Result<TaskStatus> {
        let client = &self.context.client;
        let task = get::<TaskStatus>(client, &self.id).await?.item;
        let options = LogOptions {
            is_silent: true,
            ..LogOptions::default()
        };
        let end = tokio::select! {
            end = follow_log(client, &task, &options, self.context.terminal, sink) => end?,
            error = self.wait_in_vain() => return Err(error),
        };
        match end {
            LogEnd::Finished(task) => Ok(*task),
            LogEnd::Stopped => Err(failure(format!("task {} was stopped", self.id))),
        }
    }

    /// Says what the task waits for. Returns only if it waits for something that will not come.
    async fn wait_in_vain(&self) -> Error {
        let mut said = None;
        sleep(QUIET_TIME).await;
        loop {
            // The follower of the log sees failures of the server.
            if let Ok(task) = get::<TaskStatus>(&self.context.client, &self.id).await {
                let task = task.item;
                if task.status != TaskState::Pending {
                    return std::future::pending().await;
                }
                let reason = task.reason.as_deref().unwrap_or_default();
                let waits_for = reason_of(&task);
                if FATAL_REASONS.contains(&reason) {
                    return failure(format!("the pod of the task cannot start: {waits_for}"));
                }
                if said.as_ref() != Some(&waits_for) {
                    print_message(&format!("pending: {waits_for}"));
                    said = Some(waits_for);
                }
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Deletes the task. A failure is said, and does not change what the command has done.
    async fn delete(&self, interrupts: &mut Interrupts) {
        let path = format!("/tasks/{}/stop", self.id);
        let stop = async || self.context.client.post::<RemoveResponse>(&path).await;
        let deleted = tokio::select! {
            deleted = timeout(DELETE_TIMEOUT, patiently(stop)) => deleted,
            () = interrupts.next() => Ok(Err(Error::Interrupted)),
        };
        let why = match deleted {
            // Somebody else has deleted it.
            Ok(Ok(_) | Err(Error::NotFound(_))) => return,
            Ok(Err(error)) => error.message(),
            Err(_) => format!("the server did not respond within {DELETE_TIMEOUT:?}"),
        };
        print_warning(&format!(
            "task {id} was not deleted: {why}; delete it with `k8s-cli jobs stop {id}`",
            id = self.id
        ));
    }
}

/// Why a task is pending or has failed.
pub(super) fn reason_of(task: &TaskStatus) -> String {
    // Kubernetes' reason of every container that fails says nothing.
    let reason = task.reason.as_deref().filter(|reason| *reason != "Error");
    let parts = [reason, task.message.as_deref()].into_iter().flatten();
    parts.map(str::trim_end).collect::<Vec<_>>().join(": ")
}

pub(super) fn failure(text: String) -> Error {
    Error::Server(text.into())
}

/// The signals that end a command.
struct Interrupts {
    signals: [Signal; 3],
}

impl Interrupts {
    /// From now on, the signals don't end the process by themselves.
    fn new() -> Result<Self> {
        let listen = |kind| signal(kind);
        Ok(Self {
            signals: [
                listen(SignalKind::interrupt())?,
                listen(SignalKind::terminate())?,
                listen(SignalKind::hangup())?,
            ],
        })
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
