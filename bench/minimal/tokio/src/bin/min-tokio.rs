//! The least that answers on a Unix socket with tokio: a task for each connection, fixed bytes back.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let path = std::env::args().nth(1).unwrap_or_default();
    let listener = UnixListener::bind(path)?;
    println!("ready");
    loop {
        let (mut socket, _) = listener.accept().await?;
        tokio::spawn(async move {
            let mut request = [0; 128];
            if matches!(socket.read(&mut request).await, Ok(1..)) {
                let _ = socket.write_all(b"an answer").await;
            }
        });
    }
}
