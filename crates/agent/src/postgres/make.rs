//! Making a database: from nothing, as a copy of another one, or out of one that has diverged.
//!
//! What is made is made beside and renamed when it is whole, so that something half made is never taken for a
//! database. A rewind cannot be made beside; it marks the data broken first.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dujiang_types::loss::Losses;
use dujiang_types::{Lsn, Position};
use dujiang_unit::agent::{Data, Process};
use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::conf::{CLONING, REWINDING, conninfo, slot};
use super::error::{PostgresError, file};
use super::losses::UNDECLARED;
use super::primary::CHECKPOINT_TIMEOUT;
use super::programs::Run as Tool;
use super::run::POLL;
use super::standby::until_primary;
use super::state::{State, Upstream};
use super::{ROLE_AGENT, Replica, memory, wal};
use crate::files;

/// Initialising takes a second or two on a fast disk.
const INIT_TIMEOUT: Duration = Duration::from_secs(120);
/// Copying takes as long as there is data: a day bounds a copy that hangs without ending one that works.
const CLONE_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// Rewinding copies what changed since the fork; a clone is the way out when it takes longer than this.
const REWIND_TIMEOUT: Duration = Duration::from_secs(3600);
/// How long a stop in order before a rewind may take.
const STOP_BUDGET: Duration = Duration::from_secs(30);
/// How long the replay of what is on disk may take before a rewind, and of what is needed to be consistent after it.
const REPLAY_TIMEOUT: Duration = Duration::from_secs(300);
/// Between two looks whether a rewound replica is consistent, and its upstream still there.
const CATCH_UP_POLL: Duration = Duration::from_millis(100);

impl Replica {
    /// Creates the database, its roles and the fence; leaves it stopped.
    pub async fn init(&self) -> Result<(), PostgresError> {
        if self.data() == Data::Present {
            return Ok(());
        }
        let made = self.begin_data().await?;
        self.files.write(&self.settings, &self.state())?;
        let password = self.files.dir().join("init.password");
        let secret = self.settings.secret.password(&self.settings.unit, ROLE_AGENT);
        files::write_durably(&password, format!("{secret}\n").as_bytes(), files::MODE_SECRET)
            .map_err(file("write", &password))?;
        self.settings.programs.give(&password)?;
        let args = [
            "--pgdata",
            &made.display().to_string(),
            "--data-checksums",
            &format!("--wal-segsize={}", wal::SEGMENT_MB),
            "--username",
            ROLE_AGENT,
            "--auth=scram-sha-256",
            "--pwfile",
            &password.display().to_string(),
            "--no-locale",
            "--encoding=UTF8",
            "--no-instructions",
        ];
        self.tool("initdb", &args, String::new(), INIT_TIMEOUT).await?;
        files::remove_file(&password).map_err(file("remove", &password))?;
        // Single-user mode: nobody can connect before there are roles and rules.
        self.single_user(&made, "postgres", self.roles_sql()).await?;
        self.single_user(&made, self.settings.application.as_str(), self.schema_sql()).await?;
        self.finish_data(made).await
    }

    async fn single_user(&self, data: &Path, database: &str, sql: String) -> Result<(), PostgresError> {
        let data = data.display().to_string();
        let args = ["--single", "-j", "-D", &data, "-c", "exit_on_error=on", database];
        self.tool("postgres", &args, sql, INIT_TIMEOUT).await.map(drop)
    }

    /// Replaces whatever is here by a copy of `from`. Log that only this replica has is kept first.
    pub async fn copy_from(&self, from: &Upstream) -> Result<(), PostgresError> {
        let session = self.connect_upstream(from).await?;
        // A copy that begins before the promotion is broken off by it.
        until_primary(&session).await?;
        self.keep_slot(&session).await?;
        if self.data() == Data::Present {
            self.keep_before_clone(from).await?;
        }
        let made = self.begin_data().await?;
        let slot = slot(&self.settings.dc);
        self.base_backup(from, &made, &["--slot", &slot], CLONE_TIMEOUT).await?;
        self.stop_in_order(STOP_BUDGET).await?;
        self.finish_data(made).await
    }

