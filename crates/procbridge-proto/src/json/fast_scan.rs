//! The fast scan of JSON text: the same grammar as `grammar.rs`, without a reason for an error (PB-BODY-*).
//!
//! Nearly all text is valid. So it is scanned here first, with the position in a register and eight bytes of a string
//! at a time. Invalid text gives `None`, and so does some unusual text. Then `grammar.rs` scans it again and gives the
//! reason. Tests compare the two.

/// Returns the end of the value at `at`, if it is valid and nested at most `levels` deep.
pub(crate) fn value(bytes: &[u8], mut at: usize, levels: u32) -> Option<usize> {
    // The lowest bit tells whether the innermost container is an object, the next bit the same of its parent.
    let mut objects: u128 = 0;
    let mut depth = 0_u32;
    let mut byte = *bytes.get(at)?;
    loop {
        match byte {
            b'"' => at = string(bytes, at + 1)?,
            b'-' | b'0'..=b'9' => at = number(bytes, at)?,
            b'{' => {
                if depth >= levels {
                    return None;
                }
                (byte, at) = next(bytes, at + 1)?;
                if byte != b'}' {
                    objects = objects << 1 | 1;
                    depth += 1;
                    (byte, at) = member(bytes, byte, at)?;
                    continue;
                }
                at += 1;
            }
            b'[' => {
                if depth >= levels {
                    return None;
                }
                (byte, at) = next(bytes, at + 1)?;
                if byte != b']' {
                    objects <<= 1;
                    depth += 1;
                    continue;
                }
                at += 1;
            }
            b't' => at = literal(bytes, at, *b"true")?,
            b'f' => at = literal(bytes, at + 1, *b"alse")?,
            b'n' => at = literal(bytes, at, *b"null")?,
            _ => return None,
        }
        // After a value: skip the containers that end with it, then find the next value.
        loop {
            if depth == 0 {
                return Some(at);
            }
            (byte, at) = next(bytes, at)?;
            let is_object = objects & 1 != 0;
            match byte {
                b',' => {
                    (byte, at) = next(bytes, at + 1)?;
                    if is_object {
                        (byte, at) = member(bytes, byte, at)?;
                    }
                    break;
                }
                b'}' if is_object => {}
                b']' if !is_object => {}
                _ => return None,
            }
            at += 1;
            depth -= 1;
            objects >>= 1;
        }
    }
}

/// Returns the first byte from `at` on that is no white space, and its position.
#[inline(always)]
fn next(bytes: &[u8], at: usize) -> Option<(u8, usize)> {
    match *bytes.get(at)? {
        0..=b' ' => {
            let at = more_space(bytes, at);
            Some((*bytes.get(at)?, at))
        }
        byte => Some((byte, at)),
    }
}

/// Returns the first byte of a member's value, and its position. The key begins with `byte` at `at`.
#[inline(always)]
fn member(bytes: &[u8], byte: u8, at: usize) -> Option<(u8, usize)> {
    if byte != b'"' {
        return None;
    }
    match next(bytes, string(bytes, at + 1)?)? {
        (b':', at) => next(bytes, at + 1),
        _ => None,
    }
}

/// Returns the end of the white space at `at`. Usually there is none.
#[inline(always)]
pub(crate) fn space(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at) {
        Some(0..=b' ') => more_space(bytes, at),
        _ => at,
    }
}

#[inline(never)]
fn more_space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(at) {
        at += 1;
    }
    at
}

/// Returns the end of the key at `at`, if it has no escape.
#[inline]
pub(crate) fn plain_key(bytes: &[u8], at: usize) -> Option<usize> {
    if *bytes.get(at)? != b'"' {
        return None;
    }
    let end = plain(bytes, at + 1);
    if *bytes.get(end)? == b'"' { Some(end + 1) } else { None }
}

/// Returns the end of the colon at `at`, with the white space around it.
#[inline(always)]
pub(crate) fn colon(bytes: &[u8], at: usize) -> Option<usize> {
    let at = space(bytes, at);
    if *bytes.get(at)? == b':' { Some(space(bytes, at + 1)) } else { None }
}

/// Returns the end of the string whose first quote is before `at`.
#[inline(always)]
fn string(bytes: &[u8], at: usize) -> Option<usize> {
    let at = plain(bytes, at);
    if *bytes.get(at)? == b'"' { Some(at + 1) } else { escaped_string(bytes, at) }
}

