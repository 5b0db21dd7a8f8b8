//! Calls: the connections they take, what goes along with them, and who may be without sessions.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use procbridge::{
    Call, ClientConfig, Codec, ErrorKind, Outcome, ReplyError, Router, ServerConfig, SessionMode, code,
};
use serde_json::{Value, json};

use crate::support::faces::{ClientKind, Options, TestClient, TestServer, code_of};
use crate::support::proxy::Proxy;
use crate::support::router::start;
use crate::support::{WATCHDOG, eventually, everywhere_with_sessions};
use crate::{opened, opened_with};

#[test]
fn many_calls_take_one_connection() {
    everywhere_with_sessions(|server, client, transport| {
        let (server, _) = start(server, transport, ServerConfig::new());
        let client = server.client(client);
        for n in 0..500 {
            assert_eq!(client.request("sum", &json!([n, 1])).unwrap(), json!(n + 1));
        }
        assert_eq!(code_of(client.request("err", &json!(null))), "test.generated");
        assert_eq!(code_of(client.request("nope", &json!(null))), code::UNKNOWN_METHOD);
        assert_eq!(client.request("echo", &json!(null)).unwrap(), json!(null));
        assert_eq!(client.counted("connections", "total"), 1);
        assert_eq!(client.counted("sessions", "total"), 1);
        server.stop();
    });
}

#[test]
fn thirty_two_callers_share_a_session() {
    everywhere_with_sessions(|server, client, transport| {
        let (server, _) = start(server, transport, ServerConfig::new());
        let client = opened(&server, client);
        let together = Arc::new(Barrier::new(32));
        let callers: Vec<_> = (0..32)
            .map(|n| {
                let (client, together) = (client.clone(), together.clone());
                thread::spawn(move || {
                    together.wait();
                    (0..50).all(|k| client.request("sum", &json!([n, k])).unwrap() == json!(n + k))
                })
            })
            .collect();
        assert!(callers.into_iter().all(|caller| caller.join().unwrap()));
        assert_eq!(client.counted("connections", "total"), 1);
        server.stop();
    });
}

#[test]
fn calls_before_the_session_have_connections_of_their_own() {
    everywhere_with_sessions(|server, client, transport| {
        let (server, _) = start(server, transport, ServerConfig::new());
        let proxy = Proxy::shut(transport, &server.endpoint);
        let client = TestClient::new(client, &proxy.endpoint, ClientConfig::new());
        let callers: Vec<_> = (0..8)
            .map(|n| {
                let client = client.clone();
                thread::spawn(move || client.request("sum", &json!([n])).unwrap() == json!(n))
            })
            .collect();
        // No client has heard of a session yet, so that none waits for another one's.
        proxy.wait_for_connections(8);
        proxy.open();
        assert!(callers.into_iter().all(|caller| caller.join().unwrap()));
        // One stays for the calls to come, the others end with their calls.
        for n in 0..20 {
            assert_eq!(client.request("sum", &json!([n])).unwrap(), json!(n));
        }
        eventually(|| proxy.connections() == (8, 7));
        eventually(|| client.counted("sessions", "open") == 1);
        assert_eq!(proxy.connections(), (8, 7));
        server.stop();
    });
}

#[test]
fn the_first_calls_of_a_session_wait_for_nothing() {
    everywhere_with_sessions(|server, client, transport| {
        let (server, _) = start(server, transport, ServerConfig::new());
        let calls = |_| {
            let client = server.client(client);
            let begun = Instant::now();
            for n in 0..3 {
                assert_eq!(client.request("sum", &json!([n])).unwrap(), json!(n));
            }
            begun.elapsed()
        };
        // A busy machine delays some of them, a timer would delay all.
        let fastest = (0..20).map(calls).min().unwrap();
        assert!(fastest < Duration::from_millis(200), "{fastest:?}");
        server.stop();
    });
}

