//! The protocol by hand: packets of bytes, and bare connections for what no client and no server would send.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use procbridge::Endpoint;
use serde_json::Value;

use super::WATCHDOG;

pub const REQUEST: u8 = 0;
pub const GOOD: u8 = 1;
pub const BAD: u8 = 2;
pub const HELLO: u8 = 3;
pub const ITEM: u8 = 4;
pub const CREDIT: u8 = 5;
pub const CANCEL: u8 = 6;
pub const PING: u8 = 7;
pub const PONG: u8 = 8;
pub const GOODBYE: u8 = 9;

pub const SESSION: u8 = 0x01;
pub const STREAM: u8 = 0x04;
pub const MORE: u8 = 0x08;

/// The length of a packet's header.
pub const HEADER: usize = 11;

/// Returns any packet of version 1.1.
pub fn packet_of(kind: u8, flags: u8, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut out = vec![b'p', b'b', 1, 1, kind, flags, 0];
    out.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
    out.extend(body);
    out
}

/// Returns a classic request.
pub fn packet(body: &str) -> Vec<u8> {
    packet_of(REQUEST, 0, body)
}

/// Returns a classic request that offers a session, with more flags.
pub fn offer(flags: u8, body: &str) -> Vec<u8> {
    packet_of(REQUEST, SESSION | flags, body)
}

/// Returns HELLO, as an accepting server writes it.
pub fn hello(terms: &str) -> Vec<u8> {
    packet_of(HELLO, SESSION, terms)
}

/// The terms of a session without limits of its own.
pub const TERMS: &str = r#"{"session":1}"#;

/// Returns a packet of a session.
pub fn session_packet(kind: u8, flags: u8, id: u32, content: impl AsRef<[u8]>) -> Vec<u8> {
    packet_of(kind, flags, [&id.to_le_bytes(), content.as_ref()].concat())
}

/// One packet as it came.
#[derive(Debug)]
pub struct RawPacket {
    pub kind: u8,
    pub flags: u8,
    pub body: Vec<u8>,
}

impl RawPacket {
    /// Returns a packet whose body is still to be read.
    fn announced(header: [u8; HEADER]) -> Self {
        let [_, _, _, _, kind, flags, _, length @ ..] = header;
        Self { kind, flags, body: vec![0; u32::from_le_bytes(length) as usize] }
    }

    /// Returns the call id of a packet of a session.
    pub fn id(&self) -> u32 {
        u32::from_le_bytes(*self.body.first_chunk().unwrap())
    }

    /// Returns the content of a packet of a session.
    pub fn content(&self) -> &[u8] {
        self.body.get(4..).unwrap()
    }

    /// Returns the same as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(self.content()).unwrap()
    }
}

/// Returns the status code and the body of the one packet that `bytes` are; nothing if there are none.
fn one_answer(bytes: &[u8]) -> Option<(u8, Value)> {
    let (header, body) = bytes.split_at_checked(HEADER)?;
    assert_eq!(header.get(..2), Some(&b"pb"[..]));
    Some((*header.get(4).unwrap(), serde_json::from_slice(body).unwrap()))
}

/// A blocking connection of either kind.
pub enum RawStream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Connects to `endpoint` with nothing of ours in between.
pub fn raw(endpoint: &Endpoint) -> RawStream {
    let text = endpoint.to_string();
    let stream = if let Some(name) = text.strip_prefix("unix:@") {
        use std::os::linux::net::SocketAddrExt;
        let address = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
        RawStream::Unix(UnixStream::connect_addr(&address).unwrap())
    } else if let Some(path) = text.strip_prefix("unix:") {
        RawStream::Unix(UnixStream::connect(path).unwrap())
    } else {
        RawStream::Tcp(TcpStream::connect(text.strip_prefix("tcp:").unwrap()).unwrap())
    };
    stream.wait_at_most(Some(WATCHDOG));
    stream
}

