//! Streams: order, credit, cancelling, and their ends.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use procbridge::{Call, ClientConfig, ErrorKind, ItemSink, Outcome, ReplyError, Router, ServerConfig, code};
use serde_json::json;

use crate::support::faces::{Options, TestServer, code_of};
use crate::support::router::start;
use crate::support::{WATCHDOG, eventually, everywhere_with_sessions};
use crate::{opened, opened_with};

/// Returns a stream of texts without end. It tells how many were sent, and why it ended.
fn endless(size: usize) -> (Router, Arc<AtomicUsize>, mpsc::Receiver<Option<String>>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let (sender, ended) = mpsc::channel();
    let counted = sent.clone();
    let router = Router::new().method("sum", |xs: Vec<i64>| xs.iter().sum::<i64>()).stream(
        "endless",
        move |items: &mut ItemSink| -> Result<(), ReplyError> {
            let text = "x".repeat(size);
            loop {
                if let Err(refusal) = items.send(&text) {
                    sender.send(refusal.code().map(str::to_string)).unwrap();
                    return Err(refusal);
                }
                counted.fetch_add(1, Ordering::SeqCst);
            }
        },
    );
    (router, sent, ended)
}

#[test]
fn ten_thousand_items_come_in_order() {
    everywhere_with_sessions(|server, client, transport| {
        let (server, _) = start(server, transport, ServerConfig::new());
        for window in [1, 64] {
            let config = ClientConfig::new().with_stream_window(window);
            let client = opened_with(&server, client, config);
            let n = if window == 1 { 500 } else { 10_000 };
            let items = client.stream("count", &json!(n)).unwrap();
            let items: Vec<u64> = items.map(|item| item.unwrap().as_u64().unwrap()).collect();
            assert!(items.iter().copied().eq(0..n), "{} items", items.len());
            assert_eq!(client.counted("connections", "open"), 1);
        }
        server.stop();
    });
}

#[test]
fn the_first_call_of_a_session_may_be_a_stream() {
    everywhere_with_sessions(|server, client, transport| {
        let (server, _) = start(server, transport, ServerConfig::new());
        let client = server.client(client);
        let mut items = client.stream("count", &json!(1000)).unwrap();
        assert_eq!(items.next().unwrap().unwrap(), json!(0));
        // Others go on beside it.
        assert_eq!(client.request("sum", &json!([1])).unwrap(), json!(1));
        assert_eq!(items.map(Result::unwrap).count(), 999);
        assert_eq!(client.counted("connections", "total"), 1);
        server.stop();
    });
}

#[test]
fn a_slow_reader_slows_the_producer_and_nobody_else() {
    everywhere_with_sessions(|server, client, transport| {
        let (router, sent, _ended) = endless(10);
        let server = TestServer::start(server, transport, router, ServerConfig::new());
        let config = ClientConfig::new().with_stream_window(8);
        let client = opened_with(&server, client, config);
        let mut items = client.stream("endless", &json!(null)).unwrap();
        eventually(|| sent.load(Ordering::SeqCst) == 8);
        for n in 0..50 {
            assert_eq!(client.request("sum", &json!([n])).unwrap(), json!(n));
        }
        assert_eq!(sent.load(Ordering::SeqCst), 8);
        for taken in 1..=100 {
            items.next().unwrap().unwrap();
            assert!(sent.load(Ordering::SeqCst) <= taken + 8);
        }
        drop(items);
        server.stop();
    });
}

#[test]
fn the_bytes_of_a_stream_are_bounded_too() {
    everywhere_with_sessions(|server, client, transport| {
        let (router, sent, _ended) = endless(4_000);
        let server = TestServer::start(server, transport, router, ServerConfig::new());
        let config = ClientConfig::new().with_stream_bytes(10_000);
        let client = opened_with(&server, client, config);
        let mut items = client.stream("endless", &json!(null)).unwrap();
        // The last one may go beyond.
        eventually(|| sent.load(Ordering::SeqCst) == 3);
        for n in 0..50 {
            assert_eq!(client.request("sum", &json!([n])).unwrap(), json!(n));
        }
        assert_eq!(sent.load(Ordering::SeqCst), 3);
        for taken in 1..=50 {
            items.next().unwrap().unwrap();
            assert!(sent.load(Ordering::SeqCst) <= taken + 3);
        }
        drop(items);
        server.stop();
    });
}

