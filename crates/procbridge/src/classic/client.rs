//! The client's side of a new connection, without its socket. A request goes out; a response, a session or an error
//! comes back. It knows at any time whether the call can have run. Both faces share it.

use std::io;
use std::time::{Duration, Instant};

use procbridge_proto::{CallId, Connection, Event, Packet, Response, Settings};

use crate::config::client::ClientConfig;
use crate::error::{Error, ErrorKind, Outcome, Sent};
use crate::net::socket::Read;

/// One call on a connection of its own, until that becomes a session.
#[derive(Debug)]
pub(crate) struct ClassicClient {
    connection: Connection,
    id: CallId,
    time: CallTimeout,
    /// Inactivity timeout of a call without a deadline. A session's keepalive takes its place.
    idle_timeout: Option<Duration>,
    /// When the socket was last ready.
    last_active: Instant,
    /// When the connection must be established.
    pub(crate) connect_deadline: Option<Instant>,
}

/// A connection that has become a session, with the call that opened it.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) connection: Connection,
    pub(crate) id: CallId,
}

/// The outcome of a new connection.
#[derive(Debug)]
pub(crate) enum Opened {
    /// The answer of a server that keeps no connection open for more calls.
    Response(Response),
    /// A session, in which the call goes on.
    Session,
}

/// The timeout of a call, across all connections that it takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallTimeout {
    pub(crate) started: Instant,
    /// When the call ends, answered or not.
    pub(crate) deadline: Option<Instant>,
}

impl CallTimeout {
    /// Returns the timeout of a call that begins now.
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        Self::since(Instant::now(), limit)
    }

    /// Returns the timeout of a call that has `started`.
    pub(crate) fn since(started: Instant, limit: Option<Duration>) -> Self {
        Self { started, deadline: limit.and_then(|limit| started.checked_add(limit)) }
    }

    /// Returns this timeout, or `limit` from `now` on if it has no deadline: for a wait that must have one.
    pub(crate) fn or(self, now: Instant, limit: Option<Duration>) -> Self {
        if self.deadline.is_some() { self } else { Self::since(now, limit) }
    }

    /// Returns how much of it is left.
    pub(crate) fn left(&self, now: Instant) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(now))
    }

    /// Returns the error of a call whose deadline passed before it got a connection.
    pub(crate) fn no_connection_free(&self) -> Error {
        let limit = self.deadline.unwrap_or(self.started).duration_since(self.started);
        let message = format!(
            "no connection within the timeout of {limit:?}: other calls of this client were connecting, to a server \
             that is slow to accept (max_connecting)"
        );
        Error::unsent(ErrorKind::Timeout, message)
    }

    /// Returns the error of a call past its deadline.
    pub(crate) fn expired(&self, outcome: impl Into<Outcome>) -> Error {
        let limit = self.deadline.unwrap_or(self.started).duration_since(self.started);
        Error::timed_out(limit, outcome)
    }
}

impl ClassicClient {
    /// Begins a call on a new connection, which offers a session if there are `settings` for it. `idle_timeout` bounds
    /// the inactivity of a call without a deadline.
    pub(crate) fn new(
        config: &ClientConfig,
        packet: Packet,
        time: CallTimeout,
        now: Instant,
        settings: Option<Settings>,
        idle_timeout: Option<Duration>,
    ) -> Result<Self, Error> {
        let connect = config.connect_timeout.and_then(|limit| now.checked_add(limit));
        let connect_deadline = [time.deadline, connect].into_iter().flatten().min();
        // Results are parsed, or checked, in request.rs.
        let limits = config.limits.with_results_unchecked().with_requests_unread().with_answers_unread();
        let mut connection = Connection::client(limits);
        if let Some(settings) = settings {
            connection = connection.with_session(settings);
        }
        let id = connection.call(packet).map_err(Error::misuse)?;
        let idle_timeout = if time.deadline.is_some() { None } else { idle_timeout };
        Ok(Self { connection, id, time, idle_timeout, last_active: now, connect_deadline })
    }

    /// Returns when the call ends, answered or not, unless the socket [is active](Self::note_active) before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.time.deadline.or_else(|| self.last_active.checked_add(self.idle_timeout?))
    }

    /// Notes that the socket was ready: the server has read or sent something. Reads the clock only if that matters.
    pub(crate) fn note_active(&mut self, clock: fn() -> Instant) {
        if self.idle_timeout.is_some() {
            self.last_active = clock();
        }
    }

    /// Returns the bytes to write; empty if there are none.
    pub(crate) fn transmit(&self) -> &[u8] {
        self.connection.transmit()
    }

    pub(crate) fn transmitted(&mut self, count: usize) {
        self.connection.transmitted(count);
    }

    /// Takes in what has arrived; `read` appends it to a buffer without waiting.
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

    /// Returns the session that the connection has become, and the call that opened it.
    pub(crate) fn into_session(self) -> Accepted {
        Accepted { connection: self.connection, id: self.id }
    }

    /// Returns the error of a call past its deadline.
    pub(crate) fn timed_out(&self) -> Error {
        let time = match self.time.deadline {
            Some(_) => self.time,
            None => CallTimeout::since(self.last_active, self.idle_timeout),
        };
        time.expired(self.sent())
    }

    /// Returns the error of a call whose connection failed.
    pub(crate) fn lost(&self, error: io::Error) -> Error {
        Error::lost(error, self.sent())
    }

    fn sent(&self) -> Sent {
        Sent::of(&self.connection, self.id)
    }
}

impl Accepted {
    /// Returns the result of the call that opened a session which cannot be used because of `error`: its answer, if
    /// that has arrived. Otherwise the error tells what was written, as the server may have run the call.
    pub(crate) fn recover(
        mut self,
        error: io::Error,
        mut read: impl FnMut(&mut Vec<u8>) -> io::Result<Read>,
    ) -> Result<Response, Error> {
        // Bounded, as a server may flood its client.
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
