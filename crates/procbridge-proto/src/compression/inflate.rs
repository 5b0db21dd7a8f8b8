//! Compresses JSON text, and inflates it within a bound (PB-CMP-*).
//!
//! The declared size is only a peer's claim. Nothing here allocates more than the limit, nor more than the arrived
//! bytes can hold. LZ4 makes at most 255 bytes of one. The zstd output grows as it is produced.

use alloc::vec::Vec;

use crate::compression::codec::Codec;
#[cfg(not(feature = "lz4"))]
use crate::compression::inflate::absent as lz4;
#[cfg(not(feature = "zstd"))]
use crate::compression::inflate::absent as zstd;
use crate::error::ProtocolError;

/// Compresses `json` behind `front` free bytes. Returns `None` if this build lacks the codec.
pub(crate) fn compress(codec: Codec, json: &[u8], front: usize) -> Option<Vec<u8>> {
    match codec {
        Codec::Lz4 => lz4::compress(json, front),
        Codec::Zstd => zstd::compress(json, front),
    }
}

/// Inflates `bytes` to a text of at most `limit` bytes.
pub(crate) fn inflate(codec: Codec, bytes: &[u8], limit: u32) -> Result<Vec<u8>, ProtocolError> {
    match codec {
        Codec::Lz4 => lz4::inflate(bytes, limit),
        Codec::Zstd => zstd::inflate(bytes, limit),
    }
}

/// Returns the declared size of the text in `bytes`, at most `limit`.
pub(crate) fn declared_size(codec: Codec, bytes: &[u8], limit: u32) -> Option<usize> {
    let declared = match codec {
        Codec::Lz4 => lz4::declared_size(bytes),
        Codec::Zstd => zstd::declared_size(bytes),
    };
    let limit = limit as usize;
    declared.map(|size| usize::try_from(size).map_or(limit, |size| size.min(limit)))
}

#[cfg(feature = "lz4")]
mod lz4 {
    use alloc::vec;
    use alloc::vec::Vec;

    use lz4_flex::block;

    use crate::error::ProtocolError;

    pub(super) fn compress(json: &[u8], front: usize) -> Option<Vec<u8>> {
        let size = u32::try_from(json.len()).ok()?;
        let start = front + SIZE;
        let mut out = vec![0; start + block::get_maximum_output_size(json.len())];
        out.get_mut(front..start)?.copy_from_slice(&size.to_le_bytes());
        let length = block::compress_into(json, out.get_mut(start..)?).ok()?;
        out.truncate(start + length);
        out.shrink_to_fit();
        Some(out)
    }

    pub(super) fn declared_size(bytes: &[u8]) -> Option<u64> {
        bytes.first_chunk::<SIZE>().map(|size| u32::from_le_bytes(*size).into())
    }

    pub(super) fn inflate(bytes: &[u8], limit: u32) -> Result<Vec<u8>, ProtocolError> {
        let (size, block) = bytes.split_first_chunk::<SIZE>().ok_or(ProtocolError::InvalidCompression)?;
        let size = u32::from_le_bytes(*size);
        if size > limit {
            return Err(ProtocolError::TooLarge { length: size, limit });
        }
        // A block inflates to no more than this: a larger size is false, and is not allocated.
        let most = block.len().saturating_mul(255).saturating_add(64);
        let size = usize::try_from(size).ok().filter(|&size| size <= most);
        let mut out = vec![0; size.ok_or(ProtocolError::InvalidCompression)?];
        match block::decompress_into(block, &mut out) {
            Ok(length) if length == out.len() => Ok(out),
            _ => Err(ProtocolError::InvalidCompression),
        }
    }

    /// Length of the inflated size in front of the block.
    const SIZE: usize = 4;
}

#[cfg(feature = "zstd")]
mod zstd {
    use alloc::vec;
    use alloc::vec::Vec;

    use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

    use crate::error::ProtocolError;

    pub(super) fn compress(json: &[u8], front: usize) -> Option<Vec<u8>> {
        let mut out = vec![0; front + zstd_safe::compress_bound(json.len())];
        let length = zstd_safe::compress(out.get_mut(front..)?, json, LEVEL).ok()?;
        out.truncate(front + length);
        out.shrink_to_fit();
        Some(out)
    }

