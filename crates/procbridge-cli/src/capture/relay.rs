//! Relays one connection between the client and the server, and shows its packets.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;

use procbridge_proto::Status;
use rustix::net::{Shutdown, shutdown};

use crate::capture::observed::Hello;
use crate::capture::packet_line::{excerpt, format_packet, is_continuation};
use crate::capture::packet_splitter::{Captured, PacketSplitter};
use crate::capture::state::CaptureState;
use crate::text::system_error;

/// One connection and the number by which it is shown.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) state: Arc<CaptureState>,
    pub(crate) number: usize,
    pub(crate) client: File,
    pub(crate) server: File,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

impl Relay {
    /// Starts a thread for each direction.
    pub(crate) fn start(self) -> io::Result<()> {
        let relay = Arc::new(self);
        let clone = relay.clone();
        let to_client = thread::Builder::new().name("to client".to_string());
        let to_client = to_client.spawn(move || clone.copy(Direction::ToClient))?;
        thread::Builder::new().name("to server".to_string()).spawn(move || {
            relay.copy(Direction::ToServer);
            let _ = to_client.join();
            relay.state.closed();
        })?;
        Ok(())
    }

    /// Copies one direction until its end.
    fn copy(&self, direction: Direction) {
        let (from, to, source) = match direction {
            Direction::ToServer => (&self.client, &self.server, "this side"),
            Direction::ToClient => (&self.server, &self.client, "the server"),
        };
        let (mut splitter, mut unfinished) = (PacketSplitter::default(), HashSet::new());
        let mut buffer = vec![0; BUFFER_SIZE];
        let end = loop {
            let count = match (&mut &*from).read(&mut buffer) {
                Ok(0) => break "closed".to_string(),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => break format!("lost ({})", system_error::describe(&error)),
            };
            let bytes = buffer.get(..count).unwrap_or_default();
            // Show packets before copying them, or an answer may be shown before its request.
            for captured in splitter.split(bytes) {
                self.observe(direction, &captured, &mut unfinished);
            }
            if (&mut &*to).write_all(bytes).is_err() {
                // Close the other direction too, or the sender does not notice that the receiver has gone.
                let _ = shutdown(from.as_fd(), Shutdown::Both);
                break "not passed on, the other end is gone".to_string();
            }
        };
        if splitter.unfinished() > 0 {
            self.show(direction, &format!("{} bytes of an incomplete packet", splitter.unfinished()));
        }
        self.state.show(self.number, "--", &format!("{end} by {source}"));
        let _ = shutdown(to.as_fd(), Shutdown::Write);
    }

    /// Records and shows a packet. `unfinished` holds the calls whose request continues in later packets.
    fn observe(&self, direction: Direction, captured: &Captured, unfinished: &mut HashSet<u32>) {
        match captured {
            Captured::Packet(packet) => {
                let is_hello = packet.header.status == Status::HELLO && packet.id.is_none();
                if direction == Direction::ToClient && is_hello {
                    let (options, body) = (packet.header.options, packet.body.clone());
                    self.state.state().observed.hello = Some(Hello { options, body });
                }
                if self.state.is_verbose {
                    self.show(direction, &format_packet(packet, is_continuation(packet, unfinished)));
                }
            }
            Captured::Foreign(length, start) => {
                let excerpt = excerpt(start, *length);
                self.show(direction, &format!("{length} bytes that are no packet: {excerpt}"));
            }
        }
    }

    fn show(&self, direction: Direction, text: &str) {
        self.state.show(self.number, if direction == Direction::ToServer { "->" } else { "<-" }, text);
    }
}

const BUFFER_SIZE: usize = 64 * 1024;
