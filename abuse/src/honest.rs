//! Honest clients beside an attack. Each class is judged by itself: what spares one may lock out another.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::connection::{At, Session};
use crate::packet::{self, BAD, GOOD, Packet};
use crate::statistics::{self, Window};

/// A kind of client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// A connection for each call, over the Unix socket and over TCP.
    Classic,
    /// Two sessions that are older than the attack and make a call now and then.
    Quiet,
    /// A session that makes one call after the other.
    Busy,
    /// A session is opened for each call.
    New,
}

/// All of them.
pub(crate) const CLASSES: [Class; 4] = [Class::Classic, Class::Quiet, Class::Busy, Class::New];

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Right,
    Wrong,
    Refused,
    Lost,
}

#[derive(Clone, Debug)]
struct Record {
    class: Class,
    began: Duration,
    ended: Duration,
    end: End,
    told: String,
}

/// The clients at work.
#[derive(Debug)]
pub(crate) struct Honest {
    started: Instant,
    work: Arc<Work>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Work {
    started: Instant,
    stopped: AtomicBool,
    numbers: AtomicU32,
    records: Mutex<Vec<Record>>,
}

/// What one class had of a window.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Share {
    /// Right answers.
    pub(crate) right: usize,
    /// How long the window is, in seconds.
    pub(crate) seconds: f64,
    pub(crate) p99: Duration,
    pub(crate) calls: usize,
    pub(crate) wrong: usize,
    pub(crate) refused: usize,
    pub(crate) lost: usize,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Classic => "classic",
            Self::Quiet => "quiet",
            Self::Busy => "busy",
            Self::New => "new",
        })
    }
}

impl Honest {
    /// Starts all clients: about 500 calls a second together, a few percent of a processor.
    pub(crate) fn start(unix: &At, tcp: &At) -> Self {
        let started = Instant::now();
        let work = Arc::new(Work {
            started,
            stopped: AtomicBool::new(false),
            numbers: AtomicU32::new(0),
            records: Mutex::default(),
        });
        let both = vec![unix.clone(), tcp.clone()];
        let clients: [(Class, Vec<At>, u64); 5] = [
            (Class::Classic, vec![unix.clone()], 100),
            (Class::Classic, vec![tcp.clone()], 100),
            (Class::Quiet, both.clone(), 40),
            (Class::Busy, vec![unix.clone()], 250),
            (Class::New, both, 40),
        ];
        let threads = clients.into_iter().map(|(class, places, a_second)| {
            let work = work.clone();
            thread::spawn(move || work.go_on(class, &places, a_second))
        });
        Self { started, threads: threads.collect(), work }
    }

    /// The time since the start.
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// What each class had of a window.
    pub(crate) fn shares(&self, window: Window) -> BTreeMap<Class, Share> {
        let records = self.work.records.lock().unwrap();
        CLASSES.into_iter().map(|class| (class, share(&records, class, window))).collect()
    }

    /// The end of the last call after `since` that was not answered right, or not within [`SOON`].
    pub(crate) fn last_trouble(&self, since: Duration) -> Option<Duration> {
        let records = self.work.records.lock().unwrap();
        let troubles = records.iter().filter(|record| {
            record.ended >= since && (record.end != End::Right || record.ended - record.began > SOON)
        });
        troubles.map(|record| record.ended).max()
    }

    /// What was told to a client that was not answered right in a window.
    pub(crate) fn complaint(&self, window: Window) -> Option<String> {
        let records = self.work.records.lock().unwrap();
        let failed = records.iter().find(|record| record.end != End::Right && window.contains(record.began));
        failed.map(|record| format!("{}: {}", record.class, record.told))
    }

    /// Ends all clients.
    pub(crate) fn stop(&mut self) {
        self.work.stopped.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Honest {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Work {
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
            let began = self.started.elapsed();
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
            let record = Record { class, began, ended: self.started.elapsed(), end, told };
            self.records.lock().unwrap().push(record);
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

fn share(records: &[Record], class: Class, window: Window) -> Share {
    let of_class = || records.iter().filter(|record| record.class == class);
    let right = of_class().filter(|record| record.end == End::Right && window.contains(record.ended)).count();
    let begun: Vec<_> = of_class().filter(|record| window.contains(record.began)).collect();
    let mut times: Vec<_> = begun.iter().map(|record| record.ended - record.began).collect();
    let count = |end: End| begun.iter().filter(|record| record.end == end).count();
    Share {
        right,
        seconds: window.seconds(),
        p99: statistics::percentile(&mut times, 99),
        calls: begun.len(),
        wrong: count(End::Wrong),
        refused: count(End::Refused),
        lost: count(End::Lost),
    }
}

/// What an answer takes at most when all is well, on a busy machine too.
const SOON: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    fn record(began: u64, ended: u64, end: End) -> Record {
        let time = Duration::from_millis;
        Record { class: Class::Busy, began: time(began), ended: time(ended), end, told: String::new() }
    }

    #[test]
    fn a_class_that_hangs_has_no_goodput_and_a_long_p99() {
        let records =
            [record(0, 1, End::Right), record(100, 1_100, End::Lost), record(1_100, 1_101, End::Right)];
        let during = Window { from: Duration::from_millis(50), to: Duration::from_millis(1_050) };
        let share = share(&records, Class::Busy, during);
        assert_eq!((share.right, share.lost, share.calls), (0, 1, 1));
        assert_eq!(share.p99, Duration::from_secs(1));
    }

    #[test]
    fn an_answer_is_judged_by_its_number() {
        let answer = |kind, text: &str| Ok(Packet { kind, flags: 0, id: 3, content: text.into() });
        assert_eq!(judge(&answer(GOOD, r#"{"payload":7}"#), 7).0, End::Right);
        assert_eq!(judge(&answer(GOOD, r#"{"payload":8}"#), 7).0, End::Wrong);
        assert_eq!(judge(&answer(BAD, r#"{"errMsg":"overloaded"}"#), 7).0, End::Refused);
        assert_eq!(judge(&Err(ErrorKind::WouldBlock.into()), 7).0, End::Lost);
    }
}
