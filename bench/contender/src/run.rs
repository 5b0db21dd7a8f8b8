//! The measuring loops: connect, warm up, then call for a time or a number of times with so many in flight.

use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

use tokio::task::{JoinSet, LocalSet};

use crate::cpu::{self, Used};
use crate::meter::{End, Meter, SharedMeter};
use crate::report::memory;
use crate::{Endpoint, Error, Payload, Report, Result};

/// The run that the command line asked for.
#[derive(Clone, Debug)]
pub struct Run {
    /// Where the server is.
    pub endpoint: Endpoint,
    /// How many calls are on their way at any time, each of a thread or task of its own.
    pub in_flight: usize,
    /// The payload of every call.
    pub payload: Payload,
    /// How long to call, unless `calls` is set.
    pub time: Duration,
    /// Calls before the measurement, of all workers together.
    pub warm: u64,
    /// Exactly so many calls instead of a time.
    pub calls: Option<u64>,
    /// The server's process, whose processor time is measured too.
    pub server: Option<u32>,
}

/// One worker of an async contender, whose futures may go to any thread.
pub trait Caller: Send + 'static {
    /// Makes one call and takes its answer.
    fn call(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// One worker of an async contender, whose futures stay on the thread.
pub trait LocalCaller: 'static {
    /// Makes one call and takes its answer.
    fn call(&mut self) -> impl Future<Output = Result<()>>;
}

impl Run {
    /// Runs a thread for each call in flight. `connect` is told the worker's number and gives what makes one call.
    ///
    /// # Errors
    ///
    /// The first error of any worker.
    pub fn threads<C, F>(&self, connect: C) -> Result<Report>
    where
        C: Fn(usize) -> Result<F> + Sync,
        F: FnMut() -> Result<()>,
    {
        self.batches(|worker| {
            let mut call = connect(worker)?;
            Ok(move || call().map(|()| 1))
        })
    }

    /// Runs threads as [`Run::threads`] does. `connect` gives what makes many calls at once and tells how many.
    ///
    /// # Errors
    ///
    /// The first error of any worker.
    pub fn batches<C, F>(&self, connect: C) -> Result<Report>
    where
        C: Fn(usize) -> Result<F> + Sync,
        F: FnMut() -> Result<u64>,
    {
        let warm = self.warm.div_ceil(self.in_flight.max(1) as u64);
        if self.in_flight == 1 {
            // On the thread that is there: nothing else has run on it.
            let mut call = connect(0)?;
            let mut meter = Meter::new();
            warm_up(warm, &mut call)?;
            let stage = Stage::begin(self);
            measure(&stage.end, &mut meter, &mut call)?;
            return Ok(stage.report(&meter));
        }
        let warmed = Barrier::new(self.in_flight + 1);
        let begin = Barrier::new(self.in_flight + 1);
        let stage = Mutex::new(None);
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.in_flight)
                .map(|worker| {
                    let (warmed, begin, stage, connect) = (&warmed, &begin, &stage, &connect);
                    scope.spawn(move || {
                        let prepared = connect(worker).and_then(|mut call| {
                            warm_up(warm, &mut call)?;
                            Ok((call, Meter::new()))
                        });
                        warmed.wait();
                        begin.wait();
                        let (mut call, mut meter) = prepared?;
                        let end = lock(stage).as_ref().map(|stage: &Stage| Arc::clone(&stage.end));
                        let end = end.ok_or("no end")?;
                        measure(&end, &mut meter, &mut call)?;
                        Ok::<Meter, Error>(meter)
                    })
                })
                .collect();
            warmed.wait();
            *lock(&stage) = Some(Stage::begin(self));
            begin.wait();
            let mut sum = Meter::new();
            let mut failed = None;
            for worker in workers {
                match worker.join().map_err(|_| "a worker panicked")? {
                    Ok(meter) => {
                        sum.latencies.add(&meter.latencies)?;
                        sum.calls += meter.calls;
                    }
                    Err(error) => failed = Some(error),
                }
            }
            let stage = lock(&stage).take().ok_or("no measurement")?;
            match failed {
                Some(error) => Err(error),
                None => Ok(stage.report(&sum)),
            }
        })
    }

    /// Runs one worker that times its own work: only the times that it returns count.
    ///
    /// # Errors
    ///
    /// The worker's.
    pub fn timed(&self, mut work: impl FnMut() -> Result<Duration>) -> Result<Report> {
        for _ in 0..self.warm {
            work()?;
        }
        let mut meter = Meter::new();
        let stage = Stage::begin(self);
        let mut now = Instant::now();
        while stage.end.allows(now) {
            now = meter.lasted(work()?);
        }
        Ok(stage.report(&meter))
    }

    /// Opens `in_flight` connections that then do nothing, and tells what each of them costs in resident memory.
    ///
    /// # Errors
    ///
    /// The first error in connecting.
    pub fn idle<A>(&self, mut connect: impl FnMut(usize) -> Result<A>) -> Result<Report> {
        let server = self.server.ok_or("--server is needed to see its memory")?.to_string();
        let resident = || (memory("self", "VmRSS"), memory(&server, "VmRSS"));
        // The first one brings what all of them share.
        let mut connections = vec![connect(0)?];
        let before = resident();
        for number in 1..=self.in_flight {
            connections.push(connect(number)?);
        }
        // After this time, either side has done what it does when a connection has been quiet for a moment.
        std::thread::sleep(Duration::from_millis(500));
        let after = resident();
        let each = |before: u64, after: u64| {
            after.saturating_sub(before) as f64 * 1024.0 / self.in_flight.max(1) as f64
        };
        let mut report = Report::empty();
        report.put("connections", self.in_flight);
        report.put("client_bytes_each", each(before.0, after.0));
        report.put("server_bytes_each", each(before.1, after.1));
        report.put("server_rss_kib", after.1);
        Ok(report)
    }

    /// Runs a task for each call in flight, all on one thread. `connect` is told the worker's number; the callers are
    /// made one after the other.
    ///
    /// # Errors
    ///
    /// The first error of any worker.
    pub fn tasks<C, F, A>(&self, connect: C) -> Result<Report>
    where
        C: Fn(usize) -> F,
        F: Future<Output = Result<A>>,
        A: Caller,
    {
        current_thread()?.block_on(self.measured(connect, |tasks, mut caller, end, meter| {
            tasks.spawn(async move {
                repeat(&end, &meter, &mut caller).await?;
                Ok(caller)
            });
        }))
    }

    /// Runs tasks as [`Run::tasks`] does, for futures that are not `Send`.
    ///
    /// # Errors
    ///
    /// The first error of any worker.
    pub fn local_tasks<C, F, A>(&self, connect: C) -> Result<Report>
    where
        C: Fn(usize) -> F,
        F: Future<Output = Result<A>>,
        A: LocalCaller,
    {
        let measured = self.measured(connect, |tasks, mut caller, end, meter| {
            tasks.spawn_local(async move {
                repeat_local(&end, &meter, &mut caller).await?;
                Ok(caller)
            });
        });
        LocalSet::new().block_on(&current_thread()?, measured)
    }

    /// Warms up, then measures. `start` adds the task of a caller, which calls until the end and gives it back.
    async fn measured<C, F, A>(
        &self,
        connect: C,
        start: impl Fn(&mut JoinSet<Result<A>>, A, Arc<End>, Arc<SharedMeter>),
    ) -> Result<Report>
    where
        C: Fn(usize) -> F,
        F: Future<Output = Result<A>>,
        A: 'static,
    {
        let meter = Arc::new(SharedMeter::new());
        let warm = Arc::new(End::new(Duration::ZERO, Some(self.warm)));
        let mut callers = Vec::new();
        for worker in 0..self.in_flight {
            callers.push(connect(worker).await?);
        }
        let call = async |callers: Vec<A>, end: &Arc<End>| {
            let mut tasks = JoinSet::new();
            callers
                .into_iter()
                .for_each(|caller| start(&mut tasks, caller, Arc::clone(end), Arc::clone(&meter)));
            all(tasks).await
        };
        let callers = call(callers, &warm).await?;
        meter.take();
        let stage = Stage::begin(self);
        call(callers, &stage.end).await?;
        Ok(stage.report(&meter.take()))
    }
}

