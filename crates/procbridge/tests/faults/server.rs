//! The server that the faults happen to.

use std::env;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::process;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use procbridge::{Hub, ItemSink, ReplyError, Router, Server, ServerConfig};

pub(crate) const FACE: &str = "PROCBRIDGE_FAULTS_FACE";
pub(crate) const ENDPOINT: &str = "PROCBRIDGE_FAULTS_ENDPOINT";
pub(crate) const RECORD: &str = "PROCBRIDGE_FAULTS_RECORD";
pub(crate) const SETTINGS: &str = "PROCBRIDGE_FAULTS_SETTINGS";
/// The length of a line of the record.
pub(crate) const LINE: usize = 8;

/// No test: the others start this program with it as a server.
#[test]
fn is_this_program_when_it_is_told_to() {
    let Ok(face) = env::var(FACE) else { return };
    // It ends with the test that has started it.
    thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        process::exit(0);
    });
    let mut config = ServerConfig::new();
    for setting in env::var(SETTINGS).unwrap().split_whitespace() {
        config = match setting {
            "many" => config
                .with_max_concurrent_calls(20_000)
                .with_max_connections(20_000)
                .with_max_session_calls(20_000),
            "heartbeat" => config.with_keepalive(Duration::from_millis(200)),
            "impatient" => config.with_write_timeout(Duration::from_secs(1)),
            other => panic!("{other}"),
        };
    }
    let endpoint = env::var(ENDPOINT).unwrap();
    let record = OpenOptions::new().append(true).open(env::var(RECORD).unwrap()).unwrap();
    let hub = Hub::new();
    let ready = |endpoint: String| writeln!(std::io::stderr(), "ready {endpoint}").unwrap();
    if face == "Blocking" {
        let server = Server::bind_with(&*endpoint, config).unwrap();
        ready(server.endpoints()[0].to_string());
        server.serve(blocking(record, &hub)).unwrap();
    } else {
        #[cfg(feature = "tokio")]
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(
            async {
                let server = procbridge::tokio::Server::bind_with(&*endpoint, config).unwrap();
                ready(server.endpoints()[0].to_string());
                server.serve(tokio_router(record, &hub)).await.unwrap();
            },
        );
    }
}

fn note(mut record: &File, number: usize) {
    let line = format!("{number:0width$}\n", width = LINE - 1);
    record.write_all(line.as_bytes()).unwrap();
}

fn publish(hub: &Hub, (events, size): (usize, usize)) -> Result<usize, ReplyError> {
    let text = "x".repeat(size);
    (0..events).try_fold(0, |_, _| hub.publish("flood", &text)).map_err(ReplyError::from)
}

fn blocking(record: File, hub: &Hub) -> Router {
    let record = Arc::new(record);
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let (at_once, waiting, opened, publisher) = (record.clone(), gate.clone(), gate, hub.clone());
    Router::new()
        .method("echo", |value: serde_json::Value| value)
        .method("at_once", move |n: usize| {
            note(&at_once, n);
            n
        })
        .method("wait", move |n: usize| {
            note(&record, n);
            let (is_open, changed) = &*waiting;
            drop(changed.wait_while(is_open.lock().unwrap(), |is_open| !*is_open).unwrap());
            n
        })
        .method("open", move || {
            *opened.0.lock().unwrap() = true;
            opened.1.notify_all();
        })
        .stream("flood", |size: usize, items: &mut ItemSink| -> Result<(), ReplyError> {
            let text = "x".repeat(size);
            loop {
                items.send(&text)?;
            }
        })
        .method("publish", move |flood: (usize, usize)| publish(&publisher, flood))
        .events(hub)
}

#[cfg(feature = "tokio")]
fn tokio_router(record: File, hub: &Hub) -> procbridge::tokio::Router {
    let record = Arc::new(record);
    let (opened, waiting) = tokio::sync::watch::channel(false);
    let (at_once, opened, publisher) = (record.clone(), Arc::new(opened), hub.clone());
    procbridge::tokio::Router::new()
        .method("echo", async |value: serde_json::Value| value)
        .method("at_once", move |n: usize| {
            note(&at_once, n);
            async move { n }
        })
        .method("wait", move |n: usize| {
            note(&record, n);
            let mut waiting = waiting.clone();
            async move {
                let _ = waiting.wait_for(|is_open| *is_open).await;
                n
            }
        })
        .method("open", move || {
            let _ = opened.send(true);
            async {}
        })
        .stream("flood", |size: usize, mut items: procbridge::tokio::ItemSink| async move {
            let text = "x".repeat(size);
            loop {
                items.send(&text).await?;
            }
            #[allow(unreachable_code, reason = "says what the method would return")]
            Ok::<(), ReplyError>(())
        })
        .method("publish", move |flood: (usize, usize)| {
            let published = publish(&publisher, flood);
            async move { published }
        })
        .events(hub)
}
