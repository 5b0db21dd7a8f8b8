//! Prepares the arguments for the parser, which takes negative numbers for options.
//!
//! Arguments must be UTF-8, but the names of files may have any bytes.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::{Command, CommandFactory};

use crate::args::command_line::CommandLine;
use crate::args::utf8::not_utf8;
use crate::args::word::MARK;
use crate::error::CliError;

/// Marks negative numbers in the arguments of this process.
///
/// # Errors
///
/// Fails for an argument that is not UTF-8 and names no file.
pub(crate) fn preprocess(args: impl IntoIterator<Item = OsString>) -> Result<Vec<OsString>, CliError> {
    let command_line = CommandLine::command();
    let mut prepared = Vec::new();
    let mut command = None;
    let (mut is_value, mut are_options_over) = (false, false);
    for (number, word) in args.into_iter().enumerate() {
        let is_utf8 = word.to_str().is_some();
        let Some(command) = command else {
            if number > 0 && !is_utf8 {
                return Err(not_utf8(&word));
            }
            if number == 1 {
                command = command_line.find_subcommand(&word);
            }
            prepared.push(word);
            continue;
        };
        if !(is_utf8 || takes_files(command) && may_name_file(&word)) {
            return Err(not_utf8(&word));
        }
        if !is_value && !are_options_over && takes_json(command) && is_number(&word) {
            let mut marked = OsString::from(MARK);
            marked.push(word);
            prepared.push(marked);
            continue;
        }
        are_options_over |= !is_value && word == "--";
        is_value = !is_value && !are_options_over && takes_value(command, &word);
        prepared.push(word);
    }
    Ok(prepared)
}

/// Whether `word` is a negative number, or looks like one. The command reports what is wrong with it.
fn is_number(word: &OsStr) -> bool {
    let Some(number) = word.to_str().and_then(|word| word.strip_prefix('-')) else { return false };
    let is_name = || ["inf", "infinity", "nan"].contains(&number.to_ascii_lowercase().as_str());
    number.starts_with(|c: char| c.is_ascii_digit() || c == '.') || is_name()
}

/// Whether the value of `option` is the next word.
fn takes_value(command: &Command, option: &OsStr) -> bool {
    let Some(option) = option.to_str() else { return false };
    let mut options = command.get_opts().filter(|option| option.get_action().takes_values());
    if let Some(long) = option.strip_prefix("--") {
        return options.any(|known| known.get_long() == Some(long));
    }
    // In "-rn" the last letter takes the value.
    let last = option.strip_prefix('-').and_then(|letters| letters.chars().last());
    last.is_some() && options.any(|known| known.get_short() == last)
}

fn takes_json(command: &Command) -> bool {
    matches!(command.get_name(), "call" | "emit")
}

fn takes_files(command: &Command) -> bool {
    takes_json(command) || command.get_name() == "decode"
}

fn may_name_file(word: &OsStr) -> bool {
    let word = word.as_bytes();
    word.starts_with(b"@") || word.windows(2).any(|pair| pair == b"=@")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::utf8::into_utf8;

    fn marked(args: &[&str]) -> Vec<String> {
        let args = std::iter::once("procbridge").chain(args.iter().copied()).map(OsString::from);
        preprocess(args).unwrap().into_iter().skip(1).map(|word| into_utf8(word).unwrap()).collect()
    }

    #[test]
    fn numbers_are_marked_where_they_are_words() {
        for number in ["-1", "-0", "-1e-05", "-1.5e-3", "-1E+2", "-1e5", "-.5", "-01", "-Infinity", "-NaN"] {
            let mark = format!("\0{number}");
            assert_eq!(marked(&["call", ":1", "m", number]), ["call", ":1", "m", &mark]);
            assert_eq!(marked(&["emit", number, "--raw", number]), ["emit", &mark, "--raw", &mark]);
            for kept in [
                &["call", ":1", "m", "--token", number][..],
                &["call", ":1", "--", number],
                &["ping", "-n", number],
                &["serve", ":1", number],
            ] {
                assert_eq!(marked(kept), kept);
            }
        }
        let kept = ["call", "-r", "-v", "--count", "3", "-1x", "-name", "-", "--json"];
        assert_eq!(marked(&kept)[5], "\0-1x");
        assert_eq!(marked(&kept)[6..], kept[6..]);
    }

    #[test]
    fn only_files_may_have_other_bytes() {
        let checked = |args: &[&[u8]]| {
            let args = args.iter().map(|word| OsStr::from_bytes(word).to_os_string());
            preprocess(args).is_ok()
        };
        for right in [&b"@caf\xe9"[..], b"a=@caf\xe9", b"a:=@caf\xe9"] {
            assert!(checked(&[b"procbridge", b"call", b":1", b"m", right]));
            assert!(!checked(&[b"procbridge", b"watch", b":1", right]));
        }
        assert!(checked(&[b"proc\xe9", b"call"]));
        assert!(checked(&[b"procbridge", b"decode", b"@caf\xe9"]));
        for wrong in [&b"caf\xe9"[..], b"a=caf\xe9", b"--token=\xe9", b"-\xe9"] {
            assert!(!checked(&[b"procbridge", b"call", b":1", b"m", wrong]));
        }
        assert!(!checked(&[b"procbridge", b"caf\xe9"]));
    }
}
