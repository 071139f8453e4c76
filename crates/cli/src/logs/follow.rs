//! Follows a log, reconnecting as often as needed.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use futures::StreamExt;
use reqwest::Response;
use task::TaskState;
use task::wire::TaskStatus;
use tokio::time::{Instant, sleep};

use super::formatter::{LineStyle, LogFormatter};
use crate::client::{Client, MAX_BACKOFF, NodesResponse, Outage, is_transient};
use crate::error::{Error, Result};
use crate::output::{Terminal, largest_capacity, print_message, raw_stdout};
use crate::resources::{get, percent_encode};

/// How long to wait for the first log line before reporting why the task is pending.
const FIRST_LINE_TIMEOUT: Duration = Duration::from_secs(1);

/// Which part of a log to read, and how to print it.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogOptions {
    /// Number of last lines of each node.
    pub tail: Option<u32>,
    /// Only lines since this time.
    pub since: Option<String>,
    /// Prefix lines with their timestamps.
    pub timestamps: bool,
    /// Only the node with this rank.
    pub node: Option<u32>,
    /// Start each line with this name.
    pub prefix: Option<String>,
    /// Read the log of a task that is gone.
    pub is_past: bool,
    /// Don't say why the task is pending.
    pub is_silent: bool,
}

/// The state of reading one log, across connections.
struct LogFollower<'a> {
    client: &'a Client,
    id: &'a str,
    options: &'a LogOptions,
    /// Whether to continue until the task finishes.
    follow: bool,
    /// Number of nodes in the log.
    nodes: u32,
    formatter: LogFormatter,
    sink: Box<dyn Write>,
    /// Whether standard output and standard error are both shown on a terminal.
    is_terminal: bool,
    /// The last reported reason why the task is pending.
    reported_reason: Option<String>,
    has_reported_capacity: bool,
    written_bytes: u64,
}

/// Why following a log ended.
#[derive(Debug)]
pub(crate) enum LogEnd {
    /// The task or, if only one node is followed, that node finished.
    Finished(Box<TaskStatus>),
    /// The task was stopped, which deletes it.
    Stopped,
}

/// Counts consecutive connections that ended without anything new. After several of them, the server evidently cannot read
/// the log, and reconnecting forever would hide that.
#[derive(Default)]
struct VainConnections {
    count: u32,
    last: Option<(Instant, u64)>,
}

impl VainConnections {
    /// A restarting server closes fewer connections than this.
    const MAX: u32 = 8;

    /// Records a new connection; `written_bytes` is the total number of bytes written so far. A task that runs may be silent
    /// for as long as a proxy keeps a connection. Whatever `is_written` has no reason to be.
    fn record(&mut self, written_bytes: u64, is_written: bool) -> Result<()> {
        let was_vain =
            |(at, before): (Instant, u64)| written_bytes == before && (is_written || at.elapsed() < MAX_BACKOFF * 2);
        self.count = if self.last.is_some_and(was_vain) {
            self.count + 1
        } else {
            0
        };
        self.last = Some((Instant::now(), written_bytes));
        if self.count < Self::MAX {
            return Ok(());
        }
        let message = "the server cannot read the whole log; see the log of the server for details";
        Err(Error::Server(message.to_owned().into()))
    }
}

/// Whether a connection delivered its whole response.
enum StreamEnd {
    Complete,
    Lost,
}

/// Follows a log until the task finishes or is stopped, and writes it to `sink`.
pub(crate) async fn follow_log(
    client: &Client,
    task: &TaskStatus,
    options: &LogOptions,
    terminal: Terminal,
    sink: Box<dyn Write>,
) -> Result<LogEnd> {
    let end = LogFollower::new(client, task, options, terminal, sink, true)
        .run()
        .await?;
    Ok(end.unwrap_or(LogEnd::Stopped))
}

