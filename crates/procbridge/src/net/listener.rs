//! Listening: an endpoint becomes sockets that listen. Both faces share it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::config::server::ServerConfig;
use crate::endpoint::{Address, Endpoint};
use crate::error::{Error, ErrorKind, plain};
use crate::net::socket_file::SocketFile;
use crate::user::User;

/// A socket that listens.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: Option<OwnedFd>,
    /// The endpoint, with the port that the system chose.
    pub(crate) endpoint: Endpoint,
    pub(crate) peers: AllowedPeers,
    /// Dropped after the socket: a file that was never served is removed only if no process has its socket any more.
    file: Option<SocketFile>,
}

/// A socket that a server accepts connections at, with its file.
#[derive(Debug)]
pub(crate) struct OpenListener {
    pub(crate) socket: OwnedFd,
    pub(crate) file: Option<SocketFile>,
}

/// Which peers may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AllowedPeers {
    /// All that the network or the file's mode allows.
    Any,
    /// The user of this process, and root.
    SameUser,
}

impl Listener {
    /// Listens at `endpoint`: on one socket, or on one for each address of a name.
    pub(crate) fn bind(endpoint: &Endpoint, config: &ServerConfig) -> Result<Vec<Self>, Error> {
        let endpoint = &endpoint.clone().checked()?;
        match &endpoint.address {
            Address::Tcp { host, port } => Self::bind_name(endpoint, host, *port, config),
            Address::Abstract { name, .. } => {
                Self::bind_abstract(endpoint, name, config).map(|one| vec![one])
            }
            Address::Path { path, options } => {
                let socket = socket(AddressFamily::UNIX).map_err(|error| cannot(endpoint, error))?;
                let file = SocketFile::bind(&socket, path, options)?;
                let widened = options.mode() & 0o077 != 0;
                // An unmapped user may stand for several users, so only the file's mode protects its server.
                let is_unmapped = User::of_this_process() == User::Unmapped;
                let peers = if widened || is_unmapped || config.any_user {
                    AllowedPeers::Any
                } else {
                    AllowedPeers::SameUser
                };
                let endpoint = endpoint.clone();
                Self { socket: Some(socket), endpoint, peers, file: Some(file) }
                    .listen(config)
                    .map(|one| vec![one])
            }
        }
    }

    fn bind_name(
        endpoint: &Endpoint,
        host: &str,
        port: u16,
        config: &ServerConfig,
    ) -> Result<Vec<Self>, Error> {
        let addresses = Endpoint::resolve(host, port).map_err(|error| {
            Error::io(
                ErrorKind::Listen,
                format_args!("cannot listen on {endpoint}: no address for {host:?}"),
                error,
            )
        })?;
        let remote = addresses.iter().find(|address| !address.ip().is_loopback());
        let is_allowed = config.allow_remote || config.token.is_some();
        if let (Some(remote), false) = (remote, is_allowed) {
            return Err(Error::unsent(
                ErrorKind::Denied,
                format!(
                    "will not listen on {}: other machines could call every method there; use a loopback \
                     address such as 127.0.0.1, ask for a token (ServerConfig::with_token), or allow it \
                     (ServerConfig::allow_remote)",
                    Endpoint::from(*remote)
                ),
            ));
        }
        // A port that is free on the first address may be taken on the next; then another port is chosen.
        let mut result = Self::bind_addresses(endpoint, &addresses, port, config);
        for _ in 0..PORTS_TRIED {
            match &result {
                Err((Errno::ADDRINUSE, _)) if port == 0 && addresses.len() > 1 => {
                    result = Self::bind_addresses(endpoint, &addresses, port, config);
                }
                _ => break,
            }
        }
        result.map_err(|(error, endpoint)| cannot(&endpoint, error))
    }

    fn bind_addresses(
        endpoint: &Endpoint,
        addresses: &[SocketAddr],
        mut port: u16,
        config: &ServerConfig,
    ) -> Result<Vec<Self>, (Errno, Endpoint)> {
        let mut listeners = Vec::new();
        for address in addresses {
            let mut address = *address;
            address.set_port(port);
            match Self::bind_address(address, config) {
                Ok(listener) => {
                    // All addresses of a name get the port that the first one got.
                    port = listener.endpoint.port().unwrap_or(port);
                    listeners.push(listener);
                }
                // A name may have an address that this machine lacks, for example an IPv6 one.
                Err(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT) => {}
                Err(error) => return Err((error, Endpoint::from(address))),
            }
        }
        if listeners.is_empty() { Err((Errno::ADDRNOTAVAIL, endpoint.clone())) } else { Ok(listeners) }
    }

    fn bind_address(address: SocketAddr, config: &ServerConfig) -> Result<Self, Errno> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket(family)?;
        // A restart must not wait for connections of the last run to time out.
        set_socket_reuseaddr(&socket, true)?;
        if address.is_ipv6() {
            set_ipv6_v6only(&socket, true)?;
        }
        rustix::net::bind(&socket, &address)?;
        rustix::net::listen(&socket, i32::from(config.backlog))?;
        let bound = SocketAddr::try_from(rustix::net::getsockname(&socket)?)?;
        Ok(Self {
            socket: Some(socket),
            endpoint: Endpoint::from(bound),
            peers: AllowedPeers::Any,
            file: None,
        })
    }

    fn bind_abstract(endpoint: &Endpoint, name: &[u8], config: &ServerConfig) -> Result<Self, Error> {
        let bind = || {
            let socket = socket(AddressFamily::UNIX)?;
            rustix::net::bind(&socket, &SocketAddrUnix::new_abstract_name(name)?)?;
            Ok(socket)
        };
        let socket = bind().map_err(|error| cannot(endpoint, error))?;
        // An abstract name has no mode: this check is its only protection.
        let peers = if config.any_user { AllowedPeers::Any } else { AllowedPeers::SameUser };
        Self { socket: Some(socket), endpoint: endpoint.clone(), peers, file: None }.listen(config)
    }

    fn listen(self, config: &ServerConfig) -> Result<Self, Error> {
        if let Some(socket) = &self.socket {
            rustix::net::listen(socket, i32::from(config.backlog))
                .map_err(|error| cannot(&self.endpoint, error))?;
        }
        Ok(self)
    }

    /// Takes the socket and its file, for the threads or tasks that accept in this process from now on.
    pub(crate) fn open(&mut self) -> Option<OpenListener> {
        let (socket, mut file) = (self.socket.take()?, self.file.take());
        if let Some(file) = &mut file {
            file.serve();
        }
        Some(OpenListener { socket, file })
    }
}

fn socket(family: AddressFamily) -> Result<OwnedFd, Errno> {
    rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)
}

fn cannot(endpoint: &Endpoint, error: Errno) -> Error {
    let reason = match error {
        Errno::ADDRINUSE => "another server listens there".to_string(),
        Errno::ADDRNOTAVAIL => "this machine has no such address".to_string(),
        other => plain(&io::Error::from(other)),
    };
    let error = io::Error::from(error);
    Error::unsent(ErrorKind::Listen, format!("cannot listen on {endpoint}: {reason}")).with_source(error)
}

/// Attempts at a port that is free on all addresses: nearly all ports are free.
const PORTS_TRIED: usize = 10;
