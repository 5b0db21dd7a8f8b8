//! The tokio face, its server on a runtime of one thread.

use std::sync::Arc;

use contender::{Caller, Endpoint, Report, Result, Run};
use procbridge::tokio::{Client, Router, Server};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::settings::{self, Kind};

pub(crate) fn serve(endpoint: &Endpoint) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let router = Router::new()
            .method("echo", |payload: Value| async move { payload })
            .method("bulk", |payload: Box<RawValue>| async move { payload });
        let server = Server::bind_with(settings::endpoint(endpoint)?, settings::server())?;
        contender::ready();
        Ok(server.serve(router).await?)
    })
}

pub(crate) fn call(run: &Run, kind: Kind) -> Result<Report> {
    let endpoint = settings::endpoint(&run.endpoint)?;
    let connect = || Client::with_config(endpoint.clone(), kind.client()).map(Arc::new);
    let shared = connect()?;
    let client = || if kind.is_classic() { connect() } else { Ok(Arc::clone(&shared)) };
    match kind.raw(run.payload)? {
        Some(payload) => run.tasks(|_| async {
            let client = client()?;
            if client.request::<Box<RawValue>>("bulk", &payload).await?.get() != payload.get() {
                return Err("the echo differs".into());
            }
            Ok(Bulk { client, payload: payload.clone() })
        }),
        None => run.tasks(|_| async {
            let (client, payload) = (client()?, run.payload.value());
            if client.request::<Value>("echo", &payload).await? != payload {
                return Err("the echo differs".into());
            }
            Ok(Small { client, payload })
        }),
    }
}

struct Small {
    client: Arc<Client>,
    payload: Value,
}

impl Caller for Small {
    async fn call(&mut self) -> Result<()> {
        self.client.request::<Value>("echo", &self.payload).await?;
        Ok(())
    }
}

struct Bulk {
    client: Arc<Client>,
    payload: Box<RawValue>,
}

impl Caller for Bulk {
    async fn call(&mut self) -> Result<()> {
        self.client.request::<Box<RawValue>>("bulk", &self.payload).await?;
        Ok(())
    }
}
