//! Words of the command line, files and standard input, in the odd forms in which they come.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use crate::support::{Running, Serving, program, run, run_with, wait_until};

#[test]
fn every_number_of_json_is_a_payload() {
    let server = Serving::demo();
    let numbers = [
        "0",
        "-0",
        "-1",
        "-1e5",
        "-5.25",
        "-1e-05",
        "-1.5e-3",
        "-1E+2",
        "-1e+0",
        "-0.1E-1",
        "1e-05",
        "-12345678901234567890",
    ];
    for number in numbers {
        let line = format!("{number}\n");
        server.call(&["echo", number]).prints(&line);
        server.call(&["echo", "--compact", number, "--timeout", "5s"]).prints(&line);
        server.call(&["--no-method", number]).prints("null\n");
        server
            .run("emit", &["--method", "echo", "a", number])
            .prints(&format!("{{\"topic\":\"a\",\"payload\":{number}}}\n"));
        server.call(&["echo", &format!("v:={number}")]).prints(&format!("{{\"v\":{number}}}\n"));
        server.call(&["echo", "--", number]).prints(&line);
        server.run_by_variable(&["call", "--no-method", number]).prints("null\n");
        assert_eq!(server.call(&["echo", number, number]).code, Some(2));
    }
    // As a method's name, or an event's topic.
    server.call(&["-1e-05"]).prints("null\n");
    server.run("emit", &["-1e-05", "--method", "echo"]).prints("{\"topic\":\"-1e-05\",\"payload\":null}\n");
}

#[test]
fn what_only_looks_like_a_number_is_told_as_it_was_written() {
    for wrong in ["-01", "-.5", "-1.", "-1e", "-1x", "-Infinity", "-NaN", "-inf"] {
        let run = run(&["call", ":1", "m", wrong]);
        assert_eq!(run.code, Some(2), "{run:?}");
        assert!(run.stderr.starts_with("error: the payload is not JSON: "), "{run:?}");
        assert!(run.stderr.contains(&format!("'\"{wrong}\"'")), "{run:?}");
    }
    // Options are options.
    let run = run(&["call", ":1", "m", "-x"]);
    assert!(run.stderr.contains("'-x' found"), "{run:?}");
}

const MARK: &str = "\u{feff}";

#[test]
fn a_byte_order_mark_is_no_part_of_json() {
    let server = Serving::demo();
    let directory = tempfile::tempdir().unwrap();
    let file = format!("{}/b.json", directory.path().display());
    let json = format!("{MARK}{{\"a\":1}}\r\n");
    fs::write(&file, &json).unwrap();
    let expected = "{\"a\":1}\n";
    server.call(&["echo", &format!("@{file}")]).prints(expected);
    server.call(&["echo", &json]).prints(expected);
    run_with(program(&["call", server.endpoint(), "echo", "-"]), json.as_bytes()).prints(expected);
    run_with(program(&["call", server.endpoint(), "echo", "@-"]), json.as_bytes()).prints(expected);
    run_with(program(&["call", server.endpoint(), "echo", "k:=@-"]), json.as_bytes())
        .prints("{\"k\":{\"a\":1}}\n");
    server.call(&["echo", &format!("k:=@{file}")]).prints("{\"k\":{\"a\":1}}\n");
    server.call(&["echo", &format!("k:={MARK}[1]")]).prints("{\"k\":[1]}\n");
    server.call(&["echo", "1", "--meta", &format!("k:=@{file}")]).prints("1\n");
    server
        .run("emit", &["--method", "echo", "a", &format!("@{file}")])
        .prints("{\"topic\":\"a\",\"payload\":{\"a\":1}}\n");
    // A text that is no JSON is sent with all that is in the file.
    fs::write(&file, format!("{MARK}text")).unwrap();
    server.call(&["echo", &format!("k=@{file}")]).prints(&format!("{{\"k\":\"{MARK}text\"}}\n"));
    // Nothing but a mark is nothing.
    fs::write(&file, MARK).unwrap();
    let empty = server.call(&["echo", &format!("@{file}")]);
    assert!(empty.stderr.contains("is empty"), "{empty:?}");
    // Packets in hexadecimal.
    fs::write(&file, format!("{MARK}70 62 01 01 01 00 00 02 00 00 00 7b 7d\r\n")).unwrap();
    assert_eq!(run(&["decode", &format!("@{file}")]).code, Some(0));
    // The answer of a command.
    for (line, expected) in [
        ("printf '\\357\\273\\277{\"a\":1}\\r\\n'", expected),
        ("printf '\\357\\273\\277'", "null\n"),
        ("printf '\\357\\273\\277text'", "\"\u{feff}text\"\n"),
    ] {
        Serving::start(&["127.0.0.1:0", "--shell", "--exec", line]).call(&["m"]).prints(expected);
    }
}

