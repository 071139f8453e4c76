//! A folder or an object of a bucket, and how it is opened with the credentials of the task.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{ObjectStore, RetryConfig};

use super::Failure;
use super::client::{self, Connector, RefusedByStore};
use crate::error::Error;

/// The variables that say who asks. Without any, the bucket must be public: the credentials of the cluster node are not
/// those of the task, and asking for them takes minutes where there are none.
const S3_CREDENTIALS: [&str; 5] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_SKIP_SIGNATURE",
];
const GCS_CREDENTIALS: [&str; 5] = [
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_PATH",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_BEARER_TOKEN",
];

/// The variables that say where a bucket is, besides its name.
const S3_PLACES: [&str; 5] = [
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
];

/// How the store repeats a request that failed. What lasts longer is waited for here, and said.
const MAX_RETRIES: usize = 3;
const RETRY_TIMEOUT: Duration = Duration::from_secs(15);

pub(super) type Store = Arc<dyn ObjectStore>;

/// Whose bucket it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Provider {
    S3,
    Gcs,
}

/// A folder or an object of a bucket.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bucket {
    pub provider: Provider,
    pub name: String,
    /// The key of the object, or that which all keys in the folder begin with.
    pub key: Path,
    /// Whether it cannot be an object.
    pub is_folder: bool,
}

impl Bucket {
    /// Opens the bucket with the variables of this process.
    pub(super) async fn open(&self) -> Result<Store, Error> {
        let retry = RetryConfig {
            max_retries: MAX_RETRIES,
            retry_timeout: RETRY_TIMEOUT,
            ..RetryConfig::default()
        };
        let opened = match self.provider {
            Provider::S3 => {
                let mut builder = AmazonS3Builder::from_env()
                    .with_bucket_name(&self.name)
                    .with_retry(retry)
                    .with_http_connector(Connector);
                if !is_any_set(&S3_CREDENTIALS) {
                    builder = builder.with_skip_signature(true);
                }
                if !is_any_set(&S3_PLACES)
                    && let Some(region) = client::region(&self.name).await?
                {
                    builder = builder.with_region(region);
                }
                builder.build().map(|store| Arc::new(store) as Store)
            }
            Provider::Gcs => {
                let mut builder = GoogleCloudStorageBuilder::from_env()
                    .with_bucket_name(&self.name)
                    .with_retry(retry)
                    .with_http_connector(Connector);
                if !is_any_set(&GCS_CREDENTIALS) {
                    builder = builder.with_skip_signature(true);
                }
                builder.build().map(|store| Arc::new(store) as Store)
            }
        };
        opened.map_err(|error| Error::Store {
            url: self.to_string(),
            reason: error.to_string(),
        })
    }

    /// Whether a request may succeed later, and what to do if not.
    pub(super) fn failure(&self, error: object_store::Error) -> Failure {
        use object_store::Error as Fault;
        let url = self.to_string();
        let reason = error.to_string();
        Failure::Final(match (refused(&error), error) {
            (Some(RefusedByStore { status: 401 | 403 }), _) => Error::Denied {
                url,
                advice: self.advice(),
            },
            (Some(RefusedByStore { status: 404 }), _) | (None, Fault::NotFound { .. }) => Error::Nothing { url },
            (Some(refused), _) => Error::Store {
                url,
                reason: refused.to_string(),
            },
            (None, Fault::Generic { .. } | Fault::JoinError { .. }) => return Failure::Transient(reason),
            (None, _) => Error::Store { url, reason },
        })
    }

    fn advice(&self) -> String {
        let (names, wanted) = match self.provider {
            Provider::S3 => (&S3_CREDENTIALS, "`AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`"),
            Provider::Gcs => (&GCS_CREDENTIALS, "`GOOGLE_SERVICE_ACCOUNT_KEY`"),
        };
        if is_any_set(names) {
            "the credentials of the task may not read it".to_owned()
        } else {
            format!("it is not public; give the task {wanted} as `secrets`")
        }
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.provider {
            Provider::S3 => "s3",
            Provider::Gcs => "gs",
        };
        write!(formatter, "{scheme}://{}/{}", self.name, self.key)
    }
}

fn is_any_set(names: &[&str]) -> bool {
    names
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

/// What the store answered, if it will answer that again.
pub(super) fn refused(error: &object_store::Error) -> Option<RefusedByStore> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(refused) = current.downcast_ref::<RefusedByStore>() {
            return Some(*refused);
        }
        cause = current.source();
    }
    None
}
