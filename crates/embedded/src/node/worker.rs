//! The life of one pod on this machine.

use std::future::Future;
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
use tokio::time::sleep;

use super::environment::{self, Sources, expand};
use super::plan::{Plan, Wish};
use super::readiness::Readiness;
use super::status::{self, Ending};
use super::{Newest, Node, volumes};
use crate::container::{Folder, Order, Outcome, SUPERVISE, open_files};
use crate::controllers::delete::settle;
use crate::controllers::{EventKind, record_event};
use crate::object::{Object, kind_of};
use crate::refusal::Refusal;
use crate::store::{self, Durability};

/// How long to wait until something that was missing is looked for again.
const RETRY: Duration = Duration::from_secs(1);

/// Ends when the container has.
type End = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs a pod from where it is to its end.
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
    let worker = Worker {
        node,
        plan,
        folder,
        address,
    };
    while let Err(refusal) = worker.live(&mut newest).await {
        let (pod, message) = (&worker.plan.name, refusal.message);
        tracing::error!(pod, message, "the state of a pod cannot be written; trying again");
        tokio::select! {
            () = sleep(RETRY) => {}
            () = node.stopping.cancelled() => break,
        }
    }
    node.addresses.free(address);
}

/// Ends a container at once; its supervisor reports it.
pub(super) fn kill(folder: &Folder) {
    signal(folder, Signal::USR1);
}

/// Passes a signal to the supervisor of a container, which is alive: it holds the lock.
fn signal(folder: &Folder, signal: Signal) {
    let supervisor = folder.started().and_then(|started| Pid::from_raw(started.supervisor));
    if let (Some(supervisor), Ok(None)) = (supervisor, folder.take()) {
        let _ = kill_process(supervisor, signal);
    }
}

struct Worker<'a> {
    node: &'a Arc<Node>,
    plan: Plan,
    folder: Folder,
    address: Ipv4Addr,
}

/// How a container is being ended.
#[derive(Debug, Default)]
struct Ends {
    /// It was asked to end.
    asked: bool,
    /// When it is killed.
    kill_at: Option<Timestamp>,
    is_late: bool,
}