#[test]
fn a_server_without_sessions_makes_no_difference() {
    everywhere_with_sessions(|server, client, transport| {
        let (server, _) = start(server, transport, ServerConfig::new().without_sessions());
        let client = server.client(client);
        for n in 0..20 {
            assert_eq!(client.request("sum", &json!([n, 1])).unwrap(), json!(n + 1));
        }
        assert_eq!(code_of(client.request("err", &json!(null))), "test.generated");
        client.notify("sum", &json!([1])).unwrap();
        // An array stands for a stream.
        let counted: Vec<_> = client.stream("count", &json!(3)).unwrap().map(Result::unwrap).collect();
        assert_eq!(counted, [json!(0), json!(1), json!(2)]);
        assert_eq!(client.counted("sessions", "total"), 0);
        for error in [client.subscribe(&["a"]).err(), client.serve(Router::new()).err()] {
            let error = error.unwrap();
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::Protocol, Outcome::NotSent), "{error:?}");
        }
        server.stop();
    });
}

#[test]
fn a_client_without_sessions_makes_no_difference() {
    everywhere_with_sessions(|server, face, transport| {
        let (server, _) = start(server, transport, ServerConfig::new());
        let client = server.client(ClientKind { face, sessions: SessionMode::Off });
        for n in 0..20 {
            assert_eq!(client.request("sum", &json!([n, 1])).unwrap(), json!(n + 1));
        }
        assert_eq!(code_of(client.request("err", &json!(null))), "test.generated");
        client.notify("sum", &json!([1])).unwrap();
        let counted: Vec<_> = client.stream("count", &json!(3)).unwrap().map(Result::unwrap).collect();
        assert_eq!(counted, [json!(0), json!(1), json!(2)]);
        assert_eq!(client.counted("sessions", "total"), 0);
        server.stop();
    });
}

#[test]
fn a_client_that_requires_sessions_makes_no_call_without_one() {
    everywhere_with_sessions(|server, face, transport| {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let router = Router::new().method("count", move || counted.fetch_add(1, Ordering::SeqCst));
        let classic = ServerConfig::new().without_sessions();
        let classic = TestServer::start(server, transport, router.clone(), classic);
        let kind = ClientKind { face, sessions: SessionMode::Required };
        let client = classic.client(kind);
        for error in [
            client.request("count", &json!(null)).err(),
            client.notify("count", &json!(null)).err(),
            client.stream("count", &json!(null)).err(),
        ] {
            let error = error.unwrap();
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::Protocol, Outcome::NotSent), "{error:?}");
        }
        assert_eq!(calls.load(Ordering::SeqCst), 0);
        classic.stop();

        let server = TestServer::start(server, transport, router, ServerConfig::new());
        let client = server.client(kind);
        assert_eq!(client.request("count", &json!(null)).unwrap(), json!(0));
        assert_eq!(client.request("count", &json!(null)).unwrap(), json!(1));
        assert_eq!(client.counted("connections", "total"), 1);
        server.stop();
    });
}

