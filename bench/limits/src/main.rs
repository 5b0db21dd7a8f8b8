//! The limits: bytes of the sizes that our packets have, bare or with the work that no implementation can leave out.
//!
//! | contender | what it does |
//! |---|---|
//! | `raw` | blocking ping-pong on lasting connections, a thread for each on both sides |
//! | `raw-tokio` | the same on a runtime of one thread |
//! | `raw-tokio-idle` | many such connections that do nothing |
//! | `raw-connect`, `-2`, `-8` | a connection for each call; 1, 2 or 8 threads that accept and serve inline |
//! | `raw-pipelined` | 64 requests in one write, all answers of a read in one write |
//! | `raw-bulk`, `raw-bulk-tuned` | an echo of large messages with the system's socket buffers, or with larger ones |
//! | `same-work` | `raw` with a `Value` parsed and written, a header, a call id and a deadline on both sides |
//! | `same-work-bulk` | `raw-bulk` that copies each byte into a packet and checks it, with socket buffers as ours |

mod bulk;
mod connect;
mod packet;
mod pingpong;
mod pingpong_tokio;
mod pipelined;
mod same_work;
mod same_work_bulk;
mod socket;

use std::process::ExitCode;

use contender::Contender;

fn main() -> ExitCode {
    contender::main(&[
        Contender { name: "raw", serve: pingpong::serve, call: pingpong::call },
        Contender { name: "raw-tokio", serve: pingpong_tokio::serve, call: pingpong_tokio::call },
        Contender { name: "raw-tokio-idle", serve: pingpong_tokio::serve, call: pingpong_tokio::idle },
        Contender { name: "raw-connect", serve: |at| connect::serve(at, 1), call: connect::call },
        Contender { name: "raw-connect-2", serve: |at| connect::serve(at, 2), call: connect::call },
        Contender { name: "raw-connect-8", serve: |at| connect::serve(at, 8), call: connect::call },
        Contender { name: "raw-pipelined", serve: pipelined::serve, call: pipelined::call },
        Contender { name: "same-work", serve: same_work::serve, call: same_work::call },
        Contender { name: "same-work-bulk", serve: same_work_bulk::serve, call: same_work_bulk::call },
        Contender { name: "raw-bulk", serve: |at| bulk::serve(at, None), call: |run| bulk::call(run, None) },
        Contender {
            name: "raw-bulk-tuned",
            serve: |at| bulk::serve(at, Some(bulk::BUFFER)),
            call: |run| bulk::call(run, Some(bulk::BUFFER)),
        },
    ])
}
