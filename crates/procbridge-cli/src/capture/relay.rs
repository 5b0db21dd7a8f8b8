//! A look at what goes over a connection: calls go to a private socket of this process, which passes them on.
//!
//! The library knows nothing of it. The socket has an abstract name, and lets in nobody but this process.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use procbridge::{Endpoint, Peer};
use procbridge_proto::{Status, flag};
use rustix::net::{Shutdown, shutdown};

use crate::capture::packet_splitter::Captured;
use crate::capture::packet_splitter::Packet;
use crate::capture::packet_splitter::PacketSplitter;
use crate::dissect::names;
use crate::env::token;
use crate::error::CliError;
use crate::terminal::stdout;
use crate::text::unprintable::escape_message;

/// A private way to a server. Once it is dropped, all that went over it has been told.
#[derive(Debug)]
pub(crate) struct Capture {
    endpoint: Endpoint,
    /// The thread that takes connections from it has it.
    listener: Weak<UnixListener>,
    state: Arc<CaptureState>,
}

/// What was observed of a server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    /// Who is at the other end.
    pub(crate) peer: Option<String>,
    /// What it said of itself, if it holds a session.
    pub(crate) hello: Option<Hello>,
}

/// The first packet of a session.
#[derive(Clone, Debug)]
pub(crate) struct Hello {
    pub(crate) options: u8,
    pub(crate) body: Vec<u8>,
}

#[derive(Debug)]
struct CaptureState {
    server: Endpoint,
    connect_timeout: Option<Duration>,
    /// Whether packets are told on standard error.
    is_verbose: bool,
    began: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    observed: Observed,
    /// Why the server cannot be reached.
    unreachable: Option<io::Error>,
    connections: usize,
    open: usize,
}

