//! Servers and clients in namespaces of their own, as containers have them: each side is a process, one of them inside.
#![allow(clippy::print_stdout, reason = "what is skipped is printed")]

use std::env;
use std::fs;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use procbridge::{ClientConfig, Endpoint, ErrorKind, Outcome, Router, ServerConfig, SessionMode};
use serde_json::json;

use crate::support::faces::{ClientKind, FACES, Face, TestClient, TestServer};
use crate::support::{eventually, watched};

/// How a process is put into namespaces of its own, and as which user.
#[derive(Clone, Copy, Debug)]
struct Inside {
    unshare: &'static [&'static str],
    uid: Option<u32>,
}

const PID: Inside = Inside { unshare: &["--pid", "--fork", "--mount-proc", "--kill-child"], uid: None };
const USER: &[&str] = &["--user", "--map-root-user", "--pid", "--fork", "--kill-child"];
const UNMAPPED: &[&str] = &["--user", "--pid", "--fork", "--kill-child"];
/// Each without the last two as the user of the test, which is root in CI.
const ALL: [Inside; 5] = [
    PID,
    Inside { unshare: USER, uid: None },
    Inside { unshare: UNMAPPED, uid: None },
    Inside { unshare: USER, uid: Some(ORDINARY) },
    Inside { unshare: UNMAPPED, uid: Some(ORDINARY) },
];
/// A user that is not root.
const ORDINARY: u32 = 21_500;
/// Tells this program, run again, which part to play.
const PART: &str = "PROCBRIDGE_TEST_PART";

#[test]
fn each_call_runs_once_whichever_side_is_in_a_namespace() {
    for inside in ALL {
        if !is_allowed(inside) {
            continue;
        }
        for &server in FACES {
            for &client in FACES {
                for server_is_inside in [true, false] {
                    watched(move || {
                        let dir = directory(inside.uid);
                        let endpoint = format!("unix:{}/s.sock", dir.path().display());
                        let outside = Inside { unshare: &[], ..inside };
                        let (here, there) =
                            if server_is_inside { (inside, outside) } else { (outside, inside) };
                        let serving = start(here, &format!("serve {server:?} {endpoint}"));
                        wait_for_listener(dir.path());
                        let output = run(there, &format!("charge {client:?} {endpoint}"));
                        let what = format!("{inside:?} {server:?} {client:?} inside: {server_is_inside}");
                        assert!(output.status.success(), "{what}: {}", text(&output));
                        end(serving);
                    });
                }
            }
        }
    }
}

#[test]
fn a_server_whose_user_stands_for_others_serves_none_of_them_at_an_abstract_name() {
    let nobody = &["--user", "--map-user=65534", "--map-group=65534", "--fork", "--kill-child"];
    let inside = Inside { unshare: nobody, uid: Some(ORDINARY) };
    if !is_allowed(inside) {
        return;
    }
    for &server in FACES {
        watched(move || {
            let endpoint = format!("unix:@procbridge-nobody-{server:?}-{}?user=any", std::process::id());
            let serving = start(inside, &format!("serve {server:?} {endpoint}"));
            for uid in [ORDINARY + 1, ORDINARY] {
                let other = Inside { unshare: &[], uid: Some(uid) };
                let output = run(other, &format!("denied {server:?} {endpoint}"));
                assert!(output.status.success(), "{}", text(&output));
            }
            end(serving);
        });
    }
}

#[test]
fn another_users_server_gets_no_call_unless_the_endpoint_allows_its_user() {
    let other = Inside { unshare: &[], uid: Some(ORDINARY) };
    if !is_allowed(other) {
        return;
    }
    for &server in FACES {
        for &client in FACES {
            watched(move || {
                let dir = directory(other.uid);
                let endpoint = format!("unix:{}/s.sock?mode=0666", dir.path().display());
                let serving = start(other, &format!("serve {server:?} {endpoint}"));
                wait_for_listener(dir.path());
                for sessions in [SessionMode::Auto, SessionMode::Off] {
                    let kind = ClientKind { face: client, sessions };
                    let client = |endpoint: &str| {
                        let config = ClientConfig::new().with_token("secret");
                        TestClient::new(kind, &endpoint.parse().unwrap(), config)
                    };
                    let error = client(&endpoint).request("charge", &json!(null)).unwrap_err();
                    assert_eq!(
                        (error.kind(), error.outcome()),
                        (ErrorKind::Denied, Outcome::NotSent),
                        "{error}"
                    );
                    assert!(error.to_string().contains("user=21500"), "{error}");
                    for user in ["any", "21500"] {
                        let allowed = client(&format!("{endpoint}&user={user}"));
                        assert_eq!(allowed.request("runs", &json!(null)).unwrap(), json!(0));
                    }
                }
                end(serving);
            });
        }
    }
}

#[test]
fn a_relative_path_is_that_of_the_directory_in_which_it_was_bound() {
    for &face in FACES {
        watched(move || {
            let dir = directory(None);
            let here = Inside { unshare: &[], uid: None };
            let output = run(here, &format!("move {face:?} {}", dir.path().display()));
            assert!(output.status.success(), "{}", text(&output));
        });
    }
}

