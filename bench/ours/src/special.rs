//! The contenders that are no plain echo: the first large call of a session, small calls beside large ones, sessions
//! that are idle.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use contender::{Caller, Payload, Report, Result, Run};
use procbridge::{Client, tokio as face};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::settings::{self, Kind};

/// The payload of the large calls that go on beside the small ones.
const LARGE: Payload = Payload::Bytes((16 << 20) - 64);

/// Measures the first large call of a session, which is opened by a small one outside the time.
pub(crate) fn first(run: &Run) -> Result<Report> {
    let payload = Kind::SESSION.raw(run.payload)?.ok_or("this is about large payloads")?;
    let endpoint = settings::endpoint(&run.endpoint)?;
    run.timed(|| {
        let client = Client::with_config(endpoint.clone(), Kind::SESSION.client())?;
        client.request::<Value>("echo", &1)?;
        let begun = Instant::now();
        client.request::<Box<RawValue>>("bulk", &payload)?;
        Ok(begun.elapsed())
    })
}

/// Measures small calls while another thread makes large ones on the same session.
pub(crate) fn beside(run: &Run) -> Result<Report> {
    let large = Kind::SESSION.raw(LARGE)?.ok_or("this is large")?;
    let config = Kind::SESSION.client();
    let client = Client::with_config(settings::endpoint(&run.endpoint)?, config)?;
    let payload = Payload::Small.value();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                client.request::<Box<RawValue>>("bulk", &large)?;
            }
            Ok::<(), procbridge::Error>(())
        });
        let report = run.threads(|_| {
            Ok(|| {
                client.request::<Value>("echo", &payload)?;
                Ok(())
            })
        });
        done.store(true, Ordering::Relaxed);
        other.join().map_err(|_| "the large calls panicked")??;
        report
    })
}

/// Measures the same with tasks.
pub(crate) fn beside_tokio(run: &Run) -> Result<Report> {
    let large = Kind::SESSION.raw(LARGE)?.ok_or("this is large")?;
    let config = Kind::SESSION.client();
    let endpoint = settings::endpoint(&run.endpoint)?;
    run.tasks(|_| async {
        let client = Arc::new(face::Client::with_config(endpoint.clone(), config.clone())?);
        client.request::<Value>("echo", &1).await?;
        let (other, large) = (Arc::clone(&client), large.clone());
        // Until the runtime ends.
        tokio::spawn(async move { while other.request::<Box<RawValue>>("bulk", &large).await.is_ok() {} });
        Ok(Small { client, payload: Payload::Small.value() })
    })
}

struct Small {
    client: Arc<face::Client>,
    payload: Value,
}

impl Caller for Small {
    async fn call(&mut self) -> Result<()> {
        self.client.request::<Value>("echo", &self.payload).await?;
        Ok(())
    }
}

/// Opens sessions that have one call and are then quiet, and measures their memory.
pub(crate) fn idle(run: &Run) -> Result<Report> {
    let endpoint = settings::endpoint(&run.endpoint)?;
    run.idle(|_| {
        let client = Client::with_config(endpoint.clone(), Kind::SESSION.client())?;
        client.request::<Value>("echo", &1)?;
        Ok(client)
    })
}

/// Measures the same with tasks.
pub(crate) fn idle_tokio(run: &Run) -> Result<Report> {
    let endpoint = settings::endpoint(&run.endpoint)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    run.idle(|_| {
        runtime.block_on(async {
            let client = face::Client::with_config(endpoint.clone(), Kind::SESSION.client())?;
            client.request::<Value>("echo", &1).await?;
            Ok(client)
        })
    })
}
