//! Readiness probes: commands in a container that determine whether it is ready.

use std::process::Stdio;
use std::time::Duration;

use k8s_openapi::api::core::v1::Probe;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use crate::container::{ContainerDir, EXEC_ARGUMENT};
use crate::own_program::own_program;

/// Readiness of a container, and the settings of its probe.
#[derive(Debug)]
pub(super) struct ReadinessProbe {
    command: Vec<String>,
    period: Duration,
    timeout: Duration,
    successes_needed: i32,
    failures_needed: i32,
    next: Duration,
    consecutive: (bool, i32),
    pub is_ready: bool,
}

impl ReadinessProbe {
    /// Reads the settings of a probe, with Kubernetes' defaults. A container without a probe is ready when it runs.
    pub(crate) fn new(probe: Option<&Probe>) -> Self {
        let command = probe
            .and_then(|probe| probe.exec.as_ref()?.command.clone())
            .unwrap_or_default();
        let seconds = |value: Option<i32>, default: i32| {
            Duration::from_secs(u64::try_from(value.unwrap_or(default)).unwrap_or(1))
        };
        Self {
            is_ready: command.is_empty(),
            command,
            period: seconds(probe.and_then(|probe| probe.period_seconds), 10),
            timeout: seconds(probe.and_then(|probe| probe.timeout_seconds), 1),
            successes_needed: probe.and_then(|probe| probe.success_threshold).unwrap_or(1),
            failures_needed: probe.and_then(|probe| probe.failure_threshold).unwrap_or(3),
            next: seconds(probe.and_then(|probe| probe.initial_delay_seconds), 0),
            consecutive: (false, 0),
        }
    }

    /// Waits for the result of the next probe, and returns whether the readiness changed. Never resolves without a
    /// probe.
    pub(crate) async fn next(&mut self, dir: &ContainerDir) -> bool {
        if self.command.is_empty() {
            return std::future::pending().await;
        }
        sleep(self.next).await;
        self.next = self.period;
        let Some(process) = dir.started().and_then(|started| started.process) else {
            return false;
        };
        let Ok(program) = own_program() else { return false };
        let mut command = Command::new(program);
        command.arg(EXEC_ARGUMENT).arg(process.to_string()).args(&self.command);
        let spec = dir.spec();
        command
            .env_clear()
            .envs(spec.into_iter().flat_map(|spec| spec.environment));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let status = timeout(self.timeout, command.status()).await;
        let succeeded = matches!(status, Ok(Ok(status)) if status.success());
        self.record_result(succeeded)
    }

    fn record_result(&mut self, succeeded: bool) -> bool {
        let (last, count) = self.consecutive;
        self.consecutive = (succeeded, if last == succeeded { count + 1 } else { 1 });
        let needed = if succeeded {
            self.successes_needed
        } else {
            self.failures_needed
        };
        let changes = self.consecutive.1 >= needed && self.is_ready != succeeded;
        if changes {
            self.is_ready = succeeded;
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ExecAction, Probe};

    use super::ReadinessProbe;

    #[test]
    fn thresholds_decide_when_readiness_changes() {
        let probe = Probe {
            exec: Some(ExecAction {
                command: Some(vec!["true".to_owned()]),
            }),
            success_threshold: Some(2),
            failure_threshold: Some(2),
            ..Probe::default()
        };
        let mut readiness = ReadinessProbe::new(Some(&probe));
        assert!(!readiness.is_ready);
        let changes: Vec<bool> = [true, true, true, false, true, false, false]
            .map(|one| readiness.record_result(one))
            .into();
        assert_eq!(changes, [false, true, false, false, false, false, true]);
        assert!(ReadinessProbe::new(None).is_ready);
    }
}
