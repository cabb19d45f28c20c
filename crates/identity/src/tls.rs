//! Both ends' configuration: TLS 1.3, both show a certificate of the platform's authority, and both look at the name.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
};

use crate::bundle::Facts;
use crate::error::Error;
use crate::expect::Expect;
use crate::identity::Identity;
use crate::name::Name;

pub(crate) const VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// For who is called. Sessions are not resumed: each connection shows certificates that hold now, and connections are
/// kept for many requests.
pub(crate) fn server(identity: &Identity, expect: Expect) -> Result<ServerConfig, Error> {
    let inner = WebPkiClientVerifier::builder_with_provider(identity.roots(), provider()).build()?;
    let verifier = Arc::new(Clients { inner, judge: Judge { own: identity.name().clone(), expect } });
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(identity.server_resolver());
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// For who calls. The certificate must be for the address that is called, too.
pub(crate) fn client(identity: &Identity, expect: Expect) -> Result<ClientConfig, Error> {
    client_with(provider(), identity, expect)
}

/// For who calls a database. PostgreSQL's only curve is P-256; offered another one first it would have to ask again, a
/// round trip for every connection.
pub(crate) fn database_client(identity: &Identity, expect: Expect) -> Result<ClientConfig, Error> {
    let groups = vec![rustls::crypto::ring::kx_group::SECP256R1];
    let provider = CryptoProvider { kx_groups: groups, ..rustls::crypto::ring::default_provider() };
    client_with(Arc::new(provider), identity, expect)
}

fn client_with(
    with: Arc<CryptoProvider>,
    identity: &Identity,
    expect: Expect,
) -> Result<ClientConfig, Error> {
    let inner = WebPkiServerVerifier::builder_with_provider(identity.roots(), provider()).build()?;
    let verifier = Arc::new(Servers { inner, judge: Judge { own: identity.name().clone(), expect } });
    let mut config = ClientConfig::builder_with_provider(with)
        .with_protocol_versions(VERSIONS)?
        .dangerous() // rustls's word for a verifier of one's own; this one does all that its own does, and more
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(identity.client_resolver());
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// Looks at names.
#[derive(Debug)]
struct Judge {
    own: Name,
    expect: Expect,
}

impl Judge {
    fn judge(&self, certificate: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        let bad = rustls::Error::InvalidCertificate(CertificateError::BadEncoding);
        let facts = Facts::of(certificate).map_err(|_| bad)?;
        match self.expect.refuses(&self.own, &facts.name) {
            None => Ok(()),
            Some(why) => {
                tracing::warn!(why, "a peer is refused");
                Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
            }
        }
    }
}

#[derive(Debug)]
struct Clients {
    inner: Arc<dyn ClientCertVerifier>,
    judge: Judge,
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.inner.verify_client_cert(certificate, intermediates, now)?;
        self.judge.judge(certificate)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[derive(Debug)]
struct Servers {
    inner: Arc<WebPkiServerVerifier>,
    judge: Judge,
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified =
            self.inner.verify_server_cert(certificate, intermediates, server_name, ocsp_response, now)?;
        self.judge.judge(certificate)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
