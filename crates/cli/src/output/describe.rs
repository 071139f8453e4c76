//! Details of one task or volume, similar to `kubectl describe`.

use std::fmt::Write;

use escape::escape_line;
use task::TaskState;
use task::record::{EndKind, TaskRecord};
use task::wire::{GroupExecution, NodeStatus, TaskStatus, VolumeStatus};

use super::duration::{age, human_duration};
use super::items::{Item, ItemColumn, ShowWhen, WithRaw, table};
use super::table::{Cell, fixed, flexible, or_dash, status_cell};
use super::terminal::Terminal;

pub(crate) fn describe_task(task: &TaskStatus, wide: bool, terminal: Terminal) -> String {
    let metadata = &task.metadata;
    let mut lines = vec![
        ("Task", task.task_id.clone()),
        ("Name", task.name.clone()),
        ("User", task.username.clone()),
        ("Status", task.status.to_string()),
    ];
    lines.extend(task.reason.clone().map(|reason| ("Reason", reason)));
    lines.extend(task.message.clone().map(|message| ("Message", message)));
    lines.push((
        "Created",
        format!("{} ({} ago)", task.created_at, age(&task.created_at)),
    ));
    lines.push((
        "Updated",
        format!("{} ({} ago)", task.updated_at, age(&task.updated_at)),
    ));
    lines.extend(metadata.group.as_ref().map(|group| {
        let place = format!(
            "{} ({}), task {} of {}",
            group.name,
            group.group_id,
            group.index + 1,
            group.size
        );
        ("Group", place)
    }));
    lines.push(("Nodes", node_counts(task)));
    if !metadata.endpoints.is_empty() {
        lines.push(("Endpoints", metadata.endpoints.join(", ")));
    }
    for attempt in &metadata.attempts {
        let duration = time_between(&attempt.started_at, &attempt.finished_at);
        let parts = [attempt.reason.as_deref(), attempt.message.as_deref()];
        let reason: Vec<&str> = parts.into_iter().flatten().collect();
        let text = format!(
            "attempt {} failed after {duration}: {}",
            attempt.attempt,
            reason.join(": ")
        );
        lines.push(("Previous", text));
    }
    if wide {
        lines.push(("Namespace", metadata.namespace.clone()));
    }
    let mut text = render_fields(&lines);
    if metadata.nodes.is_empty() {
        return text;
    }
    text.push('\n');
    let has_attempts = metadata.nodes.iter().any(|node| node.attempt > 1);
    let is_shown = |when| when == ShowWhen::Always || (wide && when == ShowWhen::Wide);
    let table = table(metadata.nodes.iter(), node_columns(has_attempts), is_shown);
    text.push_str(&table.render(terminal, true));
    text
}

/// A task that is gone: its last status, how it ended, and what it used.
pub(crate) fn describe_record(record: &TaskRecord, wide: bool, terminal: Terminal) -> String {
    let mut lines = Vec::new();
    if let Some(end) = &record.end {
        let by = end.by.as_ref().map(|user| format!(" by {user}")).unwrap_or_default();
        let how = match end.how {
            EndKind::Finished => "finished",
            EndKind::Cancelled => "canceled",
            EndKind::Stopped => "stopped",
            EndKind::Deleted => "deleted",
        };
        lines.push(("Ended", format!("{how}{by} at {} ({} ago)", end.at, age(&end.at))));
    }
    let usage = record.usage;
    let mut used = vec![format!("{:.2} node-hours", usage.node_hours)];
    let amounts = [
        (usage.cpu_hours, "CPU-hours"),
        (usage.memory_gib_hours, "GiB-hours"),
        (usage.gpu_hours, "GPU-hours"),
    ];
    let amounts = amounts.into_iter().filter(|(amount, _)| *amount > 0.0);
    used.extend(amounts.map(|(amount, unit)| format!("{amount:.2} {unit}")));
    lines.push(("Usage", used.join(", ")));
    for log in record.logs.iter().filter(|log| log.lost.is_some()) {
        let lost = log.lost.as_deref().unwrap_or_default();
        lines.push(("Log", format!("a part of node {} is missing: {lost}", log.rank)));
    }
    format!(
        "{}\n{}",
        render_fields(&lines),
        describe_task(&record.task, wide, terminal)
    )
}

