//! A layer below a server that records which data of its files would survive a power cut: only synced data.

use std::fs;
use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::UNIX_EPOCH;

use crate::Setting;

/// The layer, and the directory of its records.
pub struct PowerCut {
    kept: PathBuf,
    library: PathBuf,
}

impl PowerCut {
    /// Builds the layer, which records in a directory below `place`.
    #[must_use]
    pub fn build(place: &Path) -> Self {
        let kept = place.join("kept");
        fs::create_dir_all(&kept).unwrap();
        let library = place.join("power_cut.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("layers/power_cut.c");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .arg(&library)
            .arg(format!("-DKEPT=\"{}\"", kept.display()))
            .arg(source)
            .arg("-ldl")
            .status()
            .expect("cannot run `cc`; install a C compiler");
        assert!(built.success());
        Self { kept, library }
    }

    /// Returns the setting of a server that runs on the layer.
    #[must_use]
    pub fn setting(&self) -> Setting {
        Setting {
            environment: vec![("LD_PRELOAD".to_owned(), self.library.clone().into())],
            ..Setting::default()
        }
    }

    /// The file that cuts the power when it appears: from then on nothing is recorded.
    #[must_use]
    pub fn switch(&self) -> PathBuf {
        self.kept.join("cut")
    }

    /// Restores a directory to its state after the power cut. All processes that used it must have been killed.
    pub fn strike(&self, directory: &Path) {
        let metadata = fs::metadata(directory).unwrap();
        let born = metadata.created().unwrap().duration_since(UNIX_EPOCH).unwrap();
        let name = format!("{}-{}.{:09}", metadata.st_ino(), born.as_secs(), born.subsec_nanos());
        let lost = directory.with_extension("lost");
        fs::rename(directory, lost).unwrap();
        self.restore(&name, directory);
        let _ = fs::remove_file(self.switch());
    }

    fn restore(&self, name: &str, directory: &Path) {
        fs::create_dir(directory).unwrap();
        let Ok(names) = fs::read_to_string(self.kept.join(name)) else {
            return;
        };
        for line in names.lines() {
            let mut parts = line.splitn(3, ' ');
            let (kind, name, entry) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
            let path = directory.join(entry);
            if kind == "d" {
                self.restore(name, &path);
            } else {
                // A file that was never synced has a name, but no content.
                fs::write(path, fs::read(self.kept.join(name)).unwrap_or_default()).unwrap();
            }
        }
    }
}
