//! The methods of the servers: the same in both faces, and those of `procbridge serve --demo` among them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use procbridge::{Call, Hub, ItemSink, ReplyError, Router, code};
use serde::Deserialize;
use serde_json::value::RawValue;

/// The payload of `count`.
#[derive(Debug, Deserialize)]
struct Counting {
    n: u64,
    #[serde(default)]
    interval_ms: u64,
}

/// The payload of `publish`.
#[derive(Debug, Deserialize)]
struct Publishing {
    topic: String,
    #[serde(default)]
    payload: Option<Box<RawValue>>,
}

/// The payload of `call_me`: a method of the caller, and what it is called with.
#[derive(Debug, Deserialize)]
struct CallMe {
    method: String,
    #[serde(default)]
    payload: Option<Box<RawValue>>,
}

/// The payload of `call_often`: so many calls of the caller's method `told`, each with so many bytes and given up after so
/// many milliseconds.
#[derive(Debug, Deserialize)]
struct CallOften {
    calls: u32,
    bytes: usize,
    limit_ms: u64,
}

impl CallOften {
    fn text(&self) -> String {
        "t".repeat(self.bytes)
    }

    fn limit(&self) -> Duration {
        Duration::from_millis(self.limit_ms)
    }
}

fn publish(hub: &Hub, event: &Publishing) -> Result<usize, ReplyError> {
    let payload = event.payload.as_deref().unwrap_or(RawValue::NULL);
    Ok(hub.publish(&event.topic, payload)?)
}

/// Returns a string of so many bytes, which costs its handler no more than a copy.
fn big(bytes: usize) -> Result<Box<RawValue>, ReplyError> {
    static LAST: Mutex<Option<(usize, Box<RawValue>)>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if last.as_ref().is_none_or(|(size, _)| *size != bytes) {
        *last = Some((bytes, RawValue::from_string(format!("\"{}\"", "b".repeat(bytes)))?));
    }
    let text = last.as_ref().map(|(_, text)| text.clone());
    text.ok_or_else(|| ReplyError::new("there is no text"))
}

/// Returns the methods, as functions that block.
pub(crate) fn blocking() -> Router {
    let hub = Hub::new();
    let publisher = hub.clone();
    let notes = Arc::new(AtomicU64::new(0));
    let noted = notes.clone();
    Router::new()
        .method("echo", |payload: Box<RawValue>| payload)
        .method("sum", |numbers: Vec<i64>| numbers.iter().sum::<i64>())
        .method("big", |bytes: usize| big(bytes))
        .method("sleep", |call: &Call, seconds: f64| {
            let end = Instant::now() + Duration::from_secs_f64(seconds);
            while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
                if call.is_cancelled() {
                    return Err(ReplyError::new("given up").with_code(code::CANCELLED));
                }
                thread::sleep(left.min(Duration::from_millis(10)));
            }
            Ok(())
        })
        .method("note", move || {
            notes.fetch_add(1, Ordering::Relaxed);
        })
        .method("noted", move || noted.load(Ordering::Relaxed))
        .stream("count", |Counting { n, interval_ms }: Counting, items: &mut ItemSink| {
            for number in 0..n {
                thread::sleep(Duration::from_millis(interval_ms));
                items.send(&number)?;
            }
            Ok::<_, ReplyError>(())
        })
        .method("publish", move |event: Publishing| publish(&publisher, &event))
        .method("call_me", |call: &Call, CallMe { method, payload }: CallMe| {
            let payload = payload.unwrap_or_else(|| RawValue::NULL.to_owned());
            Ok::<Box<RawValue>, ReplyError>(call.session()?.request(&method, &payload)?)
        })
        .method("call_often", |call: &Call, often: CallOften| {
            let (session, text) = (call.session()?, often.text());
            let given_up = (0..often.calls)
                .filter(|_| session.call("told").payload(&text).timeout(often.limit()).send::<()>().is_err());
            Ok::<_, ReplyError>(given_up.count())
        })
        .events(&hub)
}

/// Returns the methods, as async functions.
pub(crate) fn asynchronous() -> procbridge::tokio::Router {
    use procbridge::tokio::{ItemSink, Router};
    let hub = Hub::new();
    let publisher = hub.clone();
    let notes = Arc::new(AtomicU64::new(0));
    let noted = notes.clone();
    Router::new()
        .method("echo", |payload: Box<RawValue>| async move { payload })
        .method("sum", |numbers: Vec<i64>| async move { numbers.iter().sum::<i64>() })
        .method("big", |bytes: usize| async move { big(bytes) })
        .method(
            "sleep",
            |seconds: f64| async move { tokio::time::sleep(Duration::from_secs_f64(seconds)).await },
        )
        .method("note", move || {
            notes.fetch_add(1, Ordering::Relaxed);
            async {}
        })
        .method("noted", move || {
            let noted = noted.load(Ordering::Relaxed);
            async move { noted }
        })
        .stream("count", |Counting { n, interval_ms }: Counting, mut items: ItemSink| async move {
            for number in 0..n {
                if interval_ms > 0 {
                    tokio::time::sleep(Duration::from_millis(interval_ms)).await;
                }
                items.send(&number).await?;
            }
            Ok::<_, ReplyError>(())
        })
        .method("publish", move |event: Publishing| {
            let published = publish(&publisher, &event);
            async move { published }
        })
        .method("call_me", |call: procbridge::tokio::Call, CallMe { method, payload }: CallMe| async move {
            let payload = payload.unwrap_or_else(|| RawValue::NULL.to_owned());
            let session = call.session()?;
            Ok::<Box<RawValue>, ReplyError>(session.request(&method, &payload).await?)
        })
        .method("call_often", |call: procbridge::tokio::Call, often: CallOften| async move {
            let (session, text) = (call.session()?, often.text());
            let mut given_up = 0_u32;
            for _ in 0..often.calls {
                let called = session.call("told").payload(&text).timeout(often.limit()).send::<()>();
                given_up += u32::from(called.await.is_err());
            }
            Ok::<_, ReplyError>(given_up)
        })
        .events(&hub)
}
