//! Chooses one of the alternatives of a task, and the cluster nodes that it may use. Pure functions.

use std::collections::BTreeSet;

use task::definition::Accelerators;
use task::{Quantity, Resources, TaskDefinition};

use super::accelerator_model::{display_name, label_values, model_label, serves};
use super::machine::{Machine, nanos, resource_name};
use crate::error::Error;

/// The labels of spot instances: GKE's and Karpenter's. SkyPilot knows the same ones.
/// Source: `sky/provision/kubernetes/utils.py` of skypilot-org/skypilot.
const SPOT_LABELS: [NodeLabel; 2] = [
    NodeLabel {
        key: "cloud.google.com/gke-spot",
        value: "true",
    },
    NodeLabel {
        key: "karpenter.sh/capacity-type",
        value: "spot",
    },
];

/// The resource for local disk.
const DISK: &str = "ephemeral-storage";

/// Why nothing is known about the cluster nodes.
const NO_PERMISSION: &str = "the server has no permission to list cluster nodes";

/// A label of cluster nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeLabel {
    /// Its key.
    pub key: &'static str,
    /// Its value.
    pub value: &'static str,
}

/// Where a task may run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Placement {
    /// The resources of each node.
    pub resources: Resources,
    /// The label of the cluster nodes with the models that may be used.
    pub models: Option<Models>,
    /// The labels of spot instances, one of which a cluster node must have. Empty if any node may be used.
    pub spot: Vec<NodeLabel>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// The alternatives that follow in order when no cluster nodes are free for this one in time. They have none of their
    /// own.
    pub next: Vec<Placement>,
}

/// The models that may be used, by a label of cluster nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Models {
    /// The key of the label.
    pub label: &'static str,
    /// Its values for each model, in order of preference.
    pub values: Vec<Vec<String>>,
    /// Whether the order matters.
    pub is_ordered: bool,
}

impl Models {
    /// Whether a cluster node has one of the models.
    fn are_on(&self, machine: &Machine) -> bool {
        let value = machine.labels.get(self.label);
        value.is_some_and(|value| self.values.iter().flatten().any(|wanted| wanted == value))
    }
}

/// What is known about the cluster.
#[derive(Clone, Copy)]
struct Cluster<'a> {
    /// Its nodes.
    machines: &'a [Machine],
    /// Whether nodes are added for tasks that no present one can run.
    is_autoscaled: bool,
}

/// An alternative that the cluster can serve.
struct Candidate<'a> {
    /// Its place in the list of the task, counted from 1.
    number: usize,
    resources: &'a Resources,
    models: Option<Models>,
    spot: Vec<NodeLabel>,
    warnings: Vec<String>,
}

/// Why an alternative is left out.
struct Rejection {
    number: usize,
    reason: String,
}

/// Chooses where a task may run. `machines` is `None` if the server may not list the cluster nodes.
///
/// # Errors
/// [`Error::Unplaceable`] if no cluster node has what the task asks for, whatever it is doing now.
pub(crate) fn choose(
    definition: &TaskDefinition,
    machines: Option<&[Machine]>,
    is_autoscaled: bool,
) -> Result<Placement, Error> {
    let alternatives = definition.alternatives.as_ref();
    let all = alternatives.map_or(std::slice::from_ref(&definition.resources), |all| &all.resources);
    let is_ordered = alternatives.is_some_and(|all| all.is_ordered);
    let cluster = machines.map(|machines| Cluster {
        machines,
        is_autoscaled,
    });
    let (mut candidates, mut rejections) = candidates(all, cluster, true);
    if candidates.is_empty() {
        // The reference implementation accepts any task, so on-demand nodes are better than none, with a warning.
        (candidates, rejections) = self::candidates(all, cluster, false);
    }
    let (count, is_alike) = (all.len(), differ_in_model_only(&candidates));
    let mut warnings: Vec<String> = rejections.iter().map(|rejection| rejection.warning(count)).collect();
    let index = first_that_fits(&candidates, machines.unwrap_or_default());
    let (chosen, next) = if is_alike {
        (merged(candidates, is_ordered), Vec::new())
    } else {
        let mut candidates = candidates.into_iter().skip(index);
        let chosen = candidates.next();
        let next = candidates.filter(|_| is_ordered).map(Candidate::into_placement);
        (chosen, next.collect())
    };
    let Some(chosen) = chosen else {
        let reasons: BTreeSet<String> = rejections.into_iter().map(|rejection| rejection.reason).collect();
        let reasons = reasons.into_iter().collect();
        return Err(Error::Unplaceable { reasons });
    };
    if !is_alike {
        let (number, resources) = (chosen.number, describe(chosen.resources));
        warnings.push(format!("uses alternative {number} of {count}: {resources}"));
    }
    let mut placement = chosen.into_placement();
    warnings.append(&mut placement.warnings);
    if !is_autoscaled {
        warnings.extend(too_large(&placement.resources, machines));
    }
    Ok(Placement {
        warnings,
        next,
        ..placement
    })
}