/// Returns the end of a string that has an escape at `at`.
fn escaped_string(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => match *bytes.get(at + 1)? {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => at += 2,
                b'u' if bytes.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit) => at += 6,
                _ => return None,
            },
            _ => return None,
        }
        at = plain(bytes, at);
    }
}

/// Returns the end of the plain characters at `at`: a quote, an escape, a forbidden character, or the end of the text.
#[inline(always)]
fn plain(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let mut words = 0;
    while let Some(word) = word(bytes, at) {
        let quote = word ^ (ONES * b'"' as u64);
        let backslash = word ^ (ONES * b'\\' as u64);
        let found = (quote.wrapping_sub(ONES) & !quote)
            | (backslash.wrapping_sub(ONES) & !backslash)
            | (word.wrapping_sub(ONES * 0x20) & !word);
        if found & HIGHS != 0 {
            // Only the lowest mark is exact, and only that one is needed.
            return at + (found & HIGHS).trailing_zeros() as usize / 8;
        }
        at += 8;
        words += 1;
        if words == FEW {
            at += plain_blocks(bytes.get(at..).unwrap_or_default());
        }
    }
    at
}

/// Returns eight bytes at `at`. Behind the end of the text they are zero, which no string may contain. Returns `None`
/// at the end.
#[inline(always)]
fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let rest = bytes.get(at..)?;
    match rest.first_chunk::<8>() {
        Some(word) => Some(u64::from_le_bytes(*word)),
        None => last_word(bytes, rest),
    }
}

fn last_word(bytes: &[u8], rest: &[u8]) -> Option<u64> {
    if rest.is_empty() {
        return None;
    }
    Some(match bytes.last_chunk::<8>() {
        // The shift drops the bytes before the rest.
        Some(last) => u64::from_le_bytes(*last) >> (64 - 8 * rest.len()),
        None => rest.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)),
    })
}

/// Returns the number of plain bytes at the front of a long string, in whole blocks. The compiler vectorises this.
#[inline(never)]
fn plain_blocks(bytes: &[u8]) -> usize {
    let large = plain_blocks_of::<LARGE_BLOCK>(bytes);
    large + plain_blocks_of::<BLOCK>(bytes.get(large..).unwrap_or_default())
}

#[inline(always)]
fn plain_blocks_of<const N: usize>(bytes: &[u8]) -> usize {
    let is_plain = |block: &&[u8; N]| {
        let marks = |marks, &byte: &u8| marks | u8::from(byte == b'"' || byte == b'\\' || byte < 0x20);
        block.iter().fold(0_u8, marks) == 0
    };
    let (blocks, _) = bytes.as_chunks();
    blocks.iter().take_while(is_plain).count() * N
}

/// Returns the end of the number at `at`.
#[inline(always)]
fn number(bytes: &[u8], mut at: usize) -> Option<usize> {
    if bytes.get(at) == Some(&b'-') {
        at += 1;
    }
    // A leading zero stands alone. The next check refuses a digit behind it.
    at = if bytes.get(at) == Some(&b'0') { at + 1 } else { digits(bytes, at)? };
    match bytes.get(at) {
        Some(b'.' | b'e' | b'E') => fraction(bytes, at),
        _ => Some(at),
    }
}

/// Returns the end of the fraction or the exponent at `at`.
fn fraction(bytes: &[u8], mut at: usize) -> Option<usize> {
    if bytes.get(at) == Some(&b'.') {
        at = digits(bytes, at + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = bytes.get(at) {
            at += 1;
        }
        at = digits(bytes, at)?;
    }
    Some(at)
}

/// Returns the end of the digits at `at`, at least one.
#[inline(always)]
fn digits(bytes: &[u8], mut at: usize) -> Option<usize> {
    if !bytes.get(at)?.is_ascii_digit() {
        return None;
    }
    at += 1;
    while bytes.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    Some(at)
}

#[inline(always)]
fn literal(bytes: &[u8], at: usize, word: [u8; 4]) -> Option<usize> {
    if bytes.get(at..)?.first_chunk() == Some(&word) { Some(at + 4) } else { None }
}

/// A string of this many words counts as long.
const FEW: u32 = 8;

/// The bytes of a long string that are scanned together, and those of a very long one.
const BLOCK: usize = 64;
const LARGE_BLOCK: usize = 256;
