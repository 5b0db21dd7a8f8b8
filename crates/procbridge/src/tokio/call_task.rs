//! A call on a session, from its arrival to its answer. The session's task does nothing that takes long for its size.
//! Tasks of their own read large payloads, and write and compress large answers.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use ::tokio::runtime::Handle;
use ::tokio::task::spawn_blocking;
use procbridge_proto::{CallId, Packet};

use crate::reply_error::{self, ReplyError};
use crate::service::call::Call;
use crate::service::dispatch::authorized;
use crate::service::reply::Reply;
use crate::session::Session;
use crate::session::served_call::{IncomingCall, PreparedReply};
use crate::telemetry::log::LogClass;
use crate::tokio::begin_handler::SpawnedStart;
use crate::tokio::clock;
use crate::tokio::handler_task::HandlerTask;
use crate::tokio::router::{Router, Started};
use crate::tokio::server::context::{ServerContext, TaskGuard};

/// A call whose handler did not end at its first poll.
struct CallTask {
    handler: HandlerTask,
    id: CallId,
    session: Arc<Session>,
    /// Held until the handler has ended, if a stopping server waits for that.
    _ticket: Option<TaskGuard>,
}

/// How a call ends.
enum Outcome {
    Handled(Result<Reply, ReplyError>),
    Late,
    /// The caller no longer waits for the answer.
    Cancelled,
}

/// The result of beginning a call's handler.
pub(super) enum StartedCall {
    /// The handler has ended; its answer is to be queued.
    Answered {
        id: CallId,
        answer: PreparedReply,
        /// When that was, if the clock was read.
        ended: Option<Instant>,
    },
    /// A task goes on with it, or it has become a subscription.
    GoesOn {
        /// When the first poll ended, if the clock was read.
        ended: Option<Instant>,
    },
    /// A task begins it, and may block its thread.
    Apart,
}

/// Begins the handler of a call and polls it once; `began` is when the call began to be served. If the handler has not
/// ended, a task goes on with it and holds a ticket. A handler that would take long to begin is begun on such a task.
pub(super) fn begin(
    router: &Router,
    session: &Arc<Session>,
    IncomingCall { id, call, slot }: IncomingCall,
    began: Instant,
    ticket: impl FnOnce() -> Option<TaskGuard>,
    methods: impl FnOnce() -> Methods,
) -> StartedCall {
    let admission = &session.admission;
    let config = &admission.config;
    if call.unread().is_some() {
        ::tokio::spawn(read(methods(), session.clone(), IncomingCall { id, call, slot }, ticket()));
        return StartedCall::Apart;
    }
    let call = Call::on(session.clone(), id, call);
    if router.routes.is_subscription(call.method(), config) && authorized(&call, config).is_ok() {
        return match router.routes.subscribe(&call, config) {
            Some(packet) => StartedCall::Answered { id, answer: packet.into(), ended: None },
            None => StartedCall::GoesOn { ended: None },
        };
    }
    let version = call.version();
    let mut speed = None;
    let started = match router.prepare(call, admission, slot, began) {
        Ok(Started::Answered(handler)) => Ok(handler),
        Ok(Started::Beginning(beginning)) if beginning.is_spawned() => {
            ::tokio::spawn(run_spawned(beginning.spawned(), session.clone(), id, ticket()));
            return StartedCall::Apart;
        }
        Ok(Started::Beginning(beginning)) => {
            speed = beginning.speed();
            beginning.begin()
        }
        Err(refusal) => Err(refusal),
    };
    // Notes how long the beginning took, and reads the clock for that if `ended` is unknown.
    let note = |ended: Option<Instant>| {
        let Some(speed) = speed else { return ended };
        let ended = ended.unwrap_or_else(Instant::now);
        speed.ran_inline(ended.saturating_duration_since(began));
        Some(ended)
    };
    let mut handler = match started {
        Ok(handler) => handler,
        Err(refusal) => {
            let packet = refusal.packet(version, &config.limits);
            return StartedCall::Answered { id, answer: packet.into(), ended: note(None) };
        }
    };
    // The task polls again as soon as it begins; until then no wake is needed.
    let polled = Pin::new(&mut handler).poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(handled) = polled else {
        let task = CallTask { handler, id, session: session.clone(), _ticket: ticket() };
        ::tokio::spawn(task.run(Poll::Pending));
        return StartedCall::GoesOn { ended: note(None) };
    };
    let (packet, ended) = handler.finish(config, handled);
    let ended = note(ended);
    let packet = packet.unwrap_or_else(|refusal| refusal.packet(version, &config.limits));
    let call = handler.call();
    if packet.json_len() > LARGE {
        // It may have to be compressed, or wait for space in the send queue, which takes time.
        ::tokio::spawn(answer(session.clone(), id, call.clone(), packet, ticket()));
        return StartedCall::GoesOn { ended };
    }
    StartedCall::Answered { id, answer: call.prepare(packet, session), ended }
}

/// The owner of the router, for a task that may outlive the session's.
pub(super) enum Methods {
    Server(Arc<ServerContext>),
    Client(Arc<Router>),
}

impl Methods {
    fn router(&self) -> &Router {
        match self {
            Self::Server(server) => &server.router,
            Self::Client(router) => router,
        }
    }
}

