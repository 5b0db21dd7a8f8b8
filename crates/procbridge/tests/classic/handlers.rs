//! The arguments and results of functions, seen from the caller: every form of handler, every form of failure.

use std::fmt;
use std::num::ParseIntError;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use procbridge::handler::Reply;
use procbridge::{
    Call, Client, Error, ErrorKind, IntoReplyError, ItemSink, Next, Outcome, ReplyError, Router,
    RunningServer, Server, ServerConfig, code, layers,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::support::faces::refusal;

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Point {
    x: f64,
    y: f64,
}

fn serve<S: Send + Sync + 'static>(router: Router<S>) -> (RunningServer, Client) {
    let config = ServerConfig::new().with_max_body(1000);
    let server = Server::bind_with("127.0.0.1:0", config).unwrap().spawn(router).unwrap();
    let client = Client::new(server.endpoint()).unwrap();
    (server, client)
}

#[test]
fn every_form_of_function_answers() {
    let router = Router::new()
        .method("nothing", || 7)
        .method("typed", |xs: Vec<i64>| xs.iter().sum::<i64>())
        .method("tuple", |(a, b): (i64, i64)| a + b)
        .method("struct", |point: Point| Point { x: point.y, y: point.x })
        .method("value", |value: Value| value)
        .method("option", |name: Option<String>| name.unwrap_or("nobody".to_string()))
        .method("unit", |(): ()| ())
        .method("raw", |raw: Box<RawValue>| raw)
        .method("context", |call: &Call| call.peer().to_string())
        .method("both", |call: &Call, n: i64| format!("{}{n}", call.method().unwrap()))
        .method("both_raw", |_: &Call, raw: Box<RawValue>| raw.get().len())
        .method("result", |n: i64| if n > 0 { Ok(n) } else { Err(ReplyError::new("not positive")) })
        .fallback(|call, payload: Value| Ok(json!([call.method(), payload])));
    let (_server, client) = serve(router);
    let ask = |method: &str, payload: Value| client.request::<Value>(method, &payload).unwrap();
    assert_eq!(ask("nothing", json!("ignored")), json!(7));
    assert_eq!(ask("typed", json!([1, 2, 3])), json!(6));
    assert_eq!(ask("tuple", json!([1, 2])), json!(3));
    assert_eq!(ask("struct", json!({"x": 1.5, "y": 2.5})), json!({"x": 2.5, "y": 1.5}));
    assert_eq!(ask("value", json!({"a": null})), json!({"a": null}));
    assert_eq!(ask("option", json!(null)), json!("nobody"));
    assert_eq!(ask("unit", json!(null)), json!(null));
    assert!(ask("context", json!(null)).as_str().unwrap().starts_with("tcp:127.0.0.1:"));
    assert_eq!(ask("both", json!(1)), json!("both1"));
    assert_eq!(ask("both_raw", json!([1])), json!(3));
    assert_eq!(ask("result", json!(1)), json!(1));
    assert_eq!(ask("other", json!([])), json!(["other", []]));
    assert_eq!(client.call_without_method().send::<Value>().unwrap(), json!([null, null]));
}

#[test]
fn raw_json_goes_both_ways_untouched() {
    let (_server, client) = serve(Router::new().method("raw", |raw: Box<RawValue>| raw));
    let text = r#"{"b": 18446744073709551617,"a":1.10, "é":"\u00e9\ud800"}"#;
    let payload = RawValue::from_string(text.to_string()).unwrap();
    let answer: Box<RawValue> = client.request("raw", &payload).unwrap();
    assert_eq!(answer.get(), text);
}

#[test]
fn the_delegate_sees_method_and_payload() {
    let router = Router::delegate(|method: Option<&str>, payload: Value| match method {
        Some("echo") => Ok(payload),
        _ => Err(ReplyError::unknown_method(method)),
    });
    let (_server, client) = serve(router);
    assert_eq!(client.request::<Value>("echo", &[1]).unwrap(), json!([1]));
    let unknown = ("unknown method \"x\"".to_string(), Some(code::UNKNOWN_METHOD.to_string()), None);
    assert_eq!(refusal(client.request("x", &())), unknown);
    let unnamed = ("the request names no method".to_string(), Some(code::UNKNOWN_METHOD.to_string()), None);
    assert_eq!(refusal(client.call_without_method().send()), unnamed);
}

