//! Creates a namespace.

use crate::kubernetes::{Api, Client, Namespace, ObjectMeta, PostParams};

/// Creates a namespace unless it exists. On a cluster, an administrator does this; in the embedded engine, nobody else
/// would.
pub async fn ensure_namespace(client: &Client, name: &str) -> Result<(), kube::Error> {
    let namespace = Namespace {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    match Api::all(client.clone())
        .create(&PostParams::default(), &namespace)
        .await
    {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(error) => Err(error),
    }
}
