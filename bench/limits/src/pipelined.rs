//! `raw-pipelined`: a window of requests in one write; the server answers all that a read brought in one write.

use std::io::{Read, Write};

use contender::{Endpoint, Report, Result, Run};

use crate::pingpong::{sizes_from, sizes_to};
use crate::socket::{Listener, Socket};

const WINDOW: usize = 64;

pub(crate) fn serve(endpoint: &Endpoint) -> Result<()> {
    let listener = Listener::bind(endpoint)?;
    contender::ready();
    listener.serve_each(|mut socket| {
        let mut sizes = [0; 16];
        if socket.read_exact(&mut sizes).is_err() {
            return;
        }
        let (request, answer) = sizes_from(sizes);
        let (mut requests, answers) = (vec![0; request * WINDOW], vec![b'a'; answer * WINDOW]);
        let mut begun = 0;
        while let Ok(bytes @ 1..) = socket.read(&mut requests) {
            let whole = (begun + bytes) / request;
            begun = (begun + bytes) % request;
            if socket.write_all(&answers[..whole.min(WINDOW) * answer]).is_err() {
                return;
            }
        }
    })
}

pub(crate) fn call(run: &Run) -> Result<Report> {
    let (request, answer) = run.payload.on_the_wire();
    // The window is what is in flight.
    let run = Run { in_flight: 1, ..run.clone() };
    run.batches(|_| {
        let mut socket = Socket::connect(&run.endpoint)?;
        socket.without_delay()?;
        socket.write_all(&sizes_to(request, answer))?;
        let (requests, mut answers) = (vec![b'r'; request * WINDOW], vec![0; answer * WINDOW]);
        Ok(move || {
            socket.write_all(&requests)?;
            socket.read_exact(&mut answers)?;
            Ok(WINDOW as u64)
        })
    })
}
