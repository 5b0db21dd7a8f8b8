//! The parts that all contenders share: the command line, the measuring loop and the line of JSON that it prints.
//!
//! A program lists its contenders and hands over:
//!
//! ```no_run
//! use contender::{Contender, Endpoint, Report, Result, Run};
//!
//! fn main() {
//!     contender::main(&[Contender { name: "raw", serve, call }]);
//! }
//!
//! /// Listens, says `contender::ready()`, and serves until the process is ended from outside.
//! fn serve(endpoint: &Endpoint) -> Result<()> {
//!     contender::ready();
//!     loop {
//!         std::thread::park();
//!     }
//! }
//!
//! /// Connects `run.in_flight` times and calls for as long as the loop says.
//! fn call(run: &Run) -> Result<Report> {
//!     let payload = run.payload.value();
//!     run.threads(|_worker| {
//!         let mut connection = run.endpoint.to_string();
//!         let payload = payload.clone();
//!         Ok(move || {
//!             connection.push_str(&payload.to_string());
//!             Ok(())
//!         })
//!     })
//! }
//! ```
//!
//! Blocking contenders use [`Run::threads`]. Async ones use [`Run::tasks`], or [`Run::local_tasks`] where futures are
//! not `Send`. A contender that sends many calls at once and waits for all of them uses [`Run::batches`].

mod command;
mod cpu;
mod endpoint;
mod meter;
mod payload;
mod report;
mod run;

pub use command::{Contender, main, ready};
pub use endpoint::Endpoint;
pub use payload::Payload;
pub use report::Report;
pub use run::{Caller, LocalCaller, Run};

/// Whatever went wrong, with its message.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The result that contenders return.
pub type Result<T> = std::result::Result<T, Error>;
