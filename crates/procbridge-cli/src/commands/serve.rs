//! `procbridge serve`: starts a server, and runs it until its shutdown.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use procbridge::{Endpoint, Error, ErrorKind, Router, Server, ServerConfig};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use crate::args::serve::ServeArgs;
use crate::args::timeout::Timeout;
use crate::env::{default_endpoint, token};
use crate::error::CliError;
use crate::serve::child_registry::Children;
use crate::serve::exec::Exec;
use crate::serve::shutdown::Shutdown;
use crate::serve::{demo, logger, orphans};
use crate::system::{signals, thread};
use crate::terminal::stderr;

/// Serves until a signal ends the server. Returns the exit code, which tells whether the shutdown was graceful.
pub(crate) fn run(args: &ServeArgs) -> Result<u8, CliError> {
    logger::start(args.verbose);
    let endpoints = endpoints(args)?;
    let (router, children) = router(args)?;
    let config = match token::read(args.token.as_deref())? {
        Some(token) => config(args).with_token(token),
        None => config(args),
    };
    // Handle signals before binding, or a signal in between leaves a socket file.
    let mut signals = signals::listen(&shutdown_signals())?;
    let server = bind(&endpoints, &config)?;
    orphans::reap_orphans(&children)?;

    // Start the thread before reporting that the server is ready, as a signal may follow at once.
    let shutdown = Shutdown::default();
    thread::spawn("signals", {
        let (shutdown, handle) = (shutdown.clone(), server.handle());
        let (children, drain) = (children.clone(), args.drain);
        move || signals.forever().for_each(|signal| shutdown.advance(signal, &handle, &children, drain))
    })?;

    let endpoints: Vec<_> = server.endpoints().iter().map(Endpoint::to_string).collect();
    stderr::write_line(&format!("ready: listening on {}", endpoints.join(" ")));
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
    let endpoint = default_endpoint::read()?;
    Ok(vec![endpoint.ok_or_else(|| default_endpoint::missing(" to listen on"))?])
}

fn router(args: &ServeArgs) -> Result<(Router, Children), CliError> {
    let Some(command) = &args.handler.exec else { return Ok((demo::router(), Children::default())) };
    let exec = Exec::new(command, args.shell, args.max_body)?;
    // A parent may have this process ignore SIGCHLD. Then the system would reap the commands and lose their status.
    signal_hook::flag::register(SIGCHLD, Arc::new(AtomicBool::new(false))).map_err(signals::cannot_handle)?;
    let children = exec.children();
    children.start_guard();
    Ok((exec.router(), children))
}

/// Returns the signals that shut the server down. SIGHUP is not among them if the parent ignores it, as nohup does.
fn shutdown_signals() -> Vec<i32> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    let ignores_hangup = ignored & (1 << (SIGHUP - 1)) != 0;
    [SIGTERM, SIGINT, SIGQUIT].into_iter().chain((!ignores_hangup).then_some(SIGHUP)).collect()
}

fn config(args: &ServeArgs) -> ServerConfig {
    let default_calls = if args.handler.exec.is_some() { EXEC_CALLS } else { DEMO_CALLS };
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let mut config = ServerConfig::new()
        .with_max_body(args.max_body)
        .with_max_concurrent_calls(count(args.max_concurrent_calls.unwrap_or(default_calls)))
        .with_max_connections(count(args.max_connections))
        .with_drain_timeout(args.drain)
        .with_header_timeout(args.header_timeout)
        .with_write_timeout(args.write_timeout);
    config = match args.timeout {
        Timeout::After(timeout) => config.with_handler_timeout(timeout),
        Timeout::Never => config.with_handler_timeout(None),
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
    let hint = match error.kind() {
        ErrorKind::Denied => {
            Some("set --token to ask callers for a secret, or --allow-remote to serve without one")
        }
        ErrorKind::Listen
            if message.contains(" tcp:") && message.ends_with("another server listens there") =>
        {
            Some("use another port; with port 0 the system chooses a free one")
        }
        _ => None,
    };
    hint.into_iter().fold(CliError::from(error), CliError::with_hint)
}

/// The default concurrency limits. A call costs a thread with the demo, a process with `--exec`.
const DEMO_CALLS: u32 = 1024;
const EXEC_CALLS: u32 = 64;
