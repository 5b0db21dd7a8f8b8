//! hyper: HTTP/1.1 on Unix sockets and TCP, POST with a JSON body.
//!
//! Configuration:
//!
//! - Connections are kept alive.
//! - One connection for each call in flight (HTTP/1.1 has one at a time), made before the measurement.
//! - NODELAY.
//! - The body is one buffer with its length in the header.
//! - The other settings as they come.
//! - The connections are hyper's own, without a client on top that would have to find a free one.

use bytes::Bytes;
use contender::{Caller, Endpoint, Report, Result, Run};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::content::{Carry, Content};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

async fn echo(request: Request<Incoming>, carry: Carry) -> Result<Response<Full<Bytes>>> {
    let body = request.into_body().collect().await?.to_bytes();
    let answer = match carry.answer(&body)? {
        Some(answer) => answer.into(),
        None => body,
    };
    let mut response = Response::new(Full::new(answer));
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    Ok(response)
}

pub fn serve(endpoint: &Endpoint, carry: Carry) -> Result<()> {
    crate::block_on(async {
        match endpoint {
            Endpoint::Unix(path) => {
                let listener = tokio::net::UnixListener::bind(path)?;
                contender::ready();
                loop {
                    attend(listener.accept().await?.0, carry);
                }
            }
            Endpoint::Tcp(address) => {
                let listener = tokio::net::TcpListener::bind(address).await?;
                contender::ready();
                loop {
                    let stream = listener.accept().await?.0;
                    stream.set_nodelay(true)?;
                    attend(stream, carry);
                }
            }
        }
    })
}

fn attend(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, carry: Carry) {
    let echo = service_fn(move |request| echo(request, carry));
    tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), echo));
}

async fn connect(endpoint: &Endpoint) -> Result<SendRequest<Full<Bytes>>> {
    match endpoint {
        Endpoint::Unix(path) => shake_hands(tokio::net::UnixStream::connect(path).await?).await,
        Endpoint::Tcp(address) => {
            let stream = tokio::net::TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            shake_hands(stream).await
        }
    }
}

async fn shake_hands(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<SendRequest<Full<Bytes>>> {
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

struct Worker {
    sender: SendRequest<Full<Bytes>>,
    content: Content,
}

impl Worker {
    async fn echo(&mut self) -> Result<Bytes> {
        let mut request = Request::new(Full::new(self.content.request()?));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = hyper::Uri::from_static("/echo");
        request.headers_mut().insert(HOST, HeaderValue::from_static("localhost"));
        request.headers_mut().insert(CONTENT_TYPE, JSON);
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        if !response.status().is_success() {
            return Err(response.status().to_string().into());
        }
        Ok(response.into_body().collect().await?.to_bytes())
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
    run.tasks(|_| async {
        let mut worker = Worker { sender: connect(&run.endpoint).await?, content: content.clone() };
        content.check(&worker.echo().await?)?;
        Ok(worker)
    })
}
