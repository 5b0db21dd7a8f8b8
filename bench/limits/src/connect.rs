//! `raw-connect`: a connection for each call, which the server closes after its answer.

use std::io::{Read, Write};
use std::sync::Arc;

use contender::{Endpoint, Payload, Report, Result, Run};

use crate::socket::{Listener, Socket};

pub(crate) fn serve(endpoint: &Endpoint, acceptors: usize) -> Result<()> {
    let listener = Arc::new(Listener::bind(endpoint)?);
    contender::ready();
    for _ in 1..acceptors {
        let listener = Arc::clone(&listener);
        std::thread::spawn(move || accept(&listener));
    }
    accept(&listener)
}

fn accept(listener: &Listener) -> Result<()> {
    let (request, answer) = sizes();
    let (mut request, answer) = (vec![0; request], vec![b'a'; answer]);
    loop {
        let mut socket = listener.accept()?;
        // A client that goes away costs itself only.
        if socket.read_exact(&mut request).is_ok() {
            let _ = socket.write_all(&answer);
        }
    }
}

pub(crate) fn call(run: &Run) -> Result<Report> {
    let (request, answer) = sizes();
    run.threads(|_| {
        let (request, mut answer) = (vec![b'r'; request], vec![0; answer]);
        Ok(move || {
            let mut socket = Socket::connect(&run.endpoint)?;
            socket.write_all(&request)?;
            socket.read_exact(&mut answer)?;
            Ok(())
        })
    })
}

/// Returns the sizes of a classic request and answer, which have no call id.
fn sizes() -> (usize, usize) {
    let (request, answer) = Payload::Small.on_the_wire();
    (request - 4, answer - 4)
}
