//! The pause of a server that cannot accept a connection. Both faces share it.

use std::time::Duration;

use rustix::io::Errno;

/// The exponential backoff of a server that cannot accept. Usually it is out of descriptors or memory, which are free
/// again when calls end; trying at once would only burn a core.
#[derive(Debug)]
pub(crate) struct AcceptBackoff {
    pause: Duration,
}

impl AcceptBackoff {
    pub(crate) fn new() -> Self {
        Self { pause: MIN_PAUSE }
    }

    /// Resets the backoff after an accepted connection.
    pub(crate) fn reset(&mut self) {
        self.pause = MIN_PAUSE;
    }

    /// Returns how long to wait before the next attempt.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(MAX_PAUSE);
        pause
    }

    /// Whether `error` concerns the server. Other errors concern one connection: its peer has closed it, the network or
    /// a firewall failed it, or a signal came.
    pub(crate) fn is_needed(error: Errno) -> bool {
        !matches!(
            error,
            Errno::CONNABORTED
                | Errno::INTR
                | Errno::PERM
                | Errno::PROTO
                | Errno::NOPROTOOPT
                | Errno::OPNOTSUPP
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::NONET
                | Errno::TIMEDOUT
        )
    }
}

const MIN_PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_second_until_a_reset() {
        let mut backoff = AcceptBackoff::new();
        let pauses: Vec<_> = (0..9).map(|_| backoff.pause().as_millis()).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        backoff.reset();
        assert_eq!(backoff.pause(), MIN_PAUSE);
    }

    #[test]
    fn only_what_concerns_one_connection_needs_no_pause() {
        for error in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::INVAL, Errno::BADF] {
            assert!(AcceptBackoff::is_needed(error), "{error}");
        }
        assert!(!AcceptBackoff::is_needed(Errno::CONNABORTED));
    }
}
