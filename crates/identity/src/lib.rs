//! Who is who on a platform: a certificate authority of its own, short-lived certificates that say platform, data
//! center and role, and TLS 1.3 in which both ends show theirs.
//!
//! There is no way to serve or to connect without an identity, and none to accept a peer whose role was not named.

mod accept;
mod authority;
mod bundle;
mod clients;
mod error;
mod etcd;
mod expect;
mod identity;
mod name;
mod tls;
mod token;

pub mod testing;

pub use accept::{Acceptor, Peer};
pub use authority::{Authority, Folder, LIFETIME, Policy};
pub use bundle::{Bundle, KeyRequest};
pub use clients::{Connector, http_client, plain_http_client};
pub use error::Error;
pub use etcd::EtcdFiles;
pub use expect::Expect;
pub use identity::{Identity, Stamp};
pub use name::{AGENT_DATABASE_ROLE, Name, REPLICATION_DATABASE_ROLE, Role, STORE_COMMON_NAME};
pub use token::Token;
