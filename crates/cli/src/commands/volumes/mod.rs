//! `k8s-cli volumes`: runs its subcommands, one module each.

mod copy;
mod copy_in;
mod copy_out;
mod create;
mod delete;
mod list;
mod on_volume;
mod short_task;
mod show_files;
mod status;

use self::show_files::Show;
use crate::args::VolumesCommand;
use crate::context::Context;
use crate::error::Result;

pub(crate) async fn run(context: Context, command: VolumesCommand) -> Result<()> {
    context.ensure_server().await?;
    match command {
        VolumesCommand::Create(args) => create::run(&context, args).await,
        VolumesCommand::List(args) => list::run(&context, args).await,
        VolumesCommand::Cp(args) => copy::run(&context, args).await,
        VolumesCommand::Du(args) => show_files::run(&context, Show::Usage, &args.path).await,
        VolumesCommand::Status(args) => status::run(&context, args).await,
        VolumesCommand::Delete(args) => delete::run(&context, args).await,
    }
}
