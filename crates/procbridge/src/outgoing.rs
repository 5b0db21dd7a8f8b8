//! The client's side of one connection without its socket: a request goes out, a response or an error comes back, and
//! it is known at any time whether the call can have run. The same for both faces.

use std::io;
use std::time::{Duration, Instant};

use procbridge_proto::{Connection, Event, Packet, Response};

use crate::config::ClientConfig;
use crate::error::{Error, Outcome};
use crate::socket::Read;

/// One call.
#[derive(Debug)]
pub(crate) struct Outgoing {
    connection: Connection,
    started: Instant,
    /// When the call is over, answered or not.
    pub(crate) deadline: Option<Instant>,
    /// When the connection must be there.
    pub(crate) connect_deadline: Option<Instant>,
}

impl Outgoing {
    /// A call whose time begins now.
    pub(crate) fn new(
        config: &ClientConfig,
        packet: Packet,
        timeout: Option<Duration>,
    ) -> Result<Self, Error> {
        let started = Instant::now();
        let until = |limit: Option<Duration>| limit.and_then(|limit| started.checked_add(limit));
        let deadline = until(timeout.or(config.call_timeout));
        let connect_deadline = [deadline, until(config.connect_timeout)].into_iter().flatten().min();
        let mut connection = Connection::client(config.limits);
        connection.call(packet).map_err(Error::misuse)?;
        Ok(Self { connection, started, deadline, connect_deadline })
    }

    /// What is to be written, empty if there is nothing.
    pub(crate) fn transmit(&self) -> &[u8] {
        self.connection.transmit()
    }

    pub(crate) fn transmitted(&mut self, count: usize) {
        self.connection.transmitted(count);
    }

    /// Takes in what has arrived of the response, as `read` appends it to a buffer without waiting.
    pub(crate) fn read(
        &mut self,
        mut read: impl FnMut(&mut Vec<u8>) -> io::Result<Read>,
    ) -> Result<Option<Response>, Error> {
        loop {
            match read(self.connection.read_buffer()) {
                Ok(Read::Bytes(_)) => self.connection.received(),
                Ok(Read::End) => self.connection.receive_end(),
                Ok(Read::Nothing) => return Ok(None),
                Err(error) => return Err(self.lost(error)),
            }
            match self.connection.poll_event() {
                Some(Event::Response { response, .. }) => return Ok(Some(response)),
                Some(Event::Closed { error: Some(error) }) => return Err(Error::protocol(error)),
                _ => {}
            }
        }
    }

    /// The error of a call whose time is over.
    pub(crate) fn timed_out(&self) -> Error {
        let limit = self.deadline.unwrap_or_else(Instant::now).duration_since(self.started);
        Error::timed_out(limit).with_outcome(self.outcome())
    }

    /// The error of a call whose connection failed.
    pub(crate) fn lost(&self, error: io::Error) -> Error {
        Error::lost(error).with_outcome(self.outcome())
    }

    fn outcome(&self) -> Outcome {
        if self.connection.has_transmitted() { Outcome::Unknown } else { Outcome::NotSent }
    }
}