#[test]
fn a_mark_in_the_wrong_place_is_seen() {
    let run = run(&["call", ":1", "m", &format!("[1,{MARK}2]")]);
    assert!(run.stderr.contains("here: \\u{feff}2]"), "{run:?}");
    let directory = tempfile::tempdir().unwrap();
    let file = format!("{}/u.json", directory.path().display());
    fs::write(&file, b"\xff\xfe{\0}\0").unwrap();
    crate::support::run(&["call", ":1", "m", &format!("@{file}")]).fails(
        2,
        &format!("error: {file} is UTF-16\n  help: \"iconv -f UTF-16 -t UTF-8\" converts it to UTF-8\n"),
    );
}

fn with_bytes(args: &[&[u8]]) -> Command {
    let mut command = program(&[]);
    command.args(args.iter().map(|word| OsStr::from_bytes(word)));
    command
}

#[test]
fn a_word_that_is_not_utf8_is_named() {
    for args in [
        &[&b"call"[..], b"/run/caf\xe9.sock", b"m"][..],
        &[b"call", b":1", b"caf\xe9.sock"],
        &[b"call", b":1", b"m", b"\"caf\xe9.sock\""],
        &[b"call", b":1", b"m", b"a=caf\xe9.sock", b"--json"],
        &[b"emit", b":1", b"m", b"--token", b"caf\xe9.sock"],
        &[b"watch", b":1", b"@caf\xe9.sock"],
        &[b"serve", b":0", b"--exec", b"./caf\xe9.sock"],
        &[b"serve", b":0", b"--exec=caf\xe9.sock"],
        &[b"describe", b":1", b"caf\xe9.sock"],
        &[b"decode", b"caf\xe9.sock"],
        &[b"caf\xe9.sock"],
    ] {
        let run = run_with(with_bytes(args), b"");
        assert_eq!(run.code, Some(2), "{run:?}");
        let told = if args.contains(&&b"--json"[..]) { &run.stdout } else { &run.stderr };
        assert!(
            told.contains("caf\\")
                && told.to_lowercase().contains("xe9.sock")
                && told.contains("is not UTF-8"),
            "{run:?}"
        );
    }
}

#[test]
fn a_file_may_have_any_name() {
    let server = Serving::demo();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(OsStr::from_bytes(b"caf\xe9.json"));
    fs::write(&path, "[1]").unwrap();
    let word = |start: &str| [OsStr::new(start), path.as_os_str()].concat_os();
    let call = |words: &[OsString]| {
        let mut command = program(&["call", server.endpoint(), "echo"]);
        run_with(
            {
                command.args(words);
                command
            },
            b"",
        )
    };
    call(&[word("@")]).prints("[1]\n");
    call(&[word("a:=@")]).prints("{\"a\":[1]}\n");
    call(&[word("a=@"), "b=1".into()]).prints("{\"a\":\"[1]\",\"b\":\"1\"}\n");
    call(&["1".into(), "--meta".into(), word("k:=@")]).prints("1\n");
    fs::write(&path, "7062010101000002000000 7b7d").unwrap();
    let mut command = program(&["decode"]);
    command.arg(word("@"));
    assert_eq!(run_with(command, b"").code, Some(0));
    fs::remove_file(&path).unwrap();
    let run = call(&[word("@")]);
    assert!(
        run.code == Some(2) && run.stderr.contains("cannot read ") && run.stderr.contains("no such file"),
        "{run:?}"
    );
}

