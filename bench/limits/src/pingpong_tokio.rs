//! `raw-tokio`: the ping-pong of `raw` on a runtime of one thread.

use contender::{Caller, Endpoint, Report, Result, Run};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::pingpong::{sizes_from, sizes_to};

pub(crate) fn serve(endpoint: &Endpoint) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match endpoint {
            Endpoint::Unix(path) => {
                let listener = UnixListener::bind(path)?;
                contender::ready();
                loop {
                    tokio::spawn(answer(listener.accept().await?.0));
                }
            }
            Endpoint::Tcp(address) => {
                let listener = TcpListener::bind(address).await?;
                contender::ready();
                loop {
                    let socket = listener.accept().await?.0;
                    socket.set_nodelay(true)?;
                    tokio::spawn(answer(socket));
                }
            }
        }
    })
}

async fn answer(mut socket: impl AsyncRead + AsyncWrite + Unpin) {
    let mut sizes = [0; 16];
    if socket.read_exact(&mut sizes).await.is_err() {
        return;
    }
    let (request, answer) = sizes_from(sizes);
    let (mut request, answer) = (vec![0; request], vec![b'a'; answer]);
    while socket.read_exact(&mut request).await.is_ok() && socket.write_all(&answer).await.is_ok() {}
}

pub(crate) fn call(run: &Run) -> Result<Report> {
    match &run.endpoint {
        Endpoint::Unix(path) => {
            run.tasks(|_| async { Connection::new(UnixStream::connect(path).await?, run).await })
        }
        Endpoint::Tcp(address) => run.tasks(|_| async {
            let socket = TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            Connection::new(socket, run).await
        }),
    }
}

/// Connections that have carried one message and are quiet.
pub(crate) fn idle(run: &Run) -> Result<Report> {
    let Endpoint::Unix(path) = &run.endpoint else { return Err("only Unix sockets".into()) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    run.idle(|_| {
        runtime.block_on(async {
            let mut connection = Connection::new(UnixStream::connect(path).await?, run).await?;
            connection.call().await?;
            Ok(connection)
        })
    })
}

struct Connection<S> {
    socket: S,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Connection<S> {
    async fn new(mut socket: S, run: &Run) -> Result<Self> {
        let (request, answer) = run.payload.on_the_wire();
        socket.write_all(&sizes_to(request, answer)).await?;
        Ok(Self { socket, request: vec![b'r'; request], answer: vec![0; answer] })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Caller for Connection<S> {
    async fn call(&mut self) -> Result<()> {
        self.socket.write_all(&self.request).await?;
        self.socket.read_exact(&mut self.answer).await?;
        Ok(())
    }
}
