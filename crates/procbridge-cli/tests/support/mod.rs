//! Running the program and the servers that it talks to. Everything that waits has a watchdog.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]

use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// A success that printed exactly this, and nothing on standard error.
    #[track_caller]
    pub(crate) fn prints(&self, stdout: &str) {
        assert_eq!((self.code, self.stdout.as_str(), self.stderr.as_str()), (Some(0), stdout, ""));
    }

    /// A failure with nothing on standard output and exactly this on standard error.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, stderr: &str) {
        assert_eq!((self.code, self.stdout.as_str(), self.stderr.as_str()), (Some(code), "", stderr));
    }

    /// A failure with exactly this on standard output, and words on standard error that begin like this.
    #[track_caller]
    pub(crate) fn fails_with(&self, code: i32, stdout: &str, stderr: &str) {
        assert_eq!((self.code, self.stdout.as_str()), (Some(code), stdout), "{self:?}");
        assert!(self.stderr.starts_with(stderr), "{self:?}");
    }

    /// The one line of JSON that it printed, and nothing else.
    #[track_caller]
    pub(crate) fn envelope(&self) -> serde_json::Value {
        assert_eq!((self.stderr.as_str(), self.stdout.matches('\n').count()), ("", 1), "{self:?}");
        serde_json::from_str(&self.stdout).unwrap()
    }
}

/// The program, away from the environment of whoever runs the tests.
pub(crate) fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_procbridge"));
    command
        .args(args)
        .env_remove("PROCBRIDGE_ENDPOINT")
        .env_remove("PROCBRIDGE_TOKEN")
        .env_remove("NO_COLOR");
    command
}

/// The program, in a shell that sets something up and then becomes it. Others than bash keep the end of children to
/// themselves.
pub(crate) fn program_after(setup: &str, args: &[&str]) -> Command {
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("{setup}; exec \"$0\" \"$@\"")]);
    by(shell, &program(args))
}

