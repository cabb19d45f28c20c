//! What a replica does that is, or becomes, primary.

use std::time::Duration;

use dujiang_types::unit::SyncSet;
use dujiang_types::{Epoch, Lsn};
use tokio::time::{Instant, sleep, timeout};

use super::conf::sync_names;
use super::error::{PostgresError, file};
use super::observe::standbys;
use super::run::POLL;
use super::sql::{Session, asked_for_proof, field, flag, identifier, literal, not_admitted};
use super::{RELOAD, Replica, State, wal};

/// Between two looks whether a promotion is done: part of every failover, so short.
const PROMOTE_POLL: Duration = Duration::from_millis(5);
/// Between two looks whether a setting has arrived: it takes a signal to two processes.
const SETTING_POLL: Duration = Duration::from_millis(2);
/// How long a promotion may take once asked for; log left to replay counts, the machine's own limit is longer.
const PROMOTE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a setting may take to reach every process.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(3);
/// A WAL sender that has not taken a setting in by then is ended; it comes back with it.
const SENDER_PATIENCE: Duration = Duration::from_millis(300);
/// How long members may take to flush the confirming commit.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a real write may take: less than a lease, so that a hanging disk lets the lease run out.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// A checkpoint writes all that is dirty.
pub(super) const CHECKPOINT_TIMEOUT: Duration = Duration::from_secs(60);

impl Replica {
    /// Promotes under `epoch`, making commits wait for `set`. The guard must hold a lease.
    ///
    /// The epoch is on disk before the promotion is asked for: whatever happens then, this replica is never promoted
    /// under it again. The new timeline is `epoch + 1`. Stays closed to clients.
    pub async fn promote(&self, epoch: Epoch, set: &SyncSet) -> Result<(), PostgresError> {
        let timeline = u32::try_from(epoch.0 + 1)
            .map_err(|_| PostgresError::State(format!("epoch {epoch} is beyond PostgreSQL's timelines")))?;
        if self.state().primary_epoch >= Some(epoch) {
            return Err(PostgresError::State(format!("was primary of epoch {epoch} already")));
        }
        if self.lease_left_ms().await.is_none_or(|left_ms| left_ms == 0) {
            return Err(PostgresError::State("the guard holds no lease".to_owned()));
        }
        let session = self.session().await?;
        // Before the promotion: there is no moment in which this primary would not wait.
        let state = State { set: Some(set.clone()), upstream: None, open: false, ..self.state() };
        self.apply_set(&session, &state).await?;
        let pg_wal = self.pg_wal();
        for placeholder in wal::fill_gap(&pg_wal, timeline).map_err(file("write histories into", &pg_wal))? {
            self.settings.programs.give(&placeholder)?;
        }
        self.change(move |now| *now = State { primary_epoch: Some(epoch), ..state }).await?;
        session.row("ask for the promotion", "SELECT pg_promote(false)").await?;
        let deadline = Instant::now() + PROMOTE_TIMEOUT;
        while flag(&session.row("watch the promotion", "SELECT pg_is_in_recovery()").await?, 0) {
            if Instant::now() >= deadline {
                return Err(PostgresError::Timeout("promote"));
            }
            sleep(PROMOTE_POLL).await;
        }
        let sql = "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)";
        let name: Option<String> = field(&session.row("read the new timeline", sql).await?, 0);
        if name != Some(format!("{timeline:08X}")) {
            // Without the fence the machine sees a primary of another epoch and stops it.
            return Err(PostgresError::State(format!("promoted to timeline {name:?} instead of {timeline}")));
        }
        let fence = format!("UPDATE dujiang.fence SET epoch = {epoch}");
        session.rows("write the fence", &fence).await?;
        Ok(())
    }

    /// Puts a sync set into force and confirms it: a replica counts only after a later commit was flushed by it.
    /// False if there is nothing to confirm: with fewer members than are needed commits wait.
    pub async fn set_sync(&self, set: &SyncSet) -> Result<bool, PostgresError> {
        let session = self.session().await?;
        let before = self.state().set;
        let wanted = set.clone();
        self.change(move |state| state.set = Some(wanted)).await?;
        self.apply_set(&session, &self.state()).await?;
        if sync_names(before.as_ref()).is_empty() && set.need > 0 {
            // That commits wait at all is switched on by the checkpointer, which looks before each checkpoint.
            let own = self.new_session().await?;
            own.rows_within(CHECKPOINT_TIMEOUT, "checkpoint", "CHECKPOINT").await?;
        }
        let need_changes = before.is_none_or(|before| before.need != set.need);
        self.settle_senders(&session, set, need_changes).await?;
        if set.members.len() < usize::from(set.need) {
            return Ok(false);
        }
        self.confirm(&session, set).await?;
        Ok(true)
    }

