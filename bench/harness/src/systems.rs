//! The systems under measurement: which program, what it is called in tables, which version it is.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::machine::{locked, said};

/// A contender, by its name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct System {
    pub(crate) name: &'static str,
    pub(crate) label: &'static str,
    pub(crate) program: Program,
    /// The crate whose version counts.
    pub(crate) package: Option<&'static str>,
}

/// The program that a contender is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Limits,
    Ours,
    Neighbours,
    Python,
    Node,
}

/// All of them. Names of limits and of ours are also those of rows.
const SYSTEMS: &[System] = &[
    limit("raw", "raw socket, blocking"),
    limit("raw-tokio", "raw socket, tokio"),
    limit("raw-tokio-idle", "raw socket, tokio"),
    limit("raw-connect", "raw accept loop"),
    limit("raw-connect-2", "raw, 2 acceptors"),
    limit("raw-connect-8", "raw, 8 acceptors"),
    limit("raw-pipelined", "raw socket, 64 in one write"),
    limit("same-work", "same work, blocking"),
    limit("raw-bulk", "raw socket, default buffers"),
    limit("raw-bulk-tuned", "raw socket, larger buffers"),
    limit("same-work-bulk", "same work, our buffers"),
    ours("blocking", "ProcBridge blocking"),
    ours("blocking-value", "ProcBridge blocking, as Value"),
    ours("blocking-text", "ProcBridge blocking, text"),
    ours("blocking-classic", "ProcBridge blocking, classic"),
    ours("blocking-spin", "ProcBridge blocking, spinning"),
    ours("blocking-first", "ProcBridge blocking, new session"),
    ours("blocking-beside", "ProcBridge blocking, same session"),
    ours("blocking-idle", "ProcBridge blocking"),
    ours("tokio", "ProcBridge tokio"),
    ours("tokio-value", "ProcBridge tokio, as Value"),
    ours("tokio-text", "ProcBridge tokio, text"),
    ours("tokio-classic", "ProcBridge tokio, classic"),
    ours("tokio-beside", "ProcBridge tokio, same session"),
    ours("tokio-idle", "ProcBridge tokio"),
    neighbour("capnp", "capnp-rpc", "capnp-rpc"),
    neighbour("hyper", "hyper HTTP/1.1", "hyper"),
    neighbour("jsonrpsee-ws", "jsonrpsee WebSocket", "jsonrpsee"),
    neighbour("jsonrpsee-http", "jsonrpsee HTTP", "jsonrpsee"),
    neighbour("libzmq", "libzmq (zmq)", "zmq"),
    neighbour("nats", "NATS (async-nats)", "async-nats"),
    neighbour("nng", "nng", "nng"),
    neighbour("tarpc-json", "tarpc JSON", "tarpc"),
    neighbour("tarpc-json-raw", "tarpc JSON, text", "tarpc"),
    neighbour("tarpc-bincode", "tarpc bincode", "tarpc"),
    neighbour("tonic", "tonic gRPC", "tonic"),
    neighbour("zeromq", "zeromq (pure Rust)", "zeromq"),
    neighbour("zlink", "zlink (Varlink)", "zlink"),
    neighbour("capnp-raw", "capnp-rpc, bytes", "capnp-rpc"),
    neighbour("hyper-raw", "hyper HTTP/1.1, bytes", "hyper"),
    neighbour("libzmq-raw", "libzmq, bytes", "zmq"),
    neighbour("nng-raw", "nng, bytes", "nng"),
    neighbour("tonic-raw", "tonic gRPC, bytes", "tonic"),
    neighbour("zeromq-raw", "zeromq, bytes", "zeromq"),
    System { name: "python", label: "procbridge for Python", program: Program::Python, package: None },
    System { name: "node", label: "procbridge for Node", program: Program::Node, package: None },
];

const fn limit(name: &'static str, label: &'static str) -> System {
    System { name, label, program: Program::Limits, package: None }
}

const fn ours(name: &'static str, label: &'static str) -> System {
    System { name, label, program: Program::Ours, package: None }
}

const fn neighbour(name: &'static str, label: &'static str, package: &'static str) -> System {
    System { name, label, program: Program::Neighbours, package: Some(package) }
}

/// Returns the system of that name.
pub(crate) fn named(name: &str) -> Option<&'static System> {
    SYSTEMS.iter().find(|system| system.name == name)
}

impl System {
    /// Whether it is built and measured in the quick run too.
    pub(crate) fn is_quick(&self) -> bool {
        matches!(self.program, Program::Limits | Program::Ours)
    }

    /// Returns the command, without its arguments. Programs lie in `built`.
    pub(crate) fn command(&self, built: &Path) -> Command {
        let peers = peers();
        match self.program {
            Program::Limits => Command::new(built.join("limits")),
            Program::Ours => Command::new(built.join("ours")),
            Program::Neighbours => Command::new(built.join("neighbours")),
            Program::Python => {
                let mut command = Command::new(peers.join("py122/bin/python"));
                command.arg("bench/peers/python.py");
                command
            }
            Program::Node => {
                let mut command = Command::new("node");
                command.arg("bench/peers/node.js").env("NODE_PATH", peers.join("node/node_modules"));
                command
            }
        }
    }
}

/// Returns the directory where `scripts/bench` has had the packages of other languages installed.
fn peers() -> PathBuf {
    std::env::var_os("PROCBRIDGE_PEERS").map_or_else(|| PathBuf::from("target/peers"), PathBuf::from)
}

/// Returns names and versions of all neighbours.
pub(crate) fn versions() -> Vec<(String, String)> {
    let mut versions: Vec<(String, String)> = SYSTEMS
        .iter()
        .filter_map(|system| Some((system.package?.to_string(), locked(system.package?)?)))
        .chain(locked("tokio").map(|version| ("tokio".to_string(), version)))
        .collect();
    versions.sort();
    versions.dedup();
    let tools = [
        ("nats-server", said("nats-server", &["--version"])),
        ("python", said(peers().join("py122/bin/python"), &["--version"])),
        ("node", said("node", &["--version"])),
    ];
    versions.extend(tools.into_iter().map(|(name, said)| (name.to_string(), said)));
    versions.push(("procbridge for Python".to_string(), "1.2.2".to_string()));
    versions.push(("procbridge for Node".to_string(), "1.1.1".to_string()));
    versions.retain(|(_, version)| !version.is_empty());
    versions
}
