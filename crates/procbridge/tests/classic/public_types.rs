//! The uses that programs have for the public types: send them to threads, keep them, and join the futures of calls.

use std::error::Error as _;

use procbridge::{Client, Error, ErrorKind, Outcome, Router, Server};

use crate::support::wire::{GOOD, HELLO, REQUEST, hello, raw, session_packet};
use crate::support::{WATCHDOG, watched};

fn goes_anywhere<T: Send + Sync + 'static>() {}

/// Nothing is run: it compiles.
#[test]
fn every_public_type_may_be_sent_shared_and_kept() {
    use procbridge::*;

    goes_anywhere::<Call>();
    goes_anywhere::<Client>();
    goes_anywhere::<ClientConfig>();
    goes_anywhere::<Codec>();
    goes_anywhere::<Credentials>();
    goes_anywhere::<Endpoint>();
    goes_anywhere::<Error>();
    goes_anywhere::<ErrorKind>();
    goes_anywhere::<Event>();
    goes_anywhere::<Hub>();
    goes_anywhere::<ItemSink>();
    // An item that is never held need not be sent.
    goes_anywhere::<Items<std::rc::Rc<()>>>();
    goes_anywhere::<Missed>();
    goes_anywhere::<Next<'static>>();
    goes_anywhere::<Outcome>();
    goes_anywhere::<Peer>();
    goes_anywhere::<ReplyError>();
    goes_anywhere::<CallBuilder<'static>>();
    goes_anywhere::<Router>();
    goes_anywhere::<RunningServer>();
    goes_anywhere::<Server>();
    goes_anywhere::<ServerConfig>();
    goes_anywhere::<ServerHandle>();
    goes_anywhere::<Session>();
    goes_anywhere::<SessionMode>();
    goes_anywhere::<Subscription>();
    goes_anywhere::<handler::Reply>();
}

#[cfg(feature = "tokio")]
#[test]
fn every_public_type_of_tokio_may_be_sent_shared_and_kept() {
    use procbridge::tokio::*;

    goes_anywhere::<Call>();
    goes_anywhere::<CallFuture<std::rc::Rc<()>>>();
    goes_anywhere::<Client>();
    goes_anywhere::<ItemSink>();
    goes_anywhere::<Items<std::rc::Rc<()>>>();
    goes_anywhere::<Next>();
    goes_anywhere::<CallBuilder<'static>>();
    goes_anywhere::<Router>();
    goes_anywhere::<RunningServer>();
    goes_anywhere::<Server>();
    goes_anywhere::<ServerHandle>();
    goes_anywhere::<Session>();
    goes_anywhere::<Subscription>();
}

#[cfg(feature = "tokio")]
mod futures {
    use std::pin::Pin;
    use std::task::Poll;

    use procbridge::tokio::{Call, Client, Items, Router, Server};
    use procbridge::{ErrorKind, Hub, Outcome, ReplyError};

    use super::watched;

    fn router(hub: &Hub) -> Router {
        Router::new()
            .method("double", async |n: u32| 2 * n)
            .method("length", async |text: String| text.len())
            .method("back", async |call: Call| -> Result<u32, ReplyError> {
                let session = call.session()?;
                // Each of them outlives its payload.
                let calls = (0..10_u32).map(|n| session.request::<u32>("double", &n));
                Ok(all(calls).await.into_iter().map(Result::unwrap).sum())
            })
            .stream("items", async |n: u32, mut items: procbridge::tokio::ItemSink| {
                for n in 0..n {
                    items.send(&n).await?;
                }
                Ok::<_, ReplyError>(())
            })
            .events(hub)
    }