impl<'a> LogFollower<'a> {
    fn new(
        client: &'a Client,
        task: &'a TaskStatus,
        options: &'a LogOptions,
        terminal: Terminal,
        sink: Box<dyn Write>,
        follow: bool,
    ) -> Self {
        let has_nodes = task.metadata.num_nodes > 1;
        let style = LineStyle {
            has_nodes,
            timestamps: options.timestamps,
            color: terminal.color && terminal.width.is_some(),
        };
        Self {
            client,
            id: &task.task_id,
            options,
            follow,
            nodes: if options.node.is_some() {
                1
            } else {
                task.metadata.num_nodes
            },
            formatter: LogFormatter::new(style).with_prefix(options.prefix.as_deref()),
            sink,
            is_terminal: terminal.width.is_some() && std::io::stderr().is_terminal(),
            reported_reason: None,
            has_reported_capacity: false,
            written_bytes: 0,
        }
    }

    /// Reads the log to its end; `None` if it was not followed.
    async fn run(&mut self) -> Result<Option<LogEnd>> {
        let mut since = self.options.since.clone();
        let mut tail = self.options.tail;
        let mut outage = Outage::default();
        let mut was_connected = false;
        let mut vain_connections = VainConnections::default();
        // Whether nothing more is written to the log.
        let mut is_written = self.options.is_past || !self.follow;
        loop {
            match self.connect(since.as_deref(), tail).await {
                Ok(response) => {
                    vain_connections.record(self.written_bytes, is_written)?;
                    outage.end();
                    was_connected = true;
                    let before = self.written_bytes;
                    match self.print_stream(response).await? {
                        StreamEnd::Complete if !self.follow => {
                            self.finish()?;
                            return Ok(None);
                        }
                        StreamEnd::Complete => {
                            if let Some(end) = self.find_end().await? {
                                self.finish()?;
                                return Ok(Some(end));
                            }
                        }
                        StreamEnd::Lost if !is_written && self.written_bytes == before => {
                            is_written = matches!(self.find_end().await, Ok(Some(_)));
                        }
                        StreamEnd::Lost => {}
                    }
                }
                Err(Error::NotFound(_)) if was_connected => return Ok(Some(LogEnd::Stopped)),
                Err(error) if was_connected => outage.retry_or_fail(error)?,
                Err(error) => return Err(error),
            }
            // With `--tail`, do not restart from the beginning for the sake of nodes without output: that would print
            // whole logs.
            let nodes = if self.options.tail.is_some() { 0 } else { self.nodes };
            if let Some(time) = self.formatter.reconnect(nodes) {
                since = Some(time);
            }
            if self.formatter.has_output() {
                // `tail` selected the first lines to print; lines written since must not be limited by it.
                tail = None;
            }
            outage.pause().await;
        }
    }

    /// Writes a last line that is still held back. Only at the end: after a reconnect, the server sends the line again.
    fn finish(&mut self) -> Result<()> {
        let mut text = Vec::new();
        self.formatter.flush(&mut text);
        self.sink.write_all(&text)?;
        self.sink.flush()?;
        if self.follow && self.formatter.is_open() && self.is_terminal {
            // Start the next message on a new line. The newline goes to standard error, so that the log itself is
            // unchanged.
            print_message("");
        }
        Ok(())
    }

    async fn connect(&self, since: Option<&str>, tail: Option<u32>) -> Result<Response> {
        let path = log_path(
            self.id,
            self.follow,
            &LogOptions {
                tail,
                since: since.map(str::to_owned),
                ..self.options.clone()
            },
        );
        self.client.stream(&path).await
    }

    async fn print_stream(&mut self, response: Response) -> Result<StreamEnd> {
        let mut stream = response.bytes_stream();
        let mut text = Vec::new();
        loop {
            let next = tokio::select! {
                next = stream.next() => next,
                () = sleep(FIRST_LINE_TIMEOUT), if self.says_why() => {
                    self.report_pending_reason().await;
                    continue;
                }
            };
            match next {
                Some(Ok(bytes)) => {
                    text.clear();
                    self.formatter.format(&bytes, &mut text);
                    // The server sends the last lines again after a reconnect.
                    self.written_bytes += text.len() as u64;
                    self.sink.write_all(&text)?;
                }
                Some(Err(_)) => return Ok(StreamEnd::Lost),
                None => return Ok(StreamEnd::Complete),
            }
        }
    }

    /// Whether to report why the task is pending.
    fn says_why(&self) -> bool {
        self.follow && !self.options.is_silent && !self.formatter.has_output()
    }

