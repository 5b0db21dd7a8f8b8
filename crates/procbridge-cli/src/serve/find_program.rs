//! Finds the program of `--exec`, and checks that it can run.
//!
//! A server whose program cannot run must not start.

use std::env;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use crate::error::CliError;

/// Returns the file of `program`, which is searched as a shell does.
pub(crate) fn find_program(program: &str) -> Result<PathBuf, CliError> {
    let path = search(program)?;
    check_script(&path)?;
    Ok(path)
}

fn search(program: &str) -> Result<PathBuf, CliError> {
    let can_run = |path: &Path| path.is_file() && rustix::fs::access(path, Access::EXEC_OK).is_ok();
    if program.contains('/') {
        let path = Path::new(program);
        return match (path.exists(), can_run(path)) {
            (true, true) => Ok(path.to_path_buf()),
            (true, false) => Err(CliError::usage(format!("the command {program:?} is not executable"))
                .with_hint(format!("\"chmod +x {program}\" makes a script executable"))),
            (false, _) => Err(CliError::usage(format!("the command {program:?} does not exist"))),
        };
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|directory| directory.join(program)).find(|path| can_run(path));
    found.ok_or_else(|| {
        let error = CliError::usage(format!("the command {program:?} is not found"));
        match Path::new(program).exists() {
            true => error.with_hint(format!("in this directory it is written ./{program}")),
            false if program.contains([';', '|', '$', '=']) => {
                error.with_hint("--shell gives it to \"sh -c\"")
            }
            false => error,
        }
    })
}

/// Checks that a script names an interpreter that exists. Otherwise the system reports that the script does not exist.
fn check_script(program: &Path) -> Result<(), CliError> {
    let mut start = Vec::with_capacity(SCRIPT_LINE);
    // An executable program may be unreadable. It is not checked.
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
        .with_hint("install it, or change the first line of the script"));
    }
    Ok(())
}

/// The number of bytes in which the system looks for an interpreter.
const SCRIPT_LINE: usize = 256;
