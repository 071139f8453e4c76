//! What Kubernetes does by itself. The controllers see each change in the transaction that made it, and what they do about
//! it is a part of that transaction: there is no moment, and no crash, between a cause and its effect.

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

/// How long an event is kept: Kubernetes' default.
const EVENT_LIFE: Duration = Duration::from_secs(3600);

/// How often old events are looked for.
const EVENT_SWEEP: Duration = Duration::from_secs(300);

/// How soon the next of them are removed when there are many.
const MORE_EVENTS: Duration = Duration::from_millis(100);

/// How soon the next pods are told why they wait when there are many.
const MORE_TELLING: Duration = Duration::from_millis(50);

/// How far away a timer may be: no clock has room for every number that an object may hold.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// All controllers, and what they have to remember between transactions. All of it can be read again from the store.
#[derive(Debug, Default)]
pub struct Controllers {
    scheduler: schedule::Scheduler,
    /// When to look at which object again. Tokio's clock, which is the machine's unless it is paused; it needs no runtime.
    timers: BTreeMap<Instant, BTreeSet<Key>>,
    next_sweep: Option<Instant>,
    /// When more pods are told why they wait.
    next_telling: Option<Instant>,
    /// Whether what is remembered must be read again.
    is_stale: bool,
}

impl Controllers {
    /// Reads what is remembered, and does what was left undone.
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
        // One that a controller panics over now is looked at again when it changes.
        self.is_stale = false;
        self.react(transaction);
    }

    /// What is remembered may be wrong.
    pub fn forget(&mut self) {
        self.is_stale = true;
    }

    /// Does something about each change that was not seen yet, and about the changes this makes, until there are none.
    pub fn react(&mut self, transaction: &mut Transaction<'_>) {
        if std::mem::take(&mut self.is_stale) {
            self.load(transaction);
        }
        loop {
            let mut unseen = transaction.take_unseen();
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

    /// Does what was to be done by now.
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

    /// When there is something to be done.
    pub fn next_wake(&self) -> Option<Instant> {
        let timer = self.timers.first_key_value().map(|(time, _)| *time);
        timer.into_iter().chain(self.next_sweep).chain(self.next_telling).min()
    }

    fn wake_at(&mut self, key: Key, wait: Duration) {
        // Whoever is looked at too early is looked at again.
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

    /// Does a part of the work that a panic undoes: an object that a controller panics over keeps the others from nothing, and leaves
    /// no half of an effect. What is remembered of it is read again.
    fn guarded(
        &mut self,
        transaction: &mut Transaction<'_>,
        work: impl FnOnce(&mut Self, &mut Transaction<'_>) -> Result<(), Refusal>,
    ) {
        let done = transaction.undone_by_a_panic(|transaction| work(self, transaction));
        self.is_stale |= done.is_err();
        report(done.and_then(|result| result));
    }

    /// Brings one object where it should be.
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
            "a controller could not do its work"
        );
    }
}
