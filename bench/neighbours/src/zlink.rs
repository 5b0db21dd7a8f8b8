//! zlink: Varlink, JSON text with a zero byte behind it, on Unix sockets (it has no TCP).
//!
//! The parameter is a `serde_json::Value` at both ends, of any size.
//!
//! Configuration:
//!
//! - With one call in flight: `call_method`.
//! - With more: calls are written without waiting for the answers, which Varlink gives in order. All calls that are
//!   ready go out in one write.
//! - The service is written against the trait, as the macro would, and has nothing but the method.
//! - Its log has no subscriber.

use std::hint::black_box;
use std::os::fd::OwnedFd;

use contender::{Caller, Endpoint, Report, Result, Run};
use futures::FutureExt as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zlink::connection::{Connection, Socket};
use zlink::service::{HandleResult, Infallible, MethodReply, ReplyStreamItem, Service};
use zlink::tokio::unix;
use zlink::{Call, Server};

use crate::window::{self, Exchange};

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "method", content = "parameters")]
enum Method<P> {
    #[serde(rename = "org.example.bench.Echo")]
    Echo { payload: P },
}

#[derive(Debug, Serialize, Deserialize)]
struct Answer<P> {
    payload: P,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "error")]
enum Failure {
    #[serde(rename = "org.varlink.service.MethodNotFound")]
    MethodNotFound,
}

struct Echo;

impl<S: Socket> Service<S> for Echo {
    type MethodCall<'de> = Method<Value>;
    type ReplyParams<'ser> = Answer<&'ser Value>;
    type ReplyStreamParams = ();
    type ReplyStreamError = Infallible;
    type ReplyStream = futures::stream::Empty<ReplyStreamItem<(), Infallible>>;
    type ReplyError<'ser> = Infallible;
    type Upgrade = ();

    async fn handle<'ser>(
        &'ser mut self,
        call: &'ser Call<<Self as Service<S>>::MethodCall<'_>>,
        _: &mut Connection<S>,
        _: Vec<OwnedFd>,
    ) -> HandleResult<Answer<&'ser Value>, Self::ReplyStream, Infallible> {
        let Method::Echo { payload } = call.method();
        (MethodReply::Single(Some(Answer { payload })), Vec::new())
    }
}

pub fn serve(endpoint: &Endpoint) -> Result<()> {
    let Endpoint::Unix(path) = endpoint else { return Err("only Unix sockets".into()) };
    crate::block_on(async {
        let listener = unix::bind(path)?;
        contender::ready();
        Ok(Server::new(listener, Echo).run().await?)
    })
}

struct Client {
    connection: Connection<unix::Stream>,
    payload: Value,
}

impl Client {
    async fn connect(run: &Run) -> Result<Self> {
        let Endpoint::Unix(path) = &run.endpoint else { return Err("only Unix sockets".into()) };
        let mut client = Self { connection: unix::connect(path).await?, payload: run.payload.value() };
        if client.echo().await? != client.payload {
            return Err("the answer is not what was sent".into());
        }
        Ok(client)
    }

    async fn echo(&mut self) -> Result<Value> {
        let call = Call::new(Method::Echo { payload: &self.payload });
        let (reply, _) = self.connection.call_method::<_, Answer<Value>, Failure>(&call, Vec::new()).await?;
        payload(reply)
    }
}

fn payload(reply: zlink::reply::Result<Answer<Value>, Failure>) -> Result<Value> {
    let reply = reply.map_err(|failure| format!("{failure:?}"))?;
    Ok(reply.into_parameters().ok_or("an answer without parameters")?.payload)
}

impl Caller for Client {
    async fn call(&mut self) -> Result<()> {
        black_box(self.echo().await?);
        Ok(())
    }
}

struct Many {
    runtime: tokio::runtime::Runtime,
    client: Client,
}

impl Exchange for Many {
    fn exchange(&mut self, messages: usize) -> Result<usize> {
        let Client { connection, payload: sent } = &mut self.client;
        self.runtime.block_on(async {
            let call = Call::new(Method::Echo { payload: &*sent });
            for _ in 0..messages {
                connection.enqueue_call(&call)?;
            }
            connection.flush().await?;
            let mut came = 0;
            let mut next = Some(connection.receive_reply::<Answer<Value>, Failure>().await);
            while let Some(reply) = next {
                black_box(payload(reply?.0)?);
                came += 1;
                next = connection.receive_reply::<Answer<Value>, Failure>().now_or_never();
            }
            Ok(came)
        })
    }
}

pub fn call(run: &Run) -> Result<Report> {
    if run.in_flight == 1 {
        return run.tasks(|_| Client::connect(run));
    }
    window::run(run, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(Client::connect(run))?;
        Ok(Many { runtime, client })
    })
}
