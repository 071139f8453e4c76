//! The scheduler: tries pods in the order of their creation, and binds those that fit on the machine.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Value, json};

use super::event::{Kind as EventKind, record};
use crate::object::{Object, kind_of, time};
use crate::refusal::Refusal;
use crate::store::{Touched, Transaction};

/// Resource quantities by name, in billionths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Amounts(BTreeMap<String, i128>);

impl Amounts {
    fn read(value: &Value) -> Self {
        let amounts = value.as_object().into_iter().flatten();
        Self(
            amounts
                .filter_map(|(name, amount)| Some((name.clone(), quantity::Quantity::parse(amount.as_str()?)?.nanos())))
                .collect(),
        )
    }

    /// What a pod needs: its container's requests, and one of the node's `pods`.
    fn of_pod(pod: &Object) -> Self {
        let mut all = Self::default();
        for container in pod.value["spec"]["containers"].as_array().into_iter().flatten() {
            all.add(&Self::read(&container["resources"]["requests"]), 1);
        }
        all.0.insert("pods".to_owned(), quantity::NANOS_PER_UNIT);
        all
    }

    fn add(&mut self, other: &Self, sign: i128) {
        for (name, amount) in &other.0 {
            *self.0.entry(name.clone()).or_default() += sign * amount;
        }
    }