    /// Writes the configuration, reloads, and waits until this session has the sync set. The postmaster takes a
    /// changed setting in before it tells anybody, so by then every new session has it too, and every process has
    /// been told.
    async fn apply_set(&self, session: &Session, state: &State) -> Result<(), PostgresError> {
        let wanted = sync_names(state.set.as_ref());
        self.files.write(&self.settings, state)?;
        session.row("reload the configuration", RELOAD).await?;
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        loop {
            let sql = "SELECT current_setting('synchronous_standby_names')";
            if field(&session.row("read the sync set", sql).await?, 0).as_ref() == Some(&wanted) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(PostgresError::Timeout("put the sync set into force"));
            }
            sleep(SETTING_POLL).await;
        }
    }

    /// It is the WAL senders that release waiting commits, each by the setting it has itself taken in. What
    /// `pg_stat_replication` shows as priority was written by the sender, so it tells whether it has.
    async fn settle_senders(&self, session: &Session, set: &SyncSet, all: bool) -> Result<(), PostgresError> {
        const SENDERS: &str = "SELECT pid, application_name, sync_priority > 0 FROM pg_stat_replication \
                               WHERE state IN ('streaming', 'catchup')";
        if all {
            // How many are needed shows nowhere; a sender that was started after the change knows it.
            session
                .rows("end the WAL senders", "SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
                .await?;
        }
        let begun = Instant::now();
        let counts = set.need > 0 && set.members.len() >= usize::from(set.need);
        loop {
            let rows = session.rows("look at the WAL senders", SENDERS).await?;
            let outdated: Vec<i32> = rows
                .iter()
                .filter(|row| {
                    let name: Option<String> = field(row, 1);
                    let member = name.is_some_and(|name| set.members.iter().any(|dc| dc.as_str() == name));
                    flag(row, 2) != (member && counts)
                })
                .filter_map(|row| field(row, 0))
                .collect();
            if outdated.is_empty() {
                return Ok(());
            }
            if begun.elapsed() > SETTLE_TIMEOUT {
                return Err(PostgresError::Timeout("make every WAL sender take the sync set in"));
            }
            if begun.elapsed() > SENDER_PATIENCE {
                for pid in outdated {
                    session.rows("end a WAL sender", &format!("SELECT pg_terminate_backend({pid})")).await?;
                }
            }
            sleep(POLL).await;
        }
    }

    async fn confirm(&self, session: &Session, set: &SyncSet) -> Result<(), PostgresError> {
        if set.need == 0 {
            return Ok(());
        }
        session.rows("write the confirming commit", "UPDATE dujiang.probe SET written_at = now()").await?;
        let row = session.row("read the log's end", "SELECT pg_current_wal_flush_lsn()").await?;
        let end: Lsn = field(&row, 0).ok_or_else(|| PostgresError::State("no position".to_owned()))?;
        let deadline = Instant::now() + CONFIRM_TIMEOUT;
        loop {
            let standbys = standbys(session).await?;
            let have = set
                .members
                .iter()
                .filter_map(|dc| standbys.get(dc))
                .filter(|s| s.streaming && s.flushed >= end);
            if have.count() >= usize::from(set.need) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(PostgresError::Timeout(
                    "confirm the sync set: its members have not flushed a later commit",
                ));
            }
            sleep(POLL).await;
        }
    }

    /// Admits clients, and makes sure that they are. Nothing takes that back but a stop: a primary that must not
    /// serve any more must not run.
    pub async fn open_admission(&self) -> Result<(), PostgresError> {
        let session = self.session().await?;
        self.change(|state| state.open = true).await?;
        self.reload(&session).await?;
        let app = self.settings.application.as_str();
        let password = self.settings.secret.password(&self.settings.unit, app);
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        loop {
            // What counts is what a client meets: it comes as far as showing who it is, which only the application can.
            match Session::connect(&self.tls, self.settings.address, app, &password, app).await {
                Ok(_) => return Ok(()),
                Err(error) if asked_for_proof(&error) => return Ok(()),
                Err(error) if not_admitted(&error) && Instant::now() < deadline => sleep(POLL).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes what is dirty: a former primary that crashed before its first checkpoint cannot be rewound.
    pub async fn checkpoint(&self) -> Result<(), PostgresError> {
        let session = self.new_session().await?;
        session.rows_within(CHECKPOINT_TIMEOUT, "checkpoint", "CHECKPOINT").await.map(drop)
    }

    /// A real write to the primary's disk. Fails if it does not come back in time.
    pub async fn write_probe(&self) -> Result<(), PostgresError> {
        let mut slot = self.probe.lock().await;
        let session = match slot.take() {
            Some(session) if !session.is_closed() => session,
            _ => self.new_session().await?,
        };
        let write = session.rows("write the probe", "UPDATE dujiang.probe SET written_at = now()");
        timeout(PROBE_TIMEOUT, write).await.map_err(|_| PostgresError::Timeout("write to the disk"))??;
        // Given back only when it worked: a session that hangs is left behind.
        *slot = Some(session);
        Ok(())
    }

    /// SQL that makes roles and database of a new unit, for the database `postgres`.
    pub(super) fn roles_sql(&self) -> String {
        let app = self.settings.application.as_str();
        let password = |role: &str| literal(&self.settings.secret.password(&self.settings.unit, role));
        let (database, replication) = (identifier(app), super::ROLE_REPLICATION);
        format!(
            "CREATE ROLE {replication} LOGIN REPLICATION PASSWORD {};\n\n\
             GRANT pg_monitor, pg_checkpoint TO {replication};\n\n\
             GRANT EXECUTE ON FUNCTION pg_ls_dir(text, boolean, boolean), pg_stat_file(text, boolean), \
             pg_read_binary_file(text), pg_read_binary_file(text, bigint, bigint, boolean) TO {replication};\n\n\
             CREATE ROLE {database} LOGIN PASSWORD {};\n\n\
             CREATE DATABASE {database} OWNER {database};\n\n\
             REVOKE CONNECT ON DATABASE {database} FROM PUBLIC;\n\n",
            password(replication),
            password(app),
        )
    }

    /// SQL that makes the platform's schema, for the application's database.
    pub(super) fn schema_sql(&self) -> String {
        let unit = literal(self.settings.unit.as_str());
        format!(
            "{}\n\nINSERT INTO dujiang.fence (unit, epoch) VALUES ({unit}, 0);\n\n",
            include_str!("fence.sql")
        )
    }
}
