//! Decides how the files of a task come to its nodes.

use std::collections::BTreeMap;

use files::{HumanSize, ManifestHash};
use task::definition::{CopyMount, Target, VolumeMount};
use task::{TaskDefinition, UserName};

use super::fetch::{FetchedFiles, Fetching};
use super::pack::{FileSource, PackedFiles, Packing};
use crate::error::Error;
use crate::settings::Settings;

/// The files of a task, and how they come to its nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// In ConfigMaps; in the order of the definition. Empty if the task has none.
    Packed(Vec<PackedFiles>),
    /// Each node fetches them from the server.
    Fetched(FetchedFiles),
}

impl Delivery {
    /// What the nodes fetch, if they do.
    pub(crate) fn fetched(&self) -> Option<&FetchedFiles> {
        match self {
            Self::Fetched(files) => Some(files),
            Self::Packed(_) => None,
        }
    }

    /// What is in ConfigMaps.
    pub(crate) fn packed(&self) -> &[PackedFiles] {
        match self {
            Self::Packed(files) => files,
            Self::Fetched(_) => &[],
        }
    }
}

/// The packed file sets of the tasks of a group, which are all in memory until they are submitted.
#[derive(Debug, Default)]
pub(crate) struct GroupFiles(BTreeMap<String, u64>);

/// How many bytes the different packed file sets of a group may have.
const MAX_GROUP_BYTES: u64 = 64 << 20;

impl GroupFiles {
    /// Counts the files of one more task.
    ///
    /// # Errors
    /// [`Error::FilesTooLarge`]
    pub(crate) fn add(&mut self, delivery: &Delivery) -> Result<(), Error> {
        let sets = delivery.packed().iter().map(|files| &files.set);
        self.0.extend(sets.map(|set| (set.hash.clone(), set.bytes())));
        if self.0.values().sum::<u64>() > MAX_GROUP_BYTES {
            let limit = HumanSize(MAX_GROUP_BYTES);
            let reason = format!("the different files of the tasks of a group may have at most {limit} when packed");
            return Err(Error::FilesTooLarge { reason });
        }
        Ok(())
    }
}

/// Prepares the files of a task.
///
/// # Errors
/// [`Error::FilesElsewhere`], [`Error::CopyElsewhere`], [`Error::CannotCopy`], [`Error::FilesNotStored`],
/// [`Error::FilesTooLarge`], or a failure of the store.
pub(crate) async fn resolve(
    settings: &Settings,
    user: &UserName,
    definition: &TaskDefinition,
) -> Result<Delivery, Error> {
    if settings.pods.shares_home {
        check_targets(definition)?;
    }
    check_copies(settings, definition)?;
    resolve_from(settings.files.as_ref(), user, definition).await
}

/// Containers that share the files of a machine must not write to them. A volume is their own.
fn check_targets(definition: &TaskDefinition) -> Result<(), Error> {
    let elsewhere = definition.files.iter().find_map(|mount| match &mount.target {
        Target::Elsewhere(path) if !is_in_volume(path, definition) => Some(path.clone()),
        Target::Elsewhere(_) | Target::WorkingDir(_) => None,
    });
    elsewhere.map_or(Ok(()), |path| Err(Error::FilesElsewhere { path }))
}

/// Whether a path is in a volume of the task, and not its root. No target contains `..`.
fn is_in_volume(path: &str, definition: &TaskDefinition) -> bool {
    let below = |mount: &VolumeMount| {
        path.strip_prefix(mount.path.trim_end_matches('/'))
            .is_some_and(|rest| rest.starts_with('/'))
    };
    definition.volumes.iter().any(below)
}

/// Checks that the nodes have the program that copies, and may write to where it copies to.
fn check_copies(settings: &Settings, definition: &TaskDefinition) -> Result<(), Error> {
    let Some(CopyMount { source, .. }) = definition.copies.first() else {
        return Ok(());
    };
    if settings.pods.helper.is_none() {
        return Err(Error::CannotCopy {
            command: source.command(),
        });
    }
    let elsewhere = definition.copies.iter().find_map(|copy| match &copy.target {
        Target::Elsewhere(path) if !is_in_volume(path, definition) => Some(path.clone()),
        Target::Elsewhere(_) | Target::WorkingDir(_) => None,
    });
    match elsewhere.filter(|_| settings.pods.shares_home) {
        Some(path) => Err(Error::CopyElsewhere { path }),
        None => Ok(()),
    }
}

async fn resolve_from(
    source: Option<&FileSource>,
    user: &UserName,
    definition: &TaskDefinition,
) -> Result<Delivery, Error> {
    if !definition.outputs.is_empty() {
        return with_outputs(source, user, definition).await;
    }
    let Some(first) = definition.files.first() else {
        return Ok(Delivery::Packed(Vec::new()));
    };
    let source = source.ok_or_else(|| not_stored(&first.files))?;
    let reason = match source.pack_all(user, definition).await? {
        Packing::Packed(files) => return Ok(Delivery::Packed(files)),
        Packing::NotStored(id) => return Err(not_stored(&id)),
        Packing::TooLarge(reason) => reason,
    };
    match &source.fetching {
        Fetching::From(from) => {
            keep(source, user, definition).await?;
            Ok(Delivery::Fetched(FetchedFiles::new(from.clone())))
        }
        Fetching::Missing(settings) => Err(Error::FilesTooLarge {
            reason: too_large(&reason, settings),
        }),
    }
}

