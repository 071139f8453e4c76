//! Runs one pod on this machine.

mod restart;
mod spawn;

use std::future::Future;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::context::KubeletContext;
use super::environment::{self, expand};
use super::hosts_file;
use super::pod_config::{Deadline, DesiredState, PodConfig, seconds};
use super::pod_status::{self, ContainerExit};
use super::readiness_probe::ReadinessProbe;
use super::references::{Reference, ReferencedObjects};
use super::restart_policy::{CrashLoopBackoff, RestartDecision};
use super::volumes;
use crate::container::{ContainerDir, ContainerOutcome, ContainerSpec, open_file_limit};
use crate::controllers::{EventRecorder, remove_if_finalized};
use crate::files::read_tail;
use crate::object::{Object, add_seconds};
use crate::resources::is_terminal;
use crate::status_error::StatusError;
use crate::store::{self, Durability};

const EVENTS: EventRecorder = EventRecorder::new("kubelet");

/// How long to wait before looking again for something that is missing.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Latest state of a pod, or `None` if it was removed.
pub(super) type LatestPod = Option<Arc<Object>>;

/// Resolves when the container has ended.
type ExitFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Whether a container can start.
enum Prepared {
    Ready(ContainerSpec),
    Waiting(WaitingReason),
}

/// Why a container waits.
struct WaitingReason {
    reason: &'static str,
    message: String,
}

impl WaitingReason {
    fn new(reason: &'static str, message: String) -> Self {
        Self { reason, message }
    }
}

/// Runs a pod, from whatever state it is in, to its end.
pub(super) async fn run(context: &Arc<KubeletContext>, pod: &Arc<Object>, mut latest: watch::Receiver<LatestPod>) {
    let Some(pod_config) = PodConfig::from_pod(pod) else {
        return;
    };
    let container_dir = context.container_dir(&pod_config.uid);
    let ip = match pod_config.ip {
        Some(ip) => {
            context.pod_ips.reserve(ip);
            ip
        }
        None => context.pod_ips.allocate(),
    };
    let mut worker = PodWorker {
        context,
        backoff: CrashLoopBackoff::after(pod_config.restarts),
        pod_config,
        container_dir,
        ip,
    };
    while let Err(error) = worker.run_to_end(&mut latest).await {
        let (pod, message) = (&worker.pod_config.name, error.message);
        tracing::error!(pod, message, "cannot write the status of a pod; retrying");
        tokio::select! {
            () = sleep(RETRY_DELAY) => {}
            () = context.stopping.cancelled() => break,
        }
    }
    context.pod_ips.release(ip);
}

/// Kills a container. SIGUSR1 asks the shim to do so, because SIGKILL would end the shim before it can report.
pub(super) fn kill(container_dir: &ContainerDir) {
    signal(container_dir, Signal::USR1);
}

/// Sends a signal to the shim of a container, if it is alive.
fn signal(container_dir: &ContainerDir, signal: Signal) {
    if let Some(shim) = container_dir.shim_pid().and_then(Pid::from_raw) {
        let _ = kill_process(shim, signal);
    }
}

struct PodWorker<'a> {
    context: &'a Arc<KubeletContext>,
    backoff: CrashLoopBackoff,
    pod_config: PodConfig,
    container_dir: ContainerDir,
    ip: Ipv4Addr,
}

/// Progress in stopping a container. The times are monotonic, so setting the clock doesn't affect them.
#[derive(Debug, Default)]
struct Termination {
    /// Whether SIGTERM was sent.
    sigterm_sent: bool,
    /// When to send SIGKILL.
    kill_at: Option<Instant>,
    /// `activeDeadlineSeconds` as last seen, and when it expires.
    deadline_at: Option<(i64, Instant)>,
    /// End of the grace period as last seen, and the same on the monotonic clock.
    grace_period: Option<(Deadline, Instant)>,
    deadline_exceeded: bool,
}