#[test]
fn every_form_of_failure_is_a_bad_response() {
    #[derive(Serialize)]
    struct Own {
        field: u8,
    }
    let router = Router::new()
        .method("refusal", || {
            Err::<(), _>(
                ReplyError::new("too much").with_code("calc.overflow").with_data(&json!({"max": 10})),
            )
        })
        .method("string", || Err::<(), _>("plain".to_string()))
        .method("own", || Err::<(), _>(Own { field: 1 }))
        .method("error", |text: String| -> Result<i64, ReplyError> { Ok(text.parse::<i64>()?) })
        .method("nan", || vec![1.0, f64::NAN])
        .method("panic", || -> u8 { panic!("secret") })
        .method("large", || "x".repeat(1000))
        .method("sum", |xs: Vec<i64>| xs.iter().sum::<i64>());
    let (server, client) = serve(router);
    let ask = |method: &str, payload: Value| refusal(client.request(method, &payload));
    let no = |message: &str, code: Option<&str>, data: Option<&str>| {
        (message.to_string(), code.map(str::to_string), data.map(str::to_string))
    };
    assert_eq!(ask("refusal", json!(null)), no("too much", Some("calc.overflow"), Some("{\"max\":10}")));
    assert_eq!(ask("string", json!(null)), no("plain", None, None));
    assert_eq!(ask("own", json!(null)), no("the method returned an error", None, Some("{\"field\":1}")));
    assert_eq!(ask("error", json!("x")), no("invalid digit found in string", None, None));
    assert_eq!(
        ask("nan", json!(null)),
        no("the result cannot be sent: JSON has no NaN", Some(code::INTERNAL), None)
    );
    assert_eq!(
        ask("panic", json!(null)),
        no("the method failed unexpectedly (panic)", Some(code::INTERNAL), None)
    );
    let large = "the result cannot be sent: body of 1014 B exceeds the limit of 1000 B (max_body)";
    assert_eq!(ask("large", json!(null)), no(large, Some(code::TOO_LARGE), None));
    let invalid = "invalid payload for \"sum\": found null, expected a sequence at line 1 column 4";
    assert_eq!(ask("sum", json!(null)), no(invalid, Some(code::INVALID_PAYLOAD), None));
    // And it is still there.
    assert_eq!(client.request::<i64>("sum", &[1, 2]).unwrap(), 3);
    drop(server);
}

/// An error with a source, as most programs have them.
#[derive(Debug)]
struct Unreadable(ParseIntError);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot read the number")
    }
}

