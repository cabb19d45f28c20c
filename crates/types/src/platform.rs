//! Data centers and applications.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::dns::DnsSpec;
use crate::{DcId, RegionId, Resource};

/// An IPv4 network such as `127.0.11.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    base: Ipv4Addr,
    prefix: u8,
}

impl Network {
    /// The address with this host number, 1 being the first usable one.
    pub fn host(self, number: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(u32::from(self.base) + u32::from(number)))
    }

    /// True if every address of it is a loopback address.
    pub fn is_loopback(self) -> bool {
        self.base.is_loopback()
    }

    /// True if the two share an address.
    pub fn overlaps(self, other: Self) -> bool {
        let prefix = self.prefix.min(other.prefix);
        let mask = u32::MAX << (32 - u32::from(prefix));
        u32::from(self.base) & mask == u32::from(other.base) & mask
    }
}

impl PartialSchema for Network {
    fn schema() -> RefOr<Schema> {
        String::schema()
    }
}

impl ToSchema for Network {}

impl FromStr for Network {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let wrong =
            || format!("{s:?} is not a network: write address/prefix such as 127.0.11.0/24, prefix 8 to 24");
        let (base, prefix) = s.split_once('/').ok_or_else(wrong)?;
        let base: Ipv4Addr = base.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        // At least 256 addresses, so that every host number has one.
        if !(8..=24).contains(&prefix) || u32::from(base) & (u32::MAX >> prefix) != 0 {
            return Err(wrong());
        }
        Ok(Self { base, prefix })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl TryFrom<String> for Network {
    type Error = String;
    fn try_from(value: String) -> Result<Self, String> {
        value.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> String {
        network.to_string()
    }
}

/// What the control store may take on disk: a thousand times what the records of a large platform have. Beyond it
/// etcd takes only deletions.
pub const STORE_BYTES_MAX: u64 = 512 << 20;

/// A data center's record.
pub type DataCenter = Resource<DataCenterSpec, Empty>;

/// A status with nothing in it: what is observed of this kind is not stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Empty {}

/// What is wanted of a data center.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DataCenterSpec {
    /// The region it lies in.
    pub region: RegionId,
    /// Its own network; every process of it binds addresses of this network only.
    pub network: Network,
    /// Its gateway.
    pub gateway: GatewaySpec,
}

impl DataCenterSpec {
    /// Host number of agent, gateway and databases.
    pub const HOST_MAIN: u8 = 1;
    /// Host number of application instances.
    pub const HOST_APPS: u8 = 10;
    /// Port of the control server, on a platform with one in every data center.
    pub const PORT_CONTROL: u16 = 7000;
    /// Port of the etcd member for clients, there.
    pub const PORT_ETCD: u16 = 2379;
    /// Port of the etcd member for other members, there.
    pub const PORT_ETCD_PEER: u16 = 2380;
    /// Address of agent, gateway and databases.
    pub fn main_host(&self) -> IpAddr {
        self.network.host(Self::HOST_MAIN)
    }
    /// Where the control server listens, on a platform with one in every data center.
    pub fn control_address(&self) -> SocketAddr {
        SocketAddr::new(self.main_host(), Self::PORT_CONTROL)
    }
    /// Where the etcd member answers clients, there.
    pub fn etcd_address(&self) -> SocketAddr {
        SocketAddr::new(self.main_host(), Self::PORT_ETCD)
    }
    /// Where the etcd member answers other members, there.
    pub fn etcd_peer_address(&self) -> SocketAddr {
        SocketAddr::new(self.main_host(), Self::PORT_ETCD_PEER)
    }
    /// Where the agent serves its peers (promises) and its own metrics.
    pub fn agent_address(&self) -> SocketAddr {
        SocketAddr::new(self.network.host(Self::HOST_MAIN), 7100)
    }
    /// Where clients reach the gateway.
    pub fn gateway_address(&self) -> SocketAddr {
        SocketAddr::new(self.network.host(Self::HOST_MAIN), self.gateway.port)
    }
    /// Where other data centers' gateways reach this one.
    pub fn mesh_address(&self) -> SocketAddr {
        SocketAddr::new(self.network.host(Self::HOST_MAIN), 7200)
    }
    /// Where the gateway answers health checks and serves metrics.
    pub fn gateway_admin_address(&self) -> SocketAddr {
        SocketAddr::new(self.network.host(Self::HOST_MAIN), 7201)
    }
    /// Where a unit's database listens in this data center.
    pub fn database_address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.network.host(Self::HOST_MAIN), port)
    }
    /// Where the n-th instance (from 0) of an application listens in this data center.
    pub fn instance_address(&self, app: &ApplicationSpec, number: u16) -> SocketAddr {
        SocketAddr::new(self.network.host(Self::HOST_APPS), app.port + number)
    }
}

/// What is wanted of a data center's gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GatewaySpec {
    /// Port for clients.
    pub port: u16,
    /// Worker threads, each with its own listener.
    pub threads: u16,
}

/// An application's record.
pub type Application = Resource<ApplicationSpec, Empty>;

/// What is wanted of an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApplicationSpec {
    /// Program to run. A bare name is looked up beside the `dujiang` binary, then in `PATH`.
    pub program: String,
    /// Arguments after the platform's own (`--listen`, `--units`).
    #[serde(default)]
    pub args: Vec<String>,
    /// Extra environment. Secrets do not belong here.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Data centers it runs in.
    pub data_centers: BTreeSet<DcId>,
    /// Instances in each of them.
    pub instances: u16,
    /// Port of the first instance; the n-th listens on `port + n`.
    pub port: u16,
    /// How its requests are routed; the first rule that matches wins.
    pub routes: Vec<RouteRule>,
    /// The names customers find it by, if the sites answer for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsSpec>,
}

/// How the routing key is found in a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RouteRule {
    /// Path prefix the rule is for, e.g. `/v1/accounts/`.
    pub prefix: String,
    /// Where the key stands.
    pub key: KeySource,
}

/// Where a routing key stands in a request, and of which form it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "in", rename_all = "lowercase")]
pub enum KeySource {
    /// The path segment right after the prefix.
    Segment {
        /// Form of the key.
        form: KeyForm,
    },
    /// A header.
    Header {
        /// Its name, in lower case.
        name: String,
        /// Form of the key.
        form: KeyForm,
    },
    /// No key: any healthy local instance will do.
    None,
}

/// Form of a routing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyForm {
    /// Any text; its slot is its CRC-32 modulo 16384.
    Hash,
    /// An account number, which carries the slot of its customer.
    Account,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_parse_and_overlap() {
        let a: Network = "127.0.11.0/24".parse().unwrap();
        let b: Network = "127.0.12.0/24".parse().unwrap();
        let all: Network = "127.0.0.0/8".parse().unwrap();
        assert!(!a.overlaps(b) && a.overlaps(all) && all.overlaps(b));
        assert_eq!(a.host(1).to_string(), "127.0.11.1");
        for bad in ["127.0.0.1", "127.0.0.1/24", "127.0.11.0/25", "x/24", "0.0.0.0/0"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }
}
