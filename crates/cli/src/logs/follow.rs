//! Follows a log, reconnecting as often as needed.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use futures::StreamExt;
use reqwest::Response;
use task::TaskState;
use task::wire::TaskStatus;
use tokio::time::{Instant, sleep};

use super::lines::{LineStyle, Lines};
use crate::client::{Away, Client, Nodes, is_passing};
use crate::error::{Error, Result};
use crate::output::{Terminal, most, raw_stdout, say};
use crate::things::{escaped, get};

/// Pause before reconnecting; doubles up to the maximum while the server is unreachable.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How long to wait for the first log line before reporting why the task is pending.
const SILENCE: Duration = Duration::from_secs(1);

/// Which part of a log to read, and how to print it.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// Number of last lines of each node.
    pub tail: Option<u32>,
    /// Only lines since this time.
    pub since: Option<String>,
    /// Prefix lines with their timestamps.
    pub timestamps: bool,
    /// Only the node with this rank.
    pub node: Option<u32>,
}

/// The state of reading one log, across connections.
#[derive(Debug)]
pub struct Follow<'a> {
    client: &'a Client,
    id: &'a str,
    options: &'a LogOptions,
    /// Whether to continue until the task finishes.
    follow: bool,
    /// Number of nodes in the log.
    nodes: u32,
    lines: Lines,
    stdout: File,
    /// Whether standard output and standard error are both shown on a terminal.
    is_terminal: bool,
    /// The last reported reason why the task is pending.
    said: Option<String>,
    has_said_what_there_is: bool,
    read_bytes: u64,
}

/// Why following a log ended.
#[derive(Debug)]
pub enum End {
    /// The task or, if only one node is followed, that node finished.
    Ended(Box<TaskStatus>),
    /// The task was stopped, which deletes it.
    Stopped,
}

/// Counts consecutive connections that the server closed immediately without sending a byte. After several of them, the
/// server evidently cannot read the log, and reconnecting forever would hide that.
#[derive(Default)]
struct Cuts {
    count: u32,
    last: Option<(Instant, u64)>,
}

impl Cuts {
    /// A restarting server closes fewer connections than this.
    const MOST: u32 = 8;

    /// Records a new connection; `read_bytes` is the total number of bytes read so far.
    fn connected(&mut self, read_bytes: u64) -> Result<()> {
        let at_once = |(at, before): (Instant, u64)| read_bytes == before && at.elapsed() < LONGEST_PAUSE * 2;
        self.count = if self.last.is_some_and(at_once) {
            self.count + 1
        } else {
            0
        };
        self.last = Some((Instant::now(), read_bytes));
        if self.count < Self::MOST {
            return Ok(());
        }
        let why = "the server cannot read the whole log; see the log of the server for details";
        Err(Error::Server(why.to_owned().into()))
    }
}

/// Whether a connection delivered its whole response.
enum Broken {
    Complete,
    Lost,
}

/// Follows a log until the task finishes or is stopped.
pub async fn follow(client: &Client, task: &TaskStatus, options: &LogOptions, terminal: Terminal) -> Result<End> {
    let end = Follow::new(client, task, options, terminal, true)?.run().await?;
    Ok(end.unwrap_or(End::Stopped))
}

impl<'a> Follow<'a> {
    fn new(
        client: &'a Client,
        task: &'a TaskStatus,
        options: &'a LogOptions,
        terminal: Terminal,
        follow: bool,
    ) -> Result<Self> {
        let has_nodes = task.metadata.num_nodes > 1;
        let style = LineStyle {
            has_nodes,
            timestamps: options.timestamps,
            color: terminal.color && terminal.width.is_some(),
        };
        Ok(Self {
            client,
            id: &task.task_id,
            options,
            follow,
            nodes: if options.node.is_some() {
                1
            } else {
                task.metadata.num_nodes
            },
            lines: Lines::new(style),
            stdout: raw_stdout()?,
            is_terminal: terminal.width.is_some() && std::io::stderr().is_terminal(),
            said: None,
            has_said_what_there_is: false,
            read_bytes: 0,
        })
    }