impl PodWorker<'_> {
    async fn run_to_end(&mut self, latest: &mut watch::Receiver<LatestPod>) -> Result<(), StatusError> {
        loop {
            let exited = match self.start_or_adopt(latest).await? {
                Some(exited) => exited,
                // It was not started and is no longer needed.
                None => return self.finish(false).await,
            };
            // `activeDeadlineSeconds` limits the pod, so it counts from the start of the first of its containers.
            self.pod_config.started = self
                .pod_config
                .started
                .or_else(|| Some(self.container_dir.started()?.at));
            let deadline_exceeded = self.monitor(exited, latest).await?;
            if self.context.stopping.is_cancelled() && self.container_dir.outcome().is_none() {
                // The container keeps running, and the next server takes it over.
                return Ok(());
            }
            let is_wanted = latest.borrow().as_ref().is_some_and(|pod| !pod.is_deleting());
            if deadline_exceeded
                || !is_wanted
                || !self
                    .pod_config
                    .restart_policy
                    .restarts(self.container_dir.outcome().as_ref())
            {
                return self.finish(deadline_exceeded).await;
            }
            match self.wait_for_restart(latest).await? {
                RestartDecision::Restart => {}
                RestartDecision::Finish => return self.finish(self.deadline_exceeded(latest)).await,
                RestartDecision::LeaveToNextServer => return Ok(()),
            }
        }
    }

    /// Starts the container, or takes over the one that another server started.
    async fn start_or_adopt(&self, latest: &mut watch::Receiver<LatestPod>) -> Result<Option<ExitFuture>, StatusError> {
        if self.container_dir.started().is_some() {
            return Ok(Some(self.adopt()));
        }
        let mut reported = String::new();
        loop {
            let Some(pod) = latest.borrow_and_update().clone().filter(|pod| !pod.is_deleting()) else {
                return Ok(None);
            };
            // The pod must be durable before its command runs. If a power cut lost it, its replacement would run the
            // command again.
            self.context.store.persist(pod.version()).await?;
            let waiting = match self.prepare(&pod).await? {
                Prepared::Ready(spec) => match self.spawn(&spec).await {
                    Ok(exited) => return Ok(Some(exited)),
                    Err(error) => {
                        WaitingReason::new("RunContainerError", format!("cannot start the container: {error}"))
                    }
                },
                Prepared::Waiting(waiting) => waiting,
            };
            if waiting.message != reported {
                self.report_waiting(&waiting).await?;
                reported = waiting.message;
            }
            tokio::select! {
                () = sleep(RETRY_DELAY) => {}
                changed = latest.changed() => if changed.is_err() { return Ok(None) },
                () = self.context.stopping.cancelled() => return Ok(None),
            }
        }
    }

    /// Reports why the container is waiting.
    async fn report_waiting(&self, waiting: &WaitingReason) -> Result<(), StatusError> {
        let (pod_config, reason, message) = (self.pod_config.clone(), waiting.reason, waiting.message.clone());
        self.update_pod(move |transaction, mut pod| {
            let event = if message.starts_with("MountVolume") {
                "FailedMount"
            } else {
                "Failed"
            };
            pod.update_status(|status| {
                pod_status::set_waiting(status, &pod_config, reason, Some(&message), transaction.now);
            })?;
            let pod = transaction.update(pod)?;
            EVENTS.warning(transaction, &pod, event, &message)
        })
        .await
    }

    /// Updates the pod, if it still exists.
    async fn update_pod(
        &self,
        work: impl FnOnce(&mut store::Transaction<'_>, Object) -> Result<(), StatusError> + Send + 'static,
    ) -> Result<(), StatusError> {
        let uid = self.pod_config.uid.clone();
        self.context
            .store
            .write(Durability::Process, move |transaction| {
                match transaction.get_by_uid(&uid)? {
                    Some(pod) => work(transaction, pod),
                    None => Ok(()),
                }
            })
            .await
    }

    /// Collects everything that the container needs.
    async fn prepare(&self, pod: &Object) -> Result<Prepared, StatusError> {
        let mut references = environment::list_references(&self.pod_config);
        let from_variables = references.len();
        references.extend(volumes::list_references(&self.pod_config));
        let mut objects = ReferencedObjects::new();
        for (index, reference) in references.into_iter().enumerate() {
            let Reference {
                kind,
                name,
                is_required,
            } = reference;
            let (namespace, object_name) = (self.pod_config.namespace.clone(), name.clone());
            let found = self
                .context
                .store
                .read(move |connection| store::get_object(connection, kind, &namespace, &object_name))
                .await?;
            if let Some(bytes) = found {
                objects.insert((kind, name), Object::decode(kind, &bytes)?);
            } else if is_required {
                let singular = kind.singular();
                return Ok(Prepared::Waiting(if index < from_variables {
                    WaitingReason::new("CreateContainerConfigError", format!("{singular} \"{name}\" not found"))
                } else {
                    WaitingReason::new(
                        "ContainerCreating",
                        format!("MountVolume.SetUp failed for volume : {singular} \"{name}\" not found"),
                    )
                }));
            }
        }
        Ok(match self.build_spec(pod, &objects) {
            Ok(spec) => Prepared::Ready(spec),
            Err(waiting) => Prepared::Waiting(waiting),
        })
    }

    fn build_spec(&self, pod: &Object, objects: &ReferencedObjects) -> Result<ContainerSpec, WaitingReason> {
        let ip = self.ip.to_string();
        let write_hosts = |()| hosts_file::write(&self.container_dir, &self.pod_config, self.ip);
        let prepared = self.container_dir.prepare().and_then(write_hosts);
        prepared.map_err(|error| {
            WaitingReason::new("RunContainerError", format!("cannot create the pod directory: {error}"))
        })?;
        let mounts = volumes::prepare_volumes(&self.pod_config, pod, &ip, objects, &self.container_dir, |uid| {
            self.context.volume_dir(uid)
        })
        .map_err(|why| WaitingReason::new("ContainerCreating", why))?;
        let environment = environment::build_environment(&self.pod_config, pod, &ip, objects)
            .map_err(|why| WaitingReason::new("CreateContainerConfigError", why))?;
        let container = &self.pod_config.container;
        let words = container
            .command
            .iter()
            .flatten()
            .chain(container.args.iter().flatten());
        Ok(ContainerSpec {
            command: words.map(|word| expand(word, &environment)).collect(),
            environment,
            working_dir: container.working_dir.clone().filter(|dir| !dir.is_empty()),
            hostname: self.pod_config.hostname.clone(),
            mounts,
            log_limit: self.context.config.log_limit,
            cgroups: self
                .context
                .cgroups
                .create(&self.pod_config.uid, self.pod_config.cgroup_limits()),
            open_file_limit: open_file_limit(),
        })
    }

    /// Keeps the pod's status current until the container ends. Returns whether the pod exceeded its deadline.
    async fn monitor(
        &self,
        mut exited: ExitFuture,
        latest: &mut watch::Receiver<LatestPod>,
    ) -> Result<bool, StatusError> {
        let mut probe = ReadinessProbe::new(self.pod_config.container.readiness_probe.as_ref());
        let mut termination = Termination::default();
        // Report a container that has already ended only as ended, never as running.
        if self.container_dir.outcome().is_none() {
            self.report_running(probe.is_ready).await?;
        }
        loop {
            let latest_pod = latest.borrow_and_update().clone();
            let delay = self.send_due_signals(latest_pod.as_deref(), &mut termination);
            if let Some(pod) = latest_pod.filter(|_| volumes::shows_pod_fields(&self.pod_config)) {
                self.refresh_volumes(pod).await?;
            }
            tokio::select! {
                () = &mut exited => return Ok(termination.deadline_exceeded),
                changed = latest.changed() => if changed.is_err() { return Ok(termination.deadline_exceeded) },
                () = sleep(delay) => {}
                is_changed = probe.next(&self.container_dir) => if is_changed {
                    self.report_running(probe.is_ready).await?;
                },
                () = self.context.stopping.cancelled() => return Ok(termination.deadline_exceeded),
            }
        }
    }

    async fn report_running(&self, ready: bool) -> Result<(), StatusError> {
        let started = self
            .container_dir
            .started()
            .map_or_else(Timestamp::now, |started| started.at);
        let (pod_config, ip) = (self.pod_config.clone(), self.ip);
        self.update_pod(move |transaction, mut pod| {
            if is_terminal(&pod) {
                return Ok(());
            }
            let is_new = pod.phase() != "Running";
            pod.update_status(|status| {
                pod_status::set_running(status, &pod_config, ip, started, ready, transaction.now);
            })?;
            let pod = transaction.update(pod)?;
            if is_new {
                let message = format!("Started container {}", pod_config.container.name);
                EVENTS.normal(transaction, &pod, "Started", &message)?;
            }
            Ok(())
        })
        .await
    }

    /// Sends the signals that are due. Returns how long to wait before the next check.
    fn send_due_signals(&self, pod: Option<&Object>, termination: &mut Termination) -> Duration {
        const LONG: Duration = Duration::from_secs(3600);
        let now = Instant::now();
        let Some(pod) = pod else {
            // It was deleted without a grace period.
            kill(&self.container_dir);
            return RETRY_DELAY;
        };
        let desired = DesiredState::from_pod(pod);
        let mut wait = LONG;
        let until = |time: Instant| (time - now).clamp(Duration::from_millis(1), LONG);
        if let Some(seconds) = desired.active_deadline.filter(|_| !termination.sigterm_sent) {
            let deadline_at = self.deadline_at(seconds, now, termination);
            if deadline_at <= now {
                termination.deadline_exceeded = true;
                termination.kill_at = Some(now + Duration::from_secs(self.pod_config.grace_seconds.into()));
            } else {
                wait = until(deadline_at);
            }
        }
        if let Some(end) = desired.deletion {
            let known = termination.grace_period.filter(|(known, _)| *known == end);
            let (_, end_by) = *termination
                .grace_period
                .insert(known.unwrap_or_else(|| (end, now + end.remaining())));
            termination.kill_at = Some(termination.kill_at.map_or(end_by, |earlier| earlier.min(end_by)));
        }
        let Some(kill_at) = termination.kill_at else {
            return wait;
        };
        if !termination.sigterm_sent {
            termination.sigterm_sent = true;
            signal(&self.container_dir, Signal::TERM);
        }
        if kill_at <= now {
            kill(&self.container_dir);
            return RETRY_DELAY;
        }
        until(kill_at)
    }

    /// Returns when the pod exceeds its deadline.
    fn deadline_at(&self, deadline: i64, now: Instant, termination: &mut Termination) -> Instant {
        if let Some((_, at)) = termination.deadline_at.filter(|(known, _)| *known == deadline) {
            return at;
        }
        let began = || {
            self.container_dir
                .started()
                .map_or_else(Timestamp::now, |started| started.at)
        };
        let limit = Deadline {
            at: add_seconds(self.pod_config.started.unwrap_or_else(began), deadline),
            max_wait: seconds(deadline),
        };
        let at = now + limit.remaining();
        termination.deadline_at = Some((deadline, at));
        at
    }

    /// Updates the volumes that show the pod's labels and annotations.
    async fn refresh_volumes(&self, pod: Arc<Object>) -> Result<(), StatusError> {
        let (pod_config, dir, ip) = (
            self.pod_config.clone(),
            self.container_dir.volumes(),
            self.ip.to_string(),
        );
        let refreshed = self.context.blocking_pool.run(move || {
            for volume in pod_config.volumes.iter().filter(|volume| volume.downward_api.is_some()) {
                if let Err(error) = volumes::refresh_volume(volume, &pod, &ip, &dir.join(&volume.name)) {
                    let (pod, volume) = (&pod_config.name, &volume.name);
                    tracing::warn!(pod, volume, error, "cannot update a volume");
                }
            }
        });
        refreshed.await.map_err(StatusError::internal)
    }

    /// Removes what only a running pod needs, and reports the end.
    async fn finish(&self, deadline_exceeded: bool) -> Result<(), StatusError> {
        let (context, container_dir) = (Arc::clone(self.context), self.container_dir.clone());
        let cleared = self.context.blocking_pool.run(move || {
            let started = container_dir.started();
            if context.stopping.is_cancelled() && started.is_none() {
                // It was never started, so the next server starts it.
                return None;
            }
            let (outcome, message) = (container_dir.outcome(), read_termination_message(&container_dir));
            // Remove files before the report: on a full disk, the report needs their space.
            for dir in container_dir.runtime_dirs() {
                let _ = context.trash.move_to_trash(&dir);
            }
            let groups = container_dir.spec().map(|spec| spec.cgroups);
            Some((outcome, started, message, groups.unwrap_or_default()))
        });
        let Some((outcome, started, message, groups)) = cleared.await.map_err(StatusError::internal)? else {
            return Ok(());
        };
        self.report_end(outcome, started.map(|started| started.at), message, deadline_exceeded)
            .await?;
        self.context.cgroups.remove(&groups);
        Ok(())
    }

    async fn report_end(
        &self,
        outcome: Option<ContainerOutcome>,
        started: Option<Timestamp>,
        message: Vec<u8>,
        deadline_exceeded: bool,
    ) -> Result<(), StatusError> {
        let pod_config = self.pod_config.clone();
        self.update_pod(move |transaction, mut pod| {
            if !is_terminal(&pod) && (started.is_some() || !pod.is_deleting()) {
                let exit = ContainerExit {
                    outcome: outcome.as_ref(),
                    started,
                    message,
                    deadline_exceeded,
                };
                pod.update_status(|status| pod_status::set_ended(status, &pod_config, &exit, transaction.now))?;
                pod = transaction.update(pod)?;
            }
            if pod.is_deleting() {
                // Controllers may have changed it in the meantime.
                let Some(mut pod) = transaction.get_by_uid(pod.uid())? else {
                    return Ok(());
                };
                pod.set("deletionGracePeriodSeconds", 0);
                let pod = transaction.update(pod)?;
                remove_if_finalized(transaction, pod)?;
            }
            Ok(())
        })
        .await
    }
}

/// Reads the end of the termination log, which can be as large as the disk.
fn read_termination_message(container_dir: &ContainerDir) -> Vec<u8> {
    read_tail(&container_dir.termination_log(), pod_status::MAX_TERMINATION_MESSAGE).unwrap_or_default()
}
