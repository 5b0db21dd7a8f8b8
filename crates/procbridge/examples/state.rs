//! A program's own state in its methods, its own error type, and a router made of two.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use procbridge::{Client, ReplyError, Router, Server, layers};

/// The state of the methods: how many pieces of each item there are.
type Stock = Mutex<HashMap<String, u32>>;

/// An error of the program, which knows nothing of ProcBridge.
#[derive(Debug)]
struct SoldOut(String);

impl fmt::Display for SoldOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there are too few {}s", self.0)
    }
}

impl std::error::Error for SoldOut {}

fn add(stock: &Stock, (item, count): (String, u32)) -> u32 {
    let mut stock = stock.lock().unwrap_or_else(PoisonError::into_inner);
    let pieces = stock.entry(item).or_default();
    *pieces = pieces.saturating_add(count);
    *pieces
}

fn take(stock: &Stock, (item, count): (String, u32)) -> Result<u32, SoldOut> {
    let mut stock = stock.lock().unwrap_or_else(PoisonError::into_inner);
    let pieces = stock.entry(item.clone()).or_default();
    *pieces = pieces.checked_sub(count).ok_or(SoldOut(item))?;
    Ok(*pieces)
}

fn main() -> Result<(), procbridge::Error> {
    let stock = Router::with_state(Stock::default())
        .method("add", add)
        .method("take", take)
        .method("items", |stock: &Stock| stock.lock().map_or(0, |stock| stock.len()))
        .layer(layers::map_error(|error: &SoldOut| {
            ReplyError::new(error.to_string()).with_code("stock.sold_out")
        }));
    // Its methods are "stock.add" and so on. The other one needs no state.
    let router = Router::new().nest("stock", stock).method("hello", |name: String| format!("hello {name}"));

    let server = Server::bind("127.0.0.1:0")?.spawn(router)?;
    let client = Client::connect(server.endpoint())?;
    println!("stock.add     -> {}", client.request::<u32>("stock.add", &("apple", 3))?);
    println!("stock.take    -> {}", client.request::<u32>("stock.take", &("apple", 1))?);
    if let Err(error) = client.request::<u32>("stock.take", &("apple", 5)) {
        println!("stock.take    -> {error} ({:?})", error.remote().and_then(|remote| remote.code()));
    }
    Ok(())
}
