//! The packets of `same-work` and `same-work-bulk`: the layout of a session, and what every reader of it must check.
//!
//! ```text
//!     'p' 'b' version kind flags options length | call id | envelope
//!      1   1     2     1     1      1      4    |    4    | length - 4
//! ```

use std::borrow::Cow;
use std::io::{self, ErrorKind, Read};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::socket::Socket;

pub(crate) const REQUEST: u8 = 0;
pub(crate) const GOOD: u8 = 1;
/// The bytes before the envelope: header and call id.
pub(crate) const FRONT: usize = HEADER + 4;
/// The longest wait for a packet.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

const HEADER: usize = 11;
/// The largest body that a reader accepts, as ProcBridge by default.
const MAX_BODY: usize = 16 << 20;
/// The bytes of one read: few enough that the cache still has them when they are checked.
const READ: usize = 64 << 10;

/// A request, whichever type its payload has.
#[derive(Deserialize)]
pub(crate) struct Request<'a, P> {
    #[serde(borrow)]
    pub(crate) method: Cow<'a, str>,
    pub(crate) payload: P,
}

/// An answer, whichever type its result has.
#[derive(Deserialize)]
pub(crate) struct Answer<P> {
    pub(crate) payload: P,
}

/// Begins a packet in memory that is used again.
pub(crate) fn begin(packet: &mut Vec<u8>, kind: u8, id: u32, envelope: &[u8]) {
    packet.clear();
    packet.extend_from_slice(&[b'p', b'b', 1, 1, kind, 0, 0, 0, 0, 0, 0]);
    packet.extend_from_slice(&id.to_le_bytes());
    packet.extend_from_slice(envelope);
}

/// Ends the envelope and writes the length into the header.
pub(crate) fn end(packet: &mut Vec<u8>) {
    packet.push(b'}');
    let length = u32::try_from(packet.len() - HEADER).unwrap_or(u32::MAX);
    packet[HEADER - 4..HEADER].copy_from_slice(&length.to_le_bytes());
}

/// The packet that arrives on a connection; its memory is used again for the next one.
pub(crate) struct Incoming {
    bytes: Vec<u8>,
    filled: usize,
}

impl Incoming {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; READ], filled: 0 }
    }

    /// Reads one packet of the kind and returns its call id and where it ends. The caller sees what has arrived after
    /// each read, and where the packet will end.
    ///
    /// Looks at the clock once for each wait: the deadline counts from the first one, and the socket has a timeout.
    pub(crate) fn receive(
        &mut self,
        socket: &mut Socket,
        kind: u8,
        mut arrived: impl FnMut(&[u8], usize),
    ) -> io::Result<(u32, usize)> {
        self.filled = 0;
        let mut whole = None;
        let mut now = Instant::now();
        let deadline = now + TIMEOUT;
        loop {
            if now >= deadline {
                return Err(ErrorKind::TimedOut.into());
            }
            let until = whole.map_or(READ, |(_, whole)| (self.filled + READ).min(whole));
            match socket.read(&mut self.bytes[self.filled..until])? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                bytes => self.filled += bytes,
            }
            if whole.is_none() {
                whole = front(&self.bytes[..self.filled], kind)?;
            }
            if let Some((id, end)) = whole {
                arrived(&self.bytes[..self.filled], end);
                if self.filled == end {
                    return Ok((id, end));
                }
                // Nothing is sent before the answer to what came before.
                if self.filled > end {
                    return Err(invalid("bytes behind the packet"));
                }
                if self.bytes.len() < end {
                    self.bytes.resize(end, 0);
                }
            }
            now = Instant::now();
        }
    }

    /// Returns the envelope of the packet that ends at `end`.
    pub(crate) fn envelope(&self, end: usize) -> &[u8] {
        &self.bytes[FRONT..end]
    }
}

/// Checks header and length; call id and length of the whole packet.
fn front(bytes: &[u8], kind: u8) -> io::Result<Option<(u32, usize)>> {
    let &[p, b, major, minor, found, _, _, l0, l1, l2, l3, i0, i1, i2, i3, ..] = bytes else {
        return Ok(None);
    };
    if [p, b, major, minor, found] != [b'p', b'b', 1, 1, kind] {
        return Err(invalid("not the packet that was due"));
    }
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if !(4..=MAX_BODY).contains(&length) {
        return Err(invalid("a length out of bounds"));
    }
    Ok(Some((u32::from_le_bytes([i0, i1, i2, i3]), HEADER + length)))
}

pub(crate) fn invalid(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_as_long_as_those_of_a_session() {
        let mut packet = Vec::new();
        begin(&mut packet, REQUEST, 7, br#"{"method":"echo","payload":"#);
        packet.extend_from_slice(contender::Payload::Small.text().as_bytes());
        end(&mut packet);
        assert_eq!(packet.len(), contender::Payload::Small.on_the_wire().0);
        assert_eq!(front(&packet, REQUEST).unwrap(), Some((7, packet.len())));
        assert_eq!(front(&packet[..FRONT - 1], REQUEST).unwrap(), None);
    }

    #[test]
    fn a_wrong_front_is_refused() {
        let mut packet = Vec::new();
        begin(&mut packet, REQUEST, 7, b"{");
        end(&mut packet);
        for (at, byte) in [(0, b'x'), (1, b'x'), (2, 2), (3, 2), (4, GOOD), (7, 3), (10, 1)] {
            let mut wrong = packet.clone();
            wrong[at] = byte;
            assert!(front(&wrong, REQUEST).is_err(), "{at}");
        }
    }
}
