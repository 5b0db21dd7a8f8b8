//! A `procbridge serve`, and servers that misbehave.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;

use super::packet::request;
use super::process::{WATCHDOG, lines, signal, wait_until};
use super::program::{Run, Running, by, program, run, run_with};

/// Returns the counters of a server.
pub(crate) fn stats(endpoint: &str) -> serde_json::Value {
    serde_json::from_str(&run(&["stats", endpoint]).stdout).unwrap()
}

/// A `procbridge serve` that is ready.
pub(crate) struct Serving {
    child: Child,
    pub(crate) endpoints: Vec<String>,
    lines: Receiver<String>,
}

impl Serving {
    pub(crate) fn demo() -> Self {
        Self::start(&["127.0.0.1:0", "--demo"])
    }

    pub(crate) fn start(args: &[&str]) -> Self {
        // The parent of these tests may ignore that a terminal hangs up, and then so do they and the server.
        let mut env = Command::new("env");
        env.arg("--default-signal=HUP");
        Self::start_as(by(env, &program(&[&["serve"], args].concat())))
    }

    /// Returns a server that `command` starts.
    pub(crate) fn start_as(mut command: Command) -> Self {
        command.stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = lines(child.stderr.take().unwrap());
        let ready = lines.recv_timeout(WATCHDOG).unwrap();
        let endpoints = ready.strip_prefix("ready: listening on ").unwrap_or_else(|| panic!("{ready}"));
        let endpoints = endpoints.split(' ').map(str::to_string).collect();
        Self { child, endpoints, lines }
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoints[0]
    }

    /// Returns a demo that gives each call a connection of its own.
    pub(crate) fn classic() -> Self {
        Self::start(&["127.0.0.1:0", "--demo", "--no-sessions"])
    }

    pub(crate) fn call(&self, args: &[&str]) -> Run {
        run(&self.arguments(args))
    }

    /// Runs another command than `call`.
    pub(crate) fn run(&self, command: &str, args: &[&str]) -> Run {
        run(&[&[command, self.endpoint()], args].concat())
    }

    /// Runs a command that has the endpoint from the environment.
    pub(crate) fn run_by_variable(&self, args: &[&str]) -> Run {
        let mut command = program(args);
        command.env("PROCBRIDGE_ENDPOINT", self.endpoint());
        run_with(command, b"")
    }

    /// Waits until the server runs no call of `method` any more.
    pub(crate) fn wait_until_idle(&self, method: &str) {
        wait_until(&format!("{method} is idle"), || {
            stats(self.endpoint())["methods"][method]["in_flight"] == 0
        });
    }

    /// Returns a call that is not waited for.
    pub(crate) fn begin_call(&self, args: &[&str]) -> Running {
        Running::start(program(&self.arguments(args)), b"")
    }

    fn arguments<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        [&["call", self.endpoint()], args].concat()
    }

    /// Waits until a server with `--verbose` has taken a call of `method`.
    pub(crate) fn wait_for_call(&self, method: &str) {
        while !self.line().ends_with(&format!(" calls {method:?}")) {}
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// Returns the next line on standard error.
    pub(crate) fn line(&self) -> String {
        self.lines.recv_timeout(WATCHDOG).unwrap()
    }

    /// Returns the exit code once it has ended, and what else it said.
    pub(crate) fn end(mut self) -> (Option<i32>, Vec<String>) {
        let mut lines = Vec::new();
        loop {
            match self.lines.recv_timeout(WATCHDOG) {
                Ok(line) => lines.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(_) => panic!("the server did not end"),
            }
        }
        // Its standard error is closed: it has ended, or is about to.
        (self.child.wait().unwrap().code(), lines)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a server that takes one connection and its request, and does `answer` then.
pub(crate) fn fake(answer: impl FnOnce(&mut TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        request(&mut stream);
        answer(&mut stream);
    });
    endpoint
}

/// Returns a server that answers these bytes and closes.
pub(crate) fn lying(bytes: Vec<u8>) -> String {
    fake(move |stream| stream.write_all(&bytes).unwrap())
}

/// Returns a server that answers every connection with these bytes.
pub(crate) fn always(bytes: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            request(&mut stream);
            stream.write_all(&bytes).unwrap();
        }
    });
    endpoint
}
