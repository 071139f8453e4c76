//! The task to submit, from a YAML file, standard input, or a command, with overrides from flags.

mod document;
mod file;
mod overrides;
#[cfg(test)]
mod tests;
mod variables;

pub(crate) use file::TaskFile;
pub(crate) use overrides::Overrides;
