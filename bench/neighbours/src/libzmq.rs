//! libzmq, the library in C++, through the crate zmq: DEALER to ROUTER, ipc and tcp.
//!
//! DEALER and ROUTER instead of REQ and REP, which allow one message at a time; the client knows its answers by their
//! order. Both ends are one thread that blocks, beside the library's own thread for input and output.
//!
//! Configuration:
//!
//! - One thread for input and output (its default, and the fastest on two cores).
//! - No limit on the messages that wait (a limit would drop some).
//! - NODELAY (always on).
//! - The other settings as they come.

use contender::{Endpoint, Report, Result, Run};
use zmq::{Context, DONTWAIT, Message, ROUTER, SNDMORE, Socket};

use crate::content::{self, Carry, Content};
use crate::window::{self, Exchange};

fn address(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Unix(path) => format!("ipc://{}", path.display()),
        Endpoint::Tcp(address) => format!("tcp://{address}"),
    }
}

fn socket(context: &Context, kind: zmq::SocketType) -> Result<Socket> {
    let socket = context.socket(kind)?;
    socket.set_sndhwm(0)?;
    socket.set_rcvhwm(0)?;
    socket.set_linger(0)?;
    Ok(socket)
}

pub fn serve(endpoint: &Endpoint, carry: Carry) -> Result<()> {
    let context = Context::new();
    let socket = socket(&context, ROUTER)?;
    socket.bind(&address(endpoint))?;
    contender::ready();
    loop {
        let mut who = Message::new();
        socket.recv(&mut who, 0)?;
        let mut body = Message::new();
        socket.recv(&mut body, 0)?;
        let answer = match carry.answer(&body)? {
            Some(answer) => answer.into(),
            None => body,
        };
        socket.send(who, SNDMORE)?;
        socket.send(answer, 0)?;
    }
}

struct Client {
    socket: Socket,
    content: Content,
    answer: Message,
}

impl Client {
    fn connect(run: &Run, carry: Carry) -> Result<Self> {
        let socket = socket(&Context::new(), zmq::DEALER)?;
        socket.connect(&address(&run.endpoint))?;
        let mut client = Self { socket, content: Content::new(carry, run.payload), answer: Message::new() };
        client.send()?;
        client.socket.recv(&mut client.answer, 0)?;
        client.content.check(&client.answer)?;
        Ok(client)
    }

    fn send(&self) -> Result<()> {
        let message = match &self.content {
            Content::Tree(value, length) => Message::from(content::written(value, *length)?),
            Content::Text(text) => Message::from(&text[..]),
        };
        Ok(self.socket.send(message, 0)?)
    }
}

impl Exchange for Client {
    fn exchange(&mut self, messages: usize) -> Result<usize> {
        for _ in 0..messages {
            self.send()?;
        }
        self.socket.recv(&mut self.answer, 0)?;
        let mut came = 0;
        loop {
            self.content.take(&self.answer)?;
            came += 1;
            match self.socket.recv(&mut self.answer, DONTWAIT) {
                Ok(()) => {}
                Err(zmq::Error::EAGAIN) => return Ok(came),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

pub fn call(run: &Run, carry: Carry) -> Result<Report> {
    window::run(run, || Client::connect(run, carry))
}
