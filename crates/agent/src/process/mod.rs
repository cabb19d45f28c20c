//! Processes: started in a group of their own, recorded so that a restarted agent finds them again, and watched
//! through a pidfd, so that an exit is known at once whoever the parent is.

pub mod keep;
mod log;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use rustix::io::Errno as RustixErrno;
use rustix::process::{PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::time::timeout;

pub use keep::{Keeper, Status};
pub use log::rotate;

use crate::secret::hex;
use crate::{files, proc};

/// Environment variable holding the path of a process's record: finds one that was started by an agent that was
/// killed before it could write the record.
pub const ENV_RECORD: &str = "DUJIANG_RECORD";
/// How long a process may take to vanish after `SIGKILL`; longer means it hangs in the kernel.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// For logs and reports.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments; no secrets, everybody can read them.
    pub args: Vec<String>,
    /// Added to the environment it inherits.
    pub env: BTreeMap<String, String>,
    /// Working directory.
    pub dir: PathBuf,
    /// Where its standard output and error go, appended.
    pub log: PathBuf,
    /// Where the process record is kept.
    pub record: PathBuf,
    /// URL that answers 200 when the process is ready. `None`: ready as soon as it runs.
    pub ready: Option<String>,
}

impl Spec {
    /// Tells whether a running process was started for the same specification.
    pub fn fingerprint(&self) -> String {
        let json = serde_json::to_vec(self).unwrap_or_default();
        hex(&Sha256::digest(&json)[..16])
    }
}

/// What is kept on disk about a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its name, for people.
    pub name: String,
    /// Process id, also that of its process group.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub start_ticks: u64,
    /// [`Spec::fingerprint`] it was started with.
    pub fingerprint: String,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Exit status. `None` if a signal ended it, or if it was started by an earlier agent: only a parent learns.
    pub status: Option<i32>,
    /// Signal that ended it, with the same restriction.
    pub signal: Option<i32>,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.status, self.signal) {
            (Some(status), _) => write!(f, "exited with status {status}"),
            (_, Some(signal)) => write!(f, "ended by signal {signal}"),
            _ => f.write_str("ended"),
        }
    }
}

/// Why a process cannot be started, found or stopped.
#[derive(Debug, thiserror::Error)]
#[error("{name}: cannot {what}")]
pub struct ProcessError {
    /// Which process.
    pub name: String,
    /// What was tried.
    pub what: String,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// A running (or ended) process. Dropping it leaves the process alone.
#[derive(Debug, Clone)]
pub struct Process {
    record: Record,
    exit: watch::Receiver<Option<Exit>>,
}

impl Process {
    /// Starts a process and records it. Whatever an earlier agent left behind for the same record must have
    /// been adopted or stopped before.
    pub fn start(spec: &Spec) -> Result<Self, ProcessError> {
        let fail = |what: String| {
            let name = spec.name.clone();
            move |source: io::Error| ProcessError { name, what, source }
        };
        for dir in [files::parent(&spec.log), files::parent(&spec.record)] {
            fs::create_dir_all(dir).map_err(fail(format!("create {}", dir.display())))?;
        }
        let log = log::open(&spec.log).map_err(fail(format!("open {}", spec.log.display())))?;
        let log_too = log.try_clone().map_err(fail("share the log".to_owned()))?;
        let mut command = Command::new(&spec.program);
        command.args(&spec.args).envs(&spec.env).env(ENV_RECORD, &spec.record).current_dir(&spec.dir);
        command.stdin(Stdio::null()).stdout(log).stderr(log_too).process_group(0);
        let child = command.spawn().map_err(fail(format!("start {}", spec.program.display())))?;
        let pid = i32::try_from(child.id()).unwrap_or_default();
        let watched = Self::watch(Record {
            name: spec.name.clone(),
            pid,
            // Ours and not reaped yet, so the entry exists even if it has ended by now.
            start_ticks: proc::stat(pid).map(|stat| stat.start_ticks).unwrap_or_default(),
            fingerprint: spec.fingerprint(),
        });
        let process = watched.map_err(fail("watch it".to_owned()))?;
        if let Err(error) = files::write_json(&spec.record, &process.record) {
            // Nobody would know of it, and it would hold what the next one needs.
            let _ = process.kill_group();
            return Err(fail("write its record".to_owned())(error));
        }
        Ok(process)
    }

