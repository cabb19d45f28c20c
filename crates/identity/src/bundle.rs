//! An identity in one file: certificate, authority's certificate, key. One file, so that a renewal replaces all at once.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;

use crate::error::Error;
use crate::name::Name;

/// A certificate, an authority and a key take two kilobytes.
const BYTES_MAX: u64 = 64 << 10;
/// Characters of a line in PEM.
const PEM_LINE: usize = 64;
/// Only its owner may read an identity.
const MODE_SECRET: u32 = 0o600;

/// An identity as it is kept: all in PEM.
#[derive(Clone)]
pub struct Bundle {
    certificate: String,
    authority: String,
    key: String,
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bundle")
    }
}

/// What a certificate says.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) name: Name,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

impl Facts {
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Result<Self, Error> {
        let unreadable = || Error::Invalid("the certificate cannot be read".to_owned());
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|_| unreadable())?;
        let alternatives = parsed.subject_alternative_name().map_err(|_| unreadable())?;
        let mut uris = alternatives.iter().flat_map(|names| &names.value.general_names);
        let mut uris = uris.by_ref().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        // Two names would leave it to the reader which of them counts.
        let (Some(uri), None) = (uris.next(), uris.next()) else {
            return Err(Error::Invalid("the certificate does not carry one name".to_owned()));
        };
        let at = |time: x509_parser::time::ASN1Time| {
            SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or_default())
        };
        let validity = parsed.validity();
        Ok(Self {
            name: uri.parse()?,
            not_before: at(validity.not_before),
            not_after: at(validity.not_after),
        })
    }
}

impl Bundle {
    /// Of its parts, each in PEM.
    pub(crate) fn new(certificate: String, authority: String, key: String) -> Self {
        Self { certificate, authority, key }
    }

    /// Of what an authority answered to a request.
    pub fn answered(request: &KeyRequest, certificate: String, authority: String) -> Result<Self, Error> {
        let bundle = Self::new(certificate, authority, request.key.clone());
        bundle.certified()?;
        Ok(bundle)
    }

    /// As one text: certificate, authority, key.
    pub fn to_pem(&self) -> String {
        format!("{}{}{}", self.certificate, self.authority, self.key)
    }

    /// Certificate and key in one text, for programs that want the authority apart.
    pub fn own_pem(&self) -> String {
        format!("{}{}", self.certificate, self.key)
    }

    /// The authority's certificate.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Certificate, authority and key without what PEM puts around them, on one line.
    pub(crate) fn to_line(&self) -> String {
        let body = |pem: &str| pem.lines().filter(|line| !line.starts_with('-')).collect::<String>();
        [&self.certificate, &self.authority, &self.key].map(|pem| body(pem)).join(".")
    }

    /// Takes a text apart that was made by [`Self::to_line`].
    pub(crate) fn from_line(line: &str) -> Result<Self, Error> {
        let pem = |what: &str, body: &str| {
            let mut pem = format!("-----BEGIN {what}-----\n");
            for (at, character) in body.chars().enumerate() {
                if at > 0 && at % PEM_LINE == 0 {
                    pem.push('\n');
                }
                pem.push(character);
            }
            format!("{pem}\n-----END {what}-----\n")
        };
        let parts: Vec<&str> = line.split('.').collect();
        let [certificate, authority, key] = parts[..] else {
            return Err(Error::Invalid("it has not three parts".to_owned()));
        };
        let bundle = Self {
            certificate: pem("CERTIFICATE", certificate),
            authority: pem("CERTIFICATE", authority),
            key: pem("PRIVATE KEY", key),
        };
        bundle.certified()?;
        Ok(bundle)
    }

    /// Takes a text apart that was made by [`Self::to_pem`].
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let mut rest = text;
        let mut block = |what: &str| {
            let (begin, end) = (format!("-----BEGIN {what}-----"), format!("-----END {what}-----"));
            let start = rest.find(&begin);
            let stop = start.and_then(|start| rest[start..].find(&end).map(|at| start + at + end.len()));
            let (Some(start), Some(stop)) = (start, stop) else {
                return Err(Error::Invalid(format!("there is no {what} where one should be")));
            };
            let block = format!("{}\n", &rest[start..stop]);
            rest = &rest[stop..];
            Ok(block)
        };
        Ok(Self {
            certificate: block("CERTIFICATE")?,
            authority: block("CERTIFICATE")?,
            key: block("PRIVATE KEY")?,
        })
    }

    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let file = |source| Error::File { what: "read", path: path.to_owned(), source };
        let unusable = |why: String| Error::Unusable { path: path.to_owned(), why };
        if fs::metadata(path).map_err(file)?.len() > BYTES_MAX {
            return Err(unusable("it is larger than any identity".to_owned()));
        }
        let text = fs::read_to_string(path).map_err(file)?;
        Self::from_pem(&text).map_err(|error| unusable(error.to_string()))
    }

    /// Replaces a file at once. It belongs to its owner alone.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        write_secret(path, &self.to_pem())
    }

    /// What the certificate says.
    pub(crate) fn facts(&self) -> Result<Facts, Error> {
        Facts::of(&certificate(&self.certificate)?)
    }

    /// The name it carries.
    pub fn name(&self) -> Result<Name, Error> {
        Ok(self.facts()?.name)
    }

    /// When it runs out.
    pub fn not_after(&self) -> Result<SystemTime, Error> {
        Ok(self.facts()?.not_after)
    }

    pub(crate) fn authority_der(&self) -> Result<CertificateDer<'static>, Error> {
        certificate(&self.authority)
    }

    /// Certificate and key as TLS wants them, which also shows that they fit each other.
    pub(crate) fn certified(&self) -> Result<rustls::sign::CertifiedKey, Error> {
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())
            .map_err(|error| Error::Invalid(format!("the key cannot be read: {error}")))?;
        let chain = vec![certificate(&self.certificate)?];
        Ok(rustls::sign::CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider())?)
    }
}

fn certificate(pem: &str) -> Result<CertificateDer<'static>, Error> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| Error::Invalid(format!("the certificate cannot be read: {error}")))
}

/// Replaces a file at once by one that only its owner may read.
pub(crate) fn write_secret(path: &Path, text: &str) -> Result<(), Error> {
    let file = |source| Error::File { what: "write", path: path.to_owned(), source };
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    // Left over from a crash it might have another mode.
    let _ = fs::remove_file(&beside);
    let mut made =
        OpenOptions::new().write(true).create_new(true).mode(MODE_SECRET).open(&beside).map_err(file)?;
    made.write_all(text.as_bytes()).and_then(|()| made.sync_all()).map_err(file)?;
    fs::rename(&beside, path).map_err(file)
}

/// A new key, and the request to have it certified. The key never leaves the process that made it, but for its file.
pub struct KeyRequest {
    request: String,
    key: String,
}

impl fmt::Debug for KeyRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyRequest")
    }
}

impl KeyRequest {
    /// Makes a key.
    pub fn new() -> Result<Self, Error> {
        let key = KeyPair::generate()?;
        let request = CertificateParams::default().serialize_request(&key)?.pem()?;
        Ok(Self { request, key: key.serialize_pem() })
    }

    /// The signing request in PEM. It names nobody: the authority decides by who asks.
    pub fn pem(&self) -> &str {
        &self.request
    }
}
