//! The first identities of a platform: what has the authorities' keys makes them.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dujiang_agent::IdentityFolder;
use dujiang_identity::{Authority, Bundle, Error, Identity, Name, Role};
use dujiang_types::DcId;
use dujiang_types::platform::{DataCenterSpec, Network};

use super::folder::Folder;
use crate::asked_by;
use crate::failure::Failure;
use crate::manifest::Manifest;

/// Between two looks at the operator's identity, which is renewed as long as the platform runs.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Under which name the supervisor puts what the manifest says.
const SUPERVISOR: &str = "supervisor";

/// Makes identities.
#[derive(Debug)]
pub struct Issuer {
    authority: Arc<Authority>,
    store_authority: Authority,
    operator: Name,
    operator_file: PathBuf,
}

/// The identity of whoever runs the platform from a folder: the command line's, unless it names another one.
pub fn operator_file(data: &Path) -> PathBuf {
    data.join("operator.pem")
}

impl Issuer {
    /// Makes the authorities if there are none yet.
    pub fn prepare(folder: &Folder, manifest: &Manifest) -> Result<Self, Failure> {
        let made = || {
            let authorities = dujiang_identity::Folder::of(folder.path());
            authorities.prepare(&manifest.platform, manifest.identities)?;
            let authority = Arc::new(authorities.platform()?);
            let store_authority = authorities.store()?;
            let operator = Name::operator(authority.platform(), &asked_by::as_name(&asked_by::me()))?;
            let operator_file = operator_file(folder.path());
            Ok(Self { authority, store_authority, operator, operator_file })
        };
        made().map_err(|error: Error| Failure::because("the platform's authority cannot be used", &error))
    }

    /// The supervisor's own.
    pub fn own(&self) -> Result<Identity, Failure> {
        let own = || {
            let name = Name::operator(self.authority.platform(), SUPERVISOR)?;
            Identity::of_authority(Arc::clone(&self.authority), &name, &[])
        };
        own().map_err(|error| Failure::because("the supervisor's identity cannot be made", &error))
    }

    /// Every agent's, and that of the member of the store beside it, unless there is one that holds; from then on the
    /// agent renews both.
    pub fn start_agents(&self, folder: &Folder, manifest: &Manifest) -> Result<(), Failure> {
        for (dc, spec) in &manifest.data_centers {
            self.start_site(folder, manifest, dc, spec.network)?;
        }
        self.renew_witness(folder, manifest)
    }

    /// The witness's, if they are due: it talks to no control server, so nobody else renews them.
    pub fn renew_witness(&self, folder: &Folder, manifest: &Manifest) -> Result<(), Failure> {
        let witness = manifest.witness.as_ref();
        witness.map_or(Ok(()), |site| self.start_site(folder, manifest, &site.name, site.network))
    }

    fn start_site(
        &self,
        folder: &Folder,
        manifest: &Manifest,
        site: &DcId,
        network: Network,
    ) -> Result<(), Failure> {
        let failed =
            |error: &dyn std::error::Error| Failure::because("an agent's identity cannot be written", error);
        let addresses = [DataCenterSpec::HOST_MAIN, DataCenterSpec::HOST_APPS].map(|n| network.host(n));
        let identities = IdentityFolder::of(folder.path(), site);
        identities.make().map_err(|error| failed(&error))?;
        let own = |role| Name::in_dc(self.authority.platform(), site, role);
        let mut wanted = vec![(own(Role::Agent), &*self.authority)];
        if manifest.members().contains_key(site) {
            wanted.push((own(Role::Store), &self.store_authority));
        }
        for (name, authority) in wanted {
            renew(authority, &name, &addresses, &identities.file(&name)).map_err(|error| failed(&error))?;
        }
        Ok(())
    }

    /// The operator's, if it is due.
    pub fn renew_operator(&self) -> Result<(), Failure> {
        let renewed = (|| {
            if is_due(&self.operator_file, &self.operator) {
                self.authority.issue(&self.operator, &[])?.write(&self.operator_file)?;
            }
            Ok(())
        })();
        renewed.map_err(|error: Error| Failure::because("the operator's identity cannot be written", &error))
    }
}

fn renew(authority: &Authority, name: &Name, addresses: &[IpAddr], file: &Path) -> Result<(), Error> {
    if !is_due(file, name) {
        return Ok(());
    }
    authority.issue(name, addresses)?.write(file)
}

fn is_due(file: &Path, name: &Name) -> bool {
    let holds = || -> Result<bool, Error> {
        let bundle = Bundle::read(file)?;
        Ok(bundle.name()? == *name && bundle.renew_at()? > SystemTime::now())
    };
    !holds().unwrap_or(false)
}
