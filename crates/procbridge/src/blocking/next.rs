//! The rest of the chain behind a layer: more layers, and at last the handler.

use std::fmt;
use std::sync::Arc;

use crate::reply_error::ReplyError;
use crate::service::call::Call;
use crate::service::dispatch::guarded;
use crate::service::reply::Reply;

/// The rest of the chain behind a layer, see [`Router::layer`](crate::Router::layer).
pub struct Next<'a> {
    call: &'a Call,
    reply: Reply,
    layers: &'a [Arc<BoxedLayer>],
    handler: Option<&'a BoxedHandler>,
}

/// A blocking handler of any form.
pub(crate) type BoxedHandler = dyn Fn(&Call, Reply) -> Result<Reply, ReplyError> + Send + Sync;

/// A function around handlers.
pub(crate) type BoxedLayer = dyn Fn(&Call, Next<'_>) -> Result<Reply, ReplyError> + Send + Sync;

impl<'a> Next<'a> {
    pub(crate) fn new(
        call: &'a Call,
        reply: Reply,
        layers: &'a [Arc<BoxedLayer>],
        handler: Option<&'a BoxedHandler>,
    ) -> Self {
        Self { call, reply, layers, handler }
    }

    /// Runs the next layer, or the handler after the last one.
    ///
    /// # Errors
    ///
    /// The refusal to answer with. A panic further down the chain becomes one with the code `internal`, an unknown
    /// method one with the code `unknown_method`.
    pub fn run(self) -> Result<Reply, ReplyError> {
        let Self { call, reply, layers, handler } = self;
        guarded(|| match (layers.split_first(), handler) {
            (Some((layer, layers)), _) => layer(call, Self { call, reply, layers, handler }),
            (None, Some(handler)) => handler(call, reply),
            (None, None) => Err(ReplyError::unknown_method(call.method())),
        })
    }

    /// Returns a good response without a payload, for a layer that answers by itself.
    ///
    /// ```
    /// use procbridge::Router;
    ///
    /// // The method's name is the answer to everything.
    /// let router = Router::new().layer(|call, next| next.into_reply().write(&call.method()));
    /// # let server = procbridge::Server::bind("127.0.0.1:0")?.spawn(router)?;
    /// # let client = procbridge::Client::connect(server.endpoint())?;
    /// # assert_eq!(client.request::<String>("hello", &())?, "hello");
    /// # Ok::<(), procbridge::Error>(())
    /// ```
    pub fn into_reply(self) -> Reply {
        self.reply
    }
}

impl fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").field("call", self.call).finish_non_exhaustive()
    }
}
