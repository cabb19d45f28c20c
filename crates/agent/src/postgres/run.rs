//! Starting PostgreSQL under a guard, and stopping it for certain.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::error::{PostgresError, file};
use super::programs::{Programs, excerpt};
use super::{Replica, Sealed, State, lock, sql, wal, write_empty};
use crate::guard::client::Client;
use crate::guard::{self, KILL_AFTER_MS, Lease, Mode};
use crate::process::{ENV_RECORD, Process, Spec};
use crate::{files, proc};

/// How long a start is watched for an early end or the first answer. Recovery may take longer; it goes on.
const START_WATCH: Duration = Duration::from_secs(3);
/// Between two looks while something is awaited that takes milliseconds.
pub(super) const POLL: Duration = Duration::from_millis(10);
/// Longest pause between two tries to connect to a server that starts.
const START_POLL_MAX: Duration = Duration::from_millis(50);
/// How long a killed process may take to vanish; longer means it hangs in the kernel.
const VANISH: Duration = Duration::from_secs(5);
/// How long a standby may take to stop in order before it is started with another configuration.
pub(super) const RESTART_BUDGET: Duration = Duration::from_secs(3);
/// How much of PostgreSQL's log is searched for the reason of a failed start.
const LOG_BYTES_MAX: u64 = 64 << 10;

/// A run of PostgreSQL under its guard.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) process: Process,
    pub(super) guard: Arc<Client>,
    token: String,
}

impl Replica {
    fn run_file(&self, what: &str) -> PathBuf {
        self.settings.run.join(format!("guard-{}{what}", self.settings.unit))
    }

    fn log_file(&self) -> PathBuf {
        self.settings.log.join(format!("postgres-{}.log", self.settings.unit))
    }

    pub(super) fn current_run(&self) -> Option<Run> {
        lock(&self.run).clone()
    }

    pub(super) async fn adopt(&self) -> Result<(), PostgresError> {
        let record = self.run_file(".json");
        let adopted = Process::adopt(&record).map_err(file("read", &record))?;
        let spec = guard::Spec::read(&self.run_file(".spec.json"));
        match (adopted, spec) {
            (Some(process), Ok(spec)) if !self.state().broken => {
                let guard = Arc::new(Client::new(&spec.token));
                tracing::info!(unit = %self.settings.unit, pid = process.pid(), "adopted a guard");
                *lock(&self.run) = Some(Run { process, guard, token: spec.token });
                // A configuration that was written but not yet taken in.
                if let Ok(session) = self.session().await {
                    self.reload(&session).await?;
                }
                Ok(())
            }
            // Data that is half made is not left running: nobody would finish it.
            (Some(process), _) => {
                let _ = process.signal(Signal::SIGKILL);
                self.end_leftovers().await
            }
            (None, _) => self.end_leftovers().await,
        }
    }

