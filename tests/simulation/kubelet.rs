//! The node: it runs the pods that were given to it, each at its own pace, and says so.

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
use super::promises;
use super::sim::{Sim, between, happens};

/// How long a container may take to start before that is said.
const SLOW: Duration = Duration::from_secs(3);

type Newest = Option<Arc<Value>>;

/// The pods that were given to the node.
#[derive(Default)]
pub struct Kubelet(Mutex<HashMap<String, watch::Sender<Newest>>>);

impl Kubelet {
    /// A pod has changed, or is gone.
    pub fn changed(&self, sim: &Arc<Sim>, uid: &str, pod: Newest) {
        let mut pods = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = pods.get(uid) {
            known.send_replace(pod);
            return;
        }
        let Some(pod) = pod.filter(|pod| pod["spec"]["nodeName"].is_string()) else {
            return;
        };
        let (sender, newest) = watch::channel(Some(Arc::clone(&pod)));
        pods.insert(uid.to_owned(), sender);
        let worker = Worker::new(Arc::clone(sim), uid, &pod, newest);
        tokio::spawn(worker.run());
    }
}

/// What a pod will do, if it is let.
struct Plan {
    accepted_after: Duration,
    starts_after: Duration,
    setup: Duration,
    runs: Duration,
    exit_code: i64,
    /// How long after a change of an annotation its container sees it.
    sees_after: Duration,
    /// How long it takes to end when it is told to.
    ends_after: Duration,
    /// When the cluster evicts it, after its start.
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

/// Why a container is ended from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doom {
    Gone,
    Deleted,
    Late,
}

struct Worker {
    sim: Arc<Sim>,
    uid: String,
    name: String,
    address: String,
    plan: Plan,
    newest: watch::Receiver<Newest>,
    accepted: Option<Timestamp>,
    started: Option<Timestamp>,
}

impl Worker {
    fn new(sim: Arc<Sim>, uid: &str, pod: &Value, newest: watch::Receiver<Newest>) -> Self {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let mut random = sim.random(("pod", &name));
        Self {
            plan: Plan::draw(&mut random),
            address: format!("10.0.{}.{}", random.u8(..), random.u8(1..255)),
            uid: uid.to_owned(),
            name,
            newest,
            accepted: None,
            started: None,
            sim,
        }
    }

