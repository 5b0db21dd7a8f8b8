//! What to do when accepting a connection fails; the same for both faces.

use std::time::Duration;

use rustix::io::Errno;

/// The growing pauses of a server that cannot accept: mostly it is out of descriptors or memory, which come back when
/// calls end, and trying at once would only burn.
#[derive(Debug)]
pub(crate) struct AcceptBackoff {
    pause: Duration,
}

impl AcceptBackoff {
    pub(crate) fn new() -> Self {
        Self { pause: MIN_PAUSE }
    }

    /// A connection was accepted: the next trouble is a new one.
    pub(crate) fn reset(&mut self) {
        self.pause = MIN_PAUSE;
    }

    /// How long to wait before the next attempt.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(MAX_PAUSE);
        pause
    }

    /// Whether `error` is the server's. The others concern one connection: its peer gave up meanwhile, the network or a
    /// firewall failed it, or a signal came.
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
    fn pauses_grow_to_a_second_and_begin_anew() {
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
