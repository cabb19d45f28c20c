//! Finding and breaking the processes of a platform: all of them, those of a data center, or one kind.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dujiang_types::{DcId, UnitId};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process killed with SIGKILL is gone within milliseconds, unless it sits in a stuck disk.
const GONE_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks while processes go.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Looks in a row that must find nobody: a process may be between `fork` and its environment.
const EMPTY_LOOKS: u32 = 3;

/// What a process of the platform is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `dujiang up`.
    Supervisor,
    /// `dujiang control`.
    Control,
    /// A member of etcd.
    Etcd,
    /// `dujiang agent`.
    Agent,
    /// `dujiang guard`.
    Guard,
    /// `dujiang gateway`.
    Gateway,
    /// An instance of an application.
    Application,
    /// The first process of a PostgreSQL server.
    Postmaster,
    /// Any other process of a PostgreSQL server, or a tool that works on one.
    Other,
}

/// A living process. The start time names it for good: process ids are reused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Process id.
    pub pid: i32,
    /// What it is.
    pub kind: Kind,
    /// Its data center, if it belongs to one.
    pub dc: Option<String>,
    start_ticks: u64,
}

impl Process {
    /// Sends it a signal; nothing happens if it is gone.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        if !self.lives() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Kills it with SIGKILL and waits until it is gone: on a busy machine that takes a while.
    pub fn kill(&self) -> io::Result<()> {
        let deadline = Instant::now() + GONE_TIMEOUT;
        self.signal(Signal::SIGKILL)?;
        while self.lives() {
            if Instant::now() > deadline {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("process {} cannot be killed", self.pid),
                ));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// True if it has not ended.
    pub fn lives(&self) -> bool {
        Stat::read(self.pid).is_some_and(|stat| stat.runs && stat.start_ticks == self.start_ticks)
    }

    /// Proportional share of memory, in KiB: shared pages are divided among those who share them.
    pub fn pss_kib(&self) -> io::Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kib = line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok());
        kib.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no Pss in smaps_rollup"))
    }
}

/// Living processes of the platform in that folder, this process and its ancestors excepted; of one data center
/// only, if one is given.
///
/// A process belongs to the platform by its environment, by its working directory (every PostgreSQL process stays in
/// its data directory, and some overwrite their environment with their title), or by its parent; the supervisor, which
/// may have been started in any way, by the lock it holds.
pub fn find(data: &Path, dc: Option<&DcId>) -> io::Result<Vec<Process>> {
    let data = fs::canonicalize(data)?;
    let mut processes = BTreeMap::new();
    let mut children = BTreeMap::<i32, Vec<i32>>::new();
    for pid in pids()? {
        if let Some(stat) = Stat::read(pid).filter(|stat| stat.runs) {
            children.entry(stat.parent).or_default().push(pid);
            processes.insert(pid, stat);
        }
    }
    let ours = ancestors(std::process::id().cast_signed(), &processes);
    let wanted = |place: &Place| dc.is_none_or(|dc| place.dc.as_deref() == Some(dc.as_str()));
    let belongs = |pid: &i32| Some((*pid, place_of(*pid, &data).filter(wanted)?.dc));
    let mut found = BTreeMap::new();
    let mut next: Vec<_> = processes.keys().filter_map(belongs).collect();
    if dc.is_none() {
        next.extend(supervisor(&data, &processes).map(|pid| (pid, None)));
    }
    while let Some((pid, dc)) = next.pop() {
        let Some(stat) = processes.get(&pid).filter(|_| !ours.contains(&pid)) else { continue };
        if found.contains_key(&pid) {
            continue;
        }
        // A child of the supervisor may be the agent of another data center: it says so itself.
        if dc.is_some() {
            next.extend(children.get(&pid).into_iter().flatten().map(|child| (*child, dc.clone())));
        }
        found.insert(
            pid,
            Process { pid, kind: kind_of(pid, stat, &processes), dc, start_ticks: stat.start_ticks },
        );
    }
    Ok(found.into_values().collect())
}

