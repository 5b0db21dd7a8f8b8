//! `procbridge serve`: a server from its options to its orderly end.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::{fs, io, thread};

use procbridge::{Endpoint, Error, ErrorKind, Router, Server, ServerConfig};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::args::serve::ServeArgs;
use crate::args::timeout::Timeout;
use crate::env::default_endpoint::{self, VARIABLE};
use crate::env::token;
use crate::error::CliError;
use crate::serve::child_registry::Children;
use crate::serve::exec::Exec;
use crate::serve::shutdown::Shutdown;
use crate::serve::{demo, logger, orphans};
use crate::terminal::stderr;

/// Serves until a signal ends it; the exit code says how orderly that was.
pub(crate) fn run(args: &ServeArgs) -> Result<u8, CliError> {
    logger::start(args.verbose);
    let endpoints = endpoints(args)?;
    let (router, children) = router(args)?;
    let config = match token::read(args.token.as_deref())? {
        Some(token) => config(args).with_token(token),
        None => config(args),
    };
    // Before there are files that an end without a word would leave. What comes before the thread takes it is kept.
    let mut signals = Signals::new(signals()).map_err(cannot_take)?;
    let server = bind(&endpoints, &config)?;
    orphans::collect(&children)?;

    // Before anybody is told that it is ready: who waits for that may send a signal at once.
    let shutdown = Shutdown::default();
    let on_signal = {
        let (shutdown, handle, children, drain) =
            (shutdown.clone(), server.handle(), children.clone(), args.drain);
        move || signals.forever().for_each(|signal| shutdown.advance(signal, &handle, &children, drain))
    };
    thread::Builder::new()
        .name("signals".to_string())
        .spawn(on_signal)
        .map_err(|error| CliError::system("cannot start a thread", &error))?;

    let places: Vec<_> = server.endpoints().iter().map(Endpoint::to_string).collect();
    stderr::write_line(&format!("ready: listening on {}", places.join(" ")));
    let served = server.serve(router);
    children.kill_all();
    children.stop_guard();
    served?;
    Ok(shutdown.exit(args.drain))
}

fn endpoints(args: &ServeArgs) -> Result<Vec<Endpoint>, CliError> {
    if !args.endpoints.is_empty() {
        return args.endpoints.iter().map(|text| text.parse().map_err(CliError::from)).collect();
    }
    let default = default_endpoint::read()?.map(|endpoint| vec![endpoint]);
    default.ok_or_else(|| {
        CliError::usage("no endpoint to listen on")
            .with_hint("it is an argument such as :8000 or ./app.sock")
            .with_hint(format!("{VARIABLE} holds the default"))
    })
}

fn router(args: &ServeArgs) -> Result<(Router, Children), CliError> {
    let Some(command) = &args.handler.exec else { return Ok((demo::router(), Children::default())) };
    let exec = Exec::new(command, args.shell, args.max_body)?;
    // Where the parent of this program ignored the signal, so does this: the system would collect the commands, and how
    // they ended would be lost.
    signal_hook::flag::register(SIGCHLD, Arc::new(AtomicBool::new(false))).map_err(cannot_take)?;
    let children = exec.children();
    children.start_guard();
    Ok((exec.router(), children))
}

/// The signals that end it. A program that was started to outlive its terminal ignores that this hangs up.
fn signals() -> Vec<i32> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    let keeps_hangup = ignored & (1 << (SIGHUP - 1)) != 0;
    [SIGTERM, SIGINT, SIGQUIT].into_iter().chain((!keeps_hangup).then_some(SIGHUP)).collect()
}

fn cannot_take(error: io::Error) -> CliError {
    CliError::system("cannot take signals", &error)
}

fn config(args: &ServeArgs) -> ServerConfig {
    let default_calls = if args.handler.exec.is_some() { EXEC_CALLS } else { DEMO_CALLS };
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let mut config = ServerConfig::new()
        .with_max_body(args.max_body)
        .with_max_calls(count(args.max_calls.unwrap_or(default_calls)))
        .with_max_connections(count(args.max_connections))
        .with_drain_timeout(args.drain)
        .with_header_timeout(args.header_timeout)
        .with_write_timeout(args.write_timeout);
    config = match args.timeout {
        Timeout::After(limit) => config.with_handler_timeout(limit),
        Timeout::Never => config.without_handler_timeout(),
    };
    config = if args.allow_remote { config.allow_remote() } else { config };
    config = if args.allow_any_user { config.allow_any_user() } else { config };
    config = if args.no_sessions { config.without_sessions() } else { config };
    config = if args.no_describe { config.without_describe() } else { config };
    config = if args.no_stats { config.without_stats() } else { config };
    if args.explicit_null { config.with_explicit_null() } else { config }
}

fn bind(endpoints: &[Endpoint], config: &ServerConfig) -> Result<Server, CliError> {
    let mut server: Option<Server> = None;
    for endpoint in endpoints {
        let bound = match server {
            None => Server::bind_with(endpoint, config.clone()),
            Some(server) => server.and_bind(endpoint),
        };
        server = Some(bound.map_err(cannot_listen)?);
    }
    server.ok_or_else(|| CliError::usage("no endpoint to listen on"))
}

fn cannot_listen(error: Error) -> CliError {
    let message = error.to_string();
    let help = match error.kind() {
        ErrorKind::Denied => Some("--token asks callers for a secret; --allow-remote allows it without"),
        ErrorKind::Listen
            if message.contains(" tcp:") && message.ends_with("another server listens there") =>
        {
            Some("with port 0 the system chooses a free one")
        }
        _ => None,
    };
    help.into_iter().fold(CliError::from(error), CliError::with_hint)
}

/// Calls at a time: a demo method costs a thread, a command a process.
const DEMO_CALLS: u32 = 1024;

const EXEC_CALLS: u32 = 64;
