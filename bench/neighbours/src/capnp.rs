//! capnp-rpc: Cap'n Proto's calls, on Unix sockets and TCP.
//!
//! A method with one parameter of bytes, which hold JSON text.
//!
//! Configuration:
//!
//! - NODELAY.
//! - Buffered reader and writer around the stream, as in its examples.
//! - No limit on how much of a message is read (64 MiB is the default).
//! - All calls share one connection.

use ::capnp::capability::Rc;
use ::capnp::message::ReaderOptions;
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::twoparty::VatNetwork;
use capnp_rpc::{RpcSystem, new_client};
use contender::{Endpoint, LocalCaller, Report, Result, Run};
use futures::io::{BufReader, BufWriter};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OnceCell;
use tokio_util::compat::{TokioAsyncReadCompatExt as _, TokioAsyncWriteCompatExt as _};

use crate::content::{Carry, Content};
use crate::echo_capnp::echo;

struct Echo(Carry);

impl echo::Server for Echo {
    async fn echo(
        self: Rc<Self>,
        params: echo::EchoParams,
        mut results: echo::EchoResults,
    ) -> std::result::Result<(), ::capnp::Error> {
        let request = params.get()?.get_json()?;
        match self.0.answer(request).map_err(|error| ::capnp::Error::failed(error.to_string()))? {
            Some(answer) => results.get().set_json(&answer),
            None => results.get().set_json(request),
        }
        Ok(())
    }
}

fn network<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    stream: S,
    side: Side,
) -> Box<dyn capnp_rpc::VatNetwork<Side>> {
    let (read, write) = tokio::io::split(stream);
    let mut options = ReaderOptions::new();
    options.traversal_limit_in_words(None);
    Box::new(VatNetwork::new(
        BufReader::new(read.compat()),
        BufWriter::new(write.compat_write()),
        side,
        options,
    ))
}

pub fn serve(endpoint: &Endpoint, carry: Carry) -> Result<()> {
    let local = tokio::task::LocalSet::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    local.block_on(&runtime, async {
        let echo: echo::Client = new_client(Echo(carry));
        match endpoint {
            Endpoint::Unix(path) => {
                let listener = tokio::net::UnixListener::bind(path)?;
                contender::ready();
                loop {
                    let stream = listener.accept().await?.0;
                    let system = RpcSystem::new(network(stream, Side::Server), Some(echo.clone().client));
                    tokio::task::spawn_local(system);
                }
            }
            Endpoint::Tcp(address) => {
                let listener = tokio::net::TcpListener::bind(address).await?;
                contender::ready();
                loop {
                    let stream = listener.accept().await?.0;
                    stream.set_nodelay(true)?;
                    let system = RpcSystem::new(network(stream, Side::Server), Some(echo.clone().client));
                    tokio::task::spawn_local(system);
                }
            }
        }
    })
}

async fn connect(endpoint: &Endpoint) -> Result<echo::Client> {
    let network = match endpoint {
        Endpoint::Unix(path) => network(tokio::net::UnixStream::connect(path).await?, Side::Client),
        Endpoint::Tcp(address) => {
            let stream = tokio::net::TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            network(stream, Side::Client)
        }
    };
    let mut system = RpcSystem::new(network, None);
    let client = system.bootstrap(Side::Server);
    tokio::task::spawn_local(system);
    Ok(client)
}

struct Worker {
    client: echo::Client,
    content: Content,
}

impl Worker {
    async fn echo(&self, take: impl Fn(&Content, &[u8]) -> Result<()>) -> Result<()> {
        let mut request = self.client.echo_request();
        request.get().set_json(&self.content.request()?);
        let answer = request.send().promise.await?;
        take(&self.content, answer.get()?.get_json()?)
    }
}

impl LocalCaller for Worker {
    async fn call(&mut self) -> Result<()> {
        self.echo(Content::take).await
    }
}

pub fn call(run: &Run, carry: Carry) -> Result<Report> {
    let content = Content::new(carry, run.payload);
    let shared = OnceCell::new();
    run.local_tasks(|_| async {
        let client = shared.get_or_try_init(|| connect(&run.endpoint)).await?.clone();
        let worker = Worker { client, content: content.clone() };
        worker.echo(Content::check).await?;
        Ok(worker)
    })
}
