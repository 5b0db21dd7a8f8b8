//! A classic connection: one call and its answer, in 1.1 or 1.0 (PB-CON-*). It ends with the answer, with an error, or
//! by becoming a session (PB-OFR-*).

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::compression::codec::Codecs;
use crate::decoder::{Decoder, check_length};
use crate::error::{Misuse, ProtocolError};
use crate::event::{CallId, Ending, Event};
use crate::header::Header;
use crate::limits::Limits;
use crate::message::{Request, Response};
use crate::packet::{HEADROOM, Packet};
use crate::session::frames::Frames;
use crate::session::session::{Session, Side};
use crate::settings::Settings;
use crate::wire::{Status, Version, flag};

/// The state of a classic connection.
#[derive(Debug)]
pub(crate) struct Classic {
    role: Role,
    pub(crate) limits: Limits,
    pub(crate) decoder: Decoder,
    state: State,
    pub(crate) events: VecDeque<Event>,
    out: Vec<u8>,
    sent: usize,
    pub(crate) ending: Ending,
    /// The settings that this side sends when a session begins. Without any there is no session.
    pub(crate) settings: Option<Arc<Settings>>,
    /// Client: the flags of the call that offers a session.
    offer: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
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

impl Classic {
    pub(crate) fn new(role: Role, limits: Limits) -> Self {
        let state = match role {
            Role::Client => State::Idle,
            Role::Server => State::Expecting(Version::V1_1),
        };
        let (decoder, events) = (Decoder::default(), VecDeque::new());
        let (out, sent, ending) = (Vec::new(), 0, Ending::Close);
        Self { role, limits, decoder, state, events, out, sent, ending, settings: None, offer: None }
    }

    pub(crate) fn call(&mut self, mut packet: Packet) -> Result<CallId, Misuse> {
        if packet.status != Status::REQUEST || packet.codec().is_some() {
            return Err(Misuse::WrongPacket);
        }
        if self.state != State::Idle {
            return Err(Misuse::NoCallPossible);
        }
        self.state = State::Expecting(packet.version);
        if let (Some(settings), Version::V1_1) = (&self.settings, packet.version) {
            self.offer = Some(packet.flags);
            packet.offer(settings.codecs().bits());
        }
        self.queue(packet);
        Ok(CLASSIC_CALL)
    }

    pub(crate) fn reply(&mut self, id: CallId, packet: Packet) -> Result<(), Misuse> {
        let State::Serving(version) = self.state else { return Err(Misuse::UnknownCall) };
        if id != CLASSIC_CALL {
            return Err(Misuse::UnknownCall);
        }
        let is_response = packet.status == Status::GOOD || packet.status == Status::BAD;
        if !is_response || packet.version != version || packet.codec().is_some() {
            return Err(Misuse::WrongPacket);
        }
        self.state = State::Over;
        self.queue(packet);
        Ok(())
    }

    pub(crate) fn refuse(&mut self, packet: Packet) {
        if self.role == Role::Server && self.wants_input() {
            self.ending = Ending::Linger;
            self.state = State::Over;
            self.decoder.clear();
            self.queue(packet);
        }
    }

    /// Processes the bytes that were appended to the decoder's buffer. Returns the session, if the connection became
    /// one.
    pub(crate) fn received(&mut self) -> Option<Session> {
        if let State::Expecting(version) = self.state {
            match self.advance(version) {
                Ok(None) => {}
                Ok(Some(session)) => return Some(session),
                Err(error) => self.fail(error),
            }
        }
        if !self.wants_input() && !self.decoder.is_empty() {
            // Bytes behind the packet have no meaning here (PB-CON-*), but the peer may still be sending.
            self.ending = Ending::Linger;
            self.decoder.clear();
        }
        None
    }

