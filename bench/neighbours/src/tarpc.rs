//! tarpc over Unix sockets and TCP.
//!
//! Transport: its serde transport, frames with a length in front, with the codecs of tokio-serde:
//!
//! - `tarpc-json` carries `serde_json::Value`.
//! - `tarpc-bincode` carries a struct of the same contents.
//! - `tarpc-json-raw` carries JSON text that is checked but not made into a tree (`RawValue`). That suits it best for
//!   bulk.
//!
//! Payloads are behind an `Arc`, so that no call copies one.
//!
//! Configuration:
//!
//! - NODELAY on TCP.
//! - Frames up to 64 MiB.
//! - The handler's future is run where the request was read rather than in a task of its own. The documentation shows
//!   such a task, which is slower for a handler that never waits.
//! - The other settings as they come (1,000 requests in flight).

use contender::{Endpoint, Report, Result, Run};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::codec::LengthDelimitedCodec;

/// A stream of either kind.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// The small payload as a Rust program that does without JSON would have it; any other is a string.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Typed {
    Small { a: i64, b: Vec<i64>, s: String },
    Text(String),
}

impl Typed {
    fn new(payload: contender::Payload) -> Self {
        match payload.value() {
            serde_json::Value::String(text) => Self::Text(text),
            _ => Self::Small { a: 1, b: vec![1, 2, 3], s: "hello".into() },
        }
    }
}

/// JSON text that compares.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Raw(Box<serde_json::value::RawValue>);

impl PartialEq for Raw {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

fn framed<S: Stream>(stream: S) -> tokio_util::codec::Framed<S, LengthDelimitedCodec> {
    LengthDelimitedCodec::builder().max_frame_length(crate::LARGEST).new_framed(stream)
}

async fn connect(endpoint: &Endpoint) -> Result<Box<dyn Stream>> {
    Ok(match endpoint {
        Endpoint::Unix(path) => Box::new(tokio::net::UnixStream::connect(path).await?),
        Endpoint::Tcp(address) => {
            let stream = tokio::net::TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Box::new(stream)
        }
    })
}

macro_rules! contender {
    ($name:ident, $payload:ty, $codec:expr, $new:expr) => {
        pub mod $name {
            use std::hint::black_box;
            use std::sync::Arc;

            use contender::Caller;
            use futures::StreamExt as _;
            use tarpc::client;
            use tarpc::context;
            use tarpc::server::{BaseChannel, Channel as _};
            use tokio::sync::OnceCell;

            use super::*;

            #[tarpc::service]
            trait Echo {
                async fn echo(payload: Arc<$payload>) -> Arc<$payload>;
            }

            #[derive(Clone)]
            struct Server;

            impl Echo for Server {
                async fn echo(self, _: context::Context, payload: Arc<$payload>) -> Arc<$payload> {
                    payload
                }
            }

            pub fn serve(endpoint: &Endpoint) -> Result<()> {
                crate::block_on(async {
                    match endpoint {
                        Endpoint::Unix(path) => {
                            let listener = tokio::net::UnixListener::bind(path)?;
                            contender::ready();
                            loop {
                                attend(listener.accept().await?.0);
                            }
                        }
                        Endpoint::Tcp(address) => {
                            let listener = tokio::net::TcpListener::bind(address).await?;
                            contender::ready();
                            loop {
                                let stream = listener.accept().await?.0;
                                stream.set_nodelay(true)?;
                                attend(stream);
                            }
                        }
                    }
                })
            }

            fn attend<S: Stream + 'static>(stream: S) {
                let transport = tarpc::serde_transport::new(framed(stream), $codec);
                let channel = BaseChannel::with_defaults(transport);
                tokio::spawn(channel.execute(Server.serve()).for_each(|handler| handler));
            }

            struct Worker {
                client: EchoClient,
                payload: Arc<$payload>,
            }

            impl Caller for Worker {
                async fn call(&mut self) -> Result<()> {
                    let answer = self.client.echo(context::current(), Arc::clone(&self.payload)).await?;
                    black_box(answer);
                    Ok(())
                }
            }

            pub fn call(run: &Run) -> Result<Report> {
                let payload: Arc<$payload> = Arc::new($new(run.payload));
                let shared = OnceCell::new();
                run.tasks(|_| async {
                    let client: &EchoClient = shared
                        .get_or_try_init(async || {
                            let transport =
                                tarpc::serde_transport::new(framed(connect(&run.endpoint).await?), $codec);
                            let client = EchoClient::new(client::Config::default(), transport).spawn();
                            let answer = client.echo(context::current(), Arc::clone(&payload)).await?;
                            if answer != payload {
                                return Err("the answer is not what was sent".into());
                            }
                            Ok::<_, contender::Error>(client)
                        })
                        .await?;
                    Ok(Worker { client: client.clone(), payload: Arc::clone(&payload) })
                })
            }
        }
    };
}

contender!(json, serde_json::Value, tokio_serde::formats::Json::default(), |payload: contender::Payload| {
    payload.value()
});
contender!(raw, Raw, tokio_serde::formats::Json::default(), |payload: contender::Payload| Raw(
    serde_json::value::RawValue::from_string(payload.text()).unwrap_or_default()
));
contender!(bincode, Typed, tokio_serde::formats::Bincode::default(), Typed::new);
