//! Many calls on one connection, in both directions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use procbridge::tokio::{Call, Client, Router, Server};
use procbridge::{ClientConfig, ErrorKind, Outcome, ReplyError, ServerConfig, SessionMode, code};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use crate::support::faces::{code_of, refusal};
use crate::support::{WATCHDOG, block_on};
use crate::{Dropped, counted, cut, eventually, everywhere, with_sessions};

fn router() -> Router {
    Router::new().method("echo", async |value: Value| value).method("late", async |value: Value| {
        tokio::task::yield_now().await;
        value
    })
}

/// Methods that answer at once, and one that waits until the door is open.
fn router_with_door(door: &watch::Receiver<bool>) -> Router {
    let door = door.clone();
    router().method("wait", move |n: u32| {
        let mut door = door.clone();
        async move { door.wait_for(|open| *open).await.map(|_| n).map_err(|_| ReplyError::new("closed")) }
    })
}

#[test]
fn one_connection_carries_all_calls() {
    with_sessions(|place| async move {
        let (server, client) = place.serve(router(), ServerConfig::new());
        for n in 0..500 {
            let method = if n % 2 == 0 { "echo" } else { "late" };
            assert_eq!(client.request::<u32>(method, &n).await.unwrap(), n);
        }
        let calls: Vec<_> =
            (0..100).map(|n| tokio::spawn(client.call("late").payload(&n).send::<u32>())).collect();
        for (n, call) in calls.into_iter().enumerate() {
            assert_eq!(call.await.unwrap().unwrap() as usize, n);
        }
        assert_eq!(counted(&client, "connections", "total").await, 1);
        assert_eq!(counted(&client, "sessions", "open").await, 1);
        server.shutdown().await.unwrap();
    });
}

#[test]
fn ten_thousand_calls_are_in_flight_on_one_session() {
    with_sessions(|place| async move {
        let (open, door) = watch::channel(false);
        let config = ServerConfig::new().with_max_session_calls(20_000).with_max_concurrent_calls(20_000);
        let (server, client) = place.serve(router_with_door(&door), config);
        client.request::<()>("echo", &()).await.unwrap();
        let calls: Vec<_> =
            (0..10_000).map(|n| tokio::spawn(client.call("wait").payload(&n).send::<u32>())).collect();
        eventually(async || open.receiver_count() == 10_002).await;
        // Calls that wait hold no other calls up.
        assert_eq!(client.request::<u32>("echo", &7).await.unwrap(), 7);
        open.send(true).unwrap();
        for (n, call) in calls.into_iter().enumerate() {
            assert_eq!(call.await.unwrap().unwrap() as usize, n);
        }
        assert_eq!(counted(&client, "connections", "total").await, 1);
        server.shutdown().await.unwrap();
    });
}

#[test]
fn calls_beyond_the_limit_of_a_session_are_told() {
    with_sessions(|place| async move {
        let (open, door) = watch::channel(false);
        let (server, client) =
            place.serve(router_with_door(&door), ServerConfig::new().with_max_session_calls(2));
        let client =
            Client::with_config(client.endpoint(), ClientConfig::new().with_queue_timeout(None)).unwrap();
        client.request::<()>("echo", &()).await.unwrap();
        let waiting: Vec<_> =
            (0..2).map(|n| tokio::spawn(client.call("wait").payload(&n).send::<u32>())).collect();
        eventually(async || open.receiver_count() == 4).await;
        let (message, code, _) = refusal(client.request("echo", &1).await);
        assert_eq!(
            (&*message, code.as_deref()),
            (
                "the session has reached its limit of 2 calls in flight (max_session_calls)",
                Some(code::OVERLOADED)
            )
        );
        open.send(true).unwrap();
        for call in waiting {
            call.await.unwrap().unwrap();
        }
        assert_eq!(client.request::<u32>("echo", &7).await.unwrap(), 7);
        server.shutdown().await.unwrap();
    });
}

