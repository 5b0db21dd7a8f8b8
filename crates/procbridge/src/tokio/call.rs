//! A call as an async handler sees it.

use std::ops::Deref;
use std::time::Duration;

use crate::tokio::clock;

/// A call that is being answered: a [`procbridge::Call`](crate::Call) with all that can be asked of one, whose
/// [`session`](Self::session) is an async one. Clones are the same call.
///
/// ```
/// use procbridge::tokio::{Call, Router};
///
/// async fn whoami(call: Call) -> String {
///     format!("{} from {}", call.method().unwrap_or_default(), call.peer())
/// }
///
/// let router = Router::new().method("whoami", whoami);
/// ```
#[derive(Clone, Debug)]
pub struct Call {
    pub(super) inner: crate::Call,
}

impl Call {
    pub(super) fn new(call: &crate::Call) -> Self {
        Self { inner: call.clone() }
    }

    pub(super) fn into_inner(self) -> crate::Call {
        self.inner
    }

    /// How long it is until the [deadline](crate::Call::deadline), by the runtime's clock; zero when it has passed.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline().map(|deadline| deadline.saturating_duration_since(clock::now()))
    }
}

impl Deref for Call {
    type Target = crate::Call;

    fn deref(&self) -> &Self::Target {
        &self.inner
    }
}
