//! The called end of a connection.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::authority::renew_at;
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
    /// When it should have a newer one: half of what its certificate was issued for is over then.
    pub renew_at: SystemTime,
}

impl Peer {
    /// Who shows those certificates, if the first of them can be read.
    pub(crate) fn of(chain: Option<&[CertificateDer<'_>]>) -> io::Result<Self> {
        let nobody = || io::Error::new(io::ErrorKind::PermissionDenied, "the peer shows no certificate");
        let certificate = chain.and_then(|chain| chain.first()).ok_or_else(nobody)?;
        let Facts { name, not_before, not_after } = Facts::of(certificate).map_err(io::Error::other)?;
        Ok(Self { name, not_after, renew_at: renew_at(not_before, not_after) })
    }

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
        let peer = Peer::of(stream.get_ref().1.peer_certificates())?;
        Ok((stream, peer))
    }
}
