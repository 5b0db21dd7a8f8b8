//! Semaphores of counted resources: dropping a permit returns its units.
//!
//! A semaphore that peers share leaves something for the next peer. The share of an account shrinks with the cube of
//! what is free, in any order of arrival: one account alone gets two thirds of the limit. The last eighth is a reserve:
//! its units go to accounts that have next to none.
//!
//! There are two levels. A process, or over TCP an address, has an account of all that its connections take together.
//! Its sessions share by the same rule among each other, with the share of the process as their limit. So many sessions
//! of one process take no more from other processes than one session does.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::peer::Peer;

/// A number of units, of which no more than a limit can be taken at a time.
#[derive(Clone, Debug)]
pub(crate) struct Semaphore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    used: AtomicUsize,
    limit: usize,
    /// The share of one process while it is alone.
    lone_share: usize,
    resource: Resource,
}

/// What a semaphore counts; an account has a counter for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// Calls whose handlers run.
    Calls,
    /// Bytes of requests.
    Requests,
    /// Connections.
    Connections,
    /// Connections whose request has not arrived.
    Waiting,
    /// Bytes of answers that the peer has not read.
    Answers,
    /// Anything that peers do not share.
    Other,
}

/// What one peer has taken of a server's semaphores: a session, the classic connections of one process, or a process.
#[derive(Debug, Default)]
pub(crate) struct Account {
    used: [AtomicUsize; ACCOUNTS],
    /// The account of the process, which counts the same units; absent if this is one.
    process: Option<Arc<Account>>,
}

/// The accounts of the processes on the other ends of connections. A keyed hash finds them, so that no peer can choose
/// with which other one it shares an account.
#[derive(Debug)]
pub(crate) struct Accounts {
    /// The accounts for the classic connections of the processes.
    table: Box<[Arc<Account>; HOLDERS]>,
    seed: u64,
}

/// The units of an account and its process, with those that they ask for.
#[derive(Clone, Copy, Debug)]
struct Taken {
    own: usize,
    process: Option<usize>,
}

/// Units taken from a semaphore. Dropping the permit returns them.
#[derive(Debug)]
pub(crate) struct Permit {
    semaphore: Semaphore,
    account: Option<Arc<Account>>,
    units: usize,
}

impl Semaphore {
    /// Returns a semaphore whose limit holds for all together.
    pub(crate) fn new(limit: usize) -> Self {
        Self::shared(limit, Resource::Other)
    }

    /// Returns a semaphore of which each account gets a share.
    pub(crate) fn shared(limit: usize, resource: Resource) -> Self {
        let lone_share = lone_share(limit);
        Self { inner: Arc::new(Inner { used: AtomicUsize::new(0), limit, lone_share, resource }) }
    }

    pub(crate) fn limit(&self) -> usize {
        self.inner.limit
    }

    pub(crate) fn used(&self) -> usize {
        self.inner.used.load(Ordering::Acquire)
    }

    /// Takes `units`, if the limit allows.
    pub(crate) fn try_acquire(&self, units: usize) -> Option<Permit> {
        self.acquire(None, units)
    }

    /// Takes `units` for `account`, if the limit and the account's share allow.
    pub(crate) fn try_acquire_for(&self, account: &Arc<Account>, units: usize) -> Option<Permit> {
        self.acquire(Some(account.clone()), units)
    }

    fn acquire(&self, account: Option<Arc<Account>>, units: usize) -> Option<Permit> {
        let mut permit = Permit { semaphore: self.clone(), account, units: 0 };
        (units == 0 || permit.resize(units)).then_some(permit)
    }
}

impl Permit {
    /// Changes the permit to `units`. Returns whether the limit and the account's share allow that; if not, nothing
    /// changes.
    pub(crate) fn resize(&mut self, units: usize) -> bool {
        let Inner { used, limit, resource, .. } = &*self.semaphore.inner;
        let account = self.account.as_deref();
        if units > self.units {
            let more = units - self.units;
            let taken = account.and_then(|account| account.add(*resource, more));
            let within = |used: usize| {
                let free = limit.saturating_sub(used);
                let is_fair = taken.is_none_or(|taken| self.semaphore.inner.is_fair(taken, more, free));
                used.checked_add(more).filter(|sum| sum <= limit && is_fair)
            };
            if used.fetch_update(Ordering::AcqRel, Ordering::Acquire, within).is_err() {
                release(account, *resource, more);
                return false;
            }
        } else if units < self.units {
            used.fetch_sub(self.units - units, Ordering::AcqRel);
            release(account, *resource, self.units - units);
        }
        self.units = units;
        true
    }