    pub(crate) fn receive_end(&mut self) {
        if !self.wants_input() {
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

    pub(crate) fn transmit(&self) -> &[u8] {
        self.out.get(self.sent..).unwrap_or_default()
    }

    pub(crate) fn transmitted(&mut self, count: usize) {
        self.sent = self.sent.saturating_add(count).min(self.out.len());
    }

    pub(crate) fn has_transmitted(&self) -> bool {
        self.sent > HEADROOM
    }

    pub(crate) fn wants_input(&self) -> bool {
        matches!(self.state, State::Expecting(_))
    }

    pub(crate) fn version(&self) -> Version {
        match self.state {
            State::Expecting(version) | State::Serving(version) => version,
            State::Idle | State::Over => Version::V1_1,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    pub(crate) fn is_serving(&self) -> bool {
        matches!(self.state, State::Serving(_))
    }

    pub(crate) fn is_client(&self) -> bool {
        self.role == Role::Client
    }

    fn advance(&mut self, expected: Version) -> Result<Option<Session>, ProtocolError> {
        let (role, limits, offered) = (self.role, self.limits, self.offer.is_some());
        match (role, self.decoder.version()) {
            // From here on the answer is in the version of the request, even if it is an error.
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
            check_status(role, header.status, offered)?;
            check_length(header, &limits)
        });
        let next = next.map_err(|error| match (role, error) {
            (Role::Client, ProtocolError::UnsupportedVersion { found, .. }) => {
                ProtocolError::UnsupportedVersion { found, expected: Some(expected) }
            }
            (_, error) => error,
        });
        let Some((header, body)) = next? else { return Ok(None) };
        let event = match role {
            Role::Server => {
                let request = Request::read(header.version, body, &limits)?;
                let is_offer = header.version == Version::V1_1 && header.flags & flag::SESSION != 0;
                if let (true, Some(settings)) = (is_offer, self.settings.take()) {
                    return Ok(Some(self.accept(&header, request, settings)));
                }
                self.state = State::Serving(header.version);
                Event::Request { id: CLASSIC_CALL, request }
            }
            Role::Client if header.status == Status::HELLO => {
                return self.establish(&header, &body).map(Some);
            }
            Role::Client => {
                let response = Response::read(&header, body, &limits)?;
                self.state = State::Over;
                Event::Response { id: CLASSIC_CALL, response }
            }
        };
        self.events.push_back(event);
        Ok(None)
    }

    /// Begins the session that a request offers, as the server.
    fn accept(&mut self, offer: &Header, request: Request, settings: Arc<Settings>) -> Session {
        let peer = Settings::unknown(Codecs::from_bits(offer.options));
        let flags = offer.flags & (flag::ONE_WAY | flag::STREAM);
        let mut session = Session::new(Side::Acceptor, self.limits, settings, peer);
        session.accepted(flags);
        let request = request.with_flags(flags);
        session.events.push(Event::Session);
        session.events.push(Event::Request { id: CLASSIC_CALL, request });
        session.frames = Frames::new(self.decoder.take());
        session
    }

    /// Begins the session that a HELLO accepts, as the client.
    fn establish(&mut self, hello: &Header, body: &[u8]) -> Result<Session, ProtocolError> {
        let codecs = Codecs::from_bits(hello.options);
        let peer = Settings::read(body, codecs, true, self.limits.max_depth())?;
        let settings = self.settings.take().unwrap_or_default();
        let mut session = Session::new(Side::Opener, self.limits, settings, peer);
        // A server may accept a request before it has fully arrived, so the rest is still sent.
        session.out.push_bytes(self.transmit());
        session.opened(self.offer.unwrap_or_default());
        session.events.push(Event::Session);
        session.frames = Frames::new(self.decoder.take());
        Ok(session)
    }

    /// Ends the connection with `error`, and sends it to a peer that speaks ProcBridge.
    fn fail(&mut self, error: ProtocolError) {
        let version = self.version();
        self.state = State::Over;
        self.decoder.clear();
        if self.role == Role::Server {
            self.ending = Ending::Linger;
            if let Some(answer) = error.answer() {
                // The peer's limits are not applied: a refusal is always short.
                let packet =
                    Packet::bad(version, &answer.message, Some(answer.code)).finish(&Limits::default());
                if let Ok(packet) = packet {
                    self.queue(packet);
                }
            } else {
                // A peer that does not speak ProcBridge gets no answer and no linger time.
                self.ending = Ending::Close;
            }
        }
        self.events.push_back(Event::Closed { error: Some(error) });
    }

    fn queue(&mut self, packet: Packet) {
        // A classic connection sends at most one packet, so its buffer is used as it is.
        self.out = packet.buffer;
        self.sent = HEADROOM;
    }
}

fn check_status(role: Role, found: Status, offered: bool) -> Result<(), ProtocolError> {
    let expected = match role {
        Role::Client if offered && found == Status::HELLO => return Ok(()),
        Role::Server if found != Status::REQUEST => "a request (0)",
        Role::Client if found != Status::GOOD && found != Status::BAD => "a response (1 or 2)",
        _ => return Ok(()),
    };
    Err(ProtocolError::UnexpectedStatus { found, expected })
}

/// The one call of a classic connection, which is also the opening call of a session.
const CLASSIC_CALL: CallId = CallId(1);