/// Inflates and checks a large request, and goes on with it. A thread for blocking work does the reading: many such
/// sessions leave the runtime's own threads to others.
async fn read(
    methods: Methods,
    session: Arc<Session>,
    IncomingCall { id, call, slot }: IncomingCall,
    ticket: Option<TaskGuard>,
) {
    let (admission, config) = (&session.admission, &session.admission.config);
    let (reading, limits) = (call.clone(), admission.clone());
    // It fails only when the runtime ends.
    let read =
        spawn_blocking(move || reading.read(&limits)).await.unwrap_or_else(|_| Err(reply_error::cancelled()));
    let call = Call::on(session.clone(), id, call);
    let router = methods.router();
    let is_subscription = read.is_ok() && router.routes.is_subscription(call.method(), config);
    if is_subscription && authorized(&call, config).is_ok() {
        if let Some(packet) = router.routes.subscribe(&call, config) {
            answer(session.clone(), id, call, packet, ticket).await;
        }
        return;
    }
    let started = match read {
        Ok(()) => router.prepare(call.clone(), admission, slot, Instant::now()),
        Err(refusal) => Err(refusal),
    };
    let refusal = match started {
        Ok(Started::Beginning(beginning)) => {
            let beginning = beginning.spawned();
            return run_spawned(beginning, session.clone(), id, ticket).await;
        }
        Ok(Started::Answered(handler)) => {
            let task = CallTask { handler, id, session: session.clone(), _ticket: ticket };
            return task.run(Poll::Pending).await;
        }
        Err(refusal) => refusal,
    };
    let packet = refusal.packet(call.version(), &config.limits);
    answer(session.clone(), id, call, packet, ticket).await;
}

/// Begins the handler of a call on a task of its own, and goes on with it.
async fn run_spawned(beginning: SpawnedStart, session: Arc<Session>, id: CallId, ticket: Option<TaskGuard>) {
    let (call, route) = (beginning.call.clone(), beginning.route());
    let began = Instant::now();
    // The caller may have given up before this task was first polled.
    let begun = if call.is_cancelled() {
        Err(reply_error::cancelled_by_caller())
    } else if call.deadline().is_some_and(|deadline| deadline <= clock::now()) {
        Err(reply_error::timed_out())
    } else {
        beginning.begin()
    };
    let (begun, polled) = match begun {
        Ok(mut handler) => {
            let polled = poll_fn(|context| Poll::Ready(Pin::new(&mut handler).poll(context))).await;
            (Ok(handler), polled)
        }
        Err(refusal) => (Err(refusal), Poll::Pending),
    };
    if let Some(route) = route {
        route.speed.ran_spawned(began.elapsed());
    }
    match begun {
        Ok(handler) => CallTask { handler, id, session, _ticket: ticket }.run(polled).await,
        Err(refusal) => {
            let packet = refusal.packet(call.version(), &session.admission.config.limits);
            answer(session, id, call, packet, ticket).await;
        }
    }
}

impl CallTask {
    /// Goes on with a handler whose first poll returned `look`.
    async fn run(self, polled: Poll<Result<Reply, ReplyError>>) {
        let Self { mut handler, id, session, _ticket: ticket } = self;
        let call = handler.call().clone();
        let outcome = match polled {
            Poll::Ready(handled) => Outcome::Handled(handled),
            Poll::Pending => Self::wait(&mut handler, &call, &session, id).await,
        };
        let config = &session.admission.config;
        let packet = match outcome {
            Outcome::Handled(handled) => handler.finish(config, handled).0,
            Outcome::Late => {
                let method = call.method().unwrap_or_default();
                let late = || format!("method {method:?} is past its deadline");
                session.admission.log.write(LogClass::Timeout, late);
                Err(reply_error::timed_out())
            }
            Outcome::Cancelled => Err(reply_error::cancelled_by_caller()),
        };
        // Drop an unfinished handler before answering its caller.
        drop(handler);
        let packet = packet.unwrap_or_else(|refusal| refusal.packet(call.version(), &config.limits));
        answer(session, id, call, packet, ticket).await;
    }

    async fn wait(handler: &mut HandlerTask, call: &Call, session: &Session, id: CallId) -> Outcome {
        let mut late = pin!(async {
            match call.deadline() {
                Some(deadline) => clock::wait_until(deadline).await,
                None => std::future::pending().await,
            }
        });
        poll_fn(|context| {
            if let Poll::Ready(handled) = Pin::new(&mut *handler).poll(context) {
                return Poll::Ready(Outcome::Handled(handled));
            }
            if session.poll_cancelled(id, context.waker()).is_ready() {
                return Poll::Ready(Outcome::Cancelled);
            }
            late.as_mut().poll(context).map(|()| Outcome::Late)
        })
        .await
    }
}

/// Answers a call. A large answer waits for space in the send queue (backpressure).
async fn answer(session: Arc<Session>, id: CallId, call: Call, packet: Packet, ticket: Option<TaskGuard>) {
    let answer = call.prepare(packet, &session);
    if answer.is_large() {
        poll_fn(|context| session.poll_send_space(id, context.waker())).await;
    }
    if session.reply(id, answer) {
        session.flush_answers();
    }
    drop(ticket);
}

/// Frees the memory of large messages on a thread for blocking work: the system takes long for it.
pub(super) fn discard(memory: Vec<Vec<u8>>) {
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn_blocking(move || drop(memory));
    }
}

/// The answer size from which an answer is prepared on a task of its own.
const LARGE: usize = 64 * 1024;