    pub(crate) fn units(&self) -> usize {
        self.units
    }

    /// Returns the account, if peers share the semaphore.
    pub(crate) fn account(&self) -> Option<&Arc<Account>> {
        self.account.as_ref()
    }

    /// Adds the units of `other`, which is of the same semaphore and account.
    pub(crate) fn merge(&mut self, mut other: Self) {
        self.units = self.units.saturating_add(std::mem::take(&mut other.units));
    }

    /// Moves the units to another `account`.
    pub(crate) fn transfer_to(&mut self, account: &Arc<Account>) {
        let resource = self.semaphore.inner.resource;
        account.add(resource, self.units);
        let before = self.account.replace(account.clone());
        release(before.as_deref(), resource, self.units);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // Most permits for bytes have no units.
        if self.units > 0 {
            self.resize(0);
        }
    }
}

impl Account {
    /// Returns how many units of a resource the account has taken.
    pub(crate) fn used(&self, resource: Resource) -> usize {
        self.counter(resource).map_or(0, |own| own.load(Ordering::Acquire))
    }

    fn counter(&self, resource: Resource) -> Option<&AtomicUsize> {
        self.used.get(resource as usize)
    }

    /// Counts `more` units, and returns the sums. `None`: the resource has no accounts.
    #[inline]
    fn add(&self, resource: Resource, more: usize) -> Option<Taken> {
        let add = |account: &AtomicUsize| account.fetch_add(more, Ordering::AcqRel).saturating_add(more);
        let own = add(self.counter(resource)?);
        Some(Taken {
            own,
            process: self.process.as_ref().and_then(|process| process.counter(resource)).map(add),
        })
    }

    /// Returns the account of the process, or itself if it is one.
    pub(crate) fn process(self: &Arc<Self>) -> &Arc<Self> {
        self.process.as_ref().unwrap_or(self)
    }
}

impl Inner {
    /// Whether an account may have `taken` so much, of which `more` is new, while `free` units are left.
    fn is_fair(&self, taken: Taken, more: usize, free: usize) -> bool {
        // Usually there is enough for all.
        if free >= self.limit / 2 && taken.process.unwrap_or(taken.own) <= self.lone_share / 2 {
            return true;
        }
        let share = fair_share(free, self.limit);
        let Some(process) = taken.process else { return taken.own <= share };
        let share = share.min(self.lone_share);
        // Another thread may have counted units that it will not get: less seems free for a moment.
        let free = share.saturating_sub(process.saturating_sub(more));
        process <= share && taken.own <= fair_share(free, share)
    }
}

impl Accounts {
    pub(crate) fn new() -> Self {
        let seed = RandomState::new().build_hasher().finish();
        let classic = |_| Arc::new(Account { process: Some(Arc::default()), ..Account::default() });
        Self { table: Box::new(std::array::from_fn(classic)), seed }
    }

    /// Returns the account for the classic connections of the peer's process or address.
    pub(crate) fn classic(&self, peer: &Peer) -> &Arc<Account> {
        // The upper bits of a product depend on all of the key; without the seed no peer can predict them.
        let hash = (process_of(peer) ^ self.seed).wrapping_mul(SPREAD) >> (u64::BITS - HOLDERS.ilog2());
        let at = usize::try_from(hash).unwrap_or(0);
        let [first, ..] = &*self.table;
        self.table.get(at).unwrap_or(first)
    }

    /// Returns the account for all connections of the peer's process or address.
    pub(crate) fn process(&self, peer: &Peer) -> &Arc<Account> {
        self.classic(peer).process()
    }

    /// Returns a new account for a session of the peer's process or address.
    pub(crate) fn session(&self, peer: &Peer) -> Arc<Account> {
        Arc::new(Account { process: Some(self.process(peer).clone()), ..Account::default() })
    }
}

/// Returns a number for the process or address on the other end of a connection.
pub(crate) fn process_of(peer: &Peer) -> u64 {
    match peer {
        Peer::Unix(credentials) => {
            u64::from(credentials.uid) << 32 | u64::from(credentials.pid.cast_unsigned())
        }
        Peer::Tcp(address) => match address.ip() {
            // A network of this size is what one user of IPv6 commonly has.
            IpAddr::V6(ip) => u64::from_be_bytes(ip.octets().first_chunk().copied().unwrap_or_default()),
            IpAddr::V4(ip) => u64::from(ip.to_bits()),
        },
    }
}

