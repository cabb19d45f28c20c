//! The processes of a platform, found by what is in their environment, whoever started them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dujiang_agent::proc;
use dujiang_agent::process::ENV_RECORD;
use dujiang_types::DcId;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

/// Environment variable holding the platform's folder. People set it too, so it proves nothing about a process.
pub const ENV_DATA: &str = "DUJIANG_DATA";
/// Environment variable holding the data center.
pub const ENV_DC: &str = "DUJIANG_DC";
/// Between two looks at what is left.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Rounds of killing what is left: each kills everything there is, so only what was being started survives one.
const KILL_ROUNDS_MAX: usize = 100;

/// True if a process is part of the platform in that folder: it, or one it descends from, was started with a
/// process record there.
pub fn belongs_to(pid: i32, data: &Path) -> bool {
    value_of(pid, ENV_RECORD).is_some_and(|record| record.starts_with(data))
}

/// The folder of the platform a process is part of, if it is part of any.
pub fn platform_of(pid: i32) -> Option<PathBuf> {
    value_of(pid, ENV_RECORD).and_then(|_| value_of(pid, ENV_DATA))
}

/// A variable of the environment a process was started with, as far as we may look.
fn value_of(pid: i32, name: &str) -> Option<PathBuf> {
    let environ = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut entries = environ.split(|byte| *byte == 0);
    let value = entries.find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
    Some(PathBuf::from(OsStr::from_bytes(value)))
}

/// Living processes of a platform, or of one of its data centers, except this one.
pub fn of(data: &Path, dc: Option<&DcId>) -> Vec<i32> {
    let me = i32::try_from(std::process::id()).unwrap_or_default();
    let mark = dc.map(|dc| format!("{ENV_DC}={dc}"));
    let ours = |pid: &i32| {
        *pid != me
            && belongs_to(*pid, data)
            && mark.as_ref().is_none_or(|mark| proc::has_env(*pid, mark))
            && proc::stat(*pid).is_ok_and(proc::Stat::runs)
    };
    proc::pids().unwrap_or_default().into_iter().filter(ours).collect()
}

/// Kills everything of a data center at once, as a power cut would; returns how many processes there were.
pub fn power_cut(data: &Path, dc: &DcId) -> usize {
    let mut killed = 0;
    for _ in 0..KILL_ROUNDS_MAX {
        let pids = of(data, Some(dc));
        if pids.is_empty() {
            break;
        }
        killed += pids.len();
        for pid in pids {
            signal(pid, Signal::SIGKILL);
        }
    }
    killed
}

/// Ends whatever is left of a platform: asked first, killed after `grace`. Guards take the signal as an order to
/// stop their PostgreSQL at once, which is always safe. Returns how many processes there were.
pub async fn sweep(data: &Path, grace: Duration) -> usize {
    let found = of(data, None);
    // PostgreSQL's own processes are left to their guards; signalling single ones would only confuse it.
    for pid in found.iter().filter(|pid| !is_postgres(**pid)) {
        signal(*pid, Signal::SIGTERM);
    }
    let deadline = Instant::now() + grace;
    while Instant::now() < deadline {
        if of(data, None).is_empty() {
            return found.len();
        }
        sleep(LOOK_EVERY).await;
    }
    for pid in of(data, None) {
        signal(pid, Signal::SIGKILL);
    }
    found.len()
}

fn is_postgres(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "postgres")
}

fn signal(pid: i32, signal: Signal) {
    // It may have ended meanwhile, which is what we want.
    let _ = kill(Pid::from_raw(pid), signal);
}
