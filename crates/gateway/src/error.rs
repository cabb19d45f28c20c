//! Why a gateway cannot start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}; is another gateway running?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A thread or its runtime cannot be made.
    #[error("cannot start thread {name}")]
    Thread {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The access log cannot be opened.
    #[error("cannot open the access log {path}")]
    AccessLog {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The HTTP client for control cannot be made.
    #[error("cannot make the HTTP client for control")]
    Client(#[source] reqwest::Error),
    /// The identity cannot be used.
    #[error("the identity cannot be used")]
    Identity(#[from] dujiang_identity::Error),
    /// A control URL is not one.
    #[error("{url:?} is not a URL of a control server; write https://host:port")]
    ControlUrl {
        /// The text given.
        url: String,
    },
    /// Something stopped on its own, which it never should.
    #[error("thread {name} stopped unexpectedly")]
    Stopped {
        /// The thread's name.
        name: String,
    },
}
