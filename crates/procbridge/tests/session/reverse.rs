//! Calls in the other direction.

use std::path::Path;
use std::sync::mpsc;
use std::thread;

use procbridge::{
    Call, ClientConfig, ErrorKind, ItemSink, ReplyError, Router, ServerConfig, Session, SessionMode, code,
};
use serde_json::{Value, json};

use crate::opened_with;
use crate::support::door::Door;
use crate::support::faces::{ClientKind, TestServer, Transport, code_of};
use crate::support::router::router as methods;
use crate::support::{WATCHDOG, eventually, everywhere_with_sessions};

/// Methods of both sides that call each other until nothing is left.
fn nested() -> Router {
    let down = |call: &Call, n: u32| -> Result<Vec<u32>, ReplyError> {
        let mut path = match n {
            0 => Vec::new(),
            n => call.session()?.request("down", &(n - 1))?,
        };
        path.push(n);
        Ok(path)
    };
    Router::new().method("down", down)
}

#[test]
fn calls_nest_in_both_directions() {
    everywhere_with_sessions(|server, client, transport| {
        let server = TestServer::start(server, transport, nested(), ServerConfig::new());
        let client = server.client(client);
        client.serve(nested()).unwrap();
        for depth in [1, 3, 6, 20] {
            let path: Vec<_> = (0..=depth).collect();
            assert_eq!(client.request("down", &json!(depth)).unwrap(), json!(path));
        }
        let callers: Vec<_> = (0..8)
            .map(|_| {
                let client = client.clone();
                thread::spawn(move || {
                    (0..10).all(|_| client.request("down", &json!(3)).unwrap() == json!([0, 1, 2, 3]))
                })
            })
            .collect();
        assert!(callers.into_iter().all(|caller| caller.join().unwrap()));
        server.stop();
    });
}

/// Returns a server that calls its caller back, in every way there is.
fn caller() -> Router {
    Router::new()
        .method("back", |call: &Call, (method, payload): (String, Value)| -> Result<Value, ReplyError> {
            call.session()?.request(&method, &payload).map_err(ReplyError::from)
        })
        .method("kind", |call: &Call| -> Result<String, ReplyError> {
            let error = call.session()?.request::<Value>("name", &()).unwrap_err();
            Ok(format!("{:?}: {error}", error.kind()))
        })
        .method("collect", |call: &Call, n: u32| -> Result<Vec<u32>, ReplyError> {
            let items = call.session()?.stream("count", &n)?;
            Ok(items.collect::<Result<Vec<u32>, _>>()?)
        })
}

