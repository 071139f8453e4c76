//! Restarts a container in its pod.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::super::pod_config::DesiredState;
use super::super::pod_status::{self, ContainerExit};
use super::super::restart_policy::RestartDecision;
use super::{EVENTS, LatestPod, PodWorker, RETRY_DELAY, read_termination_message};
use crate::object::add_seconds;
use crate::status_error::StatusError;

impl PodWorker<'_> {
    /// Waits for the back-off delay, then resets the container's directory.
    pub(super) async fn wait_for_restart(
        &mut self,
        latest: &mut watch::Receiver<LatestPod>,
    ) -> Result<RestartDecision, StatusError> {
        let delay = self.report_backoff().await?;
        let due = Instant::now() + delay;
        while Instant::now() < due {
            let is_wanted = latest
                .borrow_and_update()
                .as_ref()
                .is_some_and(|pod| !pod.is_deleting());
            if !is_wanted || self.deadline_exceeded(latest) {
                return Ok(RestartDecision::Finish);
            }
            tokio::select! {
                () = sleep(RETRY_DELAY.min(due - Instant::now())) => {}
                changed = latest.changed() => if changed.is_err() { return Ok(RestartDecision::Finish) },
                () = self.context.stopping.cancelled() => return Ok(RestartDecision::LeaveToNextServer),
            }
        }
        self.pod_config.restarts = self.pod_config.restarts.saturating_add(1);
        let (context, container_dir) = (Arc::clone(self.context), self.container_dir.clone());
        let renewed = self.context.blocking_pool.run(move || {
            // Volumes stay, because they belong to the pod.
            for dir in [container_dir.work(), container_dir.temporary()] {
                let _ = context.trash.move_to_trash(&dir);
            }
            container_dir.reset_for_restart()
        });
        renewed
            .await
            .map_err(StatusError::internal)?
            .map_err(StatusError::internal)?;
        Ok(RestartDecision::Restart)
    }

    /// Reports how the container ended. Returns the delay before it is restarted.
    async fn report_backoff(&mut self) -> Result<Duration, StatusError> {
        let (outcome, started) = (
            self.container_dir.outcome(),
            self.container_dir.started().map(|started| started.at),
        );
        let ran = outcome
            .as_ref()
            .zip(started)
            .map(|(outcome, started)| outcome.at - started);
        let delay = self
            .backoff
            .next(ran.and_then(|ran| ran.try_into().ok()).unwrap_or_default());
        let exit = ContainerExit {
            outcome: outcome.as_ref(),
            started,
            message: read_termination_message(&self.container_dir),
            deadline_exceeded: false,
        };
        self.pod_config.last_state = pod_status::terminated_state(&self.pod_config, &exit, Timestamp::now()).0;
        let pod_config = self.pod_config.clone();
        self.update_pod(move |transaction, mut pod| {
            pod.update_status(|status| {
                pod_status::set_crash_loop_backoff(status, &pod_config, delay, transaction.now);
            })?;
            let pod = transaction.update(pod)?;
            let message = format!("Back-off restarting failed container {}", pod_config.container.name);
            EVENTS.warning(transaction, &pod, "BackOff", &message)
        })
        .await?;
        Ok(delay)
    }

    /// Whether the pod has exceeded its deadline.
    pub(super) fn deadline_exceeded(&self, latest: &watch::Receiver<LatestPod>) -> bool {
        let deadline = latest
            .borrow()
            .as_ref()
            .and_then(|pod| DesiredState::from_pod(pod).active_deadline);
        let started = self.pod_config.started.zip(deadline);
        started.is_some_and(|(started, seconds)| add_seconds(started, seconds) <= Timestamp::now())
    }
}
