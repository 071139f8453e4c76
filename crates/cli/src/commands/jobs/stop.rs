//! `k8s-cli jobs stop`.

use task::wire::TaskStatus;

use crate::args::Stop;
use crate::client::{Removed, Stopped};
use crate::commands::{confirm, remove_each};
use crate::context::Context;
use crate::error::Result;
use crate::output::{plural, print, say};
use crate::things::{find_all, list};

pub async fn run(context: &Context, args: Stop) -> Result<()> {
    if args.all {
        return all(context, args.all_users, args.yes).await;
    }
    let tasks = find_all::<TaskStatus>(&context.client, &args.tasks, args.ignore_not_found).await?;
    let ids: Vec<&str> = tasks.iter().map(|kept| kept.item.task_id.as_str()).collect();
    let stop = async |id: &str| context.client.post::<Removed>(&format!("/tasks/{id}/stop")).await;
    remove_each("task", "stopped", &ids, stop).await
}

async fn all(context: &Context, all_users: bool, yes: bool) -> Result<()> {
    if !yes {
        let tasks = list::<TaskStatus>(&context.client, all_users).await?;
        let ended = tasks.iter().filter(|kept| kept.item.status.is_final()).count();
        if tasks.is_empty() {
            say("no tasks found");
            return Ok(());
        }
        let whose = if all_users { " of all users" } else { "" };
        let stop = format!("stop {}{whose}", plural(tasks.len() - ended, "task"));
        let forget = format!("delete {} with logs", plural(ended, "finished task"));
        let action = match (tasks.len() - ended, ended) {
            (_, 0) => stop,
            (0, _) => format!("delete {}{whose} with logs", plural(ended, "finished task")),
            _ => format!("{stop}, and {forget}"),
        };
        confirm(&action, "--yes")?;
    }
    let answer: Stopped = context
        .client
        .post(&format!("/tasks/stop?all_users={all_users}"))
        .await?;
    let count = usize::try_from(answer.count).unwrap_or(usize::MAX);
    print(&format!("Stopped {}", plural(count, "task")))
}
