//! Keeps a session alive in which a stream is open, while the program takes its time over an item.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use crate::blocking::thread_pool::spawn;
use crate::blocking::transport::wait_for;
use crate::blocking::wait;
use crate::session::Session;

/// Keeps a session alive in which a stream is open: a program that takes its time over an item answers no PING. Nothing
/// happens if that is done already.
///
/// The thread waits for what arrives, so that it answers in time whatever the server's heartbeat is.
pub(super) fn tick(session: &Arc<Session>) {
    if session.is_driven() || session.ticked.swap(true, Ordering::AcqRel) {
        return;
    }
    let weak = Arc::downgrade(session);
    let ticker = spawn("procbridge-pulse", move || {
        while let Some(session) = weak.upgrade() {
            if session.has_ended() {
                return;
            }
            if !session.is_calling() {
                session.ticked.store(false, Ordering::Release);
                // A stream that was opened in between found that somebody looks after it.
                if !session.is_calling() || session.ticked.swap(true, Ordering::AcqRel) {
                    return;
                }
            }
            let now = Instant::now();
            let mut due = now + TICK;
            if session.become_leader(None) {
                // What a server sends without an end is not read without one.
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
            // No longer: the session is kept meanwhile.
            let _ = wait_for(&mut [PollFd::new(&*session, PollFlags::IN)], Some(due));
            drop(session);
            // A program that reads by itself is the first to.
            thread::sleep(FIRST_TICK);
        }
    });
    if ticker.is_err() {
        session.ticked.store(false, Ordering::Release);
    }
}

/// Reads at a time, each of which takes in as much as there is room for.
const MAX_READS: usize = 32;
/// The longest wait for something to arrive.
const TICK: Duration = Duration::from_millis(250);
/// How long what has arrived is left to the program. The server's patience is longer: twice its heartbeat, which is some
/// tenths of a second at least.
const FIRST_TICK: Duration = Duration::from_millis(10);
