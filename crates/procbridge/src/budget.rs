//! Counted resources: dropping a share gives it back, however its holder ends.
//!
//! A budget that peers share leaves something for the next peer. The share of a holder shrinks with the cube of what is
//! free, in whatever order they come: one holder alone gets two thirds of the limit, nine that take all they can
//! leave a twentieth, of which the next one gets some. The last units go to holders that have none.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::peer::Peer;

/// A number of units, of which no more than a limit can be held at a time.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    used: AtomicUsize,
    limit: usize,
    resource: Resource,
}

/// What a budget counts; a holder has an account for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// Calls that are with their handlers.
    Calls,
    /// Bytes of requests.
    Requests,
    /// Connections whose request has not arrived.
    Waiting,
    /// Bytes of answers that the peer has not taken.
    Answers,
    /// Anything that is not shared out among peers.
    Other,
}

/// What one session, or the classic connections of one process, hold of the budgets of a server.
#[derive(Debug, Default)]
pub(crate) struct Holder {
    used: [AtomicUsize; ACCOUNTS],
}

/// The holders for classic connections. A process is found by a keyed hash, so that no peer can choose with whom it shares.
#[derive(Debug)]
pub(crate) struct Holders {
    table: Vec<Arc<Holder>>,
    seed: u64,
}

/// Units that are held.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Budget,
    holder: Option<Arc<Holder>>,
    units: usize,
}

impl Budget {
    /// A budget whose limit holds for all together.
    pub(crate) fn new(limit: usize) -> Self {
        Self::shared(limit, Resource::Other)
    }

    /// A budget of which each holder gets a share.
    pub(crate) fn shared(limit: usize, resource: Resource) -> Self {
        Self { inner: Arc::new(Inner { used: AtomicUsize::new(0), limit, resource }) }
    }

    pub(crate) fn limit(&self) -> usize {
        self.inner.limit
    }

    pub(crate) fn used(&self) -> usize {
        self.inner.used.load(Ordering::Acquire)
    }

    /// Takes `units`, if the limit allows.
    pub(crate) fn take(&self, units: usize) -> Option<Share> {
        self.share(None, units)
    }

    /// Takes `units` for `holder`, if the limit and the holder's share allow.
    pub(crate) fn take_for(&self, holder: &Arc<Holder>, units: usize) -> Option<Share> {
        self.share(Some(holder.clone()), units)
    }

    fn share(&self, holder: Option<Arc<Holder>>, units: usize) -> Option<Share> {
        let mut share = Share { budget: self.clone(), holder, units: 0 };
        share.resize(units).then_some(share)
    }
}

impl Share {
    /// Holds `units` from now on. Tells whether the limit and the holder's share allow that; if not, nothing changes.
    pub(crate) fn resize(&mut self, units: usize) -> bool {
        let Inner { used, limit, resource } = &*self.budget.inner;
        let own = self.holder.as_ref().and_then(|holder| holder.account(*resource));
        if units > self.units {
            let more = units - self.units;
            let held = own.map(|own| own.fetch_add(more, Ordering::AcqRel).saturating_add(more));
            let within = |used: usize| {
                let free = limit.saturating_sub(used);
                let is_fair = held.is_none_or(|held| held <= share_of(free, *limit));
                used.checked_add(more).filter(|sum| sum <= limit && is_fair)
            };
            if used.fetch_update(Ordering::AcqRel, Ordering::Acquire, within).is_err() {
                give_back(own, more);
                return false;
            }
        } else if units < self.units {
            used.fetch_sub(self.units - units, Ordering::AcqRel);
            give_back(own, self.units - units);
        }
        self.units = units;
        true
    }

    pub(crate) fn units(&self) -> usize {
        self.units
    }

    /// Returns the holder, if it is of a budget that is shared out.
    pub(crate) fn holder(&self) -> Option<&Arc<Holder>> {
        self.holder.as_ref()
    }

    /// Holds what `other` holds besides, which is of the same budget and holder.
    pub(crate) fn absorb(&mut self, mut other: Self) {
        self.units = self.units.saturating_add(std::mem::take(&mut other.units));
    }

    /// Has `holder` hold what another one held.
    pub(crate) fn pass_to(&mut self, holder: &Arc<Holder>) {
        let resource = self.budget.inner.resource;
        if let Some(own) = holder.account(resource) {
            own.fetch_add(self.units, Ordering::AcqRel);
        }
        let before = self.holder.replace(holder.clone());
        if let Some(own) = before.as_ref().and_then(|before| before.account(resource)) {
            own.fetch_sub(self.units, Ordering::AcqRel);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.resize(0);
    }
}

impl Holder {
    /// How many units of a resource it holds.
    pub(crate) fn held(&self, resource: Resource) -> usize {
        self.account(resource).map_or(0, |own| own.load(Ordering::Acquire))
    }

    fn account(&self, resource: Resource) -> Option<&AtomicUsize> {
        self.used.get(resource as usize)
    }
}

impl Holders {
    pub(crate) fn new() -> Self {
        let seed = RandomState::new().build_hasher().finish();
        Self { table: (0..HOLDERS).map(|_| Arc::default()).collect(), seed }
    }

