//! Turns a connection into a session of the server, with a task of its own.

use std::sync::Arc;

use crate::classic::server::ClassicServer;
use crate::limits::permits::Permit;
use crate::net::socket;
use crate::peer::Peer;
use crate::session::Session;
use crate::session::reading::Reader;
use crate::session::served_call::SessionPermits;
use crate::tokio::server::context::{ServerContext, TaskGuard};
use crate::tokio::server::sessions::{abort, drain};
use crate::tokio::server::shutdown::Phase;
use crate::tokio::session_task::{Role, SessionTask};
use crate::tokio::transport::Transport;

/// Begins to serve the session that a connection has become, in a task of its own.
pub(in crate::tokio) fn begin(
    server: &Arc<ServerContext>,
    stream: Transport,
    incoming: ClassicServer,
    permit: Permit,
    busy: TaskGuard,
) {
    let (admission, peer) = (server.admission.clone(), incoming.peer);
    let socket = match stream.into_watched() {
        Ok(socket) => socket,
        Err(error) => return admission.log_dropped(&peer, &error),
    };
    if matches!(peer, Peer::Tcp(_)) {
        socket::set_no_delay(&socket);
    }
    let (connection, bytes) = incoming.into_session();
    let permits = SessionPermits {
        permit: Some(permit),
        session: admission.stats.sessions.open(),
        bytes: Some(bytes),
        answers: None,
    };
    let session =
        Session::new(connection, socket.socket().clone(), peer, admission, None, Reader::Task, permits);
    // The HELLO is sent before any handler begins.
    session.flush();
    let id = server.shutdown.sessions.enter(&session);
    // Enter before checking for the stop: either the stop finds the session, or this check finds the stop. Otherwise
    // the session is never ended.
    if server.shutdown.has_reached(Phase::Draining) {
        drain(&session);
    }
    if server.shutdown.has_reached(Phase::Aborting) {
        abort(&session);
    }
    ::tokio::spawn(SessionTask::new(
        session,
        socket,
        Role::Server { server: server.clone(), id, busy: Some(busy), _alive: server.alive() },
    ));
}