/// `program`, by a `command` that becomes the one that its arguments name.
fn by(mut command: Command, program: &Command) -> Command {
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
        Run { code: status.code(), signal: status.signal(), stdout, stderr }
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

    /// The next line on standard output.
    #[track_caller]
    pub(crate) fn line(&self) -> String {
        self.stdout.recv_timeout(WATCHDOG).unwrap()
    }

    /// The next line on standard error.
    #[track_caller]
    pub(crate) fn note(&self) -> String {
        self.stderr.recv_timeout(WATCHDOG).unwrap()
    }

    /// The next line on standard error that has `words` in it.
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

    /// The exit code once it has ended, and the lines that nobody has read.
    pub(crate) fn end(mut self) -> (Option<i32>, Vec<String>, Vec<String>) {
        let rest = |lines: &Receiver<String>| {
            let mut rest = Vec::new();
            loop {
                match lines.recv_timeout(WATCHDOG) {
                    Ok(line) => rest.push(line),
                    Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return rest,
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

/// What a server has counted.
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
        // Whoever runs these tests may ignore that a terminal hangs up, and then so do they and the server.
        let mut env = Command::new("env");
        env.arg("--default-signal=HUP");
        Self::start_as(by(env, &program(&[&["serve"], args].concat())))
    }

    /// A server that `command` starts.
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

    /// A demo that gives each call a connection of its own.
    pub(crate) fn classic() -> Self {
        Self::start(&["127.0.0.1:0", "--demo", "--no-sessions"])
    }

    pub(crate) fn call(&self, args: &[&str]) -> Run {
        run(&self.arguments(args))
    }

    /// Another command than `call`.
    pub(crate) fn run(&self, command: &str, args: &[&str]) -> Run {
        run(&[&[command, self.endpoint()], args].concat())
    }

    /// Waits until the server runs no call of `method` any more.
    pub(crate) fn wait_until_idle(&self, method: &str) {
        wait_until(&format!("{method} is idle"), || {
            stats(self.endpoint())["methods"][method]["in_flight"] == 0
        });
    }

    /// A call that is not waited for.
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

    /// The next line on standard error.
    pub(crate) fn line(&self) -> String {
        self.lines.recv_timeout(WATCHDOG).unwrap()
    }

    /// The exit code once it has ended, and what else it said.
    pub(crate) fn end(mut self) -> (Option<i32>, Vec<String>) {
        let mut lines = Vec::new();
        loop {
            match self.lines.recv_timeout(WATCHDOG) {
                Ok(line) => lines.push(line),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
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

pub(crate) fn signal(id: u32, name: &str) {
    use rustix::process::{Pid, Signal, kill_process};
    // Not by the program of that name, which a bare machine lacks.
    let signal = match name {
        "CONT" => Signal::CONT,
        "HUP" => Signal::HUP,
        "INT" => Signal::INT,
        "KILL" => Signal::KILL,
        "QUIT" => Signal::QUIT,
        "STOP" => Signal::STOP,
        "TERM" => Signal::TERM,
        other => panic!("no signal {other} here"),
    };
    let process = Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
    kill_process(process, signal).unwrap();
    if signal == Signal::STOP {
        wait_until_stopped(id);
    }
}

/// A signal that stops a process takes its time to reach all threads, and the others go on meanwhile.
fn wait_until_stopped(id: u32) {
    let end = Instant::now() + WATCHDOG;
    let has_stopped = |task: std::fs::DirEntry| {
        let status = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        status.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
    };
    while !std::fs::read_dir(format!("/proc/{id}/task")).unwrap().map(Result::unwrap).all(has_stopped) {
        assert!(Instant::now() < end, "process {id} does not stop");
        thread::yield_now();
    }
}

/// Whether a process is there and is more than a corpse that nobody collects.
pub(crate) fn is_alive(id: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    status.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}

/// Waits until a process has ended.
pub(crate) fn wait_until_dead(id: &str) {
    wait_until(&format!("process {id} is dead"), || !is_alive(id));
}

/// Asks again and again.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + WATCHDOG;
    while !is_so() {
        assert!(Instant::now() < end, "it does not come about that {what}");
        thread::yield_now();
    }
}

/// A named pipe by which a command tells that it has come so far.
pub(crate) struct Pipe {
    pub(crate) path: PathBuf,
}

impl Pipe {
    pub(crate) fn new(directory: &Path) -> Self {
        let path = directory.join("pipe");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        Self { path }
    }

    pub(crate) fn read(&self) -> String {
        let path = self.path.clone();
        let read = on_a_thread(move || all(File::open(path).unwrap()));
        read.recv_timeout(WATCHDOG).unwrap().trim().to_string()
    }
}

/// Fills a pipe that nobody reads.
pub(crate) fn fill(pipe: &PipeWriter) {
    rustix::io::ioctl_fionbio(pipe, true).unwrap();
    for size in [4096, 1] {
        while (&mut &*pipe).write(&[b'-'; 4096][..size]).is_ok() {}
    }
    rustix::io::ioctl_fionbio(pipe, false).unwrap();
}

/// The first line that comes by a pipe, which stays open.
pub(crate) fn first_line(mut pipe: PipeReader) -> (String, PipeReader) {
    let read = on_a_thread(move || {
        let (mut line, mut byte) = (Vec::new(), [0]);
        while line.last() != Some(&b'\n') {
            pipe.read_exact(&mut byte).unwrap();
            line.extend(byte);
        }
        (String::from_utf8(line).unwrap(), pipe)
    });
    read.recv_timeout(WATCHDOG).unwrap()
}

/// The exit code of a process, once it has ended.
#[track_caller]
pub(crate) fn end_of(mut child: Child) -> Option<i32> {
    let id = child.id();
    let Ok(status) = on_a_thread(move || child.wait().unwrap()).recv_timeout(WATCHDOG) else {
        signal(id, "KILL");
        panic!("the process did not end");
    };
    status.code()
}

/// A server that takes one connection and its request, and does `answer` then.
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

/// A server that answers these bytes and closes.
pub(crate) fn lying(bytes: Vec<u8>) -> String {
    fake(move |stream| stream.write_all(&bytes).unwrap())
}

/// A server that answers every connection with these bytes.
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

/// Reads a packet: its kind and its body.
pub(crate) fn request(stream: &mut TcpStream) -> (u8, String) {
    stream.set_read_timeout(Some(WATCHDOG)).unwrap();
    let mut header = [0; 11];
    stream.read_exact(&mut header).unwrap();
    let length = u32::from_le_bytes([header[7], header[8], header[9], header[10]]);
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body).unwrap();
    (header[4], String::from_utf8_lossy(&body).into_owned())
}

/// A HELLO, which makes a connection a session.
pub(crate) fn hello() -> Vec<u8> {
    let mut hello = packet(3, "{\"session\":1}");
    hello[5] = 1;
    hello
}

/// A packet of a session, written by hand.
pub(crate) fn session_packet(status: u8, flags: u8, id: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_le_bytes();
    [&b"pb\x01\x01"[..], &[status, flags, 0], &length, &id.to_le_bytes(), body].concat()
}

/// A packet, written by hand.
pub(crate) fn packet(status: u8, body: &str) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_le_bytes();
    [&b"pb\x01\x01"[..], &[status, 0, 0], &length, body.as_bytes()].concat()
}

fn all(mut source: impl Read) -> String {
    let mut bytes = Vec::new();
    source.read_to_end(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn lines(source: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    let source = BufReader::new(source);
    thread::spawn(move || source.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    lines
}

pub(crate) fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (sender, receiver) = channel();
    thread::spawn(move || sender.send(work()));
    receiver
}

/// Nothing that these tests do takes long; this is for machines that are busy.
pub(crate) const WATCHDOG: Duration = Duration::from_secs(30);
