//! Futures that are dropped half-way: the server goes on as if nothing had been, and nothing is left behind.

use std::sync::Arc;
use std::time::Duration;

use procbridge::tokio::{Client, ItemSink, Router, Server};
use procbridge::{ClientConfig, Error, Hub, ReplyError, ServerConfig, code};
use serde_json::{Value, json};
use tokio::sync::Barrier;

use crate::support::block_on;
use crate::support::faces::code_of;
use crate::support::wire::AsyncStream;
use crate::{counted, cut, eventually, everywhere, with_sessions, without_sessions};

fn router() -> Router {
    Router::new().method("echo", |value: Value| async move {
        tokio::task::yield_now().await;
        value
    })
}

#[test]
fn a_call_may_be_dropped_at_any_of_its_polls() {
    everywhere(|place| async move {
        // With two places for everything, what dropped calls leave behind is soon in the way of the next.
        let config = ServerConfig::new()
            .with_max_connections(2)
            .with_max_pending_connections(2)
            .with_max_concurrent_calls(2);
        let together = Arc::new(Barrier::new(2));
        let router = router().method("meet", move || {
            let together = together.clone();
            async move { together.wait().await.is_leader() }
        });
        let (server, client) = place.serve(router, config);
        for payload in [json!(1), json!("x".repeat(3_000_000))] {
            let mut cuts = 0;
            loop {
                match cut(cuts, client.request::<Value>("echo", &payload)).await {
                    Some(Ok(answer)) => {
                        assert_eq!(answer, payload);
                        break;
                    }
                    // The server has not yet seen the end of those before it.
                    Some(error) => assert_eq!(code_of(error), code::OVERLOADED),
                    None => cuts += 1,
                }
                eventually(async || client.request::<i32>("echo", &7).await.is_ok_and(|n| n == 7)).await;
            }
            assert!(cuts >= 1, "{cuts}");
        }
        // Both places are free: two calls can meet.
        let meet = || client.call("meet").timeout(Duration::from_millis(500)).send::<bool>();
        eventually(async || matches!(tokio::join!(meet(), meet()), (Ok(one), Ok(other)) if one != other))
            .await;
        assert_eq!(server.handle().leaked_handlers(), 0);
        server.shutdown().await.unwrap();
    });
}

#[test]
fn a_call_may_be_given_up_while_its_handler_is_at_work() {
    without_sessions(|place| async move {
        let (entered, mut inside) = tokio::sync::mpsc::unbounded_channel();
        let (finished, mut outside) = tokio::sync::mpsc::unbounded_channel();
        let door = Arc::new(tokio::sync::Semaphore::new(0));
        let opened = door.clone();
        let router = router().method("wait", move || {
            let (entered, finished, door) = (entered.clone(), finished.clone(), door.clone());
            async move {
                entered.send(()).unwrap();
                door.acquire().await.unwrap().forget();
                finished.send(()).unwrap();
            }
        });
        let (server, client) = place.serve(router, ServerConfig::new());
        let call = tokio::spawn(client.call("wait").send::<()>());
        inside.recv().await.unwrap();
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
        // The handler is not disturbed, and its answer goes nowhere.
        opened.add_permits(1);
        outside.recv().await.unwrap();
        assert_eq!(client.request::<i32>("echo", &7).await.unwrap(), 7);
        server.shutdown().await.unwrap();
    });
}

#[test]
fn dropping_the_server_ends_it() {
    everywhere(|place| async move {
        let (entered, mut inside) = tokio::sync::mpsc::unbounded_channel();
        let router = router().method("wait", move || {
            entered.send(()).unwrap();
            std::future::pending::<()>()
        });
        let server = Server::bind(&place.endpoint).unwrap();
        let endpoint = server.endpoints().remove(0);
        let client = Client::new(&endpoint).unwrap();
        let serving = tokio::spawn(server.serve(router));
        let waiting = tokio::spawn(client.call("wait").send::<Value>());
        inside.recv().await.unwrap();
        let mut half = AsyncStream::connect(&endpoint).await.unwrap();
        half.write(b"pb\x01\x01").await.unwrap();

        serving.abort();
        assert!(serving.await.unwrap_err().is_cancelled());
        assert!(endpoint.path().is_none_or(|path| !path.exists()));
        assert!(AsyncStream::connect(&endpoint).await.is_err());
        assert_eq!(code_of(waiting.await.unwrap()), code::CANCELLED);
        assert_eq!(half.code().await, code::UNAVAILABLE);
    });
}

