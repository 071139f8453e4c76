//! `k8s-cli volumes ls VOLUME` and `k8s-cli volumes du`: what is in a volume.

use std::io::Write;

use super::on_volume::{check_end, check_path, refused, task};
use super::short_task::with_short_task;
use crate::args::VolumePath;
use crate::context::Context;
use crate::error::Result;
use crate::output::{EscapingWriter, raw_stdout};

/// Enough for bash to start within a moment, and too little to be in the way.
const CPUS: &str = "100m";

/// What to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Show {
    /// The files in a folder, with their sizes and times.
    Files,
    /// How much a folder, and everything in it, take.
    Usage,
}

impl Show {
    fn name(self) -> &'static str {
        match self {
            Self::Files => "ls",
            Self::Usage => "du",
        }
    }

    /// The command that prints it. Errors don't belong to its output, and become the message of the task.
    fn script(self) -> &'static str {
        match self {
            Self::Files => "ls -la -- \"$path\" 2>>/dev/termination-log\n",
            Self::Usage => "du -ah -d 1 -- \"$path\" 2>>/dev/termination-log\n",
        }
    }
}

pub(super) async fn run(context: &Context, show: Show, path: &VolumePath) -> Result<()> {
    let script = check_path(path)? + show.script();
    let body = task(show.name(), &path.volume, CPUS, &script);
    let task = with_short_task(context, &body, async |task| task.follow(stdout(context)?).await);
    check_end(&task.await.map_err(refused)?, path)
}

/// Standard output. What a file is called must not control a terminal.
fn stdout(context: &Context) -> Result<Box<dyn Write>> {
    let stdout = raw_stdout()?;
    Ok(match context.terminal.width {
        Some(_) => Box::new(EscapingWriter::new(stdout)),
        None => Box::new(stdout),
    })
}
