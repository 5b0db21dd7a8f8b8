//! The command line itself: help, versions, pages, and a helpful line for every typo.

use crate::support::{program, run, run_with};

const COMMANDS: [&str; 12] = [
    "call",
    "watch",
    "emit",
    "ping",
    "info",
    "list",
    "describe",
    "stats",
    "serve",
    "decode",
    "completions",
    "man",
];

#[test]
fn without_arguments_it_explains_itself() {
    let bare = run(&[]);
    assert_eq!((bare.code, bare.stdout.as_str()), (Some(2), ""));
    assert!(bare.stderr.contains("Usage: procbridge <COMMAND>"), "{}", bare.stderr);
    let help = run(&["--help"]);
    assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
    assert!(help.stdout.contains("Exit codes:"), "{}", help.stdout);
    run(&["--version"]).prints(concat!("procbridge ", env!("CARGO_PKG_VERSION"), "\n"));
    for command in COMMANDS {
        for flag in ["-h", "--help"] {
            let help = run(&[command, flag]);
            assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""), "{command}");
            assert!(help.stdout.contains("Examples:\n  ") && help.stdout.is_ascii(), "{}", help.stdout);
            assert!(help.stdout.lines().all(|line| line.len() <= 100), "{}", help.stdout);
        }
    }
}

#[test]
fn every_typo_is_exit_2_with_a_line_that_helps() {
    let cases: &[(&[&str], &str)] = &[
        (&["cal"], "error: unrecognized subcommand 'cal'\n  help: a similar subcommand exists: 'call'\n"),
        (
            &["--verison"],
            "error: unexpected argument '--verison' found\n  help: a similar argument exists: '--version'\n",
        ),
        (&["call", "--tiemout", "1s"], "'--tiemout' found\n  help: a similar argument exists: '--timeout'\n"),
        (
            &["call", ":1", "m", "--timeout"],
            "a value is required for '--timeout <DURATION>' but none was supplied\n",
        ),
        (&["call", ":1", "m", "--timeout", "5"], "'--timeout <DURATION>': no unit; write 5ms, 5s or 5m\n"),
        (
            &["call", ":1", "m", "--timeout", "5sec"],
            "expected a number with the unit ms, s, m or h, found the unit \"sec\"\n",
        ),
        (&["call", ":1", "m", "--connect-timeout", "0s"], "too short, the least is 1ms\n"),
        (&["call", ":1", "m", "--max-body", "16MB"], "'--max-body <SIZE>': did you mean 16MiB?\n"),
        (&["call", ":1", "m", "--max-body", "5GiB"], "too large, a body holds at most 4294967295 bytes\n"),
        (
            &["call", ":1", "m", "--pretty", "--compact"],
            "the argument '--pretty' cannot be used with '--compact'\n",
        ),
        (
            &["call", ":1", "m", "--old", "--no-method"],
            "the argument '--old' cannot be used with '--no-method'\n",
        ),
        (&["call", "127.0.0.1:99999", "m"], "port 99999 is too large, expected 0 to 65535\n"),
        (&["call", "htp://x", "m"], "unknown scheme \"htp\", known are \"tcp\" and \"unix\"\n"),
        (&["serve", ":0"], "the following required arguments were not provided: <--demo|--exec <COMMAND>>\n"),
        (&["serve", ":0", "--dmeo"], "'--dmeo' found\n  help: a similar argument exists: '--demo'\n"),
        (
            &["serve", ":0", "--demo", "--exec", "cat"],
            "the argument '--demo' cannot be used with '--exec <COMMAND>'\n",
        ),
        (&["serve", ":0", "--demo", "--shell"], "the argument '--demo' cannot be used with '--shell'\n"),
        (&["serve", ":0", "--demo", "--max-concurrent-calls", "0"], "0 is not in 1..=4294967295\n"),
        (&["serve", ":0", "--demo", "--max-connections", "many"], "invalid digit found in string\n"),
        (&["serve", ":0", "--demo", "--drain", "none"], "'--drain <DURATION>': expected a number"),
        (&["serve", "8000", "--demo"], "invalid endpoint \"8000\": no port, did you mean \":8000\"?\n"),
        (&["decode", "--jsn"], "'--jsn' found\n  help: a similar argument exists: '--json'\n"),
        (
            &["completions", "bsh"],
            "[possible values: bash, elvish, fish, powershell, zsh]\n  help: a similar value exists: 'bash'\n",
        ),
        (&["completions"], "the following required arguments were not provided: <SHELL>\n"),
        (&["man", "cal"], "help: a similar value exists: 'call'\n"),
        (&["wach"], "error: unrecognized subcommand 'wach'\n  help: a similar subcommand exists: 'watch'\n"),
        (&["call", ":1", "m", "--strem"], "'--strem' found\n  help: a similar argument exists: '--stream'\n"),
        (&["call", ":1", "m", "--stream", "--notify"], "'--stream' cannot be used with '--notify'\n"),
        (&["call", ":1", "m", "--stream", "--count", "2"], "'--stream' cannot be used with '--count <N>'\n"),
        (&["call", ":1", "m", "--notify", "--raw"], "'--notify' cannot be used with '--raw'\n"),
        (&["call", ":1", "m", "--classic", "--session"], "'--classic' cannot be used with '--session'\n"),
        (
            &["call", ":1", "m", "--classic", "--compress", "lz4"],
            "'--classic' cannot be used with '--compress <CODEC>'\n",
        ),
        (&["call", ":1", "m", "--session", "--old"], "'--session' cannot be used with '--old'\n"),
        (&["call", ":1", "m", "--count", "0"], "0 is not in 1..18446744073709551615\n"),
        (
            &["call", ":1", "m", "--compress", "zst"],
            "[possible values: lz4, zstd]\n  help: a similar value exists: 'zstd'\n",
        ),
        (
            &["call", ":1", "m", "--meta", "x"],
            "the entry \"x\" of --meta is neither KEY=STRING nor KEY:=JSON\n",
        ),
        (
            &["call", ":1", "m", "--meta", "a:=x"],
            "the value of \"a\" is not JSON: expected value at column 1",
        ),
        (&["watch"], "error: no endpoint and no topic\n  help: it is \"procbridge watch ENDPOINT TOPIC...\""),
        (&["watch", ":1"], "error: no topic to watch at tcp:127.0.0.1:1\n  help: it is \"procbridge watch"),
        (&["watch", "a.b"], "invalid endpoint \"a.b\": no port"),
        (&["watch", ":1", "a", "--count", "x"], "'--count <N>': invalid digit found in string\n"),
        (&["emit", ":1"], "error: no topic to publish at tcp:127.0.0.1:1\n  help: it is \"procbridge emit"),
        (&["emit", ":1", "a", "x"], "the payload is not JSON: expected value at column 1, here: x\n"),
        (&["ping"], "error: no endpoint\n  help: it is an argument such as :8000 or ./app.sock\n"),
        (&["ping", "8000"], "invalid endpoint \"8000\": no port, did you mean \":8000\"?\n"),
        (&["ping", ":1", "-i", "1"], "'--interval <DURATION>': no unit; write 1ms, 1s or 1m\n"),
        (&["ping", ":1", "--threshold", "0us"], "'--threshold <DURATION>': too short, the least is 1us\n"),
        (&["ping", ":1", ":2"], "unexpected argument ':2' found\n"),
        (&["info", ":0"], "cannot connect to tcp:127.0.0.1:0: port 0 is for servers"),
        (&["list", ":1", "--jsn"], "'--jsn' found\n  help: a similar argument exists: '--json'\n"),
        (&["describe"], "error: no endpoint\n"),
        (&["describe", "sum"], "invalid endpoint \"sum\": no port"),
        (&["stats", ":1", "x"], "unexpected argument 'x' found\n"),
        (
            &["serve", ":0", "--demo", "--no-session"],
            "'--no-session' found\n  help: a similar argument exists: '--no-sessions'\n",
        ),
    ];
    for (args, line) in cases {
        let run = run(args);
        assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{args:?} {run:?}");
        assert!(run.stderr.contains(line), "{args:?} {run:?}");
        assert!(run.stderr.starts_with("error: ") && run.stderr.contains("\n"), "{run:?}");
        assert!(run.stderr.lines().skip(1).all(|line| line.starts_with("  help: ")), "{run:?}");
    }
}

