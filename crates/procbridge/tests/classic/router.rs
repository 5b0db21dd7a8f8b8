//! The parts around the methods: layers, descriptions, the protocol's own methods and their counters, on both faces.

use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use procbridge::{Call, ClientConfig, ReplyError, Router, ServerConfig, SessionMode, code, layers};
use serde_json::{Value, json};

use crate::support::faces::{Face, TestClient, TestServer, Transport, code_of, refusal};
use crate::support::wire::packet;
use crate::support::{each_face, eventually};

fn serve(face: Face, router: Router, config: ServerConfig) -> (TestServer, TestClient) {
    let server = TestServer::start(face, Transport::Unix, router, config);
    let client = server.client(Face::Blocking);
    (server, client)
}

fn ask(client: &TestClient, method: &str, payload: Value) -> Value {
    client.request(method, &payload).unwrap()
}

/// Returns the server's counters, once a call's end has been counted that has been answered already.
fn stats(client: &TestClient, is_settled: impl Fn(&Value) -> bool) -> Value {
    let mut stats = json!(null);
    eventually(|| {
        stats = ask(client, "$/stats", json!(null));
        is_settled(&stats)
    });
    stats
}

#[test]
fn ping_answers_its_payload() {
    each_face(|face| {
        let (_server, client) = serve(face, Router::new(), ServerConfig::new());
        for payload in [json!(null), json!("x"), json!({"a": [1, 2.5, null]})] {
            assert_eq!(ask(&client, "$/ping", payload.clone()), payload);
        }
        let text = r#"{"b": 18446744073709551617,"a":1.10}"#;
        assert_eq!(client.request_text(Some("$/ping"), text).unwrap(), text);
    });
}

#[test]
fn describe_tells_the_methods_by_name() {
    each_face(|face| {
        let router = Router::new()
            .describe("later", "Described before it is added.")
            .describe("never", "Never added.")
            .method("sum", |xs: Vec<i64>| xs.iter().sum::<i64>())
            .method("later", || 1)
            .method("again", || 1)
            .describe("sum", "Adds.")
            .describe("sum", "Adds the numbers.")
            .describe("again", "Stays when the method is replaced.")
            .method("again", || 2);
        let config = ServerConfig::new().with_name("the tests");
        let (_server, client) = serve(face, router.clone(), config);
        let expected = json!({
            "name": "the tests",
            "methods": [
                {"name": "again", "kind": "method", "doc": "Stays when the method is replaced."},
                {"name": "later", "kind": "method", "doc": "Described before it is added."},
                {"name": "sum", "kind": "method", "doc": "Adds the numbers."},
            ],
            "protocol": ["$/describe", "$/ping", "$/stats"],
        });
        assert_eq!(ask(&client, "$/describe", json!(null)), expected);
        let (_server, client) = serve(face, router, ServerConfig::new().without_stats());
        let described = ask(&client, "$/describe", json!(null));
        assert!(described["name"].as_str().unwrap().starts_with("classic-"), "{described}");
        assert_eq!(described["protocol"], json!(["$/describe", "$/ping"]));
    });
}

#[cfg(feature = "schema")]
#[test]
fn describe_shows_schemas() {
    #[derive(serde::Deserialize, schemars::JsonSchema)]
    #[allow(dead_code, reason = "only its shape matters")]
    struct Query {
        /// The words to look for.
        text: String,
        #[serde(default)]
        limit: u32,
    }
    each_face(|face| {
        let router = Router::new()
            .method("find", |_: Query| Vec::<String>::new())
            .schema::<Query, Vec<String>>("find")
            .schema::<(), ()>("never");
        let (_server, client) = serve(face, router, ServerConfig::new());
        let described = ask(&client, "$/describe", json!(null));
        assert_eq!(described["methods"].as_array().unwrap().len(), 1);
        let (payload, result) = (&described["methods"][0]["payload"], &described["methods"][0]["result"]);
        assert_eq!(payload["properties"]["text"]["description"], "The words to look for.");
        assert_eq!(payload["required"], json!(["text"]));
        assert_eq!((&result["type"], &result["items"]["type"]), (&json!("array"), &json!("string")));
    });
}

