//! `procbridge serve --exec`: a command answers each call, its standard input and output being payload and result.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use procbridge::{Call, Refusal, Router, code};
use rustix::fs::Access;
use serde_json::value::RawValue;

use crate::env::token;
use crate::error::CliError;
use crate::serve::child::{ChildError, ChildExit, ExecChild};
use crate::serve::child_registry::Children;
use crate::serve::logger;
use crate::text::byte_order_mark::strip_byte_order_mark;
use crate::text::system_error;

/// The command that answers calls.
#[derive(Debug)]
pub(crate) struct Exec {
    program: PathBuf,
    arguments: Vec<String>,
    limit: u32,
    children: Children,
}

impl Exec {
    /// The command that `text` names; with `shell` it is the shell's to read. More output than `limit` bytes is an
    /// error.
    pub(crate) fn new(text: &str, shell: bool, limit: u32) -> Result<Self, CliError> {
        let words = if shell {
            ["sh", "-c", text].map(str::to_string).to_vec()
        } else {
            shlex::split(text).ok_or_else(|| {
                CliError::usage("the command of --exec has a quote that is not closed")
                    .with_hint("--shell gives it to \"sh -c\" as it is")
            })?
        };
        let mut words = words.into_iter();
        let program = words.next().filter(|_| !text.trim().is_empty());
        let program = program.ok_or_else(|| CliError::usage("the command of --exec is empty"))?;
        let program = find(&program)?;
        check_script(&program)?;
        Ok(Self { program, arguments: words.collect(), limit, children: Children::default() })
    }

    /// The commands that run now.
    pub(crate) fn children(&self) -> Children {
        self.children.clone()
    }

    pub(crate) fn router(self) -> Router {
        Router::new().fallback(move |call, payload: Box<RawValue>| self.answer(call, &payload))
    }

    fn answer(&self, call: &Call, payload: &RawValue) -> Result<Box<RawValue>, Refusal> {
        logger::log_call(call);
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env("PROCBRIDGE_PEER", call.peer().to_string());
        command.env_remove(token::VARIABLE);
        match call.method() {
            Some(method) if method.contains('\0') => {
                return Err(Refusal::new("a method with a NUL character cannot be given to a command")
                    .with_code(code::INVALID_REQUEST));
            }
            Some(method) => command.env("PROCBRIDGE_METHOD", method),
            None => command.env_remove("PROCBRIDGE_METHOD"),
        };
        let child = ExecChild::start(&self.children, command).map_err(|error| {
            log::warn!("cannot start {}: {}", self.program.display(), system_error::describe(&error));
            Refusal::new("the command cannot be started").with_code(code::INTERNAL)
        })?;
        // The line's end is for commands that read lines; JSON does not mind it.
        let mut input = payload.get().as_bytes().to_vec();
        input.push(b'\n');
        let time_left = || match call.remaining() {
            // Whoever wants no answer need not stay for it, and is gone as a rule.
            _ if call.is_cancelled() && !call.is_one_way() => None,
            Some(left) if left.is_zero() => None,
            left => Some(left.unwrap_or(Duration::MAX)),
        };
        match child.run(&input, self.limit as usize, time_left) {
            Ok(ended) => {
                log::debug!("{} for {}: {}", self.program.display(), call.peer(), ended.status);
                answer(ended)
            }
            Err(stopped) => Err(self.stopped(call, stopped)),
        }
    }

    fn stopped(&self, call: &Call, stopped: ChildError) -> Refusal {
        match stopped {
            ChildError::Cancelled if call.remaining().is_some_and(|left| left.is_zero()) => {
                Refusal::new("the command did not finish within its time limit").with_code(code::TIMEOUT)
            }
            ChildError::Cancelled => Refusal::new("the command was cancelled").with_code(code::CANCELLED),
            ChildError::OutputTooLarge => {
                Refusal::new(format!("the command's output exceeds the limit of {} B (max_body)", self.limit))
                    .with_code(code::TOO_LARGE)
            }
            ChildError::Io(error) => {
                log::warn!("cannot read from {}: {}", self.program.display(), system_error::describe(&error));
                Refusal::new("the command's output cannot be read").with_code(code::INTERNAL)
            }
        }
    }
}

/// What the end of a command answers.
fn answer(ended: ChildExit) -> Result<Box<RawValue>, Refusal> {
    if !ended.status.success() {
        return Err(failed(ended.status, ended.last_line));
    }
    let text = String::from_utf8(ended.output)
        .map_err(|_| Refusal::new("the command's output is not UTF-8").with_code(BAD_OUTPUT))?;
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

fn failed(status: ExitStatus, last_line: String) -> Refusal {
    let (how, number, key) = match (status.code(), status.signal()) {
        (Some(number), _) => ("exited with status", number, "status"),
        (None, signal) => ("was ended by signal", signal.unwrap_or_default(), "signal"),
    };
    let message = if last_line.is_empty() { format!("command {how} {number}") } else { last_line };
    Refusal::new(message).with_code(FAILED).with_data(&BTreeMap::from([(key, number)]))
}

/// The file of `program`, looked for as a shell does. A server whose command does not exist must not start.
fn find(program: &str) -> Result<PathBuf, CliError> {
    let can_run = |path: &Path| path.is_file() && rustix::fs::access(path, Access::EXEC_OK).is_ok();
    if program.contains('/') {
        let path = Path::new(program);
        return match (path.exists(), can_run(path)) {
            (true, true) => Ok(path.to_path_buf()),
            (true, false) => {
                Err(CliError::usage(format!("the command {program:?} is no program that may be run"))
                    .with_hint(format!("\"chmod +x {program}\" makes a script one")))
            }
            (false, _) => Err(CliError::usage(format!("the command {program:?} does not exist"))),
        };
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|directory| directory.join(program)).find(|path| can_run(path));
    found.ok_or_else(|| {
        let failure = CliError::usage(format!("the command {program:?} is not found"));
        match Path::new(program).exists() {
            true => failure.with_hint(format!("in this directory it is written ./{program}")),
            false if program.contains([';', '|', '$', '=']) => {
                failure.with_hint("--shell lets \"sh -c\" read it")
            }
            false => failure,
        }
    })
}

/// Checks that a script names an interpreter that is there: the system says "no such file" of the script else.
fn check_script(program: &Path) -> Result<(), CliError> {
    let mut start = Vec::with_capacity(SCRIPT_LINE);
    // A program that may be run and not be read is taken as it is.
    let read = File::open(program).and_then(|file| file.take(SCRIPT_LINE as u64).read_to_end(&mut start));
    let Some(line) = start.strip_prefix(b"#!").filter(|_| read.is_ok()) else { return Ok(()) };
    let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
    if line.ends_with(b"\r") {
        return Err(CliError::usage(format!("the first line of the script {program:?} ends in CR LF"))
            .with_hint(format!("\"sed -i 's/\\r$//' {}\" makes its lines end in LF", program.display())));
    }
    let interpreter =
        line.trim_ascii_start().split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
    let interpreter = Path::new(OsStr::from_bytes(interpreter));
    if interpreter.is_absolute() && !interpreter.exists() {
        return Err(CliError::usage(format!(
            "the script {program:?} needs {interpreter:?}, which does not exist"
        ))
        .with_hint("its first line names the program that runs it"));
    }
    Ok(())
}

/// Bytes of a script in which the system looks for its interpreter.
const SCRIPT_LINE: usize = 256;
/// The codes of error answers. They have a dot, as all that are not the protocol's own.
const FAILED: &str = "exec.failed";
const BAD_OUTPUT: &str = "exec.output";
