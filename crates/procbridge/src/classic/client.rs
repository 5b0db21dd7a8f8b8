//! The client's side of a new connection without its socket: a request goes out, a response, a session or an error comes
//! back, and it is known at any time whether the call can have run. The same for both faces.

use std::io;
use std::time::{Duration, Instant};

use procbridge_proto::{CallId, Connection, Event, Packet, Response, Settings};

use crate::config::client::ClientConfig;
use crate::error::{Error, ErrorKind, Outcome, Sent};
use crate::net::socket::Read;

/// One call, on a connection of its own until that becomes a session.
#[derive(Debug)]
pub(crate) struct ClassicClient {
    connection: Connection,
    id: CallId,
    time: CallTimeout,
    /// How long nothing may happen on the connection of a call without a time limit. A session's heartbeat begins with it.
    patience: Option<Duration>,
    /// When something happened last.
    moved: Instant,
    /// When the connection must be there.
    pub(crate) connect_deadline: Option<Instant>,
}

/// A connection that has become a session, with the call that opened it.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) connection: Connection,
    pub(crate) id: CallId,
}

/// What came of a new connection.
#[derive(Debug)]
pub(crate) enum Opened {
    /// The answer, from a server that keeps no connection open for more.
    Response(Response),
    /// A session, in which the call goes on.
    Session,
}

/// The time that a call has, whatever connections it takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallTimeout {
    pub(crate) started: Instant,
    /// When the call is over, answered or not.
    pub(crate) deadline: Option<Instant>,
}

impl CallTimeout {
    /// The time of a call that begins now.
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        Self::since(Instant::now(), limit)
    }

    /// The time of a call that has `started`.
    pub(crate) fn since(started: Instant, limit: Option<Duration>) -> Self {
        Self { started, deadline: limit.and_then(|limit| started.checked_add(limit)) }
    }

    /// This time, or `limit` from `now` on if it has no end: for what is not waited for without one.
    pub(crate) fn or(self, now: Instant, limit: Option<Duration>) -> Self {
        if self.deadline.is_some() { self } else { Self::since(now, limit) }
    }

    /// How much of it is left.
    pub(crate) fn left(&self, now: Instant) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(now))
    }

    /// The error of a call whose time was over before there was a connection for it.
    pub(crate) fn no_connection_free(&self) -> Error {
        let limit = self.deadline.unwrap_or(self.started).duration_since(self.started);
        let message = format!(
            "no connection within the time limit of {limit:?}: other calls of this client were connecting, to a server \
             that is slow to accept (max_connecting)"
        );
        Error::unsent(ErrorKind::Timeout, message)
    }

    /// The error of a call whose time is over.
    pub(crate) fn expired(&self, outcome: impl Into<Outcome>) -> Error {
        let limit = self.deadline.unwrap_or(self.started).duration_since(self.started);
        Error::timed_out(limit, outcome)
    }
}

impl ClassicClient {
    /// A call on a new connection, which offers a session if there are `terms` for it. If the call has no time limit, nothing
    /// may happen on the connection for as long as `patience` says.
    pub(crate) fn new(
        config: &ClientConfig,
        packet: Packet,
        time: CallTimeout,
        now: Instant,
        terms: Option<Settings>,
        patience: Option<Duration>,
    ) -> Result<Self, Error> {
        let connect = config.connect_timeout.and_then(|limit| now.checked_add(limit));
        let connect_deadline = [time.deadline, connect].into_iter().flatten().min();
        // Results are parsed, or checked, in request.rs.
        let limits = config.limits.with_results_unchecked().with_requests_unread().with_answers_unread();
        let mut connection = Connection::client(limits);
        if let Some(terms) = terms {
            connection = connection.with_session(terms);
        }
        let id = connection.call(packet).map_err(Error::misuse)?;
        let patience = if time.deadline.is_some() { None } else { patience };
        Ok(Self { connection, id, time, patience, moved: now, connect_deadline })
    }

    /// When the call is over, answered or not, unless something [happens](Self::has_moved) before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.time.deadline.or_else(|| self.moved.checked_add(self.patience?))
    }

    /// Notes that the socket was ready: the server took something, or said something. The clock is looked at only where that
    /// matters.
    pub(crate) fn has_moved(&mut self, clock: fn() -> Instant) {
        if self.patience.is_some() {
            self.moved = clock();
        }
    }

    /// What is to be written, empty if there is nothing.
    pub(crate) fn transmit(&self) -> &[u8] {
        self.connection.transmit()
    }

    pub(crate) fn transmitted(&mut self, count: usize) {
        self.connection.transmitted(count);
    }

    /// Takes in what has arrived, as `read` appends it to a buffer without waiting.
    pub(crate) fn read(
        &mut self,
        mut read: impl FnMut(&mut Vec<u8>) -> io::Result<Read>,
    ) -> Result<Option<Opened>, Error> {
        loop {
            match read(self.connection.read_buffer()) {
                Ok(Read::Bytes(_)) => self.connection.received(),
                Ok(Read::End) => self.connection.receive_end(),
                Ok(Read::Nothing) => return Ok(None),
                Err(error) => return Err(self.lost(error)),
            }
            match self.connection.poll_event() {
                Some(Event::Session) => return Ok(Some(Opened::Session)),
                Some(Event::Response { response, .. }) => return Ok(Some(Opened::Response(response))),
                Some(Event::Closed { error: Some(error) }) => {
                    return Err(Error::protocol(error, self.sent()));
                }
                _ => {}
            }
        }
    }

    /// What the connection has become, and the call that opened it.
    pub(crate) fn into_session(self) -> Accepted {
        Accepted { connection: self.connection, id: self.id }
    }

    /// The error of a call whose time is over.
    pub(crate) fn timed_out(&self) -> Error {
        let time = match self.time.deadline {
            Some(_) => self.time,
            None => CallTimeout::since(self.moved, self.patience),
        };
        time.expired(self.sent())
    }

    /// The error of a call whose connection failed.
    pub(crate) fn lost(&self, error: io::Error) -> Error {
        Error::lost(error, self.sent())
    }

    fn sent(&self) -> Sent {
        Sent::of(&self.connection, self.id)
    }
}

impl Accepted {
    /// What becomes of the call that opened a session which cannot be used because of `error`: the answer, if it has arrived.
    /// The server has the call and may have run it, as was written.
    pub(crate) fn recover(
        mut self,
        error: io::Error,
        mut read: impl FnMut(&mut Vec<u8>) -> io::Result<Read>,
    ) -> Result<Response, Error> {
        // A server that floods its client is not read for ever.
        for _ in 0..READS {
            while let Some(event) = self.connection.poll_event() {
                match event {
                    Event::Response { id, response } if id == self.id => return Ok(response),
                    Event::UnreadResponse { id, response } if id == self.id => {
                        return response.read().map_err(|error| Error::protocol(error, Outcome::Unknown));
                    }
                    Event::NotRun { id } if id == self.id => return Err(Error::not_run()),
                    Event::Failed { id, error } if id == self.id => {
                        return Err(Error::protocol(error, Outcome::Unknown));
                    }
                    _ => {}
                }
            }
            match read(self.connection.read_buffer()) {
                Ok(Read::Bytes(_)) => self.connection.received(),
                Ok(Read::End | Read::Nothing) | Err(_) => break,
            }
        }
        Err(Error::lost(error, Sent::of(&self.connection, self.id)))
    }
}

/// Reads of a session that cannot be used.
const READS: usize = 64;
