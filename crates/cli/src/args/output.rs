//! Output formats.

use clap::ValueEnum;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// Human-readable.
    #[default]
    Table,
    /// Human-readable, with more columns.
    Wide,
    /// The server's response as JSON.
    Json,
    /// The server's response as YAML.
    Yaml,
    /// IDs only.
    Name,
}

/// Output formats of commands that report on the setup, and list nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum ReportFormat {
    /// Human-readable.
    #[default]
    Text,
    /// The same facts as JSON.
    Json,
    /// The same facts as YAML.
    Yaml,
}

#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct ReportOutputArgs {
    /// Output format. One of: text, json, yaml.
    #[arg(
        short = 'o',
        long = "output",
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        hide_possible_values = true
    )]
    pub format: ReportFormat,
}

impl From<ReportFormat> for Format {
    fn from(format: ReportFormat) -> Self {
        match format {
            ReportFormat::Text => Self::Table,
            ReportFormat::Json => Self::Json,
            ReportFormat::Yaml => Self::Yaml,
        }
    }
}

#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct OutputArgs {
    /// Output format. One of: table, wide, json, yaml, name.
    #[arg(
        short = 'o',
        long = "output",
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        hide_possible_values = true
    )]
    pub format: Format,
}

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct ListOutputArgs {
    #[command(flatten)]
    output: OutputArgs,

    /// Show more columns. Same as `--output wide`.
    #[arg(short, long)]
    details: bool,

    /// Print only IDs. Same as `--output name`.
    #[arg(short, long)]
    quiet: bool,

    /// Don't print headers.
    #[arg(long)]
    pub no_headers: bool,
}

impl ListOutputArgs {
    /// Resolves the shorthands `--quiet` and `--details`; an explicit `--output` wins over `--details`.
    pub(crate) fn format(&self) -> Format {
        match self.output.format {
            _ if self.quiet => Format::Name,
            Format::Table if self.details => Format::Wide,
            format => format,
        }
    }
}
