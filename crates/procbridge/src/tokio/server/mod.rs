//! The async server: its tasks, and the state they share.

mod begin_session;
pub(super) mod connection;
pub(super) mod context;
mod server;
pub(super) mod sessions;
pub(super) mod shutdown;

pub use server::{RunningServer, Server};
pub use shutdown::ServerHandle;
