//! The alternatives of a task that follow one another, each when no cluster nodes were free in time for the one before.
//!
//! A Job has them as JSON patches of its pods, because its own manifest is all that a server has to make the next attempt
//! from.

use json_patch::{Patch, diff, patch};
use serde_json::{from_value, to_value};
use task::TaskDefinition;

use super::submission::Submission;
use crate::kubernetes::PodTemplateSpec;
use crate::placement::Placement;

/// The annotation of the Job of a node, with these pods, or `None` if no other alternative will be tried. `pods_of` are
/// those of the same node with another alternative.
pub(super) fn annotation(
    submission: &Submission,
    pods: &PodTemplateSpec,
    pods_of: impl Fn(&Submission) -> PodTemplateSpec,
) -> Option<String> {
    let next = &submission.placement.next;
    if next.is_empty() || submission.provision_timeout().is_none() {
        return None;
    }
    let mut before = to_value(pods).ok()?;
    let mut patches = Vec::with_capacity(next.len());
    for placement in next {
        let after = to_value(pods_of(&with_placement(submission, placement))).ok()?;
        patches.push(diff(&before, &after));
        before = after;
    }
    serde_json::to_string(&patches).ok()
}

/// The pods of the next alternative, and the annotation for those after it. `None` if there is none, or if somebody has
/// changed the Job so that it cannot be told.
pub(super) fn next(pods: &PodTemplateSpec, annotation: &str) -> Option<(PodTemplateSpec, Option<String>)> {
    let patches: Vec<Patch> = serde_json::from_str(annotation).ok()?;
    let (first, others) = patches.split_first()?;
    let mut next = to_value(pods).ok()?;
    patch(&mut next, first).ok()?;
    let others = (!others.is_empty()).then(|| serde_json::to_string(others));
    Some((from_value(next).ok()?, others.transpose().ok()?))
}

fn with_placement(submission: &Submission, placement: &Placement) -> Submission {
    Submission {
        definition: TaskDefinition {
            resources: placement.resources.clone(),
            ..submission.definition.clone()
        },
        placement: placement.clone(),
        ..submission.clone()
    }
}
