//! Honest clients beside an attack. Each class is judged by itself: what spares one may lock out another.
//!
//! They are a process of their own, as a server shares its limits out among processes.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::clients;
use crate::server::{self, Server};
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
pub(crate) enum End {
    Right,
    Wrong,
    Refused,
    Lost,
}

/// All ends.
const ENDS: [End; 4] = [End::Right, End::Wrong, End::Refused, End::Lost];

/// A call that has ended. Times count from the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) class: Class,
    pub(crate) began: Duration,
    pub(crate) ended: Duration,
    pub(crate) end: End,
    pub(crate) told: String,
}

/// The clients at work.
#[derive(Debug)]
pub(crate) struct Honest {
    started: Duration,
    records: Arc<Mutex<Vec<Record>>>,
    process: Child,
    reader: Option<JoinHandle<()>>,
}

/// The results of one class in a window.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Share {
    /// Right answers.
    pub(crate) right: usize,
    /// How long the window is, in seconds.
    pub(crate) seconds: f64,
    /// The 99th percentile of the calls' times. Of fewer than 100 calls it would be the longest time, which is the
    /// machine's doing as often as the server's: the 90th.
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

impl Record {
    /// Writes it as a line.
    pub(crate) fn to_line(&self) -> String {
        let Self { class, began, ended, end, told } = self;
        let told: String = told.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        format!("{class} {} {} {end:?} {told}\n", began.as_micros(), ended.as_micros())
    }

    /// Reads a line.
    fn of_line(line: &str) -> Option<Self> {
        let mut words = line.splitn(5, ' ');
        let class = words.next()?;
        let class = CLASSES.into_iter().find(|known| known.to_string() == class)?;
        let mut time = || words.next()?.parse().ok().map(Duration::from_micros);
        let (began, ended) = (time()?, time()?);
        let end = words.next()?;
        let end = ENDS.into_iter().find(|known| format!("{known:?}") == end)?;
        Some(Self { class, began, ended, end, told: words.next()?.to_string() })
    }
}

impl Honest {
    /// Starts all clients: about 500 calls a second together, a few percent of a processor. Over TCP they come from an
    /// address of their own, or from that of the attackers.
    pub(crate) fn start(server: &Server, is_apart: bool) -> io::Result<Self> {
        let started = clients::clock();
        let mut command = server::tied(&std::env::current_exe()?, None)?;
        command.args(clients::arguments(started, &server.unix, &server.tcp, is_apart));
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let records: Arc<Mutex<Vec<Record>>> = Arc::default();
        let (kept, output) = (records.clone(), process.stdout.take());
        let reader = thread::spawn(move || {
            let lines = output.into_iter().flat_map(|output| BufReader::new(output).lines());
            for record in lines.map_while(Result::ok).filter_map(|line| Record::of_line(&line)) {
                kept.lock().unwrap().push(record);
            }
        });
        Ok(Self { started, records, process, reader: Some(reader) })
    }

    /// Returns the time since the start.
    pub(crate) fn now(&self) -> Duration {
        clients::clock().saturating_sub(self.started)
    }

    /// Returns the results of each class in a window.
    pub(crate) fn shares(&self, window: Window) -> BTreeMap<Class, Share> {
        let records = self.records.lock().unwrap();
        CLASSES.into_iter().map(|class| (class, share(&records, class, window))).collect()
    }

    /// Returns the end of the last call after `since` that was not answered right, or not within [`SOON`].
    pub(crate) fn last_trouble(&self, since: Duration) -> Option<Duration> {
        let records = self.records.lock().unwrap();
        let troubles = records.iter().filter(|record| {
            record.ended >= since && (record.end != End::Right || record.ended - record.began > SOON)
        });
        troubles.map(|record| record.ended).max()
    }

    /// Returns the errors of a client that was not answered right in a window.
    pub(crate) fn complaint(&self, window: Window) -> Option<String> {
        let records = self.records.lock().unwrap();
        let failed = records.iter().find(|record| record.end != End::Right && window.contains(record.began));
        failed.map(|record| format!("{}: {}", record.class, record.told))
    }

    /// Ends all clients.
    pub(crate) fn stop(&mut self) {
        drop(self.process.stdin.take());
        if server::within(&mut self.process, STOP).is_none() {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl Drop for Honest {
    fn drop(&mut self) {
        self.stop();
    }
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
        p99: statistics::percentile(&mut times, if begun.len() < 100 { 90 } else { 99 }),
        calls: begun.len(),
        wrong: count(End::Wrong),
        refused: count(End::Refused),
        lost: count(End::Lost),
    }
}

/// The longest time of an answer when all is well, on a busy machine too.
const SOON: Duration = Duration::from_millis(250);

/// How long clients that are told to stop may take: each step of a call has a second.
const STOP: Duration = Duration::from_secs(5);

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
    fn one_slow_call_of_few_is_no_percentile() {
        let during = Window { from: Duration::ZERO, to: Duration::from_secs(1) };
        let calls = |slow: u64| {
            let of = |at: u64| record(at * 20, at * 20 + if at < slow { 300 } else { 1 }, End::Right);
            share(&(0..36).map(of).collect::<Vec<_>>(), Class::Busy, during).p99
        };
        assert_eq!((calls(1), calls(4)), (Duration::from_millis(1), Duration::from_millis(300)));
    }

    #[test]
    fn a_record_is_written_and_read() {
        let mut lost = record(1_500, 2_000, End::Lost);
        lost.told = "it says\n\"no\"".to_string();
        let line = lost.to_line();
        lost.told = "it says \"no\"".to_string();
        assert_eq!(Record::of_line(line.trim_end_matches('\n')), Some(lost));
        assert_eq!(Record::of_line("busy 1 2 Late x"), None);
    }
}
