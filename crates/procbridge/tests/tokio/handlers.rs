//! The arguments and results of functions, seen from the caller: every form of handler, every form of failure.

use std::cell::Cell;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use procbridge::tokio::{Call, Client, ItemSink, Next, Router, layers};
use procbridge::{ReplyError, ServerConfig, code};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::support::block_on;
use crate::support::faces::{code_of, refusal};
use crate::{Dropped, eventually, everywhere};

#[derive(Debug, Deserialize, Serialize)]
struct Point {
    x: f64,
    y: f64,
}

async fn add((a, b): (i64, i64)) -> i64 {
    a + b
}

async fn whoami(call: Call) -> String {
    tokio::task::yield_now().await;
    call.peer().to_string()
}

async fn ask(client: &Client, method: &str, payload: Value) -> Value {
    client.request(method, &payload).await.unwrap()
}

#[test]
fn every_form_of_function_answers() {
    let router = || {
        Router::new()
            .method("nothing", || async { 7 })
            .method("typed", |xs: Vec<i64>| async move { xs.iter().sum::<i64>() })
            .method("tuple", add)
            .method("struct", |point: Point| async move { Point { x: point.y, y: point.x } })
            .method("value", |value: Value| async move { value })
            .method("option", |name: Option<String>| async move { name.unwrap_or("nobody".to_string()) })
            .method("unit", |(): ()| async {})
            .method("raw", |raw: Box<RawValue>| async move { raw })
            .method("context", whoami)
            .method("both", |call: Call, n: i64| async move { format!("{}{n}", call.method().unwrap()) })
            .method("ready", |n: i64| std::future::ready(n))
            .method("result", |n: i64| async move {
                if n > 0 { Ok(n) } else { Err(ReplyError::new("not positive")) }
            })
            .fallback(|call: Call, payload: Value| async move { Ok(json!([call.method(), payload])) })
    };
    everywhere(|place| async move {
        let (_server, client) = place.serve(router(), ServerConfig::new());
        assert_eq!(ask(&client, "nothing", json!("ignored")).await, json!(7));
        assert_eq!(ask(&client, "typed", json!([1, 2, 3])).await, json!(6));
        assert_eq!(ask(&client, "tuple", json!([1, 2])).await, json!(3));
        assert_eq!(ask(&client, "struct", json!({"x": 1.5, "y": 2.5})).await, json!({"x": 2.5, "y": 1.5}));
        assert_eq!(ask(&client, "value", json!({"a": null})).await, json!({"a": null}));
        assert_eq!(ask(&client, "option", json!(null)).await, json!("nobody"));
        assert_eq!(ask(&client, "unit", json!(null)).await, json!(null));
        let text = r#"{"b": 18446744073709551617,"a":1.10, "é":"\u00e9\ud800"}"#;
        let raw = RawValue::from_string(text.to_string()).unwrap();
        assert_eq!(client.request::<Box<RawValue>>("raw", &raw).await.unwrap().get(), text);
        let peer = if place.endpoint.starts_with("unix:") { "unix:uid=" } else { "tcp:127.0.0.1:" };
        assert!(ask(&client, "context", json!(null)).await.as_str().unwrap().starts_with(peer));
        assert_eq!(ask(&client, "both", json!(1)).await, json!("both1"));
        assert_eq!(ask(&client, "ready", json!(1)).await, json!(1));
        assert_eq!(ask(&client, "result", json!(1)).await, json!(1));
        assert_eq!(ask(&client, "other", json!([])).await, json!(["other", []]));
        assert_eq!(client.call_without_method().send::<Value>().await.unwrap(), json!([null, null]));
    });
}

