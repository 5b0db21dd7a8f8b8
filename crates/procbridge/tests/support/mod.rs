//! Code that tests share: both faces behind one pair of types, the protocol by hand, a watchdog on all that waits.
#![allow(unreachable_pub, reason = "a module of a test program")]
#![allow(dead_code, reason = "each program uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may stop at the first surprise")]

pub mod door;
pub mod faces;
pub mod proxy;
pub mod router;
pub mod wire;

use std::env;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::{self, Command};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use procbridge::SessionMode;

use faces::{ClientKind, FACES, Face, TRANSPORTS, Transport};

/// Runs `scenario`, and ends the whole test program if it hangs.
pub fn watched<T>(scenario: impl FnOnce() -> T) -> T {
    watched_as("", scenario)
}

/// Does the same, and tells which one it was that failed.
fn watched_as<T>(name: &str, scenario: impl FnOnce() -> T) -> T {
    let (running, ended) = mpsc::channel::<()>();
    let what = format!("{} {name}", thread::current().name().unwrap_or_default());
    thread::spawn(move || {
        // Nothing is sent: the channel ends with the scenario.
        if ended.recv_timeout(WATCHDOG) == Err(mpsc::RecvTimeoutError::Timeout) {
            let _ = writeln!(std::io::stderr(), "watchdog: no end after {WATCHDOG:?}: {what}");
            process::abort();
        }
    });
    let result = catch_unwind(AssertUnwindSafe(scenario));
    drop(running);
    result.unwrap_or_else(|panic| {
        if !name.is_empty() {
            let _ = writeln!(std::io::stderr(), "failed: {name}");
        }
        resume_unwind(panic)
    })
}

/// Runs `work` on `runtime`, and ends the whole test program if it hangs.
#[cfg(feature = "tokio")]
pub fn block_on<T>(runtime: &tokio::runtime::Runtime, work: impl Future<Output = T>) -> T {
    watched(|| runtime.block_on(work))
}

/// Runs `test` in a process of its own, for values that are counted or set once in a process. That is this program again,
/// which runs the test called `name` and no other.
pub fn in_own_process(name: &str, test: impl FnOnce()) {
    const NAME: &str = "PROCBRIDGE_TEST_IN_OWN_PROCESS";
    if env::var(NAME).is_ok_and(|asked| asked == name) {
        return test();
    }
    let mut command = Command::new(env::current_exe().unwrap());
    let output = command.args(["--exact", name, "--nocapture"]).env(NAME, name).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    // No test has another name: then it would run nothing, and succeed.
    let is_passed = output.status.success() && told.contains("test result: ok. 1 passed");
    assert!(is_passed, "{}: {told}{}", output.status, String::from_utf8_lossy(&output.stderr));
}

/// Runs `scenario` on each face.
pub fn each_face(scenario: impl Fn(Face)) {
    for &face in FACES {
        watched_as(&format!("{face:?}"), || scenario(face));
    }
}

/// Runs `scenario` on every face of the server, every face of the client, and every transport, with sessions and with
/// a connection for each call.
pub fn everywhere(scenario: fn(Face, ClientKind, Transport)) {
    for sessions in [SessionMode::Auto, SessionMode::Off] {
        for &server in FACES {
            for &face in FACES {
                for &transport in TRANSPORTS {
                    // An abstract name is a Unix socket: once is enough.
                    if sessions == SessionMode::Auto || transport != Transport::Abstract {
                        let name = format!("{server:?} {face:?} {transport:?} {sessions:?}");
                        watched_as(&name, || scenario(server, ClientKind { face, sessions }, transport));
                    }
                }
            }
        }
    }
}

/// Does the same for tests that need sessions.
pub fn everywhere_with_sessions(scenario: fn(Face, Face, Transport)) {
    for &server in FACES {
        for &client in FACES {
            for transport in [Transport::Tcp, Transport::Unix] {
                let name = format!("{server:?} {client:?} {transport:?}");
                watched_as(&name, || scenario(server, client, transport));
            }
        }
    }
}

/// Waits for something that must come by itself, without a signal.
#[track_caller]
pub fn eventually(mut done: impl FnMut() -> bool) {
    let late = Instant::now() + WATCHDOG / 2;
    while !done() {
        assert!(Instant::now() < late, "it did not come");
        // Those who are waited for need the processor.
        thread::sleep(Duration::from_millis(1));
    }
}

/// Far more than anything here takes.
pub const WATCHDOG: Duration = Duration::from_secs(60);