    pub(super) fn declared_size(bytes: &[u8]) -> Option<u64> {
        zstd_safe::get_frame_content_size(bytes).ok().flatten()
    }

    pub(super) fn inflate(bytes: &[u8], limit: u32) -> Result<Vec<u8>, ProtocolError> {
        // Exactly one frame: the zstd library would skip frames that it calls skippable.
        if !bytes.starts_with(&MAGIC) {
            return Err(ProtocolError::InvalidCompression);
        }
        let too_large = |length: u64| ProtocolError::TooLarge {
            length: u32::try_from(length).unwrap_or(u32::MAX),
            limit,
        };
        let declared = zstd_safe::get_frame_content_size(bytes).ok().flatten();
        if let Some(declared) = declared.filter(|&declared| declared > u64::from(limit)) {
            return Err(too_large(declared));
        }
        let limit = limit as usize;
        let mut context = DCtx::try_create().ok_or(ProtocolError::InvalidCompression)?;
        let set = context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG));
        set.map_err(|_| ProtocolError::InvalidCompression)?;

        let mut input = InBuffer::around(bytes);
        let (mut out, mut filled) = (Vec::new(), 0);
        loop {
            // One byte over the limit shows that the text is too large. A small declared size is trusted.
            let declared = declared.and_then(|size| usize::try_from(size).ok()).unwrap_or(0);
            let room =
                (2 * filled).max(declared.min(8 * bytes.len())).max(FIRST).min(limit.saturating_add(1));
            out.resize(room.max(filled), 0);
            let mut output = OutBuffer::around_pos(out.as_mut_slice(), filled);
            let left = context.decompress_stream(&mut output, &mut input);
            let left = left.map_err(|_| ProtocolError::InvalidCompression)?;
            filled = output.pos();
            if filled > limit {
                return Err(too_large(filled as u64));
            }
            if left == 0 {
                // The frame has ended, and must be the only one.
                out.truncate(filled);
                return if input.pos() == bytes.len() {
                    Ok(out)
                } else {
                    Err(ProtocolError::InvalidCompression)
                };
            }
            if filled < out.len() && input.pos() == bytes.len() {
                return Err(ProtocolError::InvalidCompression);
            }
        }
    }

    /// The default level of the zstd library.
    const LEVEL: i32 = 3;

    /// A window of at most 16 MiB.
    const WINDOW_LOG: u32 = 24;

    /// The first four bytes of a frame.
    const MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();

    /// The initial capacity.
    const FIRST: usize = 4 * 1024;
}

/// A codec that this build lacks.
#[cfg(not(all(feature = "lz4", feature = "zstd")))]
mod absent {
    use alloc::vec::Vec;

    use crate::error::ProtocolError;

    pub(super) fn compress(_json: &[u8], _front: usize) -> Option<Vec<u8>> {
        None
    }

    pub(super) fn declared_size(_bytes: &[u8]) -> Option<u64> {
        None
    }

    pub(super) fn inflate(_bytes: &[u8], _limit: u32) -> Result<Vec<u8>, ProtocolError> {
        // Never offered, so a packet that has it was refused before.
        Err(ProtocolError::InvalidCompression)
    }
}

#[cfg(all(test, any(feature = "lz4", feature = "zstd")))]
mod tests {
    use std::string::String;

    use super::*;

    fn codecs() -> impl Iterator<Item = Codec> {
        [Codec::Lz4, Codec::Zstd].into_iter().filter(|&codec| crate::Codecs::available().contains(codec))
    }

    fn text(size: usize) -> Vec<u8> {
        let mut text = String::new();
        while text.len() < size {
            text.push_str(&std::format!("{{\"key\":{},\"other\":\"value\"}}", text.len()));
        }
        text.truncate(size);
        text.into_bytes()
    }

