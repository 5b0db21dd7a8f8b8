//! The loop of systems without calls: messages go out, answers come back in their order, and what connects the two is
//! up to the user. One thread keeps so many on their way; an answer makes room for the next message.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Instant;

use contender::{Report, Result, Run};
use hdrhistogram::Histogram;

/// A connection on which messages and answers go their own ways.
pub trait Exchange {
    /// Sends so many messages, then waits for at least one answer and takes what else is there. Tells how many came.
    fn exchange(&mut self, messages: usize) -> Result<usize>;
}

/// Calls with `run.in_flight` messages on their way.
pub fn run<E: Exchange>(run: &Run, connect: impl Fn() -> Result<E> + Sync) -> Result<Report> {
    let latencies = Mutex::new(Histogram::<u64>::new_with_max(60_000_000_000, 3)?);
    let one = Run { in_flight: 1, ..run.clone() };
    let mut report = one.batches(|_| {
        let mut exchange = connect()?;
        let mut sent = VecDeque::with_capacity(run.in_flight);
        let mut done = 0;
        let latencies = &latencies;
        Ok(move || {
            let free = run.in_flight - sent.len();
            let now = Instant::now();
            sent.extend(std::iter::repeat_n(now, free));
            let came = exchange.exchange(free)?;
            done += came as u64;
            if done > run.warm {
                let mut latencies = latencies.lock().map_err(|_| "a worker panicked")?;
                for sent in sent.drain(..came) {
                    latencies.saturating_record(u64::try_from(sent.elapsed().as_nanos())?);
                }
            } else {
                sent.drain(..came);
            }
            Ok(came as u64)
        })
    })?;
    // The loop has timed the exchanges, of which each is a part of many calls.
    let latencies = latencies.into_inner().map_err(|_| "a worker panicked")?;
    for (key, part) in [("p50_ns", 0.5), ("p90_ns", 0.9), ("p99_ns", 0.99)] {
        report.put(key, latencies.value_at_quantile(part));
    }
    report.put("max_ns", latencies.max());
    Ok(report)
}
