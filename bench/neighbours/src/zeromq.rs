//! zeromq, the implementation in Rust: DEALER to ROUTER, ipc and tcp.
//!
//! DEALER and ROUTER instead of REQ and REP, which allow one message at a time; the client knows its answers by their
//! order. Both ends take all messages that are there before they wait again.
//!
//! Configuration:
//!
//! - NODELAY (always on).
//! - Reads of up to 1 MiB instead of 64 KiB, from 4 KiB on instead of 128 bytes.
//! - The other settings as they come.

use bytes::Bytes;
use contender::{Caller, Endpoint, Report, Result, Run};
use futures::FutureExt as _;
use zeromq::{
    DealerRecvHalf, DealerSendHalf, DealerSocket, RouterSocket, Socket as _, SocketOptions, SocketRecv as _,
    SocketSend as _, ZmqMessage,
};

use crate::content::{Carry, Content};
use crate::window::{self, Exchange};

fn address(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Unix(path) => format!("ipc://{}", path.display()),
        Endpoint::Tcp(address) => format!("tcp://{address}"),
    }
}

fn options() -> SocketOptions {
    let mut options = SocketOptions::default();
    options.read_buffer(4 << 10, 1 << 20, 2);
    options
}

pub fn serve(endpoint: &Endpoint, carry: Carry) -> Result<()> {
    crate::block_on(async {
        let mut socket = RouterSocket::with_options(options());
        socket.bind(&address(endpoint)).await?;
        contender::ready();
        let (mut send, mut receive) = socket.split();
        loop {
            let mut next = Some(receive.recv().await);
            while let Some(request) = next {
                // The first frame says who asked, the last is what they sent.
                let mut frames = request?.into_vec();
                if let Some(body) = frames.last_mut()
                    && let Some(answer) = carry.answer(body)?
                {
                    *body = answer.into();
                }
                send.send(ZmqMessage::try_from(frames).map_err(|_| "no frames")?).await?;
                next = receive.recv().now_or_never();
            }
        }
    })
}

struct Client {
    send: DealerSendHalf,
    receive: DealerRecvHalf,
    content: Content,
}

impl Client {
    async fn connect(run: &Run, carry: Carry) -> Result<Self> {
        let mut socket = DealerSocket::with_options(options());
        socket.connect(&address(&run.endpoint)).await?;
        let (send, receive) = socket.split();
        let mut client = Self { send, receive, content: Content::new(carry, run.payload) };
        let answer = client.echo().await?;
        client.content.check(&answer)?;
        Ok(client)
    }

    async fn echo(&mut self) -> Result<Bytes> {
        self.send.send(self.content.request()?.into()).await?;
        body(self.receive.recv().await?)
    }
}

fn body(message: ZmqMessage) -> Result<Bytes> {
    Ok(message.into_vec().pop().ok_or("no frames")?)
}

impl Caller for Client {
    async fn call(&mut self) -> Result<()> {
        let answer = self.echo().await?;
        self.content.take(&answer)
    }
}

struct Many {
    runtime: tokio::runtime::Runtime,
    client: Client,
}

impl Exchange for Many {
    fn exchange(&mut self, messages: usize) -> Result<usize> {
        let Client { send, receive, content } = &mut self.client;
        self.runtime.block_on(async {
            for _ in 0..messages {
                send.send(content.request()?.into()).await?;
            }
            let mut came = 0;
            let mut next = Some(receive.recv().await);
            while let Some(answer) = next {
                content.take(&body(answer?)?)?;
                came += 1;
                next = receive.recv().now_or_never();
            }
            Ok(came)
        })
    }
}

pub fn call(run: &Run, carry: Carry) -> Result<Report> {
    if run.in_flight == 1 {
        return run.tasks(|_| Client::connect(run, carry));
    }
    window::run(run, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(Client::connect(run, carry))?;
        Ok(Many { runtime, client })
    })
}
