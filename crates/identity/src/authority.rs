//! The platform's certificate authorities: one for all its processes and operators, and one for the store alone, so
//! that nobody but control servers and members gets a word with it.

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use dujiang_types::PlatformId;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::bundle::{Bundle, write_secret};
use crate::error::Error;
use crate::name::Name;

/// How long a certificate holds unless the manifest says otherwise. Renewed by half of it, so that half a day without
/// any control server is no reason for a bank to stop.
pub const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// How long an authority holds: longer than a platform keeps one.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// A clock that was set wrong by an hour, in either direction, must not make certificates invalid; nor must an
/// authority made by a machine with another clock than that which checks.
const BACKDATED: Duration = Duration::from_secs(2 * 60 * 60);

/// How certificates are issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Seconds from issue until a certificate runs out.
    pub lifetime_s: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self { lifetime_s: LIFETIME.as_secs() }
    }
}

/// The folder that holds the authorities. Whoever can read it can be anyone.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

impl Folder {
    /// Of the platform in `data`.
    pub fn of(data: &Path) -> Self {
        Self(data.join("authority"))
    }

    /// Makes what is missing, and sets the policy.
    pub fn prepare(&self, platform: &PlatformId, policy: Policy) -> Result<(), Error> {
        let file = |what, path: &Path, source| Error::File { what, path: path.to_owned(), source };
        if !self.0.exists() {
            use std::os::unix::fs::DirBuilderExt as _;
            let made = fs::DirBuilder::new().mode(0o700).create(&self.0);
            made.map_err(|error| file("create", &self.0, error))?;
        }
        for (path, purpose) in [(self.platform_file(), "platform"), (self.store_file(), "store")] {
            if !path.exists() {
                let made = Authority::make(platform, purpose, policy)?;
                write_secret(&path, &format!("{}{}", made.certificate, made.key))?;
            }
        }
        let text = serde_json::to_string(&policy).map_err(|error| Error::Invalid(error.to_string()))?;
        write_secret(&self.policy_file(), &text)
    }

    /// The authority for processes and operators.
    pub fn platform(&self) -> Result<Authority, Error> {
        self.open(self.platform_file())
    }

    /// The authority for the store's members and clients.
    pub fn store(&self) -> Result<Authority, Error> {
        self.open(self.store_file())
    }

    fn platform_file(&self) -> PathBuf {
        self.0.join("platform.pem")
    }

    fn store_file(&self) -> PathBuf {
        self.0.join("store.pem")
    }

    fn policy_file(&self) -> PathBuf {
        self.0.join("policy.json")
    }

    fn open(&self, path: PathBuf) -> Result<Authority, Error> {
        let read = |path: &Path| {
            fs::read_to_string(path).map_err(|source| Error::File {
                what: "read",
                path: path.to_owned(),
                source,
            })
        };
        let policy = serde_json::from_str(&read(&self.policy_file())?)
            .map_err(|error| Error::Unusable { path: self.policy_file(), why: error.to_string() })?;
        let text = read(&path)?;
        Authority::from_pem(&text, policy).map_err(|error| Error::Unusable { path, why: error.to_string() })
    }
}

/// A certificate authority.
pub struct Authority {
    platform: PlatformId,
    certificate: String,
    key: String,
    issuer: Issuer<'static, KeyPair>,
    policy: Policy,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("platform", &self.platform).finish_non_exhaustive()
    }
}

impl Authority {
    /// A new one.
    pub fn make(platform: &PlatformId, purpose: &str, policy: Policy) -> Result<Self, Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, platform.as_str());
        params.distinguished_name.push(DnType::CommonName, purpose);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = validity(AUTHORITY_LIFETIME);
        let certificate = params.self_signed(&key)?.pem();
        let text = format!("{certificate}{}", key.serialize_pem());
        Self::from_pem(&text, policy)
    }

    fn from_pem(text: &str, policy: Policy) -> Result<Self, Error> {
        let start = text
            .find("-----BEGIN PRIVATE KEY")
            .ok_or_else(|| Error::Invalid("there is no key".to_owned()))?;
        let (certificate, key) = text.split_at(start);
        let der = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|error| Error::Invalid(format!("the certificate cannot be read: {error}")))?;
        let issuer = Issuer::from_ca_cert_der(&der, KeyPair::from_pem(key)?)?;
        let platform = platform_of(&der)?;
        Ok(Self { platform, certificate: certificate.to_owned(), key: key.to_owned(), issuer, policy })
    }

    /// The platform it is the authority of.
    pub fn platform(&self) -> &PlatformId {
        &self.platform
    }

    /// Its own certificate in PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Makes a key and certifies it.
    pub fn issue(&self, name: &Name, addresses: &[IpAddr]) -> Result<Bundle, Error> {
        self.issue_for(name, addresses, Duration::from_secs(self.policy.lifetime_s))
    }

    /// The same for another time than the policy's.
    pub fn issue_for(&self, name: &Name, addresses: &[IpAddr], lifetime: Duration) -> Result<Bundle, Error> {
        let key = KeyPair::generate()?;
        let certificate = self.certify(&key, name, addresses, lifetime)?;
        Ok(Bundle::new(certificate.pem(), self.certificate.clone(), key.serialize_pem()))
    }

    /// Certifies the key of a signing request (PEM), which must be signed with it; nothing else of it counts.
    pub fn sign(&self, request: &str, name: &Name, addresses: &[IpAddr]) -> Result<String, Error> {
        self.sign_for(request, name, addresses, Duration::from_secs(self.policy.lifetime_s))
    }

    /// The same for another time than the policy's.
    pub fn sign_for(
        &self,
        request: &str,
        name: &Name,
        addresses: &[IpAddr],
        lifetime: Duration,
    ) -> Result<String, Error> {
        let request = CertificateSigningRequestParams::from_pem(request)?;
        Ok(self.certify(&request.public_key, name, addresses, lifetime)?.pem())
    }

    fn certify(
        &self,
        key: &impl PublicKeyData,
        name: &Name,
        addresses: &[IpAddr],
        lifetime: Duration,
    ) -> Result<Certificate, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, DnValue::Utf8String(name.common_name()));
        let uri = name.to_string().as_str().try_into()?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Everybody here is called by some and calls others.
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = validity(lifetime);
        Ok(params.signed_by(key, &self.issuer)?)
    }
}

fn validity(lifetime: Duration) -> (OffsetDateTime, OffsetDateTime) {
    let now = SystemTime::now();
    (OffsetDateTime::from(now - BACKDATED), OffsetDateTime::from(now + lifetime))
}

/// The authority's organization.
fn platform_of(certificate: &CertificateDer<'_>) -> Result<PlatformId, Error> {
    let unreadable = || Error::Invalid("the authority's certificate does not name a platform".to_owned());
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|_| unreadable())?;
    let organization = parsed.subject().iter_organization().next().and_then(|name| name.as_str().ok());
    organization.and_then(|name| PlatformId::new(name).ok()).ok_or_else(unreadable)
}

/// What is left of a certificate's time when half of what it was issued for has passed.
pub(crate) fn renew_at(not_before: SystemTime, not_after: SystemTime) -> SystemTime {
    let issued = not_before + BACKDATED;
    let lifetime = not_after.duration_since(issued).unwrap_or_default();
    not_after - lifetime / 2
}
