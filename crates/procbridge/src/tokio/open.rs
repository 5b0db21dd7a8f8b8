//! One call on a new connection, until it is answered or the connection becomes a session.

use std::sync::Arc;

use procbridge_proto::{CallId, Response};

use crate::classic::client::{Accepted, ClassicClient, Opened};
use crate::error::Error;
use crate::limits::admission::Admission;
use crate::net::socket::{self, Read};
use crate::peer::Peer;
use crate::session::Session;
use crate::session::reading::Reader;
use crate::session::served_call::SessionPermits;
use crate::tokio::clock;
use crate::tokio::session_task::{Role, SessionTask};
use crate::tokio::transport::{Readiness, Transport, within};

/// A connection with a call on it.
pub(super) struct OpenCall {
    pub(super) stream: Transport,
    pub(super) peer: Peer,
    pub(super) outgoing: ClassicClient,
}

/// A connection that has become a session, with the call that opened it.
pub(super) struct OpenedSession {
    stream: Transport,
    peer: Peer,
    accepted: Accepted,
}

impl OpenCall {
    /// Waits for the answer, or for the session on which it will arrive.
    pub(super) async fn run(mut self) -> Result<Result<Response, OpenedSession>, Error> {
        match self.connection().await? {
            Opened::Response(response) => Ok(Ok(response)),
            Opened::Session => {
                let accepted = self.outgoing.into_session();
                Ok(Err(OpenedSession { stream: self.stream, peer: self.peer, accepted }))
            }
        }
    }

    async fn connection(&mut self) -> Result<Opened, Error> {
        // The request usually takes one write. A server that refuses it may answer before it has read all of it.
        while !self.outgoing.transmit().is_empty() {
            match self.stream.write(self.outgoing.transmit()) {
                Ok(0) => {
                    self.wait(Readiness::Either).await?;
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
            self.wait(Readiness::Read).await?;
            if let Some(opened) = self.read()? {
                return Ok(opened);
            }
        }
    }

    fn read(&mut self) -> Result<Option<Opened>, Error> {
        let stream = &self.stream;
        self.outgoing.read(|buffer| stream.read(buffer))
    }

    async fn wait(&mut self, readiness: Readiness) -> Result<(), Error> {
        match within(self.outgoing.deadline(), self.stream.wait(readiness)).await {
            Some(Ok(())) => {
                self.outgoing.note_active(clock::now);
                Ok(())
            }
            Some(Err(error)) => Err(self.outgoing.lost(error)),
            None => Err(self.outgoing.timed_out()),
        }
    }
}

impl OpenedSession {
    /// Returns the session, for any number of calls, and starts the task that reads it until it ends. With
    /// `is_answered`, the session keeps the opening call for its caller. On failure, returns the result of the opening
    /// call.
    pub(super) fn into_session(
        self,
        admission: &Arc<Admission>,
        is_answered: bool,
        serves: Role,
    ) -> Result<(Arc<Session>, CallId), Result<Response, Error>> {
        let Self { stream, peer, accepted } = self;
        let socket = match stream.into_watched() {
            Ok(socket) => socket,
            // The socket was dropped with the error.
            Err(error) => return Err(accepted.recover(error, |_| Ok(Read::Nothing))),
        };
        let Accepted { connection, id } = accepted;
        if matches!(peer, Peer::Tcp(_)) {
            socket::set_no_delay(&socket);
        }
        let opening = is_answered.then_some(id);
        let (admission, permits) = (admission.clone(), SessionPermits::default());
        let descriptor = socket.socket().clone();
        let session = Session::new(connection, descriptor, peer, admission, opening, Reader::Task, permits);
        if matches!(serves, Role::Client { router: None, .. }) {
            clock::watch(&session);
        }
        ::tokio::spawn(SessionTask::new(session.clone(), socket, serves));
        Ok((session, id))
    }
}
