//! Endpoints: where a server listens and a client connects. One grammar for their text everywhere.

mod percent;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::endpoint::percent::{Encoded, decoded};
use crate::error::{Error, ErrorKind};

/// A TCP address or a Unix-domain socket.
///
/// | text | meaning |
/// |---|---|
/// | `127.0.0.1:8000`, `[::1]:8000`, `localhost:8000`, `tcp:HOST:PORT`, `tcp://HOST:PORT` | TCP |
/// | `:8000` | TCP on the loopback address 127.0.0.1 |
/// | `/run/app.sock`, `./app.sock`, `unix:/run/app.sock`, `unix:app.sock` | a Unix socket at a path |
/// | `unix:/run/app.sock?mode=0660&group=app` | the same, with the mode and group that a server gives it |
/// | `unix:@name` | a Unix socket with an abstract name (Linux) |
/// | `unix:/run/app.sock?user=app` | the same socket, for a client: its server may run as this user too (a name, a number, or `any`) |
/// | `unix:/run/app.sock?dir=any` | the same, for a server: also in a directory where every user may replace files |
///
/// `%` and two hexadecimal digits stand for a byte: `unix:/run/what%3F.sock` contains a question mark. An endpoint is
/// printed in this form, and parses to the same endpoint again.
///
/// A server ignores `user`, a client ignores `mode`, `group` and `dir`: both may be given the same text. `group`
/// without `mode` means mode 0660.
///
/// Port 0 lets the system choose; [`Server::endpoints`](crate::Server::endpoints) returns the choice. `localhost` means
/// both loopback addresses, without asking a resolver.
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
    Path { path: PathBuf, options: Options },
    Abstract { name: Vec<u8>, user: Option<String> },
}

/// The options behind the `?` of a Unix socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Options {
    pub(crate) mode: Option<u32>,
    pub(crate) group: Option<String>,
    /// The user whose server a client accepts, besides its own user and root.
    pub(crate) user: Option<String>,
    /// Whether a server may listen in a directory where every user can replace the file.
    pub(crate) any_dir: bool,
}

impl Endpoint {
    /// Returns a TCP endpoint. `host` is a name or an address, without brackets.
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        let host = Some(host.into()).filter(|host| !host.is_empty());
        Self { address: Address::Tcp { host: host.unwrap_or_else(|| "127.0.0.1".to_string()), port } }
    }

    /// Returns a Unix socket at `path`. A path that begins with `@` is in the current directory, not an abstract name.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        let mut path = path.into();
        if path.as_os_str().as_bytes().starts_with(b"@") {
            path = Path::new(".").join(path);
        }
        Self { address: Address::Path { path, options: Options::default() } }
    }

    /// Returns the path of a Unix socket that has one.
    pub fn path(&self) -> Option<&Path> {
        match &self.address {
            Address::Path { path, .. } => Some(path),
            _ => None,
        }
    }

    /// Returns the name of a Unix socket that has an abstract one.
    pub fn abstract_name(&self) -> Option<&[u8]> {
        match &self.address {
            Address::Abstract { name, .. } => Some(name),
            _ => None,
        }
    }

    /// Returns the user whose server a client accepts, besides its own user and root.
    pub(crate) fn user(&self) -> Option<&str> {
        match &self.address {
            Address::Tcp { .. } => None,
            Address::Path { options, .. } => options.user.as_deref(),
            Address::Abstract { user, .. } => user.as_deref(),
        }
    }

    /// Returns this Unix socket with another [user](Self::user).
    pub(crate) fn with_user(&self, name: &str) -> Self {
        let mut endpoint = self.clone();
        match &mut endpoint.address {
            Address::Tcp { .. } => {}
            Address::Path { options: Options { user, .. }, .. } | Address::Abstract { user, .. } => {
                *user = Some(name.to_string());
            }
        }
        endpoint
    }

    /// Checks an endpoint that a program has made: it may be one that no text parses to.
    pub(crate) fn checked(self) -> Result<Self, Error> {
        let checked = match &self.address {
            Address::Tcp { host, .. } => check_host(host),
            Address::Path { path, .. } => check_path(path.as_os_str().as_bytes()),
            Address::Abstract { name, .. } => check_name(name),
        };
        match checked {
            Ok(()) => Ok(self),
            Err(reason) => {
                let message = format!("invalid endpoint {:?}: {reason}", self.to_string());
                Err(Error::unsent(ErrorKind::InvalidEndpoint, message))
            }
        }
    }

    /// Returns the port of a TCP endpoint.
    pub fn port(&self) -> Option<u16> {
        match &self.address {
            Address::Tcp { port, .. } => Some(*port),
            _ => None,
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

    /// Returns the socket addresses of a TCP endpoint, in the order in which to try them.
    ///
    /// # Blocking
    ///
    /// May ask the system's resolver.
    pub(crate) fn resolve(host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
        if let Some(addresses) = Self::resolve_locally(host, port) {
            return Ok(addresses);
        }
        let mut addresses: Vec<_> = (host, port).to_socket_addrs()?.collect();
        addresses.dedup();
        Ok(addresses)
    }

    /// Does the same for hosts that need no resolver: addresses, and `localhost`.
    pub(crate) fn resolve_locally(host: &str, port: u16) -> Option<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Some(vec![SocketAddr::new(address, port)]);
        }
        if host.eq_ignore_ascii_case("localhost") {
            // IPv4 first: the servers of other languages listen there.
            let both = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
            return Some(both.map(|address| SocketAddr::new(address, port)).to_vec());
        }
        None
    }
}