    /// Reads the log to its end; `None` if it was not followed.
    async fn run(&mut self) -> Result<Option<End>> {
        let mut since = self.options.since.clone();
        let mut tail = self.options.tail;
        let mut away = Away::default();
        let mut pause = FIRST_PAUSE;
        let mut was_connected = false;
        let mut cuts = Cuts::default();
        loop {
            match self.connect(since.as_deref(), tail).await {
                Ok(response) => {
                    cuts.connected(self.read_bytes)?;
                    away.is_back();
                    pause = FIRST_PAUSE;
                    was_connected = true;
                    if let Broken::Complete = self.read(response).await? {
                        if !self.follow {
                            self.finish()?;
                            return Ok(None);
                        }
                        if let Some(end) = self.end().await? {
                            self.finish()?;
                            return Ok(Some(end));
                        }
                    }
                }
                Err(Error::NotFound(_)) if was_connected => return Ok(Some(End::Stopped)),
                Err(error) if was_connected => away.ride_out(error)?,
                Err(error) => return Err(error),
            }
            // With `--tail`, do not restart from the beginning for the sake of nodes without output: that would print
            // whole logs.
            let nodes = if self.options.tail.is_some() { 0 } else { self.nodes };
            if let Some(time) = self.lines.reconnect(nodes) {
                since = Some(time);
            }
            if self.lines.has_begun() {
                // `tail` selected the first lines to print; lines written since must not be limited by it.
                tail = None;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Writes a last line that is still held back. Only at the end: after a reconnect, the server sends the line again.
    fn finish(&mut self) -> Result<()> {
        let mut text = Vec::new();
        self.lines.finish(&mut text);
        self.stdout.write_all(&text)?;
        if self.follow && self.lines.is_open() && self.is_terminal {
            // Start the next message on a new line. The newline goes to standard error, so that the log itself is
            // unchanged.
            say("");
        }
        Ok(())
    }

    async fn connect(&self, since: Option<&str>, tail: Option<u32>) -> Result<Response> {
        let path = path(
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

    async fn read(&mut self, response: Response) -> Result<Broken> {
        let mut stream = response.bytes_stream();
        let mut text = Vec::new();
        loop {
            let next = tokio::select! {
                next = stream.next() => next,
                () = sleep(SILENCE), if self.follow && !self.lines.has_begun() => {
                    self.say_why().await;
                    continue;
                }
            };
            match next {
                Some(Ok(bytes)) => {
                    text.clear();
                    self.read_bytes += bytes.len() as u64;
                    self.lines.take(&bytes, &mut text);
                    self.stdout.write_all(&text)?;
                }
                Some(Err(_)) => return Ok(Broken::Lost),
                None => return Ok(Broken::Complete),
            }
        }
    }

    /// Reports why the task is pending, whenever the reason changes.
    async fn say_why(&mut self) {
        let Ok(task) = get::<TaskStatus>(self.client, self.id).await else {
            return;
        };
        let task = task.item;
        if task.status != TaskState::Pending {
            return;
        }
        let why = match (&task.reason, &task.message) {
            (Some(reason), Some(message)) => format!("pending: {reason}: {message}"),
            (Some(reason), None) => format!("pending: {reason}"),
            _ => return,
        };
        if self.said.as_ref() != Some(&why) {
            say(&why);
            self.said = Some(why);
            self.say_what_there_is(&task).await;
        }
    }

    /// Reports the largest available node while a task is unschedulable: a request beyond that would wait forever, and
    /// the message of the scheduler does not say how much is available.
    async fn say_what_there_is(&mut self, task: &TaskStatus) {
        let lacks = |message: &String| message.contains("Insufficient");
        if self.has_said_what_there_is || !task.message.as_ref().is_some_and(lacks) {
            return;
        }
        self.has_said_what_there_is = true;
        // The server may lack permission to list cluster nodes; then skip the message.
        if let Ok(found) = self.client.get::<Nodes>("/nodes").await
            && let Some(most) = most(&found.nodes)
        {
            say(&format!("largest available node: {most}"));
        }
    }

    /// How the task ended; `None` if it has not ended, and the server closed the stream for another reason, e.g., a
    /// restart.
    async fn end(&self) -> Result<Option<End>> {
        match get::<TaskStatus>(self.client, self.id).await {
            Ok(task) => Ok(is_over(&task.item, self.options.node).then(|| End::Ended(Box::new(task.item)))),
            Err(Error::NotFound(_)) => Ok(Some(End::Stopped)),
            Err(error) if is_passing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn is_over(task: &TaskStatus, node: Option<u32>) -> bool {
    let node = node.and_then(|rank| task.metadata.nodes.iter().find(|node| node.rank == rank));
    // A finished node of a pending task belongs to an attempt that will be retried.
    let waits = task.status == TaskState::Pending;
    task.status.is_final() || (!waits && node.is_some_and(|node| node.status.is_final()))
}

/// Prints the log so far. Reconnects if the connection breaks: the server disconnects clients that stop reading, e.g.,
/// because the output is in a pager.
pub async fn print_now(client: &Client, task: &TaskStatus, options: &LogOptions, terminal: Terminal) -> Result<()> {
    Follow::new(client, task, options, terminal, false)?.run().await?;
    Ok(())
}

/// The path of the log. Always requests timestamps, which are needed to resume after a broken connection.
fn path(id: &str, follow: bool, options: &LogOptions) -> String {
    let mut path = format!("/tasks/{}/logs?follow={follow}&timestamps=true", escaped(id));
    let given = [
        ("tail", options.tail.map(|lines| lines.to_string())),
        ("since", options.since.clone()),
        ("node", options.node.map(|rank| rank.to_string())),
    ];
    for (name, value) in given {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", escaped(&value)));
        }
    }
    path
}