/// Layers of a router stay around its methods, wherever these go.
fn marked(mark: &'static str) -> impl Fn(Call, Next) -> layers::Layered + Send + Sync + 'static {
    move |_, next| {
        Box::pin(async move {
            next.run().await.map_err(|error| ReplyError::new(format!("{mark}({})", error.message())))
        })
    }
}

#[test]
fn routers_share_state_and_are_merged_and_nested_with_their_layers() {
    async fn add(total: Arc<AtomicI64>, n: i64) -> i64 {
        total.fetch_add(n, Ordering::Relaxed) + n
    }
    async fn fails() -> Result<(), std::num::ParseIntError> {
        "no".parse::<i64>().map(drop)
    }
    let router = || {
        let inner = Router::with_state(AtomicI64::new(10))
            .layer(marked("inner"))
            .method("add", add)
            .method("total", |total: Arc<AtomicI64>| async move { total.load(Ordering::Relaxed) })
            .method("whole", |total: Arc<AtomicI64>, call: Call, n: i64| async move {
                format!("{} {}", call.method().unwrap(), add(total, n).await)
            })
            .stream("items", |total: Arc<AtomicI64>, n: i64, mut items: ItemSink| async move {
                items.send(&add(total, n).await).await
            })
            .method("fails", fails);
        let blocking = procbridge::Router::with_state(7)
            .layer(|_, next| {
                next.run().map_err(|error| ReplyError::new(format!("thread({})", error.message())))
            })
            .method("seven", |seven: &i32| *seven)
            .method("fails on a thread", || Err::<(), _>("no"));
        Router::new()
            .method("total", || async { "replaced" })
            .layer(marked("outer"))
            .nest("in", Router::new().layer(marked("middle")).nest("most", inner.clone()))
            .merge(inner)
            .merge(Router::from(blocking).layer(marked("async")))
    };
    everywhere(|place| async move {
        let (_server, client) = place.serve(router(), ServerConfig::new());
        assert_eq!(ask(&client, "in.most.add", json!(5)).await, json!(15));
        assert_eq!(ask(&client, "total", json!(null)).await, json!(15));
        assert_eq!(ask(&client, "whole", json!(1)).await, json!("whole 16"));
        assert_eq!(ask(&client, "items", json!(4)).await, json!([20]));
        assert_eq!(ask(&client, "seven", json!(null)).await, json!(7));
        let digits = "invalid digit found in string";
        for (method, expected) in [
            ("in.most.fails", format!("outer(middle(inner({digits})))")),
            ("fails", format!("outer(inner({digits}))")),
            ("fails on a thread", "outer(async(thread(no)))".to_string()),
            ("unknown", "outer(async(thread(unknown method \"unknown\")))".to_string()),
        ] {
            assert_eq!(refusal(client.request(method, &()).await).0, expected);
        }
    });
}

#[test]
fn every_form_of_failure_is_a_bad_response() {
    struct PanicsAtItsEnd;
    impl Drop for PanicsAtItsEnd {
        fn drop(&mut self) {
            panic!("at the end");
        }
    }
    let router = || {
        Router::new()
            .method("refusal", || async {
                Err::<(), _>(
                    ReplyError::new("too much").with_code("calc.overflow").with_data(&json!({"max": 10})),
                )
            })
            .method("string", || async { Err::<(), _>("plain".to_string()) })
            .method("own", || async { Err::<(), _>(json!({"field": 1})) })
            .method("error", |text: String| async move { Ok::<_, ReplyError>(text.parse::<i64>()?) })
            .method("nan", || async { vec![1.0, f64::NAN] })
            .method("panic", || async {
                tokio::task::yield_now().await;
                panic!("secret") as u8
            })
            .method("panic_at_once", |n: u8| {
                assert_eq!(n, 1, "secret");
                async { 1 }
            })
            .method("panic_at_the_end", || async {
                let _guard = PanicsAtItsEnd;
                tokio::task::yield_now().await;
                1
            })
            .method("large", || async { "x".repeat(1000) })
            .method("sum", |xs: Vec<i64>| async move { xs.iter().sum::<i64>() })
    };
    let no = |message: &str, code: Option<&str>, data: Option<&str>| {
        (message.to_string(), code.map(str::to_string), data.map(str::to_string))
    };
    everywhere(|place| async move {
        let (server, client) = place.serve(router(), ServerConfig::new().with_max_body(1000));
        let ask = async |method: &str, payload: Value| refusal(client.request(method, &payload).await);
        let expected = no("too much", Some("calc.overflow"), Some("{\"max\":10}"));
        assert_eq!(ask("refusal", json!(null)).await, expected);
        assert_eq!(ask("string", json!(null)).await, no("plain", None, None));
        assert_eq!(
            ask("own", json!(null)).await,
            no("the method returned an error", None, Some("{\"field\":1}"))
        );
        assert_eq!(ask("error", json!("x")).await, no("invalid digit found in string", None, None));
        let nan = "the result cannot be sent: JSON has no NaN";
        assert_eq!(ask("nan", json!(null)).await, no(nan, Some(code::INTERNAL), None));
        let panic = no("the method failed unexpectedly (panic)", Some(code::INTERNAL), None);
        assert_eq!(ask("panic", json!(null)).await, panic);
        assert_eq!(ask("panic_at_once", json!(2)).await, panic);
        assert_eq!(ask("panic_at_the_end", json!(null)).await, panic);
        let large = "the result cannot be sent: body of 1014 B exceeds the limit of 1000 B (max_body)";
        assert_eq!(ask("large", json!(null)).await, no(large, Some(code::TOO_LARGE), None));
        let invalid = "invalid payload for \"sum\": found null, expected a sequence at line 1 column 4";
        assert_eq!(ask("sum", json!(null)).await, no(invalid, Some(code::INVALID_PAYLOAD), None));
        let unknown = no("unknown method \"nope\"", Some(code::UNKNOWN_METHOD), None);
        assert_eq!(ask("nope", json!(null)).await, unknown);
        // And it is still there.
        assert_eq!(client.request::<i64>("sum", &[1, 2]).await.unwrap(), 3);
        server.shutdown().await.unwrap();
    });
}

#[test]
fn the_delegate_sees_method_and_payload() {
    everywhere(|place| async move {
        let router = Router::delegate(|method: Option<String>, payload: Value| async move {
            match method.as_deref() {
                Some("echo") => Ok(payload),
                other => Err(ReplyError::unknown_method(other)),
            }
        });
        let (_server, client) = place.serve(router, ServerConfig::new());
        assert_eq!(client.request::<Value>("echo", &[1]).await.unwrap(), json!([1]));
        assert_eq!(refusal(client.request("x", &()).await).0, "unknown method \"x\"");
        assert_eq!(refusal(client.call_without_method().send().await).0, "the request names no method");
    });
}

#[test]
fn a_blocking_router_is_taken_over_as_it_is() {
    let blocking = procbridge::Router::new()
        .method("sum", |xs: Vec<i64>| xs.iter().sum::<i64>())
        .method("panic", || -> u8 { panic!("secret") })
        .fallback(|call, payload| Ok(json!([call.method(), payload])));
    everywhere(move |place| {
        let router = Router::from(blocking.clone()).method("seven", || async { 7 });
        async move {
            let (server, client) = place.serve(router, ServerConfig::new());
            assert_eq!(ask(&client, "sum", json!([1, 2])).await, json!(3));
            assert_eq!(ask(&client, "seven", json!(null)).await, json!(7));
            assert_eq!(ask(&client, "other", json!(1)).await, json!(["other", 1]));
            assert_eq!(code_of(client.request("panic", &()).await), code::INTERNAL);
            server.shutdown().await.unwrap();
        }
    });
}

#[test]
fn a_blocking_handler_past_its_time_is_told_and_counted_until_it_ends() {
    everywhere(|place| async move {
        let (open, door) = mpsc::channel::<()>();
        let door = std::sync::Mutex::new(door);
        let (told, heard) = mpsc::channel();
        let blocking = procbridge::Router::new().method("wait", move |call: &procbridge::Call| {
            while !call.is_cancelled() {
                std::thread::yield_now();
            }
            told.send(()).unwrap();
            let _ = door.lock().unwrap().recv();
        });
        let config =
            ServerConfig::new().with_handler_timeout(Duration::from_secs(1)).with_max_concurrent_calls(1);
        let (server, client) = place.serve(blocking.into(), config);
        let handle = server.handle();
        assert_eq!(code_of(client.request("wait", &()).await), code::TIMEOUT);
        tokio::task::spawn_blocking(move || heard.recv().unwrap()).await.unwrap();
        assert_eq!(handle.leaked_handlers(), 1);
        // It still has its place: the thread is not free.
        assert_eq!(code_of(client.request("wait", &()).await), code::OVERLOADED);
        // The server ends without it.
        server.shutdown().await.unwrap();
        assert_eq!(handle.leaked_handlers(), 1);
        drop(open);
        eventually(async || handle.leaked_handlers() == 0).await;
    });
}

#[test]
fn a_blocking_handler_that_finds_no_thread_in_time_never_begins() {
    let (open, door) = mpsc::channel::<()>();
    let (entered, inside) = mpsc::channel();
    let door = std::sync::Mutex::new(door);
    let blocking = procbridge::Router::new()
        .method("hold", move || {
            entered.send(()).unwrap();
            let _ = door.lock().unwrap().recv();
        })
        .method("never", || -> u8 { panic!("it began") });
    let runtime =
        tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).enable_all().build().unwrap();
    block_on(&runtime, async {
        let server = procbridge::tokio::Server::bind(":0").unwrap().spawn(blocking.into());
        let client = Client::new(server.endpoint()).unwrap();
        let held = tokio::spawn(client.call("hold").send::<()>());
        eventually(async || inside.try_recv().is_ok()).await;
        let late = client.call("never").timeout(Duration::from_millis(50)).send::<Value>().await;
        assert!(late.unwrap_err().is_timeout());
        eventually(async || server.handle().leaked_handlers() == 0).await;
        drop(open);
        held.await.unwrap().unwrap();
        server.shutdown().await.unwrap();
    });
}

