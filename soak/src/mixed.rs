//! Callers that keep the rules: calls of all sorts, each of which has to come back with its own number.

use std::thread;
use std::time::Duration;

use procbridge::{ClientConfig, Endpoint, Error, SessionMode};

use crate::caller::{Caller, Face};
use crate::crowd::Work;
use crate::tally::End;

/// Clients one after the other, each shared by some threads.
pub(crate) fn clients(face: Face, at: &Endpoint, config: &ClientConfig, threads: usize, mut work: Work) {
    while !work.is_over() {
        let caller = Caller::new(face, at, config.clone());
        let calls = work.dice.below(1000);
        thread::scope(|scope| {
            for _ in 0..threads {
                let (caller, mut work) = (&caller, work.split());
                scope.spawn(move || {
                    for _ in 0..calls {
                        if work.is_over() {
                            break;
                        }
                        one(caller, &mut work);
                        work.pause(5);
                    }
                });
            }
        });
    }
}

/// Makes some call.
fn one(caller: &Caller, work: &mut Work) {
    match work.dice.below(20) {
        0..11 => {
            let size = work.dice.below(2000);
            ask(caller, "echo", size, LONG, work);
        }
        11 => {
            let size = work.dice.below(200_000);
            ask(caller, "echo", size, LONG, work);
        }
        12 | 13 => {
            let limit = Duration::from_millis(1 + work.dice.below(80) as u64);
            ask(caller, "slow", 10, limit, work);
        }
        14 => give_up(caller, work),
        15 | 16 => stream(caller, 100, 100, work),
        17 | 18 => tell(caller, work),
        _ => unwilling(caller, work),
    }
}

/// Calls and streams with much in them.
pub(crate) fn large(face: Face, at: &Endpoint, mut work: Work) {
    while !work.is_over() {
        let sessions = if work.dice.below(4) == 0 { SessionMode::Off } else { SessionMode::Auto };
        let caller = Caller::new(face, at, ClientConfig::new().with_sessions(sessions));
        for _ in 0..10 {
            if work.is_over() {
                return;
            }
            let size = (1 << 20) + work.dice.below(3 << 20);
            match work.dice.below(3) {
                0 => stream(&caller, 4, size, &mut work),
                _ => ask(&caller, "echo", size, LONG, &mut work),
            }
            work.pause(300);
        }
    }
}

fn ask(caller: &Caller, method: &str, size: usize, limit: Duration, work: &mut Work) {
    let payload = (work.number(), work.dice.text(size));
    match caller.ask(method, &payload, limit) {
        Ok(answer) => {
            assert!(answer == payload, "call {} was answered with {}", payload.0, answer.0);
            work.tally.end(payload.0, End::Answered);
        }
        Err(error) => failed(payload.0, &error, work),
    }
}

/// Makes a call that its caller gives up.
fn give_up(caller: &Caller, work: &mut Work) {
    let payload = (work.number(), work.dice.text(10));
    let patience = Duration::from_millis(1 + work.dice.below(60) as u64);
    match caller.ask_briefly("slow", &payload, patience) {
        Some(Ok(answer)) => {
            assert!(answer == payload, "call {} was answered with {}", payload.0, answer.0);
            work.tally.end(payload.0, End::Answered);
        }
        Some(Err(error)) => failed(payload.0, &error, work),
        None => work.tally.end(payload.0, End::Left),
    }
}

fn stream(caller: &Caller, most: usize, size: usize, work: &mut Work) {
    let wanted = (work.number(), work.dice.below(most), size);
    let take = work.dice.below(2 * most).min(wanted.1);
    let result = caller.stream(&wanted, take, |n, (number, item, text)| {
        assert_eq!((number, item, text.len()), (wanted.0, n, size));
    });
    match result {
        Ok(Some(number)) => {
            assert_eq!(number.unwrap_or(wanted.0), wanted.0);
            work.tally.end(wanted.0, End::Answered);
        }
        Ok(None) => work.tally.end(wanted.0, End::Left),
        Err(error) => failed(wanted.0, &error, work),
    }
}

fn tell(caller: &Caller, work: &mut Work) {
    let payload = (work.number(), work.dice.text(100));
    match caller.tell("told", &payload) {
        Ok(()) => work.tally.end(payload.0, End::Left),
        Err(error) => failed(payload.0, &error, work),
    }
}

/// Makes a call that the method refuses, with the call's number.
fn unwilling(caller: &Caller, work: &mut Work) {
    let payload = (work.number(), work.dice.text(100));
    let error = match caller.ask("unwilling", &payload, LONG) {
        Ok(answer) => panic!("call {} was answered with {}", payload.0, answer.0),
        Err(error) => error,
    };
    if let Some(remote) = error.remote().filter(|remote| remote.code() == Some("unwilling")) {
        assert_eq!(remote.message(), payload.0.to_string());
    }
    failed(payload.0, &error, work);
}

fn failed(number: u64, error: &Error, work: &mut Work) {
    work.tally.error(number, error);
    // As long as no server listens, all workers would be back at once.
    if error.remote().is_none() && !error.is_timeout() {
        work.pause(20);
    }
}

/// A timeout that no call here reaches.
const LONG: Duration = Duration::from_secs(30);
