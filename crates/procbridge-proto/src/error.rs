//! The errors in a peer's bytes, their faults, and the answers to them (PB-ERR-*).
//!
//! [`ProtocolError::answer`] alone decides the answer to a peer about its own bytes.

use alloc::string::{String, ToString};
use core::fmt;

use crate::wire::{HEADER_LENGTH, Status, Version};

/// A breach of the protocol in a peer's bytes. It ends the connection, once, with this reason.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The first two bytes are not `pb`: the peer does not speak ProcBridge.
    NotProcBridge {
        /// Which byte, 0 or 1.
        offset: usize,
        /// The byte that stands there.
        byte: u8,
    },
    /// A packet of a version that this side does not support.
    UnsupportedVersion {
        /// The two version bytes.
        found: [u8; 2],
        /// The version that was expected, if only one is possible.
        expected: Option<Version>,
    },
    /// A response where a request belongs, a request where a response belongs, or an unknown status code.
    UnexpectedStatus {
        /// The status code.
        found: Status,
        /// The expected packet: `a request` or `a response`.
        expected: &'static str,
    },
    /// The header announces a body over the limit.
    TooLarge {
        /// The announced length, in bytes.
        length: u32,
        /// The limit, in bytes.
        limit: u32,
    },
    /// The body is not UTF-8.
    InvalidUtf8 {
        /// Offset of the first wrong byte in the body.
        at: usize,
    },
    /// The body is not JSON.
    InvalidJson {
        /// Offset of the first wrong byte in the body.
        at: usize,
        /// The expected text at that byte.
        expected: &'static str,
    },
    /// Arrays and objects are nested too deep.
    TooDeep {
        /// The limit, in levels.
        limit: u32,
    },
    /// The body is JSON but no object.
    NotAnObject {
        /// The kind of value: `an array`, `a string` ...
        found: &'static str,
    },
    /// The method of a request is not a string, or is missing where the 1.0 format needs it.
    InvalidMethod {
        /// The key, `method` or `api`.
        key: &'static str,
        /// The kind of value that was found.
        found: &'static str,
    },
    /// The method name is over the limit.
    MethodTooLong {
        /// Its length, in bytes.
        length: usize,
        /// The limit, in bytes.
        limit: u32,
    },
    /// The input ended in the middle of a packet.
    Truncated {
        /// Bytes of the header, or behind it of the body, that did arrive.
        received: usize,
        /// Bytes that the header or the body has.
        expected: usize,
        /// `header` or `body`.
        part: &'static str,
    },
    /// The server closed the connection without a byte of an answer.
    NoReply,
    /// A HELLO of another session format than 1.
    UnsupportedSession {
        /// The format, if it is a number.
        found: Option<u64>,
    },
    /// A call id that a packet of this kind cannot have here: of the other side, never opened, or used before.
    InvalidId {
        /// The kind of packet.
        kind: Status,
        /// The id.
        id: u32,
    },
    /// A session packet too short for its call id.
    TruncatedId {
        /// The announced length, in bytes.
        length: u32,
    },
    /// An item of a result that was not asked for in items.
    UnexpectedItem {
        /// The call.
        id: u32,
    },
    /// An item beyond the credit that was given.
    NoCredit {
        /// The call.
        id: u32,
    },
    /// A piece of a body where none belongs.
    UnexpectedPiece {
        /// The kind of packet.
        kind: Status,
        /// The call.
        id: u32,
    },
    /// A compression that this side did not offer to read, or that this kind of packet cannot have.
    UnexpectedCodec {
        /// The kind of packet.
        kind: Status,
        /// Its flags.
        flags: u8,
    },
    /// The compressed bytes are broken.
    InvalidCompression,
    /// A PING whose body is over the limit.
    PingTooLarge {
        /// Its size, in bytes.
        length: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// Too many packets of unknown kinds.
    TooManyUnknown,
    /// Too many requests that were answered before they had fully arrived, and never went on.
    TooManyUnfinished,
    /// A number of a session packet is not a whole number within its bounds.
    InvalidNumber {
        /// Its key.
        key: &'static str,
    },
}

/// The cause of an error, which tells the possible remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The bytes cannot be parsed.
    Malformed,
    /// The bytes can be parsed, and break a rule.
    Violation,
    /// The peer speaks a version that this side does not know.
    TooNew,
    /// A limit was reached; a higher one may be set.
    Limit,
    /// The input ended before the packet did.
    Ended,
}

/// The bad response of a server to bytes that it refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The stable code.
    pub code: &'static str,
    /// The message, for people.
    pub message: String,
}