impl Worker<'_> {
    async fn live(&self, newest: &mut watch::Receiver<Newest>) -> Result<(), Refusal> {
        let end = match self.begin(newest).await? {
            Some(end) => end,
            // It was not started and shall not be any more.
            None => return self.finish(newest, false).await,
        };
        let is_late = self.attend(end, newest).await?;
        if self.node.stopping.is_cancelled() && self.folder.outcome().is_none() {
            // The container runs on; the next server finds it.
            return Ok(());
        }
        self.finish(newest, is_late).await
    }

    /// Starts the container, or finds it as another server has left it.
    async fn begin(&self, newest: &mut watch::Receiver<Newest>) -> Result<Option<End>, Refusal> {
        if self.folder.started().is_some() {
            return Ok(Some(self.adopted()));
        }
        let mut told = String::new();
        loop {
            let Some(pod) = newest.borrow_and_update().clone().filter(|pod| !pod.is_deleting()) else {
                return Ok(None);
            };
            let why = match self.prepare(&pod).await? {
                Ok(order) => match self.spawn(&order).await {
                    Ok(end) => return Ok(Some(end)),
                    Err(error) => ("RunContainerError", format!("the container cannot be started: {error}")),
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

    /// Says why it waits.
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

    /// Changes the pod, if it is still there.
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

    /// Everything that the container needs; or which reason and message it waits with.
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
            .map_err(|error| ("RunContainerError", format!("cannot make the pod's folder: {error}")))?;
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
        command
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        // Dropping it leaves it alone: it outlives this process.
        let mut child = command.spawn()?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            let _ = BufReader::new(output).read_line(&mut line).await;
        }
        let folder = self.folder.clone();
        Ok(Box::pin(async move {
            let _ = child.wait().await;
            // One that found another at work has ended before that one.
            let _ = tokio::task::spawn_blocking(move || folder.wait()).await;
        }))
    }

    /// Waits for a supervisor that another server started.
    fn adopted(&self) -> End {
        let folder = self.folder.clone();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        // A thread of its own: as many as there are containers may wait, for days, and none may keep the server from ending.
        let spawned = std::thread::Builder::new()
            .name("adopted".to_owned())
            .stack_size(64 * 1024)
            .spawn(move || {
                let _ = folder.wait();
                let _ = sender.send(());
            });
        if let Err(error) = spawned {
            tracing::error!(%error, "no thread can be made to wait for a container");
        }
        Box::pin(async move { drop(receiver.await) })
    }

    /// Keeps the pod's status true until the container ends; whether it was ended because it ran too long.
    async fn attend(&self, mut end: End, newest: &mut watch::Receiver<Newest>) -> Result<bool, Refusal> {
        let mut readiness = Readiness::of(self.plan.container.readiness_probe.as_ref());
        let mut ends = Ends::default();
        // A container that ended at once is reported as ended, and not as running before.
        if self.folder.outcome().is_none() {
            self.runs(readiness.is_ready).await?;
        }
        loop {
            let newest_pod = newest.borrow_and_update().clone();
            let pause = self.enforce(newest_pod.as_deref(), &mut ends);
            if let Some(pod) = newest_pod.filter(|_| volumes::follows_pod(&self.plan)) {
                self.refresh(&pod);
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

    /// Ends the container if somebody wants it to end; how long there is nothing more to do.
    fn enforce(&self, pod: Option<&Object>, ends: &mut Ends) -> Duration {
        const LONG: Duration = Duration::from_secs(3600);
        let now = Timestamp::now();
        let Some(pod) = pod else {
            // Removed by force.
            kill(&self.folder);
            return RETRY;
        };
        let wish = Wish::read(pod);
        let mut wait = LONG;
        let until = |time: Timestamp| {
            Duration::try_from(time - now)
                .unwrap_or_default()
                .max(Duration::from_millis(1))
        };
        if let Some(seconds) = wish.deadline.filter(|_| !ends.asked) {
            let since = self.folder.started().map_or(now, |started| started.at);
            let deadline = self.plan.started.unwrap_or(since) + jiff::Span::new().seconds(seconds);
            if deadline <= now {
                ends.is_late = true;
                ends.kill_at = Some(now + jiff::Span::new().seconds(self.plan.grace));
            } else {
                wait = until(deadline);
            }
        }
        if let Some(end_by) = wish.end_by {
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

    /// Shows the pod's labels and annotations as they are now.
    fn refresh(&self, pod: &Object) {
        let address = self.address.to_string();
        for volume in self.plan.volumes.iter().filter(|volume| volume.downward_api.is_some()) {
            let own = self.folder.volumes().join(&volume.name);
            if let Err(error) = volumes::refresh(volume, pod, &address, &own) {
                tracing::warn!(
                    pod = self.plan.name,
                    volume = volume.name,
                    error,
                    "a volume cannot be brought up to date"
                );
            }
        }
    }

    /// Reports the end, and removes what only a running pod needs.
    async fn finish(&self, newest: &mut watch::Receiver<Newest>, is_late: bool) -> Result<(), Refusal> {
        if self.node.stopping.is_cancelled() && self.folder.started().is_none() {
            return Ok(());
        }
        let outcome = self.folder.outcome();
        let started = self.folder.started();
        let message = read_tail(&self.folder.last_words());
        self.report(outcome, started.map(|started| started.at), message, is_late)
            .await?;
        let gone = newest.borrow().is_none();
        let groups = self
            .folder
            .order()
            .map(|order| order.control_groups)
            .unwrap_or_default();
        self.node.control_groups.remove(&groups);
        let folder = self.folder.clone();
        let tidied = tokio::task::spawn_blocking(move || if gone { folder.remove() } else { folder.tidy() });
        tidied.await.map_err(Refusal::internal)
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
                // The controllers may have changed it meanwhile.
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

fn read_tail(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_default()
}
