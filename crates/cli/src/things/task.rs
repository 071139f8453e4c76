//! A task as one of several.

use task::status::TaskStatus;

use super::Thing;
use crate::output::{Cell, Item, Table, age, fixed, flexible, or_dash, status_cell};

impl Thing for TaskStatus {
    const KIND: &'static str = "task";
    const PATH: &'static str = "/tasks";

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

    fn table(wide: bool, all_users: bool) -> Table {
        let mut columns = vec![
            fixed("ID"),
            flexible("NAME"),
            fixed("STATUS"),
            flexible("REASON"),
            fixed("NODES"),
            fixed("AGE"),
        ];
        if all_users {
            columns.insert(2, flexible("USER"));
        }
        if wide {
            columns.extend([
                flexible("MESSAGE"),
                fixed("CREATED"),
                flexible("JOB"),
                fixed("NAMESPACE"),
            ]);
        }
        Table::new(&columns)
    }

    fn add_to(&self, table: &mut Table, wide: bool, all_users: bool) {
        let mut cells = vec![
            Cell::from(self.task_id.as_str()),
            Cell::from(self.name.as_str()),
            status_cell(self.status),
            or_dash(self.reason.as_ref()),
            Cell::from(self.metadata.num_nodes.to_string()),
            Cell::from(age(&self.created_at)),
        ];
        if all_users {
            cells.insert(2, Cell::from(self.username.as_str()));
        }
        if wide {
            cells.extend([
                or_dash(self.message.as_ref()),
                Cell::from(self.created_at.as_str()),
                Cell::from(self.metadata.job_name.as_str()),
                Cell::from(self.metadata.namespace.as_str()),
            ]);
        }
        table.add(cells);
    }
}
