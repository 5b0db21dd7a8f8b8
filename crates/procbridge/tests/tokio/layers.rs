//! Async layers, what is described, and what is counted of async handlers.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use procbridge::tokio::{Call, Next, Router, layers};
use procbridge::{ReplyError, ServerConfig, code};
use serde_json::{Value, json};

use crate::support::faces::{code_of, refusal};
use crate::{Dropped, eventually, everywhere};

type Seen = Arc<Mutex<Vec<String>>>;

fn told(seen: &Seen, text: String) {
    seen.lock().unwrap().push(text);
}

/// Returns the router with a layer that tells of every call.
fn with_layer(router: Router, name: &'static str, seen: &Seen) -> Router {
    let seen = seen.clone();
    router.layer(move |call: Call, next: Next| {
        let seen = seen.clone();
        async move {
            told(&seen, format!("{name} {}", call.method().unwrap_or("(none)")));
            tokio::task::yield_now().await;
            let handled = next.run().await;
            let outcome = handled.as_ref().map_or_else(|refusal| refusal.code().unwrap_or("error"), |_| "ok");
            told(&seen, format!("{name} {outcome}"));
            handled
        }
    })
}

#[test]
fn layers_are_around_all_methods_the_first_outermost() {
    everywhere(|place| async move {
        let seen = Seen::default();
        let blocking_seen = seen.clone();
        let blocking = procbridge::Router::new()
            .layer(move |call, next| {
                told(&blocking_seen, format!("blocking {}", call.method().unwrap_or("(none)")));
                next.run()
            })
            .method("thread", || 2)
            .describe("thread", "Runs on a thread.");
        let router = with_layer(Router::from(blocking), "outer", &seen).method("task", async || 1);
        let router = with_layer(router, "inner", &seen)
            .method("panic", async || -> u8 {
                tokio::task::yield_now().await;
                panic!("secret")
            })
            .describe("task", "Runs in a task.");
        let (server, client) = place.serve(router, ServerConfig::new());
        let order = |method: &str, outcome: &str, blocking: bool| {
            let mut order = vec![format!("outer {method}"), format!("inner {method}")];
            order.extend(blocking.then(|| format!("blocking {method}")));
            order.extend([format!("inner {outcome}"), format!("outer {outcome}")]);
            order
        };
        let taken = || std::mem::take(&mut *seen.lock().unwrap());
        assert_eq!(client.request::<i32>("task", &()).await.unwrap(), 1);
        assert_eq!(taken(), order("task", "ok", false));
        assert_eq!(client.request::<i32>("thread", &()).await.unwrap(), 2);
        assert_eq!(taken(), order("thread", "ok", true));
        assert_eq!(code_of(client.request("panic", &()).await), code::INTERNAL);
        assert_eq!(taken(), order("panic", code::INTERNAL, false));
        assert_eq!(code_of(client.request("unknown", &()).await), code::UNKNOWN_METHOD);
        assert_eq!(taken(), order("unknown", code::UNKNOWN_METHOD, true));
        assert_eq!(code_of(client.call_without_method().send().await), code::UNKNOWN_METHOD);
        assert_eq!(taken(), order("(none)", code::UNKNOWN_METHOD, true));
        let described: Value = client.request("$/describe", &()).await.unwrap();
        assert!(taken().is_empty());
        let methods = json!([
            {"name": "panic", "kind": "method"},
            {"name": "task", "kind": "method", "doc": "Runs in a task."},
            {"name": "thread", "kind": "method", "doc": "Runs on a thread."},
        ]);
        assert_eq!(described["methods"], methods);
        server.shutdown().await.unwrap();
    });
}