/// Not a test by itself: the part that this program plays when a test has started it again.
#[test]
fn part() {
    let Ok(part) = env::var(PART) else { return };
    let words: Vec<_> = part.split(' ').collect();
    let [part, face, endpoint] = words[..] else { panic!("{part:?}") };
    let face = *FACES.iter().find(|known| format!("{known:?}") == face).unwrap();
    match part {
        "serve" => serve(face, endpoint),
        "charge" => charge(face, &endpoint.parse().unwrap()),
        "denied" => denied(face, &endpoint.parse().unwrap()),
        "move" => change_directory(face, Path::new(endpoint)),
        other => panic!("{other:?}"),
    }
}

/// Serves until the standard input ends.
fn serve(face: Face, endpoint: &str) {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let router = Router::new()
        .method("charge", || RUNS.fetch_add(1, Ordering::SeqCst) + 1)
        .method("runs", || RUNS.load(Ordering::SeqCst));
    let server = TestServer::start_at(face, &endpoint.parse().unwrap(), router, ServerConfig::new());
    io::stdin().read_to_end(&mut Vec::new()).unwrap();
    server.stop();
}

/// Charges three times on a session, three times with a connection for each call, and twice without an answer.
fn charge(face: Face, endpoint: &Endpoint) {
    let mut charged = 0;
    for sessions in [SessionMode::Auto, SessionMode::Off] {
        let client = TestClient::new(ClientKind { face, sessions }, endpoint, ClientConfig::new());
        for _ in 0..3 {
            charged += 1;
            assert_eq!(client.request("charge", &json!(null)).unwrap(), json!(charged));
        }
        client.notify("charge", &json!(null)).unwrap();
        charged += 1;
        let mut runs = json!(null);
        eventually(|| {
            runs = client.request("runs", &json!(null)).unwrap();
            runs.as_u64() >= Some(charged)
        });
        assert_eq!(runs, json!(charged));
    }
}

/// Checks that the server refuses a client, as soon as there is a server.
fn denied(face: Face, endpoint: &Endpoint) {
    let client = TestClient::new(face, endpoint, ClientConfig::new());
    let mut answer = None;
    eventually(|| match client.request("charge", &json!(null)) {
        Err(error) if error.kind() == ErrorKind::Connect => false,
        other => {
            answer = Some(other);
            true
        }
    });
    let error = answer.unwrap().unwrap_err();
    assert_eq!(error.remote().unwrap().code(), Some(procbridge::code::DENIED), "{error}");
}

/// Changes the working directory of a server to one with files of the same names.
fn change_directory(face: Face, base: &Path) {
    let (one, two) = (base.join("one"), base.join("two"));
    for directory in [&one, &two] {
        fs::create_dir(directory).unwrap();
    }
    fs::write(two.join("app.sock"), "precious").unwrap();
    fs::write(two.join("app.sock.lock"), "precious").unwrap();
    env::set_current_dir(&one).unwrap();
    let server =
        TestServer::start_at(face, &"./app.sock".parse().unwrap(), Router::new(), ServerConfig::new());
    assert!(one.join("app.sock").exists());
    env::set_current_dir(&two).unwrap();
    server.stop();
    assert_eq!(fs::read_dir(&one).unwrap().count(), 0);
    for name in ["app.sock", "app.sock.lock"] {
        assert_eq!(fs::read_to_string(two.join(name)).unwrap(), "precious");
    }
}

/// Returns a directory that the user may write to.
fn directory(uid: Option<u32>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    if uid.is_some() {
        std::os::unix::fs::chown(dir.path(), uid, uid).unwrap();
    }
    dir
}

/// Whether this machine lets such namespaces be made; a refusal is printed.
fn is_allowed(inside: Inside) -> bool {
    if inside.uid.is_some() && !rustix::process::geteuid().is_root() {
        println!("skipped {inside:?}: only root can run as another user");
        return false;
    }
    match command(inside, Path::new("true")).output() {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            println!("skipped {inside:?}: {}", text(&output));
            false
        }
        Err(error) => {
            println!("skipped {inside:?}: {error}");
            false
        }
    }
}

fn command(inside: Inside, program: &Path) -> Command {
    let mut command = if inside.unshare.is_empty() {
        Command::new(program)
    } else {
        let mut command = Command::new("unshare");
        command.args(inside.unshare).arg("--").arg(program);
        command
    };
    if let Some(uid) = inside.uid {
        command.uid(uid).gid(uid);
    }
    command
}

fn playing(inside: Inside, part: &str) -> Command {
    let mut command = command(inside, &env::current_exe().unwrap());
    command.args(["--exact", "namespaces::part", "--nocapture"]).env(PART, part);
    command
}

fn start(inside: Inside, part: &str) -> Child {
    playing(inside, part).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}

/// Waits until a server listens in `dir`. Its file is there before that.
fn wait_for_listener(dir: &Path) {
    eventually(|| UnixStream::connect(dir.join("s.sock")).is_ok());
}

fn run(inside: Inside, part: &str) -> Output {
    playing(inside, part).output().unwrap()
}

/// Ends a server, which must stop in an orderly way.
fn end(mut serving: Child) {
    drop(serving.stdin.take());
    assert!(serving.wait().unwrap().success());
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
