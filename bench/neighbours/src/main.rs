//! Other systems as contenders: the same echo over what others offer. See README.md for versions and configurations.
//!
//! All that runs on tokio runs on its current_thread runtime, at both ends: on two cores that is the fastest for every
//! one of them.

mod content;
mod window;

mod capnp;
mod hyper;
mod jsonrpsee;
mod libzmq;
mod nats;
mod nng;
mod tarpc;
mod tonic;
mod zeromq;
mod zlink;

use std::process::ExitCode;

use contender::{Contender, Endpoint, Result};

use content::Carry;

mod echo_capnp {
    #![allow(unused_qualifications, clippy::all)]
    include!(concat!(env!("OUT_DIR"), "/echo_capnp.rs"));
}

/// A contender that carries bytes, and as `NAME-raw` without a look at them.
macro_rules! bytes {
    ($name:literal, $carry:ident, $module:ident) => {
        Contender {
            name: $name,
            serve: |endpoint| $module::serve(endpoint, Carry::$carry),
            call: |run| $module::call(run, Carry::$carry),
        }
    };
}

fn main() -> ExitCode {
    contender::main(&[
        bytes!("capnp", Tree, capnp),
        bytes!("capnp-raw", Text, capnp),
        bytes!("hyper", Tree, hyper),
        bytes!("hyper-raw", Text, hyper),
        Contender {
            name: "jsonrpsee-ws",
            serve: jsonrpsee::serve,
            call: |run| jsonrpsee::call_ws(run, Carry::Tree),
        },
        Contender {
            name: "jsonrpsee-ws-raw",
            serve: jsonrpsee::serve,
            call: |run| jsonrpsee::call_ws(run, Carry::Text),
        },
        Contender {
            name: "jsonrpsee-http",
            serve: jsonrpsee::serve,
            call: |run| jsonrpsee::call_http(run, Carry::Tree),
        },
        bytes!("libzmq", Tree, libzmq),
        bytes!("libzmq-raw", Text, libzmq),
        bytes!("nats", Tree, nats),
        bytes!("nats-raw", Text, nats),
        bytes!("nng", Tree, nng),
        bytes!("nng-raw", Text, nng),
        Contender { name: "tarpc-json", serve: tarpc::json::serve, call: tarpc::json::call },
        Contender { name: "tarpc-json-raw", serve: tarpc::raw::serve, call: tarpc::raw::call },
        Contender { name: "tarpc-bincode", serve: tarpc::bincode::serve, call: tarpc::bincode::call },
        bytes!("tonic", Tree, tonic),
        bytes!("tonic-raw", Text, tonic),
        bytes!("zeromq", Tree, zeromq),
        bytes!("zeromq-raw", Text, zeromq),
        Contender { name: "zlink", serve: zlink::serve, call: zlink::call },
    ])
}

/// Runs a server on a runtime of this thread.
fn block_on(server: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(server)
}

/// Returns the address, for what has TCP only.
fn tcp_only(endpoint: &Endpoint) -> Result<std::net::SocketAddr> {
    match endpoint {
        Endpoint::Tcp(address) => Ok(*address),
        Endpoint::Unix(_) => Err("only TCP".into()),
    }
}

/// The largest message that any contender lets through, well over 16 MiB with what goes around it.
const LARGEST: usize = 64 << 20;
