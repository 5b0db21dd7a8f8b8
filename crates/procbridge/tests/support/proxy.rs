//! A proxy between a client and a server: it keeps what it saw, and can hold it up as a cut cable does.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use procbridge::Endpoint;

use super::faces::Transport;
use super::wire::{RawStream, raw};

pub struct Proxy {
    pub endpoint: Endpoint,
    shared: Arc<Shared>,
    _dir: tempfile::TempDir,
}

/// The bytes that went over one connection.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub to_server: Vec<u8>,
    pub to_client: Vec<u8>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    upstream: Endpoint,
    keeps: bool,
}

#[derive(Default)]
struct State {
    is_shut: bool,
    is_over: bool,
    accepted: usize,
    ended: usize,
    /// Of connections that have ended.
    seen: Vec<Seen>,
    /// Bytes forwarded to the server, and to clients.
    forwarded: (usize, usize),
}

enum Gate {
    Tcp(TcpListener),
    Unix(UnixListener),
}

#[derive(Clone, Copy)]
enum Direction {
    ToServer,
    ToClient,
}

impl Proxy {
    /// Returns a proxy that forwards.
    pub fn start(transport: Transport, upstream: &Endpoint) -> Self {
        Self::with(transport, upstream, State::default(), false)
    }

    /// Returns one that keeps all bytes.
    pub fn recording(transport: Transport, upstream: &Endpoint) -> Self {
        Self::with(transport, upstream, State::default(), true)
    }

    /// Returns one that accepts, and forwards nothing until it is opened.
    pub fn shut(transport: Transport, upstream: &Endpoint) -> Self {
        Self::with(transport, upstream, State { is_shut: true, ..State::default() }, false)
    }

    fn with(transport: Transport, upstream: &Endpoint, state: State, keeps: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (gate, endpoint) = if transport == Transport::Tcp {
            let gate = TcpListener::bind("127.0.0.1:0").unwrap();
            let endpoint = Endpoint::from(gate.local_addr().unwrap());
            (Gate::Tcp(gate), endpoint)
        } else {
            let path = dir.path().join("p.sock");
            let endpoint = format!("unix:{}", path.display()).parse().unwrap();
            (Gate::Unix(UnixListener::bind(path).unwrap()), endpoint)
        };
        let shared =
            Shared { state: Mutex::new(state), changed: Condvar::new(), upstream: upstream.clone(), keeps };
        let shared = Arc::new(shared);
        let accepting = shared.clone();
        thread::spawn(move || {
            loop {
                let stream = match &gate {
                    Gate::Tcp(gate) => gate.accept().map(|(stream, _)| RawStream::Tcp(stream)),
                    Gate::Unix(gate) => gate.accept().map(|(stream, _)| RawStream::Unix(stream)),
                };
                if accepting.state.lock().unwrap().is_over {
                    return;
                }
                let shared = accepting.clone();
                thread::spawn(move || shared.connect(stream.unwrap()));
            }
        });
        Self { endpoint, shared, _dir: dir }
    }

    /// Stops forwarding from now on: both sides see a peer that is silent.
    pub fn cut(&self) {
        self.shared.state.lock().unwrap().is_shut = true;
    }

    pub fn open(&self) {
        self.shared.state.lock().unwrap().is_shut = false;
        self.shared.changed.notify_all();
    }

    pub fn wait_for_connections(&self, count: usize) {
        let state = self.shared.state.lock().unwrap();
        drop(self.shared.changed.wait_while(state, |state| state.accepted < count).unwrap());
    }

    /// Connections so far, and those among them that have ended.
    pub fn connections(&self) -> (usize, usize) {
        let state = self.shared.state.lock().unwrap();
        (state.accepted, state.ended)
    }

    /// Returns the bytes of the connections, once `count` of them have ended since the last time.
    pub fn take_seen(&self, count: usize) -> Vec<Seen> {
        let state = self.shared.state.lock().unwrap();
        let mut state = self.shared.changed.wait_while(state, |state| state.seen.len() < count).unwrap();
        std::mem::take(&mut state.seen)
    }

    /// Returns bytes forwarded to the server, and to clients.
    pub fn forwarded(&self) -> (usize, usize) {
        self.shared.state.lock().unwrap().forwarded
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock().unwrap();
        state.is_over = true;
        state.is_shut = false;
        drop(state);
        self.shared.changed.notify_all();
        drop(raw(&self.endpoint));
    }
}

impl Shared {
    fn connect(self: Arc<Self>, client: RawStream) {
        self.state.lock().unwrap().accepted += 1;
        self.changed.notify_all();
        let server = raw(&self.upstream);
        for stream in [&client, &server] {
            stream.wait_at_most(None);
            if let RawStream::Tcp(stream) = stream {
                stream.set_nodelay(true).unwrap();
            }
        }
        let place = Arc::new(Mutex::new(Seen::default()));
        let (to_server, to_client) = (client.another(), server.another());
        let (shared, kept) = (self.clone(), place.clone());
        let back = thread::spawn(move || shared.copy(to_client, client, Direction::ToClient, &kept));
        self.copy(to_server, server, Direction::ToServer, &place);
        let _ = back.join();
        let mut state = self.state.lock().unwrap();
        state.ended += 1;
        if self.keeps {
            state.seen.push(std::mem::take(&mut *place.lock().unwrap()));
        }
        self.changed.notify_all();
    }

    fn copy(&self, mut from: RawStream, mut to: RawStream, direction: Direction, place: &Mutex<Seen>) {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = match from.read(&mut buffer) {
                Ok(0) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => break,
                Ok(count) => count,
            };
            let state = self.state.lock().unwrap();
            let mut state = self.changed.wait_while(state, |state| state.is_shut).unwrap();
            match direction {
                Direction::ToServer => state.forwarded.0 += count,
                Direction::ToClient => state.forwarded.1 += count,
            }
            drop(state);
            let bytes = buffer.get(..count).unwrap();
            if self.keeps {
                let mut seen = place.lock().unwrap();
                match direction {
                    Direction::ToServer => seen.to_server.extend(bytes),
                    Direction::ToClient => seen.to_client.extend(bytes),
                }
            }
            if to.write_all(bytes).is_err() {
                break;
            }
        }
        let state = self.state.lock().unwrap();
        drop(self.changed.wait_while(state, |state| state.is_shut).unwrap());
        to.shut(Shutdown::Write);
        if matches!(direction, Direction::ToClient) {
            // No peer answers any more what the client still sends.
            to.shut(Shutdown::Read);
            from.shut(Shutdown::Both);
        }
    }
}
