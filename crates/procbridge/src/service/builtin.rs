//! The built-in methods of every server: `$/ping`, `$/describe`, `$/stats`. The settings can switch off each of them;
//! then the router may have a method of that name.

use crate::config::server::ServerConfig;
use crate::json::object_writer::ObjectWriter;
use crate::reply_error::ReplyError;
use crate::service::call::Call;
use crate::service::reply::Reply;
use crate::service::routes::{Routes, SUBSCRIBE};
use crate::telemetry::stats::Stats;

/// A built-in method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BuiltinMethod {
    /// Answers with its payload.
    Ping,
    /// Answers with the server's methods.
    Describe,
    /// Answers with the server's counters.
    Stats,
}

/// Returns the built-in method that `call` asks for, unless it is switched off.
pub(crate) fn method(call: &Call, config: &ServerConfig) -> Option<BuiltinMethod> {
    let name = call.method().filter(|name| config.answers_itself(name))?;
    ALL.into_iter().find(|method| method.name() == name)
}

impl BuiltinMethod {
    fn name(self) -> &'static str {
        match self {
            Self::Ping => "$/ping",
            Self::Describe => "$/describe",
            Self::Stats => "$/stats",
        }
    }

    pub(crate) fn answer<H: ?Sized>(
        self,
        call: &Call,
        reply: Reply,
        config: &ServerConfig,
        stats: &Stats,
        routes: &Routes<H>,
    ) -> Result<Reply, ReplyError> {
        reply.write_text(|out| match self {
            Self::Ping => out.extend_from_slice(call.payload().unwrap_or("null").as_bytes()),
            Self::Describe => {
                let mut object = ObjectWriter::begin(out);
                object.text("name", &config.program_name());
                routes.describe_all(object.member("methods"));
                let mut protocol: Vec<_> =
                    ALL.map(Self::name).into_iter().filter(|name| config.answers_itself(name)).collect();
                protocol.extend((config.subscribe && routes.has_events()).then_some(SUBSCRIBE));
                object.names("protocol", &protocol);
                object.end();
            }
            Self::Stats => stats.write(out),
        })
    }
}

/// In the order of their names.
const ALL: [BuiltinMethod; 3] = [BuiltinMethod::Describe, BuiltinMethod::Ping, BuiltinMethod::Stats];
