//! Packets by hand: the header of 11 bytes, the call id, and how they are read again.

/// Kinds of packets: the status code of the header.
pub(crate) const REQUEST: u8 = 0;
pub(crate) const GOOD: u8 = 1;
pub(crate) const BAD: u8 = 2;
pub(crate) const HELLO: u8 = 3;
pub(crate) const ITEM: u8 = 4;
pub(crate) const CREDIT: u8 = 5;
pub(crate) const CANCEL: u8 = 6;
pub(crate) const PING: u8 = 7;
pub(crate) const PONG: u8 = 8;
pub(crate) const GOODBYE: u8 = 9;

/// Flags: byte 5 of the header.
pub(crate) const SESSION: u8 = 0x01;
pub(crate) const ONE_WAY: u8 = 0x02;
pub(crate) const STREAM: u8 = 0x04;
pub(crate) const MORE: u8 = 0x08;
pub(crate) const LZ4: u8 = 0x10;
pub(crate) const ZSTD: u8 = 0x20;

/// The codecs that an offer says it can read: byte 6 of the header.
pub(crate) const BOTH_CODECS: u8 = 0x03;

/// The length of a header.
pub(crate) const HEADER: usize = 11;

/// The largest text that a side takes by default.
pub(crate) const MAX_BODY: usize = 16 << 20;

/// Returns a header that announces so many bytes.
pub(crate) fn header(kind: u8, flags: u8, options: u8, length: u32) -> [u8; HEADER] {
    let [a, b, c, d] = length.to_le_bytes();
    [b'p', b'b', 1, 1, kind, flags, options, a, b, c, d]
}

/// Returns a packet in classic framing.
pub(crate) fn classic(kind: u8, flags: u8, options: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("a body fits its length");
    [&header(kind, flags, options, length)[..], body].concat()
}

/// Returns a classic request.
pub(crate) fn request(body: &str) -> Vec<u8> {
    classic(REQUEST, 0, 0, body.as_bytes())
}

/// Returns a classic request that offers a session.
pub(crate) fn offer(body: &str) -> Vec<u8> {
    classic(REQUEST, SESSION, BOTH_CODECS, body.as_bytes())
}

/// Returns a packet of a session.
pub(crate) fn packet(kind: u8, flags: u8, id: u32, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len() + 4).expect("a content fits its length");
    [&header(kind, flags, 0, length)[..], &id.to_le_bytes(), content].concat()
}

/// Returns a request in a session.
pub(crate) fn call(id: u32, body: &str) -> Vec<u8> {
    packet(REQUEST, 0, id, body.as_bytes())
}

/// Returns the text of a call.
pub(crate) fn text(method: &str, payload: &str) -> String {
    format!(r#"{{"method":"{method}","payload":{payload}}}"#)
}

/// Returns a text that calls a method with a string of so many bytes.
pub(crate) fn long_text(method: &str, bytes: usize) -> String {
    text(method, &format!("\"{}\"", "x".repeat(bytes)))
}

/// Returns bytes without a pattern that are the same each time.
pub(crate) fn noise(seed: usize, count: usize) -> Vec<u8> {
    let mut state = seed as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..count).map(|_| next()).collect()
}

/// Returns kind, flags and length of a header. Nothing if it is no header of version 1.1.
pub(crate) fn read_header(header: &[u8; HEADER]) -> Option<(u8, u8, usize)> {
    let &[b'p', b'b', 1, 1, kind, flags, _, a, b, c, d] = header else { return None };
    Some((kind, flags, u32::from_le_bytes([a, b, c, d]) as usize))
}

/// A packet that was read. In a session `id` is that of its call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) id: u32,
    pub(crate) content: Vec<u8>,
}

impl Packet {
    /// Whether its text has these bytes in it.
    pub(crate) fn holds(&self, part: &str) -> bool {
        self.content.windows(part.len()).any(|window| window == part.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_those_of_the_worked_example() {
        let offer = classic(REQUEST, SESSION, BOTH_CODECS, br#"{"method":"sum","payload":[1,2]}"#);
        assert_eq!(offer[..HEADER], [0x70, 0x62, 1, 1, 0, 1, 3, 0x20, 0, 0, 0]);
        let call = packet(REQUEST, STREAM, 3, br#"{"method":"count","payload":2}"#);
        assert_eq!(call[..15], [0x70, 0x62, 1, 1, 0, 4, 0, 0x22, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!(call.len(), 15 + 30);
    }

    #[test]
    fn a_header_is_read_as_it_was_written() {
        assert_eq!(read_header(&header(ITEM, MORE, 0, 70_000)), Some((ITEM, MORE, 70_000)));
        assert_eq!(read_header(b"HTTP/1.1 40"), None);
    }
}
