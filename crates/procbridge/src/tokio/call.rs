//! A call as an async handler sees it.

use std::ops::Deref;
use std::time::Duration;

use crate::tokio::clock;

/// A call that an async handler answers. It derefs to [`procbridge::Call`](crate::Call), but its
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

    /// Returns the time left until the [deadline](crate::Call::deadline), by the runtime's clock; zero once it has
    /// passed.
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
