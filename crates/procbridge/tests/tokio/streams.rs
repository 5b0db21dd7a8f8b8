//! Streams of items, and events.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_core::Stream;
use procbridge::tokio::{Call, Client, ItemSink, Items, Router, Server, Subscription};
use procbridge::{ClientConfig, Error, ErrorKind, Hub, Missed, ReplyError, ServerConfig, code};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::support::faces::code_of;
use crate::{Dropped, counted, eventually, everywhere, with_sessions};

/// Returns all items of a stream.
pub(crate) async fn all<T: DeserializeOwned>(mut items: Items<T>) -> Result<Vec<T>, Error> {
    let mut taken = Vec::new();
    while let Some(item) = poll_fn(|context| Pin::new(&mut items).poll_next(context)).await {
        taken.push(item?);
    }
    Ok(taken)
}

async fn count(n: u32, mut items: ItemSink) -> Result<&'static str, ReplyError> {
    for i in 0..n {
        items.send(&i).await?;
    }
    Ok("done")
}

fn router() -> Router {
    Router::new()
        .stream("count", count)
        .stream("two", async |mut items: ItemSink| {
            items.send("one").await?;
            items.send("two").await
        })
        .stream("fail", async |call: Call, n: u32, mut items: ItemSink| {
            items.send(&call.wants_items()).await?;
            items.send(&n).await?;
            Err::<(), _>(ReplyError::new("no more").with_code("test.no"))
        })
        .method("echo", async |value: Value| value)
}

#[test]
fn a_stream_is_its_items_and_its_end() {
    everywhere(|place| async move {
        let (server, client) = place.serve(router(), ServerConfig::new());
        let items = client.stream::<u32>("count", &1000).await.unwrap();
        assert_eq!(all(items).await.unwrap(), (0..1000).collect::<Vec<_>>());
        let mut items = client.stream::<String>("two", &()).await.unwrap();
        assert_eq!(items.next().await.unwrap().unwrap(), "one");
        assert_eq!(items.next().await.unwrap().unwrap(), "two");
        assert!(items.next().await.is_none());
        assert!(items.next().await.is_none());
        // A caller that asks for no stream gets an array.
        assert_eq!(client.request::<Vec<u32>>("count", &3).await.unwrap(), [0, 1, 2]);
        assert_eq!(client.request::<Vec<u32>>("count", &0).await.unwrap(), Vec::<u32>::new());
        let items = client.stream::<Value>("echo", &json!({"a": 1})).await.unwrap();
        assert_eq!(items.finish::<Value>().await.unwrap(), json!({"a": 1}));
        server.shutdown().await.unwrap();
    });
}

#[test]
fn a_stream_ends_with_its_result_or_its_error() {
    with_sessions(|place| async move {
        let (server, client) = place.serve(router(), ServerConfig::new());
        let items = client.stream::<u32>("count", &500).await.unwrap();
        assert_eq!(items.finish::<String>().await.unwrap(), "done");
        let mut items = client.stream::<Value>("fail", &3).await.unwrap();
        assert_eq!(items.next().await.unwrap().unwrap(), json!(true));
        assert_eq!(items.next().await.unwrap().unwrap(), json!(3));
        let error = items.next().await.unwrap().unwrap_err();
        assert_eq!(error.remote().unwrap().code(), Some("test.no"));
        assert!(items.next().await.is_none());
        // An item of another type does not end the stream.
        let mut items = client.stream::<u32>("fail", &3).await.unwrap();
        assert_eq!(items.next().await.unwrap().unwrap_err().kind(), ErrorKind::InvalidResult);
        assert_eq!(items.next().await.unwrap().unwrap(), 3);
        // A limit holds for the whole of it.
        let forever = client.call("count").payload(&u32::MAX).timeout(Duration::from_millis(30));
        let error = all(forever.stream::<u32>().await.unwrap()).await.unwrap_err();
        assert!(error.is_timeout() || error.remote().unwrap().code() == Some(code::TIMEOUT), "{error}");
        assert_eq!(counted(&client, "connections", "total").await, 1);
        server.shutdown().await.unwrap();
    });
}

