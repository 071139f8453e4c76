//! What to copy: an object or a folder of a bucket, or a file of a web server.

use object_store::path::Path;
use reqwest::Url;

use super::bucket::{Bucket, Provider};
use crate::error::Error;

/// What to copy.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Address {
    Bucket(Bucket),
    Web(Url),
}

impl Address {
    /// Reads an address.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let invalid = |reason: String| Error::Address {
            url: shown(text),
            reason,
        };
        let (scheme, rest) = text.split_once("://").unwrap_or((text, ""));
        let provider = match scheme {
            "s3" => Provider::S3,
            "gs" => Provider::Gcs,
            "https" => {
                let url = Url::parse(text).map_err(|error| invalid(error.to_string()))?;
                return Ok(Self::Web(url));
            }
            _ => return Err(invalid("expected `s3://`, `gs://`, or `https://`".to_owned())),
        };
        let (name, key) = rest.split_once('/').unwrap_or((rest, ""));
        if name.is_empty() {
            return Err(invalid("the bucket has no name".to_owned()));
        }
        Ok(Self::Bucket(Bucket {
            provider,
            name: name.to_owned(),
            key: Path::parse(key).map_err(|error| invalid(error.to_string()))?,
            is_folder: key.is_empty() || key.ends_with('/'),
        }))
    }
}

/// An address as it may be shown: what follows `?` may be a signature.
pub(super) fn shown(text: &str) -> String {
    text.split(['?', '#']).next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::{Address, shown};

    #[test]
    fn an_address_names_a_bucket_with_a_key_or_a_file() {
        for (text, name, key, is_folder) in [
            ("s3://data", "data", "", true),
            ("s3://data/", "data", "", true),
            ("s3://data/train", "data", "train", false),
            ("gs://data/a/b c/", "data", "a/b c", true),
        ] {
            let Address::Bucket(bucket) = Address::parse(text).unwrap() else {
                panic!("{text}")
            };
            assert_eq!(
                (&*bucket.name, bucket.key.as_ref(), bucket.is_folder),
                (name, key, is_folder)
            );
        }
        assert!(matches!(Address::parse("https://x/y.zip").unwrap(), Address::Web(_)));
        for text in [
            "",
            "s3:",
            "s3://",
            "s3:///x",
            "s3://x/a//b",
            "s3://x/../y",
            "http://x/y",
            "file:///x",
            "https://",
        ] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_signature_is_not_shown() {
        assert_eq!(shown("https://x/y?sig=canary#z"), "https://x/y");
    }
}
