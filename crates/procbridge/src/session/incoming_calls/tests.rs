use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::client::request::ResultForm;
use crate::config::server::ServerConfig;
use crate::events::hub::Hub;
use crate::limits::admission::LARGE;
use crate::net::socket;
use crate::session::end::End;
use crate::session::reading::Reader;
use crate::session::served_call::CREDIT_TIMEOUT;
use crate::session::testing::{self, Bell, Ends, answer, call, handled};

/// Takes the next call that the session is to serve.
fn next(session: &Session) -> (IncomingCall, CallId) {
    let incoming = session.take_incoming().unwrap();
    let id = incoming.id;
    (incoming, id)
}

#[test]
fn an_answer_without_a_waiting_caller_waits_for_no_space() {
    let mut ends = Ends::server(Reader::None);
    for form in [ResultForm::Result, ResultForm::OneWay] {
        ends.peer.call(call("work", &(), form)).unwrap();
    }
    ends.deliver();
    let session = &ends.session;
    let (_large, large) = next(session);
    let (_note, note) = next(session);
    session.reply(large, answer(&format!("\"{}\"", "x".repeat(8 << 20))));
    session.flush();
    assert!(session.is_blocked());
    assert!(session.poll_send_space(note, Waker::noop()).is_ready());
    // The call outlives the session; nothing would free space any more.
    session.close(End::Closed);
    assert!(session.poll_send_space(note, Waker::noop()).is_ready());
}

/// Small calls would wait until nearly all of the answer is written.
#[test]
fn a_large_answer_that_is_written_does_not_keep_calls_from_being_read() {
    let mut ends = Ends::server_of(Reader::None, 32);
    for _ in 0..18 {
        ends.peer.call(call("work", &(), ResultForm::Result)).unwrap();
    }
    ends.deliver();
    let session = ends.session.clone();
    let reply = |size: usize| {
        let (incoming, id) = next(&session);
        let packet = answer(&format!("\"{}\"", "x".repeat(size)));
        session.reply(id, handled(&session, &incoming).prepare(packet, &session));
        session.flush();
    };
    reply(8 << 20);
    while !session.is_blocked() {
        session.flush();
    }
    // Answers that take no space permit are bounded by pausing.
    for _ in 0..17 {
        assert!(!session.is_reading_paused());
        reply(LARGE - 100);
    }
    assert!(session.is_reading_paused());
}

/// A handler that ran all the same would work for no caller, and one that never ran would stay counted as leaked.
#[test]
fn a_call_answered_before_it_has_begun_is_not_run_and_not_leaked() {
    let mut ends = Ends::server(Reader::None);
    for _ in 0..3 {
        ends.peer.call(call("work", &(), ResultForm::Result)).unwrap();
    }
    ends.deliver();
    let (begun, _) = next(&ends.session);
    let leaked = AtomicUsize::new(0);
    let (over, next) = ends.session.expire(Instant::now() + Duration::from_secs(3600), &leaked);
    assert_eq!((over.len(), next), (3, None));
    assert_eq!((leaked.load(Ordering::Relaxed), ends.session.has_incoming()), (1, false));
    begun.call.end_handler(&leaked);
    assert_eq!(leaked.load(Ordering::Relaxed), 0);
}

/// Fault H3: a stream has no timeout, but it does not wait for credit without end.
#[test]
fn a_stream_without_credit_ends_after_ten_minutes() {
    let mut ends = Ends::server(Reader::None);
    ends.session.admission.set_streams(&["work"]);
    ends.peer.call(call("work", &(), ResultForm::Stream)).unwrap();
    ends.deliver();
    let (_incoming, id) = next(&ends.session);
    let mut sent = 0;
    let mut item = Some(PreparedReply::from(testing::item("1")));
    while ends.session.poll_item(id, &mut item, Waker::noop()).is_ready() {
        item = Some(PreparedReply::from(testing::item("1")));
        sent += 1;
    }
    assert_eq!(sent, 64);
    let (now, leaked) = (Instant::now(), AtomicUsize::new(0));
    let (over, due) = ends.session.expire(now + Duration::from_secs(599), &leaked);
    assert!(over.is_empty() && due.is_some_and(|due| due <= now + CREDIT_TIMEOUT));
    let (over, due) = ends.session.expire(now + CREDIT_TIMEOUT, &leaked);
    assert_eq!((over.len(), due), (1, None));
}

