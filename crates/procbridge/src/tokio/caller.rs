//! Calls back to a caller, on the session on which its own call came.

use std::sync::{Arc, Weak};

use procbridge_proto::{Packet, Response};

use crate::classic::client::CallTimeout;
use crate::client::request::{self, CallOptions};
use crate::config::client::ClientConfig;
use crate::error::Error;
use crate::session::Session;
use crate::session::session::BeginError;
use crate::tokio::clock;
use crate::tokio::flow::{self, Begun};

/// A handle for calling a caller back, on the session on which its call came.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) session: Weak<Session>,
    pub(super) config: Arc<ClientConfig>,
}

impl Caller {
    fn session(&self) -> Result<Arc<Session>, Error> {
        self.session.upgrade().ok_or_else(|| request::refused(BeginError::Gone))
    }

    pub(super) async fn begin(
        &self,
        options: &CallOptions,
        packet: Packet,
    ) -> Result<(Begun, CallTimeout), Error> {
        let time = clock::time(options.timeout);
        Ok((
            flow::begin_on(&self.config, &self.session()?, packet, options.form, time)
                .await
                .map_err(request::in_reverse)?,
            time,
        ))
    }

    pub(super) async fn run(&self, options: &CallOptions, packet: Packet) -> Result<Option<Response>, Error> {
        let time = clock::time(options.timeout.or(self.config.call_timeout));
        match flow::begin_on(&self.config, &self.session()?, packet, options.form, time)
            .await
            .map_err(request::in_reverse)?
        {
            Begun::Response(response) => Ok(Some(response)),
            Begun::Calling(pending) => flow::finish(pending, time).await.map(Some),
            Begun::Sent => Ok(None),
        }
    }
}
