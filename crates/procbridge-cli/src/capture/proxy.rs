//! The private socket.

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use procbridge::{Endpoint, Peer};
use rustix::net::{Shutdown, shutdown};

use crate::capture::observed::Observed;
use crate::capture::relay::Relay;
use crate::capture::server_socket::connect;
use crate::capture::state::CaptureState;
use crate::error::CliError;
use crate::text::system_error;

/// A private way to a server. Once it is dropped, all that went over it has been told.
#[derive(Debug)]
pub(crate) struct Capture {
    endpoint: Endpoint,
    /// The thread that takes connections from it has it.
    listener: Weak<UnixListener>,
    state: Arc<CaptureState>,
}

impl Capture {
    /// Begins to pass on connections to `server`.
    pub(crate) fn open(
        server: &Endpoint,
        connect_timeout: Option<Duration>,
        is_verbose: bool,
    ) -> Result<Self, CliError> {
        let cannot = |error| CliError::system("cannot look at packets", &error);
        // The standard library's only source of randomness is its hasher's seed.
        let random = RandomState::new().build_hasher().finish();
        let name = format!("procbridge-tap-{}-{random:x}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).map_err(cannot)?;
        let listener = Arc::new(UnixListener::bind_addr(&address).map_err(cannot)?);
        let taking = Arc::downgrade(&listener);
        let state = Arc::new(CaptureState {
            server: server.clone(),
            connect_timeout,
            is_verbose,
            began: Instant::now(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let passing = state.clone();
        thread::Builder::new()
            .name("capture".to_string())
            .spawn(move || accept(&passing, &listener))
            .map_err(|error| CliError::system("cannot start a thread", &error))?;
        Ok(Self { endpoint: format!("unix:@{name}").parse()?, listener: taking, state })
    }

    /// Where calls have to go.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Why the server could not be reached. Whoever called sees only that the private socket was closed.
    pub(crate) fn unreachable(&self) -> Option<io::Error> {
        self.state.state().unreachable.take()
    }

    /// What was observed of the server so far.
    pub(crate) fn observed(&self) -> Observed {
        self.state.state().observed.clone()
    }
}

impl Drop for Capture {
    /// The last packets and the end of the connection are on their way.
    fn drop(&mut self) {
        // Wakes who waits for a connection, and has it end.
        if let Some(listener) = self.listener.upgrade() {
            let _ = shutdown(&*listener, Shutdown::Both);
        }
        let end = Instant::now() + if self.state.is_verbose { DRAIN_TIMEOUT } else { QUIET_DRAIN_TIMEOUT };
        let mut state = self.state.state();
        while state.open > 0 {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.state.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Passes on what comes in. It ends when the server cannot be reached, so that nobody tries again and again.
fn accept(state: &Arc<CaptureState>, listener: &UnixListener) {
    while let Ok((ours, _)) = listener.accept() {
        let own = i32::try_from(std::process::id()).ok();
        let is_own = matches!(Peer::of_socket(&ours), Ok(Peer::Unix(peer)) if Some(peer.pid) == own);
        if !is_own {
            continue;
        }
        let number = {
            let mut state = state.state();
            state.connections += 1;
            state.open += 1;
            state.connections
        };
        let relay = match connect(&state.server, state.connect_timeout) {
            Ok((theirs, peer)) => {
                state.show(number, "--", &format!("connected to {}, peer {peer}", state.server));
                state.state().observed.peer = Some(peer);
                let (ours, theirs) = (File::from(OwnedFd::from(ours)), File::from(theirs));
                Relay { state: state.clone(), number, ours, theirs }.start()
            }
            Err(error) => {
                state.show(number, "--", &format!("cannot connect: {}", system_error::describe(&error)));
                // Before the caller finds its connection closed: it will ask why.
                state.state().unreachable = Some(error);
                drop(ours);
                Err(ErrorKind::NotConnected.into())
            }
        };
        if relay.is_err() {
            state.closed();
            return;
        }
    }
}

/// For what is under way when the command has its answer, where somebody reads what it was.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

/// Where nobody does: enough for the server to be told that this was all.
const QUIET_DRAIN_TIMEOUT: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_connections_ends_with_the_tap() {
        let capture = Capture::open(&"127.0.0.1:1".parse().unwrap(), None, false).unwrap();
        let listener = capture.listener.clone();
        assert_eq!(listener.strong_count(), 1);
        drop(capture);
        let end = Instant::now() + Duration::from_secs(30);
        while listener.strong_count() > 0 {
            assert!(Instant::now() < end, "it still listens");
            thread::yield_now();
        }
    }
}
