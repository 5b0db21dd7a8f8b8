//! Runs the program to its end, or reads its lines as they come.

use std::io::Write;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;

use super::process::{WATCHDOG, all, lines, on_a_thread, signal};

/// The output of a run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// Checks for a success that printed exactly this, and nothing on standard error.
    #[track_caller]
    pub(crate) fn prints(&self, stdout: &str) {
        assert_eq!((self.code, self.stdout.as_str(), self.stderr.as_str()), (Some(0), stdout, ""));
    }

    /// Checks for a failure with nothing on standard output and exactly this on standard error.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, stderr: &str) {
        assert_eq!((self.code, self.stdout.as_str(), self.stderr.as_str()), (Some(code), "", stderr));
    }

    /// Checks for a failure with exactly this on standard output, and words on standard error that begin like this.
    #[track_caller]
    pub(crate) fn fails_with(&self, code: i32, stdout: &str, stderr: &str) {
        assert_eq!((self.code, self.stdout.as_str()), (Some(code), stdout), "{self:?}");
        assert!(self.stderr.starts_with(stderr), "{self:?}");
    }

    /// Returns the one line of JSON that it printed, and nothing else.
    #[track_caller]
    pub(crate) fn envelope(&self) -> serde_json::Value {
        assert_eq!((self.stderr.as_str(), self.stdout.matches('\n').count()), ("", 1), "{self:?}");
        serde_json::from_str(&self.stdout).unwrap()
    }
}

/// Returns the program, away from the environment of the tests.
pub(crate) fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_procbridge"));
    command
        .args(args)
        .env_remove("PROCBRIDGE_ENDPOINT")
        .env_remove("PROCBRIDGE_TOKEN")
        .env_remove("NO_COLOR");
    command
}

/// Returns the program, in a shell that sets something up and then becomes it. Shells other than bash keep the end of
/// children to themselves.
pub(crate) fn program_after(setup: &str, args: &[&str]) -> Command {
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("{setup}; exec \"$0\" \"$@\"")]);
    by(shell, &program(args))
}

/// Returns `program`, run by a `command` that becomes the one that its arguments name.
pub(crate) fn by(mut command: Command, program: &Command) -> Command {
    command.arg(program.get_program()).args(program.get_args());
    for (name, _) in program.get_envs() {
        command.env_remove(name);
    }
    command
}

/// Runs the program to its end.
pub(crate) fn run(args: &[&str]) -> Run {
    run_with(program(args), b"")
}

/// Runs a command to its end, with `input` on its standard input.
pub(crate) fn run_with(command: Command, input: &[u8]) -> Run {
    Running::start(command, input).end()
}

/// A program that runs.
pub(crate) struct Running {
    pub(crate) id: u32,
    ended: Receiver<ExitStatus>,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl Running {
    pub(crate) fn start(mut command: Command, input: &[u8]) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // A program that takes no more of its input is right to do so.
        thread::spawn(move || drop(stdin.write_all(&input)));
        let (stdout, stderr) = (on_a_thread(move || all(stdout)), on_a_thread(move || all(stderr)));
        Self { id: child.id(), ended: on_a_thread(move || child.wait().unwrap()), stdout, stderr }
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.id, name);
    }

    pub(crate) fn end(self) -> Run {
        let Ok(status) = self.ended.recv_timeout(WATCHDOG) else {
            self.signal("KILL");
            panic!("the program did not end");
        };
        let stdout = self.stdout.recv_timeout(WATCHDOG).unwrap();
        let stderr = self.stderr.recv_timeout(WATCHDOG).unwrap();
        Run { code: status.code(), stdout, stderr }
    }
}

/// A program whose lines are read as they come.
pub(crate) struct Talking {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl Talking {
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut command = program(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (stdout, stderr) = (lines(child.stdout.take().unwrap()), lines(child.stderr.take().unwrap()));
        Self { child, stdout, stderr }
    }

    /// Returns the next line on standard output.
    #[track_caller]
    pub(crate) fn line(&self) -> String {
        self.stdout.recv_timeout(WATCHDOG).unwrap()
    }

    /// Returns the next line on standard error.
    #[track_caller]
    pub(crate) fn note(&self) -> String {
        self.stderr.recv_timeout(WATCHDOG).unwrap()
    }

    /// Returns the next line on standard error that has `words` in it.
    #[track_caller]
    pub(crate) fn note_with(&self, words: &str) -> String {
        loop {
            let line = self.note();
            if line.contains(words) {
                return line;
            }
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Returns the exit code once it has ended, and the lines that were not read.
    pub(crate) fn end(mut self) -> (Option<i32>, Vec<String>, Vec<String>) {
        let rest = |lines: &Receiver<String>| {
            let mut rest = Vec::new();
            loop {
                match lines.recv_timeout(WATCHDOG) {
                    Ok(line) => rest.push(line),
                    Err(RecvTimeoutError::Disconnected) => return rest,
                    Err(_) => panic!("the program did not end"),
                }
            }
        };
        let (stdout, stderr) = (rest(&self.stdout), rest(&self.stderr));
        (self.child.wait().unwrap().code(), stdout, stderr)
    }
}

impl Drop for Talking {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
