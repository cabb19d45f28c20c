//! What the kernel tells about processes in `/proc`.

use std::fs;
use std::io;
use std::path::Path;

/// The parts of `/proc/PID/stat` we need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// State letter; `Z` is a process that has ended and waits to be reaped.
    pub state: char,
    /// Parent.
    pub parent: i32,
    /// Process group.
    pub group: i32,
    /// When it started, in clock ticks since boot. With the pid it names a process for good: pids are reused.
    pub start_ticks: u64,
}

impl Stat {
    /// True if it has not ended.
    pub fn runs(self) -> bool {
        !matches!(self.state, 'Z' | 'X')
    }
}

/// Reads a process's `stat`.
pub fn stat(pid: i32) -> io::Result<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_stat(&text)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unknown form of /proc/PID/stat"))
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name in parentheses may itself hold spaces and parentheses: count from its last one.
    let rest = &text[text.rfind(')')? + 1..];
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        start_ticks: fields.get(19)?.parse().ok()?,
    })
}

/// Every process there is at the moment.
pub fn pids() -> io::Result<Vec<i32>> {
    let entries = fs::read_dir("/proc")?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// Living processes below a process: its children, theirs, and so on.
pub fn descendants_of(ancestor: i32) -> io::Result<Vec<i32>> {
    let living = pids()?.into_iter().filter_map(|pid| Some((pid, stat(pid).ok()?)));
    let mut others: Vec<(i32, Stat)> = living.filter(|(_, stat)| stat.runs()).collect();
    let mut found: Vec<i32> = Vec::new();
    loop {
        let before = found.len();
        others.retain(|(pid, stat)| {
            let below = stat.parent == ancestor || found.contains(&stat.parent);
            if below {
                found.push(*pid);
            }
            !below
        });
        if found.len() == before {
            return Ok(found);
        }
    }
}

/// Living processes whose working directory is `dir`. Every process of a PostgreSQL server stays in its data
/// directory, so this finds them all, whoever their parent is by now.
pub fn processes_in(dir: &Path) -> io::Result<Vec<i32>> {
    let Ok(dir) = fs::canonicalize(dir) else { return Ok(Vec::new()) };
    let inside = |pid: &i32| {
        fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == dir)
            && stat(*pid).is_ok_and(Stat::runs)
    };
    Ok(pids()?.into_iter().filter(inside).collect())
}

/// True if the process was started with this `KEY=VALUE` in its environment.
pub fn has_env(pid: i32, pair: &str) -> bool {
    let Ok(environ) = fs::read(format!("/proc/{pid}/environ")) else { return false };
    environ.split(|byte| *byte == 0).any(|entry| entry == pair.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_confuse() {
        let tail = (4..=40).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        let stat = parse_stat(&format!("7 (a) b) (c) S {tail}")).unwrap();
        assert_eq!(stat, Stat { state: 'S', parent: 4, group: 5, start_ticks: 22 });
        assert_eq!(parse_stat("7 (a"), None);
    }

    #[test]
    fn this_process_is_found_by_its_directory_and_ancestors() {
        let me = i32::try_from(std::process::id()).unwrap();
        let parent = stat(me).unwrap().parent;
        assert!(descendants_of(parent).unwrap().contains(&me));
        assert!(descendants_of(stat(parent).unwrap().parent).unwrap().contains(&me));
        assert!(!descendants_of(me).unwrap().contains(&me));
        assert!(processes_in(&std::env::current_dir().unwrap()).unwrap().contains(&me));
        assert!(processes_in(Path::new("/nowhere")).unwrap().is_empty());
    }
}