#[test]
fn a_handler_past_its_limit_is_dropped_and_its_caller_told() {
    everywhere(|place| async move {
        let (sender, dropped) = mpsc::channel();
        let (saver, saved) = mpsc::channel();
        let router = Router::new().method("wait", move |call: Call| {
            let guard = Dropped(sender.clone());
            let saver = saver.clone();
            async move {
                let _guard = guard;
                saver.send(call.clone()).unwrap();
                std::future::pending::<()>().await;
            }
        });
        let config = ServerConfig::new().with_handler_timeout(Duration::from_millis(50));
        let (server, client) = place.serve(router, config);
        let message = "the method did not finish within its timeout".to_string();
        let expected = (message, Some(code::TIMEOUT.to_string()), None);
        assert_eq!(refusal(client.request("wait", &()).await), expected);
        // It is dropped before the answer is sent, and code that kept the call learns of it.
        dropped.try_recv().unwrap();
        let call: Call = saved.try_recv().unwrap();
        assert!(call.is_cancelled());
        assert_eq!(call.remaining(), Some(Duration::ZERO));
        assert_eq!(server.handle().leaked_handlers(), 0);
        server.shutdown().await.unwrap();
    });
}

#[test]
fn a_call_can_be_sent_to_another_thread_whatever_its_payload_is() {
    fn is_send<T: Send>(future: T) -> T {
        future
    }
    everywhere(|place| async move {
        let router = Router::new().method("echo", |value: Value| async move { value });
        let (_server, client) = place.serve(router, ServerConfig::new());
        let payload = Cell::new(3);
        assert_eq!(is_send(client.request::<i32>("echo", &payload)).await.unwrap(), 3);
        let spawned = tokio::spawn(client.call("echo").payload(&"x".to_string()).send::<String>());
        assert_eq!(spawned.await.unwrap().unwrap(), "x");
    });
}
