//! The cluster nodes that the pods of a task may use.

use std::collections::BTreeMap;

use super::submission::Submission;
use crate::kubernetes::{
    NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, PreferredSchedulingTerm, Toleration,
};
use crate::placement::{Models, NodeLabel};

/// The highest weight of a preference.
const MAX_WEIGHT: i32 = 100;

/// Restricts a pod to the cluster nodes of its placement.
pub(super) fn configure_pod(pod: &mut PodSpec, submission: &Submission) {
    if let Some(models) = &submission.placement.models {
        pod.affinity.get_or_insert_default().node_affinity = Some(affinity(models));
    }
    if let Some(NodeLabel { key, value }) = submission.placement.spot {
        pod.node_selector = Some(BTreeMap::from([(key.to_owned(), value.to_owned())]));
        // Clouds taint their spot instances with the same key.
        pod.tolerations = Some(vec![Toleration {
            key: Some(key.to_owned()),
            operator: Some("Equal".to_owned()),
            value: Some(value.to_owned()),
            effect: Some("NoSchedule".to_owned()),
            ..Toleration::default()
        }]);
    }
}

/// Requires one of the models. In order, the first has the highest weight.
fn affinity(models: &Models) -> NodeAffinity {
    let term = |values: Vec<String>| NodeSelectorTerm {
        match_expressions: Some(vec![NodeSelectorRequirement {
            key: models.label.to_owned(),
            operator: "In".to_owned(),
            values: Some(values),
        }]),
        ..NodeSelectorTerm::default()
    };
    let preferred = models.values.iter().zip((1..=MAX_WEIGHT).rev());
    let preferred = preferred.map(|(values, weight)| PreferredSchedulingTerm {
        preference: term(values.clone()),
        weight,
    });
    NodeAffinity {
        required_during_scheduling_ignored_during_execution: Some(NodeSelector {
            node_selector_terms: vec![term(models.values.concat())],
        }),
        preferred_during_scheduling_ignored_during_execution: models.is_ordered.then(|| preferred.collect()),
    }
}
