//! A proxy in this process: the client connects to its private socket, and it connects to the server.
//!
//! The library does not know of it. The socket has an abstract name and accepts this process only.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::{Arc, Weak};
use std::time::Duration;

use procbridge::{Endpoint, Peer};
use rustix::net::{Shutdown, shutdown};

use crate::capture::observed::Observed;
use crate::capture::relay::Relay;
use crate::capture::server_socket::connect;
use crate::capture::state::CaptureState;
use crate::error::CliError;
use crate::system::random::random_id;
use crate::system::thread;
use crate::text::system_error;

/// A proxy to a server. Dropping it waits until the last packets are shown.
#[derive(Debug)]
pub(crate) struct Capture {
    endpoint: Endpoint,
    /// The accepting thread owns the listener.
    listener: Weak<UnixListener>,
    state: Arc<CaptureState>,
}

impl Capture {
    /// Opens a proxy to `server`. With `is_verbose` it shows the packets on standard error.
    pub(crate) fn open(
        server: &Endpoint,
        connect_timeout: Option<Duration>,
        is_verbose: bool,
    ) -> Result<Self, CliError> {
        let cannot_open = |error| CliError::system("cannot open the socket that shows packets", &error);
        let name = format!("procbridge-capture-{}-{:x}", std::process::id(), random_id());
        let address = SocketAddr::from_abstract_name(&name).map_err(cannot_open)?;
        let listener = Arc::new(UnixListener::bind_addr(&address).map_err(cannot_open)?);
        let state = Arc::new(CaptureState::new(is_verbose));
        let endpoint = format!("unix:@{name}").parse()?;
        let capture = Self { endpoint, listener: Arc::downgrade(&listener), state: state.clone() };
        let server = server.clone();
        thread::spawn("capture", move || accept(&listener, &server, connect_timeout, &state))?;
        Ok(capture)
    }

    /// Returns the endpoint of the private socket.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Takes the error of connecting to the server. The client sees only that the private socket was closed.
    pub(crate) fn connect_error(&self) -> Option<io::Error> {
        self.state.state().connect_error.take()
    }

    /// Returns the facts about the server that are known so far.
    pub(crate) fn observed(&self) -> Observed {
        self.state.state().observed.clone()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // Wakes the accepting thread, which then ends.
        if let Some(listener) = self.listener.upgrade() {
            let _ = shutdown(&*listener, Shutdown::Both);
        }
        self.state.wait_until_closed(if self.state.is_verbose { DRAIN_TIMEOUT } else { QUIET_DRAIN_TIMEOUT });
    }
}

/// Relays connections to `server`. Ends when the server cannot be reached, so that the client does not retry.
fn accept(
    listener: &UnixListener,
    server: &Endpoint,
    connect_timeout: Option<Duration>,
    state: &Arc<CaptureState>,
) {
    while let Ok((client, _)) = listener.accept() {
        let own = i32::try_from(std::process::id()).ok();
        let is_own = matches!(Peer::of_socket(&client), Ok(Peer::Unix(peer)) if Some(peer.pid) == own);
        if !is_own {
            continue;
        }
        let number = state.opened();
        let is_relayed = match connect(server, connect_timeout) {
            Ok((socket, peer)) => {
                state.show(number, "--", &format!("connected to {server}, peer {peer}"));
                state.state().observed.peer = Some(peer);
                let (client, server) = (File::from(OwnedFd::from(client)), File::from(socket));
                Relay { state: state.clone(), number, client, server }.start().is_ok()
            }
            Err(error) => {
                state.show(number, "--", &format!("cannot connect: {}", system_error::describe(&error)));
                // Store the error before closing, or the client reports a lost connection.
                state.state().connect_error = Some(error);
                drop(client);
                false
            }
        };
        if !is_relayed {
            state.closed();
            return;
        }
    }
}

/// The wait for packets in flight when the command has its answer.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);
/// The same wait if no packets are shown: long enough to send the server a GOODBYE.
const QUIET_DRAIN_TIMEOUT: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Instant;

    use super::*;

    #[test]
    fn the_accepting_thread_ends_with_the_capture() {
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
