//! `k8s-cli gpus`: lists GPUs by model: how many are free, and who uses the rest.

use serde_json::Value;
use task::wire::{GpuHolder, GpuModel};

use crate::args::{Format, GpusArgs};
use crate::client::GpusResponse;
use crate::context::Context;
use crate::error::Result;
use crate::output::{self, Cell, Table, fixed, flexible, print, print_message};

pub(crate) async fn run(context: &Context, args: &GpusArgs) -> Result<()> {
    context.ensure_server().await?;
    match args.output.format {
        Format::Json => print(&output::json(&context.client.get::<Value>("/gpus").await?)),
        Format::Yaml => print(&output::yaml(&context.client.get::<Value>("/gpus").await?)?),
        format => print_table(context, format).await,
    }
}

async fn print_table(context: &Context, format: Format) -> Result<()> {
    let GpusResponse { gpus } = context.client.get("/gpus").await?;
    if format == Format::Name {
        let models: Vec<&str> = gpus.iter().map(|model| model.model.as_str()).collect();
        return print(&models.join("\n"));
    }
    if gpus.is_empty() {
        print_message("no GPUs found");
        return Ok(());
    }
    let mut table = Table::new(&[
        fixed("MODEL"),
        fixed("TOTAL"),
        fixed("FREE"),
        fixed("FREE ON ONE NODE"),
        flexible("USED BY"),
    ]);
    for model in &gpus {
        table.add_row(vec![
            Cell::from(model.model.as_str()),
            Cell::from(model.total.to_string()),
            Cell::from(model.free.to_string()),
            Cell::from(model.largest_free.to_string()),
            Cell::from(holders(model)),
        ]);
    }
    print(table.render(context.terminal, true).trim_end())
}

/// Who uses the accelerators of a model, e.g., `alice: 4 (o88a2kzz), others: 2`.
fn holders(model: &GpuModel) -> String {
    let describe = |holder: &GpuHolder| match (&holder.username, &holder.task_id) {
        (Some(user), Some(id)) => format!("{user}: {} ({id})", holder.count),
        _ => format!("other applications: {}", holder.count),
    };
    let all: Vec<String> = model.holders.iter().map(describe).collect();
    if all.is_empty() { "-".to_owned() } else { all.join(", ") }
}
