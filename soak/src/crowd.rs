//! All who use the server at the same time.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use procbridge::{ClientConfig, Codec, Endpoint, SessionMode};

use crate::caller::{Caller, Face};
use crate::dice::Dice;
use crate::tally::Tally;
use crate::{mixed, rude};

/// The clients of a server at some endpoints.
#[derive(Debug)]
pub(crate) struct Crowd {
    face: Face,
    endpoints: Vec<String>,
    pub(crate) tally: Arc<Tally>,
    pub(crate) failures: Vec<String>,
    /// The number of the next call.
    next: Arc<AtomicU64>,
    seed: u64,
    callers: Group,
    /// They go on as long as a subscriber waits for an event.
    publishers: Group,
}

/// Threads that stop together.
#[derive(Debug, Default)]
struct Group {
    stop: Arc<AtomicBool>,
    threads: Vec<(String, JoinHandle<()>)>,
}

impl Crowd {
    pub(crate) fn new(face: Face, endpoints: Vec<String>) -> Self {
        Self {
            face,
            endpoints,
            tally: Arc::default(),
            failures: Vec::new(),
            next: Arc::new(AtomicU64::new(1)),
            seed: 1,
            callers: Group::default(),
            publishers: Group::default(),
        }
    }

    /// Works for a time, and then is gone.
    pub(crate) fn work(&mut self, time: Duration) {
        self.work_on(time);
        self.finish();
    }

    /// Works for a time, and does not end.
    pub(crate) fn work_on(&mut self, time: Duration) {
        if self.callers.threads.is_empty() {
            self.begin();
        }
        thread::sleep(time);
    }

    /// Ends all work, and checks that it ends.
    pub(crate) fn finish(&mut self) {
        self.failures.extend(self.callers.finish());
        self.failures.extend(self.publishers.finish());
        let (begun, ended) = (self.next.load(Ordering::Relaxed) - 1, self.tally.count());
        if begun != ended {
            self.failures.push(format!("{begun} calls were begun, and {ended} ended"));
        }
    }

    fn begin(&mut self) {
        let face = self.face;
        for place in self.endpoints.clone() {
            let endpoint: Endpoint = place.parse().unwrap();
            let codec = if place.starts_with("unix") { Codec::Zstd } else { Codec::Lz4 };
            let plain = ClientConfig::new;
            for (name, config, callers) in [
                ("sessions", plain(), 4),
                ("classic", plain().with_sessions(SessionMode::Off), 2),
                ("compressed", plain().with_compression(codec), 1),
            ] {
                self.spawn(&format!("{name} {place}"), &endpoint, move |at, work| {
                    mixed::clients(face, at, &config, callers, work);
                });
            }
            self.spawn(&format!("large {place}"), &endpoint, move |at, work| mixed::large(face, at, work));
            self.spawn(&format!("events {place}"), &endpoint, move |at, work| events(face, at, work));
            self.spawn(&format!("by hand {place}"), &endpoint, rude::sessions);
            self.spawn(&format!("garbage {place}"), &endpoint, rude::garbage);
            let place = place.clone();
            self.spawn(&format!("killed {place}"), &endpoint, move |_, work| killed(face, &place, work));
        }
        let endpoint: Endpoint = self.endpoints[0].parse().unwrap();
        let stop = self.publishers.stop.clone();
        let publisher = thread::spawn(move || publish(face, &endpoint, &stop));
        self.publishers.threads.push(("publisher".into(), publisher));
    }

    fn spawn(&mut self, name: &str, at: &Endpoint, work: impl FnOnce(&Endpoint, Work) + Send + 'static) {
        self.seed += 1;
        let (tally, next, stop) = (self.tally.clone(), self.next.clone(), self.callers.stop.clone());
        let (at, dice) = (at.clone(), Dice::new(self.seed));
        let thread = thread::spawn(move || work(&at, Work { tally, next, stop, dice }));
        self.callers.threads.push((name.into(), thread));
    }
}

/// The state that a worker needs.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) tally: Arc<Tally>,
    next: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    pub(crate) dice: Dice,
}

impl Work {
    /// Returns work of its own, without an end.
    pub(crate) fn alone(first: u64) -> Self {
        let next = Arc::new(AtomicU64::new(first));
        Self { tally: Arc::default(), next, stop: Arc::default(), dice: Dice::new(first) }
    }

    /// Returns the same for another worker.
    pub(crate) fn split(&mut self) -> Self {
        let dice = Dice::new(self.dice.below(usize::MAX) as u64);
        Self { tally: self.tally.clone(), next: self.next.clone(), stop: self.stop.clone(), dice }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Returns a number for a call.
    pub(crate) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Waits up to so many milliseconds.
    pub(crate) fn pause(&mut self, most: usize) {
        thread::sleep(Duration::from_micros(self.dice.below(1000 * most) as u64));
    }
}

impl Group {
    fn finish(&mut self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let (began, mut failures) = (Instant::now(), Vec::new());
        for (name, thread) in self.threads.drain(..) {
            while !thread.is_finished() && began.elapsed() < STUCK {
                thread::sleep(Duration::from_millis(1));
            }
            if !thread.is_finished() {
                failures.push(format!("{name} does not come to an end"));
            } else if thread.join().is_err() {
                failures.push(format!("{name} has panicked"));
            }
        }
        self.stop.store(false, Ordering::Relaxed);
        failures
    }
}

/// Subscribes: events come in their order, and none twice.
fn events(face: Face, at: &Endpoint, mut work: Work) {
    while !work.is_over() {
        let caller = Caller::new(face, at, ClientConfig::new());
        let (mut left, mut last) = (1 + work.dice.below(2000), 0);
        let ended = caller.subscribe("tick.*", |event| {
            let number: u64 = event.payload().unwrap();
            assert!(number > last, "event {number} behind {last}");
            assert_eq!(event.topic(), if number.is_multiple_of(2) { "tick.even" } else { "tick.odd" });
            work.tally.event();
            (last, left) = (number, left - 1);
            left > 0 && !work.is_over()
        });
        // While there is no server, it cannot begin.
        if ended.is_err() {
            work.pause(50);
        }
    }
}

/// Publishes ascending numbers.
fn publish(face: Face, at: &Endpoint, stop: &AtomicBool) {
    let caller = Caller::new(face, at, ClientConfig::new());
    let mut number = 2;
    while !stop.load(Ordering::Relaxed) {
        let _ = caller.publish(number);
        number += 2;
        thread::sleep(Duration::from_millis(5));
    }
}

/// Programs that make calls and are killed while they do.
fn killed(face: Face, place: &str, mut work: Work) {
    while !work.is_over() {
        let number = FOR_THE_KILLED * (1 + PROGRAMS.fetch_add(1, Ordering::Relaxed));
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["call", &face.to_string(), place, &number.to_string()])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        work.pause(3000);
        assert_eq!(child.try_wait().unwrap(), None, "it calls until it is killed");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// Programs that were started to be killed.
static PROGRAMS: AtomicU64 = AtomicU64::new(0);

/// Each of them has so many numbers for its calls, apart from all others.
const FOR_THE_KILLED: u64 = 1 << 32;

/// The longest time for the last calls, which have a timeout of 30 s.
const STUCK: Duration = Duration::from_secs(60);
