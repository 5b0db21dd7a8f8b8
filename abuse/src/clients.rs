//! The honest clients' process: calls at a rate, and a line for each that has ended.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::ClockId;

use crate::connection::{At, Session};
use crate::honest::{Class, End, Record};
use crate::packet::{self, BAD, GOOD, Packet};

/// The first argument of `abuse` that makes it this process.
pub(crate) const NAME: &str = "honest";

/// The clients at work.
#[derive(Debug)]
struct Work {
    started: Duration,
    stopped: AtomicBool,
    numbers: AtomicU32,
}

/// Returns a clock that this process and its parent share.
pub(crate) fn clock() -> Duration {
    Duration::try_from(rustix::time::clock_gettime(ClockId::Monotonic)).unwrap_or_default()
}

/// Returns the arguments that make `abuse` this process.
pub(crate) fn arguments(started: Duration, unix: &At, tcp: &At, is_apart: bool) -> [String; 5] {
    let source = if is_apart { APART } else { Ipv4Addr::LOCALHOST };
    [NAME.to_string(), started.as_nanos().to_string(), unix.to_string(), tcp.to_string(), source.to_string()]
}

/// Becomes that process, until its standard input closes.
pub(crate) fn become_clients(arguments: &[String]) -> ExitCode {
    let read = |arguments: &[String]| -> Option<(Duration, At, At)> {
        let [started, unix, tcp, source] = arguments else { return None };
        let tcp = At::TcpFrom(tcp.parse().ok()?, source.parse().ok()?);
        Some((Duration::from_nanos(started.parse().ok()?), At::Unix(unix.into()), tcp))
    };
    let Some((started, unix, tcp)) = read(arguments) else { return ExitCode::from(2) };
    let work = Work { started, stopped: AtomicBool::new(false), numbers: AtomicU32::new(0) };
    let both = vec![unix.clone(), tcp.clone()];
    let clients: [(Class, Vec<At>, u64); 5] = [
        (Class::Classic, vec![unix.clone()], 100),
        (Class::Classic, vec![tcp], 100),
        (Class::Quiet, both.clone(), 40),
        (Class::Busy, vec![unix], 250),
        (Class::New, both, 40),
    ];
    thread::scope(|scope| {
        for (class, places, a_second) in &clients {
            let work = &work;
            scope.spawn(move || work.go_on(*class, places, *a_second));
        }
        let _ = io::stdin().read_to_end(&mut Vec::new());
        work.stopped.store(true, Ordering::Relaxed);
    });
    ExitCode::SUCCESS
}

impl Work {
    fn now(&self) -> Duration {
        clock().saturating_sub(self.started)
    }

    /// Makes calls at a rate, at one place after the other, until the end.
    fn go_on(&self, class: Class, places: &[At], a_second: u64) {
        let period = Duration::from_micros(1_000_000 / a_second);
        let mut sessions: Vec<Option<Session>> = places.iter().map(|_| None).collect();
        let mut next = Instant::now();
        for turn in 0.. {
            if self.stopped.load(Ordering::Relaxed) {
                return;
            }
            let place = turn % places.len();
            let began = self.now();
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            let text = packet::text("echo", &number.to_string());
            let called = match class {
                Class::Classic => places[place].ask(&text),
                Class::New => places[place].session().and_then(|mut session| session.ask(&text)),
                Class::Quiet | Class::Busy => on_kept(&mut sessions[place], &places[place], &text),
            };
            let (end, told) = judge(&called, number);
            if end == End::Lost {
                sessions[place] = None;
            }
            let record = Record { class, began, ended: self.now(), end, told };
            // Without a reader the calls serve nothing.
            if io::stdout().write_all(record.to_line().as_bytes()).is_err() {
                return;
            }
            next = (next + period).max(Instant::now() - period);
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }
}

fn on_kept(session: &mut Option<Session>, at: &At, text: &str) -> io::Result<Packet> {
    if session.is_none() {
        *session = Some(at.session()?);
    }
    let session = session.as_mut().ok_or(ErrorKind::NotConnected)?;
    session.ask(text)
}

/// Whether a call of `echo` was answered with its number.
fn judge(called: &io::Result<Packet>, number: u32) -> (End, String) {
    match called {
        Ok(answer) if answer.kind == GOOD => {
            let is_right = answer.content == format!(r#"{{"payload":{number}}}"#).as_bytes();
            (if is_right { End::Right } else { End::Wrong }, told(answer))
        }
        Ok(answer) if answer.kind == BAD => (End::Refused, told(answer)),
        Ok(answer) => (End::Wrong, told(answer)),
        // A session that is refused is refused in words.
        Err(error) if error.kind() == ErrorKind::ConnectionRefused && error.get_ref().is_some() => {
            (End::Refused, error.to_string())
        }
        Err(error) => (End::Lost, error.to_string()),
    }
}

fn told(answer: &Packet) -> String {
    String::from_utf8_lossy(&answer.content).chars().take(160).collect()
}

/// The address of clients that do not share the attackers'.
const APART: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_judged_by_its_number() {
        let answer = |kind, text: &str| Ok(Packet { kind, flags: 0, id: 3, content: text.into() });
        assert_eq!(judge(&answer(GOOD, r#"{"payload":7}"#), 7).0, End::Right);
        assert_eq!(judge(&answer(GOOD, r#"{"payload":8}"#), 7).0, End::Wrong);
        assert_eq!(judge(&answer(BAD, r#"{"errMsg":"overloaded"}"#), 7).0, End::Refused);
        assert_eq!(judge(&Err(ErrorKind::WouldBlock.into()), 7).0, End::Lost);
    }
}