/// Kills every process of a data center (or of the whole platform) with SIGKILL until none is left, and returns how
/// many there were. Nobody is stopped in order, nobody flushes anything.
pub fn kill_all(data: &Path, dc: Option<&DcId>) -> io::Result<usize> {
    let deadline = Instant::now() + GONE_TIMEOUT;
    let mut killed = BTreeSet::new();
    let mut empty = 0;
    while empty < EMPTY_LOOKS {
        let found = find(data, dc)?;
        if found.is_empty() {
            empty += 1;
        } else {
            empty = 0;
            for process in &found {
                process.signal(Signal::SIGKILL)?;
                killed.insert((process.pid, process.start_ticks));
            }
        }
        if Instant::now() > deadline {
            let left = format!("{} processes cannot be killed", found.len());
            return Err(io::Error::new(io::ErrorKind::TimedOut, left));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(killed.len())
}

/// The first process of a unit's PostgreSQL in a data center.
pub fn postmaster(data: &Path, dc: &DcId, unit: &UnitId) -> io::Result<Option<Process>> {
    let pgdata =
        fs::canonicalize(data)?.join("dc").join(dc.as_str()).join("units").join(unit.as_str()).join("pgdata");
    let found = find(data, Some(dc))?;
    let is_it = |process: &Process| {
        process.kind == Kind::Postmaster && cwd(process.pid).is_some_and(|cwd| cwd == pgdata)
    };
    Ok(found.into_iter().find(is_it))
}

/// Whose id stands in the supervisor's lock file, if that process is a supervisor.
fn supervisor(data: &Path, processes: &BTreeMap<i32, Stat>) -> Option<i32> {
    let text = fs::read_to_string(data.join("run/supervisor.lock")).ok()?;
    let pid = text.trim().parse().ok()?;
    // The file outlives its writer, whose id may be another's by now.
    let stat = processes.get(&pid)?;
    (kind_of(pid, stat, processes) == Kind::Supervisor).then_some(pid)
}

/// Where in the platform a process belongs.
struct Place {
    /// Its data center, if it belongs to one.
    dc: Option<String>,
}

/// `None` if the process does not say that it belongs to the platform.
fn place_of(pid: i32, data: &Path) -> Option<Place> {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let value = |key: &str| {
        let mut entries = environment.split(|byte| *byte == 0);
        entries.find_map(|entry| entry.strip_prefix(key.as_bytes())).map(<[u8]>::to_vec)
    };
    let by_environment = value("DUJIANG_DATA=").is_some_and(|value| {
        fs::canonicalize(PathBuf::from(OsString::from_vec(value))).is_ok_and(|path| path == data)
    });
    if by_environment {
        return Some(Place { dc: value("DUJIANG_DC=").and_then(|dc| String::from_utf8(dc).ok()) });
    }
    let cwd = cwd(pid)?;
    let below = cwd.strip_prefix(data.join("dc")).ok()?;
    let dc = below.components().next().map(|dc| dc.as_os_str().to_string_lossy().into_owned());
    Some(Place { dc })
}

fn cwd(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

fn kind_of(pid: i32, stat: &Stat, processes: &BTreeMap<i32, Stat>) -> Kind {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = command.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    let program = Path::new(words.first().map_or("", AsRef::as_ref)).file_name().unwrap_or_default();
    // Options may stand before the subcommand.
    let subcommands = [
        ("up", Kind::Supervisor),
        ("control", Kind::Control),
        ("agent", Kind::Agent),
        ("guard", Kind::Guard),
        ("gateway", Kind::Gateway),
    ];
    let subcommand = words.iter().skip(1).find_map(|word| subcommands.iter().find(|(name, _)| name == word));
    match subcommand {
        Some((_, kind)) if program == "dujiang" => kind.clone(),
        _ if stat.name == "postgres" => {
            let child = processes.get(&stat.parent).is_some_and(|parent| parent.name == "postgres");
            if child { Kind::Other } else { Kind::Postmaster }
        }
        _ if stat.name == "etcd" => Kind::Etcd,
        // Tools such as pg_basebackup are started by an agent too, but work on PostgreSQL.
        _ if stat.name.starts_with("pg_") || stat.name == "initdb" => Kind::Other,
        _ => Kind::Application,
    }
}

fn ancestors(pid: i32, processes: &BTreeMap<i32, Stat>) -> BTreeSet<i32> {
    let mut line = BTreeSet::from([pid]);
    let mut at = pid;
    while let Some(stat) = processes.get(&at) {
        at = stat.parent;
        if !line.insert(at) {
            break;
        }
    }
    line
}

fn pids() -> io::Result<Vec<i32>> {
    let entries = fs::read_dir("/proc")?.flatten();
    Ok(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

struct Stat {
    name: String,
    parent: i32,
    start_ticks: u64,
    runs: bool,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The name stands in parentheses and may hold any character, parentheses and spaces included.
    fn parse(text: &str) -> Option<Self> {
        let (begin, end) = (text.find('(')?, text.rfind(')')?);
        let fields: Vec<&str> = text.get(end + 1..)?.split_ascii_whitespace().collect();
        Some(Self {
            name: text.get(begin + 1..end)?.to_owned(),
            parent: fields.get(1)?.parse().ok()?,
            start_ticks: fields.get(19)?.parse().ok()?,
            runs: !matches!(*fields.first()?, "Z" | "X"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    fn child(data: &Path, dc: Option<&str>, script: &str) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", script]).env("DUJIANG_DATA", data);
        if let Some(dc) = dc {
            command.env("DUJIANG_DC", dc);
        }
        command.spawn().unwrap()
    }

    #[test]
    fn a_data_center_dies_with_all_its_descendants_and_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let (gone, stays) = (DcId::new("gone").unwrap(), DcId::new("stays").unwrap());
        // The grandchild has neither environment nor working directory of the platform.
        let mut first = child(dir.path(), Some("gone"), "env -i sleep 1000 & wait");
        let mut second = child(dir.path(), Some("stays"), "sleep 1000 & wait");
        let mut control = child(dir.path(), None, "sleep 1000 & wait");
        let two = |dc: &DcId| find(dir.path(), Some(dc)).unwrap().len() == 2;
        let deadline = Instant::now() + GONE_TIMEOUT;
        while !two(&gone) || !two(&stays) {
            assert!(Instant::now() < deadline);
            std::thread::sleep(LOOK_EVERY);
        }
        assert_eq!(kill_all(dir.path(), Some(&gone)).unwrap(), 2);
        first.wait().unwrap();
        assert!(find(dir.path(), Some(&gone)).unwrap().is_empty());
        assert!(two(&stays));
        kill_all(dir.path(), None).unwrap();
        second.wait().unwrap();
        control.wait().unwrap();
        assert!(find(dir.path(), None).unwrap().is_empty());
    }

    #[test]
    fn names_of_processes_may_hold_anything() {
        let tail = (4..=40).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        let stat = Stat::parse(&format!("7 (a) (b) S {tail}")).unwrap();
        assert_eq!((stat.name.as_str(), stat.parent, stat.start_ticks), ("a) (b", 4, 22));
        assert!(stat.runs && Stat::parse("7 (a").is_none());
    }
}