#[test]
fn what_is_switched_off_is_a_method_like_any() {
    each_face(|face| {
        let off = || ServerConfig::new().without_ping().without_describe().without_stats();
        let (_server, client) = serve(face, Router::new(), off());
        for method in ["$/ping", "$/describe", "$/stats"] {
            assert_eq!(code_of(client.request(method, &json!(1))), code::UNKNOWN_METHOD, "{method}");
        }
        let router = Router::new()
            .method("$/ping", || "mine")
            .fallback(|call, payload: Value| Ok(json!([call.method(), payload])));
        let (_server, client) = serve(face, router.clone(), off());
        assert_eq!(ask(&client, "$/ping", json!(1)), json!("mine"));
        assert_eq!(ask(&client, "$/stats", json!(1)), json!(["$/stats", 1]));
        // Methods of the protocol are those that are switched on, and no others.
        let (_server, client) = serve(face, router, ServerConfig::new());
        assert_eq!(ask(&client, "$/ping", json!(1)), json!(1));
        assert_eq!(ask(&client, "$/other", json!(1)), json!(["$/other", 1]));
    });
}

#[test]
fn stats_counts_calls_connections_and_bytes() {
    each_face(|face| {
        let (open, door) = mpsc::channel::<()>();
        let (entered, inside) = mpsc::channel();
        let door = Mutex::new(door);
        let router = Router::new()
            .method("good", |n: i64| n)
            .method("bad", || Err::<(), _>("no"))
            .method("panic", || -> u8 { panic!("secret") })
            .method("large", || "x".repeat(2000))
            .method("wait", move || {
                entered.send(()).unwrap();
                let _ = door.lock().unwrap().recv();
            });
        let (server, _) = serve(face, router, ServerConfig::new().with_max_body(1000));
        // A connection for each call is what is counted here.
        let alone = ClientConfig::new().with_sessions(SessionMode::Off);
        let client = TestClient::new(Face::Blocking, &server.endpoint, alone);
        let others = thread::spawn({
            let client = client.clone();
            move || client.request("wait", &json!(null))
        });
        inside.recv().unwrap();
        let asked = 4;
        for n in 0..asked {
            assert_eq!(ask(&client, "good", json!(n)), json!(n));
        }
        assert_eq!(code_of(client.request("good", &json!("no number"))), code::INVALID_PAYLOAD);
        for method in ["bad", "panic", "large"] {
            client.request(method, &json!(null)).unwrap_err();
        }
        for unknown in 0..3 {
            let result = client.request(&format!("unknown{unknown}"), &json!(null));
            assert_eq!(code_of(result), code::UNKNOWN_METHOD);
        }
        client.request_without_method(&json!(null)).unwrap_err();

        let idle = server.connect();
        let found = stats(&client, |stats| stats["connections"]["open"].as_u64() == Some(3));
        drop(idle);
        let count = |method: &str, key: &str| found["methods"][method][key].as_u64().unwrap();
        let counts = |method| (count(method, "calls"), count(method, "errors"), count(method, "in_flight"));
        assert_eq!(counts("good"), (5, 1, 0));
        for method in ["bad", "panic", "large"] {
            assert_eq!(counts(method), (1, 1, 0), "{method}");
        }
        assert_eq!(counts("wait"), (0, 0, 1));
        assert_eq!(counts("$/other"), (4, 4, 0));
        assert_eq!(found["methods"].as_object().unwrap().len(), 6);
        assert!(count("good", "p50_us") <= count("good", "p90_us"));
        assert!(count("good", "p99_us") <= count("good", "max_us"));
        assert!(count("good", "max_us") > 0);
        assert_eq!(found["sessions"], json!({"open": 0, "total": 0}));
        assert!(found["connections"]["total"].as_u64().unwrap() >= 15);
        assert!(found["uptime_ms"].is_u64());
        let bytes = |stats: &Value, way: &str| stats["bytes"][way].as_u64().unwrap();
        let before = (bytes(&found, "in"), bytes(&found, "out"));

        // The bytes that one call moves are counted exactly.
        let request = packet(r#"{"method":"good","payload":12345}"#);
        let mut raw = server.connect();
        std::io::Write::write_all(&mut raw, &request).unwrap();
        let mut answer = Vec::new();
        std::io::Read::read_to_end(&mut raw, &mut answer).unwrap();
        let empty = packet(r#"{"method":"$/stats"}"#).len() as u64;
        let found = stats(&client, |stats| bytes(stats, "in") > before.0);
        let looks = (bytes(&found, "in") - before.0 - request.len() as u64) / empty;
        assert_eq!(bytes(&found, "in"), before.0 + request.len() as u64 + looks * empty);
        assert!(bytes(&found, "out") >= before.1 + answer.len() as u64);

        drop(open);
        others.join().unwrap().unwrap();
        let found = stats(&client, |stats| stats["methods"]["wait"]["in_flight"] == 0);
        assert_eq!(found["methods"]["wait"]["errors"], 0);
        server.stop();
    });
}

#[test]
fn a_call_past_its_time_is_an_error_that_is_counted() {
    each_face(|face| {
        let router = Router::new().method("wait", |call: &Call| {
            while !call.is_cancelled() {
                thread::yield_now();
            }
        });
        let config = ServerConfig::new().with_handler_timeout(std::time::Duration::from_millis(100));
        let (_server, client) = serve(face, router, config);
        assert_eq!(code_of(client.request("wait", &json!(null))), code::TIMEOUT);
        let found = stats(&client, |stats| stats["methods"]["wait"]["in_flight"] == 0);
        assert_eq!(
            (&found["methods"]["wait"]["calls"], &found["methods"]["wait"]["errors"]),
            (&json!(1), &json!(1))
        );
        // The time of the handler, which may begin a moment after its call has come.
        assert!(found["methods"]["wait"]["max_us"].as_u64().unwrap() >= 20_000);
    });
}

#[test]
fn layers_are_around_all_methods_the_first_outermost() {
    each_face(|face| {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let layer = |name: &'static str, seen: &Arc<Mutex<Vec<String>>>| {
            let seen = seen.clone();
            move |call: &Call, next: procbridge::Next<'_>| {
                let method = call.method().unwrap_or("(none)").to_string();
                seen.lock().unwrap().push(format!("{name} {method}"));
                let handled = next.run();
                let outcome =
                    handled.as_ref().map_or_else(|refusal| refusal.code().unwrap_or("error"), |_| "ok");
                seen.lock().unwrap().push(format!("{name} {outcome}"));
                handled
            }
        };
        let base = Router::new()
            .layer(layer("outer", &seen))
            .method("one", || 1)
            .layer(layer("inner", &seen))
            .method("panic", || -> u8 { panic!("secret") });
        let (server, client) = serve(face, base.clone(), ServerConfig::new());
        let order = |method: &str, outcome: &str| {
            [
                format!("outer {method}"),
                format!("inner {method}"),
                format!("inner {outcome}"),
                format!("outer {outcome}"),
            ]
        };
        let taken = || std::mem::take(&mut *seen.lock().unwrap());
        assert_eq!(ask(&client, "one", json!(null)), json!(1));
        assert_eq!(taken(), order("one", "ok"));
        assert_eq!(code_of(client.request("panic", &json!(null))), code::INTERNAL);
        assert_eq!(taken(), order("panic", code::INTERNAL));
        assert_eq!(code_of(client.request("unknown", &json!(null))), code::UNKNOWN_METHOD);
        assert_eq!(taken(), order("unknown", code::UNKNOWN_METHOD));
        assert_eq!(code_of(client.request_without_method(&json!(null))), code::UNKNOWN_METHOD);
        assert_eq!(taken(), order("(none)", code::UNKNOWN_METHOD));
        // The protocol's methods are not the router's.
        ask(&client, "$/ping", json!(null));
        assert!(taken().is_empty());
        server.stop();

        let with_fallback = base.fallback(|_, payload: Value| Ok(payload));
        let (_server, client) = serve(face, with_fallback, ServerConfig::new());
        assert_eq!(ask(&client, "any", json!(3)), json!(3));
        assert_eq!(taken(), order("any", "ok"));
    });
}

