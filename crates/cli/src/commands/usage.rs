//! `k8s-cli usage`: reports the CPU-, memory-, and GPU-hours of users.

use serde_json::Value;
use task::record::{Usage, UsageReport};

use crate::args::{ReportFormat, UsageArgs};
use crate::context::Context;
use crate::error::Result;
use crate::output::{self, Cell, Table, fixed, flexible, print, print_message};
use crate::resources::percent_encode;

pub(crate) async fn run(context: &Context, args: &UsageArgs) -> Result<()> {
    context.ensure_server().await?;
    let mut path = format!("/usage?since={}", percent_encode(&args.since));
    if let Some(until) = &args.until {
        path.push_str(&format!("&until={}", percent_encode(until)));
    }
    if args.all_users {
        path.push_str("&all_users=true");
    }
    match args.output.format {
        ReportFormat::Json => print(&output::json(&context.client.get::<Value>(&path).await?)),
        ReportFormat::Yaml => print(&output::yaml(&context.client.get::<Value>(&path).await?)?),
        ReportFormat::Text => print_table(context, context.client.get(&path).await?),
    }
}

fn print_table(context: &Context, report: UsageReport) -> Result<()> {
    if report.users.is_empty() {
        print_message("no tasks found");
        return Ok(());
    }
    let mut table = Table::new(&[
        flexible("USER"),
        fixed("TASKS"),
        fixed("NODE-HOURS"),
        fixed("CPU-HOURS"),
        fixed("MEMORY GIB-HOURS"),
        fixed("GPU-HOURS"),
    ]);
    let mut add = |name: &str, tasks: u64, usage: Usage| {
        let amounts = [
            usage.node_hours,
            usage.cpu_hours,
            usage.memory_gib_hours,
            usage.gpu_hours,
        ];
        let cells = [Cell::from(name), Cell::from(tasks.to_string())];
        table.add_row(
            cells
                .into_iter()
                .chain(amounts.map(|hours| Cell::from(format!("{hours:.2}"))))
                .collect(),
        );
    };
    let (mut all_tasks, mut all) = (0, Usage::default());
    for user in &report.users {
        add(&user.username, user.tasks, user.usage);
        all_tasks += user.tasks;
        all += user.usage;
    }
    if report.users.len() > 1 {
        add("(all)", all_tasks, all);
    }
    print(table.render(context.terminal, true).trim_end())
}
