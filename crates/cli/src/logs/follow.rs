//! One log, over as many connections as it takes.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use futures::StreamExt;
use reqwest::Response;
use task::State;
use task::status::TaskStatus;
use tokio::time::{Instant, sleep};

use super::lines::{LineStyle, Lines};
use crate::client::{Away, Client, Nodes, is_passing};
use crate::error::{Error, Result};
use crate::output::{Terminal, most, raw_stdout, say};
use crate::things::{escaped, get};

/// The first pause before another connection is tried; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How long nothing may arrive before it is looked why.
const SILENCE: Duration = Duration::from_secs(1);

/// Which part of a log, and how.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// Only so many last lines of each node.
    pub tail: Option<u32>,
    /// Only what was written since.
    pub since: Option<String>,
    /// Start lines with their time.
    pub timestamps: bool,
    /// Only this node.
    pub node: Option<u32>,
}

/// A log that is followed.
#[derive(Debug)]
pub struct Follow<'a> {
    client: &'a Client,
    id: &'a str,
    options: &'a LogOptions,
    /// Whether what comes later is wanted, too.
    follow: bool,
    /// How many nodes the log is of.
    nodes: u32,
    lines: Lines,
    stdout: File,
    /// Whether the log and what is said beside it are seen together.
    is_terminal: bool,
    /// What was last said about why there is nothing.
    said: Option<String>,
    has_said_what_there_is: bool,
    read_bytes: u64,
}

/// How the following ended.
#[derive(Debug)]
pub enum End {
    /// The task has ended so.
    Ended(Box<TaskStatus>),
    /// The task is gone: somebody has stopped it.
    Stopped,
}

/// Connections that the server has cut at once, one after the other, without a byte on any of them: it cannot read the log.
#[derive(Default)]
struct Cuts {
    count: u32,
    last: Option<(Instant, u64)>,
}

impl Cuts {
    /// A server that is restarted cuts fewer.
    const MOST: u32 = 8;

    /// Notes a connection, when so many bytes were read before it.
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
        let why = "the server cannot read this log to its end; its own log says why";
        Err(Error::Server(why.to_owned().into()))
    }
}

/// How one connection ended.
enum Broken {
    /// As it shall.
    Complete,
    /// In its middle.
    Lost,
}

/// Follows a log to its end.
///
/// # Errors
/// The server refuses, or stays away; the output cannot be written.
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

    /// Reads to the end; `None` when only what there is now was asked for.
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
            // Who wants the last lines only does not want the whole log of a node that has said nothing yet.
            let nodes = if self.options.tail.is_some() { 0 } else { self.nodes };
            if let Some(time) = self.lines.reconnect(nodes) {
                since = Some(time);
            }
            if self.lines.has_begun() {
                // The last lines were counted once; what came later is not cut.
                tail = None;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Writes a last line without an end; before the end of the task it would come again.
    fn finish(&mut self) -> Result<()> {
        let mut text = Vec::new();
        self.lines.finish(&mut text);
        self.stdout.write_all(&text)?;
        if self.follow && self.lines.is_open() && self.is_terminal {
            // What is said next shall begin a line, where both are seen; the log itself is not changed.
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

    /// Says why there is nothing yet, whenever that changes.
    async fn say_why(&mut self) {
        let Ok(task) = get::<TaskStatus>(self.client, self.id).await else {
            return;
        };
        let task = task.item;
        if task.status != State::Pending {
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

    /// Whoever asked for more than any machine has would wait for ever; the scheduler does not say how much there is.
    async fn say_what_there_is(&mut self, task: &TaskStatus) {
        let lacks = |message: &String| message.contains("Insufficient");
        if self.has_said_what_there_is || !task.message.as_ref().is_some_and(lacks) {
            return;
        }
        self.has_said_what_there_is = true;
        // Not every server may look at machines; then nothing more is said.
        if let Ok(found) = self.client.get::<Nodes>("/nodes").await
            && let Some(most) = most(&found.nodes)
        {
            say(&format!("the most that one node of a task can have here: {most}"));
        }
    }

    /// How the task ended; `None` when it has not, and the server ended the stream for another reason.
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
    // Of a task that waits, a node has ended whose attempt is followed by another.
    let waits = task.status == State::Pending;
    task.status.is_final() || (!waits && node.is_some_and(|node| node.status.is_final()))
}

/// Prints what is there now, over another connection where one breaks: a server cuts whoever pauses for long in a pager.
///
/// # Errors
/// The server refuses, or stays away; the output cannot be written.
pub async fn print_now(client: &Client, task: &TaskStatus, options: &LogOptions, terminal: Terminal) -> Result<()> {
    Follow::new(client, task, options, terminal, false)?.run().await?;
    Ok(())
}

/// The times are always asked for: they say where to go on.
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
