//! The accounts of a server's peers: one for each process, or over TCP one for each address.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::limits::permits::Account;
use crate::peer::Peer;

/// The accounts of the processes, and of their users if any user may connect.
#[derive(Debug)]
pub(crate) struct Accounts {
    inner: Mutex<Inner>,
    any_user: bool,
}

#[derive(Debug, Default)]
struct Inner {
    /// The accounts for the classic connections of each process. The account of the process itself is above.
    classic: Table<ProcessKey>,
    users: Table<UserKey>,
}

/// Accounts by key. An account stays while anything else refers to it, so there are no more than connections.
#[derive(Debug)]
struct Table<K> {
    entries: HashMap<K, Arc<Account>>,
    /// The entry that was last asked for: connections often come from one process.
    last: Option<(K, Arc<Account>)>,
    /// The number of entries at which unused ones are removed.
    full: usize,
}

/// The process on the other end of a connection. Over TCP the address stands for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ProcessKey {
    Unix {
        uid: u32,
        pid: i32,
    },
    Ipv4(Ipv4Addr),
    /// The upper half of an IPv6 address: one user commonly has a network of this size.
    Ipv6([u8; 8]),
}

/// The user on the other end of a connection. Over TCP the address stands for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum UserKey {
    Unix(u32),
    Tcp(ProcessKey),
}

impl Accounts {
    /// Returns accounts of processes, below those of users if peers of `any_user` may connect.
    pub(crate) fn new(any_user: bool) -> Self {
        Self { inner: Mutex::default(), any_user }
    }

    /// Returns the account for the classic connections of the peer's process or address.
    pub(crate) fn classic(&self, peer: &Peer) -> Arc<Account> {
        let Inner { classic, users } = &mut *self.lock();
        classic.get(ProcessKey::of(peer), || {
            let user = self.any_user.then(|| users.get(UserKey::of(peer), Arc::default));
            Account::below(Some(Account::below(user)))
        })
    }

    /// Returns the account for all connections of the peer's process or address.
    pub(crate) fn process(&self, peer: &Peer) -> Arc<Account> {
        let classic = self.classic(peer);
        classic.above().cloned().unwrap_or(classic)
    }

    /// Returns a new account for a session of the peer's process or address.
    pub(crate) fn session(&self, peer: &Peer) -> Arc<Account> {
        Account::below(Some(self.process(peer)))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Copy + Eq + Hash> Table<K> {
    /// Returns the account of `key`, or else a `new` one, which is kept.
    fn get(&mut self, key: K, new: impl FnOnce() -> Arc<Account>) -> Arc<Account> {
        if let Some((last, account)) = &self.last
            && *last == key
        {
            return account.clone();
        }
        let account = self.find(key, new);
        self.last = Some((key, account.clone()));
        account
    }

    fn find(&mut self, key: K, new: impl FnOnce() -> Arc<Account>) -> Arc<Account> {
        if let Some(account) = self.entries.get(&key) {
            return account.clone();
        }
        if self.entries.len() >= self.full {
            self.last = None;
            self.entries.retain(|_, account| is_used(account) || account.above().is_some_and(is_used));
            self.full = (2 * self.entries.len()).max(FEW);
        }
        let account = new();
        self.entries.insert(key, account.clone());
        account
    }
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self { entries: HashMap::new(), last: None, full: FEW }
    }
}

/// Whether anything but the table, or the account below, refers to the account.
fn is_used(account: &Arc<Account>) -> bool {
    Arc::strong_count(account) > 1
}

impl ProcessKey {
    pub(crate) fn of(peer: &Peer) -> Self {
        match peer {
            Peer::Unix(credentials) => Self::Unix { uid: credentials.uid, pid: credentials.pid },
            Peer::Tcp(address) => match address.ip() {
                IpAddr::V4(ip) => Self::Ipv4(ip),
                IpAddr::V6(ip) => Self::Ipv6(ip.octets().first_chunk().copied().unwrap_or_default()),
            },
        }
    }
}

impl UserKey {
    pub(crate) fn of(peer: &Peer) -> Self {
        match peer {
            Peer::Unix(credentials) => Self::Unix(credentials.uid),
            Peer::Tcp(_) => Self::Tcp(ProcessKey::of(peer)),
        }
    }
}

/// The number of entries up to which none is removed.
const FEW: usize = 128;
