//! `same-work`: the ping-pong of `raw` with what the protocol asks of every implementation, and nothing else.
//!
//! Both sides write a `Value` as text into a packet. Both check header, call id and deadline of the packet that arrives, and
//! parse its payload into a `Value`.

use std::io::Write;

use contender::{Endpoint, Report, Result, Run};
use serde_json::Value;

use crate::packet::{self, Answer, GOOD, Incoming, REQUEST, Request, TIMEOUT, invalid};
use crate::socket::{Listener, Socket};

pub(crate) fn serve(endpoint: &Endpoint) -> Result<()> {
    let listener = Listener::bind(endpoint)?;
    contender::ready();
    listener.serve_each(|socket| {
        // A client that goes away, or sends what is wrong, costs itself only.
        let _ = answer(socket);
    })
}

fn answer(mut socket: Socket) -> Result<()> {
    socket.set_timeout(TIMEOUT)?;
    let (mut incoming, mut packet, mut last) = (Incoming::new(), Vec::new(), 0);
    loop {
        let (id, end) = incoming.receive(&mut socket, REQUEST, |_, _| {})?;
        if id <= last {
            return Err(invalid("a call id that was used").into());
        }
        last = id;
        let Request { method, payload } = serde_json::from_slice::<Request<Value>>(incoming.envelope(end))?;
        if method != "echo" {
            return Err(invalid("no such method").into());
        }
        packet::begin(&mut packet, GOOD, id, br#"{"payload":"#);
        serde_json::to_writer(&mut packet, &payload)?;
        packet::end(&mut packet);
        socket.write_all(&packet)?;
    }
}

pub(crate) fn call(run: &Run) -> Result<Report> {
    run.threads(|_| {
        let mut client = Client::connect(run)?;
        let payload = run.payload.value();
        if client.call(&payload)? != payload {
            return Err("the echo differs".into());
        }
        Ok(move || client.call(&payload).map(drop))
    })
}

struct Client {
    socket: Socket,
    incoming: Incoming,
    packet: Vec<u8>,
    last: u32,
}

impl Client {
    fn connect(run: &Run) -> Result<Self> {
        let socket = Socket::connect(&run.endpoint)?;
        socket.without_delay()?;
        socket.set_timeout(TIMEOUT)?;
        Ok(Self { socket, incoming: Incoming::new(), packet: Vec::new(), last: 0 })
    }

    fn call(&mut self, payload: &Value) -> Result<Value> {
        self.last += 1;
        packet::begin(&mut self.packet, REQUEST, self.last, br#"{"method":"echo","payload":"#);
        serde_json::to_writer(&mut self.packet, payload)?;
        packet::end(&mut self.packet);
        self.socket.write_all(&self.packet)?;
        let (id, end) = self.incoming.receive(&mut self.socket, GOOD, |_, _| {})?;
        if id != self.last {
            return Err(invalid("the answer to another call").into());
        }
        Ok(serde_json::from_slice::<Answer<Value>>(self.incoming.envelope(end))?.payload)
    }
}
