//! The spans and events of the layer `trace` for each call, on both faces. A process has one subscriber.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::Duration;

use procbridge::{Call, Router, ServerConfig, layers};
use serde_json::{Value, json};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::support::faces::{Face, TestServer, Transport};
#[cfg(feature = "tokio")]
use crate::support::watched;
use crate::support::wire::packet;
use crate::support::{each_face, eventually, in_own_process};

type Fields = BTreeMap<String, String>;

/// Keeps the spans with their fields, and each event with the span in which it was told.
#[derive(Clone, Default)]
struct Recorder {
    next: Arc<AtomicU64>,
    spans: Arc<Mutex<BTreeMap<u64, (String, Fields)>>>,
    entered: Arc<Mutex<Vec<(ThreadId, u64)>>>,
    told: Arc<Mutex<Vec<(String, Fields, Fields)>>>,
}

struct Into<'a>(&'a mut Fields);

impl Visit for Into<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_string(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_string(), value.to_string());
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "procbridge"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let mut fields = Fields::new();
        span.record(&mut Into(&mut fields));
        self.spans.lock().unwrap().insert(id, (span.metadata().name().to_string(), fields));
        Id::from_u64(id)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::new();
        event.record(&mut Into(&mut fields));
        let here = std::thread::current().id();
        let entered = self.entered.lock().unwrap();
        let (_, span) = entered.iter().rev().find(|(thread, _)| *thread == here).unwrap();
        let (name, of_span) = self.spans.lock().unwrap().get(span).unwrap().clone();
        self.told.lock().unwrap().push((name, of_span, fields));
    }

    fn enter(&self, span: &Id) {
        self.entered.lock().unwrap().push((std::thread::current().id(), span.into_u64()));
    }

    fn exit(&self, span: &Id) {
        let mut entered = self.entered.lock().unwrap();
        let left = (std::thread::current().id(), span.into_u64());
        let place = entered.iter().rposition(|place| *place == left).unwrap();
        entered.remove(place);
    }
}

impl Recorder {
    /// Returns the one call that was told of since the last look: method, peer, traceparent and outcome.
    fn call(&self) -> [Option<String>; 4] {
        let mut told = Vec::new();
        eventually(|| {
            told = std::mem::take(&mut *self.told.lock().unwrap());
            !told.is_empty()
        });
        let [(name, span, event)] = <[_; 1]>::try_from(told).unwrap();
        assert_eq!(name, "procbridge.call");
        assert!(event.get("elapsed_us").unwrap().parse::<u64>().is_ok());
        let of_span = |key: &str| span.get(key).cloned();
        [of_span("method"), of_span("peer"), of_span("traceparent"), event.get("outcome").cloned()]
    }
}

#[test]
fn each_call_is_a_span_and_an_event() {
    in_own_process("tracing::each_call_is_a_span_and_an_event", each_face_traces);
}

fn each_face_traces() {
    let recorder = Recorder::default();
    tracing::subscriber::set_global_default(recorder.clone()).unwrap();
    each_face(|face| scenario(face, &recorder));
    #[cfg(feature = "tokio")]
    watched(|| asynchronous(&recorder));
}

fn router() -> Router {
    Router::new()
        .layer(layers::trace())
        .method("one", || 1)
        .method("no", || Err::<(), _>("no"))
        .method("panic", || -> u8 { panic!("secret") })
        .method("late", |call: &Call| {
            while !call.is_cancelled() {
                std::thread::yield_now();
            }
        })
}

fn scenario(face: Face, recorder: &Recorder) {
    let config = ServerConfig::new().with_handler_timeout(Duration::from_millis(500));
    let server = TestServer::start(face, Transport::Tcp, router(), config);
    let call = |body: &Value| {
        let mut raw = server.connect();
        raw.write_all(&packet(&body.to_string())).unwrap();
        let (status, _) = raw.answer().unwrap();
        (status, recorder.call())
    };
    let text = |text: &str| Some(text.to_string());
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let (status, [method, peer, traceparent, outcome]) =
        call(&json!({"method": "one", "meta": {"traceparent": parent}}));
    assert_eq!((status, method, traceparent, outcome), (1, text("one"), text(parent), text("ok")));
    assert!(peer.unwrap().starts_with("tcp:127.0.0.1:"));
    for (name, expected) in
        [("no", "error"), ("panic", "internal"), ("nobody", "unknown_method"), ("late", "ok")]
    {
        let (status, [method, _, traceparent, outcome]) = call(&json!({"method": name}));
        assert_eq!((status, method, traceparent, outcome), (2, text(name), None, text(expected)));
    }
    // Text that a caller chose is shown so that it forges nothing.
    let (_, [method, ..]) = call(&json!({"method": "a\n\u{1b}[31m"}));
    assert_eq!(method, text("a\\n\\u{1b}[31m"));
    let (_, [method, ..]) = call(&json!({}));
    assert_eq!(method, None);
    server.stop();
}

#[cfg(feature = "tokio")]
fn asynchronous(recorder: &Recorder) {
    use procbridge::tokio::{Client, Router, Server, layers};

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = || recorder.call()[3].clone().unwrap();
    runtime.block_on(async {
        let router = Router::new()
            .layer(layers::trace())
            .method("one", async || {
                tokio::task::yield_now().await;
                1
            })
            .method("panic", async || -> u8 { panic!("secret") })
            .method("late", std::future::pending::<()>);
        let config = ServerConfig::new().with_handler_timeout(Duration::from_millis(50));
        let server = Server::bind_with(":0", config).unwrap().spawn(router);
        let client = Client::new(server.endpoint()).unwrap();
        assert_eq!(client.request::<i32>("one", &()).await.unwrap(), 1);
        assert_eq!(outcome(), "ok");
        client.request::<i32>("panic", &()).await.unwrap_err();
        assert_eq!(outcome(), "internal");
        // It is dropped, and that is told in its span, too.
        assert!(client.request::<()>("late", &()).await.unwrap_err().is_timeout());
        assert_eq!(outcome(), "cancelled");
        server.shutdown().await.unwrap();
    });
}
