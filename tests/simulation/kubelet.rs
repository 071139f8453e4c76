//! The kubelet of the only cluster node: it runs pods, each with random durations, and reports their status.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use http::Method;
use jiff::{Span, Timestamp};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::direct::PODS;
use super::invariants;
use super::sim::{Sim, between, happens};

/// A container that takes longer to start is reported as `ContainerCreating`.
const SLOW_START: Duration = Duration::from_secs(3);

type LatestPod = Option<Arc<Value>>;

/// The pods that are scheduled on the node.
#[derive(Default)]
pub(crate) struct Kubelet(Mutex<HashMap<String, watch::Sender<LatestPod>>>);

impl Kubelet {
    /// Handles a changed or deleted pod.
    pub(crate) fn changed(&self, sim: &Arc<Sim>, uid: &str, pod: LatestPod) {
        let mut pods = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = pods.get(uid) {
            known.send_replace(pod);
            return;
        }
        let Some(pod) = pod.filter(|pod| pod["spec"]["nodeName"].is_string()) else {
            return;
        };
        let (sender, latest) = watch::channel(Some(Arc::clone(&pod)));
        pods.insert(uid.to_owned(), sender);
        let worker = Worker::new(Arc::clone(sim), uid, &pod, latest);
        tokio::spawn(worker.run());
    }
}

/// What a pod does unless it is terminated.
struct Plan {
    accepted_after: Duration,
    starts_after: Duration,
    setup: Duration,
    runs: Duration,
    exit_code: i64,
    /// Time until the container sees a changed annotation.
    sees_after: Duration,
    /// Time until it ends after SIGTERM.
    ends_after: Duration,
    /// Time from its start until the cluster evicts it.
    evicted_after: Option<Duration>,
}

impl Plan {
    fn draw(random: &mut Rng) -> Self {
        let is_slow = happens(random, 0.1);
        Self {
            accepted_after: between(random, 0, 1000),
            starts_after: if is_slow {
                between(random, 5000, 30_000)
            } else {
                between(random, 100, 3000)
            },
            setup: between(random, 100, 5000),
            runs: between(random, 500, 40_000),
            exit_code: if happens(random, 0.25) { 1 } else { 0 },
            sees_after: if happens(random, 0.2) {
                between(random, 1000, 20_000)
            } else {
                between(random, 50, 1500)
            },
            ends_after: if happens(random, 0.15) {
                Duration::from_secs(30)
            } else {
                between(random, 50, 2000)
            },
            evicted_after: happens(random, 0.05).then(|| between(random, 0, 30_000)),
        }
    }
}

/// Why a container is terminated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Termination {
    /// The pod no longer exists.
    Gone,
    Deleted,
    DeadlineExceeded,
}

struct Worker {
    sim: Arc<Sim>,
    uid: String,
    name: String,
    address: String,
    plan: Plan,
    latest: watch::Receiver<LatestPod>,
    accepted: Option<Timestamp>,
    started: Option<Timestamp>,
}

impl Worker {
    fn new(sim: Arc<Sim>, uid: &str, pod: &Value, latest: watch::Receiver<LatestPod>) -> Self {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let mut random = sim.random(("pod", &name));
        Self {
            plan: Plan::draw(&mut random),
            address: format!("10.0.{}.{}", random.u8(..), random.u8(1..255)),
            uid: uid.to_owned(),
            name,
            latest,
            accepted: None,
            started: None,
            sim,
        }
    }