fn tcp(text: &str) -> Result<Endpoint, String> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, behind) = rest.split_once(']').ok_or("the bracket of the IPv6 address is not closed")?;
        if !host.contains(':') {
            return Err(format!("\"{host}\" is not an IPv6 address"));
        }
        check_host(host)?;
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
        if !host.is_empty() {
            check_host(host)?;
        }
        (host, port)
    };
    if !port.bytes().all(|byte| byte.is_ascii_digit()) || port.is_empty() {
        return Err(format!("\"{port}\" is not a port, expected a number from 0 to 65535"));
    }
    let port = port.parse().map_err(|_| format!("port {port} is too large, expected 0 to 65535"))?;
    Ok(Endpoint::tcp(host, port))
}

/// Checks a name or an address, without brackets.
fn check_host(host: &str) -> Result<(), String> {
    if host == "*" {
        return Err("write 0.0.0.0 or [::] for all addresses".to_string());
    }
    let strange = |c: char| c.is_whitespace() || c.is_control() || "/\\?#@&=\"'[]".contains(c);
    if let Some(found) = host.chars().find(|&c| strange(c)) {
        return Err(format!("a host name cannot hold {found:?}"));
    }
    let address = host.split_once('%').map_or(host, |(address, _zone)| address);
    if host.contains(':') && address.parse::<Ipv6Addr>().is_err() {
        return Err(format!("\"{host}\" is not an IPv6 address"));
    }
    Ok(())
}

fn unix(text: &str) -> Result<Endpoint, String> {
    let (target, query) = text.split_once('?').map_or((text, None), |(target, query)| (target, Some(query)));
    let mut options = Options::default();
    for option in query.unwrap_or_default().split('&').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let value = String::from_utf8(decoded(value))
            .map_err(|_| format!("the value of option {name:?} is not UTF-8 text"))?;
        match (name, value) {
            ("mode", text) => {
                let bits = u32::from_str_radix(&text, 8).ok().filter(|bits| bits & !0o777 == 0);
                options.mode =
                    Some(bits.ok_or(format!("mode {text:?} is not an octal number such as 0660"))?);
            }
            ("group" | "user", empty) if empty.is_empty() => {
                return Err(format!("{name} needs a name or a number"));
            }
            ("group", group) => options.group = Some(group),
            ("user", user) => options.user = Some(user),
            ("dir", any) if any == "any" => options.any_dir = true,
            ("dir", other) => return Err(format!("dir {other:?} is not known, expected dir=any")),
            (other, _) => {
                return Err(format!("unknown option {other:?}, known are mode, group, user and dir"));
            }
        }
    }
    if let Some(name) = target.strip_prefix('@') {
        let name = decoded(name);
        check_name(&name)?;
        return match options {
            Options { mode: None, group: None, any_dir: false, user } => {
                Ok(Endpoint { address: Address::Abstract { name, user } })
            }
            _ => Err(
                "an abstract name has no file, so it takes no mode, group or dir; a \"?\" in the name is \
                 written \"%3F\""
                    .to_string(),
            ),
        };
    }
    let path = decoded(target);
    check_path(&path)?;
    Ok(Endpoint { address: Address::Path { path: OsString::from_vec(path).into(), options } })
}

fn check_name(name: &[u8]) -> Result<(), String> {
    match name.len() {
        0 => Err("an abstract name must not be empty".to_string()),
        length if length > ABSTRACT_MAX => {
            Err(format!("an abstract name holds at most {ABSTRACT_MAX} bytes, this one has {length}"))
        }
        _ => Ok(()),
    }
}

fn check_path(path: &[u8]) -> Result<(), String> {
    if path.is_empty() {
        return Err("the path is empty".to_string());
    }
    if path.ends_with(b"/") {
        return Err("the path names a directory, expected a file such as app.sock in it".to_string());
    }
    if path.contains(&0) {
        return Err("a path cannot hold a NUL character".to_string());
    }
    if path.len() > PATH_MAX {
        return Err(format!(
            "the path of a Unix socket holds at most {PATH_MAX} bytes, this one has {}",
            path.len()
        ));
    }
    Ok(())
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |name: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!("{name}={}", Encoded(value.as_bytes())))
        };
        let options = [
            self.mode.map(|mode| format!("mode={mode:04o}")),
            named("group", &self.group),
            named("user", &self.user),
            self.any_dir.then(|| "dir=any".to_string()),
        ];
        let options: Vec<_> = options.into_iter().flatten().collect();
        if options.is_empty() { Ok(()) } else { write!(f, "?{}", options.join("&")) }
    }
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

impl From<PathBuf> for Endpoint {
    fn from(path: PathBuf) -> Self {
        Self::unix(path)
    }
}

impl From<&PathBuf> for Endpoint {
    fn from(path: &PathBuf) -> Self {
        Self::unix(path)
    }
}

impl From<&Path> for Endpoint {
    fn from(path: &Path) -> Self {
        Self::unix(path)
    }
}

impl<H: Into<String>> From<(H, u16)> for Endpoint {
    fn from((host, port): (H, u16)) -> Self {
        Self::tcp(host, port)
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
            Address::Abstract { name, user } => {
                let options = Options { user: user.clone(), ..Options::default() };
                write!(f, "unix:@{}{options}", Encoded(name))
            }
            Address::Path { path, options } => {
                let bytes = path.as_os_str().as_bytes();
                // Two leading slashes would be parsed as those of a URL.
                let url = if bytes.starts_with(b"//") { "//" } else { "" };
                write!(f, "unix:{url}{}{options}", Encoded(bytes))
            }
        }
    }
}

/// `sun_path` has 108 bytes on Linux, the last of them a NUL.
const PATH_MAX: usize = 107;
const ABSTRACT_MAX: usize = 107;
