//! Connections whose every step has a timeout, and sessions on them.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_linger, set_socket_recv_buffer_size, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType};

use crate::packet::{self, GOOD, HEADER, HELLO, Packet, REQUEST};

/// Where a server listens.
#[derive(Clone, Debug)]
pub(crate) enum At {
    Unix(PathBuf),
    Tcp(SocketAddr),
    /// The same, from this address.
    TcpFrom(SocketAddr, Ipv4Addr),
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Tcp(address) | Self::TcpFrom(address, _) => address.fmt(f),
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: OwnedFd,
}

impl At {
    /// Connects, within one second.
    pub(crate) fn connect(&self) -> io::Result<Connection> {
        self.connect_with(None)
    }

    /// Connects with a receive buffer that the system makes as small as it can.
    pub(crate) fn connect_narrow(&self) -> io::Result<Connection> {
        self.connect_with(Some(2048))
    }

    fn connect_with(&self, receive_buffer: Option<usize>) -> io::Result<Connection> {
        let family = match self {
            Self::Unix(_) => AddressFamily::UNIX,
            Self::Tcp(_) | Self::TcpFrom(..) => AddressFamily::INET,
        };
        let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        if let Some(bytes) = receive_buffer {
            set_socket_recv_buffer_size(&socket, bytes)?;
        }
        // The limit for sending is that for connecting too.
        set_socket_timeout(&socket, Timeout::Send, Some(STEP))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(STEP))?;
        match self {
            Self::Unix(path) => rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?,
            Self::Tcp(address) => rustix::net::connect(&socket, address)?,
            Self::TcpFrom(address, source) => {
                rustix::net::bind(&socket, &SocketAddr::from((*source, 0)))?;
                rustix::net::connect(&socket, address)?;
            }
        }
        Ok(Connection { socket })
    }

    /// Makes one classic call.
    pub(crate) fn ask(&self, body: &str) -> io::Result<Packet> {
        let mut connection = self.connect()?;
        connection.send(&packet::request(body))?;
        connection.answer()
    }

    /// Opens a session with `$/ping`.
    pub(crate) fn session(&self) -> io::Result<Session> {
        Session::open(self.connect()?)
    }
}

impl Connection {
    /// Takes over a socket that was accepted.
    pub(crate) fn of(socket: OwnedFd) -> io::Result<Self> {
        set_socket_timeout(&socket, Timeout::Send, Some(STEP))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(STEP))?;
        Ok(Self { socket })
    }

    /// Sets how long each read may take from now on.
    pub(crate) fn wait_at_most(&self, limit: Duration) -> io::Result<()> {
        Ok(set_socket_timeout(&self.socket, Timeout::Recv, Some(limit))?)
    }

    /// Sets how long each write may take from now on.
    pub(crate) fn write_within(&self, limit: Duration) -> io::Result<()> {
        Ok(set_socket_timeout(&self.socket, Timeout::Send, Some(limit))?)
    }

    /// Writes everything.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    /// Writes as much as goes at once, and tells how much that was.
    pub(crate) fn offer(&self, bytes: &[u8]) -> io::Result<usize> {
        match rustix::net::send(&self.socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(written) => Ok(written),
            Err(rustix::io::Errno::AGAIN) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Drops what has arrived, up to so many bytes, without waiting. Tells how much it was, and fails at the end.
    pub(crate) fn discard(&self, most: usize) -> io::Result<usize> {
        let (mut buffer, mut taken) = ([0; 65536], 0);
        while taken < most {
            match rustix::net::recv(&self.socket, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok((count, _)) => taken += count,
                Err(rustix::io::Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(taken)
    }

    /// Whether the peer has ended the connection; what it sent is dropped.
    pub(crate) fn has_ended(&self) -> bool {
        self.discard(1 << 20).is_err()
    }

    /// Waits until the peer ends the connection, dropping what it sends. Tells whether it did in that time.
    pub(crate) fn ends_within(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while !self.has_ended() {
            if Instant::now() > end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }

    /// Closes the sending direction.
    pub(crate) fn finish_writing(&self) {
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Write);
    }

    /// Closes with a reset, where the transport has one.
    pub(crate) fn reset(self) {
        let _ = set_socket_linger(&self.socket, Some(Duration::ZERO));
    }

    /// Reads a packet in classic framing.
    pub(crate) fn answer(&mut self) -> io::Result<Packet> {
        let mut header = [0; HEADER];
        self.read_exact(&mut header)?;
        let (kind, flags, length) = packet::read_header(&header)
            .ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "no header"))?;
        let mut content = Vec::new();
        Read::by_ref(self).take(length as u64).read_to_end(&mut content)?;
        if content.len() < length {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(Packet { kind, flags, id: 0, content })
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::net::recv(&self.socket, buffer, RecvFlags::empty())?.0)
    }
}

impl Write for Connection {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(&self.socket, buffer, SendFlags::NOSIGNAL)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A session, of which this is the opener.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) connection: Connection,
    next: u32,
}

impl Session {
    /// Opens one with `$/ping`, on a connection.
    pub(crate) fn open(mut connection: Connection) -> io::Result<Self> {
        connection.send(&packet::offer(r#"{"method":"$/ping"}"#))?;
        let hello = connection.answer()?;
        if hello.kind != HELLO {
            let text = String::from_utf8_lossy(&hello.content).into_owned();
            return Err(io::Error::new(ErrorKind::ConnectionRefused, text));
        }
        let mut session = Self { connection, next: 3 };
        session.receive()?;
        Ok(session)
    }

    /// Returns the id of the next call.
    pub(crate) fn next_id(&mut self) -> u32 {
        let id = self.next;
        self.next += 2;
        id
    }

    /// Writes everything.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.connection.send(bytes)
    }

    /// Writes a packet of no call.
    pub(crate) fn tell(&mut self, kind: u8, content: &str) -> io::Result<()> {
        self.send(&packet::packet(kind, 0, 0, content.as_bytes()))
    }

    /// Writes a request, and tells its id.
    pub(crate) fn begin(&mut self, flags: u8, text: &[u8]) -> io::Result<u32> {
        let id = self.next_id();
        self.send(&packet::packet(REQUEST, flags, id, text))?;
        Ok(id)
    }

    /// Reads a packet.
    pub(crate) fn receive(&mut self) -> io::Result<Packet> {
        let mut read = self.connection.answer()?;
        let Some((id, content)) = read.content.split_first_chunk() else {
            return Err(io::Error::new(ErrorKind::InvalidData, "no call id"));
        };
        (read.id, read.content) = (u32::from_le_bytes(*id), content.to_vec());
        Ok(read)
    }

    /// Makes a call and reads until it has ended. A large answer is joined from its pieces.
    pub(crate) fn ask(&mut self, text: &str) -> io::Result<Packet> {
        let id = self.begin(0, text.as_bytes())?;
        self.end_of(id)
    }

    /// Reads until the call has ended.
    pub(crate) fn end_of(&mut self, id: u32) -> io::Result<Packet> {
        let mut whole = Vec::new();
        loop {
            let mut read = self.receive()?;
            match read.kind {
                packet::PING => self.send(&packet::packet(packet::PONG, 0, 0, &read.content))?,
                GOOD | packet::BAD if read.id == id => {
                    whole.append(&mut read.content);
                    if read.flags & packet::MORE == 0 {
                        read.content = whole;
                        return Ok(read);
                    }
                }
                _ => {}
            }
        }
    }
}

/// How long connecting, a read or a write may take.
pub(crate) const STEP: Duration = Duration::from_secs(1);