#[test]
fn whoever_waits_for_a_turn_may_give_it_up() {
    with_sessions(|place| async move {
        let (open, door) = watch::channel(false);
        let config = ServerConfig::new().with_max_session_calls(2);
        let (server, client) = place.serve(router_with_door(&door), config);
        let config = ClientConfig::new().with_queue_timeout(WATCHDOG);
        let client = Client::with_config(client.endpoint(), config).unwrap();
        client.request::<()>("echo", &()).await.unwrap();
        let call = |n: u32| client.call("wait").payload(&n).send::<u32>();
        let first: Vec<_> = (0..2).map(|n| tokio::spawn(call(n))).collect();
        eventually(async || open.receiver_count() == 4).await;
        let mut held: Vec<_> = (2..12).map(|n| Box::pin(call(n))).collect();
        for call in &mut held {
            assert!(cut(1, call.as_mut()).await.is_none());
        }
        // Of those that wait every second one, the first too, is dropped: the others have their turns all the same.
        let mut number = 0;
        held.retain(|_| {
            number += 1;
            number % 2 == 0
        });
        open.send(true).unwrap();
        for call in first {
            call.await.unwrap().unwrap();
        }
        for (at, call) in held.into_iter().enumerate() {
            assert_eq!(call.await.unwrap() as usize, 3 + 2 * at);
        }
        assert_eq!(counted(&client, "sessions", "total").await, 1);
        server.shutdown().await.unwrap();
    });
}

#[test]
fn a_handler_that_fails_or_panics_leaves_the_session_as_it_is() {
    with_sessions(|place| async move {
        let router = router()
            .method("panic", async || -> u8 { panic!("at once") })
            .method("panic_late", async || -> u8 {
                tokio::task::yield_now().await;
                panic!("late")
            })
            .method("fail", async || Err::<(), _>(ReplyError::new("no").with_code("test.no")));
        let (server, client) = place.serve(router, ServerConfig::new());
        for _ in 0..50 {
            assert_eq!(code_of(client.request("panic", &()).await), code::INTERNAL);
            assert_eq!(code_of(client.request("panic_late", &()).await), code::INTERNAL);
            assert_eq!(code_of(client.request("fail", &()).await), "test.no");
        }
        assert_eq!(client.request::<u32>("echo", &7).await.unwrap(), 7);
        assert_eq!(counted(&client, "connections", "total").await, 1);
        server.shutdown().await.unwrap();
    });
}

#[test]
fn a_call_that_is_given_up_ends_its_handler_and_nothing_else() {
    with_sessions(|place| async move {
        let (entered, mut inside) = mpsc::unbounded_channel();
        let (sender, dropped) = std::sync::mpsc::channel();
        let router = router().method("wait", move |call: Call| {
            let (entered, guard) = (entered.clone(), Dropped(sender.clone()));
            async move {
                let _guard = guard;
                entered.send(call).unwrap();
                std::future::pending::<()>().await
            }
        });
        let (server, client) = place.serve(router, ServerConfig::new().with_max_session_calls(1));
        client.request::<()>("echo", &()).await.unwrap();
        for limit in [None, Some(Duration::from_millis(20))] {
            let call = client.call("wait");
            let call = tokio::spawn(match limit {
                Some(limit) => call.timeout(limit).send::<()>(),
                None => call.send::<()>(),
            });
            let seen = inside.recv().await.unwrap();
            match limit {
                None => {
                    call.abort();
                    assert!(call.await.unwrap_err().is_cancelled());
                }
                Some(_) => {
                    let error = call.await.unwrap().unwrap_err();
                    assert!(error.is_timeout(), "{error}");
                }
            }
            eventually(async || dropped.try_recv().is_ok()).await;
            assert!(seen.is_cancelled());
            // Its place is free again.
            eventually(async || client.request::<u32>("echo", &7).await.is_ok_and(|n| n == 7)).await;
        }
        assert_eq!(counted(&client, "connections", "total").await, 1);
        server.shutdown().await.unwrap();
    });
}

#[test]
fn a_notification_runs_and_is_not_answered() {
    everywhere(|place| async move {
        let (sender, mut notes) = mpsc::unbounded_channel();
        let router = router().method("note", move |call: Call, n: u32| {
            sender.send((call.is_one_way(), n)).unwrap();
            async { Err::<(), _>(ReplyError::new("nobody hears this")) }
        });
        let (server, client) = place.serve(router, ServerConfig::new());
        let is_session = place.sessions == SessionMode::Auto;
        let large = "x".repeat(300_000);
        for n in 0..10 {
            client.notify("note", &n).await.unwrap();
            assert_eq!(notes.recv().await.unwrap(), (is_session, n));
            client.notify("echo", &large).await.unwrap();
        }
        assert_eq!(client.request::<u32>("echo", &7).await.unwrap(), 7);
        server.shutdown().await.unwrap();
    });
}

