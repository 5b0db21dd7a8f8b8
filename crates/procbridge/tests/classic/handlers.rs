//! The arguments and results of functions, seen from the caller: every form of handler, every form of failure.

use std::time::Duration;

use procbridge::{
    Call, Client, Error, ErrorKind, Outcome, Refusal, Router, RunningServer, Server, ServerConfig, code,
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

fn serve(router: Router) -> (RunningServer, Client) {
    let config = ServerConfig::new().with_max_body(1000);
    let server = Server::bind_with("127.0.0.1:0", config).unwrap().spawn(router).unwrap();
    let client = Client::connect(server.endpoint()).unwrap();
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
        .method("result", |n: i64| if n > 0 { Ok(n) } else { Err(Refusal::new("not positive")) })
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
        _ => Err(Refusal::unknown_method(method)),
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
            Err::<(), _>(Refusal::new("too much").with_code("calc.overflow").with_data(&json!({"max": 10})))
        })
        .method("string", || Err::<(), _>("plain".to_string()))
        .method("own", || Err::<(), _>(Own { field: 1 }))
        .method("error", |text: String| -> Result<i64, Refusal> { Ok(text.parse::<i64>()?) })
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
