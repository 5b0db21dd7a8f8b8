//! Keeps a session open on which a client serves its server's calls.

use std::future::poll_fn;
use std::pin::pin;
use std::ptr;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use ::tokio::sync::Notify;
use ::tokio::time::timeout;

use crate::client::retry::Backoff;
use crate::service::dispatch::guarded;
use crate::session::Session;
use crate::tokio::clock;
use crate::tokio::inner::Inner;

/// Starts the task that opens a new session whenever there is none, until the client is dropped.
pub(super) fn keep(client: &Arc<Inner>) {
    let session = client.session().map(|session| Arc::downgrade(&session)).unwrap_or_default();
    ::tokio::spawn(attend(Arc::downgrade(client), client.changed.clone(), session));
}

async fn attend(client: Weak<Inner>, changed: Arc<Notify>, mut greeted: Weak<Session>) {
    let mut backoff = Backoff::default();
    backoff.begun(clock::now());
    loop {
        // A session that another call has opened meanwhile is a new one too.
        let is_greeted = |client: &Inner| client.session().is_some_and(|session| is_same(&session, &greeted));
        wait(&client, &changed, None, is_greeted).await;
        wait(&client, &changed, Some(backoff.pause(clock::now())), |client| client.session().is_none()).await;
        let Some(client) = client.upgrade() else { return };
        let time = clock::time(client.config.inactivity_timeout());
        if client.open_session(time).await.is_ok()
            && let Some(session) = client.session()
            && !is_same(&session, &greeted)
        {
            backoff.begun(clock::now());
            greeted = Arc::downgrade(&session);
            drop(session);
            let mut greeting = pin!(client.greet());
            // A panic of the callback ends this greeting only.
            poll_fn(|context| guarded(|| Ok(greeting.as_mut().poll(context))).unwrap_or(Poll::Ready(())))
                .await;
        }
    }
}

fn is_same(session: &Arc<Session>, other: &Weak<Session>) -> bool {
    ptr::eq(Arc::as_ptr(session), other.as_ptr())
}

/// Waits as long as `is_so` returns true, at most for `limit`. Returns at once if the client is gone.
async fn wait(
    client: &Weak<Inner>,
    changed: &Notify,
    limit: Option<Duration>,
    is_so: impl Fn(&Inner) -> bool,
) {
    let wait = async {
        loop {
            let mut change = pin!(changed.notified());
            // Register before checking, or a change in between is lost.
            change.as_mut().enable();
            if !client.upgrade().is_some_and(|client| is_so(&client)) {
                return;
            }
            change.await;
        }
    };
    match limit {
        Some(limit) => {
            let _ = timeout(limit, wait).await;
        }
        None => wait.await,
    }
}
