//! Follows the tasks of a user through the events of the server, reconnecting as often as needed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use serde::Deserialize;
use serde_json::value::RawValue;
use sse_stream::{Sse, SseByteStream};
use task::wire::TaskStatus;
use tokio::time::{sleep, timeout};

use super::lookup::list;
use crate::client::{Client, Outage};
use crate::error::{Error, Result};
use crate::output::{REFRESH_INTERVAL, WithRaw};

/// How long a connection may be silent; the server sends something every 10 s.
const MAX_SILENCE: Duration = Duration::from_secs(25);

/// The pause before connecting again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);

/// Identifies a task: its user and its ID.
type TaskKey = (String, String);

/// The tasks of a user, or of all users, kept up to date.
pub(crate) struct TaskWatch<'a> {
    client: &'a Client,
    all_users: bool,
    events: Option<Events>,
    /// Whether this connection has brought an event.
    has_event: bool,
    /// Set if the server has no events; then its list is polled.
    is_polling: bool,
    /// The ID of the last event.
    last_id: Option<String>,
    tasks: BTreeMap<TaskKey, WithRaw<TaskStatus>>,
    /// Since a `reset`: the tasks that the server has.
    listed: Option<BTreeSet<TaskKey>>,
    is_synced: bool,
    outage: Outage,
}

type Events = Pin<Box<dyn Stream<Item = Result<Sse, sse_stream::Error>> + Send>>;

/// A task that is gone.
#[derive(Deserialize)]
struct RemovedTask {
    task_id: String,
    username: String,
}

impl<'a> TaskWatch<'a> {
    pub(crate) fn new(client: &'a Client, all_users: bool) -> Self {
        Self {
            client,
            all_users,
            events: None,
            has_event: false,
            is_polling: false,
            last_id: None,
            tasks: BTreeMap::new(),
            listed: None,
            is_synced: false,
            outage: Outage::default(),
        }
    }

    /// The tasks, by user and ID.
    pub(crate) fn tasks(&self) -> &BTreeMap<TaskKey, WithRaw<TaskStatus>> {
        &self.tasks
    }

    /// Waits until tasks have changed; the first time, until all are there. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The first connection fails, or the server is away for too long.
    pub(crate) async fn next(&mut self) -> Result<()> {
        loop {
            match self.receive().await {
                Ok(true) => {
                    self.is_synced = true;
                    self.outage.end();
                    return Ok(());
                }
                Ok(false) => {}
                Err(error) if !self.is_synced => return Err(error),
                Err(error) => {
                    self.outage.retry_or_fail(error)?;
                    sleep(REFRESH_INTERVAL).await;
                }
            }
        }
    }

    /// Receives until the tasks are in sync; returns whether they are.
    async fn receive(&mut self) -> Result<bool> {
        if self.is_polling {
            if self.is_synced {
                sleep(REFRESH_INTERVAL).await;
            }
            return self.list().await.map(|()| true);
        }
        if self.events.is_none() {
            match self.connect().await {
                Err(Error::NotFound(_)) => {
                    self.is_polling = true;
                    return Ok(false);
                }
                connected => {
                    self.events = Some(connected?);
                    self.has_event = false;
                }
            }
        }
        while let Some(events) = &mut self.events {
            let Some(Ok(event)) = events.next().await else { break };
            self.has_event = true;
            if self.apply(event)? {
                return Ok(true);
            }
        }
        self.events = None;
        sleep(RECONNECT_PAUSE).await;
        if self.has_event {
            return Ok(false);
        }
        // A proxy holds the events back. They are only late if the tasks are listed instead.
        self.list().await.map(|()| true)
    }

    async fn connect(&self) -> Result<Events> {
        let query = if self.all_users { "?all_users=true" } else { "" };
        let path = format!("/tasks/events{query}");
        let response = self.client.events(&path, self.last_id.as_deref()).await?;
        // Below the parser, because it drops comments, and they show that the connection works.
        let bytes = stream::unfold(response, async |mut response| {
            let chunk = match timeout(MAX_SILENCE, response.chunk()).await {
                Ok(chunk) => chunk.map_err(io::Error::other),
                Err(elapsed) => Err(elapsed.into()),
            };
            Some((chunk.transpose()?, response))
        });
        Ok(SseByteStream::new(bytes).boxed())
    }

    /// Applies an event; returns whether the tasks are in sync now.
    fn apply(&mut self, event: Sse) -> Result<bool> {
        let data = event.data.unwrap_or_default();
        let mut is_synced = false;
        match event.event.as_deref() {
            Some("reset") => self.listed = Some(BTreeSet::new()),
            Some("task") => {
                let raw: Box<RawValue> = self.client.decode_unescaped(data.as_bytes())?;
                self.put(WithRaw::decode(raw, &self.client.url().to_string())?);
            }
            Some("removed") => {
                let removed: RemovedTask = self.client.decode(data.as_bytes())?;
                self.tasks.remove(&(removed.username, removed.task_id));
            }
            Some("synced") => {
                self.remove_unlisted();
                is_synced = true;
            }
            // A newer server may have more.
            _ => {}
        }
        self.last_id = event.id.or_else(|| self.last_id.take());
        Ok(is_synced)
    }

    /// Lists the tasks instead.
    async fn list(&mut self) -> Result<()> {
        let tasks = list::<TaskStatus>(self.client, self.all_users).await?;
        self.listed = Some(BTreeSet::new());
        self.last_id = None;
        tasks.into_iter().for_each(|task| self.put(task));
        self.remove_unlisted();
        Ok(())
    }

    fn put(&mut self, task: WithRaw<TaskStatus>) {
        let key = (task.item.username.clone(), task.item.task_id.clone());
        if let Some(listed) = &mut self.listed {
            listed.insert(key.clone());
        }
        self.tasks.insert(key, task);
    }

    fn remove_unlisted(&mut self) {
        if let Some(listed) = self.listed.take() {
            self.tasks.retain(|key, _| listed.contains(key));
        }
    }
}