    /// Copies the data directory of `from`, whoever it is now, as it stands when this ends.
    pub(super) async fn base_backup(
        &self,
        from: &Upstream,
        to: &Path,
        how: &[&str],
        limit: Duration,
    ) -> Result<(), PostgresError> {
        self.install_identity()?;
        self.files.write_tool_password(&self.settings, from)?;
        let connection = conninfo(&self.files, from, &self.files.tool_password(), CLONING, None);
        let to = to.display().to_string();
        let always = ["--no-password", "--wal-method=stream", "--checkpoint=fast", "--no-manifest"];
        let args = [&["--pgdata", &to, "--dbname", &connection], &always[..], how].concat();
        self.tool("pg_basebackup", &args, String::new(), limit).await.map(drop)
    }

    /// Makes this replica's log a prefix of the log of `from` again, after keeping what only it has. If that does
    /// not work the data is left marked as broken, and a clone follows.
    pub async fn rewind(&self, from: &Upstream) -> Result<(), PostgresError> {
        self.keep_diverged(from).await?;
        let source = self.connect_upstream(from).await?;
        // Right after its promotion the control file of the source still names the old timeline.
        source.rows_within(CHECKPOINT_TIMEOUT, "checkpoint the upstream", "CHECKPOINT").await?;
        self.install_identity()?;
        self.files.write_tool_password(&self.settings, from)?;
        let connection =
            conninfo(&self.files, from, &self.files.tool_password(), REWINDING, Some("postgres"));
        let (data, config) = (self.pgdata().display().to_string(), self.files.main().display().to_string());
        let args = [
            "--target-pgdata",
            &data,
            "--source-server",
            &connection,
            "--config-file",
            &config,
            "--no-ensure-shutdown",
        ];
        self.change(|state| (state.broken, state.primary_epoch) = (true, None)).await?;
        self.keep_slot(&source).await?;
        self.tool("pg_rewind", &args, String::new(), REWIND_TIMEOUT).await?;
        self.catch_up(from).await?;
        self.change(|state| state.broken = false).await
    }

    /// Receives until the rewound data is consistent, and stops again.
    ///
    /// That takes all of the source's log up to the end of the rewind, and the source has gone on while its log was
    /// copied. Started without it, PostgreSQL would wait for ever and answer nobody.
    async fn catch_up(&self, from: &Upstream) -> Result<(), PostgresError> {
        let receives =
            State { upstream: Some(from.clone()), target: None, set: None, open: false, ..self.state() };
        self.files.write_as(&self.settings, &receives, REWINDING)?;
        let consistent = match self.run_prepared().await {
            Ok(()) => self.until_consistent(from).await,
            Err(error) => Err(error),
        };
        self.stop_in_order(STOP_BUDGET).await?;
        consistent
    }

    async fn until_consistent(&self, from: &Upstream) -> Result<(), PostgresError> {
        let deadline = Instant::now() + REPLAY_TIMEOUT;
        while self.session().await.is_err() {
            if self.is_stopped().await? {
                return Err(PostgresError::State("it stopped before it was consistent".to_owned()));
            }
            if Instant::now() >= deadline {
                return Err(PostgresError::Timeout("become consistent after a rewind"));
            }
            // One that is gone, or no longer has the log, is waited for in vain.
            if !self.keep_slot(&self.connect_upstream(from).await?).await? {
                return Err(PostgresError::State("the upstream no longer has the log needed".to_owned()));
            }
            sleep(CATCH_UP_POLL).await;
        }
        Ok(())
    }

    /// Keeps what lies beyond the fork, if anything does, and writes down what it is; then stops in order. A replica
    /// that is stopped is started once more for that, which also replays what a crash left, so that a rewind finds a
    /// clean data directory.
    async fn keep_diverged(&self, from: &Upstream) -> Result<(), PostgresError> {
        self.start().await?;
        let end = self.own_end().await?;
        let source = self.connect_upstream(from).await?;
        let fork = self.fork(&source, end).await?;
        let losses = match fork {
            Some(fork) => Some(self.losses(fork, end).await),
            None => None,
        };
        self.stop_in_order(STOP_BUDGET).await?;
        if !self.control().await?.is_clean() {
            return Err(PostgresError::State("it could not be stopped in order".to_owned()));
        }
        match losses {
            Some(losses) => self.keep(losses).await,
            None => Ok(()),
        }
    }