#[inline]
fn release(account: Option<&Account>, resource: Resource, units: usize) {
    let Some(account) = account else { return };
    let Some(own) = account.counter(resource) else { return };
    own.fetch_sub(units, Ordering::AcqRel);
    if let Some(account) = account.process.as_ref().and_then(|process| process.counter(resource)) {
        account.fetch_sub(units, Ordering::AcqRel);
    }
}

/// Returns what one account may take while so much of a limit is free: at least one unit. Of a small limit it gets
/// three quarters.
fn fair_share(free: usize, limit: usize) -> usize {
    // The cube would exceed the limit.
    if free >= limit / 2 {
        return limit.max(1);
    }
    let part = free as f64 / limit as f64;
    // Precise as far as a float goes; the conversion saturates.
    let cube = (STEEPNESS * part.powi(3) * limit as f64) as usize;
    let share = if free <= limit / RESERVE { cube.min(limit / LITTLE) } else { cube };
    share.max(1)
}

/// Returns what one account gets of a limit while it is alone.
fn lone_share(limit: usize) -> usize {
    let (mut least, mut most) = (0, limit);
    while least < most {
        let next = least + (most - least).div_ceil(2);
        if next <= fair_share(limit - (next - 1), limit) {
            least = next;
        } else {
            most = next - 1;
        }
    }
    least
}

