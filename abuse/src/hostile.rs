//! Servers that mean harm, and programs that meet them as clients.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::connection::Connection;
use crate::process::Figures;
use crate::server;

/// A server that does the same to each connection.
#[derive(Debug)]
pub(crate) struct Hostile {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stopped: AtomicBool,
    connections: AtomicUsize,
}

/// One connection of it, which says when the attack on it ends.
#[derive(Debug)]
pub(crate) struct Victim {
    pub(crate) connection: Connection,
    shared: Arc<Shared>,
}

impl Victim {
    pub(crate) fn is_over(&self) -> bool {
        self.shared.stopped.load(Ordering::Relaxed)
    }

    /// Waits until the client goes or the server stops.
    pub(crate) fn hold(&self) {
        while !self.is_over() && !self.connection.has_ended() {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Hostile {
    pub(crate) fn start(treat: impl Fn(&mut Victim) + Send + Sync + 'static) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let (inner, treat) = (shared.clone(), Arc::new(treat));
        let thread = thread::spawn(move || {
            let mut treated = Vec::new();
            while !inner.stopped.load(Ordering::Relaxed) {
                let Ok((stream, _)) = listener.accept() else {
                    thread::sleep(Duration::from_millis(1));
                    continue;
                };
                inner.connections.fetch_add(1, Ordering::Relaxed);
                let (shared, treat) = (inner.clone(), treat.clone());
                treated.push(thread::spawn(move || {
                    if stream.set_nonblocking(false).is_ok()
                        && let Ok(connection) = Connection::of(stream.into())
                    {
                        treat(&mut Victim { connection, shared });
                    }
                }));
                // A client that comes again and again must not cost a thread each time.
                treated.retain(|thread: &JoinHandle<()>| !thread.is_finished());
            }
            for thread in treated {
                let _ = thread.join();
            }
        });
        Ok(Self { address, shared, thread: Some(thread) })
    }

    /// Returns the endpoint, as clients take it.
    pub(crate) fn endpoint(&self) -> String {
        format!("tcp:{}", self.address)
    }

    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The outcome of a client.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ended {
    /// How long it took. Nothing if it was killed for taking too long.
    pub(crate) took: Option<Duration>,
    pub(crate) output: String,
    /// The most resident memory that was seen.
    pub(crate) peak_kib: usize,
    pub(crate) cpu: Duration,
}

impl Ended {
    /// Returns the milliseconds that a line of `abuse-peer` begins with: the longest.
    pub(crate) fn longest_call(&self) -> f64 {
        let times = self.output.lines().filter_map(|line| line.split(' ').next()?.parse::<f64>().ok());
        times.fold(0.0, f64::max)
    }
}

/// Runs a client to its end, or for `limit`.
pub(crate) fn client(program: Program, arguments: &[&str], limit: Duration) -> Ended {
    let path = match program {
        Program::Peer => server::peer(),
        Program::CommandLine => server::procbridge(),
    };
    let Ok(mut command) = server::tied(&path, None) else { return Ended::default() };
    command.args(arguments);
    match start(&mut command) {
        Ok(child) => attend(child, limit),
        Err(_) => Ended::default(),
    }
}

/// Which program is the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// `abuse-peer`, of either face.
    Peer,
    /// `procbridge`.
    CommandLine,
}

fn start(command: &mut Command) -> std::io::Result<Child> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
}

fn attend(mut child: Child, limit: Duration) -> Ended {
    let began = Instant::now();
    let mut ended = Ended::default();
    let outputs: Vec<JoinHandle<String>> =
        [child.stdout.take().map(collect), child.stderr.take().map(collect)].into_iter().flatten().collect();
    loop {
        if let Ok(figures) = Figures::of(child.id()) {
            ended.peak_kib = ended.peak_kib.max(figures.peak_kib);
            ended.cpu = ended.cpu.max(figures.cpu);
        }
        if let Ok(Some(_)) = child.try_wait() {
            ended.took = Some(began.elapsed());
            break;
        }
        if began.elapsed() > limit {
            let _ = child.kill();
            let _ = child.wait();
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    for output in outputs {
        ended.output.push_str(&output.join().unwrap_or_default());
    }
    ended
}

/// Reads what a client says, up to a bound.
fn collect(pipe: impl std::io::Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut text = String::new();
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if text.len() < 100_000 {
                text.push_str(&line);
                text.push('\n');
            }
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_call_is_that_of_the_lines() {
        let output = "12 ok\n1004 Timeout Unknown no answer within 1 s\n".to_string();
        assert_eq!(Ended { output, ..Ended::default() }.longest_call(), 1004.0);
        assert_eq!(Ended::default().longest_call(), 0.0);
    }
}