/// One connection that is passed on.
#[derive(Debug)]
struct Relay {
    state: Arc<CaptureState>,
    number: usize,
    ours: File,
    theirs: File,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

impl Capture {
    /// Begins to pass on connections to `server`.
    pub(crate) fn open(
        server: &Endpoint,
        connect_timeout: Option<Duration>,
        is_verbose: bool,
    ) -> Result<Self, CliError> {
        let cannot = |error| CliError::system("cannot look at packets", &error);
        // The standard library's only source of randomness is its hasher's seed.
        let random = RandomState::new().build_hasher().finish();
        let name = format!("procbridge-tap-{}-{random:x}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).map_err(cannot)?;
        let listener = Arc::new(UnixListener::bind_addr(&address).map_err(cannot)?);
        let taking = Arc::downgrade(&listener);
        let state = Arc::new(CaptureState {
            server: server.clone(),
            connect_timeout,
            is_verbose,
            began: Instant::now(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let passing = state.clone();
        thread::Builder::new()
            .name("capture".to_string())
            .spawn(move || passing.accept(&listener))
            .map_err(|error| CliError::system("cannot start a thread", &error))?;
        Ok(Self { endpoint: format!("unix:@{name}").parse()?, listener: taking, state })
    }

    /// Where calls have to go.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Why the server could not be reached. Whoever called sees only that the private socket was closed.
    pub(crate) fn unreachable(&self) -> Option<io::Error> {
        self.state.state().unreachable.take()
    }

    /// What was observed of the server so far.
    pub(crate) fn observed(&self) -> Observed {
        self.state.state().observed.clone()
    }
}

impl Drop for Capture {
    /// The last packets and the end of the connection are on their way.
    fn drop(&mut self) {
        // Wakes who waits for a connection, and has it end.
        if let Some(listener) = self.listener.upgrade() {
            let _ = shutdown(&*listener, Shutdown::Both);
        }
        let end = Instant::now() + if self.state.is_verbose { DRAIN_TIMEOUT } else { QUIET_DRAIN_TIMEOUT };
        let mut state = self.state.state();
        while state.open > 0 {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.state.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl CaptureState {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes on what comes in. It ends when the server cannot be reached, so that nobody tries again and again.
    fn accept(self: Arc<Self>, listener: &UnixListener) {
        while let Ok((ours, _)) = listener.accept() {
            let own = i32::try_from(std::process::id()).ok();
            let is_own = matches!(Peer::of_socket(&ours), Ok(Peer::Unix(peer)) if Some(peer.pid) == own);
            if !is_own {
                continue;
            }
            let number = {
                let mut state = self.state();
                state.connections += 1;
                state.open += 1;
                state.connections
            };
            let relay = match connect(&self.server, self.connect_timeout) {
                Ok((theirs, peer)) => {
                    self.show(number, "--", &format!("connected to {}, peer {peer}", self.server));
                    self.state().observed.peer = Some(peer);
                    let (ours, theirs) = (File::from(OwnedFd::from(ours)), File::from(theirs));
                    Relay { state: self.clone(), number, ours, theirs }.start()
                }
                Err(error) => {
                    self.show(number, "--", &format!("cannot connect: {}", stdout::plain(&error)));
                    // Before the caller finds its connection closed: it will ask why.
                    self.state().unreachable = Some(error);
                    drop(ours);
                    Err(ErrorKind::NotConnected.into())
                }
            };
            if relay.is_err() {
                self.closed();
                return;
            }
        }
    }

    fn closed(&self) {
        self.state().open -= 1;
        self.changed.notify_all();
    }

    fn show(&self, number: usize, way: &str, what: &str) {
        if self.is_verbose {
            let time = self.began.elapsed().as_secs_f64();
            let connection = if number > 1 { format!(" [{number}]") } else { String::new() };
            stdout::note(&format!("{way} {time:.6}{connection} {what}"));
        }
    }
}

impl Relay {
    fn start(self) -> io::Result<()> {
        let relay = Arc::new(self);
        let answers = relay.clone();
        let back = thread::Builder::new()
            .name("tap-in".to_string())
            .spawn(move || answers.pass(Direction::ToClient))?;
        thread::Builder::new().name("tap-out".to_string()).spawn(move || {
            relay.pass(Direction::ToServer);
            let _ = back.join();
            relay.state.closed();
        })?;
        Ok(())
    }

    /// Passes on one direction until its end.
    fn pass(&self, direction: Direction) {
        let (from, to, who) = match direction {
            Direction::ToServer => (&self.ours, &self.theirs, "this side"),
            Direction::ToClient => (&self.theirs, &self.ours, "the server"),
        };
        let (mut splitter, mut begun) = (PacketSplitter::default(), HashSet::new());
        let mut buffer = vec![0; BUFFER_SIZE];
        let end = loop {
            let count = match (&mut &*from).read(&mut buffer) {
                Ok(0) => break "closed".to_string(),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => break format!("lost ({})", stdout::plain(&error)),
            };
            let bytes = buffer.get(..count).unwrap_or_default();
            // Told before it is passed on: an answer must not be told before its request.
            for passed in splitter.split(bytes) {
                self.observe(direction, &passed, &mut begun);
            }
            if (&mut &*to).write_all(bytes).is_err() {
                // Nobody takes it any more; whoever sent it is to know.
                let _ = shutdown(from.as_fd(), Shutdown::Both);
                break "not passed on, the other end is gone".to_string();
            }
        };
        if splitter.unfinished() > 0 {
            self.show(
                direction,
                &format!("{} bytes of a packet that was not finished", splitter.unfinished()),
            );
        }
        self.state.show(self.number, "--", &format!("{end} by {who}"));
        let _ = shutdown(to.as_fd(), Shutdown::Write);
    }

    /// `begun` are the calls of which a piece has passed that is not the last.
    fn observe(&self, direction: Direction, passed: &Captured, begun: &mut HashSet<u32>) {
        match passed {
            Captured::Packet(packet) => {
                if direction == Direction::ToClient
                    && packet.header.status == Status::HELLO
                    && packet.id.is_none()
                {
                    let (options, body) = (packet.header.options, packet.body.clone());
                    self.state.state().observed.hello = Some(Hello { options, body });
                }
                if self.state.is_verbose {
                    self.show(direction, &line(packet, is_rest(packet, begun)));
                }
            }
            Captured::Foreign(length, start) => {
                self.show(
                    direction,
                    &format!("{length} bytes that are no packet: {}", excerpt(start, *length)),
                );
            }
        }
    }

    fn show(&self, direction: Direction, what: &str) {
        self.state.show(self.number, if direction == Direction::ToServer { "->" } else { "<-" }, what);
    }
}

/// Whether `packet` is a piece of a request, and not the first.
fn is_rest(packet: &Packet, begun: &mut HashSet<u32>) -> bool {
    let Some(id) = packet.id.filter(|_| packet.header.status == Status::REQUEST) else { return false };
    match packet.header.flags & flag::MORE != 0 {
        true => !begun.insert(id),
        false => begun.remove(&id),
    }
}

/// `GOOD id=3 flags=lz4 512 B {"payload":..`. Of a request that comes in pieces only the first has its body shown: a later
/// one may begin within the token.
fn line(packet: &Packet, is_rest: bool) -> String {
    let Packet { header, id, body, length } = packet;
    let id = id.map_or_else(|| "-".to_string(), |id| id.to_string());
    let flags = names::flag_names(header).join(",");
    let flags = if flags.is_empty() { "-" } else { &flags };
    let codecs = if names::opens_session(header) { names::codec_names(header.options) } else { Vec::new() };
    let reads = if codecs.is_empty() { String::new() } else { format!(" reads={}", codecs.join(",")) };
    let shown = match is_rest {
        true => "..".to_string(),
        false if header.status == Status::REQUEST => excerpt(&token::hidden(body), *length),
        false => excerpt(body, *length),
    };
    format!("{} id={id} flags={flags}{reads} {length} B {shown}", header.status)
}

/// The start of `bytes`, of which there are `length`, without anything that commands a terminal.
fn excerpt(bytes: &[u8], length: usize) -> String {
    let start = bytes.get(..MAX_EXCERPT).unwrap_or(bytes);
    let text = match str::from_utf8(start) {
        Ok(text) => escape_message(text),
        // Cut in the middle of a character.
        Err(error) if error.error_len().is_none() => {
            let whole = start.get(..error.valid_up_to()).unwrap_or_default();
            escape_message(&String::from_utf8_lossy(whole))
        }
        Err(_) => start.escape_ascii().to_string(),
    };
    if length > MAX_EXCERPT { text + ".." } else { text }
}

/// A connection to the server, and who is at its other end.
fn connect(server: &Endpoint, limit: Option<Duration>) -> io::Result<(OwnedFd, String)> {
    let text = server.to_string();
    if let Some(place) = text.strip_prefix("tcp:") {
        let stream = connect_tcp(place, limit)?;
        stream.set_nodelay(true)?;
        let peer = format!("tcp:{}", stream.peer_addr()?);
        return Ok((stream.into(), peer));
    }
    let stream = match (server.path(), server.abstract_name()) {
        (Some(path), _) => UnixStream::connect(path)?,
        (None, name) => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name.unwrap_or_default())?)?,
    };
    let peer = Peer::of_socket(&stream)?;
    // The call's own look at the server's user ends at this program; what it sends may hold a token.
    server.check_server(&peer, true).map_err(|error| io::Error::new(ErrorKind::PermissionDenied, error))?;
    Ok((stream.into(), peer.to_string()))
}

fn connect_tcp(place: &str, limit: Option<Duration>) -> io::Result<TcpStream> {
    let mut result = Err(ErrorKind::NotFound.into());
    for (tried, address) in place.to_socket_addrs()?.enumerate() {
        let stream = match limit {
            Some(limit) => TcpStream::connect_timeout(&address, limit),
            None => TcpStream::connect(address),
        };
        match stream {
            // Where no server listens the system may connect a socket to itself.
            Ok(stream)
                if stream.local_addr().is_ok_and(|own| stream.peer_addr().is_ok_and(|peer| peer == own)) =>
            {
                rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
                result = Err(ErrorKind::ConnectionRefused.into());
            }
            Ok(stream) => return Ok(stream),
            // The first address is the preferred one: its error is the one to tell.
            Err(error) if tried == 0 => result = Err(error),
            Err(_) => {}
        }
    }
    result
}

const BUFFER_SIZE: usize = 64 * 1024;
/// Bytes of a body that are shown.
const MAX_EXCERPT: usize = 160;
/// For what is under way when the command has its answer, where somebody reads what it was.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);
/// Where nobody does: enough for the server to be told that this was all.
const QUIET_DRAIN_TIMEOUT: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_connections_ends_with_the_tap() {
        let capture = Capture::open(&"127.0.0.1:1".parse().unwrap(), None, false).unwrap();
        let listener = capture.listener.clone();
        assert_eq!(listener.strong_count(), 1);
        drop(capture);
        let end = Instant::now() + Duration::from_secs(30);
        while listener.strong_count() > 0 {
            assert!(Instant::now() < end, "it still listens");
            thread::yield_now();
        }
    }
}
