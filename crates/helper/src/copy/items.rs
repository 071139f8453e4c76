//! Decides where the objects of a folder go: the names in a bucket are whatever somebody wrote there.

use files::EntryPath;
use object_store::ObjectMeta;
use object_store::path::Path;

use super::bucket::Bucket;
use crate::error::Error;

/// An object to copy.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Item {
    pub key: Path,
    pub size: u64,
    /// Where it goes, below the target.
    pub path: EntryPath,
}

/// The objects of a folder. Stores have no folders, and consoles make an empty object in the place of one: what is empty
/// and has others below it is none.
pub(super) fn items(folder: &Bucket, found: Vec<ObjectMeta>) -> Result<Vec<Item>, Error> {
    let mut items = Vec::with_capacity(found.len());
    for object in found {
        let below = object.location.prefix_match(&folder.key);
        let below: Vec<String> = below
            .into_iter()
            .flatten()
            .map(|part| part.as_ref().to_owned())
            .collect();
        // The empty object in the place of the folder itself.
        if below.is_empty() {
            continue;
        }
        let path = EntryPath::new(below.join("/")).map_err(|error| Error::Name {
            key: object.location.to_string(),
            reason: error.reason,
        })?;
        items.push(Item {
            key: object.location,
            size: object.size,
            path,
        });
    }
    items.sort_by(|one, other| one.path.cmp(&other.path));
    let is_in = |inner: &EntryPath, outer: &EntryPath| {
        inner.as_path() != outer.as_path() && inner.as_path().starts_with(outer.as_path())
    };
    let is_folder: Vec<bool> = (0..items.len())
        .map(|at| items.get(at + 1).is_some_and(|next| is_in(&next.path, &items[at].path)))
        .collect();
    let mut kept = Vec::with_capacity(items.len());
    for (item, is_folder) in items.into_iter().zip(is_folder) {
        if is_folder && item.size > 0 {
            return Err(Error::Name {
                key: item.key.to_string(),
                reason: "it is an object and a folder",
            });
        }
        if !is_folder {
            kept.push(item);
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use object_store::ObjectMeta;
    use object_store::path::Path;

    use super::super::address::Address;
    use super::{Bucket, items};

    fn folder(text: &str) -> Bucket {
        match Address::parse(text).unwrap() {
            Address::Bucket(bucket) => bucket,
            Address::Web(_) => panic!("{text}"),
        }
    }

    fn found(keys: &[(&str, u64)]) -> Vec<ObjectMeta> {
        let object = |(key, size): &(&str, u64)| ObjectMeta {
            location: Path::parse(key).unwrap(),
            last_modified: Default::default(),
            size: *size,
            e_tag: None,
            version: None,
        };
        keys.iter().map(object).collect()
    }

    fn paths(url: &str, keys: &[(&str, u64)]) -> Result<Vec<String>, String> {
        let items = items(&folder(url), found(keys)).map_err(|error| error.to_string())?;
        Ok(items
            .iter()
            .map(|item| item.path.as_path().display().to_string())
            .collect())
    }

    #[test]
    fn objects_are_below_the_target_as_they_are_below_the_folder() {
        let keys = [("train/b", 1), ("train/a/x", 2), ("train/a-1", 1), ("train/-x", 1)];
        let expected = ["-x", "a/x", "a-1", "b"].map(str::to_owned);
        assert_eq!(paths("s3://data/train", &keys), Ok(expected.into()));
        assert_eq!(paths("s3://data", &keys[..1]), Ok(vec!["train/b".to_owned()]));
    }

    #[test]
    fn an_empty_object_in_the_place_of_a_folder_is_no_file() {
        let keys = [("train/", 0), ("train/a/", 0), ("train/a/x", 1), ("train/empty", 0)];
        assert_eq!(
            paths("s3://data/train", &keys),
            Ok(vec!["a/x".to_owned(), "empty".to_owned()])
        );
        let error = paths("s3://data/train", &[("train/a", 1), ("train/a/x", 1)]).unwrap_err();
        assert!(error.contains("`train/a`") && error.contains("a folder"), "{error}");
    }

    #[test]
    fn names_that_no_file_has_are_refused() {
        let long = format!("train/{}", "x".repeat(256));
        assert!(paths("s3://data/train", &[(&long, 1)]).unwrap_err().contains(&long));
        // Such keys don't even get here.
        for key in ["train/../x", "train//x", "train/./x"] {
            assert!(Path::parse(key).is_err(), "{key}");
        }
    }
}
