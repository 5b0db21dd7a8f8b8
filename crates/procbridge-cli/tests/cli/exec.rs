//! `procbridge serve --exec`: every way in which a command can end becomes an answer.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::{Pipe, Run, Serving, is_alive, program_after, run, wait_until_dead};

/// Returns a server that gives every call to a line of shell.
fn shell(line: &str, options: &[&str]) -> Serving {
    Serving::start(&[&["127.0.0.1:0", "--shell", "--exec", line], options].concat())
}

#[track_caller]
fn answers(line: &str, args: &[&str]) -> Run {
    shell(line, &[]).call(args)
}

#[test]
fn standard_output_is_the_result() {
    answers("cat", &["m", "{\"a\":[1,2.5]}"]).prints("{\"a\":[1,2.5]}\n");
    answers("cat", &["m"]).prints("null\n");
    answers("true", &["m"]).prints("null\n");
    answers("echo", &["m"]).prints("null\n");
    answers("echo hello; echo world", &["m"]).prints("\"hello\\nworld\"\n");
    answers("printf 'a\\n\\n'", &["m"]).prints("\"a\\n\"\n");
    answers("printf ' [1,\\n2] \\n'", &["m"]).prints("[1,2]\n");
    answers("echo 12", &["m"]).prints("12\n");
    answers("echo 012", &["m"]).prints("\"012\"\n");
    answers("printf '\\377'", &["m"])
        .fails(3, "error: the command's output is not UTF-8\n  code: exec.output\n");
}

#[test]
fn json_text_goes_both_ways_untouched() {
    let text = "{\"z\":18446744073709551617,\"a\":1.10,\"e\":1E400}";
    answers("cat", &["m", text]).prints(&format!("{text}\n"));
}

#[test]
fn words_are_split_without_a_shell() {
    let server = Serving::start(&["127.0.0.1:0", "--exec", "printf '%s|' 'a b' \"c\" $HOME ;"]);
    server.call(&["m"]).prints("\"a b|c|$HOME|;|\"\n");
}

#[test]
fn method_and_peer_are_in_the_environment() {
    let line = "printf '%s %s' \"${PROCBRIDGE_METHOD-unset}\" \"$PROCBRIDGE_PEER\"";
    let directory = tempfile::tempdir().unwrap();
    let path = format!("{}/a.sock", directory.path().display());
    let server = Serving::start(&["127.0.0.1:0", &path, "--shell", "--exec", line]);
    let run = server.call(&["-r", "a b\n$(id)"]);
    assert!(run.stdout.starts_with("a b\n$(id) tcp:127.0.0.1:"), "{run:?}");
    assert!(server.call(&["-r", ""]).stdout.starts_with(" tcp:"));
    assert!(server.call(&["-r", "--no-method"]).stdout.starts_with("unset tcp:"));
    let run = crate::support::run(&["call", "-r", &path, "m"]);
    assert!(run.stdout.starts_with("m unix:uid="), "{run:?}");
}

#[test]
fn a_command_need_not_read_its_input() {
    let server = shell("exec <&-; echo 1", &[]);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("large.json");
    fs::write(&path, format!("\"{}\"", "x".repeat(1_000_000))).unwrap();
    server.call(&["m", &format!("@{}", path.display())]).prints("1\n");
    // One that writes while it reads does not block either side.
    let server = shell("cat", &[]);
    let run = server.call(&["m", &format!("@{}", path.display())]);
    assert_eq!((run.code, run.stdout.len()), (Some(0), 1_000_003));
}

#[test]
fn a_command_that_fails_is_an_error_with_its_last_words() {
    answers("echo result; exit 3", &["m"])
        .fails(3, "error: command exited with status 3\n  code: exec.failed\n  data: {\"status\":3}\n");
    answers("echo one >&2; printf 'two\\n \\n' >&2; exit 1", &["m"])
        .fails(3, "error: two\n  code: exec.failed\n  data: {\"status\":1}\n");
    answers("kill -9 $$", &["m"])
        .fails(3, "error: command was ended by signal 9\n  code: exec.failed\n  data: {\"signal\":9}\n");
    assert!(answers("nosuchcommand", &["m"]).stderr.contains("nosuchcommand"));
    let long = answers("head -c 5000 /dev/zero | tr '\\0' x >&2; exit 1", &["m"]);
    assert!(long.stderr.starts_with(&format!("error: {}\n", "x".repeat(1024))), "{long:?}");
    // Text on standard error without a failure goes nowhere.
    answers("echo warning >&2; echo 1", &["m"]).prints("1\n");
}

