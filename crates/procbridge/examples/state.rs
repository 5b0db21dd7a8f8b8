//! A program's own state in its methods, its own error type, and a router made of two.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use procbridge::{Client, ReplyError, Router, Server, layers};

/// The state of the methods: how many pieces of each item there are.
#[derive(Default)]
struct Stock {
    pieces: Mutex<HashMap<String, u32>>,
}

/// An error of the program, which knows nothing of ProcBridge.
#[derive(Debug)]
enum StockError {
    Unknown(String),
    TooFew { left: u32 },
}

impl fmt::Display for StockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(item) => write!(f, "we have no {item}"),
            Self::TooFew { left } => write!(f, "only {left} left"),
        }
    }
}

impl std::error::Error for StockError {}

impl Stock {
    fn add(&self, (item, count): (String, u32)) -> u32 {
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        let there = pieces.entry(item).or_default();
        *there = there.saturating_add(count);
        *there
    }

    fn take(&self, (item, count): (String, u32)) -> Result<u32, StockError> {
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        let there = pieces.get_mut(&item).ok_or(StockError::Unknown(item))?;
        *there = there.checked_sub(count).ok_or(StockError::TooFew { left: *there })?;
        Ok(*there)
    }
}

fn main() -> Result<(), procbridge::Error> {
    let stock = Router::with_state(Stock::default())
        .method("add", Stock::add)
        .method("take", Stock::take)
        .method("items", |stock: &Stock| stock.pieces.lock().map_or(0, |pieces| pieces.len()))
        .layer(layers::map_error(|error: &StockError| {
            let code = match error {
                StockError::Unknown(_) => "stock.unknown",
                StockError::TooFew { .. } => "stock.too_few",
            };
            ReplyError::new(error.to_string()).with_code(code)
        }));
    // Its methods are "stock.add" and so on. The other one needs no state.
    let router = Router::new().nest("stock", stock).method("hello", |name: String| format!("hello {name}"));

    let server = Server::bind("127.0.0.1:0")?.spawn(router)?;
    let client = Client::connect(server.endpoint())?;
    println!("hello         -> {}", client.request::<String>("hello", "world")?);
    println!("stock.add     -> {}", client.request::<u32>("stock.add", &("apple", 3))?);
    println!("stock.take    -> {}", client.request::<u32>("stock.take", &("apple", 1))?);
    println!("stock.items   -> {}", client.request::<usize>("stock.items", &())?);
    for payload in [("apple", 5), ("plum", 1)] {
        if let Err(error) = client.request::<u32>("stock.take", &payload) {
            let code = error.remote().and_then(|remote| remote.code());
            println!("stock.take    -> {error} (code {code:?})");
        }
    }
    Ok(())
}
