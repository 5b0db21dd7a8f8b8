//! The shared secret: a client that has it is answered, and it is never shown.

use std::process::Command;

use crate::support::{Run, Running, Serving, program, run, run_with, wait_until};

const TOKEN: &str = "open \"sesame\"";

/// Returns the program, with the secret in its environment.
fn knowing(args: &[&str]) -> Command {
    let mut command = program(args);
    command.env("PROCBRIDGE_TOKEN", TOKEN);
    command
}

fn run_knowing(args: &[&str]) -> Run {
    run_with(knowing(args), b"")
}

#[test]
fn calls_with_the_token_are_answered_and_no_others() {
    let server = Serving::start(&["127.0.0.1:0", "--demo", "--token", TOKEN]);
    for style in ["--classic", "--session"] {
        server.call(&["sum", "[1,2]", style, "--token", TOKEN]).prints("3\n");
        run_knowing(&["call", server.endpoint(), "sum", "[1,2]", style]).prints("3\n");
        // The command line is nearer than the environment.
        for wrong in ["open", "open sesame!!!"] {
            let refused = run_knowing(&["call", server.endpoint(), "sum", "[1]", style, "--token", wrong]);
            assert_eq!((refused.code, refused.stdout.as_str()), (Some(3), ""), "{refused:?}");
        }
    }
    server.call(&["sum", "[1]", "--classic"]).fails(
        3,
        "error: missing or wrong token (set ClientConfig::with_token)\n  code: denied\n  \
         help: if the server asks for a token, set PROCBRIDGE_TOKEN or --token\n",
    );
    // Set to nothing, the variable counts as unset.
    let mut empty = program(&["call", server.endpoint(), "sum", "[1]", "--classic"]);
    empty.env("PROCBRIDGE_TOKEN", "");
    assert_eq!(run_with(empty, b"").code, Some(3));
}

#[test]
fn every_command_that_reaches_a_server_brings_it() {
    let server = Serving::start(&["127.0.0.1:0", "--demo", "--token", TOKEN]);
    let endpoint = server.endpoint();
    for args in [
        &["ping", endpoint, "-n", "1"][..],
        &["info", endpoint],
        &["list", endpoint],
        &["describe", endpoint],
        &["stats", endpoint],
        &["emit", endpoint, "a", "1"],
    ] {
        assert_eq!(run_knowing(args).code, Some(0), "{args:?}");
        assert_eq!(run_knowing(&[args, &["--token", TOKEN]].concat()).code, Some(0), "{args:?}");
        if args[0] != "info" {
            assert_eq!(run(args).code, Some(3), "{args:?}");
        }
    }
    let watching = Running::start(knowing(&["watch", endpoint, "a", "-n", "1"]), b"");
    // The watch is in force when the event reaches a subscriber.
    wait_until("somebody watches", || run_knowing(&["emit", endpoint, "a", "1"]).stdout == "1\n");
    assert_eq!(watching.end().stdout, "{\"topic\":\"a\",\"payload\":1}\n");
}

#[test]
fn nobody_is_shown_it() {
    let server = Serving::start_as(knowing(&["serve", "127.0.0.1:0", "--demo", "--verbose"]));
    let echo = |style: &str, payload: &str, meta: &str| {
        let args = ["call", server.endpoint(), "echo", "-", "-v", style, "--meta", meta];
        run_with(knowing(&args), payload.as_bytes())
    };
    for style in ["--classic", "--session"] {
        let shown = echo(style, "[1]", "a=b");
        assert_eq!(shown.stdout, "[1]\n");
        assert!(shown.stderr.contains("\"token\":\"***\",\"payload\":[1]"), "{shown:?}");
        assert!(!shown.stderr.contains("sesame"), "{shown:?}");
    }
    // Where a large request is cut into pieces is chance: within the token too.
    for length in 65_470..65_500 {
        let shown = echo("--session", "null", &format!("a={}", "x".repeat(length)));
        assert_eq!(shown.stdout, "null\n");
        assert!(!shown.stderr.contains("ame\\\""), "{shown:?}");
    }
    let refused = run(&["call", server.endpoint(), "echo", "1", "--token", "no"]);
    assert_eq!(refused.code, Some(3));
    server.signal("TERM");
    let (code, lines) = server.end();
    assert_eq!(code, Some(0));
    assert!(!lines.is_empty() && !lines.iter().any(|line| line.contains("sesame")), "{lines:?}");
}

#[test]
fn with_a_token_other_machines_may_call() {
    let server = Serving::start_as(knowing(&["serve", "0.0.0.0:0", "--demo"]));
    let port = server.endpoint().rsplit(':').next().unwrap();
    run_knowing(&["call", &format!(":{port}"), "sum", "[1]"]).prints("1\n");
}

#[test]
fn commands_are_not_given_it() {
    let args = ["serve", "127.0.0.1:0", "--shell", "--exec", "echo ${PROCBRIDGE_TOKEN-none}"];
    let server = Serving::start_as(knowing(&args));
    run_knowing(&["call", server.endpoint(), "m"]).prints("\"none\"\n");
}

#[test]
fn a_token_that_is_none_is_a_mistake() {
    for args in [&["serve", ":0", "--demo", "--token", ""][..], &["call", ":1", "m", "--token", ""]] {
        run(args).fails(2, "error: the token of --token is empty\n");
    }
    let old = run(&["call", ":1", "m", "{}", "--old", "--token", "a"]);
    assert_eq!(old.code, Some(2), "{old:?}");
    assert!(old.stderr.contains("'--old' cannot be used with '--token <TOKEN>'"), "{old:?}");
}

#[test]
fn help_pages_and_completions_name_it() {
    for command in ["call", "watch", "emit", "ping", "info", "list", "describe", "stats", "serve"] {
        let help = run(&[command, "--help"]).stdout;
        assert!(help.contains("--token <TOKEN>") && help.contains("PROCBRIDGE_TOKEN"), "{help}");
        assert!(run(&["man", command]).stdout.contains("token"), "{command}");
    }
    assert!(run(&["--help"]).stdout.contains("PROCBRIDGE_TOKEN"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(&["completions", shell]).stdout.contains("token"), "{shell}");
    }
    // The help does not show the values of the environment.
    assert!(!run_knowing(&["call", "--help"]).stdout.contains("sesame"));
}
