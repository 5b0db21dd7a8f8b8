//! An attack, and what others may notice of it.

use std::time::Duration;

use crate::field::Field;
use crate::server::{Setting, Target};

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    /// A fact, in words that can be typed.
    pub(crate) name: &'static str,
    /// The faults that it repeats, by their numbers, or `-`.
    pub(crate) faults: &'static str,
    /// The attack itself.
    pub(crate) about: &'static str,
    /// The attack; it returns when it is over and all its sockets are closed.
    pub(crate) attack: fn(&Field<'_>),
    /// The servers that it is run against.
    pub(crate) targets: &'static [Target],
    /// Settings of the server that are not the default.
    pub(crate) settings: &'static [Setting],
    /// The most descriptors that the server may have.
    pub(crate) files: Option<u64>,
    /// Whether the honest clients' TCP connections come from another address than the attackers'. A server cannot tell
    /// them from these otherwise, and they have one share.
    pub(crate) is_apart: bool,
    /// Whether it belongs to the short form.
    pub(crate) is_short: bool,
    /// How long it goes on before it is measured: what a server does about it may take a time that is documented.
    pub(crate) lead: Duration,
    /// How long it is measured, in the full and the short form.
    pub(crate) time: (Duration, Duration),
    pub(crate) bounds: Bounds,
}

/// The bounds that must hold during and after an attack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The least part of its goodput that each class of clients keeps.
    pub(crate) goodput: f64,
    /// The p99 of each class may double, or be as long as this.
    pub(crate) p99: Duration,
    /// Resident memory beyond that before, at its peak, in MiB.
    pub(crate) memory: f64,
    /// The same once all attackers are gone.
    pub(crate) memory_after: f64,
    /// Descriptors at their peak.
    pub(crate) descriptors: usize,
    /// Threads at their peak, of a blocking server. A tokio server has at most [`TOKIO_THREADS`].
    pub(crate) threads: usize,
    /// Processors that the server uses more than before.
    pub(crate) cores: f64,
    /// From the end of the attack to the last call that was not answered right and soon.
    pub(crate) recovery: Duration,
    /// From the end of the attack until memory, descriptors and threads are back.
    pub(crate) rest: Duration,
}

/// The bounds unless a scenario says otherwise.
pub(crate) const BOUNDS: Bounds = Bounds {
    goodput: 0.8,
    p99: Duration::from_millis(25),
    memory: 64.0,
    memory_after: 24.0,
    descriptors: 700,
    threads: 400,
    cores: 2.0,
    recovery: Duration::from_secs(1),
    rest: Duration::from_secs(15),
};

/// Where a scenario begins.
pub(crate) const USUAL: Scenario = Scenario {
    name: "",
    faults: "-",
    about: "",
    attack: |_| {},
    targets: &[Target::Blocking, Target::Tokio],
    settings: &[],
    files: None,
    is_apart: false,
    is_short: true,
    lead: Duration::ZERO,
    time: (Duration::from_millis(2_000), Duration::from_millis(900)),
    bounds: BOUNDS,
};

/// The two faces, and the command line's server.
pub(crate) const ALL_SERVERS: &[Target] = &[Target::Blocking, Target::Tokio, Target::Demo];

/// The command line's server only.
pub(crate) const DEMO: &[Target] = &[Target::Demo];

/// The threads of a tokio server: two workers, and those that read large bodies beside them.
pub(crate) const TOKIO_THREADS: usize = 40;

/// The connections that a tokio server takes, and some more.
pub(crate) const TOKIO_DESCRIPTORS: usize = 4_300;
