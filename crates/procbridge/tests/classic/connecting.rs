//! Clients before their first call: connecting, and what their server may be.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use procbridge::{Client, ClientConfig, Endpoint, ErrorKind, Router, ServerConfig, SessionMode, code};
use serde_json::{Value, json};

use crate::support::faces::{Face, TRANSPORTS, TestClient, TestServer, Transport, code_of};
use crate::support::{each_face, watched};

#[test]
fn connecting_waits_for_the_servers_answer() {
    each_face(|face| {
        TRANSPORTS.iter().for_each(|&transport| {
            let server = TestServer::start(face, transport, Router::new(), ServerConfig::new());
            let endpoint = &server.endpoint;
            let open = TestClient::connect(face, endpoint, ClientConfig::new()).unwrap();
            assert_eq!(open, format!("Client({endpoint}, session: open)"));
            let off =
                TestClient::connect(face, endpoint, ClientConfig::new().with_sessions(SessionMode::Off))
                    .unwrap();
            assert_eq!(off, format!("Client({endpoint}, session: none)"));
            // The server does not know the method, and has answered.
            let config = ServerConfig::new().without_ping().without_sessions();
            let classic = TestServer::start(face, transport, Router::new(), config);
            TestClient::connect(face, &classic.endpoint, ClientConfig::new()).unwrap();
            let required = ClientConfig::new().with_sessions(SessionMode::Required);
            assert!(TestClient::connect(face, &classic.endpoint, required).unwrap_err().is_sessionless());
        })
    });
}

#[test]
fn connecting_fails_where_no_server_serves_this_client() {
    each_face(|face| {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let absent = TestClient::connect(face, &free.into(), ClientConfig::new()).unwrap_err();
        assert_eq!(absent.kind(), ErrorKind::Connect, "{absent:?}");
        let server =
            TestServer::start(face, Transport::Tcp, Router::new(), ServerConfig::new().with_token("secret"));
        let denied = TestClient::connect(face, &server.endpoint, ClientConfig::new()).map(Value::from);
        assert_eq!(code_of(denied), code::DENIED);
        TestClient::connect(face, &server.endpoint, ClientConfig::new().with_token("secret")).unwrap();
        // It accepts, and is silent.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let config = ClientConfig::new().with_call_timeout(Duration::from_millis(100));
        let late = TestClient::connect(face, &silent.local_addr().unwrap().into(), config).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Timeout, "{late:?}");
    });
}

#[test]
fn a_lazy_client_may_be_there_before_its_server() {
    watched(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let client = Client::new(path.as_path()).unwrap();
        assert_eq!(client.request::<Value>("$/ping", &1).unwrap_err().kind(), ErrorKind::Connect);
        let _server =
            TestServer::start_at(Face::Blocking, &path.clone().into(), Router::new(), ServerConfig::new());
        assert_eq!(client.request::<Value>("$/ping", &1).unwrap(), json!(1));
        let clients = [Client::connect(path.as_path()), Client::connect(&path), Client::connect(path)];
        let pings = clients.into_iter().map(|client| client?.request::<i32>("$/ping", &2));
        assert_eq!(pings.collect::<Result<Vec<_>, _>>().unwrap(), [2, 2, 2]);
    });
}

#[test]
fn an_endpoint_is_made_from_what_a_program_has() {
    let text = |endpoint: Endpoint| endpoint.to_string();
    assert_eq!(text(("localhost", 8000).into()), "tcp:localhost:8000");
    assert_eq!(text(("::1".to_string(), 8000).into()), "tcp:[::1]:8000");
    assert_eq!(text(Path::new("/run/app.sock").into()), "unix:/run/app.sock");
    assert_eq!(text(Path::new("/run/a?b").into()), "unix:/run/a%3Fb");
    let too_long = Client::new(Path::new(&"x".repeat(200))).unwrap_err();
    assert_eq!(too_long.kind(), ErrorKind::InvalidEndpoint, "{too_long}");
    assert_eq!(Client::new(("a b", 1)).unwrap_err().kind(), ErrorKind::InvalidEndpoint);
}