/// The program asked a connection for something that its state does not allow. Nothing was queued.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Misuse {
    /// The classic connection has had its one call, or has ended.
    NoCallPossible,
    /// There is no call with this id to answer.
    UnknownCall,
    /// The packet is not of the kind that belongs there.
    WrongPacket,
    /// The body to send is over the limit.
    TooLarge {
        /// Its length, in bytes.
        length: usize,
        /// The limit, in bytes.
        limit: u32,
    },
    /// The method name to send is over the limit.
    MethodTooLong {
        /// Its length, in bytes.
        length: usize,
        /// The limit, in bytes.
        limit: u32,
    },
    /// The 1.0 format cannot leave out the method or send an empty one.
    MethodRequired,
    /// One side sent GOODBYE, and the session takes no new calls.
    GoingAway,
    /// The session has used up its call ids. Another connection has new ones.
    IdsExhausted,
    /// The other side of the session takes no calls.
    PeerTakesNoCalls,
    /// The call has no credit. [`Event::Credit`](crate::Event::Credit) reports when it has.
    NoCredit,
}

/// The stable codes of a bad response (PB-CNV-*). Applications add their own with a dot in them.
pub mod code {
    /// No method of this name.
    pub const UNKNOWN_METHOD: &str = "unknown_method";
    /// The payload does not fit the method.
    pub const INVALID_PAYLOAD: &str = "invalid_payload";
    /// A timeout passed.
    pub const TIMEOUT: &str = "timeout";
    /// The call was cancelled.
    pub const CANCELLED: &str = "cancelled";
    /// The server has reached a limit on calls or connections.
    pub const OVERLOADED: &str = "overloaded";
    /// A size limit was passed. The message names it.
    pub const TOO_LARGE: &str = "too_large";
    /// The caller may not do this.
    pub const DENIED: &str = "denied";
    /// The handler failed unexpectedly.
    pub const INTERNAL: &str = "internal";
    /// The packet or its body breaks a rule.
    pub const INVALID_REQUEST: &str = "invalid_request";
    /// The server does not support the packet's version.
    pub const UNSUPPORTED_VERSION: &str = "unsupported_version";
    /// The server is shutting down and takes no new calls.
    pub const UNAVAILABLE: &str = "unavailable";
}