#[test]
fn a_stream_that_is_dropped_ends_its_handler() {
    everywhere_with_sessions(|server, client, transport| {
        let (router, sent, ended) = endless(10);
        let server = TestServer::start(server, transport, router, ServerConfig::new());
        let client = opened(&server, client);
        for taken in [0, 1, 100] {
            let before = sent.load(Ordering::SeqCst);
            let mut items = client.stream("endless", &json!(null)).unwrap();
            for _ in 0..taken {
                items.next().unwrap().unwrap();
            }
            // One that has not begun may never begin.
            eventually(|| sent.load(Ordering::SeqCst) > before);
            drop(items);
            assert_eq!(ended.recv_timeout(WATCHDOG).unwrap().as_deref(), Some(code::CANCELLED));
        }
        assert_eq!(client.request("sum", &json!([1])).unwrap(), json!(1));
        assert_eq!(client.counted("connections", "total"), 1);
        // The connection going away is as good.
        let mut items = client.stream("endless", &json!(null)).unwrap();
        items.next().unwrap().unwrap();
        drop((items, client));
        assert_eq!(ended.recv_timeout(WATCHDOG).unwrap().as_deref(), Some(code::CANCELLED));
        server.stop();
    });
}

#[test]
fn an_error_in_the_middle_comes_after_the_items() {
    everywhere_with_sessions(|server, client, transport| {
        let router = Router::new()
            .stream("fails", |items: &mut ItemSink| -> Result<(), ReplyError> {
                (0..3).try_for_each(|n| items.send(&n))?;
                Err(ReplyError::new("half-way").with_code("test.middle"))
            })
            .stream("panics", |items: &mut ItemSink| -> Result<(), ReplyError> {
                (0..3).try_for_each(|n| items.send(&n))?;
                panic!("on purpose")
            });
        let server = TestServer::start(server, transport, router, ServerConfig::new());
        let client = server.client(client);
        for (method, expected) in [("fails", "test.middle"), ("panics", code::INTERNAL)] {
            let mut items = client.stream(method, &json!(null)).unwrap();
            for n in 0..3 {
                assert_eq!(items.next().unwrap().unwrap(), json!(n));
            }
            assert_eq!(code_of(items.next().unwrap()), expected);
            assert!(items.next().is_none());
            assert!(items.next().is_none());
            assert_eq!(code_of(client.stream(method, &json!(null)).unwrap().finish()), expected);
            // Called plainly there are no items, only the error.
            assert_eq!(code_of(client.request(method, &json!(null))), expected);
        }
        assert_eq!(client.counted("connections", "total"), 1);
        server.stop();
    });
}

#[test]
fn the_methods_own_result_comes_at_the_end() {
    everywhere_with_sessions(|server, client, transport| {
        let (server, _) = start(server, transport, ServerConfig::new());
        let client = server.client(client);
        assert_eq!(client.stream("count", &json!(1000)).unwrap().finish().unwrap(), json!(10_000));
        let mut items = client.stream("count", &json!(2)).unwrap();
        assert_eq!(items.next().unwrap().unwrap(), json!(0));
        assert_eq!(items.finish().unwrap(), json!(20));
        let mut items = client.stream("count", &json!(0)).unwrap();
        assert!(items.next().is_none());
        assert_eq!(items.finish().unwrap(), json!(0));
        // A method without items has a result only.
        let mut items = client.stream("sum", &json!([1, 2])).unwrap();
        assert!(items.next().is_none());
        assert_eq!(items.finish().unwrap(), json!(3));
        assert_eq!(code_of(client.stream("nope", &json!(1)).unwrap().finish()), code::UNKNOWN_METHOD);
        server.stop();
    });
}

#[test]
fn a_streaming_method_called_plainly_answers_an_array() {
    everywhere_with_sessions(|server, client, transport| {
        let (server, _) = start(server, transport, ServerConfig::new().with_max_body(1_000));
        let client = server.client(client);
        for _ in 0..2 {
            assert_eq!(client.request("count", &json!(3)).unwrap(), json!([0, 1, 2]));
            assert_eq!(client.request("count", &json!(0)).unwrap(), json!([]));
            assert_eq!(code_of(client.request("count", &json!(1_000))), code::TOO_LARGE);
        }
        server.stop();
    });
}

