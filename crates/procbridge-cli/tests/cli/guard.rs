//! Commands of `procbridge serve --exec` when the server is killed, and when it is the first process of a container.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};

use crate::support::{Pipe, Running, Serving, is_alive, program, run, signal, wait_until, wait_until_dead};

/// Returns the processes that have `name=1` in their environment.
fn processes_with(name: &str) -> Vec<String> {
    let mark = format!("{name}=1");
    let has_mark = |id: &String| {
        let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|entry| entry == mark.as_bytes())
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().into_string().ok());
    ids.filter(|id| id.parse::<u32>().is_ok()).filter(has_mark).filter(|id| is_alive(id)).collect()
}

/// Returns the guard of a server.
fn guard_of(server: u32) -> Option<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let mut ids = entries.filter_map(|entry| entry.file_name().into_string().ok());
    ids.find(|id| {
        let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let status = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let parent = status.rsplit(')').next().unwrap_or_default().split_whitespace().nth(1);
        line.starts_with(b"pb-guard\0") && parent == Some(&server.to_string()) && is_alive(id)
    })
}

#[test]
fn commands_and_all_that_they_started_die_with_a_killed_server() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = Pipe::new(directory.path());
    let path = pipe.path.display();
    let stubborn = "trap '' TERM HUP INT QUIT; ";
    for line in [
        format!("sleep 1000 & echo $$ $! > '{path}'; wait"),
        format!(
            "{stubborn}sh -c \"sh -c 'sleep 1000 & sleep 1000' & sleep 1000\" & echo $$ $! > '{path}'; wait"
        ),
        format!("{stubborn}echo $$ $$ > '{path}'; exec >&- 2>&-; while :; do sleep 1000; done"),
    ] {
        let server = Serving::start(&["127.0.0.1:0", "--shell", "--exec", &line]);
        let call = server.begin_call(&["m"]);
        let commands = pipe.read();
        assert!(commands.split(' ').all(is_alive));
        server.signal("KILL");
        commands.split(' ').for_each(wait_until_dead);
        call.end();
    }
}

#[test]
fn no_command_is_left_by_a_server_that_is_killed_while_it_starts_them() {
    for round in 0..6 {
        let name = format!("PB_TEST_{}_{round}", std::process::id());
        let mut command = program(&["serve", "127.0.0.1:0", "--shell", "--exec", "sleep 1000 & sleep 1000"]);
        command.env(&name, "1");
        let server = Serving::start_as(command);
        let calls: Vec<_> = (0..20).map(|_| server.begin_call(&["m"])).collect();
        // The more have begun, the more are about to.
        wait_until("some commands run", || processes_with(&name).len() > 1 + 5 * round);
        server.signal("KILL");
        wait_until("all have ended", || processes_with(&name).is_empty());
        calls.into_iter().for_each(|call| drop(call.end()));
        assert_eq!(processes_with(&name), Vec::<String>::new());
    }
}

#[test]
fn a_program_that_a_command_left_behind_lives_on_and_the_guard_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = Pipe::new(directory.path());
    let line = format!("sleep 1000 >&- 2>&- & echo $! > '{}'", pipe.path.display());
    for (how, code) in [("TERM", Some(0)), ("KILL", None)] {
        let server = Serving::start(&["127.0.0.1:0", "--shell", "--exec", &line]);
        let guard = guard_of(server.id()).unwrap();
        let call = server.begin_call(&["m"]);
        let left = pipe.read();
        call.end().prints("null\n");
        server.signal(how);
        assert_eq!(server.end().0, code);
        wait_until_dead(&guard);
        assert!(is_alive(&left));
        signal(left.parse().unwrap(), "KILL");
    }
}

#[test]
fn a_guard_does_not_end_by_a_signal_and_one_that_is_killed_or_stopped_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = Pipe::new(directory.path());
    let line = format!(
        "case $PROCBRIDGE_METHOD in long) sleep 1000 & echo $! > '{}'; wait;; esac",
        pipe.path.display()
    );
    let server = Serving::start(&["127.0.0.1:0", "--shell", "--exec", &line]);
    let call = server.begin_call(&["long"]);
    let child = pipe.read();
    let guard = guard_of(server.id()).unwrap();
    for name in ["TERM", "INT", "HUP", "QUIT"] {
        signal(guard.parse().unwrap(), name);
    }
    server.call(&["m"]).prints("null\n");
    assert_eq!(guard_of(server.id()), Some(guard.clone()));
    signal(guard.parse().unwrap(), "KILL");
    wait_until_dead(&guard);
    server.call(&["m"]).prints("null\n");
    let second = guard_of(server.id()).unwrap();
    assert_ne!(second, guard);
    assert!(is_alive(&child));
    // The new one knows what ran before it.
    server.signal("KILL");
    wait_until_dead(&child);
    wait_until_dead(&second);
    call.end();
}

/// The first process of a new namespace, or nothing where this user may make none.
struct First {
    outer: Child,
    id: u32,
}

impl First {
    fn start(args: &[&str]) -> Option<Self> {
        let program = program(args);
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
        unshare.arg(program.get_program()).args(program.get_args());
        let mut outer = unshare.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let children = format!("/proc/{0}/task/{0}/children", outer.id());
        let mut id = None;
        wait_until("it has begun, or cannot", || {
            id = fs::read_to_string(&children).ok().and_then(|children| children.trim().parse().ok());
            id.is_some() || outer.try_wait().unwrap().is_some()
        });
        Some(Self { outer, id: id? })
    }
}

impl Drop for First {
    fn drop(&mut self) {
        let _ = self.outer.kill();
        let _ = self.outer.wait();
    }
}

/// Returns the children of a process that have ended and are not collected.
fn zombies(parent: u32) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let is_zombie = |entry: &fs::DirEntry| {
        let status = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let mut fields = status.rsplit(')').next().unwrap_or_default().split_whitespace();
        fields.next() == Some("Z") && fields.next() == Some(&parent.to_string())
    };
    entries.filter(is_zombie).count()
}

#[test]
fn the_first_process_of_a_container_collects_what_commands_leave_behind() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = Pipe::new(directory.path());
    // A TCP port, as Unix sockets between namespaces are another matter.
    let endpoint = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().to_string()
    };
    let line = format!("( cat '{}' >/dev/null 2>&1 <&- & ) ; echo 1; exit 3", pipe.path.display());
    let line = format!("if [ $PROCBRIDGE_METHOD = m ]; then {line}; else cat; fi");
    let Some(mut first) = First::start(&["serve", &endpoint, "--shell", "--exec", &line]) else {
        eprintln!("no namespaces here");
        return;
    };
    wait_until("it serves", || run(&["call", &endpoint, "cat", "5"]).stdout == "5\n");
    for _ in 0..5 {
        // The status of the command is its own, whatever is collected beside it.
        let failed = run(&["call", &endpoint, "m"]);
        assert!(failed.stderr.contains("exited with status 3"), "{failed:?}");
    }
    // Those that were left behind end while a command runs on, and while others do.
    let call = Running::start(program(&["call", &endpoint, "m"]), b"");
    fs::OpenOptions::new().write(true).open(&pipe.path).unwrap();
    assert_eq!(call.end().code, Some(3));
    for _ in 0..20 {
        run(&["call", &endpoint, "cat", "5"]).prints("5\n");
    }
    let _ = fs::OpenOptions::new().write(true).open(&pipe.path);
    wait_until("all are collected", || zombies(first.id) == 0);
    signal(first.id, "TERM");
    let status = first.outer.wait().unwrap();
    assert_eq!((status.code(), status.signal()), (Some(0), None));
}