impl ProtocolError {
    /// Returns the stable name, as the vectors of the specification use it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotProcBridge { .. } => "not_procbridge",
            Self::UnsupportedVersion { .. } => "unsupported_version",
            Self::UnexpectedStatus { .. } => "unexpected_status",
            Self::TooLarge { .. } => "too_large",
            Self::InvalidUtf8 { .. } => "invalid_utf8",
            Self::InvalidJson { .. } => "invalid_json",
            Self::TooDeep { .. } => "too_deep",
            Self::NotAnObject { .. } => "not_an_object",
            Self::InvalidMethod { .. } => "invalid_method",
            Self::MethodTooLong { .. } => "method_too_long",
            Self::Truncated { .. } => "truncated",
            Self::NoReply => "no_reply",
            Self::UnsupportedSession { .. } => "unsupported_session",
            Self::InvalidId { .. } => "invalid_id",
            Self::TruncatedId { .. } => "truncated_id",
            Self::UnexpectedItem { .. } => "unexpected_item",
            Self::NoCredit { .. } => "no_credit",
            Self::UnexpectedPiece { .. } => "unexpected_piece",
            Self::UnexpectedCodec { .. } => "unexpected_codec",
            Self::InvalidCompression => "invalid_compression",
            Self::PingTooLarge { .. } => "ping_too_large",
            Self::TooManyUnknown => "too_many_unknown",
            Self::TooManyUnfinished => "too_many_unfinished",
            Self::InvalidNumber { .. } => "invalid_number",
        }
    }

    /// Returns the cause.
    pub fn fault(&self) -> Fault {
        match self {
            Self::NotProcBridge { .. }
            | Self::InvalidUtf8 { .. }
            | Self::InvalidJson { .. }
            | Self::NotAnObject { .. }
            | Self::TruncatedId { .. }
            | Self::InvalidCompression
            | Self::InvalidNumber { .. } => Fault::Malformed,
            Self::UnexpectedStatus { .. }
            | Self::InvalidMethod { .. }
            | Self::InvalidId { .. }
            | Self::UnexpectedItem { .. }
            | Self::NoCredit { .. }
            | Self::UnexpectedPiece { .. }
            | Self::UnexpectedCodec { .. } => Fault::Violation,
            Self::UnsupportedVersion { .. } | Self::UnsupportedSession { .. } => Fault::TooNew,
            Self::TooLarge { .. }
            | Self::TooDeep { .. }
            | Self::MethodTooLong { .. }
            | Self::PingTooLarge { .. }
            | Self::TooManyUnknown
            | Self::TooManyUnfinished => Fault::Limit,
            Self::Truncated { .. } | Self::NoReply => Fault::Ended,
        }
    }

    /// Returns the answer to the peer that sent these bytes, or `None` if it may not speak ProcBridge.
    pub fn answer(&self) -> Option<Answer> {
        let code = match self {
            Self::NotProcBridge { .. } | Self::NoReply => return None,
            // Three bytes do not show yet that the peer speaks ProcBridge.
            Self::Truncated { part: "header", received: 0..4, .. } => return None,
            Self::UnsupportedVersion { .. } => code::UNSUPPORTED_VERSION,
            _ if self.fault() == Fault::Limit => code::TOO_LARGE,
            _ => code::INVALID_REQUEST,
        };
        Some(Answer { code, message: self.to_string() })
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotProcBridge { offset, byte } => {
                write!(f, "not a ProcBridge packet: byte {offset} is {byte:#04x}, expected the flag \"pb\"")
            }
            Self::UnsupportedVersion { found: [major, minor], expected: None } => {
                write!(f, "unsupported version {major}.{minor}, this side speaks 1.1 and 1.0")
            }
            Self::UnsupportedVersion { found: [major, minor], expected: Some(version) } => {
                write!(f, "unsupported version {major}.{minor}, expected {version}")
            }
            Self::UnexpectedStatus { found, expected } => {
                write!(f, "unexpected status code {}, expected {expected}", found.0)
            }
            Self::TooLarge { length, limit } => {
                write!(f, "body of {length} B exceeds the limit of {limit} B (max_body)")
            }
            Self::InvalidUtf8 { at } => write!(f, "body is not UTF-8: invalid sequence at byte {at}"),
            Self::InvalidJson { at, expected } => {
                write!(f, "body is not JSON: expected {expected} at byte {at}")
            }
            Self::TooDeep { limit } => {
                write!(f, "JSON nested deeper than the limit of {limit} levels (max_depth)")
            }
            Self::NotAnObject { found } => write!(f, "body must be a JSON object, found {found}"),
            Self::InvalidMethod { key, found } => write!(f, "\"{key}\" must be a string, found {found}"),
            Self::MethodTooLong { length, limit } => {
                write!(f, "method name of {length} B exceeds the limit of {limit} B (max_method)")
            }
            Self::Truncated { received, expected, part } => {
                write!(f, "input ended after {received} of {expected} bytes of a packet's {part}")
            }
            Self::NoReply => f.write_str("connection closed without an answer"),
            Self::UnsupportedSession { found: Some(found) } => {
                write!(f, "unsupported session format {found}, this side speaks 1")
            }
            Self::UnsupportedSession { found: None } => {
                f.write_str("HELLO without a session format, this side speaks 1")
            }
            Self::InvalidId { kind, id } => {
                write!(f, "packet of kind {kind} cannot have the call id {id} here")
            }
            Self::TruncatedId { length } => {
                write!(f, "session packet of {length} B has no room for its call id of 4 B")
            }
            Self::UnexpectedItem { id } => write!(f, "item of call {id}, which did not ask for items"),
            Self::NoCredit { id } => write!(f, "item of call {id} beyond its credit"),
            Self::UnexpectedPiece { kind, id } => {
                write!(f, "packet of kind {kind} of call {id} does not fit the pieces before it")
            }
            Self::UnexpectedCodec { kind, flags } => {
                write!(f, "packet of kind {kind} has a compression that was not offered: flags {flags:#04x}")
            }
            Self::InvalidCompression => f.write_str("body cannot be decompressed"),
            Self::PingTooLarge { length, limit } => {
                write!(f, "PING of {length} B exceeds the limit of {limit} B")
            }
            Self::TooManyUnknown => f.write_str("too many packets of unknown kinds"),
            Self::TooManyUnfinished => f.write_str("too many requests that were begun and not ended"),
            Self::InvalidNumber { key } => write!(f, "\"{key}\" must be a whole number within its bounds"),
        }
    }
}

impl core::error::Error for ProtocolError {}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCallPossible => f.write_str("a classic connection carries one call, this one had it"),
            Self::UnknownCall => f.write_str("no call with this id waits for an answer"),
            Self::WrongPacket => f.write_str("the packet is of the wrong kind or version for this place"),
            Self::TooLarge { length, limit } => {
                write!(f, "body of {length} B exceeds the limit of {limit} B (max_body)")
            }
            Self::MethodTooLong { length, limit } => {
                write!(f, "method name of {length} B exceeds the limit of {limit} B (max_method)")
            }
            Self::MethodRequired => f.write_str("the 1.0 format needs a method name that is not empty"),
            Self::GoingAway => f.write_str("the session is ending and takes no new calls"),
            Self::IdsExhausted => f.write_str("the session has used up its call ids"),
            Self::PeerTakesNoCalls => f.write_str("the other side of the session takes no calls"),
            Self::NoCredit => f.write_str("the caller takes no more items for now"),
        }
    }
}

impl core::error::Error for Misuse {}

/// Returns the error for input that ends inside the header, after `received` bytes.
pub(crate) fn truncated_header(received: usize) -> ProtocolError {
    ProtocolError::Truncated { received, expected: HEADER_LENGTH, part: "header" }
}
