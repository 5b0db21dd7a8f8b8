//! Standard output, which carries data and nothing else.

use std::io::{self, ErrorKind, IsTerminal};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::error::CliError;
use crate::terminal::descriptor::{is_writable, write_all};
use crate::terminal::stderr;
use crate::text::unprintable::escape_for_terminal;

/// Writes data. A reader that closes the pipe early is no error.
pub(crate) fn write(text: &str) -> Result<(), CliError> {
    write_data(text).map(drop)
}

/// Writes data and ends the line.
pub(crate) fn write_line(text: String) -> Result<(), CliError> {
    stream_line(text).map(drop)
}

/// Writes one line of many. Returns whether the reader is still there.
pub(crate) fn stream_line(text: String) -> Result<bool, CliError> {
    write_data(&(text + "\n"))
}

/// Writes a text of this program, which may use commands of the terminal.
pub(crate) fn write_unescaped(text: &str) -> Result<(), CliError> {
    write_bytes(text.as_bytes()).map(drop)
}

/// Writes the envelope, which is the last output. `exit` is its exit code.
pub(crate) fn write_envelope(envelope: String, exit: u8) -> Result<(), CliError> {
    let mut envelope_exit = ENVELOPE_EXIT.lock().unwrap_or_else(PoisonError::into_inner);
    write_escaped(&(envelope + "\n"))?;
    *envelope_exit = Some(exit);
    Ok(())
}

/// Ends the program while another thread may be writing.
///
/// If that thread has written its envelope, the envelope's exit code counts. Otherwise this writes `envelope`, unless that
/// would wait for the reader.
pub(crate) fn exit(envelope: Option<String>, exit: u8) -> ! {
    // The lock is held until the program ends. A thread that holds it now waits for the reader.
    let envelope_exit = ENVELOPE_EXIT.try_lock();
    let exit = match (envelope_exit.as_deref(), envelope) {
        (Ok(Some(exit)), _) => *exit,
        (Ok(None), Some(envelope)) if is_writable(io::stdout()) => {
            let _ = write_escaped(&(envelope + "\n"));
            exit
        }
        _ => exit,
    };
    stderr::flush();
    std::process::exit(i32::from(exit))
}

/// Whether standard output is a terminal.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

fn write_data(text: &str) -> Result<bool, CliError> {
    let _envelope_exit = ENVELOPE_EXIT.lock().unwrap_or_else(PoisonError::into_inner);
    write_escaped(text)
}

/// Writes data as it is to a pipe or file, and with unprintable characters escaped to a terminal.
fn write_escaped(text: &str) -> Result<bool, CliError> {
    if is_terminal() {
        write_bytes(escape_for_terminal(text).as_bytes())
    } else {
        write_bytes(text.as_bytes())
    }
}

/// Returns whether the reader is still there.
fn write_bytes(bytes: &[u8]) -> Result<bool, CliError> {
    // Flush standard error first, or earlier messages would follow the data on a shared terminal.
    stderr::flush_within(STDERR_TIMEOUT);
    match write_all(io::stdout(), bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(CliError::system("cannot write to standard output", &error)),
    }
}

/// The exit code of the envelope once that is written. The lock is held during every write.
static ENVELOPE_EXIT: Mutex<Option<u8>> = Mutex::new(None);
/// The wait for earlier messages on standard error.
const STDERR_TIMEOUT: Duration = Duration::from_millis(50);
