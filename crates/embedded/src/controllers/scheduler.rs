//! The scheduler: tries pods in the order of their creation, and binds those that fit on the machine.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{NodeSpec, NodeStatus, PodCondition, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::events::EventRecorder;
use crate::object::{Kind, Object};
use crate::resources::{bind, claim_names, is_terminal, set_condition};
use crate::status_error::StatusError;
use crate::store::{ObjectChange, Transaction};

const EVENTS: EventRecorder = EventRecorder::new("default-scheduler");

/// The condition that says whether a pod is bound to a cluster node.
const POD_SCHEDULED: &str = "PodScheduled";

/// Resource quantities by name, in billionths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ResourceAmounts(BTreeMap<String, i128>);

impl ResourceAmounts {
    fn parse(amounts: Option<&BTreeMap<String, Quantity>>) -> Self {
        let amounts = amounts.into_iter().flatten();
        Self(
            amounts
                .filter_map(|(name, amount)| Some((name.clone(), quantity::Quantity::parse(&amount.0)?.nanos())))
                .collect(),
        )
    }

    /// What a pod needs: its container's requests, and one of the node's `pods`.
    fn requested_by(pod: &PodSpec) -> Self {
        let mut all = Self::default();
        for resources in pod.containers.iter().flat_map(|container| &container.resources) {
            all.add(&Self::parse(resources.requests.as_ref()), 1);
        }
        // The engine does not reserve disk: a request for more than is free would keep a pod pending that may need little
        // of it.
        all.0.remove("ephemeral-storage");
        all.0.insert("pods".to_owned(), quantity::NANOS_PER_UNIT);
        all
    }

    fn add(&mut self, other: &Self, sign: i128) {
        for (name, amount) in &other.0 {
            *self.0.entry(name.clone()).or_default() += sign * amount;
        }
    }

    /// Which resources are insufficient, in kube-scheduler's words.
    fn insufficient_resources(&self, used: &Self, wanted: &Self) -> Vec<String> {
        let short = wanted.0.iter().filter(|(name, amount)| {
            let have = self.0.get(*name).copied().unwrap_or(0);
            let taken = used.0.get(*name).copied().unwrap_or(0);
            **amount > 0 && taken + **amount > have
        });
        short
            .map(|(name, _)| match name.as_str() {
                "pods" => "1 Too many pods".to_owned(),
                name => format!("1 Insufficient {name}"),
            })
            .collect()
    }
}

#[derive(Debug, Clone)]
struct PendingPod {
    namespace: String,
    name: String,
    amounts: ResourceAmounts,
    selector: BTreeMap<String, String>,
    claims: Vec<String>,
    /// The last reported reason for waiting, which is not reported twice.
    reported_reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct BoundPod {
    namespace: String,
    amounts: ResourceAmounts,
    claims: Vec<String>,
}

#[derive(Debug, Clone)]
struct NodeInfo {
    name: String,
    allocatable: ResourceAmounts,
    labels: BTreeMap<String, String>,
    is_unschedulable: bool,
}

/// The queue of waiting pods, the bound pods, and the machine.
#[derive(Debug, Default)]
pub(super) struct Scheduler {
    node: Option<NodeInfo>,
    /// In the order of their creation.
    pending: BTreeMap<QueuePosition, PendingPod>,
    positions: HashMap<String, QueuePosition>,
    bound: HashMap<String, BoundPod>,
    used: ResourceAmounts,
    counter: u64,
    due: DuePods,
}

/// Which waiting pods to try next.
#[derive(Debug, Default)]
struct DuePods {
    /// All of them, since resources may have become free.
    all: bool,
    /// New and changed pods. They free nothing, so the others needn't be tried.
    changed: BTreeSet<QueuePosition>,
    /// Pods whose reason for waiting is reported in a later transaction.
    unreported: BTreeSet<QueuePosition>,
}

/// Position in the queue: creation time, which has whole seconds, and a counter.
type QueuePosition = (String, u64);

/// Maximum number of pods per transaction whose reason for waiting is updated. Each update writes the pod and an event,
/// and all other writers wait for it.
const MAX_REPORTS: usize = 64;

/// Caches why pods can't use a claim, by namespace and name; `None` if they can. Thousands of waiting pods may use the
/// same claim.
type ClaimReasons = HashMap<(String, String), Option<String>>;

impl Scheduler {
    /// Rebuilds the state from the store.
    pub(crate) fn load(&mut self, transaction: &Transaction<'_>) -> Result<(), StatusError> {
        *self = Self::default();
        for pod in transaction.list_active(Kind::Pod)? {
            self.add_pod(&pod)?;
        }
        for node in transaction.list_all(Kind::Node)? {
            if self.node.is_none() || is_ready(&node)? {
                self.node = Some(node_info(&node)?);
            }
        }
        self.due.all = true;
        Ok(())
    }

