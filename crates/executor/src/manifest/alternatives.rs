//! The alternatives of a task that follow one another, each when no cluster nodes were free in time for the one before.
//!
//! A Job has them as JSON patches of its pods, because its own manifest is all that a server has to make the next attempt
//! from.

use json_patch::{Patch, diff, patch};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
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
    let mut before = value(pods)?;
    let mut patches = Vec::with_capacity(next.len());
    for placement in next {
        let after = value(&pods_of(&with_placement(submission, placement)))?;
        patches.push(diff(&before, &after));
        before = after;
    }
    text(&patches)
}

/// The pods of the next alternative, and the annotation for those after it. `None` if there is none, or if somebody has
/// changed the Job so that it cannot be told.
pub(super) fn next(pods: &PodTemplateSpec, annotation: &str) -> Option<(PodTemplateSpec, Option<String>)> {
    let patches: Vec<Patch> = serde_json::from_str(annotation).ok()?;
    let (first, others) = patches.split_first()?;
    let mut next = value(pods)?;
    patch(&mut next, first).ok()?;
    let others = if others.is_empty() { None } else { text(others) };
    Some((from_value(next)?, others))
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

fn value(pods: &PodTemplateSpec) -> Option<Value> {
    serde_json::to_value(pods).ok()
}

fn from_value<T: DeserializeOwned>(value: Value) -> Option<T> {
    serde_json::from_value(value).ok()
}

fn text(patches: &(impl Serialize + ?Sized)) -> Option<String> {
    serde_json::to_string(patches).ok()
}
