//! One function for all methods, as in the servers of the other languages.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use procbridge::{Client, ReplyError, Router, Server};
use serde_json::{Value, json};

fn delegate(method: Option<&str>, payload: Value) -> Result<Value, ReplyError> {
    match (method, payload) {
        (Some("echo"), payload) => Ok(payload),
        (Some("upper"), Value::String(text)) => Ok(json!(text.to_uppercase())),
        (Some("upper"), _) => Err(ReplyError::new("upper takes a string")),
        // A request need not name a method.
        (None, payload) => Ok(json!({ "payload": payload })),
        (unknown, _) => Err(ReplyError::unknown_method(unknown)),
    }
}

fn main() -> Result<(), procbridge::Error> {
    let server = Server::bind("127.0.0.1:0")?.spawn(Router::delegate(delegate))?;
    let client = Client::connect(server.endpoint())?;
    println!("{}", client.request::<Value>("upper", "hello")?);
    println!("{}", client.call_without_method().payload(&1).send::<Value>()?);
    for method in ["upper", "lower"] {
        if let Err(error) = client.request::<Value>(method, &1) {
            println!("{method}: {error}");
        }
    }
    Ok(())
}