    pub(crate) fn node_changed(&mut self, change: &ObjectChange) -> Result<(), StatusError> {
        let Some(node) = change.after.as_ref().or(change.before.as_ref()) else {
            return Ok(());
        };
        let is_known = self.node.as_ref().is_some_and(|known| known.name == node.name());
        // A Node object that a client creates has no kubelet, which would report it as ready.
        if self.node.is_none() || is_known || is_ready(node)? {
            self.node = change.after.as_ref().map(node_info).transpose()?;
            self.due.all = true;
        }
        Ok(())
    }

    pub(crate) fn claim_changed(&mut self) {
        self.due.all = true;
    }

    pub(crate) fn pod_changed(&mut self, change: &ObjectChange) -> Result<(), StatusError> {
        let Some(pod) = change.before.as_ref().or(change.after.as_ref()) else {
            return Ok(());
        };
        let had = change.before.as_ref().and_then(|before| self.remove_pod(before.uid()));
        match &change.after {
            Some(after) => self.add_pod(after)?,
            None => drop(self.positions.remove(pod.uid())),
        }
        // Most changes of a bound pod free nothing.
        let frees = had.is_some_and(|had| self.bound.get(pod.uid()) != Some(&had));
        self.due.all |= frees;
        Ok(())
    }

    /// Makes pods due whose report was postponed.
    pub(crate) fn resume_reporting(&mut self) {
        self.due.changed.append(&mut self.due.unreported);
    }

    /// Whether reports were postponed.
    pub(crate) fn has_unreported(&self) -> bool {
        !self.due.unreported.is_empty()
    }

    /// Whether a pod that has not finished uses a claim.
    pub(crate) fn is_claim_used(&self, namespace: &str, claim: &str) -> bool {
        let names = |here: &str, claims: &[String]| here == namespace && claims.iter().any(|one| one == claim);
        self.pending.values().any(|pod| names(&pod.namespace, &pod.claims))
            || self.bound.values().any(|pod| names(&pod.namespace, &pod.claims))
    }

    fn add_pod(&mut self, pod: &Object) -> Result<(), StatusError> {
        if is_terminal(pod) {
            return Ok(());
        }
        let uid = pod.uid().to_owned();
        let spec: PodSpec = pod.spec()?;
        let amounts = ResourceAmounts::requested_by(&spec);
        let claims = claim_names(&spec).map(str::to_owned).collect();
        if spec.node_name.is_some() {
            self.used.add(&amounts, 1);
            let namespace = pod.namespace().to_owned();
            self.bound.insert(
                uid,
                BoundPod {
                    namespace,
                    amounts,
                    claims,
                },
            );
            return Ok(());
        }
        if pod.is_deleting() {
            return Ok(());
        }
        self.counter += 1;
        // A changed pod keeps its position.
        let position = self
            .positions
            .get(&uid)
            .cloned()
            .unwrap_or_else(|| (pod.metadata_str("creationTimestamp").to_owned(), self.counter));
        let pending = PendingPod {
            namespace: pod.namespace().to_owned(),
            name: pod.name().to_owned(),
            amounts,
            selector: spec.node_selector.unwrap_or_default(),
            claims,
            reported_reason: reported_reason(pod.status()?),
        };
        self.positions.insert(uid, position.clone());
        self.due.changed.insert(position.clone());
        self.pending.insert(position, pending);
        Ok(())
    }

    /// Removes a pod from the queue, or from the bound pods; returns what it had bound.
    fn remove_pod(&mut self, uid: &str) -> Option<BoundPod> {
        if let Some(position) = self.positions.get(uid) {
            self.pending.remove(position);
        }
        let bound = self.bound.remove(uid)?;
        self.used.add(&bound.amounts, -1);
        self.positions.remove(uid);
        Some(bound)
    }

    /// Takes the pods to try now, in the order of the queue.
    fn take_due(&mut self) -> Vec<QueuePosition> {
        let due = std::mem::take(&mut self.due);
        if due.all {
            return self.pending.keys().cloned().collect();
        }
        self.due.unreported = due.unreported;
        due.changed.into_iter().collect()
    }

