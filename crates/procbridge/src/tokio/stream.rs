//! One connected socket: reads and writes that never wait, and one place that waits.
//!
//! A socket is handed to the runtime when it has to be waited for, not before: a request that is there when its
//! connection is accepted costs no registration.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll};
use std::time::Instant;

use ::tokio::io::Interest;
use ::tokio::net::UnixStream;
use ::tokio::time;
use rustix::io::Errno;

use crate::dial::{self, Dialled, FullQueue};
use crate::endpoint::{Address, Endpoint};
use crate::error::{Error, cannot_connect};
use crate::socket::{self, Read};

/// A connected socket that does not block.
#[derive(Debug)]
pub(super) struct Stream {
    socket: Socket,
}

/// What a socket is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    Read,
    Write,
    Either,
}

/// A socket that the runtime watches.
#[derive(Debug)]
pub(super) struct Watched {
    /// To the runtime a socket is a descriptor, and only what it offers for it differs between its types. This one
    /// offers what is needed for sockets of every kind, listening ones included, and without unsafe code.
    inner: UnixStream,
}

#[derive(Debug)]
enum Socket {
    /// Not waited for yet.
    Fresh(OwnedFd),
    Watched(Watched),
    /// The runtime could not watch it.
    Closed,
}

impl Stream {
    pub(super) fn accepted(socket: OwnedFd) -> Self {
        Self { socket: Socket::Fresh(socket) }
    }

    /// Connects; all addresses of a name share the time until `deadline`.
    pub(super) async fn connect(endpoint: &Endpoint, deadline: Option<Instant>) -> Result<Self, Error> {
        let Address::Tcp { host, port } = &endpoint.address else {
            return Self::connect_unix(endpoint, deadline)
                .await
                .map_err(|error| cannot_connect(endpoint, error));
        };
        let addresses =
            resolve(host, *port, deadline).await.map_err(|error| dial::unresolved(endpoint, host, error))?;
        let mut result = Err(cannot_connect(endpoint, io::Error::from(io::ErrorKind::NotFound)));
        for (tried, address) in addresses.iter().enumerate() {
            match Self::connect_tcp(*address, dial::share(deadline, addresses.len() - tried)).await {
                Ok(stream) => return Ok(stream),
                // The first address is the preferred one: its error is the one to tell.
                Err(error) if tried == 0 => result = Err(cannot_connect(endpoint, error)),
                Err(_) => {}
            }
        }
        result
    }

    async fn connect_tcp(address: SocketAddr, deadline: Option<Instant>) -> io::Result<Self> {
        match dial::tcp(address)? {
            Dialled::Connected(socket) => Ok(Self::accepted(socket)),
            Dialled::Begun(socket) => {
                let mut stream = Self::accepted(socket);
                within(deadline, stream.wait(Readiness::Write)).await.ok_or(io::ErrorKind::TimedOut)??;
                dial::check(stream.descriptor()?)?;
                Ok(stream)
            }
        }
    }

    async fn connect_unix(endpoint: &Endpoint, deadline: Option<Instant>) -> io::Result<Self> {
        let mut queue = FullQueue::new();
        loop {
            match dial::unix(endpoint) {
                Ok(socket) => return Ok(Self::accepted(socket)),
                Err(Errno::AGAIN) => {
                    time::sleep(queue.pause(deadline).ok_or(io::ErrorKind::TimedOut)?).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Appends what has arrived to `buffer`, as far as it has room.
    pub(super) fn read(&self, buffer: &mut Vec<u8>) -> io::Result<Read> {
        Read::of(self.attempt(Interest::READABLE, |socket| socket::receive(socket, buffer)))
    }

    /// Reads what has arrived and drops it.
    pub(super) fn discard(&self) -> io::Result<Read> {
        self.read(&mut Vec::with_capacity(DROPPED))
    }

    /// Writes what the socket takes of `bytes`; 0 when it takes nothing now.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        socket::sent(self.attempt(Interest::WRITABLE, |socket| socket::send(socket, bytes)))
    }

    /// Tells the peer that nothing more will be written.
    pub(super) fn finish_writing(&self) -> io::Result<()> {
        socket::finish_writing(self.descriptor()?)
    }

    /// Waits until the socket is ready, or has failed.
    pub(super) async fn wait(&mut self, readiness: Readiness) -> io::Result<()> {
        poll_fn(|context| self.poll(readiness, context)).await
    }

    /// Ready when the socket is, or has failed.
    pub(super) fn poll(&mut self, readiness: Readiness, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Socket::Fresh(_) = self.socket
            && let Socket::Fresh(socket) = std::mem::replace(&mut self.socket, Socket::Closed)
        {
            match Watched::new(socket) {
                Ok(watched) => self.socket = Socket::Watched(watched),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        match &self.socket {
            Socket::Watched(watched) => match readiness {
                Readiness::Read => watched.poll_readable(context),
                Readiness::Write => watched.poll_writable(context),
                Readiness::Either => match watched.poll_readable(context) {
                    Poll::Pending => watched.poll_writable(context),
                    readable => readable,
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

impl Watched {
    /// Has the runtime watch `socket`, which must not block.
    ///
    /// # Panics
    ///
    /// Outside a runtime with I/O enabled.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self { inner: UnixStream::from_std(socket.into())? })
    }

    pub(super) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_read_ready(context)
    }

    pub(super) fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_write_ready(context)
    }

    /// Does `work`, which would block if the socket is not ready for `interest`. The runtime's own opinion of that is
    /// corrected by what happens, so that the next wait really waits, but it is not relied on: it may not have looked
    /// yet.
    pub(super) fn attempt<T>(
        &self,
        interest: Interest,
        mut work: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut done = false;
        let result = self.inner.try_io(interest, || {
            done = true;
            work(self.as_fd())
        });
        if done { result } else { work(self.as_fd()) }
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

/// What `work` gives, unless `deadline` comes first.
pub(super) async fn within<T>(deadline: Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => time::timeout_at(deadline.into(), work).await.ok(),
        None => Some(work.await),
    }
}

/// The addresses of a name. The system's resolver knows no time limit, so it is asked on a thread for blocking work,
/// where it goes on if nobody waits for it any longer.
async fn resolve(host: &str, port: u16, deadline: Option<Instant>) -> io::Result<Vec<SocketAddr>> {
    if let Some(addresses) = Endpoint::resolve_locally(host, port) {
        return Ok(addresses);
    }
    let name = host.to_string();
    let asked = ::tokio::task::spawn_blocking(move || Endpoint::resolve(&name, port));
    within(deadline, asked).await.ok_or(io::ErrorKind::TimedOut)??
}

/// What is read at a time to be dropped.
const DROPPED: usize = 64 * 1024;
