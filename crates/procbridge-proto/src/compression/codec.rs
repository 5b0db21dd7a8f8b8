//! The compressions of a body in a session, and the sets of them that the two sides exchange (PB-CMP-*).

/// The compression of a session packet's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// The LZ4 block format with the inflated size in front: fast.
    Lz4,
    /// One zstd frame: small.
    Zstd,
}

/// A set of compressions, as in byte 6 of an offer and of HELLO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Codecs(u8);

impl Codec {
    /// Returns the two bits of a packet's flags.
    pub(crate) fn flags(self) -> u8 {
        match self {
            Self::Lz4 => 0x10,
            Self::Zstd => 0x20,
        }
    }

    /// Returns the compression that a packet's flags name.
    pub(crate) fn of_flags(flags: u8) -> Option<Self> {
        match flags & Self::MASK {
            0x10 => Some(Self::Lz4),
            0x20 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The two bits of a packet's flags. Both set is reserved.
    pub(crate) const MASK: u8 = 0x30;

    fn option(self) -> u8 {
        match self {
            Self::Lz4 => 0x01,
            Self::Zstd => 0x02,
        }
    }
}

impl Codecs {
    /// No compression at all.
    pub const NONE: Self = Self(0);

    /// Returns the compressions of this build: its features `lz4` and `zstd`.
    pub fn available() -> Self {
        let mut available = Self::NONE;
        if cfg!(feature = "lz4") {
            available = available.with(Codec::Lz4);
        }
        if cfg!(feature = "zstd") {
            available = available.with(Codec::Zstd);
        }
        available
    }

    /// Adds `codec` to the set.
    #[must_use]
    pub fn with(self, codec: Codec) -> Self {
        Self(self.0 | codec.option())
    }

    /// Returns the compressions in both sets.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether `codec` is in the set.
    pub fn contains(self, codec: Codec) -> bool {
        self.0 & codec.option() != 0
    }

    /// Returns the options byte.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Reads an options byte. Unknown bits are ignored.
    pub fn from_bits(bits: u8) -> Self {
        Self(bits & 0x03)
    }
}
