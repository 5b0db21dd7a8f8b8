//! The least that answers on a Unix socket without a runtime: a thread for each connection, fixed bytes back.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

fn main() -> std::io::Result<()> {
    let path = std::env::args().nth(1).unwrap_or_default();
    let listener = UnixListener::bind(path)?;
    println!("ready");
    loop {
        let (mut socket, _) = listener.accept()?;
        std::thread::spawn(move || {
            let mut request = [0; 128];
            if matches!(socket.read(&mut request), Ok(1..)) {
                let _ = socket.write_all(b"an answer");
            }
        });
    }
}
