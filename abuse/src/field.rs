//! Where an attack takes place: its server, its time, its threads, and what it finds out.

use std::io;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::ClockId;

use crate::connection::{At, Session};
use crate::server::Server;

/// The state that attackers have and share.
#[derive(Debug)]
pub(crate) struct Field<'a> {
    pub(crate) server: &'a Server,
    /// When the attack is over.
    pub(crate) until: Instant,
    /// Whether it is the short form.
    pub(crate) is_short: bool,
    facts: Mutex<Vec<Fact>>,
    cpu: Mutex<Duration>,
}

/// Something that an attack found out, and what it may be.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
    pub(crate) bound: Bound,
}

/// The values that a figure may have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Bound {
    pub(crate) fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }
}

impl<'a> Field<'a> {
    pub(crate) fn new(server: &'a Server, until: Instant, is_short: bool) -> Self {
        Self { server, until, is_short, facts: Mutex::default(), cpu: Mutex::default() }
    }

    pub(crate) fn unix(&self) -> &At {
        &self.server.unix
    }

    pub(crate) fn tcp(&self) -> &At {
        &self.server.tcp
    }

    /// Returns one of the two transports, in turn.
    pub(crate) fn either(&self, turn: usize) -> &At {
        if turn.is_multiple_of(2) { self.unix() } else { self.tcp() }
    }

    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Sleeps, but not beyond the end.
    pub(crate) fn sleep(&self, time: Duration) {
        thread::sleep(time.min(self.until.saturating_duration_since(Instant::now())));
    }

    /// Sleeps until the end.
    pub(crate) fn hold(&self) {
        self.sleep(Duration::MAX);
    }

    /// Returns the full figure, or the smaller one in the short form.
    pub(crate) fn scaled(&self, full: usize, short: usize) -> usize {
        if self.is_short { short } else { full }
    }

    /// Does something so many times a second until the end, or until it fails.
    pub(crate) fn at_rate(
        &self,
        a_second: u32,
        mut act: impl FnMut(usize) -> io::Result<()>,
    ) -> io::Result<()> {
        let period = Duration::from_secs(1) / a_second;
        let mut next = Instant::now();
        let mut turn = 0;
        loop {
            if self.is_over() {
                return Ok(());
            }
            act(turn)?;
            turn += 1;
            // Actions for which there was no time are left out.
            next = (next + period).max(Instant::now().checked_sub(Duration::from_millis(20)).unwrap_or(next));
            self.sleep(next.saturating_duration_since(Instant::now()));
        }
    }

    /// Does the same, where a failure has been dealt with.
    pub(crate) fn steadily(&self, a_second: u32, act: impl FnMut(usize) -> io::Result<()>) {
        let _ = self.at_rate(a_second, act);
    }

    /// Lets so many threads attack until all are done.
    pub(crate) fn crowd(&self, threads: usize, attack: impl Fn(usize) + Sync) {
        thread::scope(|scope| {
            for number in 0..threads {
                let attack = &attack;
                scope.spawn(move || self.attacker(|| attack(number)));
            }
        });
    }

    /// Lets so many threads attack until the end, each again and again on a session of its own.
    pub(crate) fn sessions(
        &self,
        threads: usize,
        attack: impl Fn(usize, &mut Session) -> io::Result<()> + Sync,
    ) {
        self.crowd(threads, |number| {
            while !self.is_over() {
                let attacked =
                    self.either(number).session().and_then(|mut session| attack(number, &mut session));
                // Those that are refused or ended come back, ten times a second.
                if attacked.is_err() {
                    self.sleep(Duration::from_millis(100));
                }
            }
        });
    }

    /// Opens as many sessions as it gets, up to so many, on both transports.
    pub(crate) fn open_sessions(&self, most: usize) -> Vec<Session> {
        (0..most)
            .take_while(|_| !self.is_over())
            .filter_map(|turn| self.either(turn).session().ok())
            .collect()
    }

    /// Runs on this thread as an attacker: behind others for the processor, with its time taken.
    pub(crate) fn attacker(&self, attack: impl FnOnce()) {
        let _ = rustix::process::setpriority_process(None, NICE);
        attack();
        let time = rustix::time::clock_gettime(ClockId::ThreadCPUTime);
        let used = Duration::try_from(time).unwrap_or_default();
        *self.cpu.lock().unwrap() += used;
    }

    /// Notes a figure that must not pass `most`.
    pub(crate) fn at_most(&self, name: &'static str, value: f64, most: f64) {
        self.note(name, value, Bound::AtMost(most));
    }

    /// Notes a figure that must reach `least`.
    pub(crate) fn at_least(&self, name: &'static str, value: f64, least: f64) {
        self.note(name, value, Bound::AtLeast(least));
    }

    /// Notes a figure without a bound.
    pub(crate) fn tell(&self, name: &'static str, value: f64) {
        self.note(name, value, Bound::AtLeast(0.0));
    }

    fn note(&self, name: &'static str, value: f64, bound: Bound) {
        self.facts.lock().unwrap().push(Fact { name, value, bound });
    }

    /// Returns the findings, and the processor time of all attackers.
    pub(crate) fn findings(self) -> (Vec<Fact>, Duration) {
        (self.facts.into_inner().unwrap(), self.cpu.into_inner().unwrap())
    }
}

/// Keeps a share of the processors busy, at the attackers' priority, until the end.
pub(crate) fn neutral_load(cores: f64, until: Instant) {
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(move || {
                let _ = rustix::process::setpriority_process(None, NICE);
                let busy = PERIOD.mul_f64((cores / 2.0).clamp(0.0, 1.0));
                while Instant::now() < until {
                    let began = Instant::now();
                    while began.elapsed() < busy {
                        std::hint::spin_loop();
                    }
                    thread::sleep(PERIOD.saturating_sub(began.elapsed()));
                }
            });
        }
    });
}

/// How far attackers stand back for the processor.
const NICE: i32 = 10;

/// A turn of the neutral load.
const PERIOD: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_up_to_the_figure_itself() {
        assert!(Bound::AtMost(3.0).holds(3.0) && !Bound::AtMost(3.0).holds(3.1));
        assert!(Bound::AtLeast(3.0).holds(3.0) && !Bound::AtLeast(3.0).holds(2.9));
    }
}
