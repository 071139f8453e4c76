//! `k8s-cli jobs cancel`.

use task::wire::TaskStatus;

use crate::args::CancelArgs;
use crate::client::{CancelAllResponse, RemoveResponse};
use crate::commands::remove::{confirm, remove_each};
use crate::context::Context;
use crate::error::Result;
use crate::output::{plural, print, print_message};
use crate::resources::{Ambiguity, Target, find_targets, list};

pub(crate) async fn run(context: &Context, args: CancelArgs) -> Result<()> {
    if args.all {
        return cancel_all(context, args.all_users, args.yes).await;
    }
    let names: Vec<String> = args.tasks.into_iter().chain(args.name).collect();
    let targets = find_targets(&context.client, &names, args.ignore_not_found, Ambiguity::IsAnError).await?;
    let ids: Vec<&str> = targets.iter().map(Target::id).collect();
    let cancel = async |id: &str| {
        let target = targets.iter().find(|target| target.id() == id);
        let path = target.map(Target::path).unwrap_or_default();
        context.client.post::<RemoveResponse>(&format!("{path}/cancel")).await
    };
    remove_each("task", "canceled", &ids, cancel).await
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
