use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

#[test]
fn every_form_is_read_and_written_back() {
    for (text, canonical) in [
        ("127.0.0.1:8000", "tcp:127.0.0.1:8000"),
        ("localhost:8000", "tcp:localhost:8000"),
        ("[::1]:8000", "tcp:[::1]:8000"),
        ("[fe80::1%lo]:1", "tcp:[fe80::1%lo]:1"),
        (":8000", "tcp:127.0.0.1:8000"),
        ("tcp:example.org:65535", "tcp:example.org:65535"),
        ("tcp://[::]:0", "tcp:[::]:0"),
        ("tcp://127.0.0.1:80/", "tcp:127.0.0.1:80"),
        ("/run/app.sock", "unix:/run/app.sock"),
        ("./app.sock", "unix:./app.sock"),
        ("../a/b", "unix:../a/b"),
        ("unix:/run/app.sock", "unix:/run/app.sock"),
        ("unix:///run/app.sock", "unix:/run/app.sock"),
        ("unix:app.sock", "unix:app.sock"),
        ("unix:@name", "unix:@name"),
        ("unix:/a?mode=660&group=app", "unix:/a?mode=0660&group=app"),
        ("/a?user=app&dir=any", "unix:/a?user=app&dir=any"),
        ("unix:@name?user=any", "unix:@name?user=any"),
        ("unix:@a%3fb%", "unix:@a%3Fb%25"),
        ("unix:////a", "unix:////a"),
        ("/caf%E9.sock", "unix:/caf%E9.sock"),
        ("/caf\u{e9}%0a", "unix:/caf\u{e9}%0A"),
        ("/a%zz%+1%", "unix:/a%25zz%25+1%25"),
    ] {
        let endpoint: Endpoint = text.parse().unwrap();
        assert_eq!(endpoint.to_string(), canonical, "{text}");
        assert_eq!(canonical.parse::<Endpoint>().unwrap(), endpoint, "{text}");
    }
}

#[test]
fn every_malformed_form_says_what_to_do() {
    let long = format!("unix:/{}", "x".repeat(107));
    for (text, reason) in [
        ("", "it is empty; write HOST:PORT, :PORT or a path such as ./app.sock"),
        ("8000", "no port, did you mean \":8000\"?"),
        ("app.sock", "no port; write \"app.sock:PORT\", or \"./app.sock\" for a Unix socket"),
        ("localhost:", "\"\" is not a port, expected a number from 0 to 65535"),
        ("localhost:http", "\"http\" is not a port, expected a number from 0 to 65535"),
        ("localhost:-1", "\"-1\" is not a port, expected a number from 0 to 65535"),
        ("localhost:65536", "port 65536 is too large, expected 0 to 65535"),
        ("::1:8000", "an IPv6 address is written in brackets, as in \"[::1]:8000\""),
        ("[::1]", "a port must follow the address, as in \"[::1]:8000\""),
        ("[::1:80", "the bracket of the IPv6 address is not closed"),
        ("[localhost]:80", "\"localhost\" is not an IPv6 address"),
        ("*:80", "write 0.0.0.0 or [::] for all addresses"),
        ("a b:80", "a host name cannot hold ' '"),
        ("user@host:80", "a host name cannot hold '@'"),
        ("http://localhost:80", "unknown scheme \"http\", known are \"tcp\" and \"unix\""),
        ("tls:localhost:80", "\"tls:\" endpoints are not supported by this version"),
        ("fd:3", "\"fd:\" endpoints are not supported by this version"),
        ("@name", "an abstract name is written \"unix:@name\""),
        ("unix:@", "an abstract name must not be empty"),
        ("unix:", "the path is empty"),
        ("/run/", "the path names a directory, expected a file such as app.sock in it"),
        ("~/app.sock", "\"~\" stands for the home directory in a shell only; write the whole path"),
        ("/a?mode=rw", "mode \"rw\" is not an octal number such as 0660"),
        ("/a?mode=1777", "mode \"1777\" is not an octal number such as 0660"),
        ("/a?group=", "group needs a name or a number"),
        ("/a?color=red", "unknown option \"color\", known are mode, group, user and dir"),
        ("/a?user=", "user needs a name or a number"),
        ("/a?dir=all", "dir \"all\" is not known, expected dir=any"),
        (
            "unix:@n?mode=0660",
            "an abstract name has no file, so it takes no mode, group or dir; a \"?\" in the name is written \"%3F\"",
        ),
        ("/a%00", "a path cannot hold a NUL character"),
        (&long, "the path of a Unix socket holds at most 107 bytes, this one has 108"),
    ] {
        let error = text.parse::<Endpoint>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidEndpoint);
        assert_eq!(error.to_string(), format!("invalid endpoint {text:?}: {reason}"));
    }
}

#[test]
fn what_a_program_makes_is_refused_as_text_is() {
    for (endpoint, reason) in [
        (Endpoint::unix(""), "the path is empty"),
        (Endpoint::unix("a\0b"), "a path cannot hold a NUL character"),
        (Endpoint::unix("a/"), "the path names a directory, expected a file such as app.sock in it"),
        (Endpoint::tcp("a b", 1), "a host name cannot hold ' '"),
        (Endpoint::tcp("a:b", 1), "\"a:b\" is not an IPv6 address"),
    ] {
        let text = endpoint.to_string();
        let error = endpoint.checked().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidEndpoint);
        assert_eq!(error.to_string(), format!("invalid endpoint {text:?}: {reason}"));
    }
}

#[test]
fn a_file_whose_name_looks_like_another_endpoint_is_that_file() {
    for (path, text) in [
        ("@name", "unix:./@name"),
        ("a?b", "unix:a%3Fb"),
        ("?mode=0666", "unix:%3Fmode=0666"),
        ("tcp:x", "unix:tcp:x"),
    ] {
        assert_eq!(Endpoint::unix(path).to_string(), text);
        assert_eq!(text.parse::<Endpoint>().unwrap(), Endpoint::unix(path));
    }
}

proptest! {
    #[test]
    fn every_endpoint_is_read_back_from_its_text(
        bytes in prop_oneof![vec(any::<u8>(), 1..60), vec(prop::sample::select(b"/@?%&=.:a3F\xe9\n".to_vec()), 1..60)],
        host in prop_oneof!["[a-z0-9.*%:]{1,20}", any::<[u16; 8]>().prop_map(|parts| Ipv6Addr::from(parts).to_string())],
        mode in option::of(0_u32..=0o777),
        names in any::<[Option<String>; 2]>(),
        any_dir: bool,
        port: u16,
    ) {
        let [group, user] = names.map(|name| name.filter(|name| !name.is_empty()));
        let mut path = Endpoint::unix(OsString::from_vec(bytes.clone()));
        if let Address::Path { options, .. } = &mut path.address {
            *options = Options { mode, group, user: user.clone(), any_dir };
        }
        let name = Endpoint { address: Address::Abstract { name: bytes, user } };
        for endpoint in [path, name, Endpoint::tcp(host, port)] {
            let text = endpoint.to_string();
            match endpoint.checked() {
                Ok(endpoint) => prop_assert_eq!(text.parse::<Endpoint>().unwrap(), endpoint),
                Err(_) => prop_assert!(text.parse::<Endpoint>().is_err()),
            }
        }
    }
}

#[test]
fn localhost_is_both_loopback_addresses() {
    let addresses = Endpoint::resolve("LocalHost", 7).unwrap();
    assert_eq!(addresses, ["127.0.0.1:7".parse().unwrap(), "[::1]:7".parse().unwrap()]);
}