/// A message that is taken back frees space without being written.
#[test]
fn a_cancelled_large_call_frees_space() {
    let mut ends = Ends::server(Reader::None);
    ends.peer.call(call("work", &(), ResultForm::Result)).unwrap();
    ends.deliver();
    let session = &ends.session;
    let (_incoming, id) = next(session);
    while socket::sent(socket::send(session, &[0; 4096])).unwrap() > 0 {}
    let pending = session.begin(call("large", &"x".repeat(2 << 20), ResultForm::Result)).unwrap();
    let (bell, waker) = Bell::new();
    assert!(session.poll_send_space(id, &waker).is_pending());
    drop(pending);
    assert_eq!(bell.woken(), 1);
}

/// A handler may leave its items to a task that still waits while the handler's own large answer does.
#[test]
fn an_item_and_an_answer_of_one_call_wait_each_for_itself() {
    let mut ends = Ends::server(Reader::None);
    for form in [ResultForm::Result, ResultForm::Stream] {
        ends.peer.call(call("work", &(), form)).unwrap();
    }
    ends.deliver();
    let session = ends.session.clone();
    let ((_large, large), (_stream, stream)) = (next(&session), next(&session));
    session.reply(large, answer(&format!("\"{}\"", "x".repeat(4 << 20))));
    session.flush();
    let ((producer, sends), (answering, answers)) = (Bell::new(), Bell::new());
    let mut item = Some(PreparedReply::from(call("item", &(), ResultForm::Result)));
    for _ in 0..2 {
        assert!(session.poll_item(stream, &mut item, &sends).is_pending());
        assert!(session.poll_send_space(stream, &answers).is_pending());
    }
    let mut bytes = vec![0; 64 << 10];
    while session.is_blocked() {
        assert!(std::io::Read::read(&mut &ends.socket, &mut bytes).unwrap() > 0);
        session.flush();
    }
    assert_eq!((producer.woken(), answering.woken()), (1, 1));
}

/// The subscription was requested before, and is answered only now.
#[test]
fn no_subscription_begins_when_they_have_been_ended() {
    let mut ends = Ends::server(Reader::None);
    ends.peer.call(call("$/subscribe", &json!({ "topics": ["a"] }), ResultForm::Stream)).unwrap();
    ends.deliver();
    let session = &ends.session;
    let (incoming, _) = next(session);
    session.end_subscriptions(&reply_error::stopping());
    session.goodbye("the server is stopping");
    let hub = Hub::new();
    assert!(hub.answer(&handled(&ends.session, &incoming), &ServerConfig::new()).is_none());
    assert_eq!((hub.subscriptions(), session.has_ended()), (0, true));
}

/// A peer that stops reading may go on sending, so the end may be far off. Callers go elsewhere at once.
#[test]
fn queued_calls_are_woken_when_nothing_can_be_written() {
    let Ends { session, socket, .. } = Ends::client(Reader::Task, 1);
    let _pending = session.begin(call("work", &(), ResultForm::Result)).unwrap();
    let queue_timeout = Duration::from_secs(5);
    let mut queued = session.enqueue(call("work", &(), ResultForm::Result), queue_timeout);
    let ((caller, waits), (task, parks)) = (Bell::new(), Bell::new());
    assert!(queued.poll(&waits).is_pending());
    socket.shutdown(std::net::Shutdown::Read).unwrap();
    session.notify(call("note", &(), ResultForm::OneWay)).unwrap();
    session.set_standby(&parks);
    session.flush();
    assert!(!session.is_open() && !session.has_ended());
    assert_eq!((caller.woken(), task.woken()), (1, 1));
}

/// The reason for the peer is written before the session ends, and that write must not end it for another reason.
#[test]
fn a_session_that_its_peer_broke_has_ended_for_that_reason() {
    let ends = Ends::server(Reader::None);
    std::io::Write::write_all(&mut &ends.socket, b"something else").unwrap();
    ends.read();
    assert!(ends.session.must_linger(), "{:?}", ends.session.end_reason());
}
