//! The controllers: scheduler, Jobs, claims, quotas, namespaces, and garbage collection.
//!
//! Controllers see each change within the transaction that made it, and their own changes are part of that transaction.
//! So no client, and no crash, can come between a cause and its effect.

mod claim;
mod collect;
pub mod delete;
mod event;
mod job;
mod job_decision;
mod namespace;
pub mod quota;
mod schedule;

pub use event::{Kind as EventKind, record as record_event};
pub use schedule::set_condition;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::object::{Key, Object, kind_of};
use crate::refusal::Refusal;
use crate::store::{Touched, Transaction};

/// How long events are kept; Kubernetes' default.
const EVENT_LIFE: Duration = Duration::from_secs(3600);

/// Interval between removals of old events.
const EVENT_SWEEP: Duration = Duration::from_secs(300);

/// Pause between batches of old events.
const MORE_EVENTS: Duration = Duration::from_millis(100);

/// Pause between batches of pods whose reason for waiting is updated.
const MORE_TELLING: Duration = Duration::from_millis(50);

/// Longest timer. Objects may have numbers that would overflow an `Instant`.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// All controllers, and the state that they keep between transactions. All of it can be rebuilt from the store.
#[derive(Debug, Default)]
pub struct Controllers {
    scheduler: schedule::Scheduler,
    /// When to reconcile which object. By tokio's clock, which simulations pause; it works without a runtime, too.
    timers: BTreeMap<Instant, BTreeSet<Key>>,
    next_sweep: Option<Instant>,
    /// When the scheduler continues to report why pods wait.
    next_telling: Option<Instant>,
    /// Whether the state must be rebuilt.
    is_stale: bool,
}

impl Controllers {
    /// Rebuilds the state, and does what was left undone.
    pub fn load(&mut self, transaction: &mut Transaction<'_>) {
        *self = Self::default();
        self.next_sweep = Some(Instant::now());
        let loaded = self.scheduler.load(transaction).and_then(|()| {
            for kind in ["namespaces", "resourcequotas", "persistentvolumeclaims", "jobs"] {
                for object in transaction.active(kind_of(kind))? {
                    self.guarded(transaction, |this, transaction| {
                        this.reconcile(transaction, &object.key())
                    });
                }
            }
            Ok(())
        });
        report(loaded);
        // An object whose reconciliation panicked is reconciled when it changes; rebuilding again would loop.
        self.is_stale = false;
        self.react(transaction);
    }

    /// Marks the state as stale, e.g., after a rollback.
    pub fn forget(&mut self) {
        self.is_stale = true;
    }

    /// Reacts to unseen changes, and to the changes that this makes, until there are none.
    pub fn react(&mut self, transaction: &mut Transaction<'_>) {
        if std::mem::take(&mut self.is_stale) {
            self.load(transaction);
        }
        loop {
            let mut unseen = transaction.take_unseen();
            // The scheduler runs when everything else is settled, so that it tries the pods once per round.
            if unseen.is_empty() {
                self.guarded(transaction, |this, transaction| this.scheduler.place(transaction));
                unseen = transaction.take_unseen();
            }
            if unseen.is_empty() {
                break;
            }
            for touched in unseen {
                self.guarded(transaction, |this, transaction| this.look_at(transaction, &touched));
            }
        }
        if self.scheduler.has_more() && self.next_telling.is_none() {
            self.next_telling = Some(Instant::now() + MORE_TELLING);
        }
    }

    /// Does what is due by now.
    pub fn wake(&mut self, transaction: &mut Transaction<'_>) {
        let now = Instant::now();
        while let Some(entry) = self.timers.first_entry().filter(|entry| *entry.key() <= now) {
            for key in entry.remove() {
                self.guarded(transaction, |this, transaction| this.reconcile(transaction, &key));
            }
        }
        if self.next_telling.is_some_and(|time| time <= now) {
            self.next_telling = None;
            self.scheduler.go_on();
        }
        if self.next_sweep.is_some_and(|time| time <= now) {
            self.next_sweep = Some(now + EVENT_SWEEP);
            match event::sweep(transaction, EVENT_LIFE) {
                Ok(true) => self.next_sweep = Some(now + MORE_EVENTS),
                swept => report(swept.map(drop)),
            }
        }
        self.react(transaction);
    }

