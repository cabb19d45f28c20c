//! A process's own identity, renewed while it runs.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustls::RootCertStore;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::authority::{Authority, renew_at};
use crate::bundle::{Bundle, Facts};
use crate::error::Error;
use crate::name::Name;

/// How long a look at the file counts: a renewal leaves far more time than that.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A process's own identity. Whatever is configured with it uses the newest certificate for every new connection.
#[derive(Debug, Clone)]
pub struct Identity(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    source: Source,
    name: Name,
    roots: Arc<RootCertStore>,
    state: Mutex<State>,
}

#[derive(Debug)]
enum Source {
    /// Whoever issued it replaces the file.
    File(PathBuf),
    /// It has the authority itself.
    Authority(Arc<Authority>, Vec<IpAddr>),
    /// Nobody: it is used once.
    Nobody,
}

#[derive(Debug)]
struct State {
    certified: Arc<CertifiedKey>,
    facts: Facts,
    stamp: Option<Stamp>,
    looked_at: Instant,
}

/// Tells one file from its replacement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    modified: i64,
    modified_ns: i64,
}

impl Stamp {
    /// Of the file as it is now; `None` if there is none.
    pub fn of(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok()?;
        Some(Self { inode: meta.ino(), modified: meta.mtime(), modified_ns: meta.mtime_nsec() })
    }
}

impl Identity {
    /// From a file as [`Bundle::write`] makes it, which is read again when it is replaced.
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        // Before the file, so that a replacement in between is noticed.
        let stamp = Stamp::of(path);
        let bundle = Bundle::read(path)?;
        Self::new(Source::File(path.to_owned()), &bundle, stamp)
            .map_err(|error| Error::Unusable { path: path.to_owned(), why: error.to_string() })
    }

    /// For a process that has the authority: its certificate is never written down.
    pub fn of_authority(authority: Arc<Authority>, name: &Name, addresses: &[IpAddr]) -> Result<Self, Error> {
        let bundle = authority.issue(name, addresses)?;
        Self::new(Source::Authority(authority, addresses.to_vec()), &bundle, None)
    }

    /// One that is not renewed.
    pub fn for_once(bundle: &Bundle) -> Result<Self, Error> {
        Self::new(Source::Nobody, bundle, None)
    }

    fn new(source: Source, bundle: &Bundle, stamp: Option<Stamp>) -> Result<Self, Error> {
        let facts = bundle.facts()?;
        let mut roots = RootCertStore::empty();
        roots.add(bundle.authority_der()?)?;
        let certified = Arc::new(bundle.certified()?);
        let name = facts.name.clone();
        let state = Mutex::new(State { certified, facts, stamp, looked_at: Instant::now() });
        Ok(Self(Arc::new(Inner { source, name, roots: Arc::new(roots), state })))
    }

    /// Its name, which no renewal changes.
    pub fn name(&self) -> &Name {
        &self.0.name
    }

    /// When the certificate in use runs out.
    pub fn not_after(&self) -> SystemTime {
        self.0.current();
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).facts.not_after
    }

    pub(crate) fn roots(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.0.roots)
    }

    pub(crate) fn server_resolver(&self) -> Arc<dyn ResolvesServerCert> {
        Arc::clone(&self.0) as Arc<dyn ResolvesServerCert>
    }

    pub(crate) fn client_resolver(&self) -> Arc<dyn ResolvesClientCert> {
        Arc::clone(&self.0) as Arc<dyn ResolvesClientCert>
    }
}

impl Inner {
    /// The newest certificate. If there should be a newer one but there is none, the old one is used as long as others
    /// take it.
    fn current(&self) -> Arc<CertifiedKey> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked_at.elapsed() >= LOOK_EVERY {
            state.looked_at = Instant::now();
            if let Err(error) = self.renew(&mut state) {
                tracing::warn!(identity = %self.name, %error, "the renewed identity cannot be used");
            }
        }
        Arc::clone(&state.certified)
    }

    fn renew(&self, state: &mut State) -> Result<(), Error> {
        let (bundle, stamp) = match &self.source {
            Source::File(path) => {
                let stamp = Stamp::of(path);
                if stamp.is_none() || stamp == state.stamp {
                    return Ok(());
                }
                (Bundle::read(path)?, stamp)
            }
            Source::Authority(authority, addresses) => {
                if SystemTime::now() < renew_at(state.facts.not_before, state.facts.not_after) {
                    return Ok(());
                }
                (authority.issue(&self.name, addresses)?, None)
            }
            Source::Nobody => return Ok(()),
        };
        let facts = bundle.facts()?;
        if facts.name != self.name {
            return Err(Error::Invalid(format!("it is of {}", facts.name)));
        }
        *state = State { certified: Arc::new(bundle.certified()?), facts, stamp, looked_at: Instant::now() };
        tracing::debug!(identity = %self.name, "the identity is renewed");
        Ok(())
    }
}

impl ResolvesServerCert for Inner {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl ResolvesClientCert for Inner {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl Bundle {
    /// When to replace it: after half of the time it was issued for.
    pub fn renew_at(&self) -> Result<SystemTime, Error> {
        let facts = self.facts()?;
        Ok(renew_at(facts.not_before, facts.not_after))
    }
}
