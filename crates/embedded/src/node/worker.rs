//! Runs one pod on this machine.

mod again;

use std::future::Future;
use std::io::{Read, Seek, SeekFrom};
use std::net::Ipv4Addr;
use std::path::Path;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use self::again::Next;
use super::environment::{self, Sources, expand};
use super::plan::{Limit, Plan, Wish, seconds};
use super::readiness::Readiness;
use super::restart::BackOff;
use super::status::{self, Ending};
use super::{Newest, Node, volumes};
use crate::container::{Folder, Order, Outcome, SUPERVISE, open_files};
use crate::controllers::delete::settle;
use crate::controllers::{EventKind, record_event};
use crate::files::open_plain;
use crate::object::{Object, kind_of, later};
use crate::refusal::Refusal;
use crate::store::{self, Durability};

/// How long to wait before looking again for something that is missing.
const RETRY: Duration = Duration::from_secs(1);

/// Resolves when the container has ended.
type End = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs a pod, from whatever state it is in, to its end.
pub(super) async fn run(node: &Arc<Node>, pod: &Arc<Object>, mut newest: watch::Receiver<Newest>) {
    let Some(plan) = Plan::read(pod) else { return };
    let folder = node.folder(&plan.uid);
    let address = match plan.address {
        Some(address) => {
            node.addresses.keep(address);
            address
        }
        None => node.addresses.take(),
    };
    let mut worker = Worker {
        node,
        back_off: BackOff::after(plan.restarts),
        plan,
        folder,
        address,
    };
    while let Err(refusal) = worker.live(&mut newest).await {
        let (pod, message) = (&worker.plan.name, refusal.message);
        tracing::error!(pod, message, "cannot write the status of a pod; retrying");
        tokio::select! {
            () = sleep(RETRY) => {}
            () = node.stopping.cancelled() => break,
        }
    }
    node.addresses.free(address);
}

/// Kills a container. SIGUSR1 asks the supervisor to do so, because SIGKILL would end the supervisor before it can
/// report.
pub(super) fn kill(folder: &Folder) {
    signal(folder, Signal::USR1);
}

/// Sends a signal to the supervisor of a container, if it is alive.
fn signal(folder: &Folder, signal: Signal) {
    if let Some(supervisor) = folder.supervisor().and_then(Pid::from_raw) {
        let _ = kill_process(supervisor, signal);
    }
}

struct Worker<'a> {
    node: &'a Arc<Node>,
    back_off: BackOff,
    plan: Plan,
    folder: Folder,
    address: Ipv4Addr,
}

/// Progress in stopping a container. The times are monotonic, so setting the clock doesn't affect them.
#[derive(Debug, Default)]
struct Ends {
    /// Whether SIGTERM was sent.
    asked: bool,
    /// When to send SIGKILL.
    kill_at: Option<Instant>,
    /// `activeDeadlineSeconds` as last seen, and when it expires.
    late_at: Option<(i64, Instant)>,
    /// End of the grace period as last seen, and the same on the monotonic clock.
    end: Option<(Limit, Instant)>,
    is_late: bool,
}

