//! How etcd takes an identity: the file of certificate and key, which it reads again for every handshake, and one with
//! the authority's certificate alone.

use std::fs;
use std::path::{Path, PathBuf};

use crate::bundle::{Bundle, write_secret};
use crate::error::Error;
use crate::name::STORE_COMMON_NAME;

/// An identity of the store's own authority in the files etcd and its command line want.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdFiles {
    identity: PathBuf,
    authority: PathBuf,
}

impl EtcdFiles {
    /// For the identity in that file, as [`Bundle::write`] makes it. etcd takes every block of its file of authorities
    /// for a certificate, so the authority's is written beside it.
    pub fn of(identity: &Path) -> Result<Self, Error> {
        let authority = identity.with_extension("authority");
        let wanted = Bundle::read(identity)?;
        // A member starts on a full disk, too.
        if fs::read_to_string(&authority).ok().as_deref() != Some(wanted.authority()) {
            write_secret(&authority, wanted.authority())?;
        }
        Ok(Self { identity: identity.to_owned(), authority })
    }

    /// Options of a member of etcd. Clients are whoever the store's authority has certified; members only who it has
    /// certified as such. Where a member calls from counts for nothing: a machine has more addresses than the one that
    /// stands in the certificate, by which callers know that they have reached who they meant.
    pub fn member_options(&self) -> Vec<String> {
        let (identity, authority) = (self.identity.display(), self.authority.display());
        vec![
            format!("--cert-file={identity}"),
            format!("--key-file={identity}"),
            format!("--trusted-ca-file={authority}"),
            "--client-cert-auth".to_owned(),
            format!("--peer-cert-file={identity}"),
            format!("--peer-key-file={identity}"),
            format!("--peer-trusted-ca-file={authority}"),
            "--peer-client-cert-auth".to_owned(),
            format!("--peer-cert-allowed-cn={STORE_COMMON_NAME}"),
            "--experimental-peer-skip-client-san-verification".to_owned(),
        ]
    }

    /// Options of etcd's command line.
    pub fn client_options(&self) -> Vec<String> {
        let (identity, authority) = (self.identity.display(), self.authority.display());
        vec![format!("--cert={identity}"), format!("--key={identity}"), format!("--cacert={authority}")]
    }
}
