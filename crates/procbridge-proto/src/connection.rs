//! One connection, either role: bytes and packets go in, events and bytes come out (PB-CON-*).
//!
//! Both faces drive it the same way: write what [`transmit`](Connection::transmit) holds, read into
//! [`read_buffer`](Connection::read_buffer), deliver what [`poll_event`](Connection::poll_event) gives. A classic
//! connection has one call on it; its id is there because a session will have many.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::decoder::{Decoder, check_length};
use crate::error::{Misuse, ProtocolError};
use crate::header::{Status, Version};
use crate::limits::Limits;
use crate::message::{Request, Response};
use crate::packet::Packet;

/// Names one call on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(u32);

/// What happened on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A call came in; answer it with [`Connection::reply`].
    Request {
        /// The call.
        id: CallId,
        /// What is asked.
        request: Request,
    },
    /// A call was answered.
    Response {
        /// The call.
        id: CallId,
        /// The answer.
        response: Response,
    },
    /// The connection is over. This is the last event, and it comes once. Without an error it means that the peer
    /// closed before it sent a byte. With one, the answer to it, if there is one, is queued already.
    Closed {
        /// Why, if it was not orderly.
        error: Option<ProtocolError>,
    },
}

/// How a connection is to be closed once everything is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Close at once: the peer has sent what it had to send.
    Close,
    /// The peer may still be sending, and closing now would destroy the answer on its way (PB-CON-*): stop
    /// writing, read and discard within a bound, then close.
    Linger,
}

/// The state machine of one connection.
#[derive(Debug)]
pub struct Connection {
    role: Role,
    limits: Limits,
    decoder: Decoder,
    state: State,
    events: VecDeque<Event>,
    out: Vec<u8>,
    sent: usize,
    ending: Ending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Client,
    Server,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Client: no call was made yet.
    Idle,
    /// A packet is expected: server, the request; client, the response in this version.
    Expecting(Version),
    /// Server: the request is with its handler.
    Serving(Version),
    /// Nothing more is expected from the peer, and nothing that it sends matters.
    Over,
}

impl Connection {
    /// The caller's side.
    pub fn client(limits: Limits) -> Self {
        Self::new(Role::Client, State::Idle, limits)
    }

    /// The answering side.
    pub fn server(limits: Limits) -> Self {
        Self::new(Role::Server, State::Expecting(Version::V1_1), limits)
    }

    fn new(role: Role, state: State, limits: Limits) -> Self {
        let (decoder, events) = (Decoder::default(), VecDeque::new());
        Self { role, limits, decoder, state, events, out: Vec::new(), sent: 0, ending: Ending::Close }
    }

    /// Queues a request.
    ///
    /// # Errors
    ///
    /// - [`Misuse::WrongPacket`]: the packet is not a request.
    /// - [`Misuse::NoCallPossible`]: this connection had its call, or is a server's.
    pub fn call(&mut self, packet: Packet) -> Result<CallId, Misuse> {
        if packet.status != Status::REQUEST {
            return Err(Misuse::WrongPacket);
        }
        if self.state != State::Idle {
            return Err(Misuse::NoCallPossible);
        }
        self.state = State::Expecting(packet.version);
        self.queue(packet);
        Ok(CLASSIC_CALL)
    }

    /// Queues the answer to a call.
    ///
    /// # Errors
    ///
    /// - [`Misuse::UnknownCall`]: the call has been answered, or never came.
    /// - [`Misuse::WrongPacket`]: the packet is a request, or not of the version that was asked in.
    pub fn reply(&mut self, id: CallId, packet: Packet) -> Result<(), Misuse> {
        let State::Serving(version) = self.state else { return Err(Misuse::UnknownCall) };
        if id != CLASSIC_CALL {
            return Err(Misuse::UnknownCall);
        }
        if packet.status == Status::REQUEST || packet.version != version {
            return Err(Misuse::WrongPacket);
        }
        self.state = State::Over;
        self.queue(packet);
        Ok(())
    }

    /// Server: answers a request that has not fully arrived, because the server will not wait for the rest (it is
    /// out of time, full or stopping), and ends the connection. Nothing happens if a request has arrived.
    pub fn refuse(&mut self, packet: Packet) {
        if self.role == Role::Server && matches!(self.state, State::Expecting(_)) {
            self.ending = Ending::Linger;
            self.state = State::Over;
            self.decoder.clear();
            self.queue(packet);
        }
    }

    /// The buffer to append received bytes to, with room for the next read; call [`received`](Self::received)
    /// afterwards. It grows with what has arrived, never by what a header announces.
    pub fn read_buffer(&mut self) -> &mut Vec<u8> {
        self.decoder.buffer()
    }

    /// Takes in `bytes`: the same as appending them to [`read_buffer`](Self::read_buffer).
    pub fn receive(&mut self, bytes: &[u8]) {
        self.decoder.buffer().extend_from_slice(bytes);
        self.received();
    }

