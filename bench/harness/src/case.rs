//! One thing to measure, and the measuring of it once: server and client are started, and ended, for each sample.

use std::cell::Cell;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::child::{Child, Cores};
use crate::results::Sample;
use crate::systems::{self, System};

/// On which cores the two processes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pin {
    /// Both on one core.
    One,
    /// The server on the first core, the client on the second.
    Two,
    /// Where the system puts them.
    Free,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Unix,
    Tcp,
}

/// The load that goes on while the figures are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beside {
    Nothing,
    /// Another client makes calls of 16 MiB, one after the other.
    Bulk,
    /// A process on each core that does nothing but compute.
    Hogs,
}

/// A row of a table: a server and a client, and how they are used.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) label: String,
    pub(crate) server: &'static System,
    pub(crate) client: &'static System,
    pub(crate) transport: Transport,
    pub(crate) in_flight: usize,
    pub(crate) payload: &'static str,
    pub(crate) pin: Pin,
    pub(crate) beside: Beside,
    pub(crate) millis: u64,
    pub(crate) warm: u64,
}

/// Where the programs are and where sockets go.
pub(crate) struct Place {
    pub(crate) built: PathBuf,
    pub(crate) directory: PathBuf,
    sockets: Cell<u32>,
}

impl Place {
    pub(crate) fn new(built: PathBuf) -> Result<Self, String> {
        let directory = std::env::temp_dir().join(format!("procbridge-bench-{}", std::process::id()));
        fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        Ok(Self { built, directory, sockets: Cell::new(0) })
    }

