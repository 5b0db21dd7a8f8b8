//! Counted resources: each share is given back when it is dropped, however its holder ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A number of units, of which no more than a limit can be held at a time.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    used: AtomicUsize,
    limit: usize,
}

/// Units that are held.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Budget,
    units: usize,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Self {
        Self { inner: Arc::new(Inner { used: AtomicUsize::new(0), limit }) }
    }

    pub(crate) fn limit(&self) -> usize {
        self.inner.limit
    }

    pub(crate) fn used(&self) -> usize {
        self.inner.used.load(Ordering::Acquire)
    }

    /// Takes `units`, if the limit allows.
    pub(crate) fn take(&self, units: usize) -> Option<Share> {
        let mut share = Share { budget: self.clone(), units: 0 };
        share.resize(units).then_some(share)
    }
}

impl Share {
    /// Holds `units` from now on. Tells whether the limit allows that; if not, nothing changes.
    pub(crate) fn resize(&mut self, units: usize) -> bool {
        let Inner { used, limit } = &*self.budget.inner;
        if units > self.units {
            let more = units - self.units;
            let within = |used: usize| used.checked_add(more).filter(|sum| sum <= limit);
            if used.fetch_update(Ordering::AcqRel, Ordering::Acquire, within).is_err() {
                return false;
            }
        } else if units < self.units {
            used.fetch_sub(self.units - units, Ordering::AcqRel);
        }
        self.units = units;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.inner.used.fetch_sub(self.units, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_bounded_and_given_back() {
        let budget = Budget::new(10);
        let mut first = budget.take(4).unwrap();
        let second = budget.take(6).unwrap();
        assert!(budget.take(1).is_none());
        assert!(!first.resize(5));
        assert!(first.resize(1));
        assert_eq!(budget.used(), 7);
        drop(second);
        assert!(first.resize(10));
        drop(first);
        assert_eq!(budget.used(), 0);
    }
}
