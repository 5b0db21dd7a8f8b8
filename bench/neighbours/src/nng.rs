//! nng, the library in C, through the crate nng, which builds it: REQ to REP, ipc and tcp.
//!
//! The server has 128 contexts, each a loop of receive and send that the library's threads run, as in its example of an
//! asynchronous server. The client has a context for each call in flight; with one in flight it uses the socket.
//!
//! Configuration: no limit on the size of a message (1 MiB is the default); NODELAY (its default); the other settings as
//! they come.

use std::sync::mpsc;

use contender::{Endpoint, Report, Result, Run};
use nng::options::{Options as _, RecvMaxSize};
use nng::{Aio, AioResult, Context, Message, Protocol, Socket};

use crate::content::{Carry, Content};
use crate::window::{self, Exchange};

/// Loops of the server.
const CONTEXTS: usize = 128;

fn address(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Unix(path) => format!("ipc://{}", path.display()),
        Endpoint::Tcp(address) => format!("tcp://{address}"),
    }
}

fn socket(protocol: Protocol) -> Result<Socket> {
    let socket = Socket::new(protocol)?;
    socket.set_opt::<RecvMaxSize>(0)?;
    Ok(socket)
}

pub fn serve(endpoint: &Endpoint, carry: Carry) -> Result<()> {
    let socket = socket(Protocol::Rep0)?;
    let mut loops = Vec::new();
    for _ in 0..CONTEXTS {
        let context = Context::new(&socket)?;
        let within = context.clone();
        let aio = Aio::new(move |aio, result| {
            if let Err(error) = step(carry, &aio, &within, result) {
                eprintln!("nng: {error}");
                std::process::exit(1);
            }
        })?;
        loops.push((context, aio));
    }
    socket.listen(&address(endpoint))?;
    for (context, aio) in &loops {
        context.recv(aio)?;
    }
    contender::ready();
    loop {
        std::thread::park();
    }
}

fn step(carry: Carry, aio: &Aio, context: &Context, result: AioResult) -> Result<()> {
    match result {
        AioResult::Recv(Ok(request)) => {
            let answer = match carry.answer(&request)? {
                Some(answer) => Message::from(&answer[..]),
                None => request,
            };
            context.send(aio, answer).map_err(|(_, error)| error)?;
        }
        AioResult::Send(Ok(())) => context.recv(aio)?,
        // The socket was closed: the process ends.
        AioResult::Recv(Err(nng::Error::Closed)) | AioResult::Send(Err((_, nng::Error::Closed))) => {}
        AioResult::Recv(Err(error)) | AioResult::Send(Err((_, error))) => return Err(error.into()),
        AioResult::Sleep(_) => {}
    }
    Ok(())
}

struct One {
    socket: Socket,
    content: Content,
}

impl One {
    fn echo(&self) -> Result<Message> {
        self.socket.send(Message::from(&self.content.request()?[..])).map_err(|(_, error)| error)?;
        Ok(self.socket.recv()?)
    }
}

impl Exchange for One {
    fn exchange(&mut self, messages: usize) -> Result<usize> {
        for _ in 0..messages {
            let answer = self.echo()?;
            self.content.take(&answer)?;
        }
        Ok(messages)
    }
}

struct Many {
    /// Contexts end with their socket.
    _socket: Socket,
    /// Contexts with no call on its way.
    free: Vec<usize>,
    contexts: Vec<(Context, Aio)>,
    answers: mpsc::Receiver<(usize, std::result::Result<Message, nng::Error>)>,
    content: Content,
}

impl Many {
    fn new(socket: Socket, content: Content, in_flight: usize) -> Result<Self> {
        let (answered, answers) = mpsc::channel();
        let mut contexts = Vec::new();
        for slot in 0..in_flight {
            let context = Context::new(&socket)?;
            let within = context.clone();
            let answered = answered.clone();
            let aio = Aio::new(move |aio, result| {
                let ended = match result {
                    AioResult::Send(Ok(())) => match within.recv(&aio) {
                        Ok(()) => return,
                        Err(error) => Err(error),
                    },
                    AioResult::Recv(answer) => answer,
                    AioResult::Send(Err((_, error))) => Err(error),
                    AioResult::Sleep(_) => return,
                };
                // The receiver no longer listens when the process ends.
                let _ = answered.send((slot, ended));
            })?;
            contexts.push((context, aio));
        }
        Ok(Self { _socket: socket, free: (0..in_flight).collect(), contexts, answers, content })
    }
}

impl Exchange for Many {
    fn exchange(&mut self, messages: usize) -> Result<usize> {
        for _ in 0..messages {
            let slot = self.free.pop().ok_or("all contexts are busy")?;
            let (context, aio) = self.contexts.get(slot).ok_or("no such context")?;
            context.send(aio, Message::from(&self.content.request()?[..])).map_err(|(_, error)| error)?;
        }
        let mut came = 0;
        let mut next = Some(self.answers.recv()?);
        while let Some((slot, answer)) = next {
            self.content.take(&answer?)?;
            self.free.push(slot);
            came += 1;
            next = self.answers.try_recv().ok();
        }
        Ok(came)
    }
}

impl<A: Exchange, B: Exchange> Exchange for Either<A, B> {
    fn exchange(&mut self, messages: usize) -> Result<usize> {
        match self {
            Self::One(one) => one.exchange(messages),
            Self::Many(many) => many.exchange(messages),
        }
    }
}

enum Either<A, B> {
    One(A),
    Many(B),
}

pub fn call(run: &Run, carry: Carry) -> Result<Report> {
    window::run(run, || {
        let socket = socket(Protocol::Req0)?;
        socket.dial(&address(&run.endpoint))?;
        let one = One { socket, content: Content::new(carry, run.payload) };
        one.content.check(&one.echo()?)?;
        if run.in_flight == 1 {
            return Ok(Either::One(one));
        }
        Ok(Either::Many(Many::new(one.socket, one.content, run.in_flight)?))
    })
}