impl RawStream {
    pub fn finish_writing(&self) {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write).unwrap(),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write).unwrap(),
        }
    }

    /// Returns the status code and the body of the one packet that arrives before the end; nothing if there is none.
    pub fn answer(&mut self) -> Option<(u8, Value)> {
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes).unwrap();
        one_answer(&bytes)
    }

    /// Offers a session with a call of `$/ping`, and reads HELLO and the answer.
    pub fn open_session(&mut self) {
        self.write_all(&offer(0, r#"{"method":"$/ping"}"#)).unwrap();
        assert_eq!(self.packet().unwrap().kind, HELLO);
        let answer = self.packet().unwrap();
        assert_eq!((answer.kind, answer.id()), (GOOD, 1));
    }

    /// Returns the next packet; nothing at the end of input.
    pub fn packet(&mut self) -> Option<RawPacket> {
        let mut header = [0; HEADER];
        self.read_exact(&mut header).ok()?;
        let mut packet = RawPacket::announced(header);
        self.read_exact(&mut packet.body).ok()?;
        Some(packet)
    }

    /// Ends a direction, or both. The peer may have gone already.
    pub fn shut(&self, how: Shutdown) {
        let _ = match self {
            Self::Tcp(stream) => TcpStream::shutdown(stream, how),
            Self::Unix(stream) => UnixStream::shutdown(stream, how),
        };
    }

    /// Sets how long a read waits; without a limit, it waits for any time.
    pub fn wait_at_most(&self, limit: Option<Duration>) {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(limit).unwrap(),
            Self::Unix(stream) => stream.set_read_timeout(limit).unwrap(),
        }
    }

    /// Returns the same connection once more.
    pub fn another(&self) -> Self {
        match self {
            Self::Tcp(stream) => Self::Tcp(stream.try_clone().unwrap()),
            Self::Unix(stream) => Self::Unix(stream.try_clone().unwrap()),
        }
    }
}

impl AsFd for RawStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

/// Returns a connection to a TCP server from another address of this machine.
pub fn raw_from(endpoint: &Endpoint, source: [u8; 4]) -> RawStream {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let text = endpoint.to_string();
    let server: SocketAddr = text.strip_prefix("tcp:").unwrap().parse().unwrap();
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::from((source, 0))).unwrap();
    connect(&socket, &server).unwrap();
    let stream = RawStream::Tcp(TcpStream::from(socket));
    stream.wait_at_most(Some(WATCHDOG));
    stream
}

/// Returns the first of `streams` to have something to read.
pub fn first_readable(streams: &[RawStream]) -> usize {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut polled: Vec<_> = streams.iter().map(|stream| PollFd::new(stream, PollFlags::IN)).collect();
    let limit = Timespec { tv_sec: i64::try_from(WATCHDOG.as_secs()).unwrap(), tv_nsec: 0 };
    poll(&mut polled, Some(&limit)).unwrap();
    polled.iter().position(|stream| !stream.revents().is_empty()).unwrap()
}

impl Read for RawStream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for RawStream {
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

/// A connection of the async face.
#[cfg(feature = "tokio")]
pub enum AsyncStream {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

#[cfg(feature = "tokio")]
impl AsyncStream {
    pub async fn connect(endpoint: &Endpoint) -> std::io::Result<Self> {
        match endpoint.path() {
            Some(path) => tokio::net::UnixStream::connect(path).await.map(Self::Unix),
            None => {
                let port = endpoint.port().unwrap();
                tokio::net::TcpStream::connect(("127.0.0.1", port)).await.map(Self::Tcp)
            }
        }
    }

    pub async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        use tokio::io::AsyncWriteExt;
        match self {
            Self::Tcp(stream) => stream.write_all(bytes).await,
            Self::Unix(stream) => stream.write_all(bytes).await,
        }
    }

    /// Waits until there is something to read.
    pub async fn readable(&self) -> std::io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.readable().await,
            Self::Unix(stream) => stream.readable().await,
        }
    }

    /// Returns the next packet.
    pub async fn packet(&mut self) -> std::io::Result<RawPacket> {
        let mut header = [0; HEADER];
        self.read_exact(&mut header).await?;
        let mut packet = RawPacket::announced(header);
        self.read_exact(&mut packet.body).await?;
        Ok(packet)
    }

    async fn read_exact(&mut self, buffer: &mut [u8]) -> std::io::Result<()> {
        use tokio::io::AsyncReadExt;
        match self {
            Self::Tcp(stream) => stream.read_exact(buffer).await.map(drop),
            Self::Unix(stream) => stream.read_exact(buffer).await.map(drop),
        }
    }

    pub async fn read_to_end(&mut self) -> std::io::Result<Vec<u8>> {
        use tokio::io::AsyncReadExt;
        let mut bytes = Vec::new();
        match self {
            Self::Tcp(stream) => stream.read_to_end(&mut bytes).await?,
            Self::Unix(stream) => stream.read_to_end(&mut bytes).await?,
        };
        Ok(bytes)
    }

    /// Returns the status code and the body of the one packet that arrives before the end.
    pub async fn answer(&mut self) -> (u8, Value) {
        one_answer(&self.read_to_end().await.unwrap()).unwrap_or_else(|| panic!("no answer"))
    }

    /// Returns the code of the bad response that arrives before the end.
    pub async fn code(&mut self) -> String {
        let (status, body) = self.answer().await;
        assert_eq!(status, BAD, "{body}");
        body.get("code").unwrap().as_str().unwrap().to_string()
    }
}
