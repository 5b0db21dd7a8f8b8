//! The compressions a body may have in a session, and the sets of them that the two sides name to each other
//! (PB-CMP-*).

/// How the body of a session packet may be compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// The LZ4 block format with the inflated size in front: fast.
    Lz4,
    /// One zstd frame: small.
    Zstd,
}

/// A set of compressions, as byte 6 of an offer and of HELLO has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Codecs(u8);

impl Codec {
    /// The two bits of a packet's flags.
    pub(crate) fn flags(self) -> u8 {
        match self {
            Self::Lz4 => 0x10,
            Self::Zstd => 0x20,
        }
    }

    /// The compression that a packet's flags name.
    pub(crate) fn of_flags(flags: u8) -> Option<Self> {
        match flags & Self::MASK {
            0x10 => Some(Self::Lz4),
            0x20 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The place of the two bits in a packet's flags. Both set is reserved.
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

    /// What this build can read and write: its features `lz4` and `zstd`.
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

    /// This set and `codec`.
    #[must_use]
    pub fn with(self, codec: Codec) -> Self {
        Self(self.0 | codec.option())
    }

    /// What both sets have.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether `codec` is in the set.
    pub fn contains(self, codec: Codec) -> bool {
        self.0 & codec.option() != 0
    }

    /// The options byte.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// The set that an options byte names; bits that nobody knows are ignored.
    pub fn from_bits(bits: u8) -> Self {
        Self(bits & 0x03)
    }
}
