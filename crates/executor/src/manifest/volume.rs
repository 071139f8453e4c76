//! The PersistentVolumeClaim of a volume.

use std::collections::BTreeMap;

use jiff::Timestamp;
use task::{Id, UserName, VolumeDefinition};

use crate::kubernetes::{
    ObjectMeta, PersistentVolumeClaim, PersistentVolumeClaimSpec, Quantity, VolumeResourceRequirements,
};
use crate::labels;
use crate::user_key;

/// Builds the PersistentVolumeClaim of a volume.
#[must_use]
pub fn claim(
    definition: &VolumeDefinition,
    id: &Id,
    user: &UserName,
    created_at: Timestamp,
    token: &str,
) -> PersistentVolumeClaim {
    let labels = [
        (labels::VOLUME, labels::TRUE.to_owned()),
        (labels::VOLUME_ID, id.to_string()),
        (labels::VOLUME_NAME, definition.name.label_value()),
        (labels::USERNAME, user_key::username_label(user)),
        (labels::USER, user_key::user_label(user)),
    ];
    let annotations = [
        (labels::CREATED_AT, task::time::format(created_at)),
        (labels::EXACT_USERNAME, user.to_string()),
        (labels::EXACT_NAME, definition.name.to_string()),
        (labels::SUBMISSION, token.to_owned()),
    ];
    let owned = |pairs: Vec<(&str, String)>| pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(definition.name.object_name(id.as_str())),
            labels: Some(owned(labels.into())),
            annotations: Some(owned(annotations.into())),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(definition.access_modes.iter().map(|mode| (*mode).to_owned()).collect()),
            storage_class_name: definition.storage_class.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([(
                    "storage".to_owned(),
                    Quantity(definition.size.to_string()),
                )])),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}