#[test]
fn dropping_a_running_server_stops_it_in_an_orderly_way() {
    everywhere(|place| async move {
        let (entered, mut inside) = tokio::sync::mpsc::unbounded_channel();
        let (open, door) = tokio::sync::watch::channel(false);
        let router = router().method("wait", move || {
            entered.send(()).unwrap();
            let mut door = door.clone();
            async move { door.wait_for(|open| *open).await.is_ok() }
        });
        let (server, client) = place.serve(router, ServerConfig::new());
        let endpoint = server.endpoint();
        let waiting = tokio::spawn(client.call("wait").send::<Value>());
        inside.recv().await.unwrap();
        // Neither the drop nor a stop that is given up waits for the call, and neither ends it.
        drop(cut(1, server.shutdown()).await);
        assert!(AsyncStream::connect(&endpoint).await.is_err());
        open.send(true).unwrap();
        assert_eq!(waiting.await.unwrap().unwrap(), json!(true));
        eventually(async || endpoint.path().is_none_or(|path| !path.exists())).await;
    });
}

#[test]
fn a_runtime_may_end_under_its_server() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (server, endpoint) = runtime.block_on(async {
        let server = Server::bind(":0").unwrap().spawn(router());
        let client = Client::new(server.endpoint()).unwrap();
        assert_eq!(client.request::<i32>("echo", &7).await.unwrap(), 7);
        let endpoint = server.endpoint();
        (server, endpoint)
    });
    drop(runtime);
    assert!(std::net::TcpStream::connect(("127.0.0.1", endpoint.port().unwrap())).is_err());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert!(block_on(&runtime, server.shutdown()).is_err());
}

#[test]
fn whatever_is_dropped_at_any_of_its_polls_leaves_the_session_at_work() {
    with_sessions(|place| async move {
        let hub = Hub::new();
        let router = router().events(&hub).stream("count", async |n: u32, mut items: ItemSink| {
            for i in 0..n {
                tokio::task::yield_now().await;
                items.send(&i).await?;
            }
            Ok::<(), ReplyError>(())
        });
        let (server, client) = place.serve(router, ServerConfig::new().with_max_session_calls(3));
        let client =
            Client::with_config(client.endpoint(), ClientConfig::new().with_stream_window(2)).unwrap();
        client.request::<i32>("echo", &7).await.unwrap();
        let works = async || {
            eventually(async || client.request::<i32>("echo", &7).await.is_ok_and(|n| n == 7)).await;
        };
        // All at once, so that no place may be lost anywhere.
        let large = json!("x".repeat(400_000));
        let whole = async || {
            if client.request::<Value>("echo", &large).await.map_err(overloaded)? != large {
                panic!("another answer");
            }
            Ok(())
        };
        let stream = async || {
            let mut items = client.stream::<u32>("count", &5).await.map_err(overloaded)?;
            for n in 0..5 {
                assert_eq!(items.next().await.unwrap().map_err(overloaded)?, n);
            }
            assert!(items.next().await.is_none());
            Ok(())
        };
        let subscribe = async || {
            let mut events = client.subscribe(["n"]).await.map_err(overloaded)?;
            hub.publish("n", &1).unwrap();
            assert_eq!(events.next().await.unwrap().map_err(overloaded)?.payload::<i32>().unwrap(), 1);
            Ok(())
        };
        cut_everywhere(whole, &works).await;
        cut_everywhere(stream, &works).await;
        cut_everywhere(subscribe, &works).await;
        // The same items, taken by futures that are dropped each time: none is lost.
        let mut items = client.stream::<u32>("count", &20).await.unwrap();
        for n in 0..20 {
            let item = loop {
                if let Some(item) = cut(1, items.next()).await {
                    break item;
                }
                tokio::task::yield_now().await;
            };
            assert_eq!(item.unwrap().unwrap(), n);
        }
        drop(items);
        works().await;
        eventually(async || hub.subscriptions() == 0).await;
        assert_eq!(counted(&client, "connections", "total").await, 1);
        assert_eq!(server.handle().leaked_handlers(), 0);
        server.shutdown().await.unwrap();
    });
}

/// Checks for the error of a server that has not yet seen the end of earlier connections.
fn overloaded(error: Error) {
    assert_eq!(error.remote().and_then(|remote| remote.code()), Some(code::OVERLOADED), "{error}");
}

/// Drops `work` at each of its polls, until it is done.
async fn cut_everywhere(work: impl AsyncFn() -> Result<(), ()>, works: &impl AsyncFn()) {
    let mut cuts = 1;
    loop {
        match cut(cuts, work()).await {
            Some(Ok(())) => break,
            Some(Err(())) => {}
            None => cuts += 1,
        }
        works().await;
    }
}
