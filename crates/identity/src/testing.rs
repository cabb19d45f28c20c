//! A platform's authority in memory, for tests of what talks to each other.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use dujiang_types::{AppId, DcId, PlatformId};

use crate::authority::{Authority, Folder, Policy};
use crate::bundle::Bundle;
use crate::identity::Identity;
use crate::name::{Name, Role};

/// An authority that certifies whatever a test wants, for addresses of this machine.
#[derive(Debug, Clone)]
pub struct TestAuthority(Arc<Authority>);

impl Default for TestAuthority {
    fn default() -> Self {
        Self::new("test")
    }
}

impl TestAuthority {
    /// Of a platform of that name.
    pub fn new(platform: &str) -> Self {
        let platform = PlatformId::new(platform).expect("a test names its platform well");
        let made = Authority::make(&platform, "platform", Policy::default());
        Self(Arc::new(made.expect("an authority can be made")))
    }

    /// The same whose certificates hold for so long.
    pub fn of_lifetime(lifetime_s: u64) -> Self {
        let platform = PlatformId::new("test").expect("it is a name");
        let made = Authority::make(&platform, "platform", Policy { lifetime_s });
        Self(Arc::new(made.expect("an authority can be made")))
    }

    /// The one kept in a folder, for tests of more than one process.
    pub fn kept_in(folder: &Path) -> Self {
        let platform = PlatformId::new("test").expect("it is a name");
        let kept = Folder::of(folder);
        kept.prepare(&platform, Policy::default()).expect("an authority can be made");
        Self(Arc::new(kept.platform().expect("it was made just now")))
    }

    /// The authority itself.
    pub fn authority(&self) -> Arc<Authority> {
        Arc::clone(&self.0)
    }

    /// An identity by its name's path, e.g. `dc/a/agent`.
    pub fn identity(&self, path: &str) -> Identity {
        let name = self.name(path);
        let issued = Identity::of_authority(self.authority(), &name, &addresses());
        issued.expect("a test asks for identities there are")
    }

    /// The same as it is written to files.
    pub fn bundle(&self, path: &str) -> Bundle {
        self.0.issue(&self.name(path), &addresses()).expect("a test asks for identities there are")
    }

    /// The name of a path.
    pub fn name(&self, path: &str) -> Name {
        let text = format!("spiffe://{}/{path}", self.0.platform());
        text.parse().expect("a test names identities well")
    }

    /// The only one of a role in a data center.
    pub fn in_dc(&self, dc: &DcId, role: Role) -> Identity {
        self.identity(&format!("dc/{dc}/{role}"))
    }

    /// An application's.
    pub fn application(&self, dc: &DcId, application: &AppId) -> Identity {
        self.identity(&format!("dc/{dc}/application/{application}"))
    }
}

/// What tests listen on.
fn addresses() -> [IpAddr; 1] {
    [Ipv4Addr::LOCALHOST.into()]
}
