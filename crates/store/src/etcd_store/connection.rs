//! The connection to a cluster. It is made by us rather than by the library below, so that each one shows the identity as
//! it is renewed, and looks at who answers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dujiang_identity::{Connector, Expect, Identity, Role};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::{Error, Result};

/// Longest wait for a connection to one member, with its handshake: milliseconds, unless the machine stands still. Two
/// members that do not answer fit a call.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a connection in use is pinged. etcd cuts off who pings more often than every 5 s.
const PING_INTERVAL: Duration = Duration::from_secs(6);
/// How long an answer to a ping may take before the connection counts as broken.
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// gRPC's name among the protocols inside TLS.
const HTTP_2: &[u8] = b"h2";

/// A connection to one of the members, made when it is needed and made again when it breaks: then with the next one.
pub(super) fn channel(endpoints: &[&str], identity: &Identity) -> Result<Channel> {
    let invalid = || Error::UrlInvalid { url: format!("etcd:{}", endpoints.join(",")) };
    let addresses: Option<Vec<SocketAddr>> = endpoints.iter().map(|url| address(url)).collect();
    let addresses = addresses.filter(|addresses| !addresses.is_empty()).ok_or_else(invalid)?;
    let connector = Connector::with_protocol(identity, Expect::roles(&[Role::Store]), HTTP_2)
        .map_err(|error| Error::unavailable("use its identity", error))?;
    // Which authority a request names is the same for all members, and nothing to any.
    let origin = Endpoint::from_shared(format!("https://{}", addresses[0])).map_err(|_| invalid())?;
    let members = Arc::new(Members { addresses, connector, next: AtomicUsize::new(0) });
    let connect = service_fn(move |_| {
        let members = Arc::clone(&members);
        async move { members.connect().await }
    });
    Ok(origin
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(false)
        .connect_with_connector_lazy(connect))
}

/// Members are known by address: that is what their certificates are for.
fn address(url: &str) -> Option<SocketAddr> {
    url.strip_prefix("https://")?.trim_end_matches('/').parse().ok()
}

struct Members {
    addresses: Vec<SocketAddr>,
    connector: Connector,
    /// Where to begin: a member whose connection broke is tried last.
    next: AtomicUsize,
}

type Stream = TokioIo<tokio_rustls::client::TlsStream<TcpStream>>;

impl Members {
    async fn connect(&self) -> io::Result<Stream> {
        let mut last = io::Error::from(io::ErrorKind::NotConnected);
        for _ in &self.addresses {
            let address = self.addresses[self.next.fetch_add(1, Ordering::Relaxed) % self.addresses.len()];
            match timeout(CONNECT_TIMEOUT, self.shake_hands(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(elapsed) => last = elapsed.into(),
            }
        }
        Err(last)
    }

    async fn shake_hands(&self, address: SocketAddr) -> io::Result<Stream> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(TokioIo::new(self.connector.connect(address.ip(), stream).await?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_are_secured_are_members() {
        assert_eq!(address("https://127.0.0.1:2379"), Some("127.0.0.1:2379".parse().unwrap()));
        assert_eq!(address("https://[::1]:2379/"), Some("[::1]:2379".parse().unwrap()));
        for wrong in ["http://127.0.0.1:2379", "127.0.0.1:2379", "https://", "https://localhost:2379", " "] {
            assert_eq!(address(wrong), None, "{wrong}");
        }
    }
}
