//! Where words go: standard output carries data and nothing else, standard error carries what is envelope_exit about it.

use std::io::{self, ErrorKind, IsTerminal};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::CliError;
use crate::terminal::{descriptor, stderr};
use crate::text::unprintable::escape_for_terminal;

/// Writes data on standard output. A reader that has seen enough and closed the pipe is no error.
pub(crate) fn write(text: &str) -> Result<(), CliError> {
    stream(text).map(drop)
}

/// Writes data on standard output, and ends the line.
pub(crate) fn write_line(text: String) -> Result<(), CliError> {
    stream_line(text).map(drop)
}

/// The same for one line of many: tells whether the reader may want more.
pub(crate) fn stream_line(mut text: String) -> Result<bool, CliError> {
    text.push('\n');
    stream(&text)
}

/// Writes a text of this program, which may command the terminal.
pub(crate) fn write_unescaped(text: &str) -> Result<(), CliError> {
    write_bytes(text.as_bytes()).map(drop)
}

fn stream(text: &str) -> Result<bool, CliError> {
    let _envelope_exit = ENVELOPE.lock().unwrap_or_else(PoisonError::into_inner);
    write_data(text)
}

/// Writes the envelope, behind which nothing comes. `exit` is the code that belongs to it.
pub(crate) fn write_envelope(envelope: String, exit: u8) -> Result<(), CliError> {
    let mut envelope_exit = ENVELOPE.lock().unwrap_or_else(PoisonError::into_inner);
    write_data(&(envelope + "\n"))?;
    *envelope_exit = Some(exit);
    Ok(())
}

/// Ends the program while another thread is at work. If that has not envelope_exit the last word, `envelope` is it, provided that
/// nobody has to wait for the reader; and if it has, its exit code counts.
pub(crate) fn exit(envelope: Option<String>, exit: u8) -> ! {
    // Held to the end. Who holds it now waits for the reader.
    let envelope_exit = ENVELOPE.try_lock();
    let exit = match (envelope_exit.as_deref(), envelope) {
        (Ok(Some(exit)), _) => *exit,
        (Ok(None), Some(envelope)) if is_writable() => {
            let _ = write_data(&(envelope + "\n"));
            exit
        }
        _ => exit,
    };
    stderr::flush();
    std::process::exit(i32::from(exit))
}

/// Whether standard output takes a line at once, which is shorter than what a pipe takes as a whole.
fn is_writable() -> bool {
    let stdout = io::stdout();
    let mut stdout = [PollFd::new(&stdout, PollFlags::OUT)];
    poll(&mut stdout, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Writes data as it is; what a terminal would take for commands, or not show, is escaped there.
fn write_data(text: &str) -> Result<bool, CliError> {
    if is_terminal() {
        write_bytes(escape_for_terminal(text).as_bytes())
    } else {
        write_bytes(text.as_bytes())
    }
}

fn write_bytes(bytes: &[u8]) -> Result<bool, CliError> {
    // What was envelope_exit before stands before it, where both go to one place.
    stderr::flush_within(STDERR_FIRST);
    match descriptor::write_all(io::stdout(), bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(CliError::system("cannot write to standard output", &error)),
    }
}

pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Held while standard output is written to: the exit code of the envelope, once that is written.
static ENVELOPE: Mutex<Option<u8>> = Mutex::new(None);

/// The wait for what was envelope_exit before.
const STDERR_FIRST: Duration = Duration::from_millis(50);
