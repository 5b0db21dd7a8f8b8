//! The latency of a small call beside calls of 16 MiB, on the same session and on another one. This is a
//! measurement, run by hand in a release build. The second figure shows the machine: the large calls keep its processors
//! busy. The rest of the first figure shows the session. The same is measured beside threads that only compute.
//!
//! `cargo test --release -p procbridge --all-features --test tokio -- --ignored --nocapture beside_large`
#![allow(clippy::print_stdout, reason = "a measurement")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use procbridge::tokio::{Client, Router, Server};
use serde_json::value::RawValue;

use crate::two_threads;

/// Measures small calls for some seconds. A large method, if there is one, is called with 16 MiB again and again. That is
/// on the session of the small calls or on another one.
fn measure(large: Option<&'static str>, is_shared: bool) {
    let runtime = || two_threads().enable_all().build().unwrap();
    let (serving, calling) = (runtime(), runtime());
    let dir = tempfile::tempdir().unwrap();
    let endpoint = format!("unix:{}/s.sock", dir.path().display());
    let router = Router::new()
        .method("small", |n: u32| async move { n })
        .method("length", |text: String| async move { text.len() })
        .method("echo", |value: Box<RawValue>| async move { value })
        .method("make", |size: usize| async move { "x".repeat(size) });
    let server = serving.block_on(async { Server::bind(endpoint.as_str()).unwrap().spawn(router) });
    let client = Client::new(server.endpoint()).unwrap();
    let other = if is_shared { client.clone() } else { Client::new(server.endpoint()).unwrap() };
    let is_over = Arc::new(AtomicBool::new(false));
    let made = Arc::new(AtomicU32::new(0));
    let mut waits = calling.block_on(async {
        client.request::<u32>("small", &1).await.unwrap();
        let heavy = large.map(|method| {
            let (client, is_over, made) = (other, is_over.clone(), made.clone());
            tokio::spawn(async move {
                let text = "x".repeat((16 << 20) - 1024);
                while !is_over.load(Ordering::Relaxed) {
                    let answer = match method {
                        "make" => client.request::<Box<RawValue>>(method, &text.len()).await,
                        _ => client.request::<Box<RawValue>>(method, &text).await,
                    };
                    answer.unwrap();
                    made.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        let end = Instant::now() + Duration::from_secs(6);
        let mut waits = Vec::new();
        while Instant::now() < end {
            let begun = Instant::now();
            client.request::<u32>("small", &1).await.unwrap();
            waits.push(begun.elapsed());
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        is_over.store(true, Ordering::Relaxed);
        if let Some(heavy) = heavy {
            heavy.await.unwrap();
        }
        waits
    });
    waits.sort_unstable();
    let at = |percent: usize| waits.get(waits.len() * percent / 100).copied().unwrap();
    println!(
        "{:>8}{}: {} large calls, {} small ones: p50 {:?}, p90 {:?}, p99 {:?}, longest {:?}",
        large.unwrap_or("nothing"),
        if is_shared { "" } else { " on another session" },
        made.load(Ordering::Relaxed),
        waits.len(),
        at(50),
        at(90),
        at(99),
        waits.last().unwrap(),
    );
    serving.block_on(server.shutdown()).unwrap();
}

/// Measures small calls while as many threads compute as there are processors.
fn measure_busy() {
    let is_over = AtomicBool::new(false);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        print!("{threads} busy threads, ");
        measure(None, true);
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
#[ignore = "a measurement"]
fn small_calls_beside_large_ones() {
    measure(None, true);
    measure_busy();
    for large in ["length", "make", "echo"] {
        measure(Some(large), true);
        measure(Some(large), false);
    }
}
