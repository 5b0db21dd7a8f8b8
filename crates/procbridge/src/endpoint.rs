//! Where a server listens and a client connects: text that people write becomes a place (one grammar everywhere).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::{Error, ErrorKind};
use crate::socket_file::is_bound;

/// A TCP address or a Unix-domain socket.
///
/// | text | meaning |
/// |---|---|
/// | `127.0.0.1:8000`, `[::1]:8000`, `localhost:8000`, `tcp:HOST:PORT`, `tcp://HOST:PORT` | TCP |
/// | `:8000` | TCP on the loopback address 127.0.0.1 |
/// | `/run/app.sock`, `./app.sock`, `unix:/run/app.sock`, `unix:app.sock` | a Unix socket at a path |
/// | `unix:/run/app.sock?mode=0660&group=app` | the same, with the mode and group that a server gives it |
/// | `unix:@name` | a Unix socket with an abstract name (Linux) |
///
/// Port 0 lets the system choose; [`Server::endpoints`](crate::Server::endpoints) tells the choice. `localhost` means both
/// loopback addresses, without asking a resolver.
///
/// ```
/// use procbridge::Endpoint;
///
/// let endpoint: Endpoint = ":8000".parse()?;
/// assert_eq!(endpoint.to_string(), "tcp:127.0.0.1:8000");
/// let mistake = "8000".parse::<Endpoint>().unwrap_err();
/// assert_eq!(mistake.to_string(), "invalid endpoint \"8000\": no port, did you mean \":8000\"?");
/// # Ok::<(), procbridge::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    pub(crate) address: Address,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    Tcp { host: String, port: u16 },
    Path { path: PathBuf, mode: Option<u32>, group: Option<String> },
    Abstract(String),
}

impl Endpoint {
    /// A TCP endpoint. `host` is a name or an address, without brackets.
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        Self { address: Address::Tcp { host: host.into(), port } }
    }

    /// A Unix socket at `path`.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self { address: Address::Path { path: path.into(), mode: None, group: None } }
    }

    /// The path of a Unix socket that has one.
    pub fn path(&self) -> Option<&Path> {
        match &self.address {
            Address::Path { path, .. } => Some(path),
            _ => None,
        }
    }

    /// The port of a TCP endpoint.
    pub fn port(&self) -> Option<u16> {
        match &self.address {
            Address::Tcp { port, .. } => Some(*port),
            _ => None,
        }
    }

    /// Whether a process has the Unix socket at this path bound. It is told without opening a connection, of which some
    /// servers die if it carries no call.
    ///
    /// # Errors
    ///
    /// - `Unsupported`: this is not a Unix socket with a path; only a call tells about the others.
    /// - `PermissionDenied` and others: the system does not tell.
    ///
    /// # Example
    ///
    /// ```
    /// let endpoint = procbridge::Endpoint::unix("/nowhere/app.sock");
    /// assert!(!endpoint.has_listener()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn has_listener(&self) -> std::io::Result<bool> {
        match &self.address {
            Address::Path { path, .. } => Ok(is_bound(path)?),
            _ => Err(std::io::ErrorKind::Unsupported.into()),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("it is empty; write HOST:PORT, :PORT or a path such as ./app.sock".to_string());
        }
        if let Some(rest) = text.strip_prefix("tcp://") {
            return tcp(rest.strip_suffix('/').unwrap_or(rest));
        }
        if let Some(rest) = text.strip_prefix("tcp:") {
            return tcp(rest);
        }
        if let Some(rest) = text.strip_prefix("unix:") {
            return unix(rest.strip_prefix("//").unwrap_or(rest));
        }
        if ["/", "./", "../"].iter().any(|start| text.starts_with(start)) {
            return unix(text);
        }
        if text.starts_with('@') {
            return Err(format!("an abstract name is written \"unix:{text}\""));
        }
        if text.starts_with("~/") {
            return Err(
                "\"~\" stands for the home directory in a shell only; write the whole path".to_string()
            );
        }
        if let Some((scheme, _)) = text.split_once(':')
            && matches!(scheme, "tls" | "fd" | "systemd" | "exec")
        {
            return Err(format!("\"{scheme}:\" endpoints are not supported by this version"));
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(format!("unknown scheme \"{scheme}\", known are \"tcp\" and \"unix\""));
        }
        tcp(text)
    }

    /// The socket addresses behind a TCP endpoint, in the order in which they are to be tried. May ask the system's
    /// resolver, which blocks.
    pub(crate) fn resolve(host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
        if let Some(addresses) = Self::resolve_locally(host, port) {
            return Ok(addresses);
        }
        let mut addresses: Vec<_> = (host, port).to_socket_addrs()?.collect();
        addresses.dedup();
        Ok(addresses)
    }

    /// The same for what needs no resolver: addresses, and `localhost`.
    pub(crate) fn resolve_locally(host: &str, port: u16) -> Option<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Some(vec![SocketAddr::new(address, port)]);
        }
        if host.eq_ignore_ascii_case("localhost") {
            // IPv4 first: that is where the other languages' servers listen.
            let both = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
            return Some(both.map(|address| SocketAddr::new(address, port)).to_vec());
        }
        None
    }
}