    /// Waits until everything on disk is replayed, and tells how far that reaches.
    async fn own_end(&self) -> Result<Position, PostgresError> {
        let deadline = Instant::now() + REPLAY_TIMEOUT;
        loop {
            match self.observe().await? {
                Process::Standby { position: Some(position), receiving: false, .. } => return Ok(position),
                Process::Standby { receiving: true, .. } => self.detach().await?,
                Process::Primary { .. } => return Err(PostgresError::State("it is a primary".to_owned())),
                Process::Stopped { .. } => {
                    return Err(PostgresError::State("it stopped meanwhile".to_owned()));
                }
                _ if Instant::now() >= deadline => {
                    return Err(PostgresError::Timeout("replay what is on disk"));
                }
                _ => sleep(POLL).await,
            }
        }
    }

    /// Data that does not even start may hold the only copy of something all the same: then all of it is kept.
    async fn keep_before_clone(&self, from: &Upstream) -> Result<(), PostgresError> {
        match self.keep_diverged(from).await {
            Ok(()) => Ok(()),
            // It is well, but the other one is not there to be compared with: that is tried again.
            Err(error) if error.may_pass() && self.connect_upstream(from).await.is_err() => Err(error),
            Err(error) => {
                tracing::warn!(unit = %self.settings.unit, error = %error.chain(), "keeping all of data that does not work");
                self.stop_now().await?;
                let losses = Losses {
                    unit: self.settings.unit.clone(),
                    dc: self.settings.dc.clone(),
                    epoch: self.state().primary_epoch,
                    fork: Lsn(0),
                    end: Position { timeline: 0, flushed: Lsn(u64::MAX) },
                    transactions: 0,
                    transfers: Vec::new(),
                    incomplete: Some(error.chain()),
                };
                self.keep(losses).await
            }
        }
    }

    /// Copies the log past the fork and the manifest into a folder of their own; and the data, if the manifest is not
    /// complete.
    async fn keep(&self, losses: Losses) -> Result<(), PostgresError> {
        let (fork, end) = (losses.fork, losses.end);
        let kept = wal::Kept { end, fork, primary_epoch: losses.epoch, kept_at: Timestamp::now() };
        let (pg_wal, dir) = (self.pg_wal(), self.settings.dir.join("kept"));
        let (transfers, incomplete) = (losses.transfers.len(), losses.incomplete.clone());
        let fails = incomplete.as_deref().is_some_and(|why| why != UNDECLARED);
        let data = fails.then(|| self.pgdata());
        let folder = self
            .on_disk(move |_| {
                wal::keep(&pg_wal, &kept, &losses, data.as_deref(), &dir)
                    .map_err(file("keep the diverged log in", &dir))
            })
            .await?;
        tracing::warn!(
            unit = %self.settings.unit, folder = %folder.display(), %fork, %end, transfers, incomplete,
            "kept diverged log, and wrote down what only it has"
        );
        Ok(())
    }

    pub(super) async fn begin_data(&self) -> Result<PathBuf, PostgresError> {
        let made = self.settings.dir.join("pgdata.new");
        let (half, programs) = (made.clone(), self.settings.programs.clone());
        self.on_disk(move |_| {
            memory::release(&programs, &half);
            files::remove_dir(&half).map_err(file("remove", &half))
        })
        .await?;
        self.settings.programs.make_dir(&made)?;
        Ok(made)
    }

    /// Puts what was made in its place.
    pub(super) async fn finish_data(&self, made: PathBuf) -> Result<(), PostgresError> {
        let (data, dir, programs) =
            (self.pgdata(), self.settings.dir.clone(), self.settings.programs.clone());
        self.on_disk(move |durable| {
            durable.change(|state| (state.broken, state.primary_epoch) = (true, None))?;
            memory::release(&programs, &data);
            files::remove_dir(&data).map_err(file("remove", &data))?;
            fs::rename(&made, &data).map_err(file("rename to", &data))?;
            files::sync_dir(&dir).map_err(file("sync", &dir))?;
            durable.change(|state| state.broken = false)
        })
        .await
    }

    pub(super) async fn tool(
        &self,
        program: &str,
        args: &[&str],
        input: String,
        limit: Duration,
    ) -> Result<String, PostgresError> {
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        let mark = self.tool_mark();
        self.settings
            .programs
            .run(Tool { program, args, env: BTreeMap::new(), input, limit, mark: &mark })
            .await
    }
}