    #[test]
    fn what_is_compressed_is_inflated() {
        for codec in codecs() {
            for size in [0, 1, 1024, 4095, 4096, 4097, 65_536, 1_000_000] {
                let text = text(size);
                let bytes = compress(codec, &text, 7).unwrap();
                assert_eq!(inflate(codec, &bytes[7..], 1_000_000), Ok(text), "{codec:?} of {size}");
            }
        }
    }

    #[test]
    fn the_limit_is_exact() {
        for codec in codecs() {
            let bytes = compress(codec, &text(5000), 0).unwrap();
            assert!(inflate(codec, &bytes, 5000).is_ok());
            let error = inflate(codec, &bytes, 4999).unwrap_err();
            assert!(matches!(error, ProtocolError::TooLarge { limit: 4999, .. }), "{codec:?}: {error}");
        }
    }

    #[test]
    fn a_cut_or_a_tail_is_an_error() {
        for codec in codecs() {
            let mut bytes = compress(codec, &text(5000), 0).unwrap();
            for cut in 0..bytes.len() {
                assert!(inflate(codec, &bytes[..cut], 5000).is_err(), "{codec:?} cut at {cut}");
            }
            bytes.push(0);
            assert!(inflate(codec, &bytes, 5000).is_err(), "{codec:?} with a byte behind");
        }
    }

    #[cfg(feature = "lz4")]
    #[test]
    fn an_lz4_size_that_no_block_can_have_is_not_allocated() {
        let lie = |size: u32| [&size.to_le_bytes()[..], &[0; 16]].concat();
        assert_eq!(inflate(Codec::Lz4, &lie(u32::MAX), u32::MAX), Err(ProtocolError::InvalidCompression));
        assert_eq!(inflate(Codec::Lz4, &lie(16 * 255 + 65), 1 << 20), Err(ProtocolError::InvalidCompression));
        let over = ProtocolError::TooLarge { length: 101, limit: 100 };
        assert_eq!(inflate(Codec::Lz4, &lie(101), 100), Err(over));
    }

    #[cfg(feature = "zstd")]
    #[test]
    fn a_zstd_bomb_ends_at_the_limit() {
        // The frame has no declared size, and inflates to a thousand times its size.
        let mut context = zstd_safe::CCtx::create();
        context.set_parameter(zstd_safe::CParameter::ContentSizeFlag(false)).unwrap();
        let mut bytes = std::vec![0; 1 << 16];
        let length = context.compress2(&mut bytes[..], &std::vec![b' '; 64 << 20]).unwrap();
        bytes.truncate(length);
        let error = inflate(Codec::Zstd, &bytes, 1 << 20);
        assert_eq!(error, Err(ProtocolError::TooLarge { length: (1 << 20) + 1, limit: 1 << 20 }));
    }

    #[cfg(feature = "zstd")]
    #[test]
    fn a_zstd_frame_is_alone_and_its_window_is_bounded() {
        let frame = compress(Codec::Zstd, &text(5000), 0).unwrap();
        let skippable = [&[0x50, 0x2A, 0x4D, 0x18, 1, 0, 0, 0, 0][..], &frame].concat();
        for bytes in [&skippable, &[&frame[..], &frame].concat(), &[&frame[..], &skippable].concat()] {
            assert_eq!(inflate(Codec::Zstd, bytes, 1 << 20), Err(ProtocolError::InvalidCompression));
        }
        for (log, fits) in [(24, true), (25, false)] {
            let mut context = zstd_safe::CCtx::create();
            context.set_parameter(zstd_safe::CParameter::ContentSizeFlag(false)).unwrap();
            context.set_parameter(zstd_safe::CParameter::WindowLog(log)).unwrap();
            let mut bytes = std::vec![0; 1 << 16];
            let mut output = zstd_safe::OutBuffer::around(&mut bytes[..]);
            // Compress as a stream, or the window would shrink to the known size.
            context.compress_stream(&mut output, &mut zstd_safe::InBuffer::around(b"{}")).unwrap();
            context.end_stream(&mut output).unwrap();
            let length = output.pos();
            assert_eq!(inflate(Codec::Zstd, &bytes[..length], 1 << 20).is_ok(), fits, "window 2^{log}");
        }
    }
}
