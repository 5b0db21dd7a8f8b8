//! Chance that can be had again: the numbers follow from the seed.

/// A generator of numbers, xorshift.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Returns a number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % limit.max(1)
    }

    /// Returns so many bytes of any value.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| u8::try_from(self.below(256)).unwrap()).collect()
    }

    /// Returns text of so many bytes.
    pub(crate) fn text(&mut self, bytes: usize) -> String {
        let from = self.below(26);
        (b'a'..=b'z').cycle().skip(from).take(bytes).map(char::from).collect()
    }
}
