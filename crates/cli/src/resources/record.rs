//! Records of past tasks, which may have been deleted.

use task::record::{HistoryEntry, HistoryPage, TaskRecord};

use super::lookup::{is_id, percent_encode};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::output::{Cell, Item, ItemColumn, age, fixed, flexible, or_dash, status_cell};

impl Item for HistoryEntry {
    const LIST: &'static str = "tasks";

    fn id(&self) -> &str {
        &self.task_id
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn columns() -> Vec<ItemColumn<Self>> {
        vec![
            ItemColumn::new(fixed("ID"), |task| Cell::from(task.task_id.as_str())),
            ItemColumn::new(flexible("NAME"), |task| Cell::from(task.name.as_str())),
            ItemColumn::all_users(flexible("USER"), |task| Cell::from(task.username.as_str())),
            ItemColumn::new(fixed("STATUS"), |task| status_cell(task.status)),
            ItemColumn::new(flexible("REASON"), |task| or_dash(task.reason.as_ref())),
            ItemColumn::new(fixed("NODES"), |task| Cell::from(task.num_nodes.to_string())),
            ItemColumn::new(fixed("AGE"), |task| Cell::from(age(&task.created_at))),
            ItemColumn::new(fixed("DELETED"), |task| {
                Cell::from(if task.exists { "no" } else { "yes" })
            }),
            ItemColumn::wide(flexible("MESSAGE"), |task| or_dash(task.message.as_ref())),
            ItemColumn::wide(fixed("CREATED"), |task| Cell::from(task.created_at.as_str())),
            ItemColumn::wide(fixed("FINISHED"), |task| or_dash(task.finished_at.as_ref())),
        ]
    }
}

/// The record of a task that is gone, by its ID or name; the newest of that name.
///
/// # Errors
/// [`Error::NotFound`] if there is none.
pub(crate) async fn find_record(client: &Client, reference: &str) -> Result<TaskRecord> {
    let id = match is_id(reference) {
        true => reference.to_owned(),
        false => find_id(client, reference).await?,
    };
    client.get(&format!("/history/{}", percent_encode(&id))).await
}

async fn find_id(client: &Client, name: &str) -> Result<String> {
    let not_found = || Error::NotFound(format!("task `{name}` not found").into());
    // The characters of a pattern are in no name.
    let page: HistoryPage = client
        .get(&format!("/history?limit=1&name={}", percent_encode(name)))
        .await?;
    let newest = page.tasks.into_iter().find(|task| task.name == name);
    newest.map(|task| task.task_id).ok_or_else(not_found)
}