#[test]
fn a_notification_runs_and_is_not_answered() {
    everywhere_with_sessions(|server, client, transport| {
        let (sender, notes) = mpsc::channel();
        let router = Router::new().method("note", move |call: &Call, n: u32| {
            sender.send((call.is_one_way(), n)).unwrap();
            Err::<(), _>(ReplyError::new("nobody hears this"))
        });
        let server = TestServer::start(server, transport, router, ServerConfig::new());
        let client = server.client(client);
        // The first one opens the session.
        for n in 0..100 {
            client.notify("note", &json!(n)).unwrap();
        }
        let mut seen: Vec<_> = (0..100).map(|_| notes.recv_timeout(WATCHDOG).unwrap()).collect();
        seen.sort_unstable();
        assert!(seen.iter().enumerate().all(|(n, note)| *note == (true, n as u32)), "{seen:?}");
        client.notify("nope", &json!(1)).unwrap();
        assert_eq!(client.request("$/ping", &json!(1)).unwrap(), json!(1));
        assert_eq!(client.counted("connections", "total"), 1);
        server.stop();
    });
}

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn meta_comes_with_the_call_and_its_trace_goes_on() {
    everywhere_with_sessions(|server, client, transport| {
        let seen = |call: &Call| {
            json!({
                "n": call.meta_value::<u32>("n"),
                "parent": call.traceparent(),
                "state": call.tracestate(),
            })
        };
        let router = Router::new().method("seen", move |call: &Call| seen(call)).method(
            "both",
            move |call: &Call| -> Result<Value, ReplyError> {
                let back: Value = call.session()?.request("seen", &())?;
                Ok(json!([seen(call), back]))
            },
        );
        let server = TestServer::start(server, transport, router, ServerConfig::new());
        let client = server.client(client);
        client.serve(Router::new().method("seen", move |call: &Call| seen(call))).unwrap();
        let meta = vec![("n", json!(7)), ("traceparent", json!(PARENT)), ("tracestate", json!("vendor=1"))];
        let options = Options { meta, ..Options::default() };
        let here = json!({"n": 7, "parent": PARENT, "state": "vendor=1"});
        assert_eq!(client.ask("seen", &json!(null), &options).unwrap(), here);
        let both = client.ask("both", &json!(null), &options).unwrap();
        assert_eq!(both[0], here);
        // The trace goes on by itself, other entries do not.
        assert_eq!(both[1], json!({"n": null, "parent": PARENT, "state": "vendor=1"}));
        // A call that brings none has none, also after those.
        let none = json!({"n": null, "parent": null, "state": null});
        assert_eq!(client.request("both", &json!(null)).unwrap(), json!([none, none]));
        server.stop();
    });
}

#[test]
fn small_calls_are_answered_beside_large_ones() {
    everywhere_with_sessions(|server, client, transport| {
        let (server, _) = start(server, transport, ServerConfig::new());
        let client = opened(&server, client);
        let large: Vec<_> = (0..3)
            .map(|n: usize| {
                let client = client.clone();
                thread::spawn(move || {
                    let text = json!("abc"[n..=n].repeat(2_000_000));
                    (0..3).all(|_| client.request("echo", &text).unwrap() == text)
                })
            })
            .collect();
        let mut small = 0;
        while large.iter().any(|caller| !caller.is_finished()) {
            assert_eq!(client.request("sum", &json!([small])).unwrap(), json!(small));
            small += 1;
        }
        assert!(large.into_iter().all(|caller| caller.join().unwrap()));
        assert!(small > 3, "{small} small calls beside the large ones");
        assert_eq!(client.counted("connections", "total"), 1);
        server.stop();
    });
}

#[test]
fn quick_calls_go_on_when_a_slow_one_ends_among_them() {
    everywhere_with_sessions(|server, client, transport| {
        // Slow ones of many lengths, so that some of them end while a quick one is at work.
        let router = Router::new().method("echo", |value: Value| value).method("slow", |micros: u64| {
            thread::sleep(Duration::from_micros(micros));
        });
        let server = TestServer::start(server, transport, router, ServerConfig::new());
        let client = opened(&server, client);
        let slow = {
            let client = client.clone();
            thread::spawn(move || {
                for n in 0..60 {
                    client.request("slow", &json!(5_000 + n * 331)).unwrap();
                }
            })
        };
        while !slow.is_finished() {
            client.request("echo", &json!(1)).unwrap();
        }
        slow.join().unwrap();
        server.stop();
    });
}

#[test]
fn a_handler_that_waits_after_many_quick_ones_holds_nobody_up() {
    everywhere_with_sessions(|server, client, transport| {
        let (server, door) = start(server, transport, ServerConfig::new());
        let client = opened(&server, client);
        for n in 0..1000 {
            assert_eq!(client.request("echo", &json!(n)).unwrap(), json!(n));
        }
        let waiting = {
            let client = client.clone();
            thread::spawn(move || client.request("wait", &json!(null)))
        };
        door.wait_for_callers(1);
        // Answered while that one still waits.
        assert_eq!(client.request("echo", &json!("beside")).unwrap(), json!("beside"));
        door.open();
        assert_eq!(waiting.join().unwrap().unwrap(), json!(true));
        server.stop();
    });
}