    /// Awaits all, as `futures::future::join_all` does.
    async fn all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
        let mut futures: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
        let mut outputs: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
        std::future::poll_fn(|context| {
            for (future, output) in futures.iter_mut().zip(&mut outputs) {
                if output.is_none()
                    && let Poll::Ready(ready) = future.as_mut().poll(context)
                {
                    *output = Some(ready);
                }
            }
            if outputs.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        outputs.into_iter().map(Option::unwrap).collect()
    }

    fn with_client<T: Future<Output = ()>>(work: impl FnOnce(Client, Hub) -> T + Send + 'static) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.unwrap();
        watched(move || {
            runtime.block_on(async {
                let hub = Hub::new();
                let server = Server::bind("127.0.0.1:0").unwrap().spawn(router(&hub));
                let client = Client::new(server.endpoint()).unwrap();
                work(client, hub).await;
                server.shutdown().await.unwrap();
            });
        });
    }

    #[test]
    fn calls_outlive_their_payloads_their_method_and_their_client() {
        with_client(|client, _| async move {
            // Before and within a session.
            for _ in 0..2 {
                let doubled = all((0..10).map(|n| client.request::<u32>("double", &n))).await;
                assert_eq!(doubled.into_iter().map(Result::unwrap).sum::<u32>(), 90);
                let call = client
                    .request::<usize>(&["len", "gth"].concat(), &[1, 2].map(|n| n.to_string()).concat());
                assert_eq!(call.await.unwrap(), 2);
                let spawned = {
                    let (client, text) = (client.clone(), "abc".to_string());
                    tokio::spawn(client.request::<usize>("length", &(&text as &str)))
                };
                assert_eq!(spawned.await.unwrap().unwrap(), 3);
                let notified = tokio::spawn(client.notify("double", &String::from("1").as_str()));
                notified.await.unwrap().unwrap();
                let streamed = tokio::spawn(client.stream::<u32>("items", &{ 3 }));
                assert_eq!(items(streamed.await.unwrap().unwrap()).await, [0, 1, 2]);
                // A payload that may not be sent, whose type has a lifetime.
                let local = "x".to_string();
                let built =
                    client.call("length").payload(&std::cell::Cell::new(local.as_str())).send::<usize>();
                drop(local);
                assert_eq!(tokio::spawn(built).await.unwrap().unwrap(), 1);
            }
        });
    }

    #[test]
    fn subscribing_and_serving_outlive_what_they_were_asked_with() {
        with_client(|client, hub| async move {
            let subscribing = {
                let (client, topic) = (client.clone(), "x".to_string());
                tokio::spawn(client.subscribe([topic.as_str()]))
            };
            let mut events = subscribing.await.unwrap().unwrap();
            hub.publish("x", &7).unwrap();
            assert_eq!(events.next().await.unwrap().unwrap().payload::<u32>().unwrap(), 7);
            let double = Router::new().method("double", async |n: u32| 2 * n);
            let serving = {
                let client = client.clone();
                tokio::spawn(client.serve(double))
            };
            serving.await.unwrap().unwrap();
            assert_eq!(client.request::<u32>("back", &()).await.unwrap(), 90);
        });
    }

    #[test]
    fn a_call_is_made_when_it_is_polled_and_not_before() {
        with_client(|client, _| async move {
            let _: u32 = client.request("double", &1).await.unwrap();
            drop(client.request::<u32>("double", &1));
            let counted = client.request::<serde_json::Value>("$/stats", &()).await.unwrap();
            assert_eq!(counted["methods"]["double"]["calls"], 1, "{counted}");
            let error = client.request::<u32>("double", &f64::NAN).await.unwrap_err();
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::InvalidInput, Outcome::NotSent));
        });
    }

    /// The session of a client is driven by another runtime than that of the call.
    #[test]
    fn a_call_in_another_runtime_is_answered_and_has_its_time() {
        with_client(|client, _| async move {
            let _: u32 = client.request("double", &1).await.unwrap();
            let other = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    assert_eq!(client.request::<u32>("double", &4).await.unwrap(), 8);
                    let call = client.call("double").payload(&4).timeout(std::time::Duration::ZERO);
                    assert_eq!(call.send::<u32>().await.unwrap_err().kind(), ErrorKind::Timeout);
                });
            });
            tokio::task::spawn_blocking(|| other.join().unwrap()).await.unwrap();
        });
    }

    async fn items(mut items: Items<u32>) -> Vec<u32> {
        let mut all = Vec::new();
        while let Some(item) = items.next().await {
            all.push(item.unwrap());
        }
        all
    }
}

/// Formats as anyhow's `{:#}` does.
fn chain(error: &Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        words.push_str(&format!(": {error}"));
        source = error.source();
    }
    words
}