#[test]
fn a_layer_may_refuse_answer_or_panic() {
    each_face(|face| {
        let router = Router::new()
            .layer(|call, next| match call.method() {
                Some("refused") => Err(ReplyError::new("not you").with_code(code::DENIED)),
                Some("answered") => next.into_reply().write(&json!({"by": "a layer"})),
                Some("empty") => Ok(next.into_reply()),
                Some("panic") => panic!("secret"),
                Some("after") => next.run().and_then(|_| Err(ReplyError::new("too good"))),
                Some("mended") => Err(next.run().unwrap_err().with_code("mine.own")),
                _ => next.run(),
            })
            .method("refused", || -> u8 { unreachable!("it was refused") })
            .method("after", || 1)
            .method("mended", || Err::<(), _>("no"))
            .method("one", || 1);
        let (server, client) = serve(face, router, ServerConfig::new());
        let fails = |method: &str| code_of(client.request(method, &json!(null)));
        assert_eq!(fails("refused"), code::DENIED);
        assert_eq!(ask(&client, "answered", json!(null)), json!({"by": "a layer"}));
        assert_eq!(ask(&client, "empty", json!(null)), json!(null));
        assert_eq!(fails("panic"), code::INTERNAL);
        assert_eq!(refusal(client.request("after", &json!(null))), ("too good".to_string(), None, None));
        assert_eq!(fails("mended"), "mine.own");
        assert_eq!(ask(&client, "one", json!(null)), json!(1));
        server.stop();
    });
}