#[test]
fn meta_and_trace_travel_with_a_call() {
    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    everywhere(|place| async move {
        let router = Router::new()
            .method("meta", async |call: Call| {
                tokio::task::yield_now().await;
                json!([call.meta_value::<u32>("n"), call.traceparent()])
            })
            .method("pass", async |call: Call| -> Result<Value, ReplyError> {
                tokio::task::yield_now().await;
                // A call that a handler makes belongs to the trace of the call that it answers.
                Ok(call.session()?.request("meta", &()).await?)
            });
        let (server, client) = place.serve(router.clone(), ServerConfig::new());
        let call = |method| client.call(method).meta("n", 3).meta("traceparent", PARENT);
        assert_eq!(call("meta").send::<Value>().await.unwrap(), json!([3, PARENT]));
        if place.sessions == SessionMode::Auto {
            client.serve(router).await.unwrap();
            assert_eq!(call("pass").send::<Value>().await.unwrap(), json!([null, PARENT]));
        }
        let error = client.call("meta").meta("n", f64::NAN).send::<Value>().await.unwrap_err();
        assert_eq!(error.to_string(), "the entry \"n\" of meta cannot be sent: JSON has no NaN");
        server.shutdown().await.unwrap();
    });
}

/// Halves a number by asking the other side to go on with it, and counts the steps.
async fn descend(call: Call, n: u32) -> Result<u32, ReplyError> {
    if n == 0 {
        return Ok(0);
    }
    Ok(call.session()?.request::<u32>("descend", &(n / 2)).await? + 1)
}

#[test]
fn reverse_calls_nest() {
    with_sessions(|place| async move {
        let (server, client) = place.serve(Router::new().method("descend", descend), ServerConfig::new());
        let error = refusal(client.request::<Value>("descend", &8).await);
        assert!(error.0.contains("takes no calls"), "{error:?}");
        client.serve(Router::new().method("descend", descend)).await.unwrap();
        assert_eq!(client.request::<u32>("descend", &1000).await.unwrap(), 10);
        let again = client.serve(Router::new()).await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::InvalidInput);
        let calls: Vec<_> =
            (0..10).map(|_| tokio::spawn(client.call("descend").payload(&1000).send::<u32>())).collect();
        for call in calls {
            assert_eq!(call.await.unwrap().unwrap(), 10);
        }
        server.shutdown().await.unwrap();
    });
}

#[test]
fn a_blocking_handler_calls_back_too() {
    with_sessions(|place| async move {
        let blocking = procbridge::Router::new().method("greet", |call: &procbridge::Call| {
            let name: String = call.session()?.request("name", &())?;
            Ok::<_, ReplyError>(format!("hello {name}"))
        });
        let (server, client) = place.serve(blocking.into(), ServerConfig::new());
        client.serve(Router::new().method("name", async || "world")).await.unwrap();
        for _ in 0..20 {
            assert_eq!(client.request::<String>("greet", &()).await.unwrap(), "hello world");
        }
        server.shutdown().await.unwrap();
    });
}

#[test]
fn a_session_is_kept_by_a_handler_and_calls_on_its_own() {
    with_sessions(|place| async move {
        let (sender, mut sessions) = mpsc::unbounded_channel();
        let router = Router::new().method("join", move |call: Call| {
            let sender = sender.clone();
            async move { Ok::<_, ReplyError>(sender.send(call.session()?).is_ok()) }
        });
        let (server, client) = place.serve(router, ServerConfig::new());
        let (note, mut notes) = mpsc::unbounded_channel();
        let served = Router::new()
            .method("note", move |n: u32| {
                note.send(n).unwrap();
                async {}
            })
            .method("wait", async || std::future::pending::<()>().await);
        client.serve(served).await.unwrap();
        assert!(client.request::<bool>("join", &()).await.unwrap());
        let session = sessions.recv().await.unwrap();
        assert!(session.is_open());
        session.notify("note", &1).await.unwrap();
        session.request::<()>("note", &2).await.unwrap();
        assert_eq!((notes.recv().await, notes.recv().await), (Some(1), Some(2)));
        let late = session.call("wait").timeout(Duration::from_millis(20)).send::<()>().await.unwrap_err();
        assert!(late.is_timeout());
        // The last client is gone, and its session with it.
        let waiting = tokio::spawn(session.call("wait").send::<()>());
        tokio::task::yield_now().await;
        drop(client);
        let error = waiting.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
        assert!(!session.is_open());
        let error = session.request::<()>("note", &3).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Disconnected, Outcome::NotSent));
        server.shutdown().await.unwrap();
    });
}

