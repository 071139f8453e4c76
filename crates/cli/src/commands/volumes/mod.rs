//! `k8s-cli volumes`.

mod create;
mod delete;
mod list;
mod status;

use crate::args::VolumesCommand;
use crate::context::Context;
use crate::error::Result;

pub(crate) async fn run(context: Context, command: VolumesCommand) -> Result<()> {
    context.ensure_server().await?;
    match command {
        VolumesCommand::Create(args) => create::run(&context, args).await,
        VolumesCommand::List(args) => list::run(&context, args).await,
        VolumesCommand::Status(args) => status::run(&context, args).await,
        VolumesCommand::Delete(args) => delete::run(&context, args).await,
    }
}