    /// Looks at what was appended to [`read_buffer`](Self::read_buffer).
    pub fn received(&mut self) {
        if let State::Expecting(version) = self.state
            && let Err(error) = self.advance(version)
        {
            self.fail(error);
        }
        if !matches!(self.state, State::Expecting(_)) && !self.decoder.is_empty() {
            // What follows the packet has no meaning here (PB-CON-*), but its sender may not be done sending.
            self.ending = Ending::Linger;
            self.decoder.clear();
        }
    }

    /// Takes in the end of the input: the peer will send nothing more.
    pub fn receive_end(&mut self) {
        if !matches!(self.state, State::Expecting(_)) {
            return;
        }
        match (self.decoder.end(), self.role) {
            (Err(error), _) => self.fail(error),
            (Ok(()), Role::Client) => self.fail(ProtocolError::NoReply),
            (Ok(()), Role::Server) => {
                self.state = State::Over;
                self.events.push_back(Event::Closed { error: None });
            }
        }
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The bytes to be written, empty if there are none.
    pub fn transmit(&self) -> &[u8] {
        self.out.get(self.sent..).unwrap_or_default()
    }

    /// Tells that the first `count` bytes of [`transmit`](Self::transmit) have been written.
    pub fn transmitted(&mut self, count: usize) {
        self.sent = self.sent.saturating_add(count).min(self.out.len());
    }

    /// Whether any byte has been written. A call none of whose bytes was written has not happened.
    pub fn has_transmitted(&self) -> bool {
        self.sent > 0
    }

    /// Whether more input is needed: a packet is expected and has not fully arrived.
    pub fn wants_input(&self) -> bool {
        matches!(self.state, State::Expecting(_))
    }

    /// Whether the header of the expected packet is complete.
    pub fn has_header(&self) -> bool {
        self.decoder.has_header()
    }

    /// Bytes of memory held for the packet that is arriving.
    pub fn held(&self) -> usize {
        self.decoder.held()
    }

    /// How to close this connection once everything is written.
    pub fn ending(&self) -> Ending {
        self.ending
    }

    /// The version to answer in, as far as it is known: that of the request, else 1.1.
    pub fn version(&self) -> Version {
        match self.state {
            State::Expecting(version) | State::Serving(version) => version,
            State::Idle | State::Over => Version::V1_1,
        }
    }

    fn advance(&mut self, expected: Version) -> Result<(), ProtocolError> {
        let (role, limits) = (self.role, self.limits);
        match (role, self.decoder.version()) {
            // From here on the answer is in the version of the request, also if it says what is wrong with it.
            (Role::Server, Some(version)) => self.state = State::Expecting(version),
            (Role::Client, Some(found)) if found != expected => {
                return Err(ProtocolError::UnsupportedVersion {
                    found: found.bytes(),
                    expected: Some(expected),
                });
            }
            _ => {}
        }
        let next = self.decoder.next(|header| {
            check_status(role, header.status)?;
            check_length(header, &limits)
        });
        let next = next.map_err(|error| match (role, error) {
            (Role::Client, ProtocolError::UnsupportedVersion { found, .. }) => {
                ProtocolError::UnsupportedVersion { found, expected: Some(expected) }
            }
            (_, error) => error,
        });
        let Some((header, body)) = next? else { return Ok(()) };
        let event = match role {
            Role::Server => {
                let request = Request::read(header.version, body, &limits)?;
                self.state = State::Serving(header.version);
                Event::Request { id: CLASSIC_CALL, request }
            }
            Role::Client => {
                let response = Response::read(&header, body, &limits)?;
                self.state = State::Over;
                Event::Response { id: CLASSIC_CALL, response }
            }
        };
        self.events.push_back(event);
        Ok(())
    }

    /// Ends the connection with `error`, and tells the peer if it can understand it.
    fn fail(&mut self, error: ProtocolError) {
        let version = self.version();
        self.state = State::Over;
        self.decoder.clear();
        if self.role == Role::Server {
            self.ending = Ending::Linger;
            if let Some(answer) = error.answer() {
                // Not held to the peer's limits: a refusal is always short.
                let packet =
                    Packet::bad(version, &answer.message, Some(answer.code)).finish(&Limits::default());
                if let Ok(packet) = packet {
                    self.queue(packet);
                }
            } else {
                // A stranger is told nothing and is not waited for.
                self.ending = Ending::Close;
            }
        }
        self.events.push_back(Event::Closed { error: Some(error) });
    }

    fn queue(&mut self, packet: Packet) {
        // A classic connection has at most one packet to send; it is taken as it is.
        self.out = packet.into_bytes();
        self.sent = 0;
    }
}

impl CallId {
    /// The number, as it stands on the wire of a session; 1 on a classic connection.
    pub fn number(self) -> u32 {
        self.0
    }
}

fn check_status(role: Role, found: Status) -> Result<(), ProtocolError> {
    let expected = match role {
        Role::Server if found != Status::REQUEST => "a request (0)",
        Role::Client if found != Status::GOOD && found != Status::BAD => "a response (1 or 2)",
        _ => return Ok(()),
    };
    Err(ProtocolError::UnexpectedStatus { found, expected })
}

/// The one call of a classic connection, which is also the opening call of a session.
const CLASSIC_CALL: CallId = CallId(1);
