//! Listening sockets.

use std::io;
use std::net::{SocketAddr, TcpListener};

use rustix::process::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};

use crate::error::Error;

/// Connections that may wait to be accepted, per listener: a burst of reconnecting clients.
const BACKLOG: i32 = 1024;

/// One listener per thread on one address, among which the kernel spreads connections; and that address.
pub(crate) fn shared(address: SocketAddr, threads: usize) -> Result<(Vec<TcpListener>, SocketAddr), Error> {
    let failed = |source| Error::Listen { address, source };
    // Sharing an address would also share it with another gateway that was left running, and silently. So it is
    // first taken for oneself.
    let own = bound(address, false).map_err(failed)?;
    let address = own.local_addr().ok().and_then(|address| address.as_socket()).unwrap_or(address);
    drop(own);
    let listeners = (0..threads).map(|_| bound(address, true).and_then(listening));
    Ok((listeners.collect::<Result<_, _>>().map_err(failed)?, address))
}

/// A listener nobody else can share the address of; and that address.
pub(crate) fn exclusive(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let failed = |source| Error::Listen { address, source };
    let listener = bound(address, false).and_then(listening).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

fn bound(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of an earlier gateway that are still fading out do not stand in the way.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn listening(socket: Socket) -> io::Result<TcpListener> {
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Each client costs up to two descriptors, far more than the usual soft limit of 1024 allows.
pub(crate) fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shared_among_threads_but_not_among_gateways() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (listeners, address) = shared(any, 3).unwrap();
        assert_eq!(listeners.len(), 3);
        assert!(listeners.iter().all(|listener| listener.local_addr().unwrap() == address));
        assert!(matches!(shared(address, 2), Err(Error::Listen { .. })));
        assert!(matches!(exclusive(address), Err(Error::Listen { .. })));
        drop(listeners);
        assert!(shared(address, 2).is_ok());
    }
}
