//! Answers a call that came on a session: its handler runs on the calling thread.

use std::sync::Arc;
use std::time::Instant;

use crate::blocking::router::Router;
use crate::blocking::wait;
use crate::service::call::Call;
use crate::session::Session;
use crate::session::served_call::IncomingCall;

/// Answers a call and writes the answer.
pub(super) fn run(router: &Router, session: &Arc<Session>, work: IncomingCall) {
    answer(router, session, &work, Instant::now());
    drop(work);
    wait::write_all(session);
}

/// Whether a call becomes a subscription. Subscribing takes no time, so it needs no thread of its own. Subscribe before
/// the next call begins, or events that it publishes are missed (PB-EVT-8).
pub(super) fn is_subscription(router: &Router, session: &Session, work: &IncomingCall) -> bool {
    router.routes.is_subscription(work.call.method(), &session.admission.config)
}

/// Runs the handler of a call, which begins at `began`, and queues its answer. Returns when it ended.
pub(super) fn answer(
    router: &Router,
    session: &Arc<Session>,
    work: &IncomingCall,
    began: Instant,
) -> Instant {
    let (id, admission) = (work.id, &session.admission);
    let call = &Call::on(session.clone(), id, work.call.clone());
    let (packet, mut ended) = match work.call.read(admission) {
        Ok(()) => router.answer(call, &admission.config, &admission.stats, began),
        Err(refusal) => (Some(refusal.packet(call.version(), &admission.config.limits)), Instant::now()),
    };
    if let Some(packet) = packet {
        let answer = call.prepare(packet, session);
        if answer.is_large() {
            wait::wait(session, None, |waker| session.poll_send_space(id, waker));
            ended = Instant::now();
        }
        session.reply(id, answer);
    }
    work.call.end_handler(&admission.leaked);
    ended
}
