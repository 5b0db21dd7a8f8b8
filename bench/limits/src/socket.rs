//! Blocking sockets of either kind, as one type.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use contender::{Endpoint, Result};

pub(crate) enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

pub(crate) enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Listener {
    pub(crate) fn bind(endpoint: &Endpoint) -> Result<Self> {
        Ok(match endpoint {
            Endpoint::Unix(path) => Self::Unix(UnixListener::bind(path)?),
            Endpoint::Tcp(address) => Self::Tcp(TcpListener::bind(address)?),
        })
    }

    /// Returns the next connection, with its options as the system has them.
    pub(crate) fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Unix(listener) => Ok(Socket::Unix(listener.accept()?.0)),
            Self::Tcp(listener) => Ok(Socket::Tcp(listener.accept()?.0)),
        }
    }

    /// Runs a thread for each connection, without end.
    pub(crate) fn serve_each(&self, serve: fn(Socket)) -> Result<()> {
        loop {
            let socket = self.accept()?;
            socket.without_delay()?;
            std::thread::spawn(move || serve(socket));
        }
    }
}

impl Socket {
    pub(crate) fn connect(endpoint: &Endpoint) -> io::Result<Self> {
        Ok(match endpoint {
            Endpoint::Unix(path) => Self::Unix(UnixStream::connect(path)?),
            Endpoint::Tcp(address) => Self::Tcp(TcpStream::connect(address)?),
        })
    }

    /// Sets NODELAY, which a lasting connection needs on TCP; does nothing on a Unix socket.
    pub(crate) fn without_delay(&self) -> io::Result<()> {
        match self {
            Self::Unix(_) => Ok(()),
            Self::Tcp(socket) => socket.set_nodelay(true),
        }
    }

    /// Ends a read that waits longer.
    pub(crate) fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.options().set_read_timeout(Some(timeout))
    }

    /// Sets buffers of so many bytes in both directions.
    pub(crate) fn set_buffers(&self, bytes: usize) -> io::Result<()> {
        self.set_send_buffer(bytes)?;
        self.options().set_recv_buffer_size(bytes)
    }

    pub(crate) fn set_send_buffer(&self, bytes: usize) -> io::Result<()> {
        self.options().set_send_buffer_size(bytes)
    }

    fn options(&self) -> socket2::SockRef<'_> {
        match self {
            Self::Unix(socket) => socket2::SockRef::from(socket),
            Self::Tcp(socket) => socket2::SockRef::from(socket),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(socket) => socket.read(buffer),
            Self::Tcp(socket) => socket.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(socket) => socket.write(bytes),
            Self::Tcp(socket) => socket.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
