//! Trace context (W3C): which trace a call belongs to, from its `meta`. It is only passed on: a call made by a handler
//! belongs to the trace of the call that the handler serves.

use std::cell::RefCell;
use std::sync::Arc;

use procbridge_proto::member;

/// The trace that a call belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TraceContext {
    parent: Box<str>,
    state: Option<Box<str>>,
}

impl TraceContext {
    /// Reads the context from a request's `meta`, the text of a JSON object. A malformed member is ignored, and with a
    /// malformed `traceparent` the `tracestate` too.
    pub(crate) fn read(meta: Option<&str>) -> Option<Arc<Self>> {
        let meta = meta?;
        let text = |key| serde_json::from_str::<String>(member(meta, key)?).ok();
        let parent = text(TRACEPARENT).filter(|parent| is_traceparent(parent))?.into_boxed_str();
        let state = text(TRACESTATE).filter(|state| is_tracestate(state)).map(String::into_boxed_str);
        Some(Arc::new(Self { parent, state }))
    }

    pub(crate) fn parent(&self) -> &str {
        &self.parent
    }

    pub(crate) fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<TraceContext>>> = const { RefCell::new(None) };
}

/// Runs `work` as a part of the trace `context`, or of none. An async handler's work is each poll of its future.
pub(crate) fn within<T>(context: Option<&Arc<TraceContext>>, work: impl FnOnce() -> T) -> T {
    struct Before(Option<Arc<TraceContext>>);
    impl Drop for Before {
        fn drop(&mut self) {
            CURRENT.set(self.0.take());
        }
    }
    if context.is_none() && CURRENT.with_borrow(Option::is_none) {
        return work();
    }
    let _before = Before(CURRENT.replace(context.cloned()));
    work()
}

/// Returns the trace of the handler that runs on this thread, if its call belongs to one.
pub(crate) fn current() -> Option<Arc<TraceContext>> {
    CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
}

