//! `k8s-cli jobs cancel`: ends tasks, and keeps their status and logs.

use task::wire::TaskStatus;

use super::end_each::end_each;
use crate::args::CancelArgs;
use crate::client::CancelAllResponse;
use crate::commands::remove::confirm;
use crate::context::Context;
use crate::error::Result;
use crate::output::{plural, print, print_message};
use crate::resources::list;

pub(crate) async fn run(context: &Context, args: CancelArgs) -> Result<()> {
    if args.all {
        return cancel_all(context, args.all_users, args.yes).await;
    }
    let names: Vec<String> = args.tasks.into_iter().chain(args.name).collect();
    end_each(context, &names, args.ignore_not_found, ("cancel", "canceled")).await
}

async fn cancel_all(context: &Context, all_users: bool, yes: bool) -> Result<()> {
    if !yes {
        let tasks = list::<TaskStatus>(&context.client, all_users).await?;
        let unfinished = tasks.iter().filter(|task| !task.item.status.is_final()).count();
        if unfinished == 0 {
            print_message("no unfinished tasks found");
            return Ok(());
        }
        let scope = if all_users { " of all users" } else { "" };
        confirm(&format!("cancel {}{scope}", plural(unfinished, "task")), "--yes")?;
    }
    let path = format!("/tasks/cancel?all_users={all_users}");
    let response: CancelAllResponse = context.client.post(&path).await?;
    let count = usize::try_from(response.count).unwrap_or(usize::MAX);
    print(&format!("Canceled {}", plural(count, "task")))
}