    /// Which resources are insufficient, in kube-scheduler's words.
    fn lacks(&self, used: &Self, wanted: &Self) -> Vec<String> {
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
struct Waiting {
    namespace: String,
    name: String,
    amounts: Amounts,
    selector: BTreeMap<String, String>,
    claims: Vec<String>,
    /// The last reported reason for waiting, which is not reported twice.
    said: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Placed {
    namespace: String,
    amounts: Amounts,
    claims: Vec<String>,
}

#[derive(Debug, Clone)]
struct Machine {
    name: String,
    allocatable: Amounts,
    labels: BTreeMap<String, String>,
    cordoned: bool,
}

/// The queue of waiting pods, the bound pods, and the machine.
#[derive(Debug, Default)]
pub(super) struct Scheduler {
    machine: Option<Machine>,
    /// In the order of their creation.
    waiting: BTreeMap<Order, Waiting>,
    order: HashMap<String, Order>,
    placed: HashMap<String, Placed>,
    used: Amounts,
    counter: u64,
    due: Due,
}

/// Which waiting pods to try next.
#[derive(Debug, Default)]
struct Due {
    /// All of them, since resources may have become free.
    everybody: bool,
    /// New and changed pods. They free nothing, so the others needn't be tried.
    some: BTreeSet<Order>,
    /// Pods whose reason for waiting is reported in a later transaction.
    later: BTreeSet<Order>,
}

/// Position in the queue: creation time, which has whole seconds, and a counter.
type Order = (String, u64);

/// Maximum number of pods per transaction whose reason for waiting is updated. Each update writes the pod and an event,
/// and all other writers wait for it.
const TOLD_AT_ONCE: usize = 64;

/// Caches why pods can't use a claim, by namespace and name; `None` if they can. Thousands of waiting pods may use the
/// same claim.
type ClaimObstacles = HashMap<(String, String), Option<String>>;

impl Scheduler {
    /// Rebuilds the state from the store.
    pub fn load(&mut self, transaction: &Transaction<'_>) -> Result<(), Refusal> {
        *self = Self::default();
        for pod in transaction.active(kind_of("pods"))? {
            self.enter(&pod);
        }
        for node in transaction.every(kind_of("nodes"))? {
            self.machine = Some(machine(&node));
        }
        self.due.everybody = true;
        Ok(())
    }

    pub fn node_changed(&mut self, touched: &Touched) {
        self.machine = touched.after.as_ref().map(machine);
        self.due.everybody = true;
    }

    pub fn claim_changed(&mut self) {
        self.due.everybody = true;
    }

    pub fn pod_changed(&mut self, touched: &Touched) {
        let Some(pod) = touched.before.as_ref().or(touched.after.as_ref()) else {
            return;
        };
        let had = touched.before.as_ref().and_then(|before| self.leave(before.uid()));
        match &touched.after {
            Some(after) => self.enter(after),
            None => drop(self.order.remove(pod.uid())),
        }
        // Most changes of a bound pod free nothing.
        let frees = had.is_some_and(|had| self.placed.get(pod.uid()) != Some(&had));
        self.due.everybody |= frees;
    }

    /// Makes pods due whose report was postponed.
    pub fn go_on(&mut self) {
        self.due.some.append(&mut self.due.later);
    }

    /// Whether reports were postponed.
    pub fn has_more(&self) -> bool {
        !self.due.later.is_empty()
    }

    /// Whether a pod that has not finished uses a claim.
    pub fn uses(&self, namespace: &str, claim: &str) -> bool {
        let names = |here: &str, claims: &[String]| here == namespace && claims.iter().any(|one| one == claim);
        self.waiting.values().any(|pod| names(&pod.namespace, &pod.claims))
            || self.placed.values().any(|pod| names(&pod.namespace, &pod.claims))
    }

    fn enter(&mut self, pod: &Object) {
        if !(pod.kind.is_active)(&pod.value) {
            return;
        }
        let uid = pod.uid().to_owned();
        let amounts = Amounts::of_pod(pod);
        let claims = claims(pod);
        if pod.value["spec"]["nodeName"].is_string() {
            self.used.add(&amounts, 1);
            let namespace = pod.namespace().to_owned();
            self.placed.insert(
                uid,
                Placed {
                    namespace,
                    amounts,
                    claims,
                },
            );
            return;
        }
        if pod.is_deleting() {
            return;
        }
        self.counter += 1;
        let created = pod.value["metadata"]["creationTimestamp"].as_str().unwrap_or_default();
        // A changed pod keeps its position.
        let order = self
            .order
            .get(&uid)
            .cloned()
            .unwrap_or((created.to_owned(), self.counter));
        let selector = pod.value["spec"]["nodeSelector"].as_object().into_iter().flatten();
        let waiting = Waiting {
            namespace: pod.namespace().to_owned(),
            name: pod.name().to_owned(),
            amounts,
            selector: selector
                .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
                .collect(),
            claims,
            said: said(pod),
        };
        self.order.insert(uid, order.clone());
        self.due.some.insert(order.clone());
        self.waiting.insert(order, waiting);
    }

    /// Removes a pod from the queue, or from the bound pods; returns what it had bound.
    fn leave(&mut self, uid: &str) -> Option<Placed> {
        if let Some(order) = self.order.get(uid) {
            self.waiting.remove(order);
        }
        let placed = self.placed.remove(uid)?;
        self.used.add(&placed.amounts, -1);
        self.order.remove(uid);
        Some(placed)
    }

    /// Takes the pods to try now, in the order of the queue.
    fn take_due(&mut self) -> Vec<Order> {
        let due = std::mem::take(&mut self.due);
        if due.everybody {
            return self.waiting.keys().cloned().collect();
        }
        self.due.later = due.later;
        due.some.into_iter().collect()
    }

    /// Binds the waiting pods that fit.
    pub fn place(&mut self, transaction: &mut Transaction<'_>) -> Result<(), Refusal> {
        let orders = self.take_due();
        let mut told = 0;
        let mut used = self.used.clone();
        let mut claims = ClaimObstacles::new();
        for order in orders {
            let Some(pod) = self.waiting.get(&order) else { continue };
            match self.obstacle(transaction, pod, &used, &mut claims)? {
                None => {
                    used.add(&pod.amounts, 1);
                    self.bind(transaction, pod)?;
                }
                Some(message) if message != pod.said && told == TOLD_AT_ONCE => {
                    self.due.later.insert(order);
                }
                Some(message) if message != pod.said => {
                    told += 1;
                    refuse(transaction, pod, &message)?;
                    if let Some(waiting) = self.waiting.get_mut(&order) {
                        waiting.said = message;
                    }
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Why a pod can't be bound now, in kube-scheduler's words.
    fn obstacle(
        &self,
        transaction: &Transaction<'_>,
        pod: &Waiting,
        used: &Amounts,
        claims: &mut ClaimObstacles,
    ) -> Result<Option<String>, Refusal> {
        for claim in &pod.claims {
            let why = match claims.entry((pod.namespace.clone(), claim.clone())) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => unknown.insert(claim_obstacle(transaction, &pod.namespace, claim)?),
            };
            if let Some(why) = why {
                return Ok(Some(format!("0/1 nodes are available: {why}.")));
            }
        }
        let Some(machine) = &self.machine else {
            return Ok(Some("no nodes available to schedule pods".to_owned()));
        };
        let mut why = Vec::new();
        if machine.cordoned {
            why.push("1 node(s) were unschedulable".to_owned());
        } else if pod
            .selector
            .iter()
            .any(|(key, value)| machine.labels.get(key) != Some(value))
        {
            why.push("1 node(s) didn't match Pod's node affinity/selector".to_owned());
        } else {
            why = machine.allocatable.lacks(used, &pod.amounts);
        }
        Ok((!why.is_empty()).then(|| format!("0/1 nodes are available: {}.", why.join(", "))))
    }

    fn bind(&self, transaction: &mut Transaction<'_>, waiting: &Waiting) -> Result<(), Refusal> {
        let found = transaction.get(kind_of("pods"), &waiting.namespace, &waiting.name)?;
        let (Some(mut pod), Some(machine)) = (found, &self.machine) else {
            return Ok(());
        };
        pod.value["spec"]["nodeName"] = machine.name.as_str().into();
        let stamp = time(transaction.now);
        set_condition(
            &mut pod,
            json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": stamp}),
        );
        let pod = transaction.update(pod)?;
        let message = format!(
            "Successfully assigned {}/{} to {}",
            pod.namespace(),
            pod.name(),
            machine.name
        );
        record(
            transaction,
            &pod,
            EventKind::Normal,
            "default-scheduler",
            "Scheduled",
            &message,
        )
    }
}

fn claim_obstacle(transaction: &Transaction<'_>, namespace: &str, claim: &str) -> Result<Option<String>, Refusal> {
    let found = transaction.get(kind_of("persistentvolumeclaims"), namespace, claim)?;
    Ok(match found {
        None => Some(format!("persistentvolumeclaim \"{claim}\" not found")),
        Some(found) if found.is_deleting() => Some(format!("persistentvolumeclaim \"{claim}\" is being deleted")),
        Some(found) if found.value["status"]["phase"] != "Bound" => {
            Some("pod has unbound immediate PersistentVolumeClaims".to_owned())
        }
        Some(_) => None,
    })
}

fn refuse(transaction: &mut Transaction<'_>, waiting: &Waiting, message: &str) -> Result<(), Refusal> {
    let Some(mut pod) = transaction.get(kind_of("pods"), &waiting.namespace, &waiting.name)? else {
        return Ok(());
    };
    let stamp = time(transaction.now);
    set_condition(
        &mut pod,
        json!({
            "type": "PodScheduled", "status": "False", "lastProbeTime": null, "lastTransitionTime": stamp,
            "reason": "Unschedulable", "message": message,
        }),
    );
    let pod = transaction.update(pod)?;
    record(
        transaction,
        &pod,
        EventKind::Warning,
        "default-scheduler",
        "FailedScheduling",
        message,
    )
}

/// Sets a condition of a pod, replacing one of the same type.
pub fn set_condition(pod: &mut Object, condition: Value) {
    let conditions = &mut pod.value["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    if let Value::Array(list) = conditions {
        list.retain(|one| one["type"] != condition["type"]);
        list.push(condition);
    }
}

fn said(pod: &Object) -> String {
    let conditions = pod.value["status"]["conditions"].as_array();
    let scheduled = conditions
        .into_iter()
        .flatten()
        .find(|one| one["type"] == "PodScheduled");
    let message = scheduled.and_then(|condition| condition["message"].as_str());
    message.unwrap_or_default().to_owned()
}

fn claims(pod: &Object) -> Vec<String> {
    let volumes = pod.value["spec"]["volumes"].as_array().into_iter().flatten();
    volumes
        .filter_map(|volume| volume["persistentVolumeClaim"]["claimName"].as_str())
        .map(str::to_owned)
        .collect()
}

fn machine(node: &Object) -> Machine {
    let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    Machine {
        name: node.name().to_owned(),
        allocatable: Amounts::read(&node.value["status"]["allocatable"]),
        labels: node.labels().into_iter().map(owned).collect(),
        cordoned: node.value["spec"]["unschedulable"] == true,
    }
}

#[cfg(test)]
mod tests;
