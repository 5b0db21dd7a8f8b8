//! A server's life seen from outside: who may connect, how it stops, what it survives, and what it leaves behind.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    reason = "tests may stop at the first surprise"
)]

mod demo;

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use demo::{Demo, WATCHDOG, binary, request};
use serde_json::json;

/// Returns a shell that sets something up and then becomes the server.
fn after(setup: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{setup}; exec \"$0\" \"$@\"")]).arg(binary());
    command
}

fn processor_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

#[test]
fn the_socket_is_private_under_any_mask_and_gone_at_the_end() {
    let demo = Demo::start_as(after("umask 000"), &[]);
    let path = demo.endpoints[1].strip_prefix("unix:").unwrap().to_string();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(demo.terminate(), Some(0));
    assert!(!Path::new(&path).exists());
}

#[test]
fn other_users_are_refused() {
    if !rustix::process::geteuid().is_root() {
        // Only root can become another user; CI is root.
        return;
    }
    const NOBODY: u32 = 65534;
    let dir = tempfile::tempdir().unwrap();
    let open =
        |path: &Path| fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    open(dir.path());
    // The binary may stand where no other user can reach it. Another process copies it. A file that this process has
    // written to may still be open in a child that another test begins, and then it cannot be run.
    let copy = dir.path().join("procbridge");
    assert!(Command::new("cp").arg(binary()).arg(&copy).status().unwrap().success());
    let name = format!("unix:@procbridge-life-{}", std::process::id());
    let private = format!("unix:{}/private.sock", dir.path().display());
    let shared = format!("unix:{}/shared.sock?mode=0666", dir.path().display());
    let _demo = Demo::start(&[&name, &private, &shared]);
    let call = |endpoint: &str, uid| {
        let output =
            Command::new(&copy).args(["call", endpoint, "echo", "1"]).uid(uid).gid(uid).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    // An abstract name has no mode: the server looks at who it is.
    let (status, message) = call(&name, NOBODY);
    assert_eq!(status, Some(3), "{message}");
    assert!(message.contains("only the server's own user may connect"), "{message}");
    let (status, message) = call(&private, NOBODY);
    assert_eq!(status, Some(7), "{message}");
    assert!(message.contains("permission denied"), "{message}");
    let path = shared.split('?').next().unwrap();
    assert_eq!(call(path, NOBODY).0, Some(0));
    assert_eq!(call(&name, 0).0, Some(0));
}

#[test]
fn a_killed_server_is_replaced_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = format!("unix:{}/again.sock", dir.path().display());
    for _ in 0..10 {
        let mut demo = Demo::start(&[&endpoint]);
        demo.check(&endpoint);
        let second = Command::new(binary()).args(["serve", &endpoint, "--demo"]).output().unwrap();
        assert_eq!(second.status.code(), Some(4), "{second:?}");
        let message = String::from_utf8(second.stderr).unwrap();
        assert!(message.contains("another server listens there"), "{message}");
        demo.check(&endpoint);
        demo.child.kill().unwrap();
        demo.child.wait().unwrap();
        let started = Instant::now();
        let next = Demo::start(&[&endpoint]);
        next.check(&endpoint);
        assert!(started.elapsed() < Duration::from_secs(2));
    }
}

#[test]
fn stopping_loses_no_call() {
    for transport in 0..2 {
        let demo = Demo::start(&[]);
        let target = demo.endpoints[transport].clone();
        let callers: Vec<_> = (0..200)
            .map(|_| {
                let mut stream = demo.connect(&target);
                stream.write_all(&request(r#"{"method":"sleep","payload":0.7}"#)).unwrap();
                stream
            })
            .collect();
        // The last of them is at work when one that came after it is answered.
        demo.check(&target);
        let stopping = thread::spawn(move || demo.terminate());
        for mut caller in callers {
            assert_eq!(caller.answer().expect("a call was lost").body, json!({}));
        }
        assert_eq!(stopping.join().unwrap(), Some(0));
    }
}

#[test]
fn running_out_of_descriptors_is_survived() {
    let demo = Demo::start_as(after("ulimit -n 64"), &[]);
    let endpoint = demo.endpoints[1].clone();
    for _ in 0..5 {
        let before = processor_time(demo.child.id());
        let started = Instant::now();
        let streams: Vec<_> = (0..200).map(|_| demo.connect(&endpoint)).collect();
        while started.elapsed() < Duration::from_millis(500) {
            thread::sleep(Duration::from_millis(20));
        }
        let spent = processor_time(demo.child.id()) - before;
        assert!(spent < Duration::from_millis(150), "{spent:?} of processor time in {:?}", started.elapsed());
        drop(streams);
        let freed = Instant::now();
        demo.recover(&endpoint);
        assert!(freed.elapsed() < Duration::from_secs(3), "{:?}", freed.elapsed());
    }
}

#[test]
fn a_stopped_or_killed_server_ends_a_call_of_the_command_line() {
    let mut demo = Demo::start(&[]);
    let pid = rustix::process::Pid::from_child(&demo.child);
    for endpoint in demo.endpoints.clone() {
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
        let started = Instant::now();
        let output = Command::new(binary())
            .args(["call", &endpoint, "echo", "1", "--timeout", "300ms"])
            .output()
            .unwrap();
        let took = started.elapsed();
        assert_eq!(output.status.code(), Some(5), "{output:?}");
        assert!(took >= Duration::from_millis(290) && took < Duration::from_secs(2), "{took:?}");
        assert!(String::from_utf8(output.stderr).unwrap().starts_with("error: no answer within the timeout"));
        rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
        demo.check(&endpoint);
    }
    let callers: Vec<_> = demo
        .endpoints
        .iter()
        .map(|endpoint| {
            Command::new(binary()).args(["call", endpoint, "sleep", "60"]).stderr(Stdio::piped()).spawn()
        })
        .collect();
    // They are at work when their connections stand beside the one that asks.
    let deadline = Instant::now() + WATCHDOG;
    let descriptors = |pid: u32| fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let idle = 8;
    while descriptors(demo.child.id()) < idle && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
    demo.child.kill().unwrap();
    for caller in callers {
        let output = caller.unwrap().wait_with_output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        // Whether it had connected when the server was killed decides.
        assert!(matches!(output.status.code(), Some(4 | 6)), "{message}");
        assert_eq!(message.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{message}");
    }
}
