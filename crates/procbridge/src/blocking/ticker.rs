//! Keeps alive a session with an open stream, while the program processes an item.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use crate::blocking::thread_pool::spawn;
use crate::blocking::transport::wait_for;
use crate::blocking::wait;
use crate::session::Session;

/// Starts the thread that keeps alive a session with an open stream: a program that processes an item answers no PING.
/// Does nothing if such a thread runs.
///
/// The thread waits for input, so it answers in time whatever the server's keepalive interval is.
pub(super) fn tick(session: &Arc<Session>) {
    if session.is_driven() || session.ticked.swap(true, Ordering::AcqRel) {
        return;
    }
    let weak = Arc::downgrade(session);
    let ticker = spawn("procbridge-ticker", move || {
        while let Some(session) = weak.upgrade() {
            if session.has_ended() {
                return;
            }
            if !session.is_calling() {
                session.ticked.store(false, Ordering::Release);
                // Check again after the store, or a stream opened in between, which found the thread running, is not
                // kept alive.
                if !session.is_calling() || session.ticked.swap(true, Ordering::AcqRel) {
                    return;
                }
            }
            let now = Instant::now();
            let mut due = now + TICK;
            if session.become_leader(None) {
                // A bound: the server may send without end.
                for _ in 0..MAX_READS {
                    if !wait::read_now(&session) {
                        break;
                    }
                    session.flush();
                }
                session.flush();
                due = session.tick(Instant::now()).map_or(due, |next| next.min(due));
                session.step_down(None);
            }
            // Drop the session after this wait, no later: it is kept alive meanwhile.
            let _ = wait_for(&mut [PollFd::new(&*session, PollFlags::IN)], Some(due));
            drop(session);
            // A program that reads by itself reads first.
            thread::sleep(FIRST_TICK);
        }
    });
    if ticker.is_err() {
        session.ticked.store(false, Ordering::Release);
    }
}

/// The most reads at a time, each of which fills the read buffer at most.
const MAX_READS: usize = 32;
/// The longest wait for input.
const TICK: Duration = Duration::from_millis(250);
/// How long arrived bytes are left to the program. The server's keepalive timeout is longer: twice its interval, which
/// is some tenths of a second at least.
const FIRST_TICK: Duration = Duration::from_millis(10);
