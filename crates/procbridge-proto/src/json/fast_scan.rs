//! The quick way over JSON text: the same grammar as `json.rs`, without a word on what is wrong (PB-BODY-*).
//!
//! Nearly all text is as it should be. So it is gone over here first, with the place in a register and eight bytes of a
//! string at a time; where something is wrong, or only unusual, the answer is `None`, and `json.rs` goes over it again
//! and says what. Tests hold the two against each other.

/// Past the value of any kind at `at`, everything inside it included, if it is nested at most `levels` deep.
pub(crate) fn value(bytes: &[u8], mut at: usize, levels: u32) -> Option<usize> {
    // The lowest bit tells whether the innermost container is an object, the next one the same of the one around it.
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
        // A value has ended: containers that end with it, then the next one.
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

/// The first byte at `at` or behind it that is no white space, and its place.
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

/// The first byte of the value of the member whose key begins with `byte` at `at`, and its place.
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

/// Past the white space at `at`, of which there mostly is none.
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

/// Past the key at `at`, if nothing in it is escaped.
#[inline]
pub(crate) fn plain_key(bytes: &[u8], at: usize) -> Option<usize> {
    if *bytes.get(at)? != b'"' {
        return None;
    }
    let end = plain(bytes, at + 1);
    if *bytes.get(end)? == b'"' { Some(end + 1) } else { None }
}

/// Past the colon at `at`, with the white space around it.
#[inline(always)]
pub(crate) fn colon(bytes: &[u8], at: usize) -> Option<usize> {
    let at = space(bytes, at);
    if *bytes.get(at)? == b':' { Some(space(bytes, at + 1)) } else { None }
}

/// Past the string whose first quote is before `at`.
#[inline(always)]
fn string(bytes: &[u8], at: usize) -> Option<usize> {
    let at = plain(bytes, at);
    if *bytes.get(at)? == b'"' { Some(at + 1) } else { escaped_string(bytes, at) }
}

/// The rest of a string that has an escape in it.
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

/// Past what means nothing in a string: to its end, an escape, what must not stand there, or the end of the text.
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
            // Only the lowest mark is exact, and it is the one that is wanted.
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

/// Eight bytes at `at`; behind the end of the text they are zero, which must not stand in a string. None if all of them
/// would be.
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
        // What stands before the rest goes out at the front.
        Some(last) => u64::from_le_bytes(*last) >> (64 - 8 * rest.len()),
        None => rest.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)),
    })
}

/// How many bytes at the front of a long string mean nothing there, in whole blocks. The compiler takes many at a time.
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

/// Past the number at `at`.
#[inline(always)]
fn number(bytes: &[u8], mut at: usize) -> Option<usize> {
    if bytes.get(at) == Some(&b'-') {
        at += 1;
    }
    // A zero stands alone; what follows it is judged by whoever comes next.
    at = if bytes.get(at) == Some(&b'0') { at + 1 } else { digits(bytes, at)? };
    match bytes.get(at) {
        Some(b'.' | b'e' | b'E') => fraction(bytes, at),
        _ => Some(at),
    }
}

/// Past the fraction or the exponent at `at`.
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

/// Past the digits at `at`, at least one.
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

/// Strings of so many words are taken for long ones.
const FEW: u32 = 8;

/// Bytes of a long string that are looked at together, and those of a very long one.
const BLOCK: usize = 64;
const LARGE_BLOCK: usize = 256;
