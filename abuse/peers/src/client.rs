//! A client of either face, before a server that may be hostile.

use std::time::{Duration, Instant};

use procbridge::{Client, ClientConfig, Error, SessionMode};

use crate::Face;

/// Prints `MILLISECONDS END` for each call: `ok`, or kind and outcome of the error.
pub(crate) fn call(face: Face, endpoint: &str, calls: u32, limit: Duration) {
    calls_with(
        face,
        endpoint,
        calls,
        ClientConfig::new().with_call_timeout(limit).with_connect_timeout(limit),
    );
}

/// Does the same for one call that needs a session.
pub(crate) fn require(face: Face, endpoint: &str, limit: Duration) {
    let config = ClientConfig::new().with_sessions(SessionMode::Required);
    calls_with(face, endpoint, 1, config.with_call_timeout(limit).with_connect_timeout(limit));
}

fn calls_with(face: Face, endpoint: &str, calls: u32, config: ClientConfig) {
    match face {
        Face::Blocking => {
            let client = Client::with_config(endpoint, config).unwrap();
            for _ in 0..calls {
                let began = Instant::now();
                print(began, &client.request::<u32>("echo", &1_u32));
            }
        }
        Face::Tokio => runtime().block_on(async {
            let client = procbridge::tokio::Client::with_config(endpoint, config).unwrap();
            for _ in 0..calls {
                let began = Instant::now();
                print(began, &client.request::<u32>("echo", &1_u32).await);
            }
        }),
    }
}

/// Subscribes to everything, and prints `MILLISECONDS END` if the subscription ends for good in that time.
pub(crate) fn subscribe(face: Face, endpoint: &str, time: Duration) {
    let config = ClientConfig::new().with_connect_timeout(Duration::from_secs(2));
    let end = Instant::now() + time;
    std::thread::spawn(move || {
        std::thread::sleep(end.saturating_duration_since(Instant::now()));
        std::process::exit(0);
    });
    let began = Instant::now();
    match face {
        Face::Blocking => {
            let client = Client::with_config(endpoint, config).unwrap();
            match client.subscribe(["*"]) {
                Ok(events) => {
                    for event in events {
                        if event.is_err() {
                            print(began, &event.map(drop));
                        }
                    }
                }
                Err(error) => print(began, &Err::<(), _>(error)),
            }
        }
        Face::Tokio => runtime().block_on(async {
            let client = procbridge::tokio::Client::with_config(endpoint, config).unwrap();
            match client.subscribe(["*"]).await {
                Ok(mut events) => {
                    while let Some(event) = events.next().await {
                        if event.is_err() {
                            print(began, &event.map(drop));
                        }
                    }
                }
                Err(error) => print(began, &Err::<(), _>(error)),
            }
        }),
    }
}

fn print<T>(began: Instant, end: &Result<T, Error>) {
    let took = began.elapsed().as_millis();
    match end {
        Ok(_) => println!("{took} ok"),
        Err(error) => println!("{took} {:?} {:?} {error}", error.kind(), error.outcome()),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}