trait ConcatOs {
    fn concat_os(&self) -> OsString;
}

impl ConcatOs for [&OsStr; 2] {
    fn concat_os(&self) -> OsString {
        let mut all = self[0].to_os_string();
        all.push(self[1]);
        all
    }
}

#[test]
fn standard_input_has_curls_name_too_and_is_read_once() {
    let server = Serving::demo();
    let with =
        |words: &[&str]| run_with(program(&[&["call", server.endpoint(), "echo"], words].concat()), b"[1]\n");
    with(&["@-"]).prints("[1]\n");
    with(&["a:=@-"]).prints("{\"a\":[1]}\n");
    with(&["a=@-"]).prints("{\"a\":\"[1]\\n\"}\n");
    with(&["a:=@-", "b=@-"]).fails(2, "error: standard input is given twice, and can be read once\n");
    with(&["-", "--meta", "a=@-"]).fails(2, "error: standard input is given twice, and can be read once\n");
    for nameless in [&["@"][..], &["a=@"], &["a:=@"]] {
        with(nameless)
            .fails(2, "error: \"@\" names no file\n  help: a file is given as @FILE, standard input as -\n");
    }
    run(&["decode", "@"])
        .fails(2, "error: \"@\" names no file\n  help: a file is given as @FILE, standard input as -\n");
    assert_eq!(run_with(program(&["decode", "@-"]), b"7062010101000002000000 7b7d").code, Some(0));
}

#[test]
fn an_interrupt_before_the_call_says_that_nothing_was_sent() {
    let server = Serving::demo();
    for signal in ["INT", "TERM"] {
        let mut command = program(&["call", server.endpoint(), "echo", "-", "--json"]);
        let mut call = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (id, mut stdout) = (call.id(), call.stdout.take().unwrap());
        // Signals are kept for the thread that takes them from before that thread begins.
        wait_until("it takes signals", || {
            let mut tasks = fs::read_dir(format!("/proc/{id}/task")).unwrap().flatten();
            tasks.any(|task| {
                fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name == "signals\n")
            })
        });
        crate::support::signal(id, signal);
        let mut envelope = String::new();
        std::io::Read::read_to_string(&mut stdout, &mut envelope).unwrap();
        assert!(envelope.contains("\"outcome\":\"not_sent\""), "{envelope}");
        drop(call.stdin.take());
        call.wait().unwrap();
    }
    let call = Running::start(program(&["call", server.endpoint(), "sleep", "30", "--json"]), b"");
    wait_until("the call runs", || {
        crate::support::stats(server.endpoint())["methods"]["sleep"]["in_flight"] == 1
    });
    call.signal("INT");
    assert!(call.end().stdout.contains("\"outcome\":\"unknown\""));
}

#[test]
fn a_full_disk_is_told_by_every_command_that_prints() {
    let server = Serving::demo();
    let at = server.endpoint();
    for args in [
        &["--help"][..],
        &["--version"],
        &["call", "--help"],
        &["man"],
        &["completions", "bash"],
        &["call", at, "echo", "1"],
        &["call", at, "echo", "1", "--json"],
        &["call", at, "err", "--json"],
        &["call", at, "count", "n:=3", "--stream"],
        &["ping", at, "-n", "1"],
        &["ping", at, "-n", "1", "--json"],
        &["info", at],
        &["list", at],
        &["describe", at],
        &["stats", at],
        &["decode", "7062010101000002000000", "7b7d"],
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = program(args).stdout(full).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code().is_some_and(|code| code != 0), "{args:?}");
        assert_eq!(stderr, "error: cannot write to standard output: no space left on device\n", "{args:?}");
    }
}
