//! Random numbers.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Returns a number that tells this process from others.
pub(crate) fn random_id() -> u64 {
    // The seed of its hasher is the standard library's only source of randomness.
    RandomState::new().build_hasher().finish()
}
