//! Says after a followed run which outputs it has kept.

use files::HumanSize;

use crate::client::OutputsResponse;
use crate::context::Context;
use crate::download::find_outputs;
use crate::error::Error;
use crate::output::{print_message, print_warning};

/// Names the command that downloads the outputs of a task.
pub(super) async fn tell_outputs(context: &Context, id: &str) {
    match find_outputs(context, id).await {
        Ok(outputs) => {
            let OutputsResponse { entries, bytes, .. } = outputs;
            let what = if entries == 1 {
                "1 entry".to_owned()
            } else {
                format!("{entries} entries")
            };
            print_message(&format!(
                "outputs kept: {what} ({}); download them with `k8s-cli jobs outputs {id}`",
                HumanSize(bytes)
            ));
        }
        // The server says why.
        Err(Error::NotFound(message)) => print_warning(&format!("no outputs of task {id}: {message}")),
        Err(error) => print_warning(&format!("cannot look up the outputs of task {id}: {}", error.message())),
    }
}
