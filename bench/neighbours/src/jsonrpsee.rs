//! jsonrpsee: JSON-RPC 2.0 over WebSocket and over HTTP/1.1, on TCP (it has no Unix sockets).
//!
//! The payload is a `serde_json::Value` at both ends; in `jsonrpsee-ws-raw` JSON text that is checked but not made into a
//! tree (`RawValue`).
//!
//! Configuration:
//!
//! - NODELAY (its default).
//! - Requests and answers up to 64 MiB.
//! - Over WebSocket all calls share a connection, over HTTP the client keeps a pool of connections.
//! - The method is a synchronous one, which is called where the request was read.
//! - The other settings as they come.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;

use contender::{Caller, Endpoint, Report, Result, Run};
use jsonrpsee::core::client::ClientT;
use jsonrpsee::core::params::ArrayParams;
use jsonrpsee::http_client::HttpClientBuilder;
use jsonrpsee::server::{RpcModule, Server, ServerConfig};
use jsonrpsee::types::ErrorObjectOwned;
use jsonrpsee::ws_client::WsClientBuilder;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::OnceCell;

use crate::content::Carry;

const LARGEST: u32 = crate::LARGEST as u32;

pub fn serve(endpoint: &Endpoint) -> Result<()> {
    let address = crate::tcp_only(endpoint)?;
    crate::block_on(async {
        let mut module = RpcModule::new(());
        module.register_method("echo", |params, _, _| params.one::<Value>())?;
        module.register_method(
            "raw",
            |params, _, _| -> std::result::Result<Box<RawValue>, ErrorObjectOwned> { params.one() },
        )?;
        let config = ServerConfig::builder()
            .max_request_body_size(LARGEST)
            .max_response_body_size(LARGEST)
            .set_tcp_no_delay(true)
            .build();
        let server = Server::builder().set_config(config).build(address).await?;
        let handle = server.start(module);
        contender::ready();
        handle.stopped().await;
        Ok(())
    })
}

enum Payload {
    Tree(Value),
    Text(Box<RawValue>),
}

struct Worker<C> {
    client: Arc<C>,
    payload: Arc<Payload>,
}

impl<C: ClientT + Send + Sync + 'static> Caller for Worker<C> {
    async fn call(&mut self) -> Result<()> {
        let mut params = ArrayParams::new();
        match &*self.payload {
            Payload::Tree(value) => {
                params.insert(value)?;
                black_box(self.client.request::<Value, _>("echo", params).await?);
            }
            Payload::Text(text) => {
                params.insert(text)?;
                let answer: Box<RawValue> = self.client.request("raw", params).await?;
                if answer.get().len() != text.get().len() {
                    return Err("the answer is not as long as what was sent".into());
                }
            }
        }
        Ok(())
    }
}

fn call<C, F>(run: &Run, carry: Carry, connect: impl Fn(SocketAddr) -> F) -> Result<Report>
where
    C: ClientT + Send + Sync + 'static,
    F: Future<Output = Result<C>>,
{
    let address = crate::tcp_only(&run.endpoint)?;
    let payload = Arc::new(match carry {
        Carry::Tree => Payload::Tree(run.payload.value()),
        Carry::Text => Payload::Text(RawValue::from_string(run.payload.text())?),
    });
    let shared = OnceCell::new();
    run.tasks(|_| async {
        let client: &Arc<C> = shared
            .get_or_try_init(async || {
                let client = connect(address).await?;
                let mut params = ArrayParams::new();
                params.insert(run.payload.value())?;
                if client.request::<Value, _>("echo", params).await? != run.payload.value() {
                    return Err("the answer is not what was sent".into());
                }
                Ok::<_, contender::Error>(Arc::new(client))
            })
            .await?;
        Ok(Worker { client: Arc::clone(client), payload: Arc::clone(&payload) })
    })
}

pub fn call_ws(run: &Run, carry: Carry) -> Result<Report> {
    call(run, carry, async |address| {
        Ok(WsClientBuilder::default()
            .max_request_size(LARGEST)
            .max_response_size(LARGEST)
            .max_frame_size(LARGEST)
            .max_concurrent_requests(1024)
            .set_tcp_no_delay(true)
            .build(format!("ws://{address}"))
            .await?)
    })
}

pub fn call_http(run: &Run, carry: Carry) -> Result<Report> {
    call(run, carry, async |address| {
        Ok(HttpClientBuilder::default()
            .max_request_size(LARGEST)
            .max_response_size(LARGEST)
            .set_tcp_no_delay(true)
            .build(format!("http://{address}"))?)
    })
}
