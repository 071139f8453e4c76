//! Runs the controllers: shows them each change, and keeps their timers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::scheduler::Scheduler;
use super::{events, garbage_collector, job, namespace, pvc, quota};
use crate::object::{Kind, Object, ObjectKey};
use crate::resources::is_terminal;
use crate::status_error::StatusError;
use crate::store::{ObjectChange, Transaction, TransactionHooks};

/// How long events are kept; Kubernetes' default.
const EVENT_TTL: Duration = Duration::from_secs(3600);

/// Interval between removals of old events.
const EVENT_PRUNE_INTERVAL: Duration = Duration::from_secs(300);

/// Pause between batches of old events.
const NEXT_EVENT_BATCH: Duration = Duration::from_millis(100);

/// Pause between batches of pods whose reason for waiting is updated.
const NEXT_REPORT_BATCH: Duration = Duration::from_millis(50);

/// Longest timer. Objects may have numbers that would overflow an `Instant`.
const MAX_TIMER: Duration = Duration::from_secs(24 * 3600);

/// Kinds with a controller of their own.
const RECONCILED: [Kind; 4] = [
    Kind::Namespace,
    Kind::ResourceQuota,
    Kind::PersistentVolumeClaim,
    Kind::Job,
];

/// All controllers, and the state that they keep between transactions. All of it can be rebuilt from the store.
#[derive(Debug, Default)]
pub(crate) struct ControllerManager {
    scheduler: Scheduler,
    /// When to reconcile which object. By tokio's clock, which simulations pause; it works without a runtime, too.
    timers: BTreeMap<Instant, BTreeSet<ObjectKey>>,
    next_event_pruning: Option<Instant>,
    /// When the scheduler continues to report why pods wait.
    next_reporting: Option<Instant>,
    /// Whether the state must be rebuilt.
    is_stale: bool,
}

impl TransactionHooks for ControllerManager {
    /// Rebuilds the state, and does what was left undone.
    fn on_open(&mut self, transaction: &mut Transaction<'_>) {
        *self = Self::default();
        self.next_event_pruning = Some(Instant::now());
        let loaded = self.scheduler.load(transaction).and_then(|()| {
            for kind in RECONCILED {
                for object in transaction.list_active(kind)? {
                    self.run_guarded(transaction, |this, transaction| {
                        this.reconcile(transaction, &object.key())
                    });
                }
            }
            for pod in transaction.list_active(Kind::Pod)? {
                self.run_guarded(transaction, |_, transaction| {
                    job::release_if_orphaned(transaction, &pod)
                });
            }
            Ok(())
        });
        log_error(loaded);
        // An object whose reconciliation panicked is reconciled when it changes; rebuilding again would loop.
        self.is_stale = false;
        self.on_changes(transaction);
    }

    fn on_rollback(&mut self) {
        self.is_stale = true;
    }

    /// Reacts to unseen changes, and to the changes that this makes, until there are none.
    fn on_changes(&mut self, transaction: &mut Transaction<'_>) {
        if std::mem::take(&mut self.is_stale) {
            self.on_open(transaction);
        }
        loop {
            let mut unseen = transaction.take_changes();
            // The scheduler runs when everything else is settled, so that it tries the pods once per round.
            if unseen.is_empty() {
                self.run_guarded(transaction, |this, transaction| {
                    this.scheduler.schedule_due(transaction)
                });
                unseen = transaction.take_changes();
            }
            if unseen.is_empty() {
                break;
            }
            for change in unseen {
                self.run_guarded(transaction, |this, transaction| {
                    this.handle_change(transaction, &change)
                });
            }
        }
        if self.scheduler.has_unreported() && self.next_reporting.is_none() {
            self.next_reporting = Some(Instant::now() + NEXT_REPORT_BATCH);
        }
    }

    fn on_timers(&mut self, transaction: &mut Transaction<'_>) {
        let now = Instant::now();
        while let Some(entry) = self.timers.first_entry().filter(|entry| *entry.key() <= now) {
            for key in entry.remove() {
                self.run_guarded(transaction, |this, transaction| this.reconcile(transaction, &key));
            }
        }
        if self.next_reporting.is_some_and(|time| time <= now) {
            self.next_reporting = None;
            self.scheduler.resume_reporting();
        }
        if self.next_event_pruning.is_some_and(|time| time <= now) {
            self.next_event_pruning = Some(now + EVENT_PRUNE_INTERVAL);
            match events::prune(transaction, EVENT_TTL) {
                Ok(true) => self.next_event_pruning = Some(now + NEXT_EVENT_BATCH),
                pruned => log_error(pruned.map(drop)),
            }
        }
        self.on_changes(transaction);
    }

