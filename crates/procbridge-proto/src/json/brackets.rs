//! Finds the end of an object or array by its brackets alone (PB-BODY-*).
//!
//! The scan only tells strings from other text, and counts brackets outside of strings. That takes a fraction of the
//! time of a check. It is enough before a parser, which checks the text anyway. It is not enough to pass the text on.
//!
//! The scan reads 64 bytes at a time and makes one bit of each in a few masks. So the length of a string costs nothing,
//! and there is no branch to mispredict.

use crate::json::fast_scan;

/// Returns the end of the value at `at`. Of a long object or array only the brackets and the depth of at most `levels`
/// are checked, of other values the grammar too.
pub(crate) fn value(bytes: &[u8], at: usize, levels: u32) -> Option<usize> {
    match *bytes.get(at)? {
        // A full check of a short text takes less time.
        b'{' | b'[' if bytes.len() - at > SHORT => container(bytes, at, levels),
        _ => fast_scan::value(bytes, at, levels),
    }
}

/// The kinds of the bytes of a block, the first byte in the lowest bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Masks {
    quotes: u64,
    backslashes: u64,
    brackets: u64,
    /// The number of opening brackets, and of closing ones.
    opening: u32,
    closing: u32,
}

fn container(bytes: &[u8], start: usize, levels: u32) -> Option<usize> {
    let (mut depth, mut in_string, mut escape) = (0_u32, 0_u64, 0_u64);
    let mut at = start;
    loop {
        let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
        let masks = match rest.first_chunk() {
            Some(block) => masks(block),
            None => {
                let mut block = [b' '; BLOCK];
                block.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
                masks(&block)
            }
        };
        let mut quotes = masks.quotes;
        if masks.backslashes | escape != 0 {
            quotes &= !escaped(masks.backslashes, &mut escape);
        }
        // The bits from each opening quote up to the closing one.
        let strings = in_string ^ parity(quotes);
        in_string = if strings >> 63 == 0 { 0 } else { u64::MAX };
        let Masks { brackets, opening, closing, .. } = masks;
        if brackets & strings == 0 && closing < depth && depth + opening <= levels {
            depth = depth + opening - closing;
        } else {
            let mut left = brackets & !strings;
            while left != 0 {
                let place = left.trailing_zeros() as usize;
                if let b'}' | b']' = *rest.get(place)? {
                    depth = depth.checked_sub(1)?;
                    if depth == 0 {
                        return Some(at + place + 1);
                    }
                } else {
                    depth += 1;
                    if depth > levels {
                        return None;
                    }
                }
                left &= left - 1;
            }
        }
        at += BLOCK;
    }
}

/// Returns the bytes with an odd number of backslashes before them. `carry` is the bit of the byte behind the block.
fn escaped(backslashes: u64, carry: &mut u64) -> u64 {
    const EVEN: u64 = 0x5555_5555_5555_5555;
    // An escaped backslash escapes nothing.
    let backslashes = backslashes & !*carry;
    let behind = backslashes << 1 | *carry;
    let odd_starts = backslashes & !EVEN & !behind;
    let (ends, overflows) = odd_starts.overflowing_add(backslashes);
    *carry = u64::from(overflows);
    (EVEN ^ (ends << 1)) & behind
}

/// Returns the parity of each bit together with all bits below it.
fn parity(mut bits: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << shift;
    }
    bits
}

/// Returns the masks of a block. The compiler vectorises the first step.
#[inline(always)]
fn masks(block: &[u8; BLOCK]) -> Masks {
    let kinds = block.map(|byte| {
        let folded = byte | FOLD;
        u8::from(folded == b'{')
            | u8::from(byte == b'"') << 1
            | u8::from(byte == b'\\') << 2
            | u8::from(folded == b'}') << 4
    });
    let mut masks = Masks::default();
    // The counts of opening and of closing brackets share each byte, one in each half: at most eight.
    let (mut counts, mut any) = (0, 0);
    for (at, word) in kinds.chunks_exact(8).enumerate() {
        let word = u64::from_le_bytes(word.first_chunk().copied().unwrap_or_default());
        masks.quotes |= gathered(word >> 1) << (8 * at);
        masks.brackets |= gathered(word | word >> 4) << (8 * at);
        counts += word & (0x11 * ONES);
        any |= word;
    }
    if any & (4 * ONES) != 0 {
        for (at, word) in kinds.chunks_exact(8).enumerate() {
            let word = u64::from_le_bytes(word.first_chunk().copied().unwrap_or_default());
            masks.backslashes |= gathered(word >> 2) << (8 * at);
        }
    }
    let sum = |counts: u64| ((counts & (0x0f * ONES)).wrapping_mul(ONES) >> 56) as u32;
    (masks.opening, masks.closing) = (sum(counts), sum(counts >> 4));
    masks
}

