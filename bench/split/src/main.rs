//! How long it takes to find method and payload in a request: ours against serde_json, in one process.
//!
//! Prints a line of JSON with nanoseconds: `{"50 B":{"ours_ns":..,"raw_value_ns":..,"value_ns":..},..}`. All three begin with
//! the body's bytes and end with method and payload.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use procbridge_proto::split_request;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// The envelope that serde_json is asked for.
#[derive(serde::Deserialize)]
struct Envelope<'a, P> {
    method: &'a str,
    payload: P,
}

/// How long each look measures; the best of them counts, since whatever disturbs makes it slower.
const LOOK: Duration = Duration::from_millis(15);
const LOOKS: usize = 5;

fn main() {
    let records = |bytes: usize| {
        let record =
            json!({"id": 123_456, "name": "a record", "tags": ["x", "y"], "ok": true, "ratio": 0.25});
        let count = bytes / record.to_string().len();
        json!(vec![record; count.max(1)])
    };
    let text: String = "the quick brown fox jumps over the lazy dog ".chars().cycle().take(1 << 20).collect();
    let payloads = [
        ("50 B", json!({"a": 1, "b": [1, 2]})),
        ("1 KiB", records(1 << 10)),
        ("1 MiB records", records(1 << 20)),
        ("1 MiB string", json!(text)),
    ];
    let mut all = BTreeMap::new();
    for (name, payload) in payloads {
        let body = json!({"method": "echo", "payload": payload}).to_string();
        let mut best =
            BTreeMap::from([("ours_ns", f64::MAX), ("raw_value_ns", f64::MAX), ("value_ns", f64::MAX)]);
        for _ in 0..LOOKS {
            for (parser, least) in &mut best {
                let nanoseconds = match *parser {
                    "ours_ns" => look(|| {
                        let (method, payload) = split_request(black_box(body.as_bytes())).unwrap();
                        black_box((method, payload.map(str::len)));
                    }),
                    "raw_value_ns" => look(|| {
                        let read: Envelope<'_, &RawValue> =
                            serde_json::from_slice(black_box(body.as_bytes())).unwrap();
                        black_box((read.method, read.payload.get().len()));
                    }),
                    _ => look(|| {
                        let read: Envelope<'_, Value> =
                            serde_json::from_slice(black_box(body.as_bytes())).unwrap();
                        black_box((read.method, &read.payload));
                    }),
                };
                *least = least.min(nanoseconds);
            }
        }
        all.insert(name, best);
    }
    println!("{}", json!(all));
}

/// Measures the nanoseconds of one call of `work`.
fn look(mut work: impl FnMut()) -> f64 {
    let begun = Instant::now();
    let mut count = 0_u32;
    while begun.elapsed() < LOOK {
        for _ in 0..16 {
            work();
        }
        count += 16;
    }
    begun.elapsed().as_nanos() as f64 / f64::from(count)
}
