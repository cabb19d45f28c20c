//! A platform seen from its folder: gateways, units and databases, without asking the control plane.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dujiang_types::{AppId, DcId, SlotRange, UnitId};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use sha2::Sha256;

use crate::load::{Gateway, UnitSlots};

/// The application whose books are checked.
pub const BANK: &str = "bank";
/// The application of transactions over lists, on platforms that have it.
pub const LISTS: &str = "lists";
/// Role that may read every table.
pub const ROLE_OPERATOR: &str = "dujiang";

/// Where everything of a platform is.
#[derive(Debug, Clone)]
pub struct Platform {
    data: PathBuf,
    secret: Vec<u8>,
    /// Gateways, one per data center.
    pub gateways: Vec<Gateway>,
    /// Units by name.
    pub units: BTreeMap<UnitId, UnitPlaces>,
}

/// A unit's slots and replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitPlaces {
    /// Application whose database it is, which is also the database's name.
    pub application: AppId,
    /// Slots it owns.
    pub slots: Vec<SlotRange>,
    /// Replicas by data center.
    pub replicas: BTreeMap<DcId, Place>,
}

/// Where a replica listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Database name.
    pub database: String,
}

/// `units.json` of a data center.
#[derive(Debug, Deserialize)]
struct UnitsFile {
    dc: DcId,
    gateway: String,
    units: Vec<UnitEntry>,
}

#[derive(Debug, Deserialize)]
struct UnitEntry {
    unit: UnitId,
    application: AppId,
    host: String,
    port: u16,
    database: String,
    slots: Vec<SlotRange>,
}

/// Why a folder cannot be read as a platform.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// A file is missing or unreadable.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{} is not a list of units", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// No data center has a list of units.
    #[error("no platform has run in {}", .0.display())]
    Empty(PathBuf),
}

impl Platform {
    /// Reads the folder of a platform that runs or has run.
    pub fn open(data: &Path) -> Result<Self, PlatformError> {
        let read = |path: PathBuf| match fs::read(&path) {
            Ok(bytes) => Ok((path, bytes)),
            Err(source) => Err(PlatformError::Read { path, source }),
        };
        let mut platform = Self {
            data: data.to_owned(),
            secret: read(data.join("secret"))?.1.trim_ascii().to_vec(),
            gateways: Vec::new(),
            units: BTreeMap::new(),
        };
        for dc in subfolders(&data.join("dc"))? {
            let path = dc.join("units.json");
            // An agent that never came up has not written one; the others know all units it holds too.
            if !path.exists() {
                continue;
            }
            let (path, bytes) = read(path)?;
            let file =
                serde_json::from_slice(&bytes).map_err(|source| PlatformError::Malformed { path, source })?;
            platform.add(file);
        }
        if platform.units.is_empty() { Err(PlatformError::Empty(data.to_owned())) } else { Ok(platform) }
    }

    fn add(&mut self, file: UnitsFile) {
        self.gateways.push(Gateway { dc: file.dc.clone(), url: file.gateway });
        for entry in file.units {
            let place = Place { host: entry.host, port: entry.port, database: entry.database };
            let unit = self.units.entry(entry.unit).or_insert_with(|| UnitPlaces {
                application: entry.application,
                slots: entry.slots,
                replicas: BTreeMap::new(),
            });
            unit.replicas.insert(file.dc.clone(), place);
        }
    }

    /// The folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Units of an application.
    pub fn units_of(&self, application: &str) -> impl Iterator<Item = (&UnitId, &UnitPlaces)> {
        self.units.iter().filter(move |(_, places)| places.application.as_str() == application)
    }

    /// Units of an application with their slots, as the load client takes them.
    pub fn unit_slots(&self, application: &str) -> Vec<UnitSlots> {
        self.units_of(application)
            .map(|(unit, places)| UnitSlots { unit: unit.clone(), slots: places.slots.clone() })
            .collect()
    }

    /// File of the identity that a data center's databases take for their operator: its agent's.
    pub fn agent_identity(&self, dc: &DcId) -> PathBuf {
        self.data.join("dc").join(dc.as_str()).join("identity/agent.pem")
    }

    /// Password of a database role of a unit.
    pub fn password(&self, unit: &UnitId, role: &str) -> String {
        password(&self.secret, unit, role)
    }
}

/// Password of a database role: hex HMAC-SHA256 of `UNIT/ROLE` under the platform's secret.
pub fn password(secret: &[u8], unit: &UnitId, role: &str) -> String {
    // HMAC takes keys of any length, so this cannot fail; an empty password would be refused by the database.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return String::new() };
    mac.update(format!("{unit}/{role}").as_bytes());
    mac.finalize().into_bytes().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn subfolders(path: &Path) -> Result<Vec<PathBuf>, PlatformError> {
    let fail = |source| PlatformError::Read { path: path.to_owned(), source };
    let mut folders = Vec::new();
    for entry in fs::read_dir(path).map_err(fail)? {
        folders.push(entry.map_err(fail)?.path());
    }
    folders.sort_unstable();
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_is_read_from_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        for (dc, net) in [("chengdu-1", 11), ("guiyang-1", 13)] {
            let folder = dir.path().join("dc").join(dc);
            fs::create_dir_all(&folder).unwrap();
            let text = format!(
                r#"{{"dc":"{dc}","gateway":"http://127.0.{net}.1:8080","units":[{{"unit":"unit-1","application":"bank",
                "host":"127.0.{net}.1","port":5401,"database":"bank","role":"bank","slots":["0-5460"]}}]}}"#
            );
            fs::write(folder.join("units.json"), text).unwrap();
        }
        fs::create_dir_all(dir.path().join("dc/chengdu-2")).unwrap();
        fs::write(dir.path().join("secret"), "s3cret\n").unwrap();
        let platform = Platform::open(dir.path()).unwrap();
        assert_eq!(platform.gateways.len(), 2);
        assert_eq!((platform.unit_slots(BANK).len(), platform.unit_slots(LISTS).len()), (1, 0));
        let unit = UnitId::new("unit-1").unwrap();
        assert_eq!(platform.units[&unit].replicas.len(), 2);
        assert_eq!(platform.units[&unit].replicas[&DcId::new("guiyang-1").unwrap()].host, "127.0.13.1");
        // Computed by openssl: printf unit-1/dujiang | openssl dgst -sha256 -hmac s3cret
        let password = "716dea9c26d2a7eb8fdf707a3f0aa4eabe96346112c2391bef886c479a67a218";
        assert_eq!(platform.password(&unit, ROLE_OPERATOR), password);
    }

    #[test]
    fn a_folder_without_a_platform_says_so() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Platform::open(dir.path()), Err(PlatformError::Read { .. })));
        fs::create_dir(dir.path().join("dc")).unwrap();
        fs::write(dir.path().join("secret"), "s").unwrap();
        assert!(matches!(Platform::open(dir.path()), Err(PlatformError::Empty(_))));
    }
}
