//! The blocking face.

use std::sync::Arc;

use contender::{Endpoint, Report, Result, Run};
use procbridge::{Client, Router, Server, ServerConfig};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::settings::{self, Kind};

pub(crate) fn serve(endpoint: &Endpoint) -> Result<()> {
    serve_with(endpoint, settings::server())
}

pub(crate) fn serve_spinning(endpoint: &Endpoint) -> Result<()> {
    serve_with(endpoint, settings::server().with_spin(settings::SPIN))
}

fn serve_with(endpoint: &Endpoint, config: ServerConfig) -> Result<()> {
    let router = Router::new()
        .method("echo", |payload: Value| payload)
        .method("bulk", |payload: Box<RawValue>| payload);
    let server = Server::bind_with(settings::endpoint(endpoint)?, config)?;
    contender::ready();
    Ok(server.serve(router)?)
}

pub(crate) fn call(run: &Run, kind: Kind) -> Result<Report> {
    let endpoint = settings::endpoint(&run.endpoint)?;
    let connect = || Client::with_config(endpoint.clone(), kind.client()).map(Arc::new);
    let shared = connect()?;
    let client = || if kind.is_classic() { connect() } else { Ok(Arc::clone(&shared)) };
    match kind.raw(run.payload)? {
        Some(payload) => run.threads(|_| {
            let client = client()?;
            if client.request::<Box<RawValue>>("bulk", &payload)?.get() != payload.get() {
                return Err("the echo differs".into());
            }
            let payload = &payload;
            Ok(move || {
                client.request::<Box<RawValue>>("bulk", payload)?;
                Ok(())
            })
        }),
        None => run.threads(|_| {
            let client = client()?;
            let payload = run.payload.value();
            if client.request::<Value>("echo", &payload)? != payload {
                return Err("the echo differs".into());
            }
            Ok(move || {
                client.request::<Value>("echo", &payload)?;
                Ok(())
            })
        }),
    }
}