    /// Returns a place to listen that nothing else has used.
    pub(crate) fn endpoint(&self, transport: Transport) -> Result<String, String> {
        match transport {
            Transport::Unix => {
                self.sockets.set(self.sockets.get() + 1);
                Ok(format!("unix:{}/{}", self.directory.display(), self.sockets.get()))
            }
            Transport::Tcp => {
                let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
                Ok(format!("tcp:{}", listener.local_addr().map_err(|error| error.to_string())?))
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Case {
    /// Returns the cores of server and client.
    pub(crate) fn cores(&self) -> (Cores, Cores) {
        match self.pin {
            Pin::One => (Cores::Only(0), Cores::Only(0)),
            Pin::Two => (Cores::Only(0), Cores::Only(1)),
            Pin::Free => (Cores::All, Cores::All),
        }
    }

    /// Starts both sides, measures once, ends both.
    pub(crate) fn measure(&self, place: &Place) -> Result<Sample, String> {
        let endpoint = place.endpoint(self.transport)?;
        let (server_cores, client_cores) = self.cores();
        let serving = arguments(self.server.command(&place.built), "serve", self.server, &endpoint);
        let mut server = Child::start(serving, server_cores, &place.directory)
            .map_err(|error| format!("server: {error}"))?;
        server.wait_ready().map_err(|error| format!("server: {error}"))?;
        let at_rest = resident(server.id(), "VmRSS");
        let _others = self.others(place, &endpoint)?;

        let used = used_by(server.id());
        let mut calling = arguments(self.client.command(&place.built), "call", self.client, &endpoint);
        calling.args(["--payload", self.payload]);
        calling.args(["--in-flight", &self.in_flight.to_string(), "--millis", &self.millis.to_string()]);
        calling.args(["--warm", &self.warm.to_string(), "--server", &server.id().to_string()]);
        let mut client = Child::start(calling, client_cores, &place.directory)
            .map_err(|error| format!("client: {error}"))?;
        let within = Duration::from_millis(self.millis) + Duration::from_secs(20);
        let line = client.line(within).map_err(|error| format!("client: {error}"))?;
        let used = used_by(server.id()).saturating_sub(used);
        client.end();
        let memory = (resident(server.id(), "VmRSS"), resident(server.id(), "VmHWM"));
        server.end();

        let report: Value =
            serde_json::from_str(&line).map_err(|_| format!("client: {line:?} is no result"))?;
        let mut sample = sample(&report, used)?;
        sample.insert("server_rss_kib".to_string(), memory.0);
        sample.insert("server_peak_kib".to_string(), memory.1);
        sample.insert("server_growth_kib".to_string(), memory.1 - at_rest);
        if let (Some(peak), Some(start)) = (sample.get("peak_kib"), sample.get("start_kib")) {
            // The payload that the client sends is its own, and no growth.
            let growth = peak - start - self.payload_bytes() / 1024.0;
            sample.insert("client_growth_kib".to_string(), growth);
        }
        Ok(sample)
    }

    fn payload_bytes(&self) -> f64 {
        match self.payload.strip_suffix('m') {
            Some(mebibytes) => mebibytes.parse::<f64>().unwrap_or(0.0) * 1_048_576.0,
            None => self.payload.parse().unwrap_or(31.0),
        }
    }

    /// Starts the load that goes on beside, for as long as the result is held.
    fn others(&self, place: &Place, endpoint: &str) -> Result<Vec<Child>, String> {
        let mut others = Vec::new();
        match self.beside {
            Beside::Nothing => {}
            Beside::Bulk => {
                let system = systems::named("blocking").unwrap_or(self.client);
                let mut command = arguments(system.command(&place.built), "call", system, endpoint);
                command.args(["--payload", "16m", "--warm", "1", "--millis", "60000"]);
                others.push(Child::start(command, Cores::All, &place.directory)?);
                // Until the first large call is on its way.
                std::thread::sleep(Duration::from_millis(150));
            }
            Beside::Hogs => {
                for core in 0..2 {
                    let mut command =
                        Command::new(std::env::current_exe().map_err(|error| error.to_string())?);
                    command.arg("hog");
                    let mut hog = Child::start(command, Cores::Only(core), &place.directory)?;
                    hog.wait_ready()?;
                    others.push(hog);
                }
            }
        }
        Ok(others)
    }
}

/// Completes a command to `PROGRAM serve|call CONTENDER ENDPOINT`.
pub(crate) fn arguments(mut command: Command, verb: &str, system: &System, endpoint: &str) -> Command {
    command.args([verb, system.name, endpoint]);
    command
}

/// Returns the figures of one line of JSON, those that are per call divided. `used` is the server's processor time,
/// start and warm-up included. It counts for clients that do not measure it themselves.
fn sample(report: &Value, used: Duration) -> Result<Sample, String> {
    let mut sample = Sample::new();
    let figure = |key: &str| report.get(key).and_then(Value::as_f64);
    // Any other figure that a contender reports goes through as it is.
    for (key, value) in report.as_object().ok_or("the result is no object")? {
        if let Some(value) = value.as_f64() {
            sample.insert(key.clone(), value);
        }
    }
    if let (Some(calls), Some(elapsed)) = (figure("calls"), figure("elapsed_ns")) {
        if calls == 0.0 {
            return Err("client: not one call within the time".to_string());
        }
        let client = figure("cpu_us").unwrap_or(0.0) / calls;
        let server = figure("server_cpu_us").unwrap_or(used.as_secs_f64() * 1e6) / calls;
        sample.retain(|key, _| !key.ends_with("_ns") && !key.ends_with("cpu_us"));
        sample.insert("per_second".to_string(), calls * 1e9 / elapsed);
        sample.insert("client_cpu_us".to_string(), client);
        sample.insert("server_cpu_us".to_string(), server);
        sample.insert("cpu_us".to_string(), client + server);
        for (from, to) in
            [("p50_ns", "p50_us"), ("p90_ns", "p90_us"), ("p99_ns", "p99_us"), ("max_ns", "max_us")]
        {
            if let Some(nanoseconds) = figure(from) {
                sample.insert(to.to_string(), nanoseconds / 1000.0);
            }
        }
    }
    Ok(sample)
}

/// Returns a figure in KiB of a process and its children.
fn resident(process: u32, key: &str) -> f64 {
    let mut sum = 0.0;
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    sum += line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0.0);
    for child in children(process) {
        sum += resident(child, key);
    }
    sum
}

/// Returns the processor time of a process and its children, in ticks of 10 ms.
fn used_by(process: u32) -> Duration {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields).split_ascii_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    children(process).into_iter().map(used_by).sum::<Duration>() + Duration::from_millis(ticks * 10)
}

fn children(process: u32) -> Vec<u32> {
    let file = Path::new("/proc").join(process.to_string()).join(format!("task/{process}/children"));
    let text = fs::read_to_string(file).unwrap_or_default();
    text.split_ascii_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// Returns how long something took, for the progress that is shown.
pub(crate) fn seconds(begun: Instant) -> String {
    format!("{:.0} s", begun.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_per_call_and_in_microseconds() {
        let report: Value = serde_json::from_str(
            r#"{"calls":10,"elapsed_ns":1000000,"p50_ns":1500,"cpu_us":50,"server_cpu_us":30,"rss_kib":7}"#,
        )
        .unwrap();
        let sample = sample(&report, Duration::ZERO).unwrap();
        assert_eq!(sample["per_second"], 10_000.0);
        assert_eq!(sample["p50_us"], 1.5);
        assert_eq!(sample["cpu_us"], 8.0);
        assert_eq!(sample["rss_kib"], 7.0);
    }

    #[test]
    fn a_client_that_does_not_look_at_the_server_has_it_from_outside() {
        let report: Value = serde_json::from_str(r#"{"calls":10,"elapsed_ns":1000000,"cpu_us":50}"#).unwrap();
        assert_eq!(sample(&report, Duration::from_micros(100)).unwrap()["server_cpu_us"], 10.0);
    }

    #[test]
    fn no_call_is_no_result() {
        let report: Value = serde_json::from_str(r#"{"calls":0,"elapsed_ns":1000000}"#).unwrap();
        assert!(sample(&report, Duration::ZERO).is_err());
    }
}
