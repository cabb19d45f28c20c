//! The calling end of a connection.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use dujiang_types::DcId;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::accept::Peer;
use crate::error::Error;
use crate::expect::Expect;
use crate::identity::Identity;
use crate::name::Role;

/// Makes connections of one's own secure.
#[derive(Clone)]
pub struct Connector(TlsConnector);

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector")
    }
}

impl Connector {
    /// For this process, expecting those.
    pub fn new(identity: &Identity, expect: Expect) -> Result<Self, Error> {
        Ok(Self(TlsConnector::from(Arc::new(crate::tls::client(identity, expect)?))))
    }

    /// The same, saying which protocol is spoken inside.
    pub fn with_protocol(identity: &Identity, expect: Expect, protocol: &[u8]) -> Result<Self, Error> {
        let mut config: ClientConfig = crate::tls::client(identity, expect)?;
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// To the databases of a data center.
    pub fn to_database(identity: &Identity, dc: &DcId) -> Result<Self, Error> {
        let expect = Expect::roles(&[Role::Postgres]).within(dc);
        Ok(Self(TlsConnector::from(Arc::new(crate::tls::database_client(identity, expect)?))))
    }

    /// Shakes hands with who listens at that address. The caller bounds the time.
    pub async fn connect<S>(&self, address: IpAddr, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.0.connect(ServerName::IpAddress(address.into()), stream).await
    }

    /// Shakes hands only to learn who listens at that address, and until when it may say so. The caller bounds the time.
    pub async fn meet<S>(&self, address: IpAddr, stream: S) -> io::Result<Peer>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = self.connect(address, stream).await?;
        Peer::of(stream.get_ref().1.peer_certificates())
    }
}

/// An HTTP client for those who serve everybody in plain text: gateways to their customers. It trusts nobody's
/// certificate.
pub fn plain_http_client() -> reqwest::ClientBuilder {
    let config = ClientConfig::builder_with_provider(crate::tls::provider())
        .with_protocol_versions(crate::tls::VERSIONS)
        .expect("the provider has the suites of TLS 1.3")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    reqwest::Client::builder().no_proxy().tls_backend_preconfigured(config)
}

/// An HTTP client that talks to those who are expected, and without TLS to nobody.
pub fn http_client(identity: &Identity, expect: Expect) -> Result<reqwest::ClientBuilder, Error> {
    let config = crate::tls::client(identity, expect)?;
    Ok(reqwest::Client::builder().no_proxy().https_only(true).tls_backend_preconfigured(config))
}