    /// Ends tools of an earlier agent that would write into folders made anew.
    pub(super) fn end_stray_tools(&self) -> Result<(), PostgresError> {
        let proc_dir = Path::new("/proc");
        let mark = format!("{ENV_RECORD}={}", self.tool_mark().display());
        for pid in proc::pids().map_err(file("read", proc_dir))? {
            if proc::has_env(pid, &mark) && proc::stat(pid).is_ok_and(proc::Stat::runs) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        Ok(())
    }

    pub(super) fn tool_mark(&self) -> PathBuf {
        self.settings.dir.join("tool")
    }

    /// True if no process of this database exists, for certain. Cleans up after a run that has ended.
    pub(super) async fn is_stopped(&self) -> Result<bool, PostgresError> {
        let Some(run) = self.current_run() else { return Ok(true) };
        if run.process.exited().is_none() {
            return Ok(false);
        }
        let exit: Option<guard::Exit> = files::read_json(&self.run_file(".exit.json")).unwrap_or_default();
        match exit.filter(|exit| exit.token == run.token) {
            Some(exit) => tracing::info!(
                unit = %self.settings.unit, status = exit.status, signal = exit.signal, lapsed = exit.lapsed,
                "PostgreSQL has ended"
            ),
            None => {
                // The guard was killed: the kernel has told the postmaster to quit, but nobody has watched it go.
                tracing::warn!(unit = %self.settings.unit, "the guard has ended before PostgreSQL");
            }
        }
        self.end_leftovers().await?;
        *lock(&self.run) = None;
        *lock(&self.sealed) = Sealed::Unread;
        self.forget_sessions().await;
        Ok(true)
    }

    /// Kills every process of this data directory and waits until none is left.
    async fn end_leftovers(&self) -> Result<(), PostgresError> {
        let deadline = Instant::now() + VANISH;
        loop {
            let left =
                proc::processes_in(&self.pgdata()).map_err(file("look for processes in", &self.pgdata()))?;
            if left.is_empty() {
                return Ok(());
            }
            for pid in left {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            if Instant::now() >= deadline {
                return Err(PostgresError::Timeout("end PostgreSQL: it hangs in the kernel"));
            }
            sleep(POLL).await;
        }
    }

    /// Starts PostgreSQL as a standby that receives from nobody and admits no clients.
    ///
    /// Returns when it answers, or after a while of recovery; an error says why it has ended.
    pub async fn start(&self) -> Result<(), PostgresError> {
        if !self.is_stopped().await? {
            return Ok(());
        }
        self.end_leftovers().await?;
        let target = self.target().await?;
        let state = State { upstream: None, target, set: None, open: false, ..self.state() };
        self.change(|now| *now = state).await?;
        self.files.write(&self.settings, &self.state())?;
        self.run_prepared().await
    }

    /// Starts PostgreSQL with the configuration as it is written.
    pub(super) async fn run_prepared(&self) -> Result<(), PostgresError> {
        self.install_identity()?;
        let (data, programs) = (self.pgdata(), self.settings.programs.clone());
        self.on_disk(move |_| prepare_data(&data, &programs)).await?;
        self.remove_short().await?;
        let log = self.log_file();
        let log_from = std::fs::metadata(&log).map_or(0, |meta| meta.size());
        let run = self.launch()?;
        *lock(&self.run) = Some(run.clone());
        *lock(&self.sealed) = Sealed::Unread;
        let deadline = Instant::now() + START_WATCH;
        let mut pause = POLL;
        while Instant::now() < deadline {
            if run.process.exited().is_some() {
                self.is_stopped().await?;
                return Err(PostgresError::NotStarted(reason(&log, log_from)));
            }
            match self.session().await {
                Ok(_) => return Ok(()),
                Err(error) if sql::answered(&error) => tracing::debug!(%error, "starting"),
                Err(_) => {}
            }
            // Each try costs the starting server a process.
            sleep(pause).await;
            pause = (pause * 2).min(START_POLL_MAX);
        }
        Ok(())
    }

    fn launch(&self) -> Result<Run, PostgresError> {
        let programs = &self.settings.programs;
        let token = Uuid::new_v4().simple().to_string();
        let spec_file = self.run_file(".spec.json");
        for dir in [&self.settings.run, &self.settings.log] {
            std::fs::create_dir_all(dir).map_err(file("create", dir))?;
        }
        let spec = guard::Spec {
            token: token.clone(),
            program: programs.path("postgres"),
            args: vec![
                "-D".to_owned(),
                self.pgdata().display().to_string(),
                "-c".to_owned(),
                format!("config_file={}", self.files.main().display()),
            ],
            user: programs.user(),
            lock: self.run_file(".lock"),
            exit: self.run_file(".exit.json"),
        };
        files::write_json(&spec_file, &spec).map_err(file("write", &spec_file))?;
        let process = Process::start(&Spec {
            name: format!("guard-{}", self.settings.unit),
            program: self.settings.guard.clone(),
            args: vec!["guard".to_owned(), "--spec".to_owned(), spec_file.display().to_string()],
            env: self.settings.env.clone(),
            dir: PathBuf::from("/"),
            log: self.log_file(),
            record: self.run_file(".json"),
            ready: None,
        })?;
        Ok(Run { process, guard: Arc::new(Client::new(&token)), token })
    }

    /// Returns when what runs now has ended; never if nothing runs.
    pub async fn wait_end(&self) {
        match self.current_run() {
            Some(run) if run.process.exited().is_none() => drop(run.process.wait().await),
            _ => std::future::pending().await,
        }
    }

    /// Moves a log that has grown large aside.
    pub fn rotate_log(&self) -> io::Result<()> {
        crate::process::rotate(&self.log_file())
    }

    /// Extends the lease of the running PostgreSQL until that moment of `CLOCK_BOOTTIME`.
    pub async fn lease(&self, until_ms: u64) -> Result<(), PostgresError> {
        let run = self.current_run().ok_or_else(|| PostgresError::State("nothing runs".to_owned()))?;
        let status = run.guard.lease(until_ms).await.map_err(PostgresError::GuardSilent)?;
        status.refused.map_or(Ok(()), |why| Err(PostgresError::GuardRefuses(why)))
    }

    /// Milliseconds left of the lease the guard holds; `None` if it holds none or does not answer.
    pub async fn lease_left_ms(&self) -> Option<u64> {
        match self.current_run()?.guard.status().await.ok()?.lease {
            Lease::Held { left_ms } => Some(left_ms),
            Lease::None | Lease::Lapsed => None,
        }
    }

    /// Stops at once. A guard that does not answer is killed, and PostgreSQL with it.
    pub async fn stop_now(&self) -> Result<(), PostgresError> {
        let Some(run) = self.current_run() else { return Ok(()) };
        let asked = run.guard.stop(Mode::Immediate).await;
        let limit = Duration::from_millis(2 * KILL_AFTER_MS);
        if asked.is_err() || timeout(limit, run.process.wait()).await.is_err() {
            // The guard's death makes the kernel send SIGQUIT to the postmaster; we do not rely on its manners.
            let _ = run.process.signal(Signal::SIGKILL);
            self.end_leftovers().await?;
            timeout(VANISH, run.process.wait()).await.map_err(|_| PostgresError::Timeout("end the guard"))?;
        }
        self.is_stopped().await.map(drop)
    }

    /// Stops in order, which ends every session and admits nobody any more: whoever waits for a sync set is told
    /// nothing. At once if that takes longer than `budget`; then a primary's position is not sealed.
    pub async fn stop_in_order(&self, budget: Duration) -> Result<(), PostgresError> {
        let Some(run) = self.current_run() else { return Ok(()) };
        let asked = run.guard.stop(Mode::Fast).await;
        if asked.is_err() || timeout(budget, run.process.wait()).await.is_err() {
            tracing::warn!(unit = %self.settings.unit, "no orderly stop in time; stopping at once");
            return self.stop_now().await;
        }
        self.is_stopped().await.map(drop)
    }
}

/// What PostgreSQL (or the guard) said about a start that failed.
fn reason(log: &Path, from: u64) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut log = File::open(log)?;
        log.seek(SeekFrom::Start(from))?;
        let mut text = Vec::new();
        log.take(LOG_BYTES_MAX).read_to_end(&mut text)?;
        Ok(text)
    };
    let text = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    // What is wrong with a setting or an address is logged, and the fatal line after it only says that something
    // was.
    let words =
        ["FATAL", "PANIC", "ERROR", "HINT", "DETAIL", "cannot", "could not", "parameter", "syntax error"];
    let telling: Vec<&str> =
        text.lines().filter(|line| words.iter().any(|word| line.contains(word))).collect();
    if telling.is_empty() { excerpt(text.as_bytes()) } else { excerpt(telling.join("\n").as_bytes()) }
}

/// Sets the data directory straight for a start.
fn prepare_data(data: &Path, programs: &Programs) -> Result<(), PostgresError> {
    let signal = data.join("standby.signal");
    write_empty(&signal)?;
    programs.give(&signal)?;
    // Settings left here would override ours.
    let auto = data.join("postgresql.auto.conf");
    write_empty(&auto)?;
    programs.give(&auto)?;
    // No process of this database exists, so whatever process has that number by now is another one.
    for stale in ["postmaster.pid", "recovery.signal"] {
        let stale = data.join(stale);
        files::remove_file(&stale).map_err(file("remove", &stale))?;
    }
    let pg_wal = data.join("pg_wal");
    wal::remove_loose_placeholders(&pg_wal).map_err(file("clean", &pg_wal))
}
