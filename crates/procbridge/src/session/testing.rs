//! Sessions with a bare connection as the peer, for tests of what must wake whom.

use std::io::{Read as _, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use procbridge_proto::{Connection, Event, Limits, Packet, Version};
use serde::Serialize;

use crate::client::request::{self, CallOptions, ResultForm};
use crate::config::client::ClientConfig;
use crate::config::server::ServerConfig;
use crate::limits::admission::Admission;
use crate::net::socket::{self, Read};
use crate::peer::Peer;
use crate::service::call::Call;
use crate::session::reading::Reader;
use crate::session::served_call::IncomingCall;
use crate::session::served_call::SessionPermits;
use crate::session::session::Session;

/// A session and its peer: a connection and a socket that the test uses by hand.
pub(crate) struct Ends {
    pub(crate) session: Arc<Session>,
    pub(crate) peer: Connection,
    pub(crate) socket: UnixStream,
}

impl Ends {
    /// Returns a client's session. Its server takes up to `max_calls` at a time.
    pub(crate) fn client(reader: Reader, max_calls: u32) -> Self {
        let (client, server) = connected(max_calls);
        Self::new(client, server, Admission::for_client(&ClientConfig::new()), reader)
    }

    /// Returns a server's session.
    pub(crate) fn server(reader: Reader) -> Self {
        Self::server_of(reader, 8)
    }

    /// Returns a server's session, which takes up to `max_calls` at a time.
    pub(crate) fn server_of(reader: Reader, max_calls: u32) -> Self {
        let (client, server) = connected(max_calls);
        Self::new(server, client, Admission::new(ServerConfig::new(), 8, &[]), reader)
    }

    fn new(own: Connection, peer: Connection, admission: Admission, reader: Reader) -> Self {
        let (near, far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let named = Peer::of_socket(&near).unwrap();
        let session = Session::new(
            own,
            Arc::new(near),
            named,
            Arc::new(admission),
            None,
            reader,
            SessionPermits::default(),
        );
        Self { session, peer, socket: far }
    }

    /// Makes the session read what the peer has queued.
    pub(crate) fn deliver(&mut self) {
        while !self.peer.transmit().is_empty() {
            self.socket.write_all(self.peer.transmit()).unwrap();
            self.peer.transmitted(self.peer.transmit().len());
        }
        self.read();
    }

    /// Makes the peer read what the session has written.
    pub(crate) fn collect(&mut self) {
        self.socket.set_nonblocking(true).unwrap();
        let mut bytes = [0; 4096];
        while let Ok(count) = self.socket.read(&mut bytes)
            && count > 0
        {
            self.peer.receive(&bytes[..count]);
        }
        self.socket.set_nonblocking(false).unwrap();
    }

    /// Makes the session read what has arrived.
    pub(crate) fn read(&self) {
        while self.session.read(|buffer| Read::of(socket::receive(&self.session, buffer))) {}
    }
}

/// Returns both ends of a session whose first call is answered.
fn connected(max_calls: u32) -> (Connection, Connection) {
    let config = ClientConfig::new();
    let settings = request::offer(&config, true).unwrap();
    let limits = config.limits.with_answers_unread();
    let mut client = Connection::client(limits).with_session(settings.clone());
    let mut server = Connection::server(limits).with_session(settings.with_max_calls(max_calls));
    client.call(call("first", &(), ResultForm::Result)).unwrap();
    carry(&mut client, &mut server);
    while let Some(event) = server.poll_event() {
        if let Event::Request { id, .. } = event {
            server.reply(id, answer("null")).unwrap();
        }
    }
    carry(&mut server, &mut client);
    // The client sends its settings, now that it knows that this is a session.
    carry(&mut client, &mut server);
    while client.poll_event().is_some() {}
    assert_eq!((client.is_session(), client.pending_calls()), (true, 0));
    (client, server)
}

fn carry(from: &mut Connection, to: &mut Connection) {
    while !from.transmit().is_empty() {
        to.receive(from.transmit());
        from.transmitted(from.transmit().len());
    }
}

/// Returns the call as its handler gets it.
pub(crate) fn handled(session: &Arc<Session>, incoming: &IncomingCall) -> Call {
    Call::on(session.clone(), incoming.id, incoming.call.clone())
}

pub(crate) fn call(method: &str, payload: &(impl Serialize + ?Sized), form: ResultForm) -> Packet {
    styled(method, payload, CallOptions { form, ..CallOptions::default() })
}

pub(crate) fn styled(method: &str, payload: &(impl Serialize + ?Sized), options: CallOptions) -> Packet {
    request::packet(&ClientConfig::new(), Some(method), Some(payload), &options).unwrap()
}

pub(crate) fn answer(payload: &str) -> Packet {
    Packet::good(Version::V1_1).json_text(payload).unwrap().finish(&Limits::default()).unwrap()
}

pub(crate) fn item(payload: &str) -> Packet {
    Packet::item().json_text(payload).unwrap().finish(&Limits::default()).unwrap()
}

/// A waker that counts how often it is woken.
#[derive(Default)]
pub(crate) struct Bell(AtomicUsize);

impl Bell {
    pub(crate) fn new() -> (Arc<Self>, Waker) {
        let bell = Arc::new(Self::default());
        (bell.clone(), Waker::from(bell))
    }

    pub(crate) fn woken(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
