//! What can go wrong with identities.

use std::io;
use std::path::PathBuf;

/// Why an identity cannot be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read or written.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{} is not usable: {why}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The text is not what it should be.
    #[error("{0}")]
    Invalid(String),
    /// A certificate or signing request cannot be made or read.
    #[error("the certificate cannot be made")]
    Certificate(#[from] rcgen::Error),
    /// TLS cannot be configured.
    #[error("TLS cannot be configured")]
    Tls(#[from] rustls::Error),
    /// The verifier cannot be made.
    #[error("the verifier of certificates cannot be made")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}
