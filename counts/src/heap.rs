//! The heap of this process, as its allocator has counted it.

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, Stats, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The counts until now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heap {
    /// How often memory was asked for, or more of it.
    pub(crate) allocations: usize,
    /// Bytes that have not been given back.
    pub(crate) bytes: usize,
}

impl Heap {
    pub(crate) fn now() -> Self {
        let Stats { allocations, reallocations, bytes_allocated, bytes_deallocated, .. } = ALLOCATOR.stats();
        Self {
            allocations: allocations + reallocations,
            bytes: bytes_allocated.saturating_sub(bytes_deallocated),
        }
    }

    /// Prints the allocations of each of `calls` since `self`.
    pub(crate) fn tell(self, calls: usize) {
        let allocations = Self::now().allocations - self.allocations;
        println!("{:.3}", allocations as f64 / calls as f64);
    }
}
