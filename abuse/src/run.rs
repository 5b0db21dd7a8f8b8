//! One scenario on one server: clients alone, clients beside the attack, clients afterwards, and the server at rest.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crate::field::{self, Field};
use crate::honest::Honest;
use crate::process::{self, Figures, Watch};
use crate::scenario::Scenario;
use crate::server::{Server, Target};
use crate::statistics::{Oversleep, Window};
use crate::verdict::Measured;

/// Runs it.
///
/// The reference for goodput and p99 is the time just before the attack. Where that comparison breaks a bound, attackers
/// may have taken a tenth of a processor or more. The clients are then measured again afterwards, beside a load that
/// takes as much processor at the same priority, and that is the reference. Attackers are on this machine, and the
/// processor time that they take from the clients is not the server's doing.
pub(crate) fn run(scenario: &Scenario, target: Target, is_short: bool) -> io::Result<Measured> {
    let server = Server::start(target, scenario.settings, scenario.files)?;
    let pid = server.pid();
    server.is_right()?;
    let mut honest = Honest::start(&server, scenario.is_apart)?;
    let (alone, length) = if is_short { (SHORT_ALONE, scenario.time.1) } else { (ALONE, scenario.time.0) };
    let length = scenario.lead + length;
    thread::sleep(WARM_UP);

    let first = Figures::of(pid)?;
    let before = measure(&honest, || thread::sleep(alone));
    let at_start = Figures::of(pid)?;

    process::forget_peak(pid);
    let watch = Watch::begin(pid);
    let oversleep = Oversleep::begin();
    let attack = Field::new(&server, Instant::now() + length, is_short);
    let from = honest.now();
    thread::scope(|scope| {
        scope.spawn(|| attack.attacker(|| (scenario.attack)(&attack)));
    });
    let over = honest.now();
    let oversleep = oversleep.end();
    // An attack that ends earlier or later than it should is measured for as long as it lasts.
    let window = Window {
        from: from + scenario.lead,
        to: over.min(from + length).max(from + scenario.lead + alone.min(length)),
    };
    let at_end = Figures::of(pid)?;
    let (descriptors, threads) = watch.end();
    let (facts, attackers) = attack.findings();

    let calm = window.to.max(over) + CALM;
    let recovery = loop {
        thread::sleep(Duration::from_millis(50));
        let (now, trouble) = (honest.now(), honest.last_trouble(over));
        if now > calm && trouble.is_none_or(|trouble| now > trouble + CALM) || now > over + LOST {
            break trouble.map_or(Duration::ZERO, |trouble| trouble.saturating_sub(over));
        }
    };
    let cores = |from: &Figures, to: &Figures, window: Window| {
        to.cpu.saturating_sub(from.cpu).as_secs_f64() / window.seconds()
    };
    let whole = Window { from, to: over };
    let mut measured = Measured {
        during: honest.shares(window),
        is_beside_load: false,
        before: at_start,
        peak_kib: at_end.peak_kib,
        descriptors,
        threads,
        cores: [
            cores(&first, &at_start, before),
            cores(&at_start, &at_end, whole),
            attackers.as_secs_f64() / whole.seconds(),
        ],
        recovery,
        oversleep,
        rest: None,
        after: at_end,
        complaint: honest.complaint(window),
        wrong: None,
        stopped: None,
        facts,
        reference: honest.shares(before),
    };
    let [_, _, taken] = measured.cores;
    if taken >= 0.1 && !measured.breaches_of_service(scenario).is_empty() {
        let beside = measure(&honest, || {
            field::neutral_load(taken, Instant::now() + length.min(Duration::from_secs(3)))
        });
        // The last of them are on their way from the clients' process.
        thread::sleep(CALM);
        (measured.reference, measured.is_beside_load) = (honest.shares(beside), true);
    }
    honest.stop();
    let spare_threads = if is_short { usize::MAX } else { SPARE_THREADS };
    rest(&mut measured, scenario, &server, spare_threads, Instant::now() - (honest.now() - over))?;
    // Some of it is taken when the attackers have gone.
    measured.peak_kib = measured.peak_kib.max(measured.after.peak_kib);
    measured.wrong = server.is_right().err().map(|error| error.to_string());
    measured.stopped = server.stop(STOP);
    Ok(measured)
}

/// Returns the window in which `wait` returns.
fn measure(honest: &Honest, wait: impl FnOnce()) -> Window {
    let from = honest.now();
    wait();
    Window { from, to: honest.now() }
}

/// Waits until the server holds what it held before.
fn rest(
    measured: &mut Measured,
    scenario: &Scenario,
    server: &Server,
    spare_threads: usize,
    over: Instant,
) -> io::Result<()> {
    let before = measured.before;
    loop {
        measured.after = Figures::of(server.pid())?;
        let now = &measured.after;
        if now.descriptors <= before.descriptors + SPARE_DESCRIPTORS
            && now.threads <= before.threads.saturating_add(spare_threads)
            && measured.memory_after() <= scenario.bounds.memory_after
        {
            measured.rest = Some(over.elapsed());
            return Ok(());
        }
        if over.elapsed() > scenario.bounds.rest {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// The first calls of all clients.
const WARM_UP: Duration = Duration::from_millis(200);

/// How long clients are measured without an attack.
const ALONE: Duration = Duration::from_millis(1_000);
const SHORT_ALONE: Duration = Duration::from_millis(600);

/// Without trouble for so long, the clients are as they were.
const CALM: Duration = Duration::from_millis(300);

/// When no more recovery is waited for.
const LOST: Duration = Duration::from_secs(12);

/// How long an orderly stop may take.
const STOP: Duration = Duration::from_secs(12);

/// A server may keep so much, which is no leak. Blocking servers keep threads for 5 s, for which the short form has no time.
const SPARE_DESCRIPTORS: usize = 4;
const SPARE_THREADS: usize = 12;