/// Collects the lowest bit of each byte in the lowest byte.
#[inline(always)]
fn gathered(word: u64) -> u64 {
    (word & ONES).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

const ONES: u64 = 0x0101_0101_0101_0101;

/// A text of at most this length gets a full check.
const SHORT: usize = 24;

/// The bytes that are scanned together.
const BLOCK: usize = 64;

/// The bit by which square brackets differ from curly ones.
const FOLD: u8 = 0x20;

#[cfg(test)]
mod tests {
    use std::string::{String, ToString};
    use std::vec::Vec;

    use serde_json::value::RawValue;

    use super::*;

    /// Numbers that look like chance.
    fn numbers() -> impl FnMut() -> usize {
        let mut seed = 0x2545_F491_4F6C_DD1D_u64;
        move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as usize
        }
    }

    #[test]
    fn a_mask_has_a_bit_for_each_byte() {
        let mut number = numbers();
        for _ in 0..1000 {
            let kinds = b"\"\\{}[]\x02\xa2\xdc\xfb\xff\0a1,:";
            let block: [u8; BLOCK] = core::array::from_fn(|_| kinds[number() % kinds.len()]);
            let mask = |kind: &[u8]| {
                let bits = block.iter().rev().map(|byte| u64::from(kind.contains(byte)));
                bits.fold(0, |mask, bit| mask << 1 | bit)
            };
            let expected = Masks {
                quotes: mask(b"\""),
                backslashes: mask(b"\\"),
                brackets: mask(b"{[}]"),
                opening: mask(b"{[").count_ones(),
                closing: mask(b"}]").count_ones(),
            };
            assert_eq!(masks(&block), expected);
        }
    }

    #[test]
    fn a_value_ends_where_a_parser_says() {
        let parts = [
            "{\"a\":",
            "[",
            "1,",
            "\"]}\\\"\\\\\"",
            "\"\\\\\"",
            "{}",
            "[]",
            "]",
            "}",
            ",",
            " ",
            "\"é\"",
            "\"\\\\\\\"[\"",
        ];
        let mut number = numbers();
        let (mut valid, mut texts) = (0, Vec::new());
        for _ in 0..20_000 {
            let count = number() % 24;
            texts.push((0..count).map(|_| parts[number() % parts.len()]).collect::<String>());
        }
        for depth in [1, 2, 40, 127] {
            let inner = "\"[\\\\\",".repeat(depth);
            texts.push(["[".repeat(depth), inner, "0".to_string(), "]".repeat(depth)].concat());
        }
        for text in &texts {
            for padding in [0, 1, 7, 63, 64] {
                let text = [&" ".repeat(padding), text, " , \"]\""].concat();
                let mut values =
                    serde_json::Deserializer::from_str(&text[padding..]).into_iter::<&RawValue>();
                let Some(Ok(first)) = values.next() else { continue };
                if first.get().starts_with(['{', '[']) {
                    let start = padding + text[padding..].find(['{', '[']).unwrap();
                    valid += 1;
                    assert_eq!(value(text.as_bytes(), start, 128), Some(start + first.get().len()), "{text}");
                }
            }
        }
        assert!(valid > 1000, "{valid}");
    }

    #[test]
    fn depth_is_bounded_and_nothing_panics() {
        let nested = |levels: usize| ["[".repeat(levels), "]".repeat(levels)].concat();
        for levels in [1, 2, 63, 64, 65, 128] {
            let text = nested(levels);
            assert_eq!(value(text.as_bytes(), 0, levels as u32), Some(text.len()));
            assert_eq!(value(text.as_bytes(), 0, levels as u32 - 1), None);
            assert_eq!(value(&text.as_bytes()[..text.len() - 1], 0, 128), None);
        }
        let mut number = numbers();
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..number() % 200).map(|_| b"[]{}\"\\ a\xff"[number() % 9]).collect();
            value(&bytes, 0, 3);
        }
    }
}