    async fn run(mut self) {
        let ended = match self.live().await {
            Ok(code) => Ok(code),
            Err(doom) => self.end(doom).await,
        };
        match ended {
            Ok(code) => self.report_end(code, None).await,
            Err(Doom::Late) => self.report_end(137, Some("DeadlineExceeded")).await,
            Err(Doom::Deleted) => self.report_end(143, None).await,
            Err(Doom::Gone) => return,
        }
        // What is deleted goes when its container has ended.
        loop {
            let pod = self.newest.borrow_and_update().clone();
            let Some(pod) = pod else { return };
            if pod["metadata"]["deletionTimestamp"].is_string() {
                break;
            }
            if self.newest.changed().await.is_err() {
                return;
            }
        }
        let path = format!("{PODS}/{}", self.name);
        let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}});
        let _ = self.sim.direct.ask(Method::DELETE, &path, &options).await;
    }

    /// From the pod's place on the node to the end of its container by itself.
    async fn live(&mut self) -> Result<i64, Doom> {
        self.wait(self.plan.accepted_after).await?;
        self.accepted = Some(self.sim.clock.now());
        let waiting = json!({"waiting": {"reason": "ContainerCreating"}});
        if self.plan.starts_after > SLOW {
            self.report("Pending", false, waiting, &json!({})).await;
        }
        self.wait(self.plan.starts_after).await?;
        self.started = Some(self.sim.clock.now());
        self.runs(self.spec("readinessProbe").is_null()).await;
        self.be_evicted();
        let is_gang = self.volume("k8s-cli-gang");
        if is_gang {
            self.annotated("k8s-cli/node-ips").await?;
        }
        promises::begins(&self.sim, &self.uid);
        if is_gang && !self.spec("readinessProbe").is_null() {
            self.wait(self.plan.setup).await?;
            self.runs(true).await;
            self.annotated("k8s-cli/run").await?;
        }
        self.wait(self.plan.runs).await?;
        Ok(self.plan.exit_code)
    }

    /// Evicts the pod some time after its start, if that is its fate.
    fn be_evicted(&self) {
        let Some(after) = self.plan.evicted_after.filter(|_| self.sim.is_active()) else {
            return;
        };
        let (sim, name) = (Arc::clone(&self.sim), self.name.clone());
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
            let done = sim
                .direct
                .ask(Method::POST, &format!("{PODS}/{name}/eviction"), &body)
                .await;
            sim.tell(|| {
                format!(
                    "the cluster evicts {name}: {}",
                    if done.is_ok() { "done" } else { "it is gone" }
                )
            });
        });
    }

    /// Waits, unless the container is to be ended before.
    async fn wait(&mut self, time: Duration) -> Result<(), Doom> {
        let end = Instant::now() + time;
        loop {
            let late = self.check()?;
            tokio::select! {
                biased;
                changed = self.newest.changed() => if changed.is_err() { return Err(Doom::Gone) },
                () = sleep_until(late.unwrap_or(end).min(end)) => if late.is_none_or(|late| end < late) { return Ok(()) },
            }
        }
    }

    /// Waits until the container sees an annotation of its pod.
    async fn annotated(&mut self, annotation: &str) -> Result<(), Doom> {
        loop {
            let late = self.check()?;
            let pod = self.newest.borrow_and_update().clone();
            if pod.is_some_and(|pod| pod["metadata"]["annotations"][annotation].is_string()) {
                return self.wait(self.plan.sees_after).await;
            }
            let far = Instant::now() + Duration::from_secs(1_000_000);
            tokio::select! {
                biased;
                changed = self.newest.changed() => if changed.is_err() { return Err(Doom::Gone) },
                () = sleep_until(late.unwrap_or(far)) => {}
            }
        }
    }

    /// Whether it may go on, and when its deadline ends that.
    fn check(&mut self) -> Result<Option<Instant>, Doom> {
        let pod = self.newest.borrow_and_update().clone().ok_or(Doom::Gone)?;
        if pod["metadata"]["deletionTimestamp"].is_string() {
            return Err(Doom::Deleted);
        }
        let (Some(seconds), Some(accepted)) = (pod["spec"]["activeDeadlineSeconds"].as_i64(), self.accepted) else {
            return Ok(None);
        };
        let left =
            Duration::try_from(accepted + Span::new().seconds(seconds) - self.sim.clock.now()).unwrap_or_default();
        if left.is_zero() {
            Err(Doom::Late)
        } else {
            Ok(Some(Instant::now() + left))
        }
    }

    /// Ends the container as it is told to; how it has ended in the end.
    async fn end(&mut self, doom: Doom) -> Result<i64, Doom> {
        if doom == Doom::Gone {
            return Err(doom);
        }
        if self.started.is_some() {
            let end = Instant::now() + self.plan.ends_after;
            while Instant::now() < end {
                tokio::select! {
                    biased;
                    changed = self.newest.changed() => if changed.is_err() { return Err(Doom::Gone) },
                    () = sleep_until(end) => break,
                }
                if self.newest.borrow_and_update().is_none() {
                    return Err(Doom::Gone);
                }
            }
        }
        Err(doom)
    }

    fn spec(&self, field: &str) -> Value {
        let pod = self.newest.borrow().clone();
        pod.map_or(Value::Null, |pod| pod["spec"]["containers"][0][field].clone())
    }

    fn volume(&self, name: &str) -> bool {
        let pod = self.newest.borrow().clone();
        let volumes = pod.map(|pod| pod["spec"]["volumes"].clone()).unwrap_or_default();
        volumes
            .as_array()
            .into_iter()
            .flatten()
            .any(|volume| volume["name"] == name)
    }

    async fn runs(&self, is_ready: bool) {
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
            |reason| json!({"reason": reason, "message": "it was active for too long"}),
        );
        self.report(phase, false, terminated, &more).await;
    }

    /// Writes the status of the pod.
    async fn report(&self, phase: &str, is_ready: bool, state: Value, more: &Value) {
        let word = if is_ready { "True" } else { "False" };
        let ready = json!({"type": "Ready", "status": word, "lastTransitionTime": second(self.sim.clock.now())});
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
        let _ = self.sim.direct.ask(Method::PATCH, &path, &patch).await;
    }
}

/// A time as Kubernetes writes it: whole seconds, the part of one cut off.
fn second(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or_default().to_string()
}