impl std::error::Error for Unreadable {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// An error type that says its code itself.
struct Empty;

impl IntoReplyError for Empty {
    fn into_reply_error(self) -> ReplyError {
        ReplyError::new("no numbers").with_code("calc.empty")
    }
}

fn unreadable(text: &str) -> Result<i64, Unreadable> {
    text.parse().map_err(Unreadable)
}

#[test]
fn every_type_of_error_becomes_an_answer() {
    let (_behind, remote) = serve(Router::delegate(|_: Option<&str>, _: Value| Err::<(), _>(gone())));
    let router = Router::new()
        .method("source", |text: String| unreadable(&text))
        .method("boxed", |text: String| -> Result<i64, Box<dyn std::error::Error + Send + Sync>> {
            if text.is_empty() { Err("no text")? } else { Ok(unreadable(&text)?) }
        })
        .method("own", |xs: Vec<i64>| xs.into_iter().max().ok_or(Empty))
        .method("text", || Err::<(), _>("only text"))
        .method("question marks", |which: u8| -> Result<i64, ReplyError> {
            match which {
                0 => Err("a text")?,
                1 => Err(format!("text {which}"))?,
                2 => Err(Box::<dyn std::error::Error + Send + Sync>::from("boxed"))?,
                3 => Err(anyhow::anyhow!("inner").context("outer"))?,
                _ => Ok(unreadable("x")?),
            }
        })
        .method("remote", move || remote.request::<()>("any", &()));
    let (_server, client) = serve(router);
    let ask = |method: &str, payload: Value| refusal(client.request(method, &payload));
    for method in ["source", "boxed"] {
        assert_eq!(client.request::<i64>(method, "12").unwrap(), 12);
        assert_eq!(ask(method, json!("x")), plain(CHAIN), "{method}");
    }
    assert_eq!(ask("boxed", json!("")), plain("no text"));
    assert_eq!(ask("text", json!(null)), plain("only text"));
    assert_eq!(ask("own", json!([])), ("no numbers".to_string(), Some("calc.empty".to_string()), None));
    assert_eq!(client.request::<i64>("own", &[1, 3, 2]).unwrap(), 3);
    for (which, message) in ["a text", "text 1", "boxed", "outer: inner", CHAIN].into_iter().enumerate() {
        assert_eq!(ask("question marks", json!(which)), plain(message));
    }
    assert_eq!(ask("remote", json!(null)), passed_on("no such thing"));
}

#[cfg(feature = "anyhow")]
#[test]
fn an_anyhow_error_is_the_text_of_its_chain() {
    let (_behind, remote) = serve(Router::delegate(|_: Option<&str>, _: Value| Err::<(), _>(gone())));
    let within = remote.clone();
    let router = Router::new()
        .method("anyhow", |text: String| -> anyhow::Result<i64> { Ok(unreadable(&text)?) })
        .method("remote", move || -> anyhow::Result<()> { Ok(remote.request("any", &())?) })
        .method("remote within", move || {
            anyhow::Context::context(within.request::<()>("any", &()), "the other server failed")
        });
    let (_server, client) = serve(router);
    let ask = |method: &str, payload: Value| refusal(client.request(method, &payload));
    assert_eq!(client.request::<i64>("anyhow", "12").unwrap(), 12);
    assert_eq!(ask("anyhow", json!("x")), plain(CHAIN));
    assert_eq!(ask("remote", json!(null)), passed_on("no such thing"));
    assert_eq!(ask("remote within", json!(null)), passed_on("the other server failed: no such thing"));
}

/// Returns the error answer of another server.
fn gone() -> ReplyError {
    ReplyError::new("no such thing").with_code("app.gone").with_data(&7)
}

fn passed_on(message: &str) -> (String, Option<String>, Option<String>) {
    (message.to_string(), Some("app.gone".to_string()), Some("7".to_string()))
}

fn plain(message: &str) -> (String, Option<String>, Option<String>) {
    (message.to_string(), None, None)
}

const CHAIN: &str = "cannot read the number: invalid digit found in string";

#[test]
fn a_layer_gives_codes_to_error_types() {
    let router = Router::new()
        .layer(layers::map_error(|error: &Unreadable| {
            ReplyError::new(error.to_string()).with_code("calc.digits")
        }))
        .method("direct", |text: String| unreadable(&text))
        .method("by question mark", |text: String| -> Result<i64, ReplyError> { Ok(unreadable(&text)?) })
        .method("other", || Err::<(), _>(std::io::Error::other("of the disk")));
    let (_server, client) = serve(router);
    let coded = ("cannot read the number".to_string(), Some("calc.digits".to_string()), None);
    for method in ["direct", "by question mark"] {
        assert_eq!(refusal(client.request(method, "x")), coded);
    }
    assert_eq!(refusal(client.request("other", &())), ("of the disk".to_string(), None, None));
}

#[test]
fn methods_share_their_routers_state() {
    struct App {
        total: AtomicI64,
    }
    impl App {
        fn add(&self, n: i64) -> i64 {
            self.total.fetch_add(n, Ordering::Relaxed) + n
        }
    }
    let router = Router::with_state(App { total: AtomicI64::new(10) })
        .method("add", App::add)
        .method("total", |app: &App| app.total.load(Ordering::Relaxed))
        .method("whole", |app: &App, call: &Call, n: i64| {
            format!("{} {}", call.method().unwrap(), app.add(n))
        })
        .method("without", |n: i64| n)
        .stream("items", |app: &App, n: i64, items: &mut ItemSink| items.send(&app.add(n)))
        .stream("more items", |app: &App, call: &Call, (): (), items: &mut ItemSink| {
            items.send(&call.is_one_way()).and_then(|()| items.send(&app.add(0)))
        });
    let (_server, client) = serve(router);
    assert_eq!(client.request::<i64>("add", &5).unwrap(), 15);
    assert_eq!(client.request::<i64>("total", &()).unwrap(), 15);
    assert_eq!(client.request::<String>("whole", &1).unwrap(), "whole 16");
    assert_eq!(client.request::<i64>("without", &1).unwrap(), 1);
    assert_eq!(client.request::<Vec<i64>>("items", &4).unwrap(), [20]);
    assert_eq!(client.request::<Value>("more items", &()).unwrap(), json!([false, 20]));
}

/// Layers of a router stay around its methods, wherever these go.
fn marked(mark: &'static str) -> impl Fn(&Call, Next<'_>) -> Result<Reply, ReplyError> {
    move |_, next| next.run().map_err(|error| ReplyError::new(format!("{mark}({})", error.message())))
}

#[test]
fn routers_are_merged_and_nested_with_their_layers() {
    let fails = || Err::<(), _>("no");
    let inner =
        Router::with_state(7).layer(marked("inner")).method("fails", fails).method("seven", |n: &i32| *n);
    let second =
        Router::new().layer(marked("second")).method("second", fails).fallback(|_, value: Value| Ok(value));
    let router = Router::new()
        .method("second", || "replaced")
        .layer(marked("outer"))
        .nest("in", Router::new().layer(marked("middle")).nest("most", inner))
        .merge(second)
        .method("fails", fails)
        .describe("in.most.seven", "Seven.");
    let (_server, client) = serve(router);
    let ask = |method: &str| refusal(client.request(method, &())).0;
    assert_eq!(client.request::<i32>("in.most.seven", &()).unwrap(), 7);
    assert_eq!(ask("in.most.fails"), "outer(middle(inner(no)))");
    assert_eq!(ask("second"), "outer(second(no))");
    assert_eq!(ask("fails"), "outer(no)");
    assert_eq!(client.request::<i32>("in.unknown", &1).unwrap(), 1);
    let methods = client.request::<Value>("$/describe", &()).unwrap()["methods"].to_string();
    assert!(methods.contains(r#"{"doc":"Seven.","kind":"method","name":"in.most.seven"}"#), "{methods}");
}

#[test]
fn what_the_caller_does_wrong_is_not_sent() {
    let (_server, client) = serve(Router::new().method("n", || 1));
    let kind = |error: Error| (error.kind(), error.outcome(), error.to_string());
    let nan = client.request::<Value>("n", &f64::NAN).unwrap_err();
    let message = "the payload cannot be sent: JSON has no NaN".to_string();
    assert_eq!(kind(nan), (ErrorKind::InvalidInput, Outcome::NotSent, message));
    let long = client.request::<Value>(&"m".repeat(257), &()).unwrap_err();
    let message = "method name of 257 B exceeds the limit of 256 B (max_method)".to_string();
    assert_eq!(kind(long), (ErrorKind::InvalidInput, Outcome::NotSent, message));
    let wrong = client.request::<String>("n", &()).unwrap_err();
    assert_eq!((wrong.kind(), wrong.outcome()), (ErrorKind::InvalidResult, Outcome::Replied));
}

#[test]
fn a_callers_limit_ends_the_call_and_the_handler_is_told() {
    let (sender, cancelled) = std::sync::mpsc::channel();
    let router = Router::new().method("wait", move |call: &Call| {
        assert!(call.remaining().unwrap() <= Duration::from_millis(300));
        while !call.is_cancelled() {
            std::thread::yield_now();
        }
        sender.send(()).unwrap();
    });
    let (server, client) = serve(router);
    // The client of the test waits longer than it says, to see the server's answer.
    let error = client.call("wait").timeout(Duration::from_millis(300)).send::<Value>().unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    cancelled.recv_timeout(Duration::from_secs(10)).unwrap();
    drop(server);
}
