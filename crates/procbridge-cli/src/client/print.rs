//! JSON that a server answered, as it is printed.

use crate::args::output::OutputArgs;
use crate::error::CliError;
use crate::json::layout::{Layout, lay_out};
use crate::terminal::stdout;

/// Prints a result in the output that was asked for.
pub(crate) fn print_result(output: &OutputArgs, result: &str) -> Result<(), CliError> {
    let is_pretty = output.pretty || (!output.compact && stdout::is_terminal());
    let layout = if is_pretty { Layout::Pretty } else { Layout::Compact };
    stdout::write_line(bare(output, result).unwrap_or_else(|| lay_out(result, layout)))
}

/// Prints one of many results, on a line of its own, and tells whether the reader may want more.
pub(crate) fn print_line(output: &OutputArgs, result: &str) -> Result<bool, CliError> {
    stdout::stream_line(bare(output, result).unwrap_or_else(|| compact(result)))
}

/// `text` as JSON on one line.
pub(crate) fn compact(text: &str) -> String {
    lay_out(text, Layout::Compact)
}

/// The text of a string, if that is to be printed. One with half a surrogate pair is no text; it stays JSON.
fn bare(output: &OutputArgs, result: &str) -> Option<String> {
    if output.raw && result.starts_with('"') { serde_json::from_str(result).ok() } else { None }
}