    /// Finds the process an earlier agent started for this record, if it still runs. A process that was started
    /// but not recorded (the agent was killed in between) is killed: nobody knows what it was started for.
    pub fn adopt(record: &Path) -> io::Result<Option<Self>> {
        if let Some(known) = files::read_json::<Record>(record)? {
            let alive = proc::stat(known.pid).is_ok_and(|s| s.runs() && s.start_ticks == known.start_ticks);
            if alive {
                return Self::watch(known).map(Some);
            }
            files::remove_file(record)?;
        }
        let mark = format!("{ENV_RECORD}={}", record.display());
        for pid in proc::pids()? {
            let leads = proc::stat(pid).is_ok_and(|stat| stat.runs() && stat.group == pid);
            if leads && proc::has_env(pid, &mark) {
                tracing::warn!(pid, record = %record.display(), "killing a process that was started but not recorded");
                let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        Ok(None)
    }

    fn watch(record: Record) -> io::Result<Self> {
        let pid = rustix::process::Pid::from_raw(record.pid).ok_or(io::ErrorKind::InvalidData)?;
        let (sender, exit) = watch::channel(None);
        match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(fd) => {
                #[expect(
                    deprecated,
                    reason = "its successor is unsafe; an OwnedFd keeps its descriptor, which is what it asks for"
                )]
                let fd = AsyncFd::new(fd)?;
                tokio::spawn(async move {
                    let exit = wait_for(&fd).await;
                    sender.send_replace(Some(exit));
                });
            }
            Err(RustixErrno::SRCH) => {
                sender.send_replace(Some(Exit { status: None, signal: None }));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(Self { record, exit })
    }

    /// Process id.
    pub fn pid(&self) -> i32 {
        self.record.pid
    }

    /// Fingerprint of the specification it was started with.
    pub fn fingerprint(&self) -> &str {
        &self.record.fingerprint
    }

    /// How it ended, if it has.
    pub fn exited(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// Waits until it ends; returns at once if it has.
    pub async fn wait(&self) -> Exit {
        let mut exit = self.exit.clone();
        let ended = exit.wait_for(Option::is_some).await.ok().and_then(|exit| *exit);
        match ended {
            Some(exit) => exit,
            // Only when the runtime shuts down; there is nobody left to tell.
            None => std::future::pending().await,
        }
    }

    /// Sends a signal to the process alone; nothing happens if it has ended.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let same = proc::stat(self.record.pid).is_ok_and(|stat| stat.start_ticks == self.record.start_ticks);
        if self.exited().is_some() || !same {
            return Ok(());
        }
        match kill(Pid::from_raw(self.record.pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Asks it to end (`SIGTERM`), and kills its whole group if it has not after `grace`.
    pub async fn stop(&self, grace: Duration) -> Result<Exit, ProcessError> {
        let fail = |what: &str, source| ProcessError {
            name: self.record.name.clone(),
            what: what.to_owned(),
            source,
        };
        self.signal(Signal::SIGTERM).map_err(|e| fail("ask it to end", e))?;
        let asked = timeout(grace, self.wait()).await;
        // What it has started in its group goes with it, also if it ended in order.
        self.kill_group().map_err(|e| fail("kill its group", e))?;
        match asked {
            Ok(exit) => Ok(exit),
            Err(_) => timeout(KILL_TIMEOUT, self.wait())
                .await
                .map_err(|_| fail("kill it", io::Error::from(io::ErrorKind::TimedOut))),
        }
    }

    /// A process id that leads a group with living members is not given to another process, so a group of that
    /// number is ours or does not exist - unless the number was reused after all of it was gone.
    fn kill_group(&self) -> io::Result<()> {
        let reused =
            proc::stat(self.record.pid).is_ok_and(|stat| stat.start_ticks != self.record.start_ticks);
        if reused {
            return Ok(());
        }
        match killpg(Pid::from_raw(self.record.pid), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH | Errno::EPERM) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

async fn wait_for(fd: &AsyncFd<OwnedFd>) -> Exit {
    loop {
        let Ok(mut ready) = fd.readable().await else {
            // The runtime shuts down.
            std::future::pending::<()>().await;
            continue;
        };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match waitid(WaitId::PidFd(std::os::fd::AsFd::as_fd(fd.get_ref())), options) {
            Ok(Some(ended)) => {
                return Exit { status: ended.exit_status(), signal: ended.terminating_signal() };
            }
            Ok(None) => ready.clear_ready(),
            // Not our child: that it has ended is all there is to know.
            Err(_) => return Exit { status: None, signal: None },
        }
    }
}
