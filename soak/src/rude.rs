//! Bytes by hand: sessions that are cut anywhere, and what no client would send. Nothing here uses the library.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use procbridge::Endpoint;
use rustix::net::Shutdown;

use crate::crowd::Work;
use crate::tally::End;

/// A connection, of whatever kind.
struct Stream(Box<dyn Socket>);

trait Socket: Read + Write + AsFd {}

impl<T: Read + Write + AsFd> Socket for T {}

/// Sessions with many calls at once, written in any portions. Each is answered once, with its own number; some sessions are
/// cut before that.
pub(crate) fn sessions(at: &Endpoint, mut work: Work) {
    while !work.is_over() {
        work.pause(40);
        let Some(mut stream) = Stream::connect(at) else { continue };
        let calls: BTreeMap<u32, u64> =
            (0..1 + work.dice.below(20)).map(|n| (2 * n as u32 + 1, work.number())).collect();
        let (mut bytes, mut ends_at) = (Vec::new(), Vec::new());
        for (&id, number) in &calls {
            let body = format!(r#"{{"method":"echo","payload":[{number},"{}"]}}"#, work.dice.text(200));
            bytes.extend(match id {
                1 => classic(0, SESSION, body.as_bytes()),
                _ => packet(0, id, body.as_bytes()),
            });
            ends_at.push(bytes.len());
        }
        let cut = work.dice.below(2) == 0;
        let length = if cut { work.dice.below(bytes.len()) } else { bytes.len() };
        let mut rest = &bytes[..length];
        while !rest.is_empty() {
            let (portion, behind) = rest.split_at(1 + work.dice.below(rest.len()));
            if stream.0.write_all(portion).is_err() {
                break;
            }
            rest = behind;
        }
        // Of those that were written, all answers are read, or some if the session is cut.
        let whole = ends_at.iter().filter(|&&end| end <= length).count();
        let wanted = if cut { work.dice.below(whole + 1) } else { whole };
        let (mut ends, mut is_session) = (BTreeMap::new(), false);
        while ends.len() < wanted {
            let Some((kind, body)) = stream.packet() else { break };
            let end = match kind {
                GOOD => End::Answered,
                BAD => End::Refused,
                HELLO => {
                    is_session = true;
                    continue;
                }
                GOODBYE => continue,
                _ => panic!("a packet of kind {kind}"),
            };
            // Without a session there is an answer to the first call, in classic framing, and nothing more.
            let (id, content) = match body.split_first_chunk() {
                Some((id, content)) if is_session => (u32::from_le_bytes(*id), content),
                _ => (1, &body[..]),
            };
            let number = calls[&id];
            if end == End::Answered {
                let start = format!(r#"{{"payload":[{number},"#);
                assert!(content.starts_with(start.as_bytes()), "call {number} has another answer");
            }
            assert!(ends.insert(id, end).is_none(), "call {number} was answered twice");
        }
        for (id, &number) in &calls {
            work.tally.end(number, ends.get(id).copied().unwrap_or(End::Unknown));
        }
        stream.leave(&mut work);
    }
}

/// Connections that send something else than calls, or not the whole of one.
pub(crate) fn garbage(at: &Endpoint, mut work: Work) {
    while !work.is_over() {
        work.pause(20);
        let Some(mut stream) = Stream::connect(at) else { continue };
        let number = work.number();
        let call = classic(0, 0, format!(r#"{{"method":"echo","payload":[{number},""]}}"#).as_bytes());
        let offer = classic(0, SESSION, br#"{"method":"$/ping"}"#);
        let count = work.dice.below(3000);
        let mut noise = work.dice.bytes(count);
        let bytes = match work.dice.below(8) {
            0 => noise,
            1 => call[..work.dice.below(call.len())].to_vec(),
            2 => [&call, &noise[..]].concat(),
            3 => [&offer, &noise[..]].concat(),
            4 => [offer, packet(work.dice.below(12) as u8, work.dice.below(9) as u32, &noise)].concat(),
            5 => [b"pb\x01\x01\0\0\0\0\0\0\x01", &noise[..]].concat(),
            6 => {
                noise.truncate(40);
                classic(0, 0, &noise)
            }
            _ => Vec::new(),
        };
        let _ = stream.0.write_all(&bytes);
        // Its call may have been whole.
        work.tally.end(number, End::Unknown);
        stream.leave(&mut work);
    }
}

impl Stream {
    fn connect(at: &Endpoint) -> Option<Self> {
        let at = at.to_string();
        // It is not there while the server is started again.
        Some(Self(match at.strip_prefix("unix:") {
            Some(path) => {
                let stream = UnixStream::connect(path).ok()?;
                stream.set_read_timeout(Some(STUCK)).unwrap();
                Box::new(stream)
            }
            None => {
                let stream = TcpStream::connect(at.strip_prefix("tcp:").unwrap()).ok()?;
                stream.set_read_timeout(Some(STUCK)).unwrap();
                Box::new(stream)
            }
        }))
    }

    /// Returns the next packet: kind and body. Nothing at the end.
    fn packet(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut header = [0; 11];
        self.fill(&mut header)?;
        let [b'p', b'b', 1, 1, kind, _, _, a, b, c, d] = header else { panic!("a header {header:?}") };
        let mut body = vec![0; u32::from_le_bytes([a, b, c, d]) as usize];
        self.fill(&mut body)?;
        Some((kind, body))
    }

    /// Reads so many bytes; nothing if the connection ends before.
    fn fill(&mut self, buffer: &mut [u8]) -> Option<()> {
        match self.0.read_exact(buffer) {
            Ok(()) => Some(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("the server says nothing"),
            Err(_) => None,
        }
    }

    /// Goes away: at once, with a reset, or once the server has had enough.
    fn leave(mut self, work: &mut Work) {
        match work.dice.below(3) {
            0 => {}
            1 => drop(rustix::net::sockopt::set_socket_linger(&self.0, Some(Duration::ZERO))),
            _ => {
                let _ = rustix::net::shutdown(&self.0, Shutdown::Write);
                while self.fill(&mut [0]).is_some() {}
            }
        }
    }
}

/// Returns a packet as a classic connection has them.
fn classic(kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_le_bytes();
    [&[b'p', b'b', 1, 1, kind, flags, 0][..], &length, body].concat()
}

/// Returns a packet of a session.
fn packet(kind: u8, id: u32, content: &[u8]) -> Vec<u8> {
    classic(kind, 0, &[&id.to_le_bytes(), content].concat())
}

/// The offer of a session.
const SESSION: u8 = 0x01;

const GOOD: u8 = 1;
const BAD: u8 = 2;
const HELLO: u8 = 3;
const GOODBYE: u8 = 9;

/// A time that a server never takes: its timeouts are of 10 s.
const STUCK: Duration = Duration::from_secs(30);
