//! Sessions whose threads look before they wait behave like any others.

use std::thread;
use std::time::{Duration, Instant};

use procbridge::{Client, ClientConfig, ErrorKind, ItemSink, Router, RunningServer, Server, ServerConfig};

const LOOK: Duration = Duration::from_micros(20);

fn server() -> RunningServer {
    let router = Router::new()
        .method("echo", |text: String| text)
        .method("sleep", |ms: u64| thread::sleep(Duration::from_millis(ms)))
        .stream("count", |n: u32, items: &mut ItemSink| (0..n).try_for_each(|i| items.send(&i)));
    Server::bind_with("127.0.0.1:0", ServerConfig::new().with_spin(LOOK)).unwrap().spawn(router).unwrap()
}

fn client(server: &RunningServer) -> Client {
    Client::with_config(server.endpoint(), ClientConfig::new().with_spin(LOOK)).unwrap()
}

#[test]
fn calls_of_many_threads_are_answered() {
    let server = server();
    let client = client(&server);
    thread::scope(|scope| {
        for n in 0..16 {
            let client = &client;
            scope.spawn(move || {
                for i in 0..500 {
                    let text = format!("{n} {i}");
                    assert_eq!(client.request::<String>("echo", &text).unwrap(), text);
                }
            });
        }
    });
    let counted = client.stream::<u32>("count", &1000).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    assert_eq!(counted, (0..1000).collect::<Vec<_>>());
    server.shutdown().unwrap();
}

#[test]
fn a_time_limit_holds() {
    let server = server();
    let client = client(&server);
    let began = Instant::now();
    let limit = Duration::from_millis(100);
    let late = client.call("sleep").payload(&1000).timeout(limit).send::<()>().unwrap_err();
    // The server's word for it may come first.
    assert!(matches!(late.kind(), ErrorKind::Timeout | ErrorKind::Remote), "{late}");
    assert!(began.elapsed() >= limit && began.elapsed() < Duration::from_millis(800));
    assert_eq!(client.request::<String>("echo", "on").unwrap(), "on");
}
