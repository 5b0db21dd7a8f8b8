//! A Unix socket, settings, and a graceful shutdown that loses no call.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use procbridge::{Call, Client, Error, Router, Server, ServerConfig};

fn main() -> Result<(), Error> {
    let path = std::env::temp_dir().join(format!("procbridge-example-{}.sock", std::process::id()));
    let endpoint = format!("unix:{}", path.display());

    let (started, work) = mpsc::channel();
    let router = Router::new().method("whoami", |call: &Call| call.peer().to_string()).method(
        "work",
        move |milliseconds: u64| {
            let _ = started.send(());
            thread::sleep(Duration::from_millis(milliseconds));
            "done"
        },
    );
    let config = ServerConfig::new()
        .with_max_body(1024 * 1024)
        .with_handler_timeout(Duration::from_secs(5))
        .with_drain_timeout(Duration::from_secs(2));
    // The file has mode 0600; a file that a killed server left behind is replaced.
    let server = Server::bind_with(endpoint.as_str(), config)?.spawn(router)?;

    let client = Client::connect(endpoint.as_str())?;
    println!("whoami -> {}", client.request::<String>("whoami", &())?);

    let at_work = {
        let client = client.clone();
        thread::spawn(move || client.request::<String>("work", &200))
    };
    let _ = work.recv();
    // New calls are refused from here on; the call in flight is finished and answered.
    server.shutdown()?;
    if let Ok(answer) = at_work.join() {
        println!("work   -> {}", answer?);
    }
    if let Err(error) = client.request::<String>("whoami", &()) {
        println!("whoami -> {error} (safe to retry: {})", error.is_retryable());
    }
    Ok(())
}