impl Worker<'_> {
    async fn live(&mut self, newest: &mut watch::Receiver<Newest>) -> Result<(), Refusal> {
        loop {
            let end = match self.begin(newest).await? {
                Some(end) => end,
                // It was not started and is no longer needed.
                None => return self.finish(false).await,
            };
            // `activeDeadlineSeconds` limits the pod, so it counts from the start of the first of its containers.
            self.plan.started = self.plan.started.or_else(|| Some(self.folder.started()?.at));
            let is_late = self.attend(end, newest).await?;
            if self.node.stopping.is_cancelled() && self.folder.outcome().is_none() {
                // The container keeps running, and the next server takes it over.
                return Ok(());
            }
            let is_wanted = newest.borrow().as_ref().is_some_and(|pod| !pod.is_deleting());
            if is_late || !is_wanted || !self.plan.policy.restarts(self.folder.outcome().as_ref()) {
                return self.finish(is_late).await;
            }
            match self.wait_for_restart(newest).await? {
                Next::Again => {}
                Next::Over => return self.finish(self.is_late(newest)).await,
                Next::Later => return Ok(()),
            }
        }
    }

    /// Starts the container, or takes over the one that another server started.
    async fn begin(&self, newest: &mut watch::Receiver<Newest>) -> Result<Option<End>, Refusal> {
        if self.folder.started().is_some() {
            return Ok(Some(self.adopted()));
        }
        let mut told = String::new();
        loop {
            let Some(pod) = newest.borrow_and_update().clone().filter(|pod| !pod.is_deleting()) else {
                return Ok(None);
            };
            // The pod must be durable before its command runs. If a power cut lost it, its replacement would run the
            // command again.
            self.node.store.persist(pod.version()).await?;
            let why = match self.prepare(&pod).await? {
                Ok(order) => match self.spawn(&order).await {
                    Ok(end) => return Ok(Some(end)),
                    Err(error) => ("RunContainerError", format!("cannot start the container: {error}")),
                },
                Err(why) => why,
            };
            if why.1 != told {
                self.tell(why.0, &why.1).await?;
                told.clone_from(&why.1);
            }
            tokio::select! {
                () = sleep(RETRY) => {}
                changed = newest.changed() => if changed.is_err() { return Ok(None) },
                () = self.node.stopping.cancelled() => return Ok(None),
            }
        }
    }

    /// Reports why the container is waiting.
    async fn tell(&self, reason: &'static str, message: &str) -> Result<(), Refusal> {
        let (plan, message) = (self.plan.clone(), message.to_owned());
        self.change(move |transaction, mut pod| {
            let event = if message.starts_with("MountVolume") {
                "FailedMount"
            } else {
                "Failed"
            };
            status::waiting(&mut pod, &plan, reason, Some(&message), transaction.now);
            let pod = transaction.update(pod)?;
            record_event(transaction, &pod, EventKind::Warning, "kubelet", event, &message)
        })
        .await
    }

    /// Updates the pod, if it still exists.
    async fn change(
        &self,
        work: impl FnOnce(&mut store::Transaction<'_>, Object) -> Result<(), Refusal> + Send + 'static,
    ) -> Result<(), Refusal> {
        let uid = self.plan.uid.clone();
        self.node
            .store
            .write(Durability::Process, true, move |transaction| {
                match transaction.by_uid(&uid)? {
                    Some(pod) => work(transaction, pod),
                    None => Ok(()),
                }
            })
            .await
    }

    /// Collects everything that the container needs, or returns the reason and message with which it waits.
    async fn prepare(&self, pod: &Object) -> Result<Result<Order, (&'static str, String)>, Refusal> {
        let mut wanted = environment::references(&self.plan);
        let from_variables = wanted.len();
        wanted.extend(volumes::references(&self.plan));
        let mut sources = Sources::new();
        for (index, (kind, name, is_needed)) in wanted.into_iter().enumerate() {
            let (namespace, asked) = (self.plan.namespace.clone(), name.clone());
            let found = self
                .node
                .store
                .read(move |connection| store::get(connection, kind_of(kind), &namespace, &asked))
                .await?;
            if let Some(bytes) = found {
                sources.insert((kind, name), serde_json::from_slice(&bytes).map_err(Refusal::internal)?);
            } else if is_needed {
                let singular = kind_of(kind).singular;
                return Ok(Err(if index < from_variables {
                    ("CreateContainerConfigError", format!("{singular} \"{name}\" not found"))
                } else {
                    (
                        "ContainerCreating",
                        format!("MountVolume.SetUp failed for volume : {singular} \"{name}\" not found"),
                    )
                }));
            }
        }
        Ok(self.order(pod, &sources))
    }

    fn order(&self, pod: &Object, sources: &Sources) -> Result<Order, (&'static str, String)> {
        let address = self.address.to_string();
        self.folder
            .prepare()
            .map_err(|error| ("RunContainerError", format!("cannot create the pod directory: {error}")))?;
        let mounts = volumes::prepare(&self.plan, pod, &address, sources, &self.folder, |uid| {
            self.node.volume(uid)
        })
        .map_err(|why| ("ContainerCreating", why))?;
        let environment = environment::variables(&self.plan, pod, &address, sources)
            .map_err(|why| ("CreateContainerConfigError", why))?;
        let container = &self.plan.container;
        let words = container
            .command
            .iter()
            .flatten()
            .chain(container.args.iter().flatten());
        Ok(Order {
            command: words.map(|word| expand(word, &environment)).collect(),
            environment,
            working_folder: container.working_dir.clone().filter(|folder| !folder.is_empty()),
            hostname: self.plan.hostname.clone(),
            mounts,
            log_limit: self.node.settings.log_limit,
            control_groups: self.node.control_groups.make(&self.plan.uid, self.plan.limits()),
            open_files: open_files(),
        })
    }

    /// Starts the supervisor, and waits until the container runs.
    async fn spawn(&self, order: &Order) -> std::io::Result<End> {
        self.folder.write_order(order)?;
        let mut command = Command::new(&self.node.settings.program);
        command.arg(SUPERVISE).arg(self.folder.path());
        // The supervisor is this same program, so it may need the same settings of the dynamic loader.
        let of_the_loader = std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"LD_"));
        command
            .env_clear()
            .envs(of_the_loader)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        // Dropping the handle does not kill the child, which must outlive this process.
        let mut child = command.spawn()?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            let _ = BufReader::new(output).read_line(&mut line).await;
        }
        if line != "started\n" && self.folder.started().is_none() {
            let _ = child.wait().await;
            return Err(std::io::Error::other(line.trim_end().to_owned()));
        }
        let folder = self.folder.clone();
        Ok(Box::pin(async move {
            let _ = child.wait().await;
            // If another supervisor holds the lock, ours exits immediately: wait for the other one, too.
            let _ = tokio::task::spawn_blocking(move || folder.wait()).await;
        }))
    }

    /// Waits for a supervisor that another server started, which is not a child of this process.
    fn adopted(&self) -> End {
        let folder = self.folder.clone();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        // A separate thread: these waits can be as many as there are containers and last for days. On the runtime's
        // blocking threads, they would keep the server from shutting down.
        let spawned = std::thread::Builder::new()
            .name("adopted".to_owned())
            .stack_size(64 * 1024)
            .spawn(move || {
                let _ = folder.wait();
                let _ = sender.send(());
            });
        if let Err(error) = spawned {
            tracing::error!(%error, "cannot start a thread to wait for a container");
        }
        Box::pin(async move { drop(receiver.await) })
    }

    /// Keeps the pod's status current until the container ends. Returns whether the pod exceeded its deadline.
    async fn attend(&self, mut end: End, newest: &mut watch::Receiver<Newest>) -> Result<bool, Refusal> {
        let mut readiness = Readiness::of(self.plan.container.readiness_probe.as_ref());
        let mut ends = Ends::default();
        // Report a container that has already ended only as ended, never as running.
        if self.folder.outcome().is_none() {
            self.runs(readiness.is_ready).await?;
        }
        loop {
            let newest_pod = newest.borrow_and_update().clone();
            let pause = self.enforce(newest_pod.as_deref(), &mut ends);
            if let Some(pod) = newest_pod.filter(|_| volumes::follows_pod(&self.plan)) {
                self.refresh(pod).await?;
            }
            tokio::select! {
                () = &mut end => return Ok(ends.is_late),
                changed = newest.changed() => if changed.is_err() { return Ok(ends.is_late) },
                () = sleep(pause) => {}
                is_changed = readiness.next(&self.node.settings.program, &self.folder) => if is_changed {
                    self.runs(readiness.is_ready).await?;
                },
                () = self.node.stopping.cancelled() => return Ok(ends.is_late),
            }
        }
    }

    async fn runs(&self, ready: bool) -> Result<(), Refusal> {
        let started = self.folder.started().map_or_else(Timestamp::now, |started| started.at);
        let (plan, address) = (self.plan.clone(), self.address);
        self.change(move |transaction, mut pod| {
            if !(pod.kind.is_active)(&pod.value) {
                return Ok(());
            }
            let is_new = pod.value["status"]["phase"] != "Running";
            status::running(&mut pod, &plan, address, started, ready, transaction.now);
            let pod = transaction.update(pod)?;
            if is_new {
                let message = format!("Started container {}", plan.container.name);
                record_event(transaction, &pod, EventKind::Normal, "kubelet", "Started", &message)?;
            }
            Ok(())
        })
        .await
    }

    /// Sends the signals that are due. Returns how long to wait before the next check.
    fn enforce(&self, pod: Option<&Object>, ends: &mut Ends) -> Duration {
        const LONG: Duration = Duration::from_secs(3600);
        let now = Instant::now();
        let Some(pod) = pod else {
            // It was deleted without a grace period.
            kill(&self.folder);
            return RETRY;
        };
        let wish = Wish::read(pod);
        let mut wait = LONG;
        let until = |time: Instant| (time - now).clamp(Duration::from_millis(1), LONG);
        if let Some(seconds) = wish.deadline.filter(|_| !ends.asked) {
            let late_at = self.late_at(seconds, now, ends);
            if late_at <= now {
                ends.is_late = true;
                ends.kill_at = Some(now + Duration::from_secs(self.plan.grace.into()));
            } else {
                wait = until(late_at);
            }
        }
        if let Some(end) = wish.end {
            let known = ends.end.filter(|(known, _)| *known == end);
            let (_, end_by) = *ends.end.insert(known.unwrap_or_else(|| (end, now + end.left())));
            ends.kill_at = Some(ends.kill_at.map_or(end_by, |earlier| earlier.min(end_by)));
        }
        let Some(kill_at) = ends.kill_at else { return wait };
        if !ends.asked {
            ends.asked = true;
            signal(&self.folder, Signal::TERM);
        }
        if kill_at <= now {
            kill(&self.folder);
            return RETRY;
        }
        until(kill_at)
    }

    /// Returns when the pod exceeds its deadline.
    fn late_at(&self, deadline: i64, now: Instant, ends: &mut Ends) -> Instant {
        if let Some((_, at)) = ends.late_at.filter(|(known, _)| *known == deadline) {
            return at;
        }
        let began = || self.folder.started().map_or_else(Timestamp::now, |started| started.at);
        let limit = Limit {
            at: later(self.plan.started.unwrap_or_else(began), deadline),
            most: seconds(deadline),
        };
        let at = now + limit.left();
        ends.late_at = Some((deadline, at));
        at
    }

    /// Updates the volumes that show the pod's labels and annotations.
    async fn refresh(&self, pod: Arc<Object>) -> Result<(), Refusal> {
        let (plan, folder, address) = (self.plan.clone(), self.folder.volumes(), self.address.to_string());
        let refreshed = self.node.aside.run(move || {
            for volume in plan.volumes.iter().filter(|volume| volume.downward_api.is_some()) {
                if let Err(error) = volumes::refresh(volume, &pod, &address, &folder.join(&volume.name)) {
                    let (pod, volume) = (&plan.name, &volume.name);
                    tracing::warn!(pod, volume, error, "cannot update a volume");
                }
            }
        });
        refreshed.await.map_err(Refusal::internal)
    }

    /// Removes what only a running pod needs, and reports the end.
    async fn finish(&self, is_late: bool) -> Result<(), Refusal> {
        let (node, folder) = (Arc::clone(self.node), self.folder.clone());
        let cleared = self.node.aside.run(move || {
            let started = folder.started();
            if node.stopping.is_cancelled() && started.is_none() {
                // It was never started, so the next server starts it.
                return None;
            }
            let (outcome, message) = (folder.outcome(), read_tail(&folder.last_words()));
            // Remove files before the report: on a full disk, the report needs their space.
            for doomed in folder.of_the_running() {
                let _ = node.trash.take(&doomed);
            }
            let groups = folder.order().map(|order| order.control_groups);
            Some((outcome, started, message, groups.unwrap_or_default()))
        });
        let Some((outcome, started, message, groups)) = cleared.await.map_err(Refusal::internal)? else {
            return Ok(());
        };
        self.report(outcome, started.map(|started| started.at), message, is_late)
            .await?;
        self.node.control_groups.remove(&groups);
        Ok(())
    }

    async fn report(
        &self,
        outcome: Option<Outcome>,
        started: Option<Timestamp>,
        message: Vec<u8>,
        is_late: bool,
    ) -> Result<(), Refusal> {
        let plan = self.plan.clone();
        self.change(move |transaction, mut pod| {
            if (pod.kind.is_active)(&pod.value) && (started.is_some() || !pod.is_deleting()) {
                let ending = Ending {
                    outcome: outcome.as_ref(),
                    started,
                    message,
                    is_late,
                };
                status::ended(&mut pod, &plan, &ending, transaction.now);
                pod = transaction.update(pod)?;
            }
            if pod.is_deleting() {
                // Controllers may have changed it in the meantime.
                let Some(mut pod) = transaction.by_uid(pod.uid())? else {
                    return Ok(());
                };
                pod.set("deletionGracePeriodSeconds", 0);
                let pod = transaction.update(pod)?;
                settle(transaction, pod)?;
            }
            Ok(())
        })
        .await
    }
}

/// Reads the end of a termination log, which can be as large as the disk.
fn read_tail(path: &Path) -> Vec<u8> {
    let read = || {
        let mut file = open_plain(path)?;
        let beginning = file.metadata()?.len().saturating_sub(status::MAX_MESSAGE);
        file.seek(SeekFrom::Start(beginning))?;
        let mut tail = Vec::new();
        file.take(status::MAX_MESSAGE).read_to_end(&mut tail)?;
        Ok::<_, std::io::Error>(tail)
    };
    read().unwrap_or_default()
}
