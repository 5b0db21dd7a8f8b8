//! Server push: clients register, and the server calls them when it has news.
//!
//! Run it with `cargo run --example push`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::sync::mpsc;

use procbridge::{Call, Client, ReplyError, Router, Server, Session};

fn main() -> Result<(), Box<dyn Error>> {
    // The server keeps the sessions of the clients that register.
    let (registered, registrations) = mpsc::channel::<Session>();
    let router = Router::new().method("register", move |call: &Call| -> Result<(), ReplyError> {
        Ok(registered.send(call.session()?)?)
    });
    let server = Server::bind("127.0.0.1:0")?.spawn(router)?;

    // The client has a method of its own, and registers.
    let (alerts, seen) = mpsc::channel();
    let methods = Router::new().method("alert", move |text: String| {
        println!("client: {text}");
        alerts.send(text).is_ok()
    });
    let client = Client::connect(server.endpoint())?;
    client.on_session(|client| {
        if let Err(error) = client.request::<()>("register", &()) {
            println!("client: cannot register: {error}");
        }
    });
    client.serve(methods)?;

    // Later, on any thread of the server's program: a call with an answer, and one without.
    let mut sessions: Vec<Session> = registrations.try_iter().collect();
    for session in &sessions {
        let understood: bool = session.request("alert", "the disk is nearly full")?;
        println!("server: {} has understood: {understood}", session.peer());
        session.notify("alert", "the disk is full")?;
    }
    for _ in 0..2 {
        seen.recv()?;
    }

    // Forget a client that is gone: a kept session keeps its connection at the server.
    drop(client);
    server.shutdown()?;
    sessions.retain(Session::is_open);
    println!("server: {} clients are left", sessions.len());
    Ok(())
}