#[test]
fn a_client_serves_methods_of_all_kinds() {
    everywhere_with_sessions(|server, client, transport| {
        let server = TestServer::start(server, transport, caller(), ServerConfig::new());
        let client = server.client(client);
        let methods = Router::new()
            .method("name", || "me")
            .method("echo", |value: Value| value)
            .method("panic", || -> u8 { panic!("on purpose") })
            .stream("count", |n: u32, items: &mut ItemSink| (0..n).try_for_each(|n| items.send(&n)));
        // Also where a session is there already.
        assert_eq!(client.request("$/ping", &json!(1)).unwrap(), json!(1));
        client.serve(methods.clone()).unwrap();
        assert_eq!(client.serve(methods).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(client.request("back", &json!(["name", null])).unwrap(), json!("me"));
        let large = json!("x".repeat(2_000_000));
        assert_eq!(client.request("back", &json!(["echo", large])).unwrap(), large);
        for (method, expected) in [("panic", "(panic)"), ("nope", "nope")] {
            let error = client.request("back", &json!([method, null])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Remote);
            assert!(error.to_string().contains(expected), "{error}");
        }
        let counted: Vec<_> = (0..500).collect();
        assert_eq!(client.request("collect", &json!(500)).unwrap(), json!(counted));
        assert_eq!(client.request("back", &json!(["$/ping", 5])).unwrap(), json!(5));
        server.stop();
    });
}

#[test]
fn a_client_that_serves_nothing_is_not_called() {
    everywhere_with_sessions(|server, face, transport| {
        let server = TestServer::start(server, transport, caller(), ServerConfig::new());
        let client = server.client(face);
        let kind = client.request("kind", &json!(null)).unwrap();
        assert!(kind.as_str().unwrap().starts_with("InvalidInput: "), "{kind}");
        // Nor is one that has a connection for each call.
        let client = server.client(ClientKind { face, sessions: SessionMode::Off });
        let error = client.request("kind", &json!(null)).unwrap_err();
        assert_eq!(error.to_string(), "the caller holds no session, so it cannot be called");
        server.stop();
    });
}

#[test]
fn a_server_may_call_when_it_likes() {
    everywhere_with_sessions(|server, client, transport| {
        let (sender, sessions) = mpsc::channel::<Session>();
        let router = Router::new().method("enter", move |call: &Call| -> Result<(), ReplyError> {
            sender.send(call.session()?).map_err(|_| ReplyError::new("nobody is there"))
        });
        let server = TestServer::start(server, transport, router, ServerConfig::new());
        let client = server.client(client);
        client.serve(Router::new().method("double", |n: u32| 2 * n)).unwrap();
        client.request("enter", &json!(null)).unwrap();
        let session = sessions.recv().unwrap();
        // Nothing of the client's is in flight, and none of its threads waits.
        for n in 0..100 {
            assert_eq!(session.request::<u32>("double", &n).unwrap(), 2 * n);
        }
        let callers: Vec<_> = (0..8)
            .map(|_| {
                let session = session.clone();
                thread::spawn(move || (0..50).all(|n| session.request::<u32>("double", &n).unwrap() == 2 * n))
            })
            .collect();
        assert!(callers.into_iter().all(|caller| caller.join().unwrap()));
        drop(client);
        eventually(|| !session.is_open());
        assert_eq!(session.request::<u32>("double", &1).unwrap_err().kind(), ErrorKind::Disconnected);
        server.stop();
    });
}

#[test]
fn a_client_bounds_the_calls_that_it_serves() {
    everywhere_with_sessions(|server, client, transport| {
        let (sender, sessions) = mpsc::channel::<Session>();
        let router = Router::new().method("enter", move |call: &Call| -> Result<(), ReplyError> {
            sender.send(call.session()?).map_err(|_| ReplyError::new("nobody is there"))
        });
        let server = TestServer::start(server, transport, router, ServerConfig::new());
        let config = ClientConfig::new().with_max_session_calls(2);
        let client = opened_with(&server, client, config);
        let door = Door::default();
        client.serve(methods(&door)).unwrap();
        client.request("enter", &json!(null)).unwrap();
        let session = sessions.recv().unwrap();
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let session = session.clone();
                thread::spawn(move || session.request::<bool>("wait", &()))
            })
            .collect();
        door.wait_for_callers(2);
        // A call that waits for one answer would be held back.
        let mut items = session.stream::<Value>("sum", &[1]).unwrap();
        assert_eq!(code_of(items.next().unwrap()), code::OVERLOADED);
        door.open();
        assert!(waiting.into_iter().all(|caller| caller.join().unwrap().unwrap()));
        assert_eq!(session.request::<u32>("sum", &[1]).unwrap(), 1);
        server.stop();
    });
}

#[test]
fn a_client_serves_a_server_that_was_started_again() {
    everywhere_with_sessions(|face, client, transport| {
        let server = TestServer::start(face, transport, caller(), ServerConfig::new());
        let endpoint = server.endpoint.clone();
        let client = server.client(client);
        client.serve(Router::new().method("name", || "me")).unwrap();
        assert_eq!(client.request("back", &json!(["name", null])).unwrap(), json!("me"));
        let dir = server.end();
        let (sender, sessions) = mpsc::channel::<()>();
        let again = caller().layer(move |_, next| {
            let _ = sender.send(());
            next.run()
        });
        let server = TestServer::start_at(face, &endpoint, again, ServerConfig::new());
        // It comes back by itself, and is called on the new session.
        eventually(|| client.counted("sessions", "open") == 1);
        assert_eq!(client.request("back", &json!(["name", null])).unwrap(), json!("me"));
        sessions.recv().unwrap();
        server.stop();
        drop(dir);
    });
}

