//! A server of either face.

use std::thread;

use procbridge::{Endpoint, Server, ServerConfig};

use crate::Face;
use crate::methods;

/// Serves on the socket file and a port of 127.0.0.1 until the standard input closes.
pub(crate) fn serve(face: Face, path: &str, config: ServerConfig) {
    let unix = format!("unix:{path}");
    match face {
        Face::Blocking => {
            let server =
                Server::bind_with(unix.as_str(), config).unwrap().and_bind("tcp:127.0.0.1:0").unwrap();
            let handle = server.handle();
            at_end_of_input(move || handle.shutdown());
            ready(&server.endpoints());
            server.serve(methods::blocking()).unwrap();
        }
        Face::Tokio => {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            runtime.unwrap().block_on(async {
                use procbridge::tokio::Server;
                let server =
                    Server::bind_with(unix.as_str(), config).unwrap().and_bind("tcp:127.0.0.1:0").unwrap();
                let handle = server.handle();
                at_end_of_input(move || handle.shutdown());
                ready(&server.endpoints());
                server.serve(methods::asynchronous()).await.unwrap();
            });
        }
    }
}

fn at_end_of_input(stop: impl FnOnce() + Send + 'static) {
    thread::spawn(move || {
        for _ in std::io::stdin().lines().map_while(Result::ok) {}
        stop();
    });
}

fn ready(endpoints: &[Endpoint]) {
    let endpoints: Vec<_> = endpoints.iter().map(ToString::to_string).collect();
    println!("ready {}", endpoints.join(" "));
}
