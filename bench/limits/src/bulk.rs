//! `raw-bulk`: large messages there and back, with the system's socket buffers or with larger ones.

use std::io::{Read, Write};

use contender::{Endpoint, Report, Result, Run};

use crate::pingpong::{sizes_from, sizes_to};
use crate::socket::{Listener, Socket};

/// Bytes that a tuned socket asks for; the system doubles them for its own bookkeeping.
pub(crate) const BUFFER: usize = 212_992;

pub(crate) fn serve(endpoint: &Endpoint, buffer: Option<usize>) -> Result<()> {
    let listener = Listener::bind(endpoint)?;
    contender::ready();
    loop {
        let mut socket = listener.accept()?;
        tune(&socket, buffer)?;
        std::thread::spawn(move || {
            let mut sizes = [0; 16];
            if socket.read_exact(&mut sizes).is_err() {
                return;
            }
            let (request, answer) = sizes_from(sizes);
            let (mut request, answer) = (vec![0; request], answer);
            while socket.read_exact(&mut request).is_ok() && socket.write_all(&request[..answer]).is_ok() {}
        });
    }
}

pub(crate) fn call(run: &Run, buffer: Option<usize>) -> Result<Report> {
    let (request, answer) = run.payload.on_the_wire();
    run.threads(|_| {
        let mut socket = Socket::connect(&run.endpoint)?;
        tune(&socket, buffer)?;
        socket.write_all(&sizes_to(request, answer))?;
        let (request, mut answer) = (vec![b'r'; request], vec![0; answer]);
        Ok(move || {
            socket.write_all(&request)?;
            socket.read_exact(&mut answer)?;
            Ok(())
        })
    })
}

fn tune(socket: &Socket, buffer: Option<usize>) -> Result<()> {
    socket.without_delay()?;
    match buffer {
        Some(bytes) => Ok(socket.set_buffers(bytes)?),
        None => Ok(()),
    }
}
