//! Every TCP port the processes of a platform listen on, and what answers there.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use dujiang_testkit::cluster::Cluster;
use dujiang_testkit::processes::{self, Kind};

/// What answers at a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Server {
    Control,
    Agent,
    /// A gateway, for clients.
    Gateway,
    /// A gateway, for other gateways.
    Mesh,
    /// A gateway, for health checks and metrics.
    Admin,
    /// A gateway, as DNS server of the bank's names.
    Names,
    Bank,
    Database,
}

impl Server {
    const ALL: [Self; 8] = [
        Self::Control,
        Self::Agent,
        Self::Gateway,
        Self::Mesh,
        Self::Admin,
        Self::Names,
        Self::Bank,
        Self::Database,
    ];

    fn of(kind: &Kind, port: u16) -> Option<Self> {
        match (kind, port) {
            (Kind::Control, _) => Some(Self::Control),
            (Kind::Agent, _) => Some(Self::Agent),
            (Kind::Gateway, 8080) => Some(Self::Gateway),
            (Kind::Gateway, 7200) => Some(Self::Mesh),
            (Kind::Gateway, 7201) => Some(Self::Admin),
            (Kind::Gateway, 5300) => Some(Self::Names),
            (Kind::Application, _) => Some(Self::Bank),
            // A session that has just been forked still holds what its postmaster listens on.
            (Kind::Postmaster | Kind::Other, _) => Some(Self::Database),
            _ => None,
        }
    }

    /// How many there are in three data centers with a replica of each of three units.
    fn count(self) -> usize {
        match self {
            Self::Control => 1,
            Self::Agent | Self::Gateway | Self::Mesh | Self::Admin | Self::Names | Self::Bank => 3,
            Self::Database => 9,
        }
    }
}

/// A port somebody listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Port {
    pub(crate) server: Server,
    pub(crate) at: SocketAddr,
}

impl Port {
    /// True if it speaks HTTP to everybody. Others do so only with those who show an identity; what they make of
    /// garbage then is tested with their crates.
    pub(crate) fn is_http(&self) -> bool {
        self.server == Server::Gateway
    }
}

/// All ports of the platform, found by who holds them. None is unexpected, none is missing, and nobody outside this
/// machine can reach any of them.
pub(crate) fn of(cluster: &Cluster) -> Vec<Port> {
    let listening = listening();
    let mut ports = Vec::new();
    for process in processes::find(cluster.data(), None).unwrap() {
        for at in sockets(process.pid).iter().filter_map(|inode| listening.get(inode)) {
            assert!(at.ip().is_loopback(), "{process:?} listens on {at}");
            let server = Server::of(&process.kind, at.port());
            let server = server.unwrap_or_else(|| panic!("{process:?} has no business at {at}"));
            ports.push(Port { server, at: *at });
        }
    }
    ports.sort_unstable();
    // Threads of a gateway share an address.
    ports.dedup();
    for server in Server::ALL {
        let found = ports.iter().filter(|port| port.server == server).count();
        assert_eq!(found, server.count(), "{server:?}: {ports:#?}");
    }
    ports
}

/// Inodes of the sockets a process holds.
fn sockets(pid: i32) -> Vec<u64> {
    // A process may end while it is looked at.
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let targets = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    let inode = |target: &str| target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok();
    targets.filter_map(|target| inode(target.to_str()?)).collect()
}

/// Addresses of all listening sockets of this machine by their inodes.
fn listening() -> HashMap<u64, SocketAddr> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    tables.iter().flat_map(|table| table.lines().skip(1)).filter_map(listener).collect()
}

fn listener(line: &str) -> Option<(u64, SocketAddr)> {
    const LISTEN: &str = "0A";
    let fields: Vec<_> = line.split_ascii_whitespace().collect();
    let (address, port) = fields.get(1)?.split_once(':')?;
    let address = match address.len() {
        8 => IpAddr::from(word(address)?),
        _ => IpAddr::from(ipv6(address)?),
    };
    let port = u16::from_str_radix(port, 16).ok()?;
    (fields[3] == LISTEN).then_some((fields.get(9)?.parse().ok()?, SocketAddr::new(address, port)))
}

fn ipv6(text: &str) -> Option<Ipv6Addr> {
    let mut bytes = [0; 16];
    for (number, part) in bytes.chunks_exact_mut(4).enumerate() {
        part.copy_from_slice(&word(text.get(8 * number..8 * number + 8)?)?);
    }
    Some(Ipv6Addr::from(bytes))
}

/// The kernel prints four bytes of an address as one number of the machine.
fn word(text: &str) -> Option<[u8; 4]> {
    Some(u32::from_str_radix(text, 16).ok()?.to_ne_bytes())
}

#[test]
fn addresses_are_read_as_the_kernel_prints_them() {
    let end = "00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1";
    let read = |at: &str| listener(&format!("   0: {at} {end}")).map(|(inode, at)| (inode, at.to_string()));
    assert_eq!(read("0100007F:1F90"), Some((4711, "127.0.0.1:8080".to_owned())));
    let six = "00000000000000000000000001000000:1F90";
    assert_eq!(read(six), Some((4711, "[::1]:8080".to_owned())));
    assert_eq!(listener(&format!("   0: 0100007F:1F90 {}", end.replacen(" 0A ", " 01 ", 1))), None);
}