/// Whether `text` is like `00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01`. A later version may append more.
fn is_traceparent(text: &str) -> bool {
    let is_hex = |part: &str, length| {
        part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_id = |part: &str, length| is_hex(part, length) && part.bytes().any(|byte| byte != b'0');
    let mut parts = text.splitn(5, '-');
    let mut part = || parts.next().unwrap_or_default();
    let version = part();
    is_hex(version, 2)
        && version != "ff"
        && is_id(part(), 32)
        && is_id(part(), 16)
        && is_hex(part(), 2)
        && (parts.next().is_none() || version != "00")
        && text.len() <= MAX_TRACEPARENT
}

/// Whether `text` has at most 32 members `key=value` between commas, with optional spaces and tabs around them.
fn is_tracestate(text: &str) -> bool {
    let is_key = |key: &str| {
        let name = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@');
        !key.is_empty() && key.len() <= 256 && key.bytes().all(name)
    };
    let is_value = |value: &str| {
        let printable = |byte| matches!(byte, b' '..=b'~') && byte != b',' && byte != b'=';
        !value.is_empty() && value.len() <= 256 && value.bytes().all(printable)
    };
    let is_member = |member: &str| {
        let member = member.trim_matches([' ', '\t']);
        // An empty member is allowed between others.
        member.is_empty() || member.split_once('=').is_some_and(|(key, value)| is_key(key) && is_value(value))
    };
    !text.is_empty()
        && text.len() <= MAX_TRACESTATE
        && text.split(',').count() <= 32
        && text.split(',').all(is_member)
}

pub(crate) const TRACEPARENT: &str = "traceparent";
pub(crate) const TRACESTATE: &str = "tracestate";
/// Only a later version of the format could have more than 55 bytes.
const MAX_TRACEPARENT: usize = 256;
/// The length that every system which passes it on should support.
const MAX_TRACESTATE: usize = 512;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::client::meta::{Meta, outgoing_meta};

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn context(state: Option<&str>) -> Option<Arc<TraceContext>> {
        TraceContext::read(Some(&json!({"traceparent": GOOD, "tracestate": state}).to_string()))
    }

    #[test]
    fn a_context_is_read_from_meta() {
        let read = |text: &str| TraceContext::read(Some(text));
        let both = read(&json!({"x": [1], "traceparent": GOOD, "tracestate": "a=1"}).to_string()).unwrap();
        assert_eq!((both.parent(), both.state()), (GOOD, Some("a=1")));
        assert_eq!(read(&format!(r#"{{"tracep\u0061rent":"{GOOD}"}}"#)).unwrap().parent(), GOOD);
        assert_eq!(context(Some("no")).unwrap().state(), None);
        assert_eq!(TraceContext::read(None), None);
        for text in ["", "null", "[]", "{}", r#"{"traceparent":1}"#, r#"{"tracestate":"a=1"}"#] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn the_form_of_a_traceparent_is_checked() {
        let later = GOOD.replacen("00", "01", 1);
        for good in [GOOD, &later, &format!("{later}-more-of-it"), &GOOD.replace("-01", "-00")] {
            assert!(is_traceparent(good), "{good}");
        }
        let bad = [
            "",
            "00",
            &GOOD.replacen("00", "ff", 1),
            &GOOD.replacen("00", "0", 1),
            &GOOD.to_uppercase(),
            &format!("{GOOD}-more"),
            &format!("{GOOD}-"),
            &format!("{GOOD} "),
            &GOOD.replace("b7ad6b7169203331", "0000000000000000"),
            &GOOD.replace("0af7651916cd43dd8448eb211c80319c", "00000000000000000000000000000000"),
            &GOOD.replace("0af7", "0ag7"),
            &GOOD.replace("-01", ""),
            &GOOD.replace("-01", "-1"),
            &format!("{later}-{}", "x".repeat(300)),
        ];
        for bad in bad {
            assert!(!is_traceparent(bad), "{bad}");
        }
    }

    #[test]
    fn the_form_of_a_tracestate_is_checked() {
        let most = (0..32).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
        for good in ["a=1", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "t@v=x , \tb=2,", "a=b c", &most] {
            assert!(is_tracestate(good), "{good}");
        }
        let long = format!("a={}", "x".repeat(600));
        for bad in ["", "a", "a=", "=1", "A=1", "a=1=2", "a=\u{e9}", "a=\n", &format!("{most},z=1"), &long] {
            assert!(!is_tracestate(bad), "{bad}");
        }
    }

    #[test]
    fn a_context_is_current_within_its_work_only() {
        let (outer, inner) = (context(Some("a=1")), context(None));
        assert_eq!(current(), None);
        within(outer.as_ref(), || {
            assert_eq!(current(), outer);
            within(inner.as_ref(), || assert_eq!(current(), inner));
            within(None, || assert_eq!(current(), None));
            let _ = std::panic::catch_unwind(|| within(None, || std::panic::resume_unwind(Box::new(()))));
            assert_eq!(current(), outer);
            std::thread::spawn(|| assert_eq!(current(), None)).join().unwrap();
        });
        assert_eq!(current(), None);
    }

    #[test]
    fn an_outgoing_call_carries_the_context_on() {
        let read = |meta: Option<String>| meta.map(|meta| serde_json::from_str::<Value>(&meta).unwrap());
        let meta = |value: &Value| {
            let mut meta = Meta::default();
            for (key, value) in value.as_object().unwrap() {
                meta.insert(key.clone(), value).unwrap();
            }
            meta
        };
        let (none, own) = (Meta::default(), json!({"a": 1, "tracestate": "mine=1"}));
        assert_eq!(read(outgoing_meta(&none)), None);
        assert_eq!(read(outgoing_meta(&meta(&own))), Some(own.clone()));
        within(context(Some("a=1")).as_ref(), || {
            let both = json!({"traceparent": GOOD, "tracestate": "a=1"});
            assert_eq!(read(outgoing_meta(&none)), Some(both));
            let with_own = json!({"a": 1, "traceparent": GOOD, "tracestate": "a=1"});
            assert_eq!(read(outgoing_meta(&meta(&own))), Some(with_own));
            let named = json!({"traceparent": "another"});
            assert_eq!(read(outgoing_meta(&meta(&named))), Some(named));
        });
        within(context(None).as_ref(), || {
            let with_own = json!({"a": 1, "traceparent": GOOD});
            assert_eq!(read(outgoing_meta(&meta(&own))), Some(with_own));
        });
    }
}
