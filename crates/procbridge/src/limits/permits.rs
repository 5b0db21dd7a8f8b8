//! Semaphores of counted resources: dropping a permit returns its units.
//!
//! A semaphore that peers share leaves something for the next peer. The share of an account shrinks with the cube of
//! what is free, in any order of arrival. One account alone gets two thirds of the limit. The last eighth is a reserve:
//! its units go to accounts that have next to none.
//!
//! There are levels. A process, or over TCP an address, has an account of all that its connections take together. Its
//! sessions share by the same rule among each other, with the share of the process as their limit. So many sessions of
//! one process take no more from other processes than one session does. Where any user may connect, the processes of a
//! user share in the same way what the user gets.

#[cfg(test)]
pub(in crate::limits) mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// The units of a semaphore; an account has a counter for each.
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

/// The units that one peer has taken of a server's semaphores: a session, the classic connections of one process, a process, or a
/// user.
#[derive(Debug, Default)]
pub(crate) struct Account {
    used: [AtomicUsize; ACCOUNTS],
    /// The account of the next level, which counts the same units: the process of a session, the user of a process.
    above: Option<Arc<Account>>,
}

/// The units of an account and of the levels above it, with those that it asks for.
#[derive(Clone, Copy, Debug)]
struct Taken {
    own: usize,
    above: [Option<usize>; LEVELS - 1],
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
    /// Returns a new account, of which all units count for `above` too.
    pub(crate) fn below(above: Option<Arc<Self>>) -> Arc<Self> {
        Arc::new(Self { above, ..Self::default() })
    }

    /// Returns the account of the next level.
    pub(crate) fn above(&self) -> Option<&Arc<Self>> {
        self.above.as_ref()
    }

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
        let mut taken = Taken { own: add(self.counter(resource)?), above: [None; LEVELS - 1] };
        let mut above = self.above.as_deref();
        for level in &mut taken.above {
            let Some(account) = above else { break };
            *level = account.counter(resource).map(add);
            above = account.above.as_deref();
        }
        Some(taken)
    }
}

impl Inner {
    /// Whether an account may have `taken` so much, of which `more` is new, while `free` units are left.
    fn is_fair(&self, taken: Taken, more: usize, free: usize) -> bool {
        let highest = taken.above.iter().rev().flatten().next().copied();
        // Usually there is enough for all.
        if free >= self.limit / 2 && highest.unwrap_or(taken.own) <= self.lone_share / 2 {
            return true;
        }
        let mut share = fair_share(free, self.limit);
        if highest.is_some() {
            share = share.min(self.lone_share);
        }
        for level in taken.above.into_iter().rev().flatten() {
            if level > share {
                return false;
            }
            // Another thread may have counted units that it will not get: less seems free for a moment.
            share = fair_share(share.saturating_sub(level.saturating_sub(more)), share);
        }
        taken.own <= share
    }
}

#[inline]
fn release(account: Option<&Account>, resource: Resource, units: usize) {
    let mut next = account;
    while let Some(account) = next {
        let Some(own) = account.counter(resource) else { return };
        own.fetch_sub(units, Ordering::AcqRel);
        next = account.above.as_deref();
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
/// Levels of accounts: session, process, user.
const LEVELS: usize = 3;
