//! The three outcomes of a call: replied, not sent, unknown; and which calls are retried.
//!
//! Run it with `cargo run --example outcomes`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use procbridge::{Client, Error, ErrorKind, Outcome, ReplyError, Router, Server};

fn show(what: &str, error: &Error) {
    let (kind, outcome, retryable) = (error.kind(), error.outcome(), error.is_retryable());
    println!("{what}: {error}\n  {kind:?}, {outcome:?}, safe to retry: {retryable}");
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Replied: the server has handled the call, and refused it.
    let refuse = || Err::<(), _>(ReplyError::new("out of paper").with_code("printer.paper").with_data(&3));
    let server = Server::bind("127.0.0.1:0")?.spawn(Router::new().method("print", refuse))?;
    let client = Client::new(server.endpoint())?;
    if let Err(error) = client.request::<()>("print", &()) {
        show("refused", &error);
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Remote, Outcome::Replied));
        let remote = error.remote();
        println!("  code {:?}, data {:?}", remote.and_then(|it| it.code()), remote.and_then(|it| it.data()));
    }

    // Not sent: no server listens.
    server.shutdown()?;
    if let Err(error) = client.request::<()>("print", &()) {
        show("no server", &error);
    }

    // Unknown: a server reads the call and disconnects. Only its fourth caller is answered.
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = Client::new(format!("tcp:{}", listener.local_addr()?))?;
    let serving = thread::spawn(move || -> std::io::Result<()> {
        for call in 1..=4 {
            let (mut caller, _) = listener.accept()?;
            let _ = caller.read(&mut [0; 4096])?;
            println!("  the server has read a call ({call})");
            caller.write_all(if call == 4 { b"pb\x01\x01\x01\0\0\x02\0\0\0{}" } else { b"" })?;
        }
        Ok(())
    });
    if let Err(error) = client.request::<()>("print", &()) {
        show("lost", &error);
    }
    // An idempotent call is retried until its timeout.
    client.call("print").idempotent().send::<()>()?;
    println!("answered: {}", serving.join().is_ok_and(|served| served.is_ok()));
    Ok(())
}
