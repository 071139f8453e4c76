//! How nodes fetch files from the server.

use std::path::PathBuf;

use task::TaskDefinition;

use super::token::FilesSecret;
use crate::labels;
use crate::settings::HelperProgram;
use crate::tokens;

/// Whether nodes can fetch files from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetching {
    /// They can.
    From(FetchFrom),
    /// They cannot, because these settings of the server are missing.
    Missing(Vec<&'static str>),
}

/// From where nodes fetch files, and with which program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchFrom {
    /// From a URL that pods reach.
    Cluster {
        /// The URL, without a slash at the end.
        url: String,
        /// The image with the program.
        image: String,
    },
    /// From the server of this machine.
    ThisMachine {
        /// The program, which is the server's own.
        program: PathBuf,
        /// A directory with a file `url`, because the port may be another one after a restart.
        address_dir: PathBuf,
    },
}

impl FetchFrom {
    /// The program.
    pub(crate) fn program(&self) -> HelperProgram {
        match self {
            Self::Cluster { image, .. } => HelperProgram::Image(image.clone()),
            Self::ThisMachine { program, .. } => HelperProgram::Executable(program.clone()),
        }
    }
}

/// How much of the hash of a try is in the name of an annotation.
const TRY_LENGTH: usize = 16;

/// The file in [`FetchFrom::ThisMachine::address_dir`].
pub const ADDRESS_FILE: &str = "url";

/// What the nodes of a task need to fetch its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FetchedFiles {
    pub secret: FilesSecret,
    pub from: FetchFrom,
}

impl FetchedFiles {
    pub(crate) fn new(from: FetchFrom) -> Self {
        Self {
            secret: FilesSecret::random(),
            from,
        }
    }

    /// The annotations on the owner of the task that give its nodes access to the files. Tries of the same submission have
    /// tokens of their own.
    pub(crate) fn annotations(&self, definition: &TaskDefinition, try_token: &str) -> [(String, String); 2] {
        let mut sets: Vec<&str> = definition.files.iter().map(|mount| mount.files.as_str()).collect();
        sets.sort_unstable();
        sets.dedup();
        let try_hash = tokens::hash(&[try_token.as_bytes()]);
        [
            (labels::FILE_SETS.to_owned(), sets.join(",")),
            (
                format!("{}{}", labels::FILES_TOKEN, &try_hash[..TRY_LENGTH]),
                self.secret.hash(),
            ),
        ]
    }
}
