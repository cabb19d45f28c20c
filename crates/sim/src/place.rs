//! Where things are: data centers, the control plane's site, the clients' site, and processes.

use std::fmt;

use dujiang_types::{DcId, UnitId};

/// Data centers of the simulated platform.
pub const DC_COUNT: usize = 3;
/// Sites of the network: the data centers, the control plane and the clients.
pub const SITE_COUNT: usize = DC_COUNT + 2;
/// The control plane's site.
pub const CONTROL_SITE: usize = DC_COUNT;
/// The site all clients are at.
pub const CLIENT_SITE: usize = DC_COUNT + 1;

/// Index of a data center, below [`DC_COUNT`].
pub type Dc = usize;
/// Index of a site, below [`SITE_COUNT`].
pub type Site = usize;

const DC_NAMES: [&str; DC_COUNT] = ["chengdu-1", "chengdu-2", "guiyang-1"];

/// The name of a data center.
pub fn dc_id(dc: Dc) -> DcId {
    DcId::new(DC_NAMES[dc]).unwrap_or_else(|_| unreachable!("the constant names are names"))
}

/// The index of a data center; `None` for a name that is not of this world.
pub fn dc_index(id: &DcId) -> Option<Dc> {
    DC_NAMES.iter().position(|name| *name == id.as_str())
}

/// The name of the unit with this index.
pub fn unit_id(unit: usize) -> UnitId {
    UnitId::new(format!("unit-{}", unit + 1)).unwrap_or_else(|_| unreachable!("a number keeps it a name"))
}

/// The index of a unit; `None` for a name that is not of this world.
pub fn unit_index(id: &UnitId) -> Option<usize> {
    id.as_str().strip_prefix("unit-")?.parse::<usize>().ok()?.checked_sub(1)
}

/// Which replica: of which unit, in which data center.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// Its data center.
    pub dc: Dc,
    /// Its unit's index.
    pub unit: usize,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/unit-{}", DC_NAMES[self.dc], self.unit + 1)
    }
}

/// A process that can be alive, dead or frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proc {
    /// Nobody: the world itself, which never stops.
    World,
    /// The control plane.
    Control,
    /// A data center's agent.
    Agent(Dc),
    /// The guard of a replica.
    Guard(At),
    /// The database of a replica.
    Postgres(At),
    /// A data center's gateway together with its application instances.
    Gateway(Dc),
    /// A client.
    Client(usize),
}

impl fmt::Display for Proc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::World => f.write_str("world"),
            Self::Control => f.write_str("control"),
            Self::Agent(dc) => write!(f, "agent {}", DC_NAMES[*dc]),
            Self::Guard(at) => write!(f, "guard {at}"),
            Self::Postgres(at) => write!(f, "postgres {at}"),
            Self::Gateway(dc) => write!(f, "gateway {}", DC_NAMES[*dc]),
            Self::Client(n) => write!(f, "client {n}"),
        }
    }
}