#[test]
fn a_panic_leaves_the_session_alive() {
    everywhere_with_sessions(|server, client, transport| {
        let (server, _) = start(server, transport, ServerConfig::new());
        let client = opened(&server, client);
        for n in 0..20 {
            assert_eq!(code_of(client.request("panic", &json!(1))), code::INTERNAL);
            assert_eq!(client.request("sum", &json!([n])).unwrap(), json!(n));
        }
        assert_eq!(client.counted("connections", "total"), 1);
        server.stop();
    });
}

#[test]
fn the_protocols_methods_can_be_switched_off_one_by_one() {
    everywhere_with_sessions(|server, client, transport| {
        type Switch = fn(ServerConfig) -> ServerConfig;
        let switches: [(&str, Switch); 4] = [
            ("$/ping", ServerConfig::without_ping),
            ("$/describe", ServerConfig::without_describe),
            ("$/stats", ServerConfig::without_stats),
            ("$/subscribe", ServerConfig::without_subscribe),
        ];
        for (off, switch) in switches {
            let hub = procbridge::Hub::new();
            let router = Router::new().method("sum", |xs: Vec<i64>| xs.iter().sum::<i64>()).events(&hub);
            let server = TestServer::start(server, transport, router, switch(ServerConfig::new()));
            let client = server.client(client);
            assert_eq!(client.request("sum", &json!([1])).unwrap(), json!(1));
            for (method, _) in switches {
                let answer = match method {
                    "$/subscribe" => client.subscribe(&["a"]).map(|_| json!(null)),
                    _ => client.request(method, &json!(5)),
                };
                match answer {
                    Ok(answer) => {
                        assert_ne!(method, off, "{answer}");
                        if method == "$/describe" {
                            let listed = answer["protocol"].as_array().unwrap();
                            assert_eq!(listed.len(), 3, "{listed:?}");
                            assert!(!listed.contains(&json!(off)), "{listed:?}");
                        }
                    }
                    Err(error) => {
                        // Without `$/ping` the server still has sessions, but a client that wants one before its
                        // first call must not fail for it.
                        assert_eq!((method, code_of(Err(error))), (off, code::UNKNOWN_METHOD.to_string()));
                    }
                }
            }
            server.stop();
        }
    });
}

#[test]
fn a_session_without_ping_can_be_opened_for_events_and_methods() {
    everywhere_with_sessions(|server, client, transport| {
        let hub = procbridge::Hub::new();
        let config = ServerConfig::new().without_ping();
        let server = TestServer::start(server, transport, Router::new().events(&hub), config);
        let mut events = server.client(client).subscribe(&["a"]).unwrap();
        hub.publish("a", &1).unwrap();
        assert_eq!(events.next().unwrap().unwrap().payload::<u32>().unwrap(), 1);
        server.client(client).serve(Router::new()).unwrap();
        drop(events);
        server.stop();
    });
}

#[test]
fn compressed_calls_are_the_same_calls() {
    everywhere_with_sessions(|server, client, transport| {
        let (server, _) = start(server, transport, ServerConfig::new());
        for codec in [Codec::Lz4, Codec::Zstd] {
            let proxy = Proxy::start(transport, &server.endpoint);
            let config = ClientConfig::new().with_compression(codec);
            let client = TestClient::new(client, &proxy.endpoint, config);
            assert_eq!(client.request("$/ping", &json!(1)).unwrap(), json!(1));
            let text = json!("all work and no play ".repeat(100_000));
            assert_eq!(client.request("echo", &text).unwrap(), text);
            // Two million bytes each way went as far fewer.
            let (up, down) = proxy.forwarded();
            assert!(up < 200_000 && down < 200_000, "{codec:?}: {up} and {down} bytes");
            for size in [0, 1_000, 1_023, 1_024, 70_000] {
                let text = json!("é".repeat(size));
                assert_eq!(client.request("echo", &text).unwrap(), text);
            }
            let counted = client.stream("count", &json!(100)).unwrap();
            assert_eq!(counted.map(Result::unwrap).count(), 100);
        }
        // A client that does not ask for it gets none.
        let client = opened_with(&server, client, ClientConfig::new());
        assert_eq!(client.request("big", &json!(3_000)).unwrap(), json!("x".repeat(3_000)));
        server.stop();
    });
}
