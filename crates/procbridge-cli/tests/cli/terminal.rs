//! The text that a terminal shows: no peer commands it, and nothing is hidden from its user.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use crate::support::{always, end_of, on_a_thread, packet, program, run};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};

/// Runs a command whose output and errors go to a terminal. Returns its exit code and what the terminal got.
fn on_a_terminal(args: &[&str]) -> (Option<i32>, String) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let slave: OwnedFd =
        rustix::fs::open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    let mut command: Command = program(args);
    command.env("NO_COLOR", "1").stdin(Stdio::null());
    command.stdout(slave.try_clone().unwrap()).stderr(slave);
    let child = command.spawn().unwrap();
    drop(command);
    let shown = on_a_thread(move || {
        let (mut shown, mut chunk, mut master) = (Vec::new(), [0; 4096], File::from(master));
        // A terminal that no process has open any more is an error to read from.
        while let Ok(count @ 1..) = master.read(&mut chunk) {
            shown.extend_from_slice(&chunk[..count]);
        }
        String::from_utf8(shown).unwrap()
    });
    let code = end_of(child);
    (code, shown.recv_timeout(crate::support::WATCHDOG).unwrap().replace("\r\n", "\n"))
}

/// C1 controls, an escape of the terminal, overrides of the direction, zero width, a byte order mark, tags.
const HOSTILE: &str = "a\u{9b}2J\u{9d}0;x\u{7}\u{1b}[31m\u{7f}\u{202e}\u{2066}\u{200b}\u{200d}\u{2060}\u{feff}\u{e0041}\u{ad}\rb";

#[track_caller]
fn is_harmless(shown: &str) {
    // All that the cases have beside ASCII is hidden.
    let wrong = shown.chars().find(|c| !c.is_ascii() || (c.is_ascii_control() && !matches!(c, '\n' | '\t')));
    assert_eq!(wrong, None, "{shown:?}");
}

/// Returns JSON text with the characters in it as they are, as far as JSON allows that.
fn raw(value: &Value) -> String {
    value.to_string()
}

#[test]
fn a_result_commands_no_terminal_in_any_shape() {
    let server = always(packet(1, &format!("{{\"payload\":{}}}", raw(&json!({ HOSTILE: HOSTILE })))));
    for shape in [&[][..], &["--compact"], &["--pretty"], &["--json"], &["--raw"], &["--stream"], &["-v"]] {
        let (code, shown) = on_a_terminal(&[&["call", &server, "m"], shape].concat());
        assert_eq!(code, Some(0), "{shown}");
        is_harmless(&shown);
        assert!(shown.contains("\\u202e") || shown.contains("\\u{202e}"), "{shown}");
    }
    // It keeps its value.
    let (_, shown) = on_a_terminal(&["call", &server, "m"]);
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), json!({ HOSTILE: HOSTILE }));
    // A pipe gets each byte.
    let text = raw(&json!({ HOSTILE: HOSTILE }));
    run(&["call", &server, "m"]).prints(&format!("{text}\n"));
}

#[test]
fn a_bare_string_commands_no_terminal_and_keeps_its_lines() {
    let text = format!("one\ttab\ntwo{HOSTILE}");
    let server = always(packet(1, &format!("{{\"payload\":{}}}", raw(&json!(text)))));
    for command in [
        &["call", &server, "m", "-r"][..],
        &["call", &server, "m", "-r", "--stream"],
        &["emit", &server, "m", "-r"],
    ] {
        let (_, shown) = on_a_terminal(command);
        is_harmless(&shown);
        assert!(shown.starts_with("one\ttab\ntwoa\\u009b2J"), "{shown}");
        assert!(shown.ends_with("\\udb40\\udc41\\u00ad\\u000db\n"), "{shown}");
    }
    run(&["call", &server, "m", "-r"]).prints(&format!("{text}\n"));
}

#[test]
fn what_a_server_tells_of_itself_commands_no_terminal() {
    let method = json!({ "name": HOSTILE, "kind": HOSTILE, "doc": HOSTILE });
    let description = json!({ "name": HOSTILE, "methods": [method], "protocol": [HOSTILE], "uptime_ms": 1 });
    let server = always(packet(1, &format!("{{\"payload\":{}}}", raw(&description))));
    for command in ["list", "describe", "info"] {
        for option in [&[][..], &["--json"], &["-v"]] {
            let (code, shown) = on_a_terminal(&[&[command, server.as_str()], option].concat());
            assert_eq!(code, Some(0), "{shown}");
            is_harmless(&shown);
            assert!(shown.contains("202e"), "{shown}");
        }
    }
    is_harmless(&on_a_terminal(&["describe", &server, "--compact"]).1);
    is_harmless(&on_a_terminal(&["describe", &server, "other"]).1);
    let counted = json!({ "methods": { HOSTILE: { "calls": 1 } } });
    let server = always(packet(1, &format!("{{\"payload\":{}}}", raw(&counted))));
    for option in [&[][..], &["--json"]] {
        let (code, shown) = on_a_terminal(&[&["stats", server.as_str()], option].concat());
        assert_eq!(code, Some(0), "{shown}");
        is_harmless(&shown);
    }
}

#[test]
fn errors_and_help_command_no_terminal() {
    let error = json!({ "message": HOSTILE, "code": HOSTILE, "data": { HOSTILE: HOSTILE } });
    let server = always(packet(2, &raw(&error)));
    for option in [&[][..], &["--json"], &["-v"], &["--stream"], &["--stream", "--json"]] {
        let (code, shown) = on_a_terminal(&[&["call", &server, "m"], option].concat());
        assert_eq!(code, Some(3), "{shown}");
        is_harmless(&shown);
        assert!(shown.contains("202e") && shown.contains("9b"), "{shown}");
    }
    // Nor do the words of the command line itself, which may have been pasted, in a pipe neither.
    let word = HOSTILE;
    for args in [
        &["call", word, "m"][..],
        &["call", ":1", "m", word],
        &["call", ":1", "m", &format!("@{word}")],
        &["call", ":1", "m", "--timeout", word],
        &["call", ":1", "m", &format!("--{word}")],
        &["call", ":1", "m", "--meta", word],
        &["serve", ":0", "--exec", word],
        &["decode", word],
        &["describe", &server, word],
        &[word],
    ] {
        let (code, shown) = on_a_terminal(args);
        assert!(code.is_some_and(|code| code > 1), "{args:?} {shown}");
        is_harmless(&shown);
        is_harmless(&run(args).stderr);
    }
}

#[test]
fn packets_command_no_terminal() {
    let body = format!("{{\"payload\":{}}}", raw(&json!(HOSTILE)));
    let hex: String = packet(1, &body).iter().map(|byte| format!("{byte:02x}")).collect();
    for option in [&[][..], &["--json"]] {
        let (code, shown) = on_a_terminal(&[&["decode", hex.as_str()], option].concat());
        assert_eq!(code, Some(0), "{shown}");
        is_harmless(&shown);
        assert!(shown.contains("\\u202e"), "{shown}");
    }
}
