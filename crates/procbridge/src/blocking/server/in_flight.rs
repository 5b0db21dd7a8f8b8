//! The calls that are with their handlers.
//!
//! A blocking handler cannot be interrupted, but its caller can be answered without it: whoever takes a call out of
//! this table first answers it, the handler's thread when the handler returns, or the poller when its time is over.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::blocking::server::connection::ServerConnection;
use crate::net::socket;
use crate::service::call::Call;

/// Calls with the connections that wait for their answers.
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
    /// When the poller will look at the deadlines again without being woken.
    next_look: Option<Instant>,
    /// When it was last looked whether the peers are there.
    seen: Option<Instant>,
    /// The server has answered all calls; there will be no more.
    is_closed: bool,
}

/// The place of one call in the table.
#[derive(Debug)]
pub(in crate::blocking) struct Ticket(u64);

impl InFlight {
    /// Enters a call. Tells also whether the poller must be woken, as the call's deadline comes before it would look.
    ///
    /// # Errors
    ///
    /// The exchange, if the server has ended: nobody would cancel the call any more.
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
        let look = call
            .deadline()
            .map_or(began + PEER_CHECK_INTERVAL, |deadline| deadline.min(began + PEER_CHECK_INTERVAL));
        let wake = table.next_look.is_none_or(|next| look < next);
        if wake {
            // Others need not wake it again until it has looked.
            table.next_look = Some(look);
        }
        table.next += 1;
        let id = table.next;
        table.calls.insert(id, InFlightCall { call, connection, began });
        Ok((Ticket(id), wake))
    }

    /// Takes a call out whose handler has returned; nothing if it has been answered without the handler.
    pub(in crate::blocking) fn end(&self, ticket: &Ticket) -> Option<ServerConnection> {
        self.table().calls.remove(&ticket.0).map(|running| running.connection)
    }

    /// Takes out the calls whose time is over, and tells when to look again. Their handlers are `leaked` from now on.
    pub(in crate::blocking) fn expired(
        &self,
        now: Instant,
        leaked: &AtomicUsize,
    ) -> (Vec<InFlightCall>, Option<Instant>) {
        let mut table = self.table();
        let is_over =
            |running: &InFlightCall| running.call.deadline().is_some_and(|deadline| deadline <= now);
        let expired: Vec<_> =
            table.calls.extract_if(|_, running| is_over(running)).map(|(_, running)| running).collect();
        // Before the table is let go: a handler that ends finds that it was counted.
        leaked.fetch_add(expired.len(), Ordering::Relaxed);
        let earliest = table.calls.values().map(|running| running.next_look(now)).min();
        // The call that set the look may have ended. Looking then all the same spares the next calls, whose deadlines
        // are later as a rule, from waking the poller one by one.
        let planned = table.next_look.filter(|&look| look > now);
        table.next_look = [earliest, planned].into_iter().flatten().min();
        (expired, table.next_look)
    }

    /// Takes out the calls whose peers have closed their connections for good and take no answer. Their handlers
    /// are `leaked` from now on.
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
        let is_forsaken = |running: &InFlightCall| {
            now.saturating_duration_since(running.began) >= PEER_CHECK_INTERVAL
                && socket::is_gone(&running.connection.stream, is_scarce)
        };
        let forsaken: Vec<_> =
            table.calls.extract_if(|_, running| is_forsaken(running)).map(|(_, running)| running).collect();
        leaked.fetch_add(forsaken.len(), Ordering::Relaxed);
        forsaken
    }

    /// Takes out all calls and lets no more in. Their handlers are `leaked` from now on.
    pub(in crate::blocking) fn close(&self, leaked: &AtomicUsize) -> Vec<InFlightCall> {
        let mut table = self.table();
        table.is_closed = true;
        leaked.fetch_add(table.calls.len(), Ordering::Relaxed);
        table.calls.drain().map(|(_, running)| running).collect()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InFlightCall {
    /// When to look at it next.
    fn next_look(&self, now: Instant) -> Instant {
        let look =
            if now.saturating_duration_since(self.began) < PEER_CHECK_INTERVAL { self.began } else { now }
                + PEER_CHECK_INTERVAL;
        self.call.deadline().map_or(look, |deadline| deadline.min(look))
    }
}

/// A call that goes on for so long is looked at, whether its peer is still there, and again after as long: a crowd of callers
/// that have gone must not take all places meanwhile.
const PEER_CHECK_INTERVAL: Duration = Duration::from_millis(250);
