//! The server: the same methods in both faces. Each call carries a number, which is written down when it is run and comes
//! back with the answer.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use procbridge::{Call, Hub, ItemSink, ReplyError, Router, Server, code};

use crate::HEAP;
use crate::caller::Face;

/// A call's number, and text to go with it.
pub(crate) type Payload = (u64, String);

/// A streamed call: its number, how many items, and how large they are.
pub(crate) type Wanted = (u64, usize, usize);

/// Serves until the standard input closes, and tells what is on the heap when it is asked there.
pub(crate) fn serve(face: Face, record: &Path, endpoints: &[&str]) {
    let record = Arc::new(OpenOptions::new().append(true).create(true).open(record).unwrap());
    match face {
        Face::Blocking => {
            let server = endpoints[1..]
                .iter()
                .fold(Server::bind(endpoints[0]).unwrap(), |server, more| server.and_bind(*more).unwrap());
            let handle = server.handle();
            attend(move || handle.shutdown());
            ready(&server.endpoints());
            server.serve(blocking(&record)).unwrap();
        }
        Face::Tokio => {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            runtime.unwrap().block_on(async {
                use procbridge::tokio::Server;
                let server =
                    endpoints[1..].iter().fold(Server::bind(endpoints[0]).unwrap(), |server, more| {
                        server.and_bind(*more).unwrap()
                    });
                let handle = server.handle();
                attend(move || handle.shutdown());
                ready(&server.endpoints());
                server.serve(asynchronous(&record)).await.unwrap();
            });
        }
    }
}

/// Tells, for each line that comes, the bytes on the heap; stops at the end of the lines.
fn attend(stop: impl FnOnce() + Send + 'static) {
    thread::spawn(move || {
        for _ in std::io::stdin().lines().map_while(Result::ok) {
            let stats = HEAP.stats();
            println!("{}", stats.bytes_allocated.wrapping_sub(stats.bytes_deallocated));
        }
        stop();
    });
}

fn ready(endpoints: &[procbridge::Endpoint]) {
    let endpoints: Vec<_> = endpoints.iter().map(ToString::to_string).collect();
    println!("ready {}", endpoints.join(" "));
}

/// Writes down that a call is run.
fn note(mut record: &File, number: u64) {
    record.write_all(&number.to_le_bytes()).unwrap();
}

fn refusal(number: u64) -> ReplyError {
    ReplyError::new(number.to_string()).with_code("unwilling").with_data(&number)
}

fn publish(hub: &Hub, number: u64) -> Result<usize, ReplyError> {
    Ok(hub.publish("tick.even", &number)? + hub.publish("tick.odd", &(number + 1))?)
}

fn blocking(record: &Arc<File>) -> Router {
    let hub = Hub::new();
    let record = || record.clone();
    let (echo, slow, told, count, unwilling, publisher) =
        (record(), record(), record(), record(), record(), hub.clone());
    Router::new()
        .method("echo", move |(number, text): Payload| {
            note(&echo, number);
            (number, text)
        })
        .method("slow", move |call: &Call, (number, text): Payload| {
            note(&slow, number);
            for _ in 0..20 {
                if call.is_cancelled() {
                    return Err(ReplyError::new("nobody waits").with_code(code::CANCELLED));
                }
                thread::sleep(Duration::from_millis(2));
            }
            Ok((number, text))
        })
        .method("told", move |(number, _): Payload| note(&told, number))
        .method("unwilling", move |(number, _): Payload| -> Result<(), ReplyError> {
            note(&unwilling, number);
            Err(refusal(number))
        })
        .stream("count", move |(number, items, size): Wanted, sink: &mut ItemSink| {
            note(&count, number);
            let text = "i".repeat(size);
            (0..items).try_for_each(|item| sink.send(&(number, item, &text)))?;
            Ok::<_, ReplyError>(number)
        })
        .method("publish", move |number: u64| publish(&publisher, number))
        .events(&hub)
}

fn asynchronous(record: &Arc<File>) -> procbridge::tokio::Router {
    let hub = Hub::new();
    let record = || record.clone();
    let (echo, slow, told, count, unwilling, publisher) =
        (record(), record(), record(), record(), record(), hub.clone());
    procbridge::tokio::Router::new()
        .method("echo", move |(number, text): Payload| {
            note(&echo, number);
            async move { (number, text) }
        })
        .method("slow", move |(number, text): Payload| {
            note(&slow, number);
            async move {
                tokio::time::sleep(Duration::from_millis(40)).await;
                (number, text)
            }
        })
        .method("told", move |(number, _): Payload| {
            note(&told, number);
            async {}
        })
        .method("unwilling", move |(number, _): Payload| {
            note(&unwilling, number);
            async move { Err::<(), _>(refusal(number)) }
        })
        .stream("count", move |(number, items, size): Wanted, mut sink: procbridge::tokio::ItemSink| {
            note(&count, number);
            async move {
                let text = "i".repeat(size);
                for item in 0..items {
                    sink.send(&(number, item, &text)).await?;
                }
                Ok::<_, ReplyError>(number)
            }
        })
        .method("publish", move |number: u64| {
            let published = publish(&publisher, number);
            async move { published }
        })
        .events(&hub)
}
