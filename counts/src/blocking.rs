//! The blocking face.

use std::io::Read;
use std::thread;

use procbridge::{Client, Router, Server};
use serde_json::value::RawValue;

use crate::heap::Heap;
use crate::settings::{self, Calls, Result, WARM};

/// Serves until the standard input closes.
pub(crate) fn serve(endpoint: &str) -> Result<()> {
    let router = Router::new().method("echo", |payload: Box<RawValue>| payload).method("heap", || {
        let Heap { allocations, bytes } = Heap::now();
        (allocations, bytes)
    });
    let server = Server::bind_with(endpoint, settings::server())?;
    let handle = server.handle();
    thread::spawn(move || {
        let _ = std::io::stdin().read(&mut [0]);
        handle.shutdown();
    });
    println!("ready");
    Ok(server.serve(router)?)
}

/// Makes calls one after the other.
pub(crate) fn call(calls: &Calls) -> Result<()> {
    let client = Client::with_config(calls.endpoint.clone(), calls.config.clone())?;
    let mut heap = Heap::now();
    for number in 0..WARM + calls.count {
        if number == WARM {
            heap = Heap::now();
        }
        if client.request::<Box<RawValue>>("echo", &calls.payload)?.get() != calls.payload.get() {
            return Err("the echo differs".into());
        }
    }
    heap.tell(calls.count);
    Ok(())
}
