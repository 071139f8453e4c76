//! The cluster nodes that the pods of a task may use.

use super::submission::Submission;
use crate::kubernetes::{
    NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, PreferredSchedulingTerm, Toleration,
};
use crate::placement::Placement;

/// The highest weight of a preference.
const MAX_WEIGHT: i32 = 100;

/// Restricts a pod to the cluster nodes of its placement.
pub(super) fn configure_pod(pod: &mut PodSpec, submission: &Submission) {
    let placement = &submission.placement;
    if placement.models.is_some() || !placement.spot.is_empty() {
        pod.affinity.get_or_insert_default().node_affinity = Some(affinity(placement));
    }
    // Clouds taint their spot instances with the same key.
    let tolerations = placement.spot.iter().map(|label| Toleration {
        key: Some(label.key.to_owned()),
        operator: Some("Equal".to_owned()),
        value: Some(label.value.to_owned()),
        effect: Some("NoSchedule".to_owned()),
        ..Toleration::default()
    });
    let tolerations: Vec<Toleration> = tolerations.collect();
    pod.tolerations = (!tolerations.is_empty()).then_some(tolerations);
}

/// Requires one of the models and one of the labels of spot instances. In order, the first model has the highest
/// weight.
fn affinity(placement: &Placement) -> NodeAffinity {
    let models = placement.models.as_ref();
    let expression = |key: &str, values: Vec<String>| NodeSelectorRequirement {
        key: key.to_owned(),
        operator: "In".to_owned(),
        values: Some(values),
    };
    let term = |expressions: Vec<NodeSelectorRequirement>| NodeSelectorTerm {
        match_expressions: Some(expressions),
        ..NodeSelectorTerm::default()
    };
    let of_models = models.map(|models| expression(models.label, models.values.concat()));
    let of_spot = placement
        .spot
        .iter()
        .map(|label| expression(label.key, vec![label.value.to_owned()]));
    // A cluster node must meet one of the terms, each with all of its expressions.
    let terms: Vec<NodeSelectorTerm> = match placement.spot.is_empty() {
        true => vec![term(of_models.into_iter().collect())],
        false => of_spot
            .map(|spot| term(of_models.clone().into_iter().chain([spot]).collect()))
            .collect(),
    };
    let preferred = models.filter(|models| models.is_ordered).map(|models| {
        let weighted = models.values.iter().zip((1..=MAX_WEIGHT).rev());
        let weighted = weighted.map(|(values, weight)| PreferredSchedulingTerm {
            preference: term(vec![expression(models.label, values.clone())]),
            weight,
        });
        weighted.collect()
    });
    NodeAffinity {
        required_during_scheduling_ignored_during_execution: Some(NodeSelector {
            node_selector_terms: terms,
        }),
        preferred_during_scheduling_ignored_during_execution: preferred,
    }
}