/// Sending outputs needs the same program, address, and token as fetching files.
async fn with_outputs(
    source: Option<&FileSource>,
    user: &UserName,
    definition: &TaskDefinition,
) -> Result<Delivery, Error> {
    let impossible = |missing: &[&str]| Error::OutputsNotKept {
        settings: listed(missing),
    };
    let source = source.ok_or_else(|| impossible(&["--archive"]))?;
    match &source.fetching {
        Fetching::From(from) => {
            keep(source, user, definition).await?;
            Ok(Delivery::Fetched(FetchedFiles::new(from.clone())))
        }
        Fetching::Missing(missing) => Err(impossible(missing)),
    }
}

/// Checks that nodes will find all files, and notes that these are in use. From the submit on, the owner of the task does
/// that.
async fn keep(source: &FileSource, user: &UserName, definition: &TaskDefinition) -> Result<(), Error> {
    for mount in &definition.files {
        let missing = || not_stored(&mount.files);
        let hash: ManifestHash = mount.files.as_str().parse().map_err(|_| missing())?;
        // In this order: what is there once it is noted as used stays.
        source.store.touch(user.as_str(), &hash).await?;
        let manifest = source.store.manifest(user.as_str(), &hash).await?.ok_or_else(missing)?;
        if !source.store.is_complete(user.as_str(), &manifest).await? {
            return Err(missing());
        }
    }
    Ok(())
}

fn not_stored(id: &impl ToString) -> Error {
    Error::FilesNotStored { id: id.to_string() }
}

/// Why files are too large for ConfigMaps, and what the server lacks for larger ones.
fn too_large(reason: &str, missing: &[&str]) -> String {
    format!("{reason}; for larger ones, the server needs {}", listed(missing))
}

