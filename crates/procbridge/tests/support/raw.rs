//! A peer of a session made by hand: packets in and out, nothing of the library in between.

use std::io::{Read, Write};

use serde_json::Value;

use super::RawStream;

/// One packet as it came.
#[derive(Debug)]
pub struct RawPacket {
    pub kind: u8,
    pub flags: u8,
    pub body: Vec<u8>,
}

impl RawPacket {
    /// The call id of a packet of a session.
    pub fn id(&self) -> u32 {
        u32::from_le_bytes(self.body.get(..4).unwrap().try_into().unwrap())
    }

    /// The content of a packet of a session.
    pub fn json(&self) -> Value {
        serde_json::from_slice(self.body.get(4..).unwrap()).unwrap()
    }
}

/// A classic request with flags: with `SESSION` an offer.
pub fn offer(flags: u8, body: &str) -> Vec<u8> {
    let mut out = vec![b'p', b'b', 1, 1, 0, SESSION | flags, 0];
    out.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
    out.extend(body.as_bytes());
    out
}

/// A packet of a session.
pub fn session_packet(kind: u8, flags: u8, id: u32, json: &str) -> Vec<u8> {
    let mut out = vec![b'p', b'b', 1, 1, kind, flags, 0];
    out.extend(u32::try_from(json.len() + 4).unwrap().to_le_bytes());
    out.extend(id.to_le_bytes());
    out.extend(json.as_bytes());
    out
}

impl RawStream {
    /// Offers a session with a call of `$/ping`, and reads HELLO and the answer.
    pub fn open_session(&mut self) {
        self.write_all(&offer(0, r#"{"method":"$/ping"}"#)).unwrap();
        assert_eq!(self.packet().unwrap().kind, HELLO);
        let answer = self.packet().unwrap();
        assert_eq!((answer.kind, answer.id()), (GOOD, 1));
    }

    /// The next packet; nothing at the end of input.
    pub fn packet(&mut self) -> Option<RawPacket> {
        let mut header = [0; 11];
        if self.read_exact(&mut header).is_err() {
            return None;
        }
        let [_, _, _, _, kind, flags, _, a, b, c, d] = header;
        let mut body = vec![0; u32::from_le_bytes([a, b, c, d]) as usize];
        self.read_exact(&mut body).ok()?;
        Some(RawPacket { kind, flags, body })
    }
}

pub const SESSION: u8 = 0x01;
pub const STREAM: u8 = 0x04;
pub const REQUEST: u8 = 0;
pub const GOOD: u8 = 1;
pub const HELLO: u8 = 3;
pub const ITEM: u8 = 4;
pub const PING: u8 = 7;
pub const GOODBYE: u8 = 9;
