//! A blocking client gives up its calls from another thread.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use procbridge::{Call, Client, ErrorKind, Outcome, Router, Server};

use crate::support::WATCHDOG;
use crate::support::wire::{TERMS, hello};

#[test]
fn calls_that_are_given_up_end_at_once_and_the_server_is_told() {
    let (began, has_begun) = channel();
    let (told, was_told) = channel();
    let wait = move |call: &Call| {
        began.send(()).unwrap();
        while !call.is_cancelled() {
            thread::yield_now();
        }
        told.send(()).unwrap();
    };
    let server = Server::bind("127.0.0.1:0").unwrap();
    let server = server.spawn(Router::new().method("wait", wait).method("echo", |n: u32| n)).unwrap();
    let client = Client::new(server.endpoint()).unwrap();
    // Without a session there is nothing to give up.
    client.cancel_calls();
    assert_eq!(client.request::<u32>("echo", &1).unwrap(), 1);

    // Also one that would be sent again if its connection was lost.
    let calls = [false, true].map(|is_idempotent| {
        let client = client.clone();
        thread::spawn(move || {
            let call = client.call("wait");
            let call = if is_idempotent { call.idempotent() } else { call };
            call.send::<()>().unwrap_err()
        })
    });
    for _ in &calls {
        has_begun.recv_timeout(WATCHDOG).unwrap();
    }
    client.cancel_calls();
    for call in calls {
        let error = call.join().unwrap();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::Unknown));
        assert_eq!(error.to_string(), "the call was cancelled");
        was_told.recv_timeout(WATCHDOG).unwrap();
    }
    // The session goes on.
    assert_eq!(client.request::<u32>("echo", &2).unwrap(), 2);
    assert!(has_begun.try_recv().is_err());
}

/// Nothing comes that would wake the thread that waits for it.
#[test]
fn a_call_that_is_given_up_ends_soon_though_the_server_says_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Client::new(format!("tcp:{}", listener.local_addr().unwrap())).unwrap();
    let calling = {
        let client = client.clone();
        thread::spawn(move || client.request::<()>("wait", &()).unwrap_err())
    };
    let (mut server, _) = listener.accept().unwrap();
    assert!(server.read(&mut [0; 1024]).unwrap() > 0);
    server.write_all(&hello(TERMS)).unwrap();
    let begun = Instant::now();
    while !calling.is_finished() {
        // Before its HELLO was read there is no session in which calls could be given up.
        client.cancel_calls();
        assert!(begun.elapsed() < Duration::from_secs(10), "it waits for a sign of life");
        thread::yield_now();
    }
    assert_eq!(calling.join().unwrap().to_string(), "the call was cancelled");
}