    /// Reports why the task is pending, whenever the reason changes.
    async fn report_pending_reason(&mut self) {
        let Ok(task) = get::<TaskStatus>(self.client, self.id).await else {
            return;
        };
        let task = task.item;
        if task.status != TaskState::Pending {
            return;
        }
        let reason = match (&task.reason, &task.message) {
            (Some(reason), Some(message)) => format!("pending: {reason}: {message}"),
            (Some(reason), None) => format!("pending: {reason}"),
            _ => return,
        };
        if self.reported_reason.as_ref() != Some(&reason) {
            print_message(&reason);
            self.reported_reason = Some(reason);
            self.report_capacity(&task).await;
        }
    }

    /// Reports the largest available node while a task is unschedulable: a request beyond that would wait forever, and
    /// the message of the scheduler does not say how much is available.
    async fn report_capacity(&mut self, task: &TaskStatus) {
        let lacks_resources = |message: &String| message.contains("Insufficient");
        if self.has_reported_capacity || !task.message.as_ref().is_some_and(lacks_resources) {
            return;
        }
        self.has_reported_capacity = true;
        // The server may lack permission to list cluster nodes; then skip the message.
        if let Ok(response) = self.client.get::<NodesResponse>("/nodes").await
            && let Some(capacity) = largest_capacity(&response.nodes)
        {
            print_message(&format!("largest available node: {capacity}"));
        }
    }

    /// How the task ended; `None` if it has not ended, and the server closed the stream for another reason, e.g., a
    /// restart.
    async fn find_end(&self) -> Result<Option<LogEnd>> {
        match get::<TaskStatus>(self.client, self.id).await {
            Ok(task) => Ok(is_finished(&task.item, self.options.node).then(|| LogEnd::Finished(Box::new(task.item)))),
            Err(Error::NotFound(_)) => Ok(Some(LogEnd::Stopped)),
            Err(error) if is_transient(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn is_finished(task: &TaskStatus, node: Option<u32>) -> bool {
    let node = node.and_then(|rank| task.metadata.nodes.iter().find(|node| node.rank == rank));
    // A finished node of a pending task belongs to an attempt that will be retried.
    let is_pending = task.status == TaskState::Pending;
    task.status.is_final() || (!is_pending && node.is_some_and(|node| node.status.is_final()))
}

/// Prints the log so far. Reconnects if the connection breaks: the server disconnects clients that stop reading, e.g.,
/// because the output is in a pager.
pub(crate) async fn print_log(
    client: &Client,
    task: &TaskStatus,
    options: &LogOptions,
    terminal: Terminal,
) -> Result<()> {
    let sink = Box::new(raw_stdout()?);
    LogFollower::new(client, task, options, terminal, sink, false)
        .run()
        .await?;
    Ok(())
}

/// The path of the log. Always requests timestamps, which are needed to resume after a broken connection.
fn log_path(id: &str, follow: bool, options: &LogOptions) -> String {
    let collection = if options.is_past { "history" } else { "tasks" };
    let mut path = format!(
        "/{collection}/{}/logs?follow={follow}&timestamps=true",
        percent_encode(id)
    );
    let parameters = [
        ("tail", options.tail.map(|lines| lines.to_string())),
        ("since", options.since.clone()),
        ("node", options.node.map(|rank| rank.to_string())),
    ];
    for (name, value) in parameters {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", percent_encode(&value)));
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::VainConnections;

    /// The server tries for 15 seconds before it cuts a log that it cannot read.
    #[tokio::test(start_paused = true)]
    async fn a_log_that_is_written_and_cannot_be_read_is_given_up_however_long_the_connections_last() {
        let mut connections = VainConnections::default();
        let mut tries = 0;
        while connections.record(100, true).is_ok() {
            advance(Duration::from_secs(15)).await;
            tries += 1;
        }
        assert_eq!(tries, VainConnections::MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_task_behind_a_proxy_that_cuts_connections_is_followed() {
        let mut connections = VainConnections::default();
        for _ in 0..100 {
            assert!(connections.record(100, false).is_ok());
            advance(Duration::from_secs(60)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn anything_new_starts_the_count_again() {
        let mut connections = VainConnections::default();
        for connection in 0..100 {
            assert!(connections.record(connection / 4, true).is_ok());
            advance(Duration::from_secs(15)).await;
        }
    }
}
