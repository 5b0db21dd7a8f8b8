//! One call on a new connection, until it is answered or the connection becomes a session.

use std::sync::Arc;
use std::time::Instant;

use procbridge_proto::{CallId, Response};

use crate::blocking::transport::{Readiness, Transport};
use crate::classic::client::{Accepted, ClassicClient, Opened};
use crate::error::Error;
use crate::limits::admission::Admission;
use crate::net::socket;
use crate::peer::Peer;
use crate::session::Session;
use crate::session::reading::Reader;
use crate::session::served_call::SessionPermits;

/// A connection with a call on it.
#[derive(Debug)]
pub(super) struct OpenCall {
    pub(super) stream: Transport,
    pub(super) peer: Peer,
    pub(super) outgoing: ClassicClient,
}

/// A connection that has become a session, with the call that opened it.
#[derive(Debug)]
pub(super) struct OpenedSession {
    stream: Transport,
    peer: Peer,
    accepted: Accepted,
}

impl OpenCall {
    /// Waits for the answer, or for the session on which it will arrive.
    pub(super) fn run(mut self) -> Result<Result<Response, OpenedSession>, Error> {
        match self.connection()? {
            Opened::Response(response) => Ok(Ok(response)),
            Opened::Session => {
                let accepted = self.outgoing.into_session();
                Ok(Err(OpenedSession { stream: self.stream, peer: self.peer, accepted }))
            }
        }
    }

    fn connection(&mut self) -> Result<Opened, Error> {
        // The request usually takes one write. A server that refuses it may answer before it has read all of it.
        while !self.outgoing.transmit().is_empty() {
            match self.stream.write(self.outgoing.transmit()) {
                Ok(0) => {
                    self.wait(Readiness::Either)?;
                    if let Some(opened) = self.read()? {
                        return Ok(opened);
                    }
                }
                Ok(count) => self.outgoing.transmitted(count),
                Err(error) => {
                    // The server reads no more; an answer that it sent before may have arrived.
                    return match self.read() {
                        Ok(Some(opened)) => Ok(opened),
                        _ => Err(self.outgoing.lost(error)),
                    };
                }
            }
        }
        // A small answer is rarely there yet, even from a near server: waiting first saves a read that finds nothing.
        loop {
            self.wait(Readiness::Read)?;
            if let Some(opened) = self.read()? {
                return Ok(opened);
            }
        }
    }

    fn read(&mut self) -> Result<Option<Opened>, Error> {
        let stream = &self.stream;
        self.outgoing.read(|buffer| stream.read(buffer))
    }

    fn wait(&mut self, readiness: Readiness) -> Result<(), Error> {
        match self.stream.wait(readiness, self.outgoing.deadline()) {
            Ok(true) => {
                self.outgoing.note_active(Instant::now);
                Ok(())
            }
            Ok(false) => Err(self.outgoing.timed_out()),
            Err(error) => Err(self.outgoing.lost(error)),
        }
    }
}

impl OpenedSession {
    /// Returns the session, for any number of calls. With `is_answered`, the session keeps the opening call for its
    /// caller. On failure, returns the result of the opening call.
    pub(super) fn into_session(
        self,
        admission: &Arc<Admission>,
        is_answered: bool,
    ) -> Result<(Arc<Session>, CallId), Result<Response, Error>> {
        let Self { stream, peer, accepted } = self;
        if let Err(error) = socket::set_blocking(&stream) {
            return Err(accepted.recover(error, |buffer| stream.read(buffer)));
        }
        let Accepted { connection, id } = accepted;
        if matches!(peer, Peer::Tcp(_)) {
            socket::set_no_delay(&stream);
        }
        let opening = is_answered.then_some(id);
        let (admission, permits) = (admission.clone(), SessionPermits::default());
        Ok((Session::new(connection, Arc::new(stream), peer, admission, opening, Reader::None, permits), id))
    }
}
