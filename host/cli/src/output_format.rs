//! Argument `--format`: how values are printed.

use clap::ValueEnum;
use reloader_delivery::Format;

/// Format in which commands print the values of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatArg {
    Json,
    Raw,
}

impl From<FormatArg> for Format {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Json => Self::Json,
            FormatArg::Raw => Self::Raw,
        }
    }
}
