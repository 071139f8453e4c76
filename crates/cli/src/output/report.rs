//! Prints what a command reports about the setup.

use serde::Serialize;

use super::items::{json, yaml};
use super::print::print;
use crate::args::ReportFormat;
use crate::error::{Error, Result};

/// Prints a report as JSON or YAML, or as the text that `describe` makes of it.
pub(crate) fn print_report<T: Serialize>(
    report: &T,
    format: ReportFormat,
    describe: impl FnOnce(&T) -> String,
) -> Result<()> {
    let value = || serde_json::to_value(report).map_err(|error| Error::Local(format!("cannot write JSON: {error}")));
    match format {
        ReportFormat::Text => print(&describe(report)),
        ReportFormat::Json => print(&json(&value()?)),
        ReportFormat::Yaml => print(&yaml(&value()?)?),
    }
}
