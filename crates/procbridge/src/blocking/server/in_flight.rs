//! The calls whose handlers run.
//!
//! A blocking handler cannot be interrupted, but its caller can be answered without it. The thread that takes a call
//! out of this table first answers it. That is the handler's thread when the handler returns, or the event loop at the
//! deadline.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::blocking::server::connection::ServerConnection;
use crate::config::tuning::PEER_CHECK_INTERVAL;
use crate::net::socket;
use crate::service::call::Call;

/// The calls in flight, with the connections that wait for their answers.
#[derive(Debug, Default)]
pub(in crate::blocking) struct InFlight {
    table: Mutex<Table>,
}

/// A call and its connection.
#[derive(Debug)]
pub(in crate::blocking) struct InFlightCall {
    pub(in crate::blocking) call: Call,
    pub(in crate::blocking) connection: ServerConnection,
    began: Instant,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    calls: HashMap<u64, InFlightCall>,
    /// When the event loop checks the deadlines next without being woken.
    next_check: Option<Instant>,
    /// When the loop last checked whether the peers are still connected.
    seen: Option<Instant>,
    /// Whether the server has answered all calls; no more are entered.
    is_closed: bool,
}

/// The key of one call in the table.
#[derive(Debug)]
pub(in crate::blocking) struct Ticket(u64);

impl InFlight {
    /// Enters a call. Also returns whether to wake the event loop, because the call's deadline comes before its next
    /// check.
    ///
    /// # Errors
    ///
    /// The connection, if the server has ended: no thread would cancel the call any more.
    #[allow(clippy::result_large_err, reason = "the exchange is moved once, at the end of a server")]
    pub(in crate::blocking) fn begin(
        &self,
        call: Call,
        connection: ServerConnection,
    ) -> Result<(Ticket, bool), ServerConnection> {
        let mut table = self.table();
        if table.is_closed {
            return Err(connection);
        }
        let began = Instant::now();
        let check = call
            .deadline()
            .map_or(began + PEER_CHECK_INTERVAL, |deadline| deadline.min(began + PEER_CHECK_INTERVAL));
        let wake = table.next_check.is_none_or(|next| check < next);
        if wake {
            // Other calls need not wake the loop again until it has checked.
            table.next_check = Some(check);
        }
        table.next += 1;
        let id = table.next;
        table.calls.insert(id, InFlightCall { call, connection, began });
        Ok((Ticket(id), wake))
    }

    /// Takes out a call whose handler has returned. Returns nothing if it was answered without the handler.
    pub(in crate::blocking) fn end(&self, ticket: &Ticket) -> Option<ServerConnection> {
        self.table().calls.remove(&ticket.0).map(|entry| entry.connection)
    }

    /// Takes out the calls past their deadline, and returns when to check again. Their handlers are `leaked` from now
    /// on.
    pub(in crate::blocking) fn expired(
        &self,
        now: Instant,
        leaked: &AtomicUsize,
    ) -> (Vec<InFlightCall>, Option<Instant>) {
        let mut table = self.table();
        let is_over = |entry: &InFlightCall| entry.call.deadline().is_some_and(|deadline| deadline <= now);
        let expired: Vec<_> =
            table.calls.extract_if(|_, entry| is_over(entry)).map(|(_, entry)| entry).collect();
        // Count before unlocking the table, or a handler that ends in between uncounts itself first.
        leaked.fetch_add(expired.len(), Ordering::Relaxed);
        let earliest = table.calls.values().map(|entry| entry.next_check(now)).min();
        // The call that set this check may have ended. The check is kept all the same: the next calls usually have
        // later deadlines, and would otherwise each wake the loop.
        let planned = table.next_check.filter(|&check| check > now);
        table.next_check = [earliest, planned].into_iter().flatten().min();
        (expired, table.next_check)
    }

    /// Takes out the calls whose peers have closed their connections for good and take no answer. Their handlers are
    /// `leaked` from now on.
    pub(in crate::blocking) fn abandoned_by_peer(
        &self,
        now: Instant,
        is_scarce: bool,
        leaked: &AtomicUsize,
    ) -> Vec<InFlightCall> {
        let mut table = self.table();
        if table.seen.is_some_and(|seen| now.saturating_duration_since(seen) < PEER_CHECK_INTERVAL) {
            return Vec::new();
        }
        table.seen = Some(now);
        let is_abandoned = |entry: &InFlightCall| {
            now.saturating_duration_since(entry.began) >= PEER_CHECK_INTERVAL
                && socket::is_gone(&entry.connection.stream, is_scarce)
        };
        let abandoned: Vec<_> =
            table.calls.extract_if(|_, entry| is_abandoned(entry)).map(|(_, entry)| entry).collect();
        leaked.fetch_add(abandoned.len(), Ordering::Relaxed);
        abandoned
    }

    /// Takes out all calls and closes the table. Their handlers are `leaked` from now on.
    pub(in crate::blocking) fn close(&self, leaked: &AtomicUsize) -> Vec<InFlightCall> {
        let mut table = self.table();
        table.is_closed = true;
        leaked.fetch_add(table.calls.len(), Ordering::Relaxed);
        table.calls.drain().map(|(_, entry)| entry).collect()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InFlightCall {
    /// Returns when to check this call next.
    fn next_check(&self, now: Instant) -> Instant {
        let check =
            if now.saturating_duration_since(self.began) < PEER_CHECK_INTERVAL { self.began } else { now }
                + PEER_CHECK_INTERVAL;
        self.call.deadline().map_or(check, |deadline| deadline.min(check))
    }
}
