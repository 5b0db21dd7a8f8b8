//! `raw`: one message there, one back, on connections that last.

use std::io::{Read, Write};

use contender::{Endpoint, Report, Result, Run};

use crate::socket::{Listener, Socket};

pub(crate) fn serve(endpoint: &Endpoint) -> Result<()> {
    let listener = Listener::bind(endpoint)?;
    contender::ready();
    listener.serve_each(|mut socket| {
        let mut sizes = [0; 16];
        if socket.read_exact(&mut sizes).is_err() {
            return;
        }
        let (request, answer) = sizes_from(sizes);
        let (mut request, answer) = (vec![0; request], vec![b'a'; answer]);
        while socket.read_exact(&mut request).is_ok() && socket.write_all(&answer).is_ok() {}
    })
}

pub(crate) fn call(run: &Run) -> Result<Report> {
    let (request, answer) = run.payload.on_the_wire();
    run.threads(|_| {
        let mut socket = Socket::connect(&run.endpoint)?;
        socket.without_delay()?;
        socket.write_all(&sizes_to(request, answer))?;
        let (request, mut answer) = (vec![b'r'; request], vec![0; answer]);
        Ok(move || {
            socket.write_all(&request)?;
            socket.read_exact(&mut answer)?;
            Ok(())
        })
    })
}

/// Returns the first bytes of a connection, which tell how long its messages are.
pub(crate) fn sizes_to(request: usize, answer: usize) -> [u8; 16] {
    (request as u128 | (answer as u128) << 64).to_le_bytes()
}

pub(crate) fn sizes_from(bytes: [u8; 16]) -> (usize, usize) {
    let both = u128::from_le_bytes(bytes);
    (both as u64 as usize, (both >> 64) as usize)
}
