//! Restarts a container in its pod.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::super::Newest;
use super::super::plan::Wish;
use super::super::status::{self, Ending};
use super::{RETRY, Worker, read_tail};
use crate::controllers::{EventKind, record_event};
use crate::object::later;
use crate::refusal::Refusal;

/// What to do after the back-off delay.
pub(super) enum Next {
    /// Restart the container.
    Again,
    /// The pod is being deleted or has exceeded its deadline.
    Over,
    /// The server is stopping, and the next one continues.
    Later,
}

impl Worker<'_> {
    /// Waits for the back-off delay, then resets the container's directory.
    pub(super) async fn wait_for_restart(&mut self, newest: &mut watch::Receiver<Newest>) -> Result<Next, Refusal> {
        let pause = self.tell_pause().await?;
        let due = Instant::now() + pause;
        while Instant::now() < due {
            let is_wanted = newest
                .borrow_and_update()
                .as_ref()
                .is_some_and(|pod| !pod.is_deleting());
            if !is_wanted || self.is_late(newest) {
                return Ok(Next::Over);
            }
            tokio::select! {
                () = sleep(RETRY.min(due - Instant::now())) => {}
                changed = newest.changed() => if changed.is_err() { return Ok(Next::Over) },
                () = self.node.stopping.cancelled() => return Ok(Next::Later),
            }
        }
        self.plan.restarts = self.plan.restarts.saturating_add(1);
        let (node, folder) = (Arc::clone(self.node), self.folder.clone());
        let renewed = self.node.aside.run(move || {
            // Volumes stay, because they belong to the pod.
            for doomed in [folder.work(), folder.temporary()] {
                let _ = node.trash.take(&doomed);
            }
            folder.renew()
        });
        renewed.await.map_err(Refusal::internal)?.map_err(Refusal::internal)?;
        Ok(Next::Again)
    }

    /// Reports how the container ended. Returns the delay before it is restarted.
    async fn tell_pause(&mut self) -> Result<Duration, Refusal> {
        let (outcome, started) = (self.folder.outcome(), self.folder.started().map(|started| started.at));
        let ran = outcome
            .as_ref()
            .zip(started)
            .map(|(outcome, started)| outcome.at - started);
        let pause = self
            .back_off
            .next(ran.and_then(|ran| ran.try_into().ok()).unwrap_or_default());
        let ending = Ending {
            outcome: outcome.as_ref(),
            started,
            message: read_tail(&self.folder.last_words()),
            is_late: false,
        };
        self.plan.last_state = status::terminated(&self.plan, &ending, Timestamp::now()).0;
        let plan = self.plan.clone();
        self.change(move |transaction, mut pod| {
            status::backs_off(&mut pod, &plan, pause, transaction.now);
            let pod = transaction.update(pod)?;
            let message = format!("Back-off restarting failed container {}", plan.container.name);
            record_event(transaction, &pod, EventKind::Warning, "kubelet", "BackOff", &message)
        })
        .await?;
        Ok(pause)
    }

    /// Whether the pod has exceeded its deadline.
    pub(super) fn is_late(&self, newest: &watch::Receiver<Newest>) -> bool {
        let deadline = newest.borrow().as_ref().and_then(|pod| Wish::read(pod).deadline);
        let started = self.plan.started.zip(deadline);
        started.is_some_and(|(started, seconds)| later(started, seconds) <= Timestamp::now())
    }
}
