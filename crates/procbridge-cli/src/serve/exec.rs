//! `procbridge serve --exec`: a command answers each call. Its standard input is the payload, its output the result.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use procbridge::{Call, ReplyError, Router, code};
use serde_json::value::RawValue;

use crate::env::token;
use crate::error::CliError;
use crate::serve::child::{ChildError, ChildExit, ExecChild};
use crate::serve::child_registry::Children;
use crate::serve::find_program::find_program;
use crate::serve::logger;
use crate::text::byte_order_mark::strip_byte_order_mark;
use crate::text::system_error;

/// The command that answers calls.
#[derive(Debug)]
pub(crate) struct Exec {
    program: PathBuf,
    arguments: Vec<String>,
    /// The largest output, in bytes.
    max_output: u32,
    children: Children,
}

impl Exec {
    /// Parses the command `text`, or with `shell` leaves that to the shell. The output has `limit` bytes at most.
    pub(crate) fn new(text: &str, shell: bool, limit: u32) -> Result<Self, CliError> {
        let words = if shell {
            ["sh", "-c", text].map(str::to_string).to_vec()
        } else {
            shlex::split(text).ok_or_else(|| {
                CliError::usage("the command of --exec has an unclosed quote")
                    .with_hint("close it, or use --shell to give the command to \"sh -c\"")
            })?
        };
        let mut words = words.into_iter();
        let program = words.next().filter(|_| !text.trim().is_empty());
        let program = program.ok_or_else(|| CliError::usage("the command of --exec is empty"))?;
        let program = find_program(&program)?;
        Ok(Self { program, arguments: words.collect(), max_output: limit, children: Children::default() })
    }

    /// Returns the registry of the running commands.
    pub(crate) fn children(&self) -> Children {
        self.children.clone()
    }

    /// Returns a router whose every method is answered by the command.
    pub(crate) fn router(self) -> Router {
        Router::new().fallback(move |call, payload: Box<RawValue>| self.answer(call, &payload))
    }

    fn answer(&self, call: &Call, payload: &RawValue) -> Result<Box<RawValue>, ReplyError> {
        logger::log_call(call);
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env("PROCBRIDGE_PEER", call.peer().to_string());
        command.env_remove(token::VARIABLE);
        match call.method() {
            Some(method) if method.contains('\0') => {
                return Err(ReplyError::new("a method with a NUL character cannot be given to a command")
                    .with_code(code::INVALID_REQUEST));
            }
            Some(method) => command.env("PROCBRIDGE_METHOD", method),
            None => command.env_remove("PROCBRIDGE_METHOD"),
        };
        let child = ExecChild::start(&self.children, command).map_err(|error| {
            log::warn!("cannot start {}: {}", self.program.display(), system_error::describe(&error));
            ReplyError::new("the command cannot be started").with_code(code::INTERNAL)
        })?;
        // The line feed is for commands that read lines. JSON allows it.
        let mut input = payload.get().as_bytes().to_vec();
        input.push(b'\n');
        let time_left = || match call.remaining() {
            // The caller of a one-way call may close its session at once, which cancels the call.
            _ if call.is_cancelled() && !call.is_one_way() => None,
            Some(left) if left.is_zero() => None,
            left => Some(left.unwrap_or(Duration::MAX)),
        };
        match child.run(&input, self.max_output as usize, time_left) {
            Ok(exit) => {
                log::debug!("{} for {}: {}", self.program.display(), call.peer(), exit.status);
                answer(exit)
            }
            Err(error) => Err(self.refusal(call, error)),
        }
    }

    fn refusal(&self, call: &Call, error: ChildError) -> ReplyError {
        match error {
            ChildError::Cancelled if call.remaining().is_some_and(|left| left.is_zero()) => {
                ReplyError::new("the command timed out").with_code(code::TIMEOUT)
            }
            ChildError::Cancelled => ReplyError::new("the command was cancelled").with_code(code::CANCELLED),
            ChildError::OutputTooLarge => ReplyError::new(format!(
                "the command's output exceeds the limit of {} B (max_body)",
                self.max_output
            ))
            .with_code(code::TOO_LARGE),
            ChildError::Io(error) => {
                log::warn!("cannot read from {}: {}", self.program.display(), system_error::describe(&error));
                ReplyError::new("the command's output cannot be read").with_code(code::INTERNAL)
            }
        }
    }
}

/// Returns the answer of a command that has exited.
fn answer(exit: ChildExit) -> Result<Box<RawValue>, ReplyError> {
    if !exit.status.success() {
        return Err(failed(exit.status, exit.last_line));
    }
    let text = String::from_utf8(exit.output)
        .map_err(|_| ReplyError::new("the command's output is not UTF-8").with_code(BAD_OUTPUT))?;
    let json = strip_byte_order_mark(&text);
    if let Ok(json) = serde_json::from_str::<&RawValue>(json) {
        return Ok(json.to_owned());
    }
    if json.trim_end().is_empty() && json.len() < text.len() {
        return Ok(RawValue::NULL.to_owned());
    }
    let line = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if line.is_empty() {
        return Ok(RawValue::NULL.to_owned());
    }
    Ok(serde_json::value::to_raw_value(line)?)
}

fn failed(status: ExitStatus, last_line: String) -> ReplyError {
    let (how, number, key) = match (status.code(), status.signal()) {
        (Some(number), _) => ("exited with status", number, "status"),
        (None, signal) => ("was ended by signal", signal.unwrap_or_default(), "signal"),
    };
    let message = if last_line.is_empty() { format!("command {how} {number}") } else { last_line };
    ReplyError::new(message).with_code(FAILED).with_data(&BTreeMap::from([(key, number)]))
}

/// The codes of error answers. Codes with a dot are not the protocol's own.
const FAILED: &str = "exec.failed";
const BAD_OUTPUT: &str = "exec.output";
