//! Where the API has tasks, and the columns of a list of them.

use task::wire::TaskStatus;

use super::resource::Resource;
use crate::output::{Cell, Item, ItemColumn, age, fixed, flexible, or_dash, status_cell};

impl Resource for TaskStatus {
    const KIND: &'static str = "task";
    const PATH: &'static str = "/tasks";
    const COMMAND: &'static str = "jobs";

    fn created_at(&self) -> &str {
        &self.created_at
    }
}

impl Item for TaskStatus {
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
            ItemColumn::new(fixed("NODES"), |task| Cell::from(task.metadata.num_nodes.to_string())),
            ItemColumn::new(fixed("AGE"), |task| Cell::from(age(&task.created_at))),
            ItemColumn::wide(flexible("GROUP"), |task| {
                or_dash(task.metadata.group.as_ref().map(|group| &group.name))
            }),
            ItemColumn::wide(flexible("MESSAGE"), |task| or_dash(task.message.as_ref())),
            ItemColumn::wide(fixed("CREATED"), |task| Cell::from(task.created_at.as_str())),
            ItemColumn::wide(flexible("JOB"), |task| Cell::from(task.metadata.job_name.as_str())),
            ItemColumn::wide(fixed("NAMESPACE"), |task| Cell::from(task.metadata.namespace.as_str())),
        ]
    }
}