    /// When something is due next.
    pub fn next_wake(&self) -> Option<Instant> {
        let timer = self.timers.first_key_value().map(|(time, _)| *time);
        timer.into_iter().chain(self.next_sweep).chain(self.next_telling).min()
    }

    fn wake_at(&mut self, key: Key, wait: Duration) {
        // Reconciling too early does no harm: it sets the next timer.
        let due = Instant::now() + wait.min(LONGEST_WAIT);
        self.timers.entry(due).or_default().insert(key);
    }

    fn look_at(&mut self, transaction: &mut Transaction<'_>, touched: &Touched) -> Result<(), Refusal> {
        let Some(object) = touched.after.as_ref().or(touched.before.as_ref()) else {
            return Ok(());
        };
        match object.kind.plural {
            "pods" => self.pod_changed(transaction, touched, object)?,
            "nodes" => self.scheduler.node_changed(touched),
            "persistentvolumeclaims" => self.scheduler.claim_changed(),
            "storageclasses" => {
                for claim in transaction.active(kind_of("persistentvolumeclaims"))? {
                    claim::reconcile(transaction, &self.scheduler, claim)?;
                }
            }
            "events" => return Ok(()),
            _ => {}
        }
        match &touched.after {
            Some(after) => {
                if touched.before.is_none() {
                    collect::created(transaction, after)?;
                }
                collect::deleting(transaction, after)?;
                if matches!(
                    after.kind.plural,
                    "jobs" | "persistentvolumeclaims" | "resourcequotas" | "namespaces"
                ) {
                    self.reconcile(transaction, &after.key())?;
                }
            }
            None => {
                collect::removed(transaction, object)?;
                namespace::emptied(transaction, object.namespace())?;
            }
        }
        // Quotas count objects, and of pods only those that have not finished.
        if touched.before.is_none() != touched.after.is_none() || object.kind.plural == "pods" {
            quota::count(transaction, object)?;
        }
        Ok(())
    }

    fn pod_changed(
        &mut self,
        transaction: &mut Transaction<'_>,
        touched: &Touched,
        pod: &Object,
    ) -> Result<(), Refusal> {
        self.scheduler.pod_changed(touched);
        let gone = touched
            .after
            .as_ref()
            .is_none_or(|after| !(after.kind.is_active)(&after.value));
        if gone {
            claim::released(transaction, &self.scheduler, pod)?;
        }
        let owners = pod.owners();
        if let Some(owner) = owners.iter().find(|owner| owner.controller && owner.kind == "Job") {
            let key = Key {
                kind: "jobs",
                namespace: pod.namespace().to_owned(),
                name: owner.name.to_owned(),
            };
            self.reconcile(transaction, &key)?;
        }
        Ok(())
    }

    /// Runs `work` in a savepoint. If it panics, its changes are rolled back, and the state is rebuilt: an object that
    /// makes a controller panic doesn't affect others, and leaves no partial changes.
    fn guarded(
        &mut self,
        transaction: &mut Transaction<'_>,
        work: impl FnOnce(&mut Self, &mut Transaction<'_>) -> Result<(), Refusal>,
    ) {
        let done = transaction.undone_by_a_panic(|transaction| work(self, transaction));
        self.is_stale |= done.is_err();
        report(done.and_then(|result| result));
    }

    fn reconcile(&mut self, transaction: &mut Transaction<'_>, key: &Key) -> Result<(), Refusal> {
        let Some(object) = transaction.get(kind_of(key.kind), &key.namespace, &key.name)? else {
            return Ok(());
        };
        match key.kind {
            "jobs" => {
                if let Some(wait) = job::reconcile(transaction, object)? {
                    self.wake_at(key.clone(), wait);
                }
            }
            "persistentvolumeclaims" => claim::reconcile(transaction, &self.scheduler, object)?,
            "resourcequotas" => quota::reconcile(transaction, object)?,
            "namespaces" => namespace::reconcile(transaction, &object)?,
            _ => {}
        }
        Ok(())
    }
}

fn report(result: Result<(), Refusal>) {
    if let Err(refusal) = result {
        tracing::warn!(
            reason = refusal.reason,
            message = refusal.message,
            "failed to reconcile an object"
        );
    }
}