    async fn run(mut self) {
        let ended = match self.run_container().await {
            Ok(code) => Ok(code),
            Err(termination) => self.terminate(termination).await,
        };
        match ended {
            Ok(code) => self.report_end(code, None).await,
            Err(Termination::DeadlineExceeded) => self.report_end(137, Some("DeadlineExceeded")).await,
            Err(Termination::Deleted) => self.report_end(143, None).await,
            Err(Termination::Gone) => return,
        }
        // A deleted pod is removed after its container has ended.
        loop {
            let pod = self.latest.borrow_and_update().clone();
            let Some(pod) = pod else { return };
            if pod["metadata"]["deletionTimestamp"].is_string() {
                break;
            }
            if self.latest.changed().await.is_err() {
                return;
            }
        }
        let path = format!("{PODS}/{}", self.name);
        let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}});
        let _ = self.sim.direct.send(Method::DELETE, &path, &options).await;
    }

    /// Runs the container until it exits.
    async fn run_container(&mut self) -> Result<i64, Termination> {
        self.wait(self.plan.accepted_after).await?;
        self.accepted = Some(self.sim.clock.now());
        let waiting = json!({"waiting": {"reason": "ContainerCreating"}});
        if self.plan.starts_after > SLOW_START {
            self.report("Pending", false, waiting, &json!({})).await;
        }
        self.wait(self.plan.starts_after).await?;
        self.started = Some(self.sim.clock.now());
        self.report_running(self.spec("readinessProbe").is_null()).await;
        self.schedule_eviction();
        let is_gang = self.has_volume("k8s-cli-gang");
        if is_gang {
            self.wait_for_annotation("k8s-cli/node-ips").await?;
        }
        invariants::started(&self.sim, &self.uid);
        if is_gang && !self.spec("readinessProbe").is_null() {
            self.wait(self.plan.setup).await?;
            self.report_running(true).await;
            self.wait_for_annotation("k8s-cli/run").await?;
        }
        self.wait(self.plan.runs).await?;
        Ok(self.plan.exit_code)
    }

    /// Evicts the pod some time after its start, if it is planned.
    fn schedule_eviction(&self) {
        let Some(after) = self.plan.evicted_after.filter(|_| self.sim.is_active()) else {
            return;
        };
        let (sim, name) = (Arc::clone(&self.sim), self.name.clone());
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
            let done = sim
                .direct
                .send(Method::POST, &format!("{PODS}/{name}/eviction"), &body)
                .await;
            sim.log(|| {
                format!(
                    "the cluster evicts {name}: {}",
                    if done.is_ok() { "evicted" } else { "not found" }
                )
            });
        });
    }

    /// Waits, unless the container is terminated before.
    async fn wait(&mut self, time: Duration) -> Result<(), Termination> {
        let end = Instant::now() + time;
        loop {
            let late = self.check_termination()?;
            tokio::select! {
                biased;
                changed = self.latest.changed() => if changed.is_err() { return Err(Termination::Gone) },
                () = sleep_until(late.unwrap_or(end).min(end)) => if late.is_none_or(|late| end < late) { return Ok(()) },
            }
        }
    }

    /// Waits until the container sees an annotation of its pod.
    async fn wait_for_annotation(&mut self, annotation: &str) -> Result<(), Termination> {
        loop {
            let late = self.check_termination()?;
            let pod = self.latest.borrow_and_update().clone();
            if pod.is_some_and(|pod| pod["metadata"]["annotations"][annotation].is_string()) {
                return self.wait(self.plan.sees_after).await;
            }
            let far = Instant::now() + Duration::from_secs(1_000_000);
            tokio::select! {
                biased;
                changed = self.latest.changed() => if changed.is_err() { return Err(Termination::Gone) },
                () = sleep_until(late.unwrap_or(far)) => {}
            }
        }
    }

    /// Returns an error if the container must terminate, and else its deadline.
    fn check_termination(&mut self) -> Result<Option<Instant>, Termination> {
        let pod = self.latest.borrow_and_update().clone().ok_or(Termination::Gone)?;
        if pod["metadata"]["deletionTimestamp"].is_string() {
            return Err(Termination::Deleted);
        }
        let (Some(seconds), Some(accepted)) = (pod["spec"]["activeDeadlineSeconds"].as_i64(), self.accepted) else {
            return Ok(None);
        };
        let left =
            Duration::try_from(accepted + Span::new().seconds(seconds) - self.sim.clock.now()).unwrap_or_default();
        if left.is_zero() {
            Err(Termination::DeadlineExceeded)
        } else {
            Ok(Some(Instant::now() + left))
        }
    }

    /// Terminates the container, and returns why it really ended.
    async fn terminate(&mut self, termination: Termination) -> Result<i64, Termination> {
        if termination == Termination::Gone {
            return Err(termination);
        }
        if self.started.is_some() {
            let end = Instant::now() + self.plan.ends_after;
            while Instant::now() < end {
                tokio::select! {
                    biased;
                    changed = self.latest.changed() => if changed.is_err() { return Err(Termination::Gone) },
                    () = sleep_until(end) => break,
                }
                if self.latest.borrow_and_update().is_none() {
                    return Err(Termination::Gone);
                }
            }
        }
        Err(termination)
    }

    fn spec(&self, field: &str) -> Value {
        let pod = self.latest.borrow().clone();
        pod.map_or(Value::Null, |pod| pod["spec"]["containers"][0][field].clone())
    }

    fn has_volume(&self, name: &str) -> bool {
        let pod = self.latest.borrow().clone();
        let volumes = pod.map(|pod| pod["spec"]["volumes"].clone()).unwrap_or_default();
        volumes
            .as_array()
            .into_iter()
            .flatten()
            .any(|volume| volume["name"] == name)
    }

    async fn report_running(&self, is_ready: bool) {
        let running = json!({"running": {"startedAt": self.started.map(second)}});
        let address = json!({"podIP": self.address, "podIPs": [{"ip": self.address}]});
        self.report("Running", is_ready, running, &address).await;
    }

    async fn report_end(&self, code: i64, reason: Option<&str>) {
        let has_succeeded = code == 0 && reason.is_none();
        let phase = if has_succeeded { "Succeeded" } else { "Failed" };
        let Some(started) = self.started else {
            let more = json!({"reason": reason, "message": "the container was never started"});
            return self
                .report(phase, false, json!({"waiting": {"reason": "ContainerCreating"}}), &more)
                .await;
        };
        let terminated = json!({"terminated": {
            "exitCode": code, "reason": if code == 0 { "Completed" } else { "Error" }, "startedAt": second(started),
            "finishedAt": second(self.sim.clock.now()), "containerID": format!("simulated://{}", self.uid),
        }});
        let more = reason.map_or(
            json!({}),
            |reason| json!({"reason": reason, "message": "the pod was active for too long"}),
        );
        self.report(phase, false, terminated, &more).await;
    }

    /// Writes the status of the pod.
    async fn report(&self, phase: &str, is_ready: bool, state: Value, more: &Value) {
        let ready_status = if is_ready { "True" } else { "False" };
        let ready =
            json!({"type": "Ready", "status": ready_status, "lastTransitionTime": second(self.sim.clock.now())});
        let container = json!({
            "name": "task", "image": "", "imageID": "", "restartCount": 0, "ready": is_ready, "state": state,
        });
        let mut status = json!({
            "phase": phase, "hostIP": "10.0.0.1", "startTime": self.accepted.map(second), "conditions": [ready],
            "containerStatuses": [container],
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            status[name] = value.clone();
        }
        let patch = json!({"metadata": {"uid": self.uid}, "status": status});
        let path = format!("{PODS}/{}/status", self.name);
        let _ = self.sim.direct.send(Method::PATCH, &path, &patch).await;
    }
}

/// Formats a time as Kubernetes does, truncated to seconds.
fn second(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or_default().to_string()
}
