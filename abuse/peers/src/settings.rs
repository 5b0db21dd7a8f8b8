//! Settings of a server, as words.

use std::time::Duration;

use procbridge::ServerConfig;

/// Reads words such as `max_concurrent_calls=16`. Times are in milliseconds.
pub(crate) fn server(words: &[&str]) -> ServerConfig {
    words.iter().fold(ServerConfig::new().with_name("abuse-peer"), |config, word| {
        let (name, value) = word.split_once('=').expect("a setting is NAME=VALUE");
        let number: usize = value.parse().unwrap();
        let small = || u32::try_from(number).unwrap();
        let time = Duration::from_millis(number as u64);
        match name {
            "max_concurrent_calls" => config.with_max_concurrent_calls(number),
            "max_connections" => config.with_max_connections(number),
            "max_pending_connections" => config.with_max_pending_connections(number),
            "max_session_calls" => config.with_max_session_calls(small()),
            "max_body" => config.with_max_body(small()),
            "timeout" => config.with_handler_timeout(time),
            "header_timeout" => config.with_header_timeout(time),
            "write_timeout" => config.with_write_timeout(time),
            "keepalive" => config.with_keepalive(time),
            "drain" => config.with_drain_timeout(time),
            _ => panic!("there is no setting {name:?}"),
        }
    })
}