/// A group: what its tasks have in common, and a line for each.
pub(crate) fn describe_group(id: &str, tasks: &[WithRaw<TaskStatus>], wide: bool, terminal: Terminal) -> String {
    let Some((first, group)) = tasks
        .first()
        .and_then(|first| Some((&first.item, first.item.metadata.group.as_ref()?)))
    else {
        return String::new();
    };
    let execution = match (group.execution, group.max_parallel) {
        (GroupExecution::Serial, _) => "one after the other".to_owned(),
        (GroupExecution::Parallel, None) => "side by side".to_owned(),
        (GroupExecution::Parallel, Some(most)) => format!("at most {most} at the same time"),
    };
    let count = |state: TaskState| tasks.iter().filter(|task| task.item.status == state).count();
    let states = [
        TaskState::Pending,
        TaskState::Running,
        TaskState::Completed,
        TaskState::Failed,
    ];
    let counts = states.map(|state| (count(state), state));
    let counts: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, state)| format!("{count} {state}"))
        .collect();
    let mut text = render_fields(&[
        ("Group", id.to_owned()),
        ("Name", group.name.clone()),
        ("User", first.username.clone()),
        ("Runs", execution),
        ("Tasks", format!("{} ({})", group.size, counts.join(", "))),
        (
            "Created",
            format!("{} ({} ago)", first.created_at, age(&first.created_at)),
        ),
    ]);
    text.push('\n');
    let is_shown = |when| when == ShowWhen::Always || (wide && when == ShowWhen::Wide);
    let table = table(tasks.iter().map(|task| &task.item), TaskStatus::columns(), is_shown);
    text.push_str(&table.render(terminal, true));
    text
}

fn node_counts(task: &TaskStatus) -> String {
    let metadata = &task.metadata;
    let parts = [
        (metadata.pending_nodes, "pending"),
        (metadata.running_nodes, "running"),
        (metadata.succeeded_nodes, "succeeded"),
        (metadata.failed_nodes, "failed"),
    ];
    let counts: Vec<String> = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    format!("{} ({})", metadata.num_nodes, counts.join(", "))
}

fn node_columns(has_attempts: bool) -> Vec<ItemColumn<NodeStatus>> {
    let attempt = if has_attempts {
        ItemColumn::new
    } else {
        ItemColumn::wide
    };
    vec![
        ItemColumn::new(fixed("NODE"), |node| Cell::from(node.rank.to_string())),
        attempt(fixed("ATTEMPT"), |node: &NodeStatus| {
            Cell::from(node.attempt.to_string())
        }),
        ItemColumn::new(fixed("STATUS"), |node| status_cell(node.status)),
        ItemColumn::new(flexible("REASON"), |node| or_dash(node.reason.as_ref())),
        ItemColumn::new(fixed("EXIT"), |node| {
            Cell::from(node.exit_code.map_or_else(|| "-".to_owned(), |code| code.to_string()))
        }),
        ItemColumn::new(fixed("AGE"), |node| {
            Cell::from(node.started_at.as_deref().map_or_else(|| "-".to_owned(), age))
        }),
        ItemColumn::new(fixed("TIME"), |node| Cell::from(node_duration(node))),
        ItemColumn::new(flexible("CLUSTER NODE"), |node| or_dash(node.node_name.as_ref())),
        ItemColumn::wide(fixed("IP"), |node| or_dash(node.pod_ip.as_ref())),
        ItemColumn::wide(flexible("JOB"), |node| Cell::from(node.job_name.as_str())),
        ItemColumn::wide(flexible("POD"), |node| or_dash(node.pod_name.as_ref())),
    ]
}

/// How long a node ran or, if it is still running, has been running.
pub(crate) fn node_duration(node: &NodeStatus) -> String {
    time_between(&node.started_at, &node.finished_at)
}

/// The time from start to end or, without an end, until now.
fn time_between(start: &Option<String>, end: &Option<String>) -> String {
    let time = |text: &Option<String>| text.as_deref()?.parse::<jiff::Timestamp>().ok();
    match (time(start), time(end)) {
        (Some(start), end) => human_duration(end.unwrap_or_else(jiff::Timestamp::now).duration_since(start)),
        (None, _) => "-".to_owned(),
    }
}

pub(crate) fn describe_volume(volume: &VolumeStatus, wide: bool) -> String {
    let mut lines = vec![
        ("Volume", volume.volume_id.clone()),
        ("Name", volume.name.clone()),
        ("User", volume.username.clone()),
        ("Status", volume.status.clone()),
        ("Size", volume.size.clone()),
        ("Access", volume.access_modes.join(", ")),
        ("Class", volume.storage_class.clone().unwrap_or_else(|| "-".to_owned())),
        (
            "Created",
            format!("{} ({} ago)", volume.created_at, age(&volume.created_at)),
        ),
    ];
    if wide {
        lines.push(("Namespace", volume.metadata.namespace.clone()));
        lines.push(("Claim", volume.metadata.pvc_name.clone()));
    }
    render_fields(&lines)
}

fn render_fields(lines: &[(&str, String)]) -> String {
    let mut text = String::new();
    for (name, value) in lines {
        let _ = writeln!(text, "{:<10} {}", format!("{name}:"), escape_line(value));
    }
    text
}