    /// The holder for the connections of the process, or of the address, on the other end.
    pub(crate) fn of(&self, peer: &Peer) -> Arc<Holder> {
        let key = match peer {
            Peer::Unix(credentials) => {
                u64::from(credentials.uid) << 32 | u64::from(credentials.pid.cast_unsigned())
            }
            Peer::Tcp(address) => match address.ip() {
                // A network of this size is what one user of the protocol commonly has.
                IpAddr::V6(ip) => u64::from_be_bytes(ip.octets().first_chunk().copied().unwrap_or_default()),
                IpAddr::V4(ip) => u64::from(ip.to_bits()),
            },
        };
        // The upper bits of a product depend on all of the key; without the seed nobody can tell how.
        let hash = (key ^ self.seed).wrapping_mul(SPREAD) >> (u64::BITS - HOLDERS.ilog2());
        let at = usize::try_from(hash).unwrap_or(0);
        self.table.get(at).cloned().unwrap_or_default()
    }
}

fn give_back(own: Option<&AtomicUsize>, units: usize) {
    if let Some(own) = own {
        own.fetch_sub(units, Ordering::AcqRel);
    }
}

/// Returns what one holder may have while so much of a limit is free: at least one unit, and all but for the last quarter of
/// a limit that is small.
fn share_of(free: usize, limit: usize) -> usize {
    let part = free as f64 / limit.max(1) as f64;
    // As far as a float goes; a conversion saturates.
    ((STEEPNESS * part.powi(3) * limit as f64) as usize).max(1)
}

/// How large the shares are: the first holder gets as much as it can before its share is less than it has.
const STEEPNESS: f64 = 32.0;
/// Resources that holders have accounts for.
const ACCOUNTS: usize = Resource::Other as usize;
/// Processes that share a holder by chance share its part of the budgets too. A power of two.
const HOLDERS: u32 = 128;
/// The golden ratio, as a fraction of 2^64: its multiples lie far from each other.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

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

    /// Takes single units for `holder` until it gets no more.
    fn fill(budget: &Budget, holder: &Arc<Holder>) -> Vec<Share> {
        std::iter::from_fn(|| budget.take_for(holder, 1)).collect()
    }

    #[test]
    fn one_holder_gets_all_of_a_small_budget() {
        for limit in 1..=3 {
            assert_eq!(fill(&Budget::shared(limit, Resource::Calls), &Arc::default()).len(), limit);
        }
    }

    #[test]
    fn one_holder_alone_gets_two_thirds() {
        for (limit, most) in [(4, 3), (8, 6), (16, 12), (128, 92), (1024, 736)] {
            assert_eq!(fill(&Budget::shared(limit, Resource::Calls), &Arc::default()).len(), most, "{limit}");
        }
    }

    /// Each takes all that it can before the next one comes, which is the worst order.
    #[test]
    fn something_is_left_however_many_take_all_they_can() {
        for (greedy, left) in [(1, 120), (9, 3), (40, 1)] {
            let budget = Budget::shared(1024, Resource::Calls);
            let holders: Vec<Arc<Holder>> = (0..greedy).map(|_| Arc::default()).collect();
            let held: Vec<_> = holders.iter().flat_map(|holder| fill(&budget, holder)).collect();
            let newcomer = Arc::default();
            let places = fill(&budget, &newcomer);
            assert!(places.len() >= left, "{greedy} leave {}", places.len());
            assert_eq!(budget.used(), held.len() + places.len());
            drop((held, places));
            assert_eq!((budget.used(), holders[0].held(Resource::Calls)), (0, 0));
        }
    }

    #[test]
    fn bytes_cannot_be_filled_to_the_last() {
        let budget = Budget::shared(256 << 20, Resource::Requests);
        let mut held = Vec::new();
        for greedy in 1..=512 {
            let holder = Arc::default();
            for size in [16 << 20, 1 << 20, 64 << 10, 4096, 100] {
                held.extend(std::iter::from_fn(|| budget.take_for(&holder, size)));
            }
            let next = if greedy < 16 { 128 << 10 } else { 512 };
            assert!(budget.take_for(&Arc::default(), next).is_some(), "after {greedy}");
        }
    }

    #[test]
    fn what_is_passed_on_counts_for_who_holds_it() {
        let budget = Budget::shared(100, Resource::Requests);
        let (first, second): (Arc<Holder>, Arc<Holder>) = Default::default();
        let mut share = budget.take_for(&first, 10).unwrap();
        share.pass_to(&second);
        assert_eq!((first.held(Resource::Requests), second.held(Resource::Requests)), (0, 10));
        assert_eq!(budget.used(), 10);
        drop(share);
        assert_eq!((second.held(Resource::Requests), budget.used()), (0, 0));
    }

    #[test]
    fn connections_of_one_process_have_one_holder() {
        let holders = Holders::new();
        let tcp = |port| Peer::Tcp(std::net::SocketAddr::from(([127, 0, 0, 1], port)));
        assert!(Arc::ptr_eq(&holders.of(&tcp(1)), &holders.of(&tcp(2))));
    }
}
