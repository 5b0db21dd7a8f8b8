//! Prints results in the form that the command line asks for.

use crate::args::output::OutputArgs;
use crate::error::CliError;
use crate::json::layout::{Layout, lay_out};
use crate::terminal::stdout;

/// Prints a single result.
pub(crate) fn print_result(output: &OutputArgs, result: &str) -> Result<(), CliError> {
    let is_pretty = output.pretty || (!output.compact && stdout::is_terminal());
    let layout = if is_pretty { Layout::Pretty } else { Layout::Compact };
    stdout::write_line(raw_string(output, result).unwrap_or_else(|| lay_out(result, layout)))
}

/// Prints one of many results on a line. Returns whether the reader is still there.
pub(crate) fn print_line(output: &OutputArgs, result: &str) -> Result<bool, CliError> {
    stdout::stream_line(raw_string(output, result).unwrap_or_else(|| lay_out(result, Layout::Compact)))
}

/// Returns the text of a string for `--raw`. A string with half a surrogate pair has no text and stays JSON.
fn raw_string(output: &OutputArgs, result: &str) -> Option<String> {
    if output.raw && result.starts_with('"') { serde_json::from_str(result).ok() } else { None }
}
