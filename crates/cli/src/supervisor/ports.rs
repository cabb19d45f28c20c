//! Whether every address the platform needs can be bound, and who has it if not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::path::Path;

use dujiang_agent::proc;
use dujiang_types::platform::DataCenterSpec;

use crate::failure::Failure;
use crate::manifest::{ControlPlane, Manifest};
use crate::supervisor::processes;

/// Every address the platform's processes will listen on, with what it is for.
pub fn addresses(manifest: &Manifest) -> BTreeMap<SocketAddr, String> {
    let mut all = BTreeMap::new();
    if let ControlPlane::One(address) = manifest.control {
        all.insert(address, "the control plane".to_owned());
    }
    let members = manifest.members();
    for witness in manifest.witness.iter().filter(|witness| members.contains_key(&witness.name)) {
        let (name, host) = (&witness.name, witness.main_host());
        if !manifest.launchers.contains_key(name) {
            let address = |port| SocketAddr::new(host, port);
            all.insert(address(DataCenterSpec::PORT_ETCD), format!("the etcd member of {name}"));
            all.insert(
                address(DataCenterSpec::PORT_ETCD_PEER),
                format!("the etcd member of {name}, for the others"),
            );
        }
    }
    // What is launched elsewhere binds addresses there, which cannot be tried from here.
    for (dc, spec) in manifest.data_centers.iter().filter(|(dc, _)| !manifest.launchers.contains_key(*dc)) {
        if members.contains_key(dc) {
            all.insert(spec.control_address(), format!("the control server of {dc}"));
            all.insert(spec.etcd_address(), format!("the etcd member of {dc}"));
            all.insert(spec.etcd_peer_address(), format!("the etcd member of {dc}, for the others"));
        }
        all.insert(spec.agent_address(), format!("the agent of {dc}"));
        all.insert(spec.gateway_address(), format!("the gateway of {dc}"));
        all.insert(spec.mesh_address(), format!("the gateway of {dc}, for other gateways"));
        all.insert(spec.gateway_admin_address(), format!("the gateway of {dc}, for health checks"));
        for (unit, _) in manifest.units.iter().filter(|(_, unit)| unit.replicas.contains(dc)) {
            let port = manifest.units[unit].port;
            all.insert(spec.database_address(port), format!("the database of {unit} in {dc}"));
        }
        for (app, app_spec) in manifest.applications.iter().filter(|(_, app)| app.data_centers.contains(dc)) {
            for number in 0..app_spec.instances {
                let address = spec.instance_address(app_spec, number);
                all.insert(address, format!("instance {number} of {app} in {dc}"));
            }
        }
    }
    all
}

/// Tries every address. What this platform's own surviving processes hold is fine: they are adopted or replaced.
pub fn check(manifest: &Manifest, data: &Path) -> Result<(), Failure> {
    let mut taken = Vec::new();
    let mut platforms = BTreeSet::new();
    for (address, purpose) in addresses(manifest) {
        let Err(error) = TcpListener::bind(address) else { continue };
        let why = match error.kind() {
            ErrorKind::AddrInUse => match holder(address) {
                Some(pid) if processes::belongs_to(pid, data) => continue,
                Some(pid) => {
                    platforms.extend(processes::platform_of(pid));
                    format!("taken by process {pid} ({})", command_of(pid))
                }
                None => "taken by another process".to_owned(),
            },
            ErrorKind::AddrNotAvailable => "not an address of this machine".to_owned(),
            ErrorKind::PermissionDenied => "a port only root may use".to_owned(),
            _ => error.to_string(),
        };
        taken.push(format!("  {address} for {purpose} is {why}"));
    }
    if taken.is_empty() {
        return Ok(());
    }
    let count = taken.len();
    let failure =
        Failure::failed(format!("{count} of the manifest's addresses cannot be used:\n{}", taken.join("\n")));
    Err(match platforms.first() {
        Some(other) => failure.hint(format!(
            "another platform has them: stop it with `dujiang --data {} down`, or choose other networks in the manifest",
            other.display()
        )),
        None => failure.hint("stop what has them, or choose other ports or networks in the manifest"),
    })
}

/// The process that listens on an address, as far as we may look.
fn holder(address: SocketAddr) -> Option<i32> {
    let inodes: Vec<u64> = fs::read_to_string("/proc/net/tcp")
        .ok()?
        .lines()
        .skip(1)
        .filter_map(|line| listening_inode(line, address))
        .collect();
    let pids = proc::pids().ok()?;
    pids.into_iter().find(|pid| {
        let Ok(fds) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        fds.flatten().filter_map(|fd| fs::read_link(fd.path()).ok()).any(|target| {
            let target = target.to_string_lossy();
            let inode = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
            inode.and_then(|inode| inode.parse().ok()).is_some_and(|inode| inodes.contains(&inode))
        })
    })
}

/// The socket's inode if a line of `/proc/net/tcp` is a listener on this address, or on all of them.
fn listening_inode(line: &str, address: SocketAddr) -> Option<u64> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    let (ip, port) = local.split_once(':')?;
    // The address is the memory of a network-order number, printed as if it were the machine's own.
    let ip = Ipv4Addr::from(u32::from_str_radix(ip, 16).ok()?.to_ne_bytes());
    let found = SocketAddrV4::new(ip, u16::from_str_radix(port, 16).ok()?);
    let same = match address.ip() {
        IpAddr::V4(wanted) => wanted == *found.ip() || found.ip().is_unspecified(),
        IpAddr::V6(_) => false,
    };
    (*state == LISTEN && same && found.port() == address.port()).then(|| inode.parse().ok())?
}

fn command_of(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm"))
        .map_or_else(|_| "?".to_owned(), |name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::check::Programs;

    #[test]
    fn who_listens_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        assert_eq!(holder(listener.local_addr().unwrap()), Some(me));
    }

    #[test]
    fn a_listener_on_all_addresses_is_found_too() {
        let address = "127.0.11.1:8080".parse().unwrap();
        let line = "   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1";
        assert_eq!(listening_inode(line, address), Some(4711));
        let line = "   0: 010B007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4712 1";
        assert_eq!(listening_inode(line, address), Some(4712));
        let connected = line.replace(" 0A ", " 01 ");
        assert_eq!(listening_inode(&connected, address), None);
    }

    #[test]
    fn taken_addresses_are_named_with_who_has_them_and_why_they_are_needed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let text = include_str!("../../../../examples/two-regions.yaml")
            .replace("127.0.1.1:7000", &address.to_string())
            // Not the example's own networks: a platform may be running in them.
            .replace("network: 127.0.", "network: 127.77.")
            .replace("program: dujiang-bank", "program: /bin/true");
        let programs = Programs { beside: "/".into(), path: Vec::new() };
        let manifest = Manifest::parse(&text, &programs).unwrap();
        assert_eq!(addresses(&manifest).len(), 1 + 3 * (4 + 3 + 1));
        let said = check(&manifest, Path::new("/nowhere")).unwrap_err();
        let line = format!("  {address} for the control plane is taken by process {} (", std::process::id());
        assert!(said.message().contains(&line), "{}", said.message());
    }
}
