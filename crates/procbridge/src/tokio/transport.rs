//! One connected socket: reads and writes that never wait, and one method that waits.
//!
//! A socket is registered with the runtime when a task first has to wait for it. A request that has arrived when its
//! connection is accepted costs no registration.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use ::tokio::io::Interest;
use ::tokio::io::unix::AsyncFd;
use ::tokio::time;
use rustix::io::Errno;

use crate::client::connections::OneShotPermit;
use crate::endpoint::{Address, Endpoint};
use crate::error::Error;
use crate::net::connect::{self, BacklogRetry, Connecting, SynRetry};
use crate::net::socket::{self, Read};
use crate::peer::Peer;
use crate::tokio::clock;

/// A connected socket that does not block.
#[derive(Debug)]
pub(super) struct Transport {
    socket: Socket,
}

/// The readiness that a task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    Read,
    Write,
    Either,
}

/// A socket registered with the runtime, for reading only until a task waits to write. On a Unix socket the system
/// reports writability whenever the peer has read, which would wake the task a second time for each packet.
#[derive(Debug)]
pub(super) struct SessionSocket {
    socket: Arc<OwnedFd>,
    /// `None` if the runtime could not register it.
    watch: Option<AsyncFd<Arc<OwnedFd>>>,
    /// How many more reads it stays registered for writing as well.
    writes: u8,
}

#[derive(Debug)]
enum Socket {
    /// Not registered yet.
    Fresh(OwnedFd),
    Watched(SessionSocket),
    /// The runtime could not register it.
    Closed,
}

impl Transport {
    pub(super) fn accepted(socket: OwnedFd) -> Self {
        Self { socket: Socket::Fresh(socket) }
    }

    /// Connects; all addresses of a name share the time until `deadline`. Refuses a Unix socket whose server runs as a
    /// user that the client [does not trust](Endpoint::check_server). Reports the outcome to `permit`.
    pub(super) async fn connect(
        endpoint: &Endpoint,
        deadline: Option<Instant>,
        sends_token: bool,
        permit: &mut OneShotPermit<'_>,
    ) -> Result<(Self, Peer), Error> {
        let connected = Self::connect_to(endpoint, deadline, sends_token, permit).await;
        match &connected {
            Ok(_) => permit.on_connected(),
            Err(_) => permit.on_refused(),
        }
        connected
    }

    async fn connect_to(
        endpoint: &Endpoint,
        deadline: Option<Instant>,
        sends_token: bool,
        permit: &mut OneShotPermit<'_>,
    ) -> Result<(Self, Peer), Error> {
        let Address::Tcp { host, port } = &endpoint.address else {
            let socket = Self::connect_unix(endpoint, deadline, permit)
                .await
                .map_err(|error| connect::cannot_connect(endpoint, error))?;
            let peer = connect::unix_server(endpoint, &socket, sends_token)?;
            return Ok((Self::accepted(socket), peer));
        };
        let addresses = resolve(host, *port, deadline)
            .await
            .map_err(|error| connect::unresolved(endpoint, host, error))?;
        let mut result = Err(connect::cannot_connect(endpoint, io::Error::from(io::ErrorKind::NotFound)));
        for (tried, address) in addresses.iter().enumerate() {
            let share = connect::attempt_deadline(deadline, clock::now(), addresses.len() - tried);
            match Self::connect_tcp(*address, share, permit).await {
                Ok(connected) => return Ok(connected),
                // The first address is the preferred one, so its error is reported.
                Err(error) if tried == 0 => result = Err(connect::cannot_connect(endpoint, error)),
                Err(_) => {}
            }
        }
        result
    }

    async fn connect_tcp(
        address: SocketAddr,
        deadline: Option<Instant>,
        permit: &mut OneShotPermit<'_>,
    ) -> io::Result<(Self, Peer)> {
        let mut dropped = SynRetry::new(&address);
        loop {
            let mut stream = match connect::tcp(address)? {
                Connecting::Connected(socket) => {
                    let peer = connect::tcp_server(&socket, address)?;
                    return Ok((Self::accepted(socket), peer));
                }
                Connecting::Begun(socket) => Self::accepted(socket),
            };
            let soon = dropped.next(deadline, clock::now());
            if let Some(ready) = within(soon, stream.wait(Readiness::Write)).await {
                ready?;
                connect::check(stream.descriptor()?)?;
                let peer = connect::tcp_server(stream.descriptor()?, address)?;
                return Ok((stream, peer));
            }
            if !dropped.is_again(deadline, clock::now()) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            permit.on_refused();
        }
    }