    fn next_timer(&self) -> Option<Instant> {
        let timer = self.timers.first_key_value().map(|(time, _)| *time);
        timer
            .into_iter()
            .chain(self.next_event_pruning)
            .chain(self.next_reporting)
            .min()
    }
}

impl ControllerManager {
    fn requeue_after(&mut self, key: ObjectKey, wait: Duration) {
        // Reconciling too early does no harm: it sets the next timer.
        let due = Instant::now() + wait.min(MAX_TIMER);
        self.timers.entry(due).or_default().insert(key);
    }

    fn handle_change(&mut self, transaction: &mut Transaction<'_>, change: &ObjectChange) -> Result<(), StatusError> {
        let Some(object) = change.after.as_ref().or(change.before.as_ref()) else {
            return Ok(());
        };
        match object.kind {
            Kind::Pod => self.pod_changed(transaction, change, object)?,
            Kind::Node => self.scheduler.node_changed(change)?,
            Kind::PersistentVolumeClaim => self.scheduler.claim_changed(),
            Kind::StorageClass => {
                for claim in transaction.list_active(Kind::PersistentVolumeClaim)? {
                    pvc::reconcile(transaction, &self.scheduler, claim)?;
                }
            }
            Kind::Event => return Ok(()),
            _ => {}
        }
        match &change.after {
            Some(after) => {
                if change.before.is_none() {
                    garbage_collector::delete_if_orphaned(transaction, after)?;
                }
                garbage_collector::propagate_deletion(transaction, after)?;
                if RECONCILED.contains(&after.kind) {
                    self.reconcile(transaction, &after.key())?;
                }
            }
            None => {
                garbage_collector::collect_dependents(transaction, object)?;
                namespace::remove_if_empty(transaction, object.namespace())?;
            }
        }
        // Quotas count objects, and of pods only those that have not finished.
        if change.before.is_none() != change.after.is_none() || object.kind == Kind::Pod {
            quota::update_quotas(transaction, object)?;
        }
        Ok(())
    }

    fn pod_changed(
        &mut self,
        transaction: &mut Transaction<'_>,
        change: &ObjectChange,
        pod: &Object,
    ) -> Result<(), StatusError> {
        self.scheduler.pod_changed(change)?;
        let is_over = change.after.as_ref().is_none_or(is_terminal);
        if is_over {
            pvc::release_claims_of(transaction, &self.scheduler, pod)?;
        }
        let owners = pod.owner_references();
        if let Some(owner) = owners.iter().find(|owner| owner.is_controller && owner.kind == "Job") {
            let key = ObjectKey {
                kind: Kind::Job,
                namespace: pod.namespace().to_owned(),
                name: owner.name.to_owned(),
            };
            self.reconcile(transaction, &key)?;
        }
        match &change.after {
            Some(after) => job::release_if_orphaned(transaction, after),
            None => Ok(()),
        }
    }

    /// Runs `work` in a savepoint. If it panics, its changes are rolled back, and the state is rebuilt: an object that
    /// makes a controller panic doesn't affect others, and leaves no partial changes.
    fn run_guarded(
        &mut self,
        transaction: &mut Transaction<'_>,
        work: impl FnOnce(&mut Self, &mut Transaction<'_>) -> Result<(), StatusError>,
    ) {
        let done = transaction.catch_panic(|transaction| work(self, transaction));
        self.is_stale |= done.is_err();
        log_error(done.and_then(|result| result));
    }

    fn reconcile(&mut self, transaction: &mut Transaction<'_>, key: &ObjectKey) -> Result<(), StatusError> {
        let Some(object) = transaction.get(key.kind, &key.namespace, &key.name)? else {
            return Ok(());
        };
        match key.kind {
            Kind::Job => {
                if let Some(wait) = job::reconcile(transaction, object)? {
                    self.requeue_after(key.clone(), wait);
                }
            }
            Kind::PersistentVolumeClaim => pvc::reconcile(transaction, &self.scheduler, object)?,
            Kind::ResourceQuota => quota::reconcile(transaction, object)?,
            Kind::Namespace => namespace::reconcile(transaction, &object)?,
            _ => {}
        }
        Ok(())
    }
}

fn log_error(result: Result<(), StatusError>) {
    if let Err(error) = result {
        tracing::warn!(
            reason = error.reason.as_str(),
            message = error.message,
            "failed to reconcile an object"
        );
    }
}
