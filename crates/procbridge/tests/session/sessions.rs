//! Sessions over the blocking face.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use procbridge::{
    Call, Client, ClientConfig, Endpoint, Hub, ItemSink, ReplyError, Router, Server, ServerConfig, Session,
    SessionMode, code,
};

use crate::support::{WATCHDOG, eventually};

#[test]
fn many_calls_share_a_connection() {
    let server =
        Server::bind("127.0.0.1:0").unwrap().spawn(Router::new().method("echo", |n: u32| n)).unwrap();
    let client = Client::new(server.endpoint()).unwrap();
    for n in 0..1000 {
        assert_eq!(client.request::<u32>("echo", &n).unwrap(), n);
    }
    let stats: serde_json::Value = client.request("$/stats", &()).unwrap();
    println!("{stats}");
    assert_eq!(stats["connections"]["total"], 1);
}

#[test]
fn streams() {
    let router =
        Router::new().stream("count", |n: u32, items: &mut ItemSink| (0..n).try_for_each(|i| items.send(&i)));
    let server = Server::bind("127.0.0.1:0").unwrap().spawn(router).unwrap();
    let client = Client::new(server.endpoint()).unwrap();
    let counted = client.stream("count", &1000).unwrap().collect::<Result<Vec<u32>, _>>().unwrap();
    assert_eq!(counted.len(), 1000);
    assert_eq!(client.request::<Vec<u32>>("count", &3).unwrap(), [0, 1, 2]);
}

#[test]
fn events() {
    let hub = Hub::new();
    let server = Server::bind("127.0.0.1:0").unwrap().spawn(Router::new().events(&hub)).unwrap();
    let client = Client::new(server.endpoint()).unwrap();
    let mut builds = client.subscribe(["build.*"]).unwrap();
    eventually(|| hub.subscriptions() > 0);
    hub.publish("build.done", &42).unwrap();
    let event = builds.next().unwrap().unwrap();
    assert_eq!((event.topic(), event.payload::<u32>().unwrap()), ("build.done", 42));
}

#[test]
fn reverse() {
    let router = Router::new().method("greet", |call: &Call| -> Result<String, ReplyError> {
        let name: String = call.session()?.request("name", &())?;
        Ok(format!("hello {name}"))
    });
    let server = Server::bind("127.0.0.1:0").unwrap().spawn(router).unwrap();
    let client = Client::new(server.endpoint()).unwrap();
    client.serve(Router::new().method("name", || "world")).unwrap();
    assert_eq!(client.request::<String>("greet", &()).unwrap(), "hello world");
}

#[test]
fn a_client_that_serves_tells_each_server_who_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::unix(directory.path().join("s.sock"));
    let (sender, sessions) = mpsc::channel::<Session>();
    let start = || {
        let sender = sender.clone();
        let register = move |call: &Call| -> Result<(), ReplyError> {
            // It may be called back before it is answered.
            assert_eq!(call.session()?.request::<String>("name", &()).unwrap(), "me");
            Ok(sender.send(call.session()?)?)
        };
        Server::bind(&endpoint).unwrap().spawn(Router::new().method("register", register)).unwrap()
    };
    let server = start();
    let client = Client::new(&endpoint).unwrap();
    client.on_session(|client| client.request("register", &()).unwrap());
    client.serve(Router::new().method("name", || "me")).unwrap();
    let first = sessions.try_recv().unwrap();
    server.shutdown().unwrap();
    // Without a call of the program's.
    let server = start();
    let second = sessions.recv_timeout(WATCHDOG).unwrap();
    assert_eq!(second.request::<String>("name", &()).unwrap(), "me");
    assert!(!first.is_open() && sessions.try_recv().is_err());
    drop(client);
    server.shutdown().unwrap();
}

