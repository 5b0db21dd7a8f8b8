//! The smallest blocking ProcBridge server.

use procbridge::{Error, Router, Server};

fn main() -> Result<(), Error> {
    let path = std::env::args().nth(1).unwrap_or_default();
    let server = Server::bind(path.as_str())?;
    println!("ready");
    server.serve(Router::new().method("echo", |text: String| text))
}
