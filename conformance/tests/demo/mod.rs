//! A running `procbridge serve --demo`, and bare connections to it.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    reason = "tests may stop at the first surprise"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use serde_json::Value;

/// A server process, killed when dropped.
pub struct Demo {
    pub child: Child,
    pub endpoints: Vec<String>,
    _stderr: BufReader<ChildStderr>,
    _dir: tempfile::TempDir,
}

/// One answer: version, status code, body.
#[derive(Debug, PartialEq)]
pub struct Answer {
    pub version: [u8; 2],
    pub status: u8,
    pub body: Value,
}

pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Returns the binary that was built beside this test.
pub fn binary() -> PathBuf {
    if let Some(path) = env::var_os("PROCBRIDGE_BIN") {
        return path.into();
    }
    let test = env::current_exe().unwrap();
    let binary = test.parent().unwrap().parent().unwrap().join("procbridge");
    assert!(binary.exists(), "no {}: run `cargo build` first, or set PROCBRIDGE_BIN", binary.display());
    binary
}

impl Demo {
    /// Serves on TCP and on a Unix socket.
    pub fn start(options: &[&str]) -> Self {
        Self::start_as(Command::new(binary()), options)
    }

    /// Does the same by a command that runs the binary with the arguments that are added to it.
    pub fn start_as(mut command: Command, options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = format!("unix:{}/demo.sock", dir.path().display());
        command.args(["serve", "127.0.0.1:0", &path, "--demo"]).args(options);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let listening = line.trim().strip_prefix("ready: listening on ");
        let endpoints = listening.unwrap_or_else(|| panic!("not ready: {line}"));
        let endpoints = endpoints.split(' ').map(str::to_string).collect();
        Self { child, endpoints, _stderr: stderr, _dir: dir }
    }

    pub fn connect(&self, endpoint: &str) -> Stream {
        let stream = match endpoint.strip_prefix("unix:") {
            Some(path) => Stream::Unix(UnixStream::connect(path).unwrap()),
            None => Stream::Tcp(TcpStream::connect(endpoint.strip_prefix("tcp:").unwrap()).unwrap()),
        };
        match &stream {
            Stream::Tcp(stream) => stream.set_read_timeout(Some(WATCHDOG)).unwrap(),
            Stream::Unix(stream) => stream.set_read_timeout(Some(WATCHDOG)).unwrap(),
        }
        stream
    }

    /// Proves that the server serves.
    pub fn check(&self, endpoint: &str) {
        let mut stream = self.connect(endpoint);
        stream.write_all(&request(r#"{"method":"sum","payload":[1,2,3,4]}"#)).unwrap();
        let answer = stream.answer().unwrap();
        assert_eq!((answer.status, &answer.body["payload"]), (1, &Value::from(10)));
    }

    /// Waits until the server serves again; it may still be full of what has just gone.
    pub fn recover(&self, endpoint: &str) {
        let deadline = Instant::now() + WATCHDOG;
        loop {
            let mut stream = self.connect(endpoint);
            // A full server may close the connection before the request is written.
            let written = stream.write_all(&request(r#"{"method":"echo","payload":1}"#));
            if written.is_ok() && stream.answer().is_some_and(|answer| answer.status == 1) {
                return;
            }
            assert!(Instant::now() < deadline, "the server does not recover");
        }
    }

    /// Returns the resident memory in KiB.
    pub fn resident(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Sends SIGTERM and waits for the end.
    pub fn terminate(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let deadline = Instant::now() + WATCHDOG;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the server does not end");
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Stream {
    pub fn finish_writing(&self) {
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    /// Reads to the end: the one packet that comes, or nothing.
    pub fn answer(&mut self) -> Option<Answer> {
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes).unwrap();
        if bytes.is_empty() {
            return None;
        }
        let (header, body) = bytes.split_at(11);
        let &[b'p', b'b', major, minor, status, 0, 0, a, b, c, d] = header else {
            panic!("a strange header {header:?}")
        };
        assert_eq!(u32::from_le_bytes([a, b, c, d]) as usize, body.len());
        Some(Answer { version: [major, minor], status, body: serde_json::from_slice(body).unwrap() })
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(buffer),
            Self::Unix(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Returns a 1.1 request packet.
pub fn request(body: &str) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_le_bytes();
    [&b"pb\x01\x01\0\0\0"[..], &length, body.as_bytes()].concat()
}

pub const WATCHDOG: Duration = Duration::from_secs(30);
