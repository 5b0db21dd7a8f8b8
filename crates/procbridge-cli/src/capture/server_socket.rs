//! Connects to the server.

use std::io::{self, ErrorKind};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Duration;

use procbridge::{Endpoint, Peer};

/// A connection to the server, and who is at its other end.
pub(crate) fn connect(server: &Endpoint, limit: Option<Duration>) -> io::Result<(OwnedFd, String)> {
    let text = server.to_string();
    if let Some(place) = text.strip_prefix("tcp:") {
        let stream = connect_tcp(place, limit)?;
        stream.set_nodelay(true)?;
        let peer = format!("tcp:{}", stream.peer_addr()?);
        return Ok((stream.into(), peer));
    }
    let stream = match (server.path(), server.abstract_name()) {
        (Some(path), _) => UnixStream::connect(path)?,
        (None, name) => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name.unwrap_or_default())?)?,
    };
    let peer = Peer::of_socket(&stream)?;
    // The call's own look at the server's user ends at this program; what it sends may hold a token.
    server.check_server(&peer, true).map_err(|error| io::Error::new(ErrorKind::PermissionDenied, error))?;
    Ok((stream.into(), peer.to_string()))
}

fn connect_tcp(place: &str, limit: Option<Duration>) -> io::Result<TcpStream> {
    let mut result = Err(ErrorKind::NotFound.into());
    for (tried, address) in place.to_socket_addrs()?.enumerate() {
        let stream = match limit {
            Some(limit) => TcpStream::connect_timeout(&address, limit),
            None => TcpStream::connect(address),
        };
        match stream {
            // Where no server listens the system may connect a socket to itself.
            Ok(stream)
                if stream.local_addr().is_ok_and(|own| stream.peer_addr().is_ok_and(|peer| peer == own)) =>
            {
                rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
                result = Err(ErrorKind::ConnectionRefused.into());
            }
            Ok(stream) => return Ok(stream),
            // The first address is the preferred one: its error is the one to tell.
            Err(error) if tried == 0 => result = Err(error),
            Err(_) => {}
        }
    }
    result
}
