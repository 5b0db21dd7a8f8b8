//! The proxy's connection to the server.

use std::io::{self, ErrorKind};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Duration;

use procbridge::{Endpoint, Peer};

/// Connects to `server`. Returns also the peer, as it is shown.
pub(crate) fn connect(server: &Endpoint, timeout: Option<Duration>) -> io::Result<(OwnedFd, String)> {
    let text = server.to_string();
    if let Some(address) = text.strip_prefix("tcp:") {
        let stream = connect_tcp(address, timeout)?;
        stream.set_nodelay(true)?;
        let peer = format!("tcp:{}", stream.peer_addr()?);
        return Ok((stream.into(), peer));
    }
    let stream = match (server.path(), server.abstract_name()) {
        (Some(path), _) => UnixStream::connect(path)?,
        (None, name) => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name.unwrap_or_default())?)?,
    };
    let peer = Peer::of_socket(&stream)?;
    // The client checks the proxy's user only. Check the server's here, as the request may hold a token.
    server.check_server(&peer, true).map_err(|error| io::Error::new(ErrorKind::PermissionDenied, error))?;
    Ok((stream.into(), peer.to_string()))
}

fn connect_tcp(addresses: &str, timeout: Option<Duration>) -> io::Result<TcpStream> {
    let mut result = Err(ErrorKind::NotFound.into());
    for (tried, address) in addresses.to_socket_addrs()?.enumerate() {
        let stream = match timeout {
            Some(timeout) => TcpStream::connect_timeout(&address, timeout),
            None => TcpStream::connect(address),
        };
        match stream {
            // Without a server the system may connect a socket to itself.
            Ok(stream)
                if stream.local_addr().is_ok_and(|own| stream.peer_addr().is_ok_and(|peer| peer == own)) =>
            {
                rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
                result = Err(ErrorKind::ConnectionRefused.into());
            }
            Ok(stream) => return Ok(stream),
            // The first address is the preferred one, so its error is reported.
            Err(error) if tried == 0 => result = Err(error),
            Err(_) => {}
        }
    }
    result
}
