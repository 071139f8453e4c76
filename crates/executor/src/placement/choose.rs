//! Chooses one of the alternatives of a task, and the cluster nodes that it may use. Pure functions.

use std::collections::BTreeSet;

use task::definition::Accelerators;
use task::{Resources, TaskDefinition};

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
    /// The label of the spot instances that must be used.
    pub spot: Option<NodeLabel>,
    /// What the user should know.
    pub warnings: Vec<String>,
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

/// What decides whether an alternative is dropped.
#[derive(Clone, Copy)]
struct Settings {
    /// Whether cluster nodes are added for tasks.
    is_autoscaled: bool,
    /// Whether the task has others.
    has_alternatives: bool,
}

/// An alternative that the cluster can serve.
struct Candidate<'a> {
    resources: &'a Resources,
    models: Option<Models>,
    spot: Option<NodeLabel>,
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
    let settings = Settings {
        is_autoscaled,
        has_alternatives: all.len() > 1,
    };
    let mut warnings = BTreeSet::new();
    let (mut candidates, mut reasons) = (Vec::new(), Vec::new());
    for resources in all {
        match candidate(resources, machines, settings, &mut warnings) {
            Ok(candidate) => candidates.push(candidate),
            Err(reason) if reasons.contains(&reason) => {}
            Err(reason) => reasons.push(reason),
        }
    }
    let mut warnings: Vec<String> = warnings.into_iter().collect();
    let chosen = if differ_in_model_only(&candidates) {
        merged(candidates, is_ordered)
    } else {
        let index = first_that_fits(&candidates, machines.unwrap_or_default());
        let (count, chosen) = (candidates.len(), candidates.into_iter().nth(index));
        let resources = chosen
            .as_ref()
            .map(|chosen| describe(chosen.resources))
            .unwrap_or_default();
        warnings.push(format!("uses alternative {} of {count}: {resources}", index + 1));
        chosen
    };
    let Some(Candidate {
        resources,
        models,
        spot,
    }) = chosen
    else {
        return Err(Error::Unplaceable { reasons });
    };
    if !is_autoscaled {
        warnings.extend(too_large(resources, machines));
    }
    Ok(Placement {
        resources: resources.clone(),
        models,
        spot,
        warnings,
    })
}

/// What the cluster nodes must have for these resources, or why there are none.
fn candidate<'a>(
    resources: &'a Resources,
    machines: Option<&[Machine]>,
    Settings {
        is_autoscaled,
        has_alternatives,
    }: Settings,
    warnings: &mut BTreeSet<String>,
) -> Result<Candidate<'a>, String> {
    let model = resources
        .accelerators
        .as_ref()
        .and_then(|accelerators| accelerators.model.as_deref());
    let Some(machines) = machines else {
        const REASON: &str = "the server has no permission to list cluster nodes";
        if let Some(model) = model {
            warnings.insert(format!("any GPU may be used instead of `{model}`: {REASON}"));
        }
        if resources.spot {
            warnings.insert(format!("on-demand nodes may be used: {REASON}"));
        }
        let (models, spot) = (None, None);
        return Ok(Candidate {
            resources,
            models,
            spot,
        });
    };
    let spot = match (resources.spot, spot_label(machines)) {
        (false, _) => None,
        (true, None) if has_alternatives => return Err("no cluster node is a spot instance".to_owned()),
        (true, None) => {
            warnings.insert("on-demand nodes may be used: no cluster node is a spot instance".to_owned());
            None
        }
        (true, label) => label,
    };
    let models = match (model, model_label(machines)) {
        (None, _) => None,
        (Some(model), None) => {
            let reason = "no cluster node has a label with its model";
            warnings.insert(format!("any GPU may be used instead of `{model}`: {reason}"));
            None
        }
        (Some(model), Some(label)) => match values_for(model, label, machines) {
            Ok(values) => Some(Models {
                label,
                values: vec![values],
                is_ordered: false,
            }),
            // The autoscaler may add a node with this model, whose label value is not known yet.
            Err(reason) if is_autoscaled => {
                warnings.insert(format!("any GPU may be used instead of `{model}`: {reason}"));
                None
            }
            Err(reason) => return Err(reason),
        },
    };
    Ok(Candidate {
        resources,
        models,
        spot,
    })
}

/// The values of the label that serve a model.
fn values_for(model: &str, label: &str, machines: &[Machine]) -> Result<Vec<String>, String> {
    let all = label_values(machines, label);
    let values: Vec<String> = all
        .iter()
        .filter(|value| serves(value, model))
        .map(|value| (*value).to_owned())
        .collect();
    if !values.is_empty() {
        return Ok(values);
    }
    let known: BTreeSet<String> = all.into_iter().map(display_name).collect();
    let known = known.into_iter().collect::<Vec<_>>().join(", ");
    Err(format!(
        "no cluster node has the accelerator `{model}`; this cluster has {known}"
    ))
}

/// The label of spot instances that some cluster node has.
fn spot_label(machines: &[Machine]) -> Option<NodeLabel> {
    let is_used = |label: &NodeLabel| has_label(machines, label.key, label.value);
    SPOT_LABELS.into_iter().find(is_used)
}

fn has_label(machines: &[Machine], key: &str, value: &str) -> bool {
    machines
        .iter()
        .any(|machine| machine.labels.get(key).is_some_and(|known| known == value))
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
        for other in candidates.filter_map(|candidate| candidate.models) {
            models.values.extend(other.values);
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
    let has = |key: &str, is_right: &dyn Fn(&str) -> bool| machine.labels.get(key).is_some_and(|value| is_right(value));
    let is_model = candidate.models.as_ref().is_none_or(|models| {
        let is_wanted = |value: &str| models.values.iter().flatten().any(|wanted| wanted == value);
        has(models.label, &is_wanted)
    });
    let is_spot = candidate
        .spot
        .is_none_or(|label| has(label.key, &|value| value == label.value));
    let is_large = demands(candidate.resources).all(|(name, wanted)| machine.nanos(name) >= wanted);
    machine.is_ready && is_model && is_spot && is_large
}

/// The resources that a node needs, in billionths.
fn demands(resources: &Resources) -> impl Iterator<Item = (&'static str, i128)> {
    let accelerators = resources.accelerators.as_ref();
    let demands = [
        ("cpu", resources.cpus.as_ref().map(|amount| nanos(amount.as_str()))),
        ("memory", resources.memory.as_ref().map(|amount| nanos(amount.as_str()))),
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
    let exceeds = |(name, wanted): &(&str, i128)| machines.iter().all(|machine| machine.nanos(name) < *wanted);
    let exceeding: Vec<&str> = demands(resources).filter(exceeds).map(|(name, _)| name).collect();
    if exceeding.is_empty() {
        return None;
    }
    let count = |amount: Option<String>| amount.unwrap_or_default();
    let describe = |name: &&str| {
        let largest = machines.iter().max_by_key(|machine| machine.nanos(name));
        let largest = largest.map_or("0", |machine| machine.amount(name));
        match *name {
            "cpu" => format!(
                "{} CPUs (at most {largest})",
                count(resources.cpus.as_ref().map(ToString::to_string))
            ),
            "memory" => format!(
                "{} of memory (at most {largest})",
                count(resources.memory.as_ref().map(ToString::to_string))
            ),
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
    let spot = resources.spot.then(|| "spot instances".to_owned());
    let image = resources.image.as_ref().map(|image| format!("image `{image}`"));
    let parts: Vec<String> = [accelerators, cpus, memory, spot, image]
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
