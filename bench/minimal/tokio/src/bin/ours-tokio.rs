//! The smallest ProcBridge server on tokio.

use procbridge::Error;
use procbridge::tokio::{Router, Server};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let path = std::env::args().nth(1).unwrap_or_default();
    let server = Server::bind(path.as_str())?;
    println!("ready");
    server.serve(Router::new().method("echo", |text: String| async move { text })).await
}