    /// Binds the waiting pods that fit.
    pub(crate) fn schedule_due(&mut self, transaction: &mut Transaction<'_>) -> Result<(), StatusError> {
        let positions = self.take_due();
        let mut reports = 0;
        let mut used = self.used.clone();
        let mut claims = ClaimReasons::new();
        for position in positions {
            let Some(pod) = self.pending.get(&position) else {
                continue;
            };
            match self.unschedulable_reason(transaction, pod, &used, &mut claims)? {
                None => {
                    used.add(&pod.amounts, 1);
                    self.bind(transaction, pod)?;
                }
                Some(message) if message != pod.reported_reason && reports == MAX_REPORTS => {
                    self.due.unreported.insert(position);
                }
                Some(message) if message != pod.reported_reason => {
                    reports += 1;
                    report_unschedulable(transaction, pod, &message)?;
                    if let Some(pending) = self.pending.get_mut(&position) {
                        pending.reported_reason = message;
                    }
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Why a pod can't be bound now, in kube-scheduler's words.
    fn unschedulable_reason(
        &self,
        transaction: &Transaction<'_>,
        pod: &PendingPod,
        used: &ResourceAmounts,
        claims: &mut ClaimReasons,
    ) -> Result<Option<String>, StatusError> {
        for claim in &pod.claims {
            let why = match claims.entry((pod.namespace.clone(), claim.clone())) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => unknown.insert(claim_reason(transaction, &pod.namespace, claim)?),
            };
            if let Some(why) = why {
                return Ok(Some(format!("0/1 nodes are available: {why}.")));
            }
        }
        let Some(node) = &self.node else {
            return Ok(Some("no nodes available to schedule pods".to_owned()));
        };
        let mut why = Vec::new();
        if node.is_unschedulable {
            why.push("1 node(s) were unschedulable".to_owned());
        } else if pod
            .selector
            .iter()
            .any(|(key, value)| node.labels.get(key) != Some(value))
        {
            why.push("1 node(s) didn't match Pod's node affinity/selector".to_owned());
        } else {
            why = node.allocatable.insufficient_resources(used, &pod.amounts);
        }
        Ok((!why.is_empty()).then(|| format!("0/1 nodes are available: {}.", why.join(", "))))
    }

    fn bind(&self, transaction: &mut Transaction<'_>, pending: &PendingPod) -> Result<(), StatusError> {
        let found = transaction.get(Kind::Pod, &pending.namespace, &pending.name)?;
        let (Some(mut pod), Some(node)) = (found, &self.node) else {
            return Ok(());
        };
        bind(&mut pod, &node.name);
        pod.update_status(|status| set_condition(status, scheduled_condition("True", transaction.now)))?;
        let pod = transaction.update(pod)?;
        let message = format!(
            "Successfully assigned {}/{} to {}",
            pod.namespace(),
            pod.name(),
            node.name
        );
        EVENTS.normal(transaction, &pod, "Scheduled", &message)
    }
}

fn claim_reason(transaction: &Transaction<'_>, namespace: &str, claim: &str) -> Result<Option<String>, StatusError> {
    let found = transaction.get(Kind::PersistentVolumeClaim, namespace, claim)?;
    Ok(match found {
        None => Some(format!("persistentvolumeclaim \"{claim}\" not found")),
        Some(found) if found.is_deleting() => Some(format!("persistentvolumeclaim \"{claim}\" is being deleted")),
        Some(found) if found.phase() != "Bound" => Some("pod has unbound immediate PersistentVolumeClaims".to_owned()),
        Some(_) => None,
    })
}

fn report_unschedulable(
    transaction: &mut Transaction<'_>,
    pending: &PendingPod,
    message: &str,
) -> Result<(), StatusError> {
    let Some(mut pod) = transaction.get(Kind::Pod, &pending.namespace, &pending.name)? else {
        return Ok(());
    };
    let condition = PodCondition {
        reason: Some("Unschedulable".to_owned()),
        message: Some(message.to_owned()),
        ..scheduled_condition("False", transaction.now)
    };
    pod.update_status(|status| set_condition(status, condition))?;
    let pod = transaction.update(pod)?;
    EVENTS.warning(transaction, &pod, "FailedScheduling", message)
}

fn scheduled_condition(status: &str, now: Timestamp) -> PodCondition {
    PodCondition {
        type_: POD_SCHEDULED.to_owned(),
        status: status.to_owned(),
        last_transition_time: Some(Time(now)),
        ..PodCondition::default()
    }
}

fn reported_reason(status: PodStatus) -> String {
    let mut conditions = status.conditions.into_iter().flatten();
    let scheduled = conditions.find(|condition| condition.type_ == POD_SCHEDULED);
    scheduled.and_then(|condition| condition.message).unwrap_or_default()
}

fn is_ready(node: &Object) -> Result<bool, StatusError> {
    let status: NodeStatus = node.status()?;
    let mut conditions = status.conditions.into_iter().flatten();
    Ok(conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True"))
}

fn node_info(node: &Object) -> Result<NodeInfo, StatusError> {
    let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    let (spec, status): (NodeSpec, NodeStatus) = (node.spec()?, node.status()?);
    Ok(NodeInfo {
        name: node.name().to_owned(),
        allocatable: ResourceAmounts::parse(status.allocatable.as_ref()),
        labels: node.labels().into_iter().map(owned).collect(),
        is_unschedulable: spec.unschedulable == Some(true),
    })
}

#[cfg(test)]
mod tests;