#[test]
fn too_much_output_is_an_error_and_the_end_of_the_command() {
    let server = shell("echo $$ >&2; exec cat /dev/zero", &["--max-body", "10KiB"]);
    server
        .call(&["m"])
        .fails(3, "error: the command's output exceeds the limit of 10240 B (max_body)\n  code: too_large\n");
    // Within the limit, but not with what is around it.
    let server = shell("head -c 10240 /dev/zero | tr '\\0' x", &["--max-body", "10KiB"]);
    let run = server.call(&["m"]);
    assert!(run.stderr.ends_with("  code: too_large\n"), "{run:?}");
}

/// Returns a line of shell whose child tells its process number and then outlives everything.
fn clinging(pipe: &Pipe) -> String {
    format!("sleep 1000 & echo $! > '{}'; wait", pipe.path.display())
}

#[test]
fn the_time_limit_kills_the_command_and_all_that_it_started() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = Pipe::new(directory.path());
    let server = shell(&clinging(&pipe), &["--timeout", "1s"]);
    let call = server.begin_call(&["m"]);
    let child = pipe.read();
    assert!(is_alive(&child));
    let run = call.end();
    assert_eq!(run.code, Some(3), "{run:?}");
    // The server's own look at the clock may come first.
    assert!(run.stderr.ends_with("\n  code: timeout\n"), "{run:?}");
    wait_until_dead(&child);
    // The caller's limit does the same.
    let server = shell(&clinging(&pipe), &[]);
    let call = server.begin_call(&["m", "--timeout", "1s"]);
    let child = pipe.read();
    assert_eq!(call.end().code, Some(5));
    wait_until_dead(&child);
}

#[test]
fn a_command_that_closes_its_output_is_waited_for() {
    let server = shell("exec >&- 2>&-; sleep 0.2; exit 7", &[]);
    server
        .call(&["m"])
        .fails(3, "error: command exited with status 7\n  code: exec.failed\n  data: {\"status\":7}\n");
}

#[test]
fn a_command_that_closes_its_output_gets_all_its_input() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).display().to_string();
    let (sent, got) = (file("sent.json"), file("got"));
    fs::write(&sent, format!("\"{}\"", "x".repeat(1_000_000))).unwrap();
    let server = shell(&format!("exec >/dev/null 2>&1; cat > '{got}'"), &[]);
    server.call(&["m", &format!("@{sent}")]).prints("null\n");
    assert_eq!(fs::metadata(&got).unwrap().len(), 1_000_003);
    // A process that it leaves running with its input open holds nothing up.
    let pipe = Pipe::new(directory.path());
    let line = format!("exec >/dev/null 2>&1; sleep 1000 <&0 & echo $! > '{}'", pipe.path.display());
    let server = shell(&line, &[]);
    let call = server.begin_call(&["m", &format!("@{sent}")]);
    let child = pipe.read();
    call.end().prints("null\n");
    assert!(is_alive(&child));
    crate::support::signal(child.parse().unwrap(), "KILL");
}

#[test]
fn an_orderly_end_waits_for_commands_and_a_hasty_one_kills_them() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = Pipe::new(directory.path());
    let server = shell(&format!("echo begun > '{}'; sleep 0.3; echo 1", pipe.path.display()), &[]);
    let call = server.begin_call(&["m"]);
    assert_eq!(pipe.read(), "begun");
    server.signal("TERM");
    call.end().prints("1\n");
    assert_eq!(server.end().0, Some(0));

    for (drain, signals) in [("100ms", 1), ("1h", 2)] {
        let server = shell(&clinging(&pipe), &["--drain", drain]);
        let call = server.begin_call(&["m"]);
        let child = pipe.read();
        server.signal("TERM");
        if signals == 2 {
            server.line();
            server.signal("TERM");
        }
        call.end().fails(3, "error: the server stopped before the method finished\n  code: cancelled\n");
        assert_eq!(server.end().0, Some(143));
        wait_until_dead(&child);
    }
}

#[test]
fn a_command_whose_answer_nobody_wants_outlives_its_caller() {
    let directory = tempfile::tempdir().unwrap();
    let (begun, done) = (Pipe::new(directory.path()), format!("{}/done", directory.path().display()));
    assert!(Command::new("mkfifo").arg(&done).status().unwrap().success());
    let line = format!("echo begun > '{}'; echo done > '{done}'", begun.path.display());
    let server = shell(&line, &[]);
    server.call(&["m", "--notify"]).prints("");
    // The caller has ended, and the command is let go on only now.
    assert_eq!(begun.read(), "begun");
    let done = Pipe { path: done.into() };
    assert_eq!(done.read(), "done");
    // A timeout holds for it all the same.
    let server = shell(&clinging(&begun), &["--timeout", "1s"]);
    server.call(&["m", "--notify"]).prints("");
    let child = begun.read();
    wait_until_dead(&child);
}