/// How fast shares shrink: the first account takes as much as it can before its share is less than it has.
const STEEPNESS: f64 = 32.0;
/// The fraction of a limit that is reserved for accounts with little.
const RESERVE: usize = 8;
/// The fraction of a limit that is little: one call of 1,024, or 256 KiB of 256 MiB.
const LITTLE: usize = 1024;
/// Resources that have accounts.
const ACCOUNTS: usize = Resource::Other as usize;
/// Accounts in the table, a power of two. Processes that get the same one by chance share its part of the limits too.
const HOLDERS: usize = 128;
/// The golden ratio, as a fraction of 2^64: its multiples lie far from each other.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Credentials;

    #[test]
    fn a_permit_is_bounded_and_returned() {
        let semaphore = Semaphore::new(10);
        let mut first = semaphore.try_acquire(4).unwrap();
        let second = semaphore.try_acquire(6).unwrap();
        assert!(semaphore.try_acquire(1).is_none());
        assert!(!first.resize(5));
        assert!(first.resize(1));
        assert_eq!(semaphore.used(), 7);
        drop(second);
        assert!(first.resize(10));
        drop(first);
        assert_eq!(semaphore.used(), 0);
    }

    /// Takes single units for `account` until it gets no more.
    fn fill(semaphore: &Semaphore, account: &Arc<Account>) -> Vec<Permit> {
        std::iter::from_fn(|| semaphore.try_acquire_for(account, 1)).collect()
    }

    #[test]
    fn one_account_gets_all_of_a_small_limit() {
        for limit in 1..=3 {
            assert_eq!(fill(&Semaphore::shared(limit, Resource::Calls), &Arc::default()).len(), limit);
        }
    }

    #[test]
    fn one_account_alone_gets_two_thirds() {
        for (limit, most) in [(4, 3), (8, 6), (16, 12), (128, 92), (1024, 736)] {
            assert_eq!(
                fill(&Semaphore::shared(limit, Resource::Calls), &Arc::default()).len(),
                most,
                "{limit}"
            );
        }
    }

    /// Each account takes all that it can before the next one comes, which is the worst order.
    #[test]
    fn something_is_left_however_many_take_all_they_can() {
        for (greedy, left) in [(1, 120), (2, 30), (9, 1), (120, 1)] {
            let semaphore = Semaphore::shared(1024, Resource::Calls);
            let accounts: Vec<Arc<Account>> = (0..greedy).map(|_| Arc::default()).collect();
            let taken: Vec<_> = accounts.iter().flat_map(|account| fill(&semaphore, account)).collect();
            let newcomer = Arc::default();
            let permits = fill(&semaphore, &newcomer);
            assert!(permits.len() >= left, "{greedy} leave {}", permits.len());
            assert_eq!(semaphore.used(), taken.len() + permits.len());
            drop((taken, permits));
            assert_eq!((semaphore.used(), accounts[0].used(Resource::Calls)), (0, 0));
        }
    }

    fn unix(pid: i32) -> Peer {
        Peer::Unix(Credentials { uid: 1000, gid: 1000, pid })
    }

    /// Returns the permits of sessions of a process, of which each takes all that it can.
    fn sessions(accounts: &Accounts, peer: &Peer, count: usize, semaphore: &Semaphore) -> Vec<Permit> {
        (0..count).flat_map(|_| fill(semaphore, &accounts.session(peer))).collect()
    }

    #[test]
    fn many_sessions_of_one_process_take_no_more_than_one_process() {
        for resource in [Resource::Calls, Resource::Requests, Resource::Answers] {
            let (semaphore, accounts) = (Semaphore::shared(1024, resource), Accounts::new());
            let taken = sessions(&accounts, &unix(1), 1000, &semaphore);
            assert!((512..=736).contains(&taken.len()), "{}", taken.len());
            assert_eq!(accounts.process(&unix(1)).used(resource), taken.len());
            // Two processes may have the same account by chance.
            let is_other = |peer: &Peer| !Arc::ptr_eq(accounts.process(peer), accounts.process(&unix(1)));
            let other = (2..).map(unix).find(is_other).unwrap();
            assert!(fill(&semaphore, accounts.classic(&other)).len() >= 50);
        }
    }

    #[test]
    fn a_session_leaves_something_to_other_sessions_of_its_process() {
        for (greedy, left) in [(1, 90), (9, 1), (80, 1)] {
            let (semaphore, accounts) = (Semaphore::shared(1024, Resource::Calls), Accounts::new());
            let taken = sessions(&accounts, &unix(1), greedy, &semaphore);
            assert!(fill(&semaphore, &accounts.session(&unix(1))).len() >= left, "{greedy}: {}", taken.len());
            assert!(!fill(&semaphore, accounts.classic(&unix(1))).is_empty(), "{greedy}: {}", taken.len());
        }
    }

    #[test]
    fn all_units_of_a_process_are_returned() {
        let (semaphore, accounts) = (Semaphore::shared(100, Resource::Requests), Accounts::new());
        let mut permit = semaphore.try_acquire_for(accounts.classic(&unix(1)), 10).unwrap();
        let session = accounts.session(&unix(1));
        permit.transfer_to(&session);
        assert!(permit.resize(12) && !permit.resize(99));
        let taken = |account: &Arc<Account>| account.used(Resource::Requests);
        let classic = accounts.classic(&unix(1));
        assert_eq!((taken(&session), taken(classic), taken(accounts.process(&unix(1)))), (12, 0, 12));
        drop(permit);
        assert_eq!((taken(&session), taken(accounts.process(&unix(1))), semaphore.used()), (0, 0, 0));
    }

    #[test]
    fn bytes_cannot_be_filled_to_the_last() {
        let semaphore = Semaphore::shared(256 << 20, Resource::Requests);
        let mut taken = Vec::new();
        for greedy in 1..=512 {
            let account = Arc::default();
            for size in [16 << 20, 1 << 20, 64 << 10, 4096, 100] {
                taken.extend(std::iter::from_fn(|| semaphore.try_acquire_for(&account, size)));
            }
            let next = if greedy < 16 { 128 << 10 } else { 512 };
            assert!(semaphore.try_acquire_for(&Arc::default(), next).is_some(), "after {greedy}");
        }
    }

    #[test]
    fn transferred_units_count_for_the_new_account() {
        let semaphore = Semaphore::shared(100, Resource::Requests);
        let (first, second): (Arc<Account>, Arc<Account>) = Default::default();
        let mut permit = semaphore.try_acquire_for(&first, 10).unwrap();
        permit.transfer_to(&second);
        assert_eq!((first.used(Resource::Requests), second.used(Resource::Requests)), (0, 10));
        assert_eq!(semaphore.used(), 10);
        drop(permit);
        assert_eq!((second.used(Resource::Requests), semaphore.used()), (0, 0));
    }

    #[test]
    fn connections_of_one_process_have_one_account() {
        let accounts = Accounts::new();
        let tcp = |port| Peer::Tcp(std::net::SocketAddr::from(([127, 0, 0, 1], port)));
        assert!(Arc::ptr_eq(accounts.classic(&tcp(1)), accounts.classic(&tcp(2))));
        assert!(Arc::ptr_eq(accounts.session(&tcp(1)).process(), accounts.process(&tcp(2))));
    }
}
