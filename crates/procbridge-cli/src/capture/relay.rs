//! A look at what goes over a connection: calls go to a private socket of this process, which passes them on.
//!
//! The library knows nothing of it. The socket has an abstract name, and lets in nobody but this process.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;

use procbridge_proto::Status;
use rustix::net::{Shutdown, shutdown};

use crate::capture::observed::Hello;
use crate::capture::packet_line::{excerpt, is_rest, line};
use crate::capture::packet_splitter::{Captured, PacketSplitter};
use crate::capture::state::CaptureState;
use crate::text::system_error;

/// One connection that is passed on.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) state: Arc<CaptureState>,
    pub(crate) number: usize,
    pub(crate) ours: File,
    pub(crate) theirs: File,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

impl Relay {
    pub(crate) fn start(self) -> io::Result<()> {
        let relay = Arc::new(self);
        let answers = relay.clone();
        let back = thread::Builder::new()
            .name("tap-in".to_string())
            .spawn(move || answers.pass(Direction::ToClient))?;
        thread::Builder::new().name("tap-out".to_string()).spawn(move || {
            relay.pass(Direction::ToServer);
            let _ = back.join();
            relay.state.closed();
        })?;
        Ok(())
    }

    /// Passes on one direction until its end.
    fn pass(&self, direction: Direction) {
        let (from, to, who) = match direction {
            Direction::ToServer => (&self.ours, &self.theirs, "this side"),
            Direction::ToClient => (&self.theirs, &self.ours, "the server"),
        };
        let (mut splitter, mut begun) = (PacketSplitter::default(), HashSet::new());
        let mut buffer = vec![0; BUFFER_SIZE];
        let end = loop {
            let count = match (&mut &*from).read(&mut buffer) {
                Ok(0) => break "closed".to_string(),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => break format!("lost ({})", system_error::describe(&error)),
            };
            let bytes = buffer.get(..count).unwrap_or_default();
            // Told before it is passed on: an answer must not be told before its request.
            for passed in splitter.split(bytes) {
                self.observe(direction, &passed, &mut begun);
            }
            if (&mut &*to).write_all(bytes).is_err() {
                // Nobody takes it any more; whoever sent it is to know.
                let _ = shutdown(from.as_fd(), Shutdown::Both);
                break "not passed on, the other end is gone".to_string();
            }
        };
        if splitter.unfinished() > 0 {
            self.show(
                direction,
                &format!("{} bytes of a packet that was not finished", splitter.unfinished()),
            );
        }
        self.state.show(self.number, "--", &format!("{end} by {who}"));
        let _ = shutdown(to.as_fd(), Shutdown::Write);
    }

    /// `begun` are the calls of which a piece has passed that is not the last.
    fn observe(&self, direction: Direction, passed: &Captured, begun: &mut HashSet<u32>) {
        match passed {
            Captured::Packet(packet) => {
                if direction == Direction::ToClient
                    && packet.header.status == Status::HELLO
                    && packet.id.is_none()
                {
                    let (options, body) = (packet.header.options, packet.body.clone());
                    self.state.state().observed.hello = Some(Hello { options, body });
                }
                if self.state.is_verbose {
                    self.show(direction, &line(packet, is_rest(packet, begun)));
                }
            }
            Captured::Foreign(length, start) => {
                self.show(
                    direction,
                    &format!("{length} bytes that are no packet: {}", excerpt(start, *length)),
                );
            }
        }
    }

    fn show(&self, direction: Direction, what: &str) {
        self.state.show(self.number, if direction == Direction::ToServer { "->" } else { "<-" }, what);
    }
}

const BUFFER_SIZE: usize = 64 * 1024;
