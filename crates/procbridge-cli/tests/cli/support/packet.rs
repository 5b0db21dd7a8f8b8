//! Packets, written by hand.

use std::io::Read;
use std::net::TcpStream;

use super::process::WATCHDOG;

/// Reads a packet: its kind and its body.
pub(crate) fn request(stream: &mut TcpStream) -> (u8, String) {
    stream.set_read_timeout(Some(WATCHDOG)).unwrap();
    let mut header = [0; 11];
    stream.read_exact(&mut header).unwrap();
    let length = u32::from_le_bytes([header[7], header[8], header[9], header[10]]);
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body).unwrap();
    (header[4], String::from_utf8_lossy(&body).into_owned())
}

/// Returns a HELLO, which makes a connection a session.
pub(crate) fn hello() -> Vec<u8> {
    let mut hello = packet(3, "{\"session\":1}");
    hello[5] = 1;
    hello
}

/// Returns a packet of a session, written by hand.
pub(crate) fn session_packet(status: u8, flags: u8, id: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_le_bytes();
    [&b"pb\x01\x01"[..], &[status, flags, 0], &length, &id.to_le_bytes(), body].concat()
}

/// Returns a packet, written by hand.
pub(crate) fn packet(status: u8, body: &str) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_le_bytes();
    [&b"pb\x01\x01"[..], &[status, 0, 0], &length, body.as_bytes()].concat()
}