#[test]
fn a_server_may_ask_for_a_token() {
    let config = ServerConfig::new().with_token("open sesame");
    let router = Router::new().method("echo", |n: u32| n);
    let server = Server::bind_with("127.0.0.1:0", config).unwrap().spawn(router).unwrap();
    let client = |token: Option<&str>, sessions| {
        let config = ClientConfig::new().with_sessions(sessions);
        let config = token.map_or(config.clone(), |token| config.with_token(token));
        Client::with_config(server.endpoint(), config).unwrap()
    };
    for sessions in [SessionMode::Auto, SessionMode::Off] {
        let good = client(Some("open sesame"), sessions);
        assert_eq!((0..3).map(|n| good.request::<u32>("echo", &n).unwrap()).sum::<u32>(), 3);
        for wrong in [None, Some("open sesam"), Some("open sesame!"), Some("open sesamf")] {
            for method in ["echo", "$/stats", "no such method"] {
                let error = client(wrong, sessions).request::<u32>(method, &1).unwrap_err();
                assert_eq!(error.remote().and_then(|remote| remote.code()), Some(code::DENIED), "{wrong:?}");
            }
        }
    }
}

#[test]
fn a_notification_outlives_its_caller() {
    let (begun, beginning) = mpsc::channel();
    let (go, gone) = mpsc::channel::<()>();
    let (told, hears) = mpsc::channel();
    let gone = std::sync::Mutex::new(gone);
    let router = Router::new().method("note", move |call: &Call, n: u32| {
        begun.send(n).unwrap();
        let _ = gone.lock().unwrap().recv();
        told.send((n, call.is_cancelled())).unwrap();
    });
    let server = Server::bind("127.0.0.1:0").unwrap().spawn(router).unwrap();
    let client = Client::new(server.endpoint()).unwrap();
    for n in 0..5 {
        client.notify("note", &n).unwrap();
    }
    drop(client);
    assert_eq!(beginning.recv().unwrap(), 0);
    let other = Client::new(server.endpoint()).unwrap();
    eventually(|| other.request::<serde_json::Value>("$/stats", &()).unwrap()["sessions"]["open"] == 1);
    drop(go);
    let mut heard: Vec<_> = (0..5).map(|_| hears.recv().unwrap()).collect();
    heard.sort_unstable();
    assert_eq!(heard, [(0, false), (1, false), (2, false), (3, false), (4, false)]);
}

/// A one-way call goes on when its caller is gone, and has its timeout all the same.
#[test]
fn a_one_way_call_has_its_time_limit_after_its_session() {
    let (told, hears) = mpsc::channel();
    let router = Router::new().method("work", move |call: &Call| {
        let patience = Instant::now() + Duration::from_secs(5);
        while !call.is_cancelled() && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(1));
        }
        told.send(call.is_cancelled()).unwrap();
    });
    let config = ServerConfig::new().with_handler_timeout(Duration::from_millis(500));
    let server = Server::bind_with("127.0.0.1:0", config).unwrap().spawn(router).unwrap();
    let client = Client::new(server.endpoint()).unwrap();
    let _: () = client.request("$/ping", &()).unwrap();
    client.notify("work", &()).unwrap();
    drop(client);
    assert_eq!(hears.recv(), Ok(true));
}

/// The same when the server stops first.
#[test]
fn a_one_way_call_is_cancelled_after_its_session_when_the_server_stops() {
    let (told, hears) = mpsc::channel();
    let (begun, begins) = mpsc::channel();
    let router = Router::new().method("work", move |call: &Call| {
        begun.send(()).unwrap();
        let patience = Instant::now() + Duration::from_secs(5);
        while !call.is_cancelled() && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(1));
        }
        told.send(call.is_cancelled()).unwrap();
    });
    let server = Server::bind("127.0.0.1:0").unwrap().spawn(router).unwrap();
    let client = Client::new(server.endpoint()).unwrap();
    let _: () = client.request("$/ping", &()).unwrap();
    client.notify("work", &()).unwrap();
    drop(client);
    begins.recv().unwrap();
    // The server has seen the end by then, as a rule.
    std::thread::sleep(Duration::from_millis(200));
    server.handle().abort();
    assert_eq!(hears.recv(), Ok(true));
}