impl Candidate<'_> {
    fn into_placement(self) -> Placement {
        Placement {
            resources: self.resources.clone(),
            models: self.models,
            spot: self.spot,
            warnings: self.warnings,
            next: Vec::new(),
        }
    }
}

impl Rejection {
    fn warning(&self, count: usize) -> String {
        format!("alternative {} of {count} is left out: {}", self.number, self.reason)
    }
}

/// Divides the alternatives into those that the cluster can serve and the others. With `needs_spot`, one that asks for
/// spot instances is left out if there are none.
fn candidates<'a>(
    all: &'a [Resources],
    cluster: Option<Cluster<'_>>,
    needs_spot: bool,
) -> (Vec<Candidate<'a>>, Vec<Rejection>) {
    let (mut candidates, mut rejections) = (Vec::new(), Vec::new());
    for (resources, number) in all.iter().zip(1..) {
        match candidate(number, resources, cluster, needs_spot) {
            Ok(candidate) => candidates.push(candidate),
            Err(reason) => rejections.push(Rejection { number, reason }),
        }
    }
    (candidates, rejections)
}

/// What the cluster nodes must have for these resources, or why there are none.
fn candidate<'a>(
    number: usize,
    resources: &'a Resources,
    cluster: Option<Cluster<'_>>,
    needs_spot: bool,
) -> Result<Candidate<'a>, String> {
    let mut warnings = Vec::new();
    let mut spot = Vec::new();
    if resources.spot {
        match spot_labels(cluster) {
            Ok(labels) => spot = labels,
            Err(reason) if needs_spot => return Err(reason),
            Err(reason) => warnings.push(format!("on-demand nodes may be used: {reason}")),
        }
    }
    let accelerators = resources.accelerators.as_ref();
    let models = match accelerators.and_then(|accelerators| Some((accelerators, accelerators.model.as_deref()?))) {
        None => None,
        Some((accelerators, model)) => match models(accelerators, model, cluster)? {
            Some(models) => {
                let has_model = |machine: &Machine| models.are_on(machine);
                if !cluster.is_some_and(|cluster| cluster.machines.iter().any(has_model)) {
                    let (label, values) = (models.label, models.values.concat().join("` or `"));
                    warnings.push(format!(
                        "no cluster node has the accelerator `{model}`; waits for one with the label `{label}` and the value `{values}`"
                    ));
                }
                Some(models)
            }
            None => {
                let reason = cluster.map_or(NO_PERMISSION, |_| "no cluster node has a label with its model");
                warnings.push(format!("any model may be used instead of `{model}`: {reason}"));
                None
            }
        },
    };
    Ok(Candidate {
        number,
        resources,
        models,
        spot,
        warnings,
    })
}