/// The measured part of a run, from its beginning.
struct Stage {
    end: Arc<End>,
    begun: Instant,
    own: Duration,
    server: Option<(u32, Used)>,
}

impl Stage {
    fn begin(run: &Run) -> Self {
        // The peak is that of the measured part. Where it cannot be set back it is that of the whole run.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        let server = run.server.map(|process| (process, Used::by(process)));
        let own = cpu::own();
        Self { end: Arc::new(End::new(run.time, run.calls)), begun: Instant::now(), own, server }
    }

    fn report(&self, meter: &Meter) -> Report {
        let elapsed = self.begun.elapsed();
        let own = cpu::own().saturating_sub(self.own);
        let server = self.server.map(|(process, before)| Used::by(process).since(before));
        Report::new(meter, elapsed, own, server)
    }
}

fn warm_up(calls: u64, call: &mut impl FnMut() -> Result<u64>) -> Result<()> {
    let mut done = 0;
    while done < calls {
        done += call()?.max(1);
    }
    Ok(())
}

fn measure(end: &End, meter: &mut Meter, call: &mut impl FnMut() -> Result<u64>) -> Result<()> {
    meter.begin();
    let mut now = Instant::now();
    while end.allows(now) {
        let calls = call()?;
        now = meter.ended(calls);
    }
    Ok(())
}

async fn repeat(end: &End, meter: &SharedMeter, caller: &mut impl Caller) -> Result<()> {
    let mut now = Instant::now();
    while end.allows(now) {
        caller.call().await?;
        now = meter.ended(now);
    }
    Ok(())
}

async fn repeat_local(end: &End, meter: &SharedMeter, caller: &mut impl LocalCaller) -> Result<()> {
    let mut now = Instant::now();
    while end.allows(now) {
        caller.call().await?;
        now = meter.ended(now);
    }
    Ok(())
}

async fn all<A: 'static>(mut tasks: JoinSet<Result<A>>) -> Result<Vec<A>> {
    let mut callers = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        callers.push(ended??);
    }
    Ok(callers)
}

fn current_thread() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
