//! The methods that every server has by itself: `$/ping`, `$/describe`, `$/stats`. The settings can switch each off;
//! then it is a method like any that the router may have or not.

use crate::blocking::handler::Reply;
use crate::config::server::ServerConfig;
use crate::json::object_writer::ObjectWriter;
use crate::reply_error::Refusal;
use crate::service::call::Call;
use crate::service::routes::{Routes, SUBSCRIBE};
use crate::telemetry::stats::Stats;

/// A method of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BuiltinMethod {
    /// Answers its payload.
    Ping,
    /// The server's methods.
    Describe,
    /// What it has counted.
    Stats,
}

/// The method that `call` asks for, if it is one of the protocol that is switched on.
pub(crate) fn method(call: &Call, config: &ServerConfig) -> Option<BuiltinMethod> {
    let name = call.method().filter(|name| name.starts_with("$/"))?;
    enabled(config).find(|method| method.name() == name)
}

/// Whether a call of `method` is one that the server answers by itself, without a handler.
pub(crate) fn needs_no_permit(method: Option<&str>, config: &ServerConfig) -> bool {
    method.is_some_and(|name| name.starts_with("$/") && enabled(config).any(|known| known.name() == name))
}

fn enabled(config: &ServerConfig) -> impl Iterator<Item = BuiltinMethod> {
    let all = [
        (BuiltinMethod::Describe, config.describe),
        (BuiltinMethod::Ping, config.ping),
        (BuiltinMethod::Stats, config.stats),
    ];
    all.into_iter().filter(|(_, is_on)| *is_on).map(|(method, _)| method)
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
    ) -> Result<Reply, Refusal> {
        reply.write_text(|out| match self {
            Self::Ping => out.extend_from_slice(call.payload().unwrap_or("null").as_bytes()),
            Self::Describe => {
                let mut object = ObjectWriter::begin(out);
                object.text("name", &config.program_name());
                routes.describe_all(object.member("methods"));
                let mut protocol: Vec<_> = enabled(config).map(Self::name).collect();
                protocol.extend((config.subscribe && routes.has_hub()).then_some(SUBSCRIBE));
                object.names("protocol", &protocol);
                object.end();
            }
            Self::Stats => stats.write(out),
        })
    }
}