/// The label values that serve a model, or `None` if the cluster nodes have no labels for models.
fn models(accelerators: &Accelerators, model: &str, cluster: Option<Cluster<'_>>) -> Result<Option<Models>, String> {
    let Some(cluster) = cluster else { return Ok(None) };
    let resource = resource_name(accelerators.vendor());
    let has_any = cluster.machines.iter().any(|machine| machine.count(resource) > 0);
    // Nodes of other vendors may have another label. Without a device plugin, all nodes count.
    let machines = || {
        cluster
            .machines
            .iter()
            .filter(|machine| !has_any || machine.count(resource) > 0)
    };
    let Some(label) = model_label(machines()) else {
        return Ok(None);
    };
    let all = label_values(machines(), label);
    let serving = all.iter().filter(|value| serves(value, model));
    let mut values: Vec<String> = serving.map(|value| (*value).to_owned()).collect();
    if values.is_empty() && cluster.is_autoscaled {
        // The autoscaler may add a node with this label, in one of the usual spellings.
        values = vec![model.to_owned(), model.to_ascii_lowercase()];
        values.dedup();
    }
    if values.is_empty() {
        let known: BTreeSet<String> = all.into_iter().map(display_name).collect();
        let known = known.into_iter().collect::<Vec<_>>().join(", ");
        return Err(format!(
            "no cluster node has the accelerator `{model}`; this cluster has {known}"
        ));
    }
    Ok(Some(Models {
        label,
        values: vec![values],
        is_ordered: false,
    }))
}

/// The labels of spot instances that some cluster node has. An autoscaler may use any of them.
fn spot_labels(cluster: Option<Cluster<'_>>) -> Result<Vec<NodeLabel>, String> {
    let Some(cluster) = cluster else {
        return Err(NO_PERMISSION.to_owned());
    };
    let is_used = |label: &NodeLabel| {
        let mut machines = cluster.machines.iter();
        machines.any(|machine| has_label(machine, label))
    };
    let used: Vec<NodeLabel> = SPOT_LABELS.into_iter().filter(is_used).collect();
    match used.is_empty() {
        true if cluster.is_autoscaled => Ok(SPOT_LABELS.to_vec()),
        true => Err("no cluster node is a spot instance".to_owned()),
        false => Ok(used),
    }
}

fn has_label(machine: &Machine, label: &NodeLabel) -> bool {
    machine.labels.get(label.key).is_some_and(|value| value == label.value)
}

/// Whether the scheduler can decide between the alternatives: they differ only in a model that nodes are labeled with.
fn differ_in_model_only(candidates: &[Candidate<'_>]) -> bool {
    let Some(first) = candidates.first() else { return true };
    let without_model = |resources: &Resources| {
        let accelerators = resources.accelerators.as_ref();
        let vendor = accelerators.map(Accelerators::vendor);
        let count = accelerators.map(|accelerators| accelerators.count);
        (
            vendor,
            count,
            Resources {
                accelerators: None,
                ..resources.clone()
            },
        )
    };
    let is_alike = |candidate: &Candidate<'_>| {
        without_model(candidate.resources) == without_model(first.resources)
            && candidate.models.is_some() == first.models.is_some()
    };
    candidates.iter().all(is_alike)
}

