//! Connections to units' databases, in which both ends show an identity of the platform.
//!
//! There is no way to connect without: who calls shows its identity, and takes for the database only who is a
//! database of the data center that was meant. PostgreSQL itself looks whether the caller's certificate carries the
//! role it wants (0016).

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use dujiang_identity::{Connector, Error, Identity};
use dujiang_types::DcId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, Config, Socket};
use tokio_rustls::client::TlsStream;

/// What drives a connection to a database.
pub type Connection = tokio_postgres::Connection<Socket, Stream<Socket>>;

/// Secures connections to the databases of one data center. Cheap to clone; every connection shows the newest
/// certificate.
#[derive(Debug, Clone)]
pub struct Tls(Connector);

impl Tls {
    /// For this process, to the databases of that data center.
    pub fn new(identity: &Identity, dc: &DcId) -> Result<Self, Error> {
        Ok(Self(Connector::to_database(identity, dc)?))
    }
}

/// Connects, and never without TLS, whatever the configuration says. Its host must be an address.
pub async fn connect(config: &Config, tls: &Tls) -> Result<(Client, Connection), tokio_postgres::Error> {
    let mut config = config.clone();
    config.ssl_mode(SslMode::Require);
    config.connect(tls.clone()).await
}

/// One connection's handshake. Named by the traits of the PostgreSQL client.
#[derive(Debug)]
pub struct Handshake {
    connector: Connector,
    address: IpAddr,
}

/// The secured stream.
#[derive(Debug)]
pub struct Stream<S>(TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for Tls {
    type Stream = Stream<S>;
    type TlsConnect = Handshake;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> io::Result<Handshake> {
        let not_an_address =
            |_| io::Error::new(io::ErrorKind::InvalidInput, format!("{host} is not an address"));
        Ok(Handshake { connector: self.0.clone(), address: host.parse().map_err(not_an_address)? })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for Handshake {
    type Stream = Stream<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move { self.connector.connect(self.address, stream).await.map(Stream) })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> tokio_postgres::tls::TlsStream for Stream<S> {
    /// None: the database has shown by its certificate who it is.
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
