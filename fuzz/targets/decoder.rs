//! Any bytes in any portions to a classic connection: the portions change nothing, and what is held follows what arrived.
#![no_main]

use libfuzzer_sys::fuzz_target;
use procbridge_fuzz::{choices, portions, said};
use procbridge_proto::{Connection, Ending, Event, Limits, Packet, Settings, Version};

fuzz_target!(|input: &[u8]| {
    let ([how, seed], bytes) = choices(input);
    let whole = seen(how, &[bytes]);
    assert_eq!(whole, seen(how, &portions(bytes, seed)));
    assert_eq!(whole, seen(how, &bytes.chunks(1).collect::<Vec<_>>()));
    assert_eq!(whole, read(how, bytes));
    assert!(whole.events.len() <= 1 || whole.is_session);
});

/// Everything that can be seen of a connection.
#[derive(Debug, PartialEq)]
struct Seen {
    events: Vec<Event>,
    said: Vec<u8>,
    wants_input: bool,
    /// How it is to be closed behind what it said.
    ending: Option<Ending>,
    is_session: bool,
}

fn connection(how: u8) -> Connection {
    let mut limits = Limits::default().with_max_method(16);
    if how & 4 != 0 {
        limits = limits.with_max_body(64).with_max_depth(3);
    }
    let is_server = how & 1 != 0;
    let mut connection = if is_server { Connection::server(limits) } else { Connection::client(limits) };
    if how & 8 != 0 {
        connection = connection.with_session(Settings::new());
    }
    if !is_server {
        let version = if how & 16 != 0 { Version::V1_0 } else { Version::V1_1 };
        connection.call(Packet::request(version, Some("m"), None).finish(&limits).unwrap()).unwrap();
        connection.transmitted(connection.transmit().len());
    }
    connection
}

/// Returns the outcome of these portions, each taken in at once.
fn seen(how: u8, portions: &[&[u8]]) -> Seen {
    let (mut connection, mut arrived) = (connection(how), 0);
    for portion in portions {
        connection.receive(portion);
        arrived += portion.len();
        check_held(&connection, arrived);
    }
    end(how, connection)
}

/// Returns the outcome of `bytes` if they are read as the faces read: as much at a time as there is room for.
fn read(how: u8, mut bytes: &[u8]) -> Seen {
    let (mut connection, mut arrived) = (connection(how), 0);
    while !bytes.is_empty() {
        let buffer = connection.read_buffer();
        let room = buffer.capacity() - buffer.len();
        assert!(room > 0, "there is room for the next read");
        let (portion, behind) = bytes.split_at(room.min(bytes.len()));
        buffer.extend_from_slice(portion);
        connection.received();
        (bytes, arrived) = (behind, arrived + portion.len());
        check_held(&connection, arrived);
    }
    end(how, connection)
}

fn end(how: u8, mut connection: Connection) -> Seen {
    if how & 2 != 0 {
        connection.receive_end();
    }
    let events = std::iter::from_fn(|| connection.poll_event()).collect();
    let is_session = connection.is_session();
    let wants_input = connection.wants_input();
    let said = said(&mut connection);
    let ending = if said.is_empty() || is_session { None } else { Some(connection.ending()) };
    Seen { events, said, wants_input, ending, is_session }
}

/// Checks that memory follows the bytes that arrived, not those announced. A buffer at most doubles, and has room for one
/// read, which in a session is of 96 KiB.
fn check_held(connection: &Connection, arrived: usize) {
    let read = if connection.is_session() { 200 * 1024 } else { 8 * 1024 };
    let held = connection.held_bytes();
    assert!(held <= 2 * arrived + read, "{held} B held for {arrived} B");
}