#[test]
fn a_serve_that_is_given_up_leaves_a_client_that_can_serve() {
    with_sessions(|place| async move {
        let (server, client) = place.serve(Router::new().method("descend", descend), ServerConfig::new());
        let serve = || client.serve(Router::new().method("descend", descend));
        let mut cuts = 0;
        while cut(cuts, serve()).await.is_none() {
            cuts += 1;
        }
        assert!(cuts > 1, "{cuts}");
        assert_eq!(client.request::<u32>("descend", &1000).await.unwrap(), 10);
        server.shutdown().await.unwrap();
    });
}

#[test]
fn who_holds_no_sessions_gets_a_connection_for_each_call() {
    with_sessions(|place| async move {
        let router = router().method("back", async |call: Call| call.session().map(drop));
        let (server, client) = place.serve(router.clone(), ServerConfig::new().without_sessions());
        for n in 0..10 {
            assert_eq!(client.request::<u32>("late", &n).await.unwrap(), n);
        }
        assert_eq!(counted(&client, "connections", "total").await, 11);
        assert_eq!(
            refusal(client.request("back", &()).await).0,
            "the caller holds no session, so it cannot be called"
        );
        let items = client.stream::<u32>("echo", &[1, 2, 3]).await.unwrap();
        assert_eq!(crate::streams::all(items).await.unwrap(), [1, 2, 3]);
        assert_eq!(client.subscribe(["a"]).await.unwrap_err().kind(), ErrorKind::Protocol);
        assert_eq!(client.serve(Router::new()).await.unwrap_err().kind(), ErrorKind::Protocol);
        let required = ClientConfig::new().with_sessions(SessionMode::Required);
        let required = Client::with_config(server.endpoint(), required).unwrap();
        let error = required.request::<u32>("echo", &1).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Protocol, Outcome::NotSent), "{error}");
        server.shutdown().await.unwrap();
    });
}

#[test]
fn a_client_that_requires_a_session_gets_one() {
    with_sessions(|place| async move {
        let (server, _) = place.serve(router(), ServerConfig::new());
        let config = ClientConfig::new().with_sessions(SessionMode::Required);
        let client = Client::with_config(server.endpoint(), config).unwrap();
        for n in 0..10 {
            assert_eq!(client.request::<u32>("late", &n).await.unwrap(), n);
        }
        assert_eq!(counted(&client, "connections", "total").await, 1);
        server.shutdown().await.unwrap();
    });
}

#[test]
fn small_calls_pass_large_ones() {
    with_sessions(|place| async move {
        let (server, client) = place.serve(router(), ServerConfig::new());
        let large = "x".repeat(8_000_000);
        let echoed = Arc::new(AtomicUsize::new(0));
        let transfer = {
            let (call, echoed) = (client.call("echo").payload(&large).send::<String>(), echoed.clone());
            tokio::spawn(async move {
                let answer = call.await;
                echoed.store(1, Ordering::Relaxed);
                answer
            })
        };
        let mut small = 0;
        while echoed.load(Ordering::Relaxed) == 0 {
            assert_eq!(client.request::<u32>("echo", &small).await.unwrap(), small);
            small += 1;
        }
        assert!(small > 1, "{small}");
        assert_eq!(transfer.await.unwrap().unwrap(), large);
        assert_eq!(counted(&client, "connections", "open").await, 1);
        server.shutdown().await.unwrap();
    });
}

#[test]
fn a_client_outlives_the_runtime_of_its_session() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (of_server, first, second) =
        (crate::two_threads().enable_all().build().unwrap(), runtime(), runtime());
    let server = of_server.block_on(async { Server::bind(":0").unwrap().spawn(router()) });
    let client = Client::new(server.endpoint()).unwrap();
    assert_eq!(first.block_on(client.request::<u32>("echo", &1)).unwrap(), 1);
    // A call that is in flight there ends with it.
    let waiting = {
        let _inside = first.enter();
        first.spawn(client.call("$/ping").send::<Value>())
    };
    drop(first);
    drop(waiting);
    for n in 0..3 {
        assert_eq!(block_on(&second, client.request::<u32>("echo", &n)).unwrap(), n);
    }
    block_on(&of_server, server.shutdown()).unwrap();
}
