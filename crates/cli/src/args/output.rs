//! In which form things are printed.

use clap::ValueEnum;

/// How one thing is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For a person.
    #[default]
    Table,
    /// For a person, with more.
    Wide,
    /// As the server answers, one document.
    Json,
    /// The same in YAML.
    Yaml,
    /// Identifiers only.
    Name,
}

/// The form of the output.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Output {
    /// Form of the output: table, wide, json, yaml, name.
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

/// How a list is printed.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Output")]
pub struct ListFormat {
    #[command(flatten)]
    output: Output,

    /// More columns; the same as `--output wide`.
    #[arg(short, long)]
    details: bool,

    /// Identifiers only; the same as `--output name`.
    #[arg(short, long)]
    quiet: bool,

    /// No line with the names of the columns.
    #[arg(long)]
    pub no_headers: bool,
}

impl ListFormat {
    /// The form that was meant.
    pub fn format(&self) -> Format {
        match self.output.format {
            _ if self.quiet => Format::Name,
            Format::Table if self.details => Format::Wide,
            format => format,
        }
    }
}
