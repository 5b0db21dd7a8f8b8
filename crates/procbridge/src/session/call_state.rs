//! The state of an incoming call: its request, its deadline, and whether the caller still waits. The session and the
//! call's handler share it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use procbridge_proto::{Codec, Limits, Request, UnreadRequest, Version, code};

use crate::config::server::ServerConfig;
use crate::limits::admission::Admission;
use crate::limits::permits::Permit;
use crate::peer::Peer;
use crate::reply_error::{self, ReplyError};
use crate::session::received::Received;
use crate::telemetry::trace_context::TraceContext;

/// An incoming call, from its arrival to the end of its handler.
#[derive(Debug)]
pub(crate) struct CallState {
    /// The contents of the request, unless it is read outside the session's lock.
    content: Option<Content>,
    /// A request that is read outside the lock. Boxed, as most calls have none.
    late: Option<Box<Late>>,
    pub(crate) version: Version,
    pub(crate) is_one_way: bool,
    pub(crate) wants_items: bool,
    pub(crate) codec: Option<Codec>,
    pub(crate) peer: Peer,
    /// The deadline by the server's own timeout, which holds until the request is read.
    first_deadline: Option<Instant>,
    began: Instant,
    pub(crate) limits: Limits,
    cancelled: AtomicBool,
    /// Whether it was answered without its handler.
    abandoned: AtomicBool,
    /// The bytes of the request, until the last use of the call is dropped. On a classic connection the connection
    /// counts them.
    _bytes: Option<Permit>,
}

/// A request that is read outside the session's lock, and its contents or refusal once it is read.
#[derive(Debug)]
struct Late {
    arrived: Mutex<Option<UnreadRequest>>,
    content: OnceLock<Result<Content, ReplyError>>,
}

/// The contents of a request.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) request: Request,
    pub(crate) deadline: Option<Instant>,
    pub(crate) trace: Option<Arc<TraceContext>>,
}

impl CallState {
    /// Returns a call on a classic connection that arrived at `now`. Its deadline is the earlier one of the caller's
    /// timeout and the server's.
    pub(crate) fn new(request: Request, peer: Peer, config: &ServerConfig, now: Instant) -> Self {
        Self::at(Received::Read(request), peer, config.handler_timeout, config, None, now)
    }

    /// Returns a call on a session that arrived at `now`. `bytes` is the permit for its request.
    #[inline]
    pub(crate) fn of_session(
        arrived: Received<Request>,
        peer: Peer,
        admission: &Admission,
        bytes: Option<Permit>,
        now: Instant,
    ) -> Self {
        let config = &admission.config;
        let limit = match &arrived {
            Received::Read(request) => handler_timeout(request, admission),
            Received::Unread(_) => config.handler_timeout,
        };
        Self::at(arrived, peer, limit, config, bytes, now)
    }

    #[inline]
    fn at(
        arrived: Received<Request>,
        peer: Peer,
        limit: Option<Duration>,
        config: &ServerConfig,
        bytes: Option<Permit>,
        began: Instant,
    ) -> Self {
        let first_deadline = limit.and_then(|limit| began.checked_add(limit));
        let (version, is_one_way, wants_items, codec) = match &arrived {
            Received::Read(request) => {
                (request.version(), request.is_one_way(), request.wants_items(), request.codec())
            }
            Received::Unread(request) => {
                (Version::V1_1, request.is_one_way(), request.wants_items(), request.codec())
            }
        };
        let (content, late) = match arrived {
            Received::Read(request) => (Some(Content::new(request, limit, began)), None),
            Received::Unread(request) => {
                (None, Some(Box::new(Late { arrived: Mutex::new(Some(request)), content: OnceLock::new() })))
            }
        };
        Self {
            content,
            late,
            version,
            is_one_way,
            wants_items,
            codec,
            peer,
            first_deadline,
            began,
            limits: config.limits,
            cancelled: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            _bytes: bytes,
        }
    }

    /// Returns the size of the request, if nothing of it has been inflated or checked.
    pub(crate) fn unread(&self) -> Option<usize> {
        self.late.as_ref()?.arrived().as_ref().map(UnreadRequest::size)
    }

    /// Inflates and checks the request, if that has not been done: it takes time, and needs no lock of the session.
    ///
    /// # Errors
    ///
    /// Returns the answer to the caller if the request cannot be read, or its deadline has passed.
    pub(crate) fn read(&self, admission: &Admission) -> Result<(), ReplyError> {
        self.read_ahead(admission);
        match self.late.as_ref().and_then(|late| late.content.get()) {
            Some(Err(refusal)) => Err(refusal.clone()),
            _ => Ok(()),
        }
    }

    /// Does the same, where the answer is given later.
    pub(crate) fn read_ahead(&self, admission: &Admission) {
        let Some(late) = &self.late else { return };
        let Some(unread) = late.arrived().take() else { return };
        let content = match unread.read() {
            Ok(request) => {
                let limit = handler_timeout(&request, admission);
                Ok(Content::new(request, limit, self.began))
            }
            Err(error) => Err(match error.answer() {
                Some(answer) => ReplyError::new(answer.message).with_code(answer.code),
                None => ReplyError::new("").with_code(code::INVALID_REQUEST),
            }),
        };
        let is_over =
            |content: &Content| content.deadline.is_some_and(|deadline| deadline <= admission.now());
        let content = match content {
            Ok(content) if is_over(&content) => Err(reply_error::timed_out()),
            content => content,
        };
        let _ = late.content.set(content);
    }

    pub(crate) fn request(&self) -> Option<&Request> {
        self.content().map(|said| &said.request)
    }

    pub(crate) fn content(&self) -> Option<&Content> {
        match (&self.content, &self.late) {
            (Some(content), _) => Some(content),
            (None, Some(late)) => late.content.get()?.as_ref().ok(),
            (None, None) => None,
        }
    }

    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Marks the call as answered without its handler, which counts as `leaked` until it [ends](Self::end_handler).
    pub(crate) fn abandon(&self, leaked: &AtomicUsize) {
        leaked.fetch_add(1, Ordering::Relaxed);
        self.abandoned.store(true, Ordering::Release);
        self.cancel();
    }

    /// Notes that the handler has ended.
    pub(crate) fn end_handler(&self, leaked: &AtomicUsize) {
        if self.abandoned.swap(false, Ordering::AcqRel) {
            leaked.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Returns the method's name; `None` in a request without one, and in one that has not been read.
    pub(crate) fn method(&self) -> Option<&str> {
        self.request().and_then(Request::method)
    }

    /// Returns when the call is answered with a timeout.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.content().map_or(self.first_deadline, |said| said.deadline)
    }

    /// Whether the caller does not wait for the answer any more.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

impl Late {
    fn arrived(&self) -> MutexGuard<'_, Option<UnreadRequest>> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    #[inline]
    fn new(request: Request, limit: Option<Duration>, began: Instant) -> Self {
        let asked = request.timeout_ms().map(Duration::from_millis);
        let limit = [asked, limit].into_iter().flatten().min();
        let deadline = limit.and_then(|limit| began.checked_add(limit));
        let trace = TraceContext::read(request.meta());
        Self { request, deadline, trace }
    }
}

/// Returns the server's timeout for the handler of `request`. A streaming method has none; a flag of the caller alone
/// does not make a method stream.
fn handler_timeout(request: &Request, admission: &Admission) -> Option<Duration> {
    let is_open_ended = request.wants_items() && admission.is_stream(request.method());
    admission.config.handler_timeout.filter(|_| !is_open_ended)
}
