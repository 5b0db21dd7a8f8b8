//! tonic: gRPC over HTTP/2, on Unix sockets and TCP, without TLS.
//!
//! A message with one field of bytes, which hold JSON text; coded by prost without a copy of the bytes.
//!
//! Configuration:
//!
//! - NODELAY.
//! - Flow control windows of 32 MiB a stream and 64 MiB a connection, so that no transfer waits for a window.
//! - Frames of up to 64 KiB (16 KiB is the default; still larger ones slow down small calls).
//! - Messages up to 64 MiB (4 MiB is the default).
//! - All calls of a client share one connection, as tonic's documentation advises.

use bytes::Bytes;
use contender::{Caller, Endpoint, Report, Result, Run};
use tokio::sync::OnceCell;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};

use crate::LARGEST;
use crate::content::{Carry, Content};

/// `message Json { bytes json = 1; }`
#[derive(Clone, PartialEq, prost::Message)]
pub struct Json {
    #[prost(bytes = "bytes", tag = "1")]
    pub json: Bytes,
}

mod generated {
    #![allow(unused_qualifications, clippy::all)]
    include!(concat!(env!("OUT_DIR"), "/bench.Bench.rs"));
}
use generated::bench_client::BenchClient;
use generated::bench_server::{Bench, BenchServer};

const STREAM_WINDOW: u32 = 32 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;
const FRAME: u32 = 64 << 10;

struct Echo(Carry);

#[tonic::async_trait]
impl Bench for Echo {
    async fn echo(&self, request: Request<Json>) -> std::result::Result<Response<Json>, Status> {
        let json = request.into_inner().json;
        match self.0.answer(&json) {
            Ok(Some(answer)) => Ok(Response::new(Json { json: answer.into() })),
            Ok(None) => Ok(Response::new(Json { json })),
            Err(error) => Err(Status::invalid_argument(error.to_string())),
        }
    }
}

pub fn serve(endpoint: &Endpoint, carry: Carry) -> Result<()> {
    crate::block_on(async {
        let service = BenchServer::new(Echo(carry))
            .max_decoding_message_size(LARGEST)
            .max_encoding_message_size(LARGEST);
        let server = Server::builder()
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            .add_service(service);
        match endpoint {
            Endpoint::Unix(path) => {
                let listener = tokio::net::UnixListener::bind(path)?;
                contender::ready();
                server.serve_with_incoming(tokio_stream::wrappers::UnixListenerStream::new(listener)).await?;
            }
            Endpoint::Tcp(address) => {
                let incoming =
                    tonic::transport::server::TcpIncoming::bind(*address)?.with_nodelay(Some(true));
                contender::ready();
                server.serve_with_incoming(incoming).await?;
            }
        }
        Ok(())
    })
}

async fn connect(endpoint: &Endpoint) -> Result<BenchClient<Channel>> {
    let uri = match endpoint {
        Endpoint::Unix(path) => format!("unix://{}", path.display()),
        Endpoint::Tcp(address) => format!("http://{address}"),
    };
    let channel = tonic::transport::Endpoint::from_shared(uri)?
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .connect()
        .await?;
    Ok(BenchClient::new(channel).max_decoding_message_size(LARGEST).max_encoding_message_size(LARGEST))
}

struct Worker {
    client: BenchClient<Channel>,
    content: Content,
}

impl Worker {
    async fn echo(&mut self) -> Result<Bytes> {
        Ok(self.client.echo(Json { json: self.content.request()? }).await?.into_inner().json)
    }
}

impl Caller for Worker {
    async fn call(&mut self) -> Result<()> {
        let answer = self.echo().await?;
        self.content.take(&answer)
    }
}

pub fn call(run: &Run, carry: Carry) -> Result<Report> {
    let content = Content::new(carry, run.payload);
    let shared = OnceCell::new();
    run.tasks(|_| async {
        let client = shared.get_or_try_init(|| connect(&run.endpoint)).await?.clone();
        let mut worker = Worker { client, content: content.clone() };
        content.check(&worker.echo().await?)?;
        Ok(worker)
    })
}
