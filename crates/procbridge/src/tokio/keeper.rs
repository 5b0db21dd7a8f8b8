//! Keeps a session open on which a client serves its server's calls.

use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ::tokio::sync::Notify;
use ::tokio::time::timeout;

use crate::session::retry::Retry;
use crate::tokio::calls::Inner;
use crate::tokio::clock;

/// Opens a new session whenever there is none, in a task of its own, until the client is gone.
pub(super) fn keep(client: &Arc<Inner>) {
    ::tokio::spawn(attend(Arc::downgrade(client), client.changed.clone()));
}

async fn attend(client: Weak<Inner>, changed: Arc<Notify>) {
    let mut retry = Retry::default();
    loop {
        wait(&client, &changed, None, |client| client.session().is_some()).await;
        wait(&client, &changed, Some(retry.next()), |client| client.session().is_none()).await;
        let Some(client) = client.upgrade() else { return };
        let time = clock::time(client.config.call_timeout);
        if client.open_session(time).await.is_ok() {
            retry.reset();
            client.greet().await;
        }
    }
}

/// Waits as long as it `is_so`, at most for `limit`; not at all if the client is gone.
async fn wait(
    client: &Weak<Inner>,
    changed: &Notify,
    limit: Option<Duration>,
    is_so: impl Fn(&Inner) -> bool,
) {
    let wait = async {
        loop {
            let mut change = pin!(changed.notified());
            // Before the look: a change after it is heard of.
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
