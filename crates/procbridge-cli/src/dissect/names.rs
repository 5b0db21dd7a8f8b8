//! The names of the numbers in a packet's header.

use procbridge_proto::{Codec, Codecs, Header, Status, Version, flag};

/// Returns the name of a packet's kind.
pub(crate) fn packet_kind(status: Status) -> &'static str {
    match status {
        Status::REQUEST => "request",
        Status::GOOD => "good response",
        Status::BAD => "bad response",
        Status::HELLO => "hello",
        Status::ITEM => "item",
        Status::CREDIT => "credit",
        Status::CANCEL => "cancel",
        Status::PING => "ping",
        Status::PONG => "pong",
        Status::GOODBYE => "goodbye",
        _ => "unknown",
    }
}

/// Whether this packet offers or begins a session. Its flags have a meaning, though it has no call id.
pub(crate) fn opens_session(header: &Header) -> bool {
    match header.status {
        Status::REQUEST => header.version == Version::V1_1 && header.flags & flag::SESSION != 0,
        Status::HELLO => true,
        _ => false,
    }
}

/// Returns the names of the set flags. Flags without a meaning are left out.
pub(crate) fn flag_names(header: &Header) -> Vec<&'static str> {
    let named = [
        (flag::SESSION, "session"),
        (flag::ONE_WAY, "one_way"),
        (flag::STREAM, "stream"),
        (flag::MORE, "more"),
    ];
    let named = named.into_iter().filter(|(bit, _)| header.flags & bit != 0).map(|(_, name)| name);
    let codec = match header.flags & CODEC {
        0 => None,
        LZ4 => Some("lz4"),
        ZSTD => Some("zstd"),
        _ => Some("reserved_codec"),
    };
    named.chain(codec).collect()
}

/// Whether the header names a compression, a reserved one included.
pub(crate) fn is_compressed(header: &Header) -> bool {
    header.flags & CODEC != 0
}

/// Returns the names of the compressions in an options byte.
pub(crate) fn codec_names(options: u8) -> Vec<&'static str> {
    let codecs = Codecs::from_bits(options);
    let named = [(Codec::Lz4, "lz4"), (Codec::Zstd, "zstd")];
    named.into_iter().filter(|(codec, _)| codecs.contains(*codec)).map(|(_, name)| name).collect()
}

const CODEC: u8 = 0x30;
const LZ4: u8 = 0x10;
const ZSTD: u8 = 0x20;
