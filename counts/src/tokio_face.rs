//! The tokio face, on a runtime of one thread.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use procbridge::tokio::{Client, Router, Server};
use serde_json::value::RawValue;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use crate::heap::Heap;
use crate::settings::{self, Calls, Result, WARM};

/// Serves until the standard input closes.
pub(crate) fn serve(endpoint: &str) -> Result<()> {
    runtime()?.block_on(async {
        let server = Server::bind_with(endpoint, settings::server())?;
        let handle = server.handle();
        thread::spawn(move || {
            let _ = std::io::stdin().read(&mut [0]);
            handle.shutdown();
        });
        println!("ready");
        Ok(server.serve(router()).await?)
    })
}

/// Makes calls, as many at a time as asked for.
pub(crate) fn call(calls: &Calls) -> Result<()> {
    runtime()?.block_on(make(calls))
}

/// Does the same with a server in this thread too.
pub(crate) fn both(calls: &Calls) -> Result<()> {
    runtime()?.block_on(async {
        let server = Server::bind_with(calls.endpoint.clone(), settings::server())?.spawn(router());
        make(calls).await?;
        Ok(server.shutdown().await?)
    })
}

fn router() -> Router {
    Router::new()
        .method("echo", |payload: Box<RawValue>| async move { payload })
        .method("heap", || async move {
            let Heap { allocations, bytes } = Heap::now();
            (allocations, bytes)
        })
        // Holds the only thread until the other side of this socket is closed.
        .method("hold", |gate: String| async move {
            let _ = UnixStream::connect(gate).and_then(|mut gate| gate.read(&mut [0]));
        })
}

async fn make(calls: &Calls) -> Result<()> {
    let client = Arc::new(Client::with_config(calls.endpoint.clone(), calls.config.clone())?);
    let payload: Arc<RawValue> = Arc::from(calls.payload.clone());
    repeat(&client, &payload, WARM).await?;
    let heap = Heap::now();
    if calls.in_flight == 1 {
        repeat(&client, &payload, calls.count).await?;
    } else {
        let mut tasks = JoinSet::new();
        for _ in 0..calls.in_flight {
            let (client, payload, count) = (client.clone(), payload.clone(), calls.count / calls.in_flight);
            tasks.spawn(
                async move { repeat(&client, &payload, count).await.map_err(|error| error.to_string()) },
            );
        }
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
    }
    heap.tell(calls.count);
    Ok(())
}

async fn repeat(
    client: &Client,
    payload: &RawValue,
    count: usize,
) -> std::result::Result<(), procbridge::Error> {
    for _ in 0..count {
        client.request::<Box<RawValue>>("echo", payload).await?;
    }
    Ok(())
}

fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}
