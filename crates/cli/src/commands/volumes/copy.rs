//! `k8s-cli volumes cp`: copies between this machine and a volume.

use super::copy_in::copy_in;
use super::copy_out::copy_out;
use crate::args::{CopyArgs, CopyPlace};
use crate::context::Context;
use crate::error::{Error, Result};

pub(super) async fn run(context: &Context, args: CopyArgs) -> Result<()> {
    match (args.source, args.target) {
        (CopyPlace::Here(source), CopyPlace::Volume(target)) => copy_in(context, &source, &target).await,
        (CopyPlace::Volume(source), CopyPlace::Here(target)) => copy_out(context, &source, &target).await,
        (CopyPlace::Here(source), CopyPlace::Here(target)) => Err(Error::Usage(format!(
            "neither `{source}` nor `{target}` is in a volume; write a volume as `my-data:/path`, or copy with `cp`"
        ))),
        (CopyPlace::Volume(source), CopyPlace::Volume(target)) => Err(Error::Usage(format!(
            "one of `{source}` and `{target}` must be on this machine; to copy between volumes, mount both in a task: \
             `k8s-cli jobs submit --volume {}:/from --volume {}:/to -- cp -a /from/... /to/`",
            source.volume, target.volume
        ))),
    }
}
