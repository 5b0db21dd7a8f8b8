//! Trace context: a call belongs to a trace, and so do the calls that its method makes.
//!
//! Run it with `cargo run --example trace_context`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use procbridge::{Call, Client, Error, ReplyError, Router, Server};

fn main() -> Result<(), Error> {
    // The last server in the chain prints the trace context that it received.
    let stock = Router::new().method("stock", |call: &Call| {
        println!("stock: traceparent {:?}, tracestate {:?}", call.traceparent(), call.tracestate());
        7
    });
    let stock = Server::bind("127.0.0.1:0")?.spawn(stock)?;

    // The first server calls it, and does not mention the trace.
    let to_stock = Client::new(stock.endpoint())?;
    let shop = Router::new().method("order", move |call: &Call| -> Result<u32, ReplyError> {
        println!("order: traceparent {:?}", call.traceparent());
        Ok(to_stock.request("stock", &())?)
    });
    let shop = Server::bind("127.0.0.1:0")?.spawn(shop)?;

    let client = Client::new(shop.endpoint())?;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let left: u32 = client.call("order").meta("traceparent", parent).meta("tracestate", "shop=1").send()?;
    println!("in stock: {left}");
    Ok(())
}