    async fn connect_unix(
        endpoint: &Endpoint,
        deadline: Option<Instant>,
        permit: &mut OneShotPermit<'_>,
    ) -> io::Result<OwnedFd> {
        let mut queue = BacklogRetry::new();
        loop {
            match connect::unix(endpoint) {
                Ok(socket) => return Ok(socket),
                Err(Errno::AGAIN) => {
                    permit.on_refused();
                    time::sleep(queue.pause(deadline, clock::now()).ok_or(io::ErrorKind::TimedOut)?).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Appends what has arrived to `buffer`, up to its capacity.
    pub(super) fn read(&self, buffer: &mut Vec<u8>) -> io::Result<Read> {
        Read::of(self.attempt(Interest::READABLE, |socket| socket::receive(socket, buffer)))
    }

    /// Reads what has arrived and drops it.
    pub(super) fn discard(&self) -> io::Result<Read> {
        self.read(&mut Vec::with_capacity(DISCARD_BUFFER))
    }

    /// Registers the socket with the runtime, if it is not registered yet.
    ///
    /// # Panics
    ///
    /// Outside a runtime with I/O enabled, if it was not registered.
    pub(super) fn into_watched(self) -> io::Result<SessionSocket> {
        match self.socket {
            Socket::Fresh(socket) => SessionSocket::new(socket),
            Socket::Watched(watched) => Ok(watched),
            Socket::Closed => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Writes what the socket takes of `bytes`; returns 0 if it takes nothing now.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        socket::sent(self.attempt(Interest::WRITABLE, |socket| socket::send(socket, bytes)))
    }

    /// Whether the peer has closed its end for good.
    pub(super) fn is_gone(&self, is_scarce: bool) -> bool {
        self.descriptor().is_ok_and(|socket| socket::is_gone(socket, is_scarce))
    }

    /// Tells the peer that no more bytes follow.
    pub(super) fn finish_writing(&self) -> io::Result<()> {
        socket::finish_writing(self.descriptor()?)
    }

    /// Waits until the socket is ready or has failed.
    pub(super) async fn wait(&mut self, readiness: Readiness) -> io::Result<()> {
        poll_fn(|context| self.poll(readiness, context)).await
    }

    /// Becomes ready when the socket is ready or has failed.
    pub(super) fn poll(&mut self, readiness: Readiness, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Socket::Fresh(_) = self.socket
            && let Socket::Fresh(socket) = std::mem::replace(&mut self.socket, Socket::Closed)
        {
            match SessionSocket::new(socket) {
                Ok(watched) => self.socket = Socket::Watched(watched),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        match &mut self.socket {
            Socket::Watched(watched) => match readiness {
                Readiness::Read => watched.poll_readable(context),
                Readiness::Write => watched.poll_writable(context),
                // In this order: registering anew for writing loses the waker of a task that waits to read.
                Readiness::Either => match watched.poll_writable(context) {
                    Poll::Pending => watched.poll_readable(context),
                    writable => writable,
                },
            },
            Socket::Fresh(_) | Socket::Closed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn attempt<T>(
        &self,
        interest: Interest,
        mut work: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        match &self.socket {
            Socket::Watched(watched) => watched.attempt(interest, work),
            Socket::Fresh(socket) => work(socket.as_fd()),
            Socket::Closed => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn descriptor(&self) -> io::Result<BorrowedFd<'_>> {
        match &self.socket {
            Socket::Watched(watched) => Ok(watched.as_fd()),
            Socket::Fresh(socket) => Ok(socket.as_fd()),
            Socket::Closed => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl SessionSocket {
    /// Registers `socket` with the runtime; it must not block.
    ///
    /// # Panics
    ///
    /// Outside a runtime with I/O enabled.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        let socket = Arc::new(socket);
        let watch = Some(watch(&socket, Interest::READABLE)?);
        Ok(Self { socket, watch, writes: 0 })
    }

    pub(super) fn socket(&self) -> &Arc<OwnedFd> {
        &self.socket
    }

    /// Appends what has arrived to `buffer`, up to its capacity. A read that leaves capacity has read everything. The
    /// runtime is told so, which spares a read that finds nothing.
    pub(super) fn read(&self, buffer: &mut Vec<u8>) -> io::Result<Read> {
        let mut received = None;
        let result = self.attempt(Interest::READABLE, |socket| {
            let count = socket::receive(socket, buffer)?;
            received = Some(count);
            let is_all = count > 0 && buffer.len() < buffer.capacity();
            if is_all { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
        });
        Read::of(received.map_or(result, Ok))
    }

    /// Reads what has arrived and drops it.
    pub(super) fn discard(&self) -> io::Result<Read> {
        self.read(&mut Vec::with_capacity(DISCARD_BUFFER))
    }

    pub(super) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.watch {
            Some(watch) => watch.poll_read_ready(context).map_ok(drop),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Becomes ready when the socket is writable. A task that also waits to read must [poll for
    /// that](Self::poll_readable) afterwards.
    pub(super) fn poll_writable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.writes == 0 {
            self.watch_for(Interest::READABLE | Interest::WRITABLE)?;
        }
        self.writes = WRITES_BEFORE_POLL;
        match &self.watch {
            Some(watch) => watch.poll_write_ready(context).map_ok(drop),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Notes that no task has to wait to write. After some reads without such waits, the socket is registered for
    /// reading only. A task that waits to read must [poll for that](Self::poll_readable) afterwards.
    pub(super) fn is_writing_at_once(&mut self) -> io::Result<()> {
        match self.writes {
            0 => return Ok(()),
            1 => self.watch_for(Interest::READABLE)?,
            _ => {}
        }
        self.writes -= 1;
        Ok(())
    }

    fn watch_for(&mut self, interest: Interest) -> io::Result<()> {
        // A descriptor can be registered only once.
        self.watch = None;
        self.watch = Some(watch(&self.socket, interest)?);
        Ok(())
    }

    /// Does `work`, which would block if the socket is not ready for `interest`. The runtime's cached readiness may be
    /// stale, so the work is tried in any case. Its result corrects the cached readiness, so that the next wait really
    /// waits.
    pub(super) fn attempt<T>(
        &self,
        interest: Interest,
        mut work: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut done = false;
        let mut once = || {
            done = true;
            work(self.as_fd())
        };
        let result = match &self.watch {
            Some(watch) => watch.try_io(interest, |_| once()),
            None => once(),
        };
        if done { result } else { work(self.as_fd()) }
    }
}

impl AsFd for SessionSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Registers `socket` with the runtime.
#[allow(
    deprecated,
    reason = "tokio 1.53 wants unsafe code for types whose descriptor may change; that of an OwnedFd does not"
)]
fn watch(socket: &Arc<OwnedFd>, interest: Interest) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    AsyncFd::with_interest(socket.clone(), interest)
}

/// Returns the result of `work`, or `None` if `deadline` comes first.
pub(super) async fn within<T>(deadline: Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => time::timeout_at(deadline.into(), work).await.ok(),
        None => Some(work.await),
    }
}

/// Resolves a name. The system's resolver has no timeout, so it runs on a thread for blocking work, and goes on there
/// after the deadline.
async fn resolve(host: &str, port: u16, deadline: Option<Instant>) -> io::Result<Vec<SocketAddr>> {
    if let Some(addresses) = Endpoint::resolve_locally(host, port) {
        return Ok(addresses);
    }
    let name = host.to_string();
    let asked = ::tokio::task::spawn_blocking(move || Endpoint::resolve(&name, port));
    within(deadline, asked).await.ok_or(io::ErrorKind::TimedOut)??
}

/// The size of the buffer for discarded input.
const DISCARD_BUFFER: usize = 64 * 1024;
/// How many reads after a wait to write the socket stays registered for writing.
const WRITES_BEFORE_POLL: u8 = 64;

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[::tokio::test]
    async fn a_socket_is_registered_for_writing_only_while_a_task_waits_to_write() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let mut ours = SessionSocket::new(ours.into()).unwrap();
        while socket::sent(socket::send(&ours, &[0; 64 * 1024])).unwrap() > 0 {}
        {
            let mut writable = std::pin::pin!(poll_fn(|context| ours.poll_writable(context)));
            let is_there = poll_fn(|context| Poll::Ready(writable.as_mut().poll(context).is_ready())).await;
            // The runtime may not have polled yet; the result of the write corrects its readiness.
            if !is_there {
                while socket::receive(&theirs, &mut Vec::with_capacity(1024 * 1024)).is_ok() {}
                writable.await.unwrap();
            }
        }
        assert_eq!(ours.writes, WRITES_BEFORE_POLL);
        for _ in 0..WRITES_BEFORE_POLL {
            // Input is noticed whatever the socket is registered for, and while that changes.
            socket::send(&theirs, b"x").unwrap();
            ours.is_writing_at_once().unwrap();
            poll_fn(|context| ours.poll_readable(context)).await.unwrap();
            let mut buffer = Vec::with_capacity(16);
            assert_eq!(ours.read(&mut buffer).unwrap(), Read::Bytes(1));
        }
        assert_eq!(ours.writes, 0);
    }
}