#[test]
fn calls_beyond_max_in_flight_are_refused() {
    each_face(|face| {
        let (open, door) = mpsc::channel::<()>();
        let (entered, inside) = mpsc::channel();
        let door = Mutex::new(door);
        let router = Router::new()
            .layer(layers::max_in_flight(1))
            .method("wait", move || {
                entered.send(()).unwrap();
                let _ = door.lock().unwrap().recv();
            })
            .method("panic", || -> u8 { panic!("secret") })
            .method("one", || 1);
        let (server, client) = serve(face, router, ServerConfig::new());
        let waiting = thread::spawn({
            let client = client.clone();
            move || client.request("wait", &json!(null))
        });
        inside.recv().unwrap();
        let error = client.request("one", &json!(null)).unwrap_err();
        let message = "the server has reached its limit of calls in flight (max_in_flight = 1)";
        assert_eq!(error.remote().unwrap().message(), message);
        assert_eq!(error.remote().unwrap().code(), Some(code::OVERLOADED));
        ask(&client, "$/ping", json!(null));
        drop(open);
        waiting.join().unwrap().unwrap();
        // However a call ends, its place is free again.
        for _ in 0..2 {
            assert_eq!(code_of(client.request("panic", &json!(null))), code::INTERNAL);
            assert_eq!(ask(&client, "one", json!(null)), json!(1));
        }
        server.stop();
    });
}

#[test]
fn a_call_tells_its_trace() {
    each_face(|face| {
        let router =
            Router::new().method("trace", |call: &Call| json!([call.traceparent(), call.tracestate()]));
        let (server, _) = serve(face, router, ServerConfig::new());
        let ask = |meta: &Value| {
            let mut raw = server.connect();
            let body = json!({"method": "trace", "meta": meta}).to_string();
            std::io::Write::write_all(&mut raw, &packet(&body)).unwrap();
            raw.answer().unwrap().1["payload"].clone()
        };
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let meta = json!({"traceparent": parent, "tracestate": "a=1,b=2", "other": {}});
        assert_eq!(ask(&meta), json!([parent, "a=1,b=2"]));
        assert_eq!(ask(&json!({"traceparent": parent, "tracestate": 1})), json!([parent, null]));
        // A malformed value is as good as absent.
        assert_eq!(ask(&json!({"traceparent": "x", "tracestate": "a=1"})), json!([null, null]));
        assert_eq!(ask(&json!([parent])), json!([null, null]));
        server.stop();
    });
}
