//! The called end of a connection.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::bundle::Facts;
use crate::error::Error;
use crate::expect::Expect;
use crate::identity::Identity;
use crate::name::Name;

/// A handshake takes two messages; who needs longer than this holds a place that others want.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);

/// Who is at the other end of an accepted connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: Name,
    /// When its certificate runs out.
    pub not_after: SystemTime,
}

impl Peer {
    /// How long its certificate still holds. A connection should not outlive it by much: whoever may go on has a newer one.
    pub fn remaining(&self) -> Duration {
        self.not_after.duration_since(SystemTime::now()).unwrap_or_default()
    }
}

/// Accepts connections of those who are expected, and of nobody else.
#[derive(Clone)]
pub struct Acceptor(TlsAcceptor);

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Acceptor")
    }
}

impl Acceptor {
    /// For this process, expecting those.
    pub fn new(identity: &Identity, expect: Expect) -> Result<Self, Error> {
        Ok(Self(TlsAcceptor::from(Arc::new(crate::tls::server(identity, expect)?))))
    }

    /// Shakes hands; an error if that fails or takes too long.
    pub async fn accept<S>(&self, stream: S) -> io::Result<(TlsStream<S>, Peer)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = tokio::time::timeout(HANDSHAKE_TIME_MAX, self.0.accept(stream)).await??;
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let nobody = || io::Error::new(io::ErrorKind::PermissionDenied, "the peer shows no certificate");
        let facts = Facts::of(certificate.ok_or_else(nobody)?).map_err(io::Error::other)?;
        Ok((stream, Peer { name: facts.name, not_after: facts.not_after }))
    }
}
