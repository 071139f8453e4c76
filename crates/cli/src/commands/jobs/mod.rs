//! `k8s-cli jobs`: runs its subcommands, one module each.

mod cancel;
mod end_each;
mod group;
mod history;
mod kept;
mod list;
mod logs;
mod outcome;
mod outputs;
mod status;
mod stop;
mod submit;
mod top;
mod wait;

use crate::args::JobsCommand;
use crate::context::Context;
use crate::error::Result;

pub(crate) async fn run(context: Context, command: JobsCommand) -> Result<()> {
    let is_submit = matches!(command, JobsCommand::Submit(_));
    if !is_submit {
        context.ensure_server().await?;
    }
    match command {
        JobsCommand::Submit(args) => submit::run(&context, *args).await,
        JobsCommand::List(args) => list::run(&context, args).await,
        JobsCommand::Status(args) => status::run(&context, args).await,
        JobsCommand::Stop(args) => stop::run(&context, args).await,
        JobsCommand::Cancel(args) => cancel::run(&context, args).await,
        JobsCommand::Logs(args) => logs::run(&context, args).await,
        JobsCommand::Outputs(args) => outputs::run(&context, args).await,
        JobsCommand::Wait(args) => wait::run(&context, args).await,
        JobsCommand::Top(args) => top::run(&context, args).await,
    }
}
