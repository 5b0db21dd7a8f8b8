//! A call on a session, from its arrival to its answer.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use ::tokio::task::coop;
use ::tokio::time::sleep_until;
use procbridge_proto::CallId;

use crate::call::Call;
use crate::journal::Matter;
use crate::refusal::Refusal;
use crate::router::{self, authorized};
use crate::session::Link;
use crate::session::serving::{Prepared, Work};
use crate::tokio::router::Router;
use crate::tokio::running::Running;
use crate::tokio::server::Ticket;

/// A call whose handler was not done at once.
struct Handling {
    running: Running,
    id: CallId,
    link: Arc<Link>,
    /// Held until the handler is gone, if somebody waits for that.
    _ticket: Option<Ticket>,
}

/// How a call ends.
enum Outcome {
    Handled(Result<crate::handler::Reply, Refusal>),
    Late,
    /// Nobody waits for the answer.
    Cancelled,
}

/// What the beginning of a call's handler has come to.
pub(super) enum Begun {
    /// It is done; the answer is to be queued.
    Answered {
        id: CallId,
        answer: Prepared,
        /// When that was, if anybody has looked.
        ended: Option<Instant>,
    },
    /// A task goes on with it, or a subscription.
    GoesOn,
}

/// Begins the handler of a call, of which it `began` just now to be served, and looks at it once. If it is not done a task
/// goes on with it, which holds a ticket.
pub(super) fn begin(
    router: &Router,
    link: &Arc<Link>,
    Work { call, slot }: Work,
    began: Instant,
    ticket: impl FnOnce() -> Option<Ticket>,
) -> Begun {
    let Some(id) = call.place().map(|place| place.id) else { return Begun::GoesOn };
    let admission = &link.admission;
    let config = &admission.config;
    if let Err(refusal) = call.read(admission) {
        let answer = refusal.packet(call.version(), &config.limits).into();
        return Begun::Answered { id, answer, ended: None };
    }
    if router.routes.is_subscription(&call, config) && authorized(&call, config).is_ok() {
        return match router.routes.subscribe(&call, config) {
            Some(packet) => Begun::Answered { id, answer: packet.into(), ended: None },
            None => Begun::GoesOn,
        };
    }
    let version = call.version();
    let mut running = match router.start(call, admission, slot, began, &admission.leaked) {
        Ok(running) => running,
        Err(refusal) => {
            let packet = refusal.packet(version, &config.limits);
            return Begun::Answered { id, answer: packet.into(), ended: None };
        }
    };
    // Its task looks again as soon as it begins; until then nobody needs to be woken.
    let look = Pin::new(&mut running).poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(handled) = look else {
        let handling = Handling { running, id, link: link.clone(), _ticket: ticket() };
        ::tokio::spawn(handling.run());
        return Begun::GoesOn;
    };
    let (packet, ended) = running.finish(config, handled);
    let packet = packet.unwrap_or_else(|refusal| refusal.packet(version, &config.limits));
    let call = running.call();
    let answer = call.prepared(packet, link);
    if answer.is_large() && link.poll_room(id, Waker::noop()).is_pending() {
        ::tokio::spawn(send(link.clone(), id, answer, ticket()));
        return Begun::GoesOn;
    }
    Begun::Answered { id, answer, ended }
}

impl Handling {
    async fn run(self) {
        let Self { mut running, id, link, _ticket: ticket } = self;
        let call = running.call().clone();
        let outcome = Self::wait(&mut running, &call, &link, id).await;
        let config = &link.admission.config;
        let packet = match outcome {
            Outcome::Handled(handled) => running.finish(config, handled).0,
            Outcome::Late => {
                let method = call.method().unwrap_or_default();
                let late = || format!("method {method:?} is past its time limit");
                link.admission.journal.write(Matter::Timeout, late);
                Err(router::timed_out())
            }
            Outcome::Cancelled => Err(router::cancelled_by_caller()),
        };
        // A handler that is not done is gone before anybody is told.
        drop(running);
        let packet = packet.unwrap_or_else(|refusal| refusal.packet(call.version(), &config.limits));
        let answer = call.prepared(packet, &link);
        send(link, id, answer, ticket).await;
    }

    async fn wait(running: &mut Running, call: &Call, link: &Link, id: CallId) -> Outcome {
        // A handler that is never done with its share of the thread must not take the timer's as well.
        let mut late = pin!(coop::unconstrained(async {
            match call.deadline() {
                Some(deadline) => sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        }));
        std::future::poll_fn(|context| {
            if let Poll::Ready(handled) = Pin::new(&mut *running).poll(context) {
                return Poll::Ready(Outcome::Handled(handled));
            }
            if link.poll_cancelled(id, context.waker()).is_ready() {
                return Poll::Ready(Outcome::Cancelled);
            }
            late.as_mut().poll(context).map(|()| Outcome::Late)
        })
        .await
    }
}

/// Answers a call; a large answer waits while the peer has much to read.
async fn send(link: Arc<Link>, id: CallId, answer: Prepared, ticket: Option<Ticket>) {
    if answer.is_large() {
        std::future::poll_fn(|context| link.poll_room(id, context.waker())).await;
    }
    if link.reply(id, answer) {
        link.flush_answers();
    }
    drop(ticket);
}
