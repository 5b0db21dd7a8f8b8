//! The state that the threads of a server share.

use std::fmt;
use std::sync::{Arc, Mutex};

use crate::blocking::router::Router;
use crate::blocking::server::event_loop::EventLoop;
use crate::blocking::server::in_flight::InFlight;
use crate::blocking::server::listening::Listening;
use crate::blocking::server::session_table::SessionTable;
use crate::blocking::server::shutdown::Shutdown;
use crate::limits::admission::Admission;
use crate::limits::permits::Semaphore;

/// The state that a server, its handles and its threads share.
pub(in crate::blocking) struct ServerContext {
    pub(in crate::blocking) admission: Arc<Admission>,
    pub(in crate::blocking) shutdown: Arc<Shutdown>,
    pub(in crate::blocking) event_loop: EventLoop,
    pub(in crate::blocking) in_flight: InFlight,
    pub(in crate::blocking) sessions: SessionTable,
    pub(in crate::blocking) router: Router,
    /// Permits of connections whose handler has not begun: each may become a call at any moment.
    pub(in crate::blocking) arriving: Semaphore,
    /// The endpoints at which no thread accepts, because the system gave none.
    pub(in crate::blocking) unstarted: Mutex<Vec<Arc<Listening>>>,
}

impl fmt::Debug for ServerContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerContext").finish_non_exhaustive()
    }
}
