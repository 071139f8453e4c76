//! `k8s-cli jobs stop`: stops tasks, and deletes their status and logs.

use task::wire::TaskStatus;

use super::end_each::end_each;
use crate::args::StopArgs;
use crate::client::StopAllResponse;
use crate::commands::remove::confirm;
use crate::context::Context;
use crate::error::Result;
use crate::output::{plural, print, print_message};
use crate::resources::list;

pub(crate) async fn run(context: &Context, args: StopArgs) -> Result<()> {
    if args.all {
        return stop_all(context, args.all_users, args.yes).await;
    }
    end_each(context, &args.tasks, args.ignore_not_found, ("stop", "stopped")).await
}

async fn stop_all(context: &Context, all_users: bool, yes: bool) -> Result<()> {
    if !yes {
        let tasks = list::<TaskStatus>(&context.client, all_users).await?;
        let finished = tasks.iter().filter(|task| task.item.status.is_final()).count();
        if tasks.is_empty() {
            print_message("no tasks found");
            return Ok(());
        }
        let scope = if all_users { " of all users" } else { "" };
        let stop = format!("stop {}{scope}", plural(tasks.len() - finished, "task"));
        let delete = format!("delete {} with logs", plural(finished, "finished task"));
        let action = match (tasks.len() - finished, finished) {
            (_, 0) => stop,
            (0, _) => format!("delete {}{scope} with logs", plural(finished, "finished task")),
            _ => format!("{stop}, and {delete}"),
        };
        confirm(&action, "--yes")?;
    }
    let response: StopAllResponse = context
        .client
        .post(&format!("/tasks/stop?all_users={all_users}"))
        .await?;
    let count = usize::try_from(response.count).unwrap_or(usize::MAX);
    print(&format!("Stopped {}", plural(count, "task")))
}
