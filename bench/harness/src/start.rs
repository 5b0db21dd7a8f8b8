//! Cold start and size: from the start of a process to its first answer, and how large its file is.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::case::{Place, Transport, arguments};
use crate::child::{Child, Cores, run_on};
use crate::results::{CaseResult, GroupResult, Sample};
use crate::systems;

/// Programs whose start and size are looked at, with their names in tables.
const PROGRAMS: [(&str, &str); 4] = [
    ("min-std", "bare echo, std"),
    ("ours-std", "ProcBridge blocking"),
    ("min-tokio", "bare echo, tokio"),
    ("ours-tokio", "ProcBridge tokio"),
];

/// Their names.
pub(crate) const NAMES: [&str; 4] = ["min-std", "ours-std", "min-tokio", "ours-tokio"];

/// A classic request that all of them answer.
const BODY: &str = r#"{"method":"echo","payload":"hi"}"#;

/// How often each is started. A start takes a few milliseconds.
const ROUNDS: usize = 25;

/// Starts each program `ROUNDS` times in turn and measures until its first answer, all on one core.
pub(crate) fn starts(place: &Place, full: bool, faults: &mut Vec<String>) -> GroupResult {
    eprintln!("start");
    let mut group = GroupResult::new("start", "Cold start to the first answer, Unix socket, one core");
    let mut programs: Vec<(&str, &str)> = PROGRAMS.to_vec();
    if full {
        programs.extend([("python", "procbridge for Python"), ("node", "procbridge for Node")]);
    }
    for (name, label) in &programs {
        let (name, label) = ((*name).to_string(), (*label).to_string());
        group.cases.push(CaseResult { name, label, rounds: vec![None; ROUNDS] });
    }
    for round in 0..ROUNDS {
        for ((name, _), case) in programs.iter().zip(&mut group.cases) {
            match start(place, name) {
                Ok(time) => {
                    let sample = Sample::from([("start_us".to_string(), time.as_secs_f64() * 1e6)]);
                    case.rounds[round] = Some(sample);
                }
                Err(error) if round == 0 => faults.push(format!("start/{name}: {error}")),
                Err(_) => {}
            }
        }
    }
    group
}

fn start(place: &Place, name: &str) -> Result<Duration, String> {
    let endpoint = place.endpoint(Transport::Unix)?;
    let path = endpoint.trim_start_matches("unix:");
    let command = match systems::named(name) {
        Some(system) => arguments(system.command(&place.built), "serve", system, &endpoint),
        None => {
            let mut command = Command::new(smallest(place, name));
            command.arg(path);
            command
        }
    };
    let length = u32::try_from(BODY.len()).map_err(|error| error.to_string())?.to_le_bytes();
    let packet = [b"pb\x01\x01\x00\x00\x00".as_slice(), &length, BODY.as_bytes()].concat();
    let begun = Instant::now();
    let mut server = Child::start(command, Cores::Only(0), &place.directory)?;
    server.wait_ready()?;
    run_on(Cores::Only(0))?;
    let answered = answer(path, &packet);
    let time = begun.elapsed();
    run_on(Cores::All)?;
    answered.map_err(|error| error.to_string())?;
    // The smallest of them do not watch their standard input.
    drop(server);
    Ok(time)
}

/// Returns where one of the smallest programs is. They are built with a profile of their own, beside the others.
fn smallest(place: &Place, name: &str) -> PathBuf {
    place.built.with_file_name("small").join(name)
}

fn answer(path: &str, packet: &[u8]) -> std::io::Result<()> {
    let mut socket = UnixStream::connect(path)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.write_all(packet)?;
    let mut bytes = [0; 256];
    match socket.read(&mut bytes)? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// Returns the sizes of the programs, stripped.
pub(crate) fn sizes(place: &Place, faults: &mut Vec<String>) -> GroupResult {
    let mut group = GroupResult::new("size", "The smallest server, stripped, built for size");
    for (name, label) in PROGRAMS {
        let size = fs::metadata(smallest(place, name)).map(|file| file.len() as f64);
        let sample = size.map(|bytes| Sample::from([("bytes".to_string(), bytes)]));
        group.add_result((name, label), sample.map_err(|error| error.to_string()), faults);
    }
    group
}
