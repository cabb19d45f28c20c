//! The machine an agent runs on: processors, load, disk.

use std::path::Path;

use dujiang_types::exposure::Host;
use nix::sys::statvfs::statvfs;

/// What is seen of the host now. `folder` lies on the file system with the databases.
pub(super) fn look(folder: &Path) -> Option<Host> {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let load = std::fs::read_to_string("/proc/loadavg").ok()?;
    let disk = statvfs(folder).ok()?;
    Some(Host {
        cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
        load_percent: load_percent(&load, cpus)?,
        disk_free_bytes: disk.blocks_available().saturating_mul(disk.fragment_size()),
        disk_bytes: disk.blocks().saturating_mul(disk.fragment_size()),
    })
}

/// The first figure of `/proc/loadavg` in percent of the processors.
fn load_percent(loadavg: &str, cpus: usize) -> Option<u32> {
    let (whole, hundredths) = loadavg.split_ascii_whitespace().next()?.split_once('.')?;
    let percent = whole.parse::<usize>().ok()? * 100 + hundredths.parse::<usize>().ok()?;
    u32::try_from(percent / cpus.max(1)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_per_processor() {
        assert_eq!(load_percent("3.08 0.49 1.40 2/433 12345\n", 2), Some(154));
        assert_eq!(load_percent("0.00 0.00 0.00 1/1 1\n", 8), Some(0));
        assert_eq!(load_percent("nonsense", 2), None);
    }

    #[test]
    fn a_host_has_processors_and_a_disk() {
        let host = look(Path::new("/")).unwrap();
        assert!(host.cpus > 0 && host.disk_bytes > 0);
    }
}
