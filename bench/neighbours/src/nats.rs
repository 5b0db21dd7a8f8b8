//! NATS: async-nats with the real server (Debian: nats-server) as the broker, request and reply, on TCP.
//!
//! `serve` starts the broker at the endpoint as a child process and subscribes. A call goes from the client through the
//! broker to the subscriber and back. The broker's processor time counts as the server's.
//!
//! Configuration:
//!
//! - The broker without persistence or monitoring, payloads up to 64 MiB (1 MiB is the default), no log.
//! - Clients with read buffers of 64 KiB and NODELAY (always on).
//! - One connection each.
//! - The other settings as they come.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use async_nats::{Client, ConnectOptions};
use bytes::Bytes;
use contender::{Caller, Endpoint, Report, Result, Run};
use futures::StreamExt as _;
use tokio::sync::OnceCell;

use crate::content::{Carry, Content};

const SUBJECT: &str = "echo";

/// Runs the broker until its standard input ends, which it does when this process ends, in whatever way.
const KEEP: &str = r#"nats-server -c "$1" >/dev/null 2>&1 & broker=$!; cat >/dev/null; kill "$broker""#;

async fn connect(endpoint: &Endpoint) -> Result<Client> {
    let address = crate::tcp_only(endpoint)?;
    Ok(ConnectOptions::new().read_buffer_capacity(u16::MAX).connect(format!("nats://{address}")).await?)
}

pub fn serve(endpoint: &Endpoint, carry: Carry) -> Result<()> {
    let address = crate::tcp_only(endpoint)?;
    let file = std::env::temp_dir().join(format!("bench-nats-{}.conf", address.port()));
    std::fs::File::create(&file)?.write_all(
        format!(
            "listen: \"{address}\"\nmax_payload: {}\nmax_pending: {}\n",
            crate::LARGEST,
            4 * crate::LARGEST
        )
        .as_bytes(),
    )?;
    // Debian has it in /usr/sbin, which is not on every user's path.
    let path = format!("{}:/usr/sbin:/usr/local/sbin", std::env::var("PATH").unwrap_or_default());
    let _broker = Command::new("sh")
        .args(["-c", KEEP, "sh"])
        .arg(&file)
        .env("PATH", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    crate::block_on(async {
        let patience = Instant::now() + Duration::from_secs(10);
        let client = loop {
            match connect(endpoint).await {
                Ok(client) => break client,
                Err(error) if Instant::now() > patience => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        let mut requests = client.subscribe(SUBJECT).await?;
        client.flush().await?;
        contender::ready();
        while let Some(request) = requests.next().await {
            let answer = match carry.answer(&request.payload)? {
                Some(answer) => answer.into(),
                None => request.payload,
            };
            client.publish(request.reply.ok_or("a request without an inbox")?, answer).await?;
        }
        Err("the broker has gone".into())
    })
}

struct Worker {
    client: Client,
    content: Content,
}

impl Worker {
    async fn echo(&mut self) -> Result<Bytes> {
        Ok(self.client.request(SUBJECT, self.content.request()?).await?.payload)
    }
}

impl Caller for Worker {
    async fn call(&mut self) -> Result<()> {
        let answer = self.echo().await?;
        self.content.take(&answer)
    }
}

pub fn call(run: &Run, carry: Carry) -> Result<Report> {
    let content = Content::new(carry, run.payload);
    let shared = OnceCell::new();
    run.tasks(|_| async {
        let client = shared.get_or_try_init(|| connect(&run.endpoint)).await?.clone();
        let mut worker = Worker { client, content: content.clone() };
        content.check(&worker.echo().await?)?;
        Ok(worker)
    })
}