/// One candidate that stands for all of them.
fn merged(candidates: Vec<Candidate<'_>>, is_ordered: bool) -> Option<Candidate<'_>> {
    let mut candidates = candidates.into_iter();
    let mut first = candidates.next()?;
    if let Some(models) = &mut first.models {
        for other in candidates {
            first.warnings.extend(other.warnings);
            models
                .values
                .extend(other.models.into_iter().flat_map(|other| other.values));
        }
        models.values.dedup();
        models.is_ordered = is_ordered && models.values.len() > 1;
    }
    Some(first)
}

/// The index of the first candidate for which some machine is large enough, or else 0.
fn first_that_fits(candidates: &[Candidate<'_>], machines: &[Machine]) -> usize {
    let fits_any = |candidate: &Candidate<'_>| machines.iter().any(|machine| fits(candidate, machine));
    candidates.iter().position(fits_any).unwrap_or(0)
}

fn fits(candidate: &Candidate<'_>, machine: &Machine) -> bool {
    let is_model = candidate.models.as_ref().is_none_or(|models| models.are_on(machine));
    let is_spot = candidate.spot.is_empty() || candidate.spot.iter().any(|label| has_label(machine, label));
    let is_large = demands(candidate.resources).all(|(name, wanted)| has_room(machine, name, wanted));
    machine.is_ready && is_model && is_spot && is_large
}

/// Whether a machine is large enough. Local disk counts only where it is reported.
fn has_room(machine: &Machine, name: &str, wanted: i128) -> bool {
    let is_unknown = name == DISK && !machine.allocatable.contains_key(name);
    is_unknown || machine.nanos(name) >= wanted
}

/// The resources that a node needs, in billionths.
fn demands(resources: &Resources) -> impl Iterator<Item = (&'static str, i128)> {
    let accelerators = resources.accelerators.as_ref();
    let demands = [
        ("cpu", resources.cpus.as_ref().map(|amount| nanos(amount.as_str()))),
        ("memory", resources.memory.as_ref().map(|amount| nanos(amount.as_str()))),
        (DISK, resources.disk.as_ref().map(|amount| nanos(amount.as_str()))),
        (
            accelerators.map_or("", |accelerators| resource_name(accelerators.vendor())),
            accelerators.map(|accelerators| nanos(&accelerators.count.to_string())),
        ),
    ];
    demands.into_iter().filter_map(|(name, amount)| Some((name, amount?)))
}

/// Warns of what is more than any machine has, so that the task stays pending until a larger one is added.
fn too_large(resources: &Resources, machines: Option<&[Machine]>) -> Option<String> {
    let machines = machines.filter(|machines| !machines.is_empty())?;
    let exceeds = |(name, wanted): &(&str, i128)| !machines.iter().any(|machine| has_room(machine, name, *wanted));
    let exceeding: Vec<&str> = demands(resources).filter(exceeds).map(|(name, _)| name).collect();
    if exceeding.is_empty() {
        return None;
    }
    let written = |amount: &Option<Quantity>| amount.as_ref().map(ToString::to_string).unwrap_or_default();
    let describe = |name: &&str| {
        let largest = machines.iter().max_by_key(|machine| machine.nanos(name));
        let largest = largest.map_or("0", |machine| machine.amount(name));
        match *name {
            "cpu" => format!("{} CPUs (at most {largest})", written(&resources.cpus)),
            "memory" => format!("{} of memory (at most {largest})", written(&resources.memory)),
            DISK => format!("{} of local disk (at most {largest})", written(&resources.disk)),
            _ => format!("{} of `{name}` (at most {largest})", resources.gpus()),
        }
    };
    let wanted: Vec<String> = exceeding.iter().map(describe).collect();
    Some(format!(
        "no cluster node has {}; the task stays pending until one is added",
        wanted.join(" or ")
    ))
}

/// Names resources in a sentence.
fn describe(resources: &Resources) -> String {
    let accelerators = resources
        .accelerators
        .as_ref()
        .map(|accelerators| match &accelerators.model {
            Some(model) => format!("{model}:{}", accelerators.count),
            None => format!("{} accelerators", accelerators.count),
        });
    let cpus = resources.cpus.as_ref().map(|cpus| format!("{cpus} CPUs"));
    let memory = resources.memory.as_ref().map(|memory| format!("{memory} of memory"));
    let disk = resources.disk.as_ref().map(|disk| format!("{disk} of local disk"));
    let spot = resources.spot.then(|| "spot instances".to_owned());
    let image = resources.image.as_ref().map(|image| format!("image `{image}`"));
    let parts: Vec<String> = [accelerators, cpus, memory, disk, spot, image]
        .into_iter()
        .flatten()
        .collect();
    if parts.is_empty() {
        return "no particular resources".to_owned();
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests;
