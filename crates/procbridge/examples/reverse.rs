//! Reverse calls: a method asks its caller something before it answers.
//!
//! Run it with `cargo run --example reverse`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use procbridge::{Call, Client, ClientConfig, Error, ReplyError, Router, Server, SessionMode};

/// Deletes a file if the caller confirms it.
fn delete(call: &Call, file: String) -> Result<String, ReplyError> {
    let question = format!("delete {file}?");
    let timeout = Duration::from_secs(5);
    let confirmed: bool = call.session()?.call("confirm").payload(&question).timeout(timeout).send()?;
    if confirmed {
        Ok(format!("{file} is gone"))
    } else {
        Err(ReplyError::new("not confirmed").with_code("file.kept"))
    }
}

fn main() -> Result<(), Error> {
    let server = Server::bind("127.0.0.1:0")?.spawn(Router::new().method("delete", delete))?;

    let client = Client::new(server.endpoint())?;
    client.serve(Router::new().method("confirm", |question: String| {
        let answer = question.contains("draft");
        println!("  {question} {answer}");
        answer
    }))?;
    println!("draft.txt: {}", client.request::<String>("delete", "draft.txt")?);
    if let Err(error) = client.request::<String>("delete", "thesis.txt") {
        println!("thesis.txt: {error}");
    }

    // Two callers that cannot be asked: one has no methods, the other no session.
    let mute = Client::new(server.endpoint())?;
    let classic =
        Client::with_config(server.endpoint(), ClientConfig::new().with_sessions(SessionMode::Off))?;
    for client in [mute, classic] {
        if let Err(error) = client.request::<String>("delete", "draft.txt") {
            println!("draft.txt: {error}");
        }
    }
    Ok(())
}
