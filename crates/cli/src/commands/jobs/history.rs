//! `k8s-cli jobs list` for past tasks: pages through the history of the server.

use serde_json::value::RawValue;
use task::record::HistoryEntry;

use crate::args::{Format, ListArgs};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::{ListView, WithRaw, print_items, print_items_below, print_message};
use crate::resources::percent_encode;

/// The most tasks of one request.
const PAGE: usize = 1000;

/// A page as the server sent it.
#[derive(serde::Deserialize)]
struct RawPage {
    tasks: Vec<Box<RawValue>>,
    next_cursor: Option<String>,
}

/// Prints past and present tasks, newest first. A table grows page by page; other formats are printed at the end.
pub(super) async fn print_history(context: &Context, args: &ListArgs) -> Result<()> {
    if args.watch {
        return Err(Error::Usage(
            "`--watch` cannot be used with `--all`, `--since`, `--until`, or `--search`".to_owned(),
        ));
    }
    let mut view = ListView::of_list(&args.format, args.all_users, context.terminal);
    let is_table = matches!(view.format, Format::Table | Format::Wide);
    let mut left = args.last.unwrap_or(usize::MAX);
    let (mut cursor, mut tasks, mut widths, mut is_empty) = (None, Vec::new(), Vec::new(), true);
    while left > 0 {
        let page = fetch_page(context, args, left, cursor.as_deref()).await?;
        let page_tasks = decode(context, page.tasks, args)?;
        left -= page_tasks.len().min(left);
        is_empty &= page_tasks.is_empty();
        if is_table && !page_tasks.is_empty() {
            print_items_below(&page_tasks, &view, &mut widths)?;
            view.headers = false;
        } else {
            tasks.extend(page_tasks);
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    if is_table {
        if is_empty {
            print_message("no tasks found");
        }
        return Ok(());
    }
    print_items(&tasks, &view)
}

async fn fetch_page(context: &Context, args: &ListArgs, left: usize, cursor: Option<&str>) -> Result<RawPage> {
    let states: Vec<String> = args.status.iter().map(|state| state.state().to_string()).collect();
    let parameters = [
        ("limit", Some(left.min(PAGE).to_string())),
        ("all_users", args.all_users.then(|| "true".to_owned())),
        ("status", (!states.is_empty()).then(|| states.join(","))),
        ("since", args.since.clone()),
        ("until", args.until.clone()),
        ("q", args.search.clone()),
        ("cursor", cursor.map(str::to_owned)),
    ];
    let query: Vec<String> = parameters
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", percent_encode(&value?))))
        .collect();
    let body = context
        .client
        .get_bytes(&format!("/history?{}", query.join("&")))
        .await?;
    context.client.decode_unescaped(&body)
}

/// The tasks of a page whose name matches. `--name` knows more patterns than the server, so it is applied here.
fn decode(context: &Context, tasks: Vec<Box<RawValue>>, args: &ListArgs) -> Result<Vec<WithRaw<HistoryEntry>>> {
    let url = context.client.url().to_string();
    let tasks = tasks.into_iter().map(|raw| WithRaw::<HistoryEntry>::decode(raw, &url));
    let is_named = |task: &WithRaw<HistoryEntry>| {
        let pattern = args.name.as_ref();
        pattern.is_none_or(|pattern| pattern.matches(&task.item.name))
    };
    tasks.filter(|task| task.as_ref().map_or(true, is_named)).collect()
}