/// Settings in a sentence.
fn listed(missing: &[&str]) -> String {
    let named: Vec<String> = missing.iter().map(|setting| format!("`{setting}`")).collect();
    let (last, others) = named
        .split_last()
        .map_or(("", &[][..]), |(last, others)| (last.as_str(), others));
    match others {
        [] => last.to_owned(),
        others => format!("{} and {last}", others.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use archive::{FileStore, Location};
    use bytes::Bytes;
    use files::{Content, Entry, EntryKind, EntryPath, Manifest, Mode};
    use serde_json::json;
    use task::definition::MAX_NODES;
    use task::{TaskDefinition, UserName};

    use super::super::pack::PART_BYTES;
    use super::{Delivery, Fetching, FileSource, Settings, check_copies, check_targets, resolve_from, too_large};
    use crate::delivery::FetchFrom;
    use crate::error::Error;
    use crate::settings::HelperProgram;

    const LIMITS: files::Limits = files::Limits {
        max_entries: 100,
        max_total_bytes: 1 << 30,
        max_manifest_bytes: 1 << 20,
    };

    fn user(name: &str) -> UserName {
        UserName::parse(name).unwrap()
    }

    fn without_fetching() -> Fetching {
        Fetching::Missing(vec!["--helper-image"])
    }

    fn with_fetching() -> Fetching {
        Fetching::From(FetchFrom::Cluster {
            url: "http://server".to_owned(),
            image: "helper".to_owned(),
        })
    }

    /// A store with a file of alice, and a task with it.
    async fn stored(content: Vec<u8>, num_nodes: u32) -> (FileStore, TaskDefinition) {
        let store = FileStore::open(&Location::memory(), LIMITS, 1 << 30).unwrap();
        let kind = EntryKind::File {
            mtime: None,
            mode: Mode::new(0o644),
            contents: vec![Content::of(&content).unwrap()],
        };
        let path = EntryPath::new("file").unwrap();
        let manifest = Manifest::new(vec![Entry { path, kind }]).unwrap();
        store.put_contents("alice", vec![Bytes::from(content)]).await.unwrap();
        store.put_manifest("alice", &manifest).await.unwrap();
        let body = json!({"run": "true", "num_nodes": num_nodes, "files": {".": manifest.hash().to_string()}});
        (store, TaskDefinition::parse(&body, MAX_NODES).unwrap())
    }

    /// Bytes that do not compress.
    fn noise(count: u32) -> Vec<u8> {
        let mut bytes = vec![0; count as usize];
        fastrand::Rng::with_seed(1).fill(&mut bytes);
        bytes
    }

    #[tokio::test]
    async fn a_file_set_has_as_many_parts_as_it_needs() {
        let (store, task) = stored(noise(2_500_000), 1).await;
        let source = FileSource::new(store, 4 << 20, with_fetching());
        let packed = resolve_from(Some(&source), &user("alice"), &task).await.unwrap();
        let sizes: Vec<usize> = packed.packed()[0].set.parts.iter().map(Bytes::len).collect();
        assert_eq!((sizes.len(), sizes[0], sizes[1]), (3, PART_BYTES, PART_BYTES));
        // The second task of a group has the same.
        let again = resolve_from(Some(&source), &user("alice"), &task).await.unwrap();
        assert!(std::sync::Arc::ptr_eq(&packed.packed()[0].set, &again.packed()[0].set));
    }

    #[tokio::test]
    async fn files_of_another_user_and_too_many_of_ones_own_are_refused() {
        let (store, task) = stored(noise(2_500_000), 1000).await;
        let source = FileSource::new(store.clone(), 4 << 20, without_fetching());
        let of = async |source, name| resolve_from(source, &user(name), &task).await.map(drop).unwrap_err();
        assert!(matches!(of(Some(&source), "bob").await, Error::FilesNotStored { .. }));
        assert!(matches!(of(None, "alice").await, Error::FilesNotStored { .. }));
        // Not for a thousand nodes.
        let error = of(Some(&source), "alice").await.to_string();
        assert!(error.contains("limit of 2 GiB in all"), "{error}");
        let small = FileSource::new(store, 1 << 20, without_fetching());
        let error = of(Some(&small), "alice").await.to_string();
        assert!(
            error.contains("at most 1 MiB when packed; for larger ones, the server needs `--helper-image`;"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn files_that_are_too_large_for_objects_are_fetched_if_all_of_them_are_there() {
        let (store, task) = stored(noise(2_500_000), 1000).await;
        let source = FileSource::new(store.clone(), 1 << 20, with_fetching());
        let fetched = resolve_from(Some(&source), &user("alice"), &task).await.unwrap();
        assert!(matches!(&fetched, Delivery::Fetched(_)));
        let other = resolve_from(Some(&source), &user("alice"), &task).await.unwrap();
        assert_ne!(fetched, other, "each task has its own secret");
        let unknown = resolve_from(Some(&source), &user("bob"), &task).await.unwrap_err();
        assert!(matches!(unknown, Error::FilesNotStored { .. }));
    }

    #[tokio::test]
    async fn outputs_need_a_way_from_the_node_to_the_server() {
        let (store, _) = stored(vec![1], 1).await;
        let body = json!({"run": "true", "outputs": {"results": "results"}});
        let task = TaskDefinition::parse(&body, MAX_NODES).unwrap();
        let source = FileSource::new(store.clone(), 1 << 20, with_fetching());
        let resolved = resolve_from(Some(&source), &user("alice"), &task).await.unwrap();
        assert!(matches!(resolved, Delivery::Fetched(_)));
        let source = FileSource::new(store, 1 << 20, without_fetching());
        let error = resolve_from(Some(&source), &user("alice"), &task).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the server cannot keep outputs without `--helper-image`; write them to a volume instead"
        );
    }

    #[test]
    fn on_this_machine_files_are_in_the_working_folder_or_in_a_volume() {
        let refused = |target: &str| {
            let volumes = json!({"/data/": "my-data", "/scratch": {"size": "1Gi"}});
            let body = json!({"run": "true", "files": {target: "0".repeat(64)}, "volumes": volumes});
            check_targets(&TaskDefinition::parse(&body, MAX_NODES).unwrap()).is_err()
        };
        for target in [".", "x/y", "/data/x", "/data/x y/z", "/scratch/x"] {
            assert!(!refused(target), "{target}");
        }
        for target in ["/data", "/dataset/x", "/tmp/x", "~/x", "$HOME/x"] {
            assert!(refused(target), "{target}");
        }
    }

    #[test]
    fn copies_need_a_program_and_a_place_that_is_not_the_machines() {
        let with = |helper: Option<HelperProgram>, shares_home| {
            let mut settings = Settings::default();
            settings.pods.helper = helper;
            settings.pods.shares_home = shares_home;
            settings
        };
        let copying = |path: &str| {
            let body = json!({"run": "true", "file_mounts": {path: "s3://data/x"}});
            TaskDefinition::parse(&body, 1).unwrap()
        };
        let image = || Some(HelperProgram::Image("helper".to_owned()));
        assert!(check_copies(&with(image(), false), &copying("/data")).is_ok());
        assert!(check_copies(&with(image(), true), &copying("data")).is_ok());
        let error = check_copies(&with(image(), true), &copying("/data"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("not to `/data`"), "{error}");
        let error = check_copies(&with(None, false), &copying("data"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("`--helper-image`") && error.contains("`aws s3 cp --recursive s3://data/x .`"),
            "{error}"
        );
    }

    #[test]
    fn all_missing_settings_are_named() {
        assert_eq!(too_large("x", &["--a"]), "x; for larger ones, the server needs `--a`");
        assert_eq!(
            too_large("x", &["--a", "--b", "--c"]),
            "x; for larger ones, the server needs `--a`, `--b` and `--c`"
        );
    }
}
