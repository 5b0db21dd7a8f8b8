//! Types on both sides: structs as payload and result, and errors that programs can tell apart.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use procbridge::{Client, ErrorKind, ReplyError, Router, Server};
use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize, Serialize)]
struct Order {
    item: String,
    count: u32,
}

#[derive(Debug, Deserialize, Serialize)]
struct Receipt {
    total: u32,
}

fn buy(order: Order) -> Result<Receipt, ReplyError> {
    let price = match order.item.as_str() {
        "apple" => 2,
        "pear" => 3,
        other => return Err(ReplyError::new(format!("we have no {other}")).with_code("shop.unknown_item")),
    };
    let total = order.count.checked_mul(price).ok_or_else(|| {
        let most = u32::MAX / price;
        ReplyError::new("too many").with_code("shop.too_many").with_data(&most)
    })?;
    Ok(Receipt { total })
}

fn main() -> Result<(), procbridge::Error> {
    let server = Server::bind("127.0.0.1:0")?.spawn(Router::new().method("buy", buy))?;
    let client = Client::connect(server.endpoint())?;

    let order = Order { item: "apple".to_string(), count: 3 };
    let receipt: Receipt = client.request("buy", &order)?;
    println!("{order:?} -> {receipt:?}");

    for order in
        [Order { item: "plum".to_string(), count: 1 }, Order { item: "pear".to_string(), count: u32::MAX }]
    {
        if let Err(error) = client.request::<Receipt>("buy", &order) {
            assert_eq!(error.kind(), ErrorKind::Remote);
            let remote = error.remote();
            let (code, data) =
                (remote.and_then(|remote| remote.code()), remote.and_then(|remote| remote.data()));
            println!("{order:?} -> {error} (code {code:?}, data {data:?})");
        }
    }
    // A value that does not fit the function's type is refused before the function is called.
    if let Err(error) = client.request::<Receipt>("buy", &["apple"]) {
        println!("[\"apple\"] -> {error}");
    }
    Ok(())
}