#[test]
fn what_a_command_takes_stands_before_the_connection() {
    let help = run(&["describe", "--help"]).stdout;
    let (own, connection) = help.split_once("\nConnection:\n").unwrap();
    for own_one in ["[METHOD]  ", "--compact  "] {
        assert!(own.contains(own_one) && !connection.contains(own_one), "{help}");
    }
}

#[test]
fn completions_know_commands_and_options() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell]);
        assert_eq!((script.code, script.stderr.as_str()), (Some(0), ""));
        assert!(script.stdout.contains("connect-timeout") && script.stdout.contains("decode"), "{shell}");
    }
}

#[test]
fn every_command_has_a_page() {
    let page = |args: &[&str], title: &str| {
        let page = run(args);
        assert_eq!((page.code, page.stderr.as_str()), (Some(0), ""));
        assert!(page.stdout.contains(title), "{}", page.stdout);
    };
    page(&["man"], ".TH procbridge 1");
    for command in COMMANDS {
        page(&["man", command], &format!(".TH procbridge-{command} 1"));
    }
}

#[test]
fn a_pipe_has_no_colours() {
    for clear in [false, true] {
        let mut command = program(&["call", ":1", "m"]);
        if clear {
            command.env("NO_COLOR", "1");
        }
        assert!(!run_with(command, b"").stderr.contains('\u{1b}'));
    }
}

#[test]
fn an_argument_that_is_not_utf8_is_a_mistake() {
    use std::os::unix::ffi::OsStrExt;
    let mut command = program(&["call", ":1", "m"]);
    command.arg(std::ffi::OsStr::from_bytes(b"\"\xff\""));
    assert_eq!(run_with(command, b"").code, Some(2));
}
