//! A volume as one of several.

use task::volume::VolumeStatus;

use super::Thing;
use crate::output::{Cell, Item, Table, age, fixed, flexible, or_dash};

impl Thing for VolumeStatus {
    const KIND: &'static str = "volume";
    const PATH: &'static str = "/volumes";

    fn created_at(&self) -> &str {
        &self.created_at
    }
}

impl Item for VolumeStatus {
    const LIST: &'static str = "volumes";

    fn id(&self) -> &str {
        &self.volume_id
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn table(wide: bool, all_users: bool) -> Table {
        let mut columns = vec![
            fixed("ID"),
            flexible("NAME"),
            fixed("STATUS"),
            fixed("SIZE"),
            flexible("ACCESS"),
            fixed("AGE"),
        ];
        if all_users {
            columns.insert(2, flexible("USER"));
        }
        if wide {
            columns.extend([
                flexible("CLASS"),
                fixed("CREATED"),
                flexible("CLAIM"),
                fixed("NAMESPACE"),
            ]);
        }
        Table::new(&columns)
    }

    fn add_to(&self, table: &mut Table, wide: bool, all_users: bool) {
        let mut cells = vec![
            Cell::from(self.volume_id.as_str()),
            Cell::from(self.name.as_str()),
            Cell::from(self.status.as_str()),
            Cell::from(self.size.as_str()),
            Cell::from(self.access_modes.join(",")),
            Cell::from(age(&self.created_at)),
        ];
        if all_users {
            cells.insert(2, Cell::from(self.username.as_str()));
        }
        if wide {
            cells.extend([
                or_dash(self.storage_class.as_ref()),
                Cell::from(self.created_at.as_str()),
                Cell::from(self.metadata.pvc_name.as_str()),
                Cell::from(self.metadata.namespace.as_str()),
            ]);
        }
        table.add(cells);
    }
}
