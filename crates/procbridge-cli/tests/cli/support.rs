//! Runs the program and the servers that it talks to. Everything that waits has a watchdog.

mod packet;
mod process;
mod program;
mod server;

pub(crate) use packet::{hello, packet, request, session_packet};
pub(crate) use process::{
    Pipe, WATCHDOG, end_of, fill, first_line, is_alive, on_a_thread, signal, wait_until, wait_until_dead,
};
pub(crate) use program::{Run, Running, Talking, program, program_after, run, run_with};
pub(crate) use server::{Serving, always, fake, lying, stats};
