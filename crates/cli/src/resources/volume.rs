//! Where the API has volumes, and the columns of a list of them.

use task::wire::VolumeStatus;

use super::resource::Resource;
use crate::output::{Cell, Item, ItemColumn, age, fixed, flexible, or_dash};

impl Resource for VolumeStatus {
    const KIND: &'static str = "volume";
    const PATH: &'static str = "/volumes";
    const COMMAND: &'static str = "volumes";

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

    fn columns() -> Vec<ItemColumn<Self>> {
        vec![
            ItemColumn::new(fixed("ID"), |volume| Cell::from(volume.volume_id.as_str())),
            ItemColumn::new(flexible("NAME"), |volume| Cell::from(volume.name.as_str())),
            ItemColumn::all_users(flexible("USER"), |volume| Cell::from(volume.username.as_str())),
            ItemColumn::new(fixed("STATUS"), |volume| Cell::from(volume.status.as_str())),
            ItemColumn::new(fixed("SIZE"), |volume| Cell::from(volume.size.as_str())),
            ItemColumn::new(flexible("ACCESS"), |volume| Cell::from(volume.access_modes.join(","))),
            ItemColumn::new(fixed("AGE"), |volume| Cell::from(age(&volume.created_at))),
            ItemColumn::wide(flexible("CLASS"), |volume| or_dash(volume.storage_class.as_ref())),
            ItemColumn::wide(fixed("CREATED"), |volume| Cell::from(volume.created_at.as_str())),
            ItemColumn::wide(flexible("CLAIM"), |volume| {
                Cell::from(volume.metadata.pvc_name.as_str())
            }),
            ItemColumn::wide(fixed("NAMESPACE"), |volume| {
                Cell::from(volume.metadata.namespace.as_str())
            }),
        ]
    }
}
