//! Where words go: standard output carries data and nothing else, standard error carries what is said about it.

use std::env;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::failure::Failure;

/// Writes data on standard output. A reader that has seen enough and closed the pipe is no error.
pub(crate) fn data(bytes: &[u8]) -> Result<(), Failure> {
    offer(bytes).map(drop)
}

/// Writes data on standard output, and ends the line.
pub(crate) fn line(text: String) -> Result<(), Failure> {
    offer_line(text).map(drop)
}

/// The same for one line of many: tells whether the reader may want more.
pub(crate) fn offer_line(mut text: String) -> Result<bool, Failure> {
    text.push('\n');
    offer(text.as_bytes())
}

fn offer(bytes: &[u8]) -> Result<bool, Failure> {
    let _said = LAST_WORD.lock().unwrap_or_else(PoisonError::into_inner);
    write(bytes)
}

/// Writes the envelope, behind which nothing comes. `exit` is the code that belongs to it.
pub(crate) fn conclude(envelope: String, exit: u8) -> Result<(), Failure> {
    let mut said = LAST_WORD.lock().unwrap_or_else(PoisonError::into_inner);
    write((envelope + "\n").as_bytes())?;
    *said = Some(exit);
    Ok(())
}

/// Ends the program while another thread is at work. If that has not said the last word, `envelope` is it, provided that
/// nobody has to wait for the reader; and if it has, its exit code counts.
pub(crate) fn leave(envelope: Option<String>, exit: u8) -> ! {
    // Held to the end. Who holds it now waits for the reader.
    let said = LAST_WORD.try_lock();
    let exit = match (said.as_deref(), envelope) {
        (Ok(Some(exit)), _) => *exit,
        (Ok(None), Some(envelope)) if has_room() => {
            let _ = write((envelope + "\n").as_bytes());
            exit
        }
        _ => exit,
    };
    std::process::exit(i32::from(exit))
}

/// Whether standard output takes a line at once, which is shorter than what a pipe takes as a whole.
fn has_room() -> bool {
    let stdout = io::stdout();
    let mut stdout = [PollFd::new(&stdout, PollFlags::OUT)];
    poll(&mut stdout, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

fn write(bytes: &[u8]) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::system("cannot write to standard output", &error)),
    }
}

pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Says something on standard error: `label: text` on one line, then `  label: text` lines that belong to it.
pub(crate) fn complain<'a>(
    label: &str,
    text: &str,
    details: impl IntoIterator<Item = (&'a str, &'a String)>,
) {
    let colours = has_colours();
    let mut lines = String::new();
    push_label(&mut lines, label, colours);
    lines.push_str(&one_line(text));
    for (label, text) in details {
        lines.push_str("\n  ");
        push_label(&mut lines, label, colours);
        lines.push_str(&one_line(text));
    }
    note(lines);
}

/// Says a line on standard error. In one write, so that lines of several threads do not mix; if that fails there is
/// nobody left to tell.
pub(crate) fn note(mut line: String) {
    line.push('\n');
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

/// Text that a peer may have written, on one line and without commands to a terminal.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
            let _ = write!(line, "{}", c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

/// The operating system's words without the number behind them, in the style of our own messages.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => "unknown error".to_string(),
    }
}

fn push_label(out: &mut String, label: &str, colours: bool) {
    let colour = match label {
        _ if !colours => None,
        "error" => Some("\u{1b}[1;31m"),
        "warn" => Some("\u{1b}[1;33m"),
        _ => Some("\u{1b}[1;36m"),
    };
    match colour {
        Some(colour) => out.extend([colour, label, ":\u{1b}[0m "]),
        None => out.extend([label, ": "]),
    }
}

fn has_colours() -> bool {
    let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    io::stderr().is_terminal() && !is_set("NO_COLOR") && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Held while standard output is written to: the exit code of the envelope, once that is written.
static LAST_WORD: Mutex<Option<u8>> = Mutex::new(None);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_words_stay_on_one_line() {
        assert_eq!(one_line("a\nb\u{1b}[31m\u{9b}é\u{2028}"), "a\\nb\\u{1b}[31m\\u{9b}é\\u{2028}");
    }
}