#[test]
fn a_report_of_all_causes_tells_each_once() {
    watched(|| {
        let directory = tempfile::tempdir().unwrap();
        let gone = format!("unix:{}/none.sock", directory.path().display());
        let server = Server::bind("127.0.0.1:0").unwrap();
        let server = server.spawn(Router::new().method("text", || "secret").method("end", || ())).unwrap();
        let client = Client::new(server.endpoint()).unwrap();
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let silent_client = Client::new(format!("tcp:{}", silent.local_addr().unwrap())).unwrap();
        let strange = std::thread::spawn(move || {
            use std::io::Write;
            let (mut stream, _) = silent.accept().unwrap();
            stream.write_all(b"HTTP/1.1 400 no\r\n\r\n").unwrap();
        });
        let errors = [
            Client::new(gone.as_str()).unwrap().request::<()>("x", &()).unwrap_err(),
            Client::new("127.0.0.1:0").unwrap_err(),
            Server::bind(server.endpoint()).unwrap_err(),
            Server::bind("unix:/proc/no/such.sock").unwrap_err(),
            client.request::<u32>("text", &()).unwrap_err(),
            client.request::<u32>("text", &f64::NAN).unwrap_err(),
            client.request::<u32>(&"x".repeat(300), &()).unwrap_err(),
            client.request::<u32>("none", &()).unwrap_err(),
            silent_client.request::<()>("x", &()).unwrap_err(),
        ];
        strange.join().unwrap();
        for error in &errors {
            assert_eq!(chain(error), error.to_string());
            let told = format!("{error:?}");
            assert!(!told.contains("secret"), "{told}");
        }
        let behind = errors[0].get_ref().and_then(|error| error.downcast_ref::<std::io::Error>());
        assert_eq!(behind.map(std::io::Error::kind), Some(std::io::ErrorKind::NotFound));
        server.shutdown().unwrap();
    });
}

/// A server whose HELLO allows no calls has said what it would answer to each (PB-FLT-5).
#[test]
fn a_server_that_takes_no_calls_is_overloaded_and_the_input_is_not_to_blame() {
    watched(|| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("tcp:{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            use std::io::{Read, Write};
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]).unwrap();
            let answer = session_packet(GOOD, 0, 1, r#"{"payload":1}"#);
            stream.write_all(&[hello(r#"{"session":1,"max_calls":0}"#), answer].concat()).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let client = Client::new(endpoint).unwrap();
        assert_eq!(client.request::<u32>("x", &()).unwrap(), 1);
        let error = client.request::<u32>("x", &()).unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Remote, Outcome::NotSent));
        assert_eq!(error.remote().unwrap().code(), Some(procbridge::code::OVERLOADED));
        assert_eq!(error.to_string(), "the other side of the session takes no calls");
    });
}

#[test]
fn the_answer_of_a_client_is_not_called_a_servers() {
    watched(|| {
        let server = Server::bind("127.0.0.1:0").unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let tell = std::sync::Mutex::new(tell);
        let router = Router::new().method("ask", move |call: &procbridge::Call| {
            let error = call.session().unwrap().request::<u32>("x", &()).unwrap_err();
            tell.lock().unwrap().send((error.kind(), error.to_string())).unwrap();
        });
        let server = server.spawn(router).unwrap();
        let mut peer = raw(&server.endpoint());
        use std::io::Write;
        peer.open_session();
        peer.write_all(&session_packet(HELLO, 0, 0, r#"{"session":1,"max_calls":8}"#)).unwrap();
        peer.write_all(&session_packet(REQUEST, 0, 3, r#"{"method":"ask"}"#)).unwrap();
        let call = loop {
            let packet = peer.packet().unwrap();
            if packet.kind == REQUEST {
                break packet;
            }
        };
        peer.write_all(&session_packet(GOOD, 0, call.id(), "no JSON")).unwrap();
        let (kind, words) = told.recv_timeout(WATCHDOG).unwrap();
        assert_eq!(kind, ErrorKind::Protocol);
        assert!(words.starts_with("the answer cannot be read: "), "{words}");
        drop(peer);
        server.shutdown().unwrap();
    });
}