#[test]
fn a_layer_may_refuse_answer_or_panic() {
    struct PanicsAtItsEnd;
    impl Drop for PanicsAtItsEnd {
        fn drop(&mut self) {
            panic!("at the end");
        }
    }
    everywhere(|place| async move {
        let router = Router::new()
            .layer(|call: Call, next: Next| {
                assert_ne!(call.method(), Some("panic_at_once"), "secret");
                async move {
                    match call.method() {
                        Some("refused") => Err(ReplyError::new("not you").with_code(code::DENIED)),
                        Some("answered") => next.into_reply().write(&json!({"by": "a layer"})),
                        Some("panic") => panic!("secret"),
                        Some("panic_at_the_end") => {
                            let _guard = PanicsAtItsEnd;
                            tokio::task::yield_now().await;
                            next.run().await
                        }
                        _ => next.run().await,
                    }
                }
            })
            .method("refused", async || -> u8 { unreachable!("it was refused") })
            .method("panic_at_the_end", async || 1)
            .method("one", async || 1);
        let (server, client) = place.serve(router, ServerConfig::new());
        assert_eq!(refusal(client.request("refused", &()).await).0, "not you");
        let answered: Value = client.request("answered", &()).await.unwrap();
        assert_eq!(answered, json!({"by": "a layer"}));
        for method in ["panic", "panic_at_once", "panic_at_the_end"] {
            assert_eq!(code_of(client.request(method, &()).await), code::INTERNAL, "{method}");
        }
        assert_eq!(client.request::<i32>("one", &()).await.unwrap(), 1);
        server.shutdown().await.unwrap();
    });
}

#[test]
fn a_layer_past_the_time_of_its_call_is_dropped_with_the_handler() {
    everywhere(|place| async move {
        let (sender, dropped) = mpsc::channel();
        let layers_sender = sender.clone();
        let router = Router::new()
            .layer(layers::max_in_flight(1))
            .layer(move |_: Call, next: Next| {
                let guard = Dropped(layers_sender.clone());
                async move {
                    let _guard = guard;
                    next.run().await
                }
            })
            .method("one", async || 1)
            .method("wait", move || {
                let guard = Dropped(sender.clone());
                async move {
                    let _guard = guard;
                    std::future::pending::<()>().await;
                }
            });
        let config =
            ServerConfig::new().with_handler_timeout(Duration::from_millis(50)).with_max_concurrent_calls(1);
        let (server, client) = place.serve(router, config);
        assert_eq!(code_of(client.request("wait", &()).await), code::TIMEOUT);
        dropped.try_recv().unwrap();
        dropped.try_recv().unwrap();
        // Its places are free again.
        assert_eq!(client.request::<i32>("one", &()).await.unwrap(), 1);
        let stats: Value = client.request("$/stats", &()).await.unwrap();
        let wait = &stats["methods"]["wait"];
        assert_eq!((&wait["calls"], &wait["errors"], &wait["in_flight"]), (&json!(1), &json!(1), &json!(0)));
        assert!(wait["p50_us"].as_u64().unwrap() >= 49_000);
        server.shutdown().await.unwrap();
    });
}

#[test]
fn calls_beyond_max_in_flight_are_refused() {
    everywhere(|place| async move {
        let (entered, inside) = mpsc::channel();
        let door = Arc::new(tokio::sync::Notify::new());
        let opened = door.clone();
        let router = Router::new()
            .layer(layers::max_in_flight(1))
            .method("wait", move || {
                entered.send(()).unwrap();
                let door = door.clone();
                async move { door.notified().await }
            })
            .method("one", async || 1);
        let (server, client) = place.serve(router, ServerConfig::new());
        let waiting = tokio::spawn(client.call("wait").send::<()>());
        eventually(async || inside.try_recv().is_ok()).await;
        assert_eq!(code_of(client.request("one", &()).await), code::OVERLOADED);
        opened.notify_one();
        waiting.await.unwrap().unwrap();
        assert_eq!(client.request::<i32>("one", &()).await.unwrap(), 1);
        server.shutdown().await.unwrap();
    });
}

#[test]
fn a_leaked_handler_is_in_flight_until_it_ends() {
    everywhere(|place| async move {
        let (open, door) = mpsc::channel::<()>();
        let door = Mutex::new(door);
        let blocking =
            procbridge::Router::new().layer(procbridge::layers::max_in_flight(5)).method("wait", move || {
                let _ = door.lock().unwrap().recv();
            });
        // Long enough for a thread to have begun with it by then.
        let config = ServerConfig::new().with_handler_timeout(Duration::from_millis(400));
        let (server, client) = place.serve(blocking.into(), config);
        assert_eq!(code_of(client.request("wait", &()).await), code::TIMEOUT);
        let in_flight = async || {
            let stats: Value = client.request("$/stats", &()).await.unwrap();
            stats["methods"]["wait"]["in_flight"].as_u64().unwrap()
        };
        assert_eq!(in_flight().await, 1);
        drop(open);
        eventually(async || in_flight().await == 0).await;
        server.shutdown().await.unwrap();
    });
}