fn tcp(text: &str) -> Result<Endpoint, String> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, behind) = rest.split_once(']').ok_or("the bracket of the IPv6 address is not closed")?;
        let address = host.split_once('%').map_or(host, |(address, _zone)| address);
        if address.parse::<Ipv6Addr>().is_err() {
            return Err(format!("\"{host}\" is not an IPv6 address"));
        }
        let port = behind.strip_prefix(':').ok_or("a port must follow the address, as in \"[::1]:8000\"")?;
        (host, port)
    } else {
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(if text.parse::<u16>().is_ok() {
                format!("no port, did you mean \":{text}\"?")
            } else {
                format!("no port; write \"{text}:PORT\", or \"./{text}\" for a Unix socket")
            });
        };
        if host.contains(':') {
            return Err("an IPv6 address is written in brackets, as in \"[::1]:8000\"".to_string());
        }
        (host, port)
    };
    if host == "*" {
        return Err("write 0.0.0.0 or [::] for all addresses".to_string());
    }
    let strange = |c: char| c.is_whitespace() || c.is_control() || "/\\?#@&=\"'[]".contains(c);
    if let Some(found) = host.chars().find(|&c| strange(c)) {
        return Err(format!("a host name cannot hold {found:?}"));
    }
    if !port.bytes().all(|byte| byte.is_ascii_digit()) || port.is_empty() {
        return Err(format!("\"{port}\" is not a port, expected a number from 0 to 65535"));
    }
    let port = port.parse().map_err(|_| format!("port {port} is too large, expected 0 to 65535"))?;
    Ok(Endpoint::tcp(if host.is_empty() { "127.0.0.1" } else { host }, port))
}

fn unix(text: &str) -> Result<Endpoint, String> {
    if let Some(name) = text.strip_prefix('@') {
        return match name {
            "" => Err("an abstract name must not be empty".to_string()),
            _ if name.len() > ABSTRACT_MAX => Err(format!(
                "an abstract name holds at most {ABSTRACT_MAX} bytes, this one has {}",
                name.len()
            )),
            _ => Ok(Endpoint { address: Address::Abstract(name.to_string()) }),
        };
    }
    let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
    if path.is_empty() {
        return Err("the path is empty".to_string());
    }
    if path.ends_with('/') {
        return Err("the path names a directory, expected a file such as app.sock in it".to_string());
    }
    if path.contains('\0') {
        return Err("a path cannot hold a NUL character".to_string());
    }
    if path.len() > PATH_MAX {
        return Err(format!(
            "the path of a Unix socket holds at most {PATH_MAX} bytes, this one has {}",
            path.len()
        ));
    }
    let (mut mode, mut group) = (None, None);
    for option in query.unwrap_or_default().split('&').filter(|option| !option.is_empty()) {
        match option.split_once('=').unwrap_or((option, "")) {
            ("mode", text) => {
                let bits = u32::from_str_radix(text, 8).ok().filter(|bits| bits & !0o777 == 0);
                mode = Some(bits.ok_or(format!("mode {text:?} is not an octal number such as 0660"))?);
            }
            ("group", "") => return Err("group needs a name or a number".to_string()),
            ("group", name) => group = Some(name.to_string()),
            (other, _) => return Err(format!("unknown option {other:?}, known are mode and group")),
        }
    }
    Ok(Endpoint { address: Address::Path { path: path.into(), mode, group } })
}

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text).map_err(|reason| {
            Error::unsent(ErrorKind::InvalidEndpoint, format!("invalid endpoint {text:?}: {reason}"))
        })
    }
}

impl TryFrom<&str> for Endpoint {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self, Error> {
        text.parse()
    }
}

impl TryFrom<String> for Endpoint {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl TryFrom<&String> for Endpoint {
    type Error = Error;

    fn try_from(text: &String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<&Endpoint> for Endpoint {
    fn from(endpoint: &Endpoint) -> Self {
        endpoint.clone()
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self::tcp(address.ip().to_string(), address.port())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Tcp { host, port } if host.contains(':') => write!(f, "tcp:[{host}]:{port}"),
            Address::Tcp { host, port } => write!(f, "tcp:{host}:{port}"),
            Address::Abstract(name) => write!(f, "unix:@{name}"),
            Address::Path { path, mode, group } => {
                write!(f, "unix:{}", path.display())?;
                let mode = mode.map(|mode| format!("mode={mode:04o}"));
                let group = group.as_ref().map(|group| format!("group={group}"));
                let options: Vec<_> = mode.into_iter().chain(group).collect();
                if options.is_empty() { Ok(()) } else { write!(f, "?{}", options.join("&")) }
            }
        }
    }
}

/// `sun_path` has 108 bytes on Linux, the last of them a NUL.
const PATH_MAX: usize = 107;
const ABSTRACT_MAX: usize = 107;

#[cfg(test)]
mod tests {
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
            ("/a?color=red", "unknown option \"color\", known are mode and group"),
            (&long, "the path of a Unix socket holds at most 107 bytes, this one has 108"),
        ] {
            let error = text.parse::<Endpoint>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidEndpoint);
            assert_eq!(error.to_string(), format!("invalid endpoint {text:?}: {reason}"));
        }
    }

    #[test]
    fn localhost_is_both_loopback_addresses() {
        let addresses = Endpoint::resolve("LocalHost", 7).unwrap();
        assert_eq!(addresses, ["127.0.0.1:7".parse().unwrap(), "[::1]:7".parse().unwrap()]);
    }
}
