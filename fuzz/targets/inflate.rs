//! Compressed bodies: they mean what their text means, and what is allocated for them stays within the limits.
#![no_main]

use std::alloc::System;

use libfuzzer_sys::fuzz_target;
use procbridge_fuzz::{choices, packet, request, said, session};
use procbridge_proto::{
    Codec, Event, HEADER_LENGTH, Limits, Packet, ProtocolError, Response, Settings, Status, Version, flag,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fuzz_target!(|input: &[u8]| {
    let ([how, number], content) = choices(input);
    let codec = if how & 1 == 0 { Codec::Lz4 } else { Codec::Zstd };
    if how & 8 == 0 {
        let limit = [256, 1024, 64 * 1024, 1 << 20][usize::from(how >> 1 & 3)];
        arrives(codec, limit, content, 64 * usize::from(number));
    } else {
        is_sent(codec, content, 1 + usize::from(number));
    }
});

/// Takes any bytes as a compressed body.
fn arrives(codec: Codec, limit: u32, content: &[u8], cut: usize) {
    let whole = answer(Some(codec), limit, &[content]);
    if content.len() > limit as usize {
        return assert!(matches!(whole, Err(ProtocolError::TooLarge { .. })), "{whole:?}");
    }
    let (first, second) = content.split_at(cut.min(content.len()));
    assert_eq!(whole, answer(Some(codec), limit, &[first, second]), "in two pieces");
    let text = match codec {
        Codec::Lz4 => lz4(content, limit),
        Codec::Zstd => zstd(content, limit),
    };
    match (whole, text) {
        (Err(ProtocolError::InvalidCompression | ProtocolError::TooLarge { .. }), None) => {}
        (Err(ProtocolError::InvalidCompression), Some(_)) if has_large_window(codec, content) => {}
        (whole, Some(text)) => assert_eq!(whole, answer(None, limit, &[&text])),
        (whole, None) => panic!("{whole:?} of what does not inflate"),
    }
}

/// Checks that the core reads what it compresses, within an exact limit, and that damage costs no more than the call.
fn is_sent(codec: Codec, content: &[u8], times: usize) {
    let text = String::from_utf8_lossy(content).repeat(times.min(40_000 / content.len().max(1)));
    let payload = serde_json::to_string(&text).unwrap();
    let builder = Packet::good(Version::V1_1).json_text(&payload).unwrap();
    let plain = builder.finish(&Limits::default()).unwrap();
    let packet = plain.clone().compressed(codec);
    let limit = u32::try_from(plain.json_len()).unwrap();
    if packet.codec().is_none() {
        return assert_eq!(packet, plain);
    }
    let body = |packet: &Packet| packet.bytes()[HEADER_LENGTH..].to_vec();
    let mut compressed = body(&packet);
    let read = answer(Some(codec), limit, &[&compressed]);
    assert_eq!(read, answer(None, limit, &[&body(&plain)]));
    assert_eq!(read.unwrap().good().and_then(|good| good.payload()), Some(&*payload));
    let over = answer(Some(codec), limit - 1, &[&compressed]);
    assert_eq!(over, Err(ProtocolError::TooLarge { length: limit, limit: limit - 1 }));
    for damage in content.chunks_exact(2).take(4) {
        let at = usize::from(damage[0]) % compressed.len();
        compressed[at] ^= damage[1];
        arrives(codec, limit, &compressed, at);
    }
}

/// Returns what a caller with this limit gets for an answer that comes in these pieces.
fn answer(codec: Option<Codec>, limit: u32, pieces: &[&[u8]]) -> Result<Response, ProtocolError> {
    let limits = Limits::default().with_max_body(limit);
    let [mut client, _] = session(limits, Settings::new(), Settings::new());
    assert_eq!(client.poll_event(), Some(Event::Session));
    let id = client.call(request(&limits)).unwrap();
    said(&mut client);
    let codec = match codec {
        None => 0,
        Some(Codec::Lz4) => 0x10,
        Some(Codec::Zstd) => 0x20,
    };
    let more = |n| if n + 1 < pieces.len() { flag::MORE } else { 0 };
    let packets = pieces.iter().enumerate();
    let packets: Vec<_> =
        packets.map(|(n, piece)| packet(Status::GOOD, codec | more(n), id.number(), piece)).collect();

    let region = Region::new(HEAP);
    packets.iter().for_each(|packet| client.receive(packet));
    let event = client.poll_event();
    let allocated = region.change().bytes_allocated;
    let arrived = packets.iter().map(Vec::len).sum::<usize>();
    // A buffer at most doubles; what arrived is read, joined and told, and a session reads up to 96 KiB at a time.
    let most = 2 * limit as usize + 6 * arrived + 256 * 1024;
    assert!(allocated <= most, "{allocated} B allocated for {arrived} B and a limit of {limit} B");

    let answer = match event {
        Some(Event::Response { response, .. }) => Ok(response),
        Some(Event::Failed { error, .. }) => Err(error),
        // It is over the limit as it stands.
        Some(Event::Closed { error: Some(error) }) => return Err(error),
        other => panic!("{other:?}"),
    };
    assert_eq!(client.poll_event(), None);
    said(&mut client);
    client.receive(&packet(Status::PING, 0, 0, b"{}"));
    assert_eq!(said(&mut client), packet(Status::PONG, 0, 0, b"{}"), "the session goes on");
    answer
}

/// Inflates a body as the library does, if that is allowed.
fn lz4(content: &[u8], limit: u32) -> Option<Vec<u8>> {
    let (size, block) = content.split_first_chunk()?;
    let size = usize::try_from(u32::from_le_bytes(*size)).ok().filter(|&size| size <= limit as usize)?;
    let text = lz4_flex::block::decompress(block, size).ok()?;
    if text.len() == size { Some(text) } else { None }
}

/// Does the same for one frame.
fn zstd(content: &[u8], limit: u32) -> Option<Vec<u8>> {
    if !content.starts_with(&[0x28, 0xB5, 0x2F, 0xFD]) {
        return None;
    }
    let length = zstd_safe::find_frame_compressed_size(content).ok()?;
    let mut text = vec![0; limit as usize];
    let size = zstd_safe::decompress(text.as_mut_slice(), content).ok()?;
    text.truncate(size);
    if length == content.len() { Some(text) } else { None }
}

/// Whether a zstd frame asks for a window beyond the 16 MiB that are allowed.
fn has_large_window(codec: Codec, content: &[u8]) -> bool {
    let single_segment = content.get(4).is_some_and(|descriptor| descriptor & 0x20 != 0);
    codec == Codec::Zstd && !single_segment && content.get(5).is_some_and(|window| 10 + (window >> 3) >= 24)
}