#[test]
fn a_stream_without_end_ends_with_its_time() {
    everywhere_with_sessions(|server, client, transport| {
        let (router, _, ended) = endless(10);
        let server = TestServer::start(server, transport, router, ServerConfig::new());
        let client = opened(&server, client);
        let started = Instant::now();
        let limit = Duration::from_millis(200);
        let options = Options { timeout: Some(limit), ..Options::default() };
        let mut items = client.stream_with("endless", &json!(null), &options).unwrap();
        let error = items.find_map(Result::err).unwrap();
        assert!(error.is_timeout(), "{error:?}");
        // Either side may be the first to notice.
        let expected = match error.kind() {
            ErrorKind::Timeout => Outcome::Unknown,
            _ => Outcome::Replied,
        };
        assert_eq!(error.outcome(), expected);
        let took = started.elapsed();
        assert!(took >= limit - Duration::from_millis(10) && took < Duration::from_secs(5), "{took:?}");
        assert!(items.next().is_none());
        ended.recv_timeout(WATCHDOG).unwrap();
        assert_eq!(client.request("sum", &json!([1])).unwrap(), json!(1));
        server.stop();
    });
}

#[test]
fn streams_outlive_the_limits_of_calls() {
    everywhere_with_sessions(|server, client, transport| {
        // The opening call has it too: not so short that a busy machine takes longer for that.
        let limit = Duration::from_millis(400);
        let router = Router::new().stream("slow", move |call: &Call, n: u32, items: &mut ItemSink| {
            assert_eq!(call.deadline(), None);
            (0..n).try_for_each(|n| {
                std::thread::sleep(limit / 2);
                items.send(&n)
            })
        });
        let config = ServerConfig::new().with_handler_timeout(limit);
        let server = TestServer::start(server, transport, router, config);
        let client = opened_with(&server, client, ClientConfig::new().with_call_timeout(limit));
        let items = client.stream("slow", &json!(4)).unwrap();
        assert_eq!(items.map(Result::unwrap).count(), 4);
        server.stop();
    });
}

#[test]
fn items_of_any_size_come() {
    everywhere_with_sessions(|server, client, transport| {
        let router = Router::new().stream("sizes", |sizes: Vec<usize>, items: &mut ItemSink| {
            sizes.into_iter().try_for_each(|size| items.send(&"x".repeat(size)))
        });
        let server = TestServer::start(server, transport, router, ServerConfig::new());
        let client = opened(&server, client);
        let sizes = [0, 1, 65_000, 65_536, 66_000, 1_000_000, 0, 5_000_000, 3];
        let items = client.stream("sizes", &json!(sizes)).unwrap();
        let came: Vec<_> = items.map(|item| item.unwrap().as_str().unwrap().len()).collect();
        assert_eq!(came, sizes);
        server.stop();
    });
}

#[test]
fn a_stream_is_asked_for_though_nobody_takes_its_items() {
    everywhere_with_sessions(|server, client, transport| {
        let (sender, asked) = mpsc::channel();
        let router = Router::new()
            .stream("lengths", move |texts: Vec<String>, items: &mut ItemSink| {
                sender.send(texts.len()).unwrap();
                texts.iter().try_for_each(|text| items.send(&text.len()))
            })
            .method("echo", |text: String| text);
        let server = TestServer::start(server, transport, router, ServerConfig::new());
        let client = opened(&server, client);
        // Far more than a socket takes at once, in both directions.
        let texts = json!(["x".repeat(1_000_000), "y".repeat(2_000_000)]);
        let streams: Vec<_> = (0..3).map(|_| client.stream("lengths", &texts).unwrap()).collect();
        for _ in 0..3 {
            assert_eq!(asked.recv_timeout(Duration::from_secs(4)).unwrap(), 2);
        }
        for items in streams {
            let lengths: Vec<_> = items.map(Result::unwrap).collect();
            assert_eq!(lengths, [json!(1_000_000), json!(2_000_000)]);
        }
        for _ in 0..3 {
            client.notify("echo", &texts[1]).unwrap();
        }
        assert_eq!(client.request("echo", &json!("z")).unwrap(), json!("z"));
        server.stop();
    });
}

#[test]
fn many_streams_share_a_session() {
    everywhere_with_sessions(|server, client, transport| {
        let (server, _) = start(server, transport, ServerConfig::new());
        let client = opened(&server, client);
        let mut streams: Vec<_> = (0..50).map(|_| client.stream("count", &json!(200)).unwrap()).collect();
        // Taken in turns, from the last to the first.
        for n in 0..200 {
            for items in streams.iter_mut().rev() {
                assert_eq!(items.next().unwrap().unwrap(), json!(n));
            }
        }
        for items in streams {
            assert_eq!(items.finish().unwrap(), json!(2_000));
        }
        server.stop();
    });
}
