//! The methods that most tests call.

use procbridge::{Call, ItemSink, ReplyError, Router, ServerConfig};
use serde_json::Value;

use super::door::Door;
use super::faces::{Face, TestServer, Transport};

/// Returns methods that answer at once, that fail, that wait at `door`, and that stream.
pub fn router(door: &Door) -> Router {
    let door = door.clone();
    Router::new()
        .method("echo", |value: Value| value)
        .method("sum", |xs: Vec<i64>| xs.iter().sum::<i64>())
        .method("err", || Err::<(), _>(ReplyError::new("generated error").with_code("test.generated")))
        .method("panic", || -> u8 { panic!("on purpose") })
        .method("big", |size: usize| "x".repeat(size))
        .method("wait", move |call: &Call| door.pass(call))
        .stream("count", |n: u64, items: &mut ItemSink| -> Result<u64, ReplyError> {
            (0..n).try_for_each(|i| items.send(&i))?;
            Ok(n * 10)
        })
}

/// Returns a server of them, and the door.
pub fn start(face: Face, transport: Transport, config: ServerConfig) -> (TestServer, Door) {
    let door = Door::default();
    (TestServer::start(face, transport, router(&door), config), door)
}