#[test]
fn a_slow_reader_slows_its_stream_and_nobody_else() {
    with_sessions(|place| async move {
        let sent = Arc::new(AtomicU32::new(0));
        let counter = sent.clone();
        let router = router().stream("endless", move |mut items: ItemSink| {
            let sent = counter.clone();
            async move {
                loop {
                    items.send(&sent.load(Ordering::Relaxed)).await?;
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                #[allow(unreachable_code, reason = "the type of the end")]
                Ok::<(), ReplyError>(())
            }
        });
        let (server, client) = place.serve(router, ServerConfig::new());
        let client =
            Client::with_config(client.endpoint(), ClientConfig::new().with_stream_window(8)).unwrap();
        // The server learns of the window when the session has begun.
        client.request::<()>("echo", &()).await.unwrap();
        let mut items = client.stream::<u32>("endless", &()).await.unwrap();
        eventually(async || sent.load(Ordering::Relaxed) == 8).await;
        for n in 0..100 {
            assert_eq!(client.request::<u32>("echo", &n).await.unwrap(), n);
        }
        assert_eq!(sent.load(Ordering::Relaxed), 8);
        for n in 0..100 {
            assert_eq!(items.next().await.unwrap().unwrap(), n);
            assert!(sent.load(Ordering::Relaxed) <= n + 9);
        }
        drop(items);
        server.shutdown().await.unwrap();
    });
}

#[test]
fn a_stream_that_is_dropped_is_cancelled() {
    with_sessions(|place| async move {
        let (sender, dropped) = std::sync::mpsc::channel();
        let router = router().stream("hold", move |mut items: ItemSink| {
            let guard = Dropped(sender.clone());
            async move {
                let _guard = guard;
                items.send(&1).await?;
                std::future::pending::<Result<(), ReplyError>>().await
            }
        });
        let (server, client) = place.serve(router, ServerConfig::new().with_max_session_calls(1));
        for taken in [false, true] {
            let mut items = client.stream::<u32>("hold", &()).await.unwrap();
            if taken {
                assert_eq!(items.next().await.unwrap().unwrap(), 1);
            }
            drop(items);
            eventually(async || dropped.try_recv().is_ok() || !taken).await;
            eventually(async || client.request::<u32>("echo", &7).await.is_ok_and(|n| n == 7)).await;
        }
        assert_eq!(counted(&client, "connections", "total").await, 1);
        server.shutdown().await.unwrap();
    });
}

#[test]
fn a_stream_keeps_the_session_of_its_client_open() {
    with_sessions(|place| async move {
        let (server, client) = place.serve(router(), ServerConfig::new());
        let items = client.stream::<u32>("count", &1000).await.unwrap();
        drop(client);
        assert_eq!(all(items).await.unwrap().len(), 1000);
        server.shutdown().await.unwrap();
    });
}

#[test]
fn a_sink_that_is_kept_sends_nothing_more() {
    with_sessions(|place| async move {
        let (kept, mut sinks) = tokio::sync::mpsc::unbounded_channel();
        let router = Router::new().stream("leave", move |items: ItemSink| {
            kept.send(items).unwrap();
            async { 1 }
        });
        let (server, client) = place.serve(router, ServerConfig::new());
        assert_eq!(client.stream::<u32>("leave", &()).await.unwrap().finish::<u32>().await.unwrap(), 1);
        let refused = sinks.recv().await.unwrap().send(&1).await.unwrap_err();
        assert_eq!(refused.code(), Some(code::CANCELLED));
        assert_eq!(client.request::<Vec<u32>>("leave", &()).await.unwrap(), Vec::<u32>::new());
        server.shutdown().await.unwrap();
    });
}

/// Items of a stream's handler that are taken back are in no array either: unwritable ones, and those not waited for.
#[test]
fn what_was_not_sent_is_in_no_array() {
    everywhere(|place| async move {
        let router = Router::new()
            .stream("skip", async |mut items: ItemSink| {
                for n in [1.0, f64::NAN, 2.0] {
                    let _unsendable = items.send(&("n", n)).await;
                }
            })
            .stream("again", async |mut items: ItemSink| {
                for n in [1, 2] {
                    drop(items.send(&n));
                    items.send(&n).await?;
                }
                drop(items.send(&3));
                Ok::<(), ReplyError>(())
            });
        let (server, client) = place.serve(router, ServerConfig::new());
        let skipped = json!([["n", 1.0], ["n", 2.0]]);
        assert_eq!(client.request::<Value>("skip", &()).await.unwrap(), skipped);
        assert_eq!(client.request::<Vec<u32>>("again", &()).await.unwrap(), [1, 2]);
        assert_eq!(all(client.stream::<u32>("again", &()).await.unwrap()).await.unwrap(), [1, 2]);
        server.shutdown().await.unwrap();
    });
}

#[test]
fn who_fills_an_array_lets_others_have_their_turn_and_has_its_time() {
    everywhere(|place| async move {
        let router = router()
            .stream("endless", async |mut items: ItemSink| {
                loop {
                    items.send(&1).await?;
                }
                #[allow(unreachable_code, reason = "the type of the end")]
                Ok::<(), ReplyError>(())
            })
            .stream("unsendable", async |mut items: ItemSink| {
                // One that keeps the thread has an end at least.
                for _ in 0..1_000_000 {
                    let _unsendable = items.send(&f64::NAN).await;
                }
            });
        let config = ServerConfig::new().with_handler_timeout(Duration::from_millis(30));
        let (server, client) = place.serve(router, config);
        for method in ["endless", "unsendable"] {
            assert_eq!(code_of(client.request::<Value>(method, &()).await), code::TIMEOUT);
            assert_eq!(client.request::<u32>("echo", &7).await.unwrap(), 7);
        }
        server.shutdown().await.unwrap();
    });
}

async fn event(subscription: &mut Subscription) -> (String, u32, Missed) {
    let event = subscription.next().await.unwrap().unwrap();
    (event.topic().to_string(), event.payload().unwrap(), event.missed())
}

#[test]
fn events_reach_those_who_want_them() {
    with_sessions(|place| async move {
        let hub = Hub::new();
        let (server, client) = place.serve(router().events(&hub), ServerConfig::new());
        let mut builds = client.subscribe(["build.*"]).await.unwrap();
        let mut all = client.subscribe(["*"]).await.unwrap();
        assert_eq!(hub.publish("build.done", &1).unwrap(), 2);
        assert_eq!(hub.publish("other", &2).unwrap(), 1);
        assert_eq!(event(&mut builds).await, ("build.done".to_string(), 1, Missed::Nothing));
        assert_eq!(event(&mut all).await, ("build.done".to_string(), 1, Missed::Nothing));
        assert_eq!(event(&mut all).await, ("other".to_string(), 2, Missed::Nothing));
        drop(all);
        eventually(async || hub.subscriptions() == 1).await;
        let none: [&str; 0] = [];
        assert_eq!(client.subscribe(none).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(counted(&client, "connections", "total").await, 1);
        server.shutdown().await.unwrap();
    });
}

#[test]
fn a_slow_subscriber_is_told_what_it_has_missed() {
    with_sessions(|place| async move {
        let hub = Hub::with_queue(4);
        let (server, client) = place.serve(router().events(&hub), ServerConfig::new());
        let client =
            Client::with_config(client.endpoint(), ClientConfig::new().with_stream_window(2)).unwrap();
        let mut slow = client.subscribe(["n"]).await.unwrap();
        for n in 0..100 {
            hub.publish("n", &n).unwrap();
        }
        let mut next = 0;
        let mut missed = 0;
        while next < 100 {
            let (_, n, lost) = event(&mut slow).await;
            if let Missed::Events(count) = lost {
                missed += count;
                next += u32::try_from(count).unwrap();
            }
            assert_eq!(n, next);
            next += 1;
        }
        assert!(missed >= 80, "{missed}");
        assert_eq!(client.request::<u32>("echo", &7).await.unwrap(), 7);
        server.shutdown().await.unwrap();
    });
}

#[test]
fn a_subscription_goes_on_after_its_server_and_tells_of_the_gap() {
    with_sessions(|place| async move {
        let hub = Hub::new();
        let (server, client) = place.serve(router().events(&hub), ServerConfig::new());
        let endpoint = server.endpoint();
        let mut events = client.subscribe(["n"]).await.unwrap();
        hub.publish("n", &1).unwrap();
        assert_eq!(event(&mut events).await.1, 1);
        for n in 2..4 {
            if n == 2 {
                server.handle().shutdown();
            }
            eventually(async || hub.subscriptions() == 0).await;
            let again = Hub::new();
            let bound = loop {
                match Server::bind(&endpoint) {
                    Ok(bound) => break bound,
                    Err(_) => tokio::task::yield_now().await,
                }
            };
            let server = bound.spawn(router().events(&again));
            let published = async {
                eventually(async || again.subscriptions() == 1).await;
                again.publish("n", &n).unwrap();
            };
            let (got, ()) = tokio::join!(event(&mut events), published);
            assert_eq!(got, ("n".to_string(), n, Missed::Unknown));
            again.publish("n", &0).unwrap();
            assert_eq!(event(&mut events).await, ("n".to_string(), 0, Missed::Nothing));
            server.shutdown().await.unwrap();
        }
    });
}
