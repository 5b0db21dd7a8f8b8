//! Signals, pipes and the ends of processes.

use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

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

/// Waits until all threads have stopped. A signal takes its time to reach them, and the others go on meanwhile.
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

/// Whether a process is there and is more than a zombie.
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

/// Fills a pipe without a reader.
pub(crate) fn fill(pipe: &PipeWriter) {
    rustix::io::ioctl_fionbio(pipe, true).unwrap();
    for size in [4096, 1] {
        while (&mut &*pipe).write(&[b'-'; 4096][..size]).is_ok() {}
    }
    rustix::io::ioctl_fionbio(pipe, false).unwrap();
}

/// Returns the first line that comes by a pipe, which stays open.
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

/// Returns the exit code of a process, once it has ended.
#[track_caller]
pub(crate) fn end_of(mut child: Child) -> Option<i32> {
    let id = child.id();
    let Ok(status) = on_a_thread(move || child.wait().unwrap()).recv_timeout(WATCHDOG) else {
        signal(id, "KILL");
        panic!("the process did not end");
    };
    status.code()
}

pub(crate) fn all(mut source: impl Read) -> String {
    let mut bytes = Vec::new();
    source.read_to_end(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

pub(crate) fn lines(source: impl Read + Send + 'static) -> Receiver<String> {
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