/// Returns a script that may not be run yet. Another process writes it. A file that this one has written to may still be
/// open in a child that another test begins, and then it cannot be run.
fn script(directory: &Path) -> String {
    let path = format!("{}/script", directory.display());
    let write = "printf '#!/bin/sh\necho 1\n' > \"$0\"";
    assert!(Command::new("sh").args(["-c", write, &path]).status().unwrap().success());
    path
}

#[test]
fn a_command_that_cannot_run_is_found_at_the_start() {
    let at_start = |exec: &str, message: &str| {
        run(&["serve", ":0", "--exec", exec]).fails(2, &format!("error: {message}\n"));
    };
    at_start("procbridge-no-such-command x", "the command \"procbridge-no-such-command\" is not found");
    at_start("/no/such x", "the command \"/no/such\" does not exist");
    at_start(" ", "the command of --exec is empty");
    at_start("''", "the command \"\" is not found");
    at_start(
        "cat 'x",
        "the command of --exec has an unclosed quote\n  help: close it, or use --shell to give the command to \"sh -c\"",
    );
    at_start("A=1;x", "the command \"A=1;x\" is not found\n  help: --shell gives it to \"sh -c\"");
    let directory = tempfile::tempdir().unwrap();
    let script = script(directory.path());
    let script = script.as_str();
    at_start(
        script,
        &format!(
            "the command {script:?} is not executable\n  help: \"chmod +x {script}\" makes a script executable"
        ),
    );
    fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
    Serving::start(&[":0", "--exec", script]).call(&["m"]).prints("1\n");
}

#[test]
fn a_script_that_no_program_reads_is_found_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = format!("{}/script", directory.path().display());
    for (first, message) in [
        ("#!/bin/sh\\r", "ends in CR LF\n  help: \"sed -i 's/\\r$//' "),
        ("#!/usr/bin/env sh\\r", "ends in CR LF\n"),
        ("#! /no/such/sh -e", "needs \"/no/such/sh\", which does not exist\n"),
    ] {
        let write = format!("printf '{first}\\n echo 1\\n' > \"$0\"; chmod +x \"$0\"");
        assert!(Command::new("sh").args(["-c", &write, &path]).status().unwrap().success());
        let run = run(&["serve", ":0", "--exec", &path]);
        assert_eq!(run.code, Some(2), "{run:?}");
        assert!(run.stderr.contains(message), "{run:?} {message}");
    }
}

#[test]
fn a_command_that_vanishes_is_the_servers_fault() {
    let directory = tempfile::tempdir().unwrap();
    let script = script(directory.path());
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let server = Serving::start(&[":0", "--exec", &script]);
    fs::remove_file(&script).unwrap();
    server.call(&["m"]).fails(3, "error: the command cannot be started\n  code: internal\n");
    assert!(server.line().starts_with("warn: cannot start "));
    let stream = std::net::TcpStream::connect(server.endpoint().strip_prefix("tcp:").unwrap()).unwrap();
    let request = crate::support::packet(0, "{\"method\":\"a\\u0000b\"}");
    std::io::Write::write_all(&mut &stream, &request).unwrap();
    stream.set_read_timeout(Some(crate::support::WATCHDOG)).unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut &stream, &mut answer).unwrap();
    assert!(answer.contains("\"code\":\"invalid_request\""), "{answer}");
}

#[test]
fn commands_are_waited_for_also_where_the_parent_ignored_the_end_of_its_own() {
    let serve = program_after("trap '' CHLD", &["serve", "127.0.0.1:0", "--exec", "cat"]);
    let server = Serving::start_as(serve);
    server.call(&["m", "[1]"]).prints("[1]\n");
}

#[test]
fn more_commands_than_allowed_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = Pipe::new(directory.path());
    let server = shell(&clinging(&pipe), &["--max-concurrent-calls", "1"]);
    let call = server.begin_call(&["m"]);
    let child = pipe.read();
    let refused = server.call(&["m"]);
    assert!(refused.stderr.ends_with("  code: overloaded\n"), "{refused:?}");
    server.signal("INT");
    server.line();
    server.signal("INT");
    assert_eq!((call.end().code, server.end().0), (Some(3), Some(130)));
    wait_until_dead(&child);
}