#[test]
fn a_client_may_be_called_during_the_call_that_opens_its_session() {
    everywhere_with_sessions(|face, client, transport| {
        let server = TestServer::start(face, transport, caller(), ServerConfig::new());
        let endpoint = server.endpoint.clone();
        let client = server.client(client);
        client.serve(Router::new().method("name", || "me")).unwrap();
        let mut running = Some(server);
        let mut dir = None;
        for _ in 0..10 {
            dir = running.take().unwrap().end().or(dir);
            running = Some(TestServer::start_at(face, &endpoint, caller(), ServerConfig::new()));
            // All of them find that there is no session.
            let callers: Vec<_> = (0..4)
                .map(|_| {
                    let client = client.clone();
                    thread::spawn(move || client.request("back", &json!(["name", null])))
                })
                .collect();
            for caller in callers {
                assert_eq!(caller.join().unwrap().unwrap(), json!("me"));
            }
        }
        running.unwrap().stop();
        drop(dir);
    });
}

#[test]
fn a_client_may_be_called_as_soon_as_it_serves() {
    everywhere_with_sessions(|face, client, transport| {
        let server = TestServer::start(face, transport, caller(), ServerConfig::new());
        for _ in 0..50 {
            let client = server.client(client);
            client.serve(Router::new().method("name", || "me")).unwrap();
            assert_eq!(client.request("back", &json!(["name", null])).unwrap(), json!("me"));
        }
        server.stop();
    });
}

#[test]
fn a_client_is_called_on_its_new_session_while_the_old_one_ends() {
    everywhere_with_sessions(|face, client, transport| {
        if transport != Transport::Unix {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (path, next) = (dir.path().join("s.sock"), dir.path().join("next.sock"));
        let endpoint = |path: &Path| format!("unix:{}", path.display()).parse().unwrap();
        let old = TestServer::start_at(face, &endpoint(&path), caller(), ServerConfig::new());
        let client = old.client(client);
        let door = Door::default();
        client.serve(methods(&door)).unwrap();
        let waiting = {
            let client = client.clone();
            thread::spawn(move || client.request("back", &json!(["wait", null])))
        };
        door.wait_for_callers(1);
        let new = caller().method("new", || true);
        let new = TestServer::start_at(face, &endpoint(&next), new, ServerConfig::new());
        std::fs::rename(&next, &path).unwrap();
        old.stop_soon();
        // A server that has said goodbye makes no calls, so that one must know that it has.
        eventually(|| client.request("new", &json!(null)).is_ok());
        for n in 0..20 {
            assert_eq!(client.request("back", &json!(["echo", n])).unwrap(), json!(n));
        }
        door.open();
        assert_eq!(waiting.join().unwrap().unwrap(), json!(true));
        old.stop();
        assert_eq!(client.request("back", &json!(["echo", 1])).unwrap(), json!(1));
        new.stop();
    });
}

#[test]
fn a_call_back_ends_with_the_caller() {
    everywhere_with_sessions(|server, client, transport| {
        let (sender, ended) = mpsc::channel();
        let router = Router::new().method("ask", move |call: &Call| -> Result<Value, ReplyError> {
            let answer = call.session()?.request("wait", &());
            sender.send(answer.as_ref().map_err(|error| (error.kind(), error.outcome())).cloned()).unwrap();
            Ok(answer?)
        });
        let server = TestServer::start(server, transport, router, ServerConfig::new());
        let door = Door::default();
        let client = server.client(client);
        client.serve(methods(&door)).unwrap();
        client.notify("ask", &json!(null)).unwrap();
        door.wait_for_callers(1);
        drop(client);
        let ended = ended.recv_timeout(WATCHDOG).unwrap();
        assert_eq!(ended, Err((ErrorKind::Disconnected, procbridge::Outcome::Unknown)));
        server.stop();
    });
}
