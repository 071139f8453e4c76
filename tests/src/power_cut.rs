//! A layer below a server that knows what a power cut would leave of its files: what was synced, and nothing else.

use std::fs;
use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::UNIX_EPOCH;

use crate::Setting;

/// The layer, and the folder in which it remembers.
pub struct PowerCut {
    kept: PathBuf,
    library: PathBuf,
}

impl PowerCut {
    /// Builds the layer, which remembers in a folder below `place`.
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
            .expect("a C compiler");
        assert!(built.success());
        Self { kept, library }
    }

    /// What a server needs to run on the layer.
    #[must_use]
    pub fn setting(&self) -> Setting {
        Setting {
            environment: vec![("LD_PRELOAD".to_owned(), self.library.clone().into())],
            ..Setting::default()
        }
    }

    /// The file whose appearance is the power cut: from then on nothing is remembered.
    #[must_use]
    pub fn switch(&self) -> PathBuf {
        self.kept.join("cut")
    }

    /// Makes a folder what the power cut has left of it. All that used it must have been killed.
    pub fn strike(&self, folder: &Path) {
        let metadata = fs::metadata(folder).unwrap();
        let born = metadata.created().unwrap().duration_since(UNIX_EPOCH).unwrap();
        let name = format!("{}-{}.{:09}", metadata.st_ino(), born.as_secs(), born.subsec_nanos());
        let lost = folder.with_extension("lost");
        fs::rename(folder, lost).unwrap();
        self.restore(&name, folder);
        let _ = fs::remove_file(self.switch());
    }

    fn restore(&self, name: &str, folder: &Path) {
        fs::create_dir(folder).unwrap();
        let Ok(names) = fs::read_to_string(self.kept.join(name)) else {
            return;
        };
        for line in names.lines() {
            let mut parts = line.splitn(3, ' ');
            let (kind, name, entry) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
            let path = folder.join(entry);
            if kind == "d" {
                self.restore(name, &path);
            } else {
                // A file that was never synced has a name and no content.
                fs::write(path, fs::read(self.kept.join(name)).unwrap_or_default()).unwrap();
            }
        }
    }
}
