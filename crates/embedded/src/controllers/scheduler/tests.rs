//! When the scheduler looks at waiting pods again, and how it reports why they wait.

use serde_json::{Value, json};

use super::{MAX_REPORTS, Scheduler};
use crate::controllers::ControllerManager;
use crate::object::{Kind, Object};
use crate::random::Random;
use crate::store::{Durability, ObjectChange, Store, WriteMode};

fn pod(name: &str, spec: &Value) -> Object {
    let mut value = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"containers": [{"name": "task", "resources": {"requests": {"cpu": "1"}}}]},
        "status": {"phase": "Pending"},
    });
    for (key, one) in spec.as_object().unwrap() {
        value["spec"][key] = one.clone();
    }
    Object::from_stored(Kind::Pod, value)
}

fn changed(before: Option<&Object>, after: Option<&Object>) -> ObjectChange {
    ObjectChange {
        before: before.cloned(),
        after: after.cloned(),
    }
}

/// A scheduler with one bound pod, and many waiting pods that were already tried.
fn crowded(many: usize) -> (Scheduler, Object) {
    let mut scheduler = Scheduler::default();
    let bound = pod("placed", &json!({"nodeName": "node"}));
    scheduler.pod_changed(&changed(None, Some(&bound))).unwrap();
    for index in 0..many {
        let waits = pod(&format!("waits-{index}"), &json!({}));
        scheduler.pod_changed(&changed(None, Some(&waits))).unwrap();
    }
    assert_eq!(scheduler.take_due().len(), many);
    (scheduler, bound)
}

/// Regression test: each status update of a running pod made the scheduler try all waiting pods.
#[test]
fn only_what_frees_something_costs_a_look_at_all_who_wait() {
    let (mut scheduler, bound) = crowded(3000);
    let mut running = bound.clone();
    running.value_mut()["status"]["phase"] = "Running".into();
    scheduler.pod_changed(&changed(Some(&bound), Some(&running))).unwrap();
    assert_eq!(scheduler.take_due().len(), 0);
    let newcomer = pod("newcomer", &json!({}));
    scheduler.pod_changed(&changed(None, Some(&newcomer))).unwrap();
    assert_eq!(scheduler.take_due().len(), 1);
    scheduler.pod_changed(&changed(Some(&newcomer), None)).unwrap();
    assert_eq!(scheduler.take_due().len(), 0);
    let mut ended = running.clone();
    ended.value_mut()["status"]["phase"] = "Succeeded".into();
    scheduler.pod_changed(&changed(Some(&running), Some(&ended))).unwrap();
    assert_eq!(scheduler.take_due().len(), 3000);
}

#[tokio::test]
async fn those_who_hear_why_they_wait_do_not_hear_it_all_in_one_transaction() {
    let many = MAX_REPORTS * 2 + 1;
    let store = Store::in_memory(
        Box::new(ControllerManager::default()),
        clock::Clock::system(),
        Random::default(),
    )
    .unwrap();
    let reports = store.write_or_dry_run(Durability::Process, WriteMode::DryRun, move |transaction| {
        let mut scheduler = Scheduler::default();
        for index in 0..many {
            let made = transaction.create(pod(&format!("waits-{index}"), &json!({})))?;
            scheduler.pod_changed(&changed(None, Some(&made))).unwrap();
        }
        transaction.take_changes();
        let mut reports = Vec::new();
        loop {
            scheduler.schedule_due(transaction)?;
            let change = transaction.take_changes();
            reports.push(change.iter().filter(|one| is_pod(one)).count());
            if !scheduler.has_unreported() {
                return Ok(reports);
            }
            scheduler.resume_reporting();
        }
    });
    assert_eq!(reports.await.unwrap(), [MAX_REPORTS, MAX_REPORTS, 1]);
}

fn is_pod(change: &ObjectChange) -> bool {
    change.after.as_ref().is_some_and(|after| after.kind == Kind::Pod)
}
