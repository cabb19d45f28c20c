//! What a replica does that is not primary: follow, and let go.

use std::time::Duration;

use dujiang_database::Tls;
use dujiang_identity::Identity;
use dujiang_types::Position;
use dujiang_unit::agent::Process;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use super::conf::slot;
use super::error::{PostgresError, file};
use super::run::POLL;
use super::sql::{Session, field, flag, in_use, literal};
use super::state::Upstream;
use super::wal::{self, History};
use super::{RELOAD, ROLE_REPLICATION, Replica};

/// How long a receiver may take to end. It is told to by signal, so only a frozen one takes longer.
const DETACH_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an upstream that is not primary yet is watched on one connection. Then the caller looks whether it is
/// still the one to follow.
const PROMOTION_PATIENCE: Duration = Duration::from_secs(2);

/// How a replica's log relates to the one it is to receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// It can go on from where it is.
    Fits,
    /// It has log the other one does not have: it must be rewound.
    Diverged,
    /// It cannot go on from where it is, although it has nothing of its own: the other one no longer has the log that
    /// comes next, or it has begun to read a timeline that came to nothing. It must be cloned.
    Starved,
}

impl Replica {
    /// Receives from `upstream`, unless the logs do not fit; then nothing is changed.
    ///
    /// A diverged replica must never connect: it would tell its primary that it has flushed positions which mean
    /// other bytes there.
    pub async fn follow(&self, upstream: &Upstream) -> Result<Fit, PostgresError> {
        let fit = self.examine(upstream).await?;
        if fit == Fit::Fits {
            let whom = upstream.clone();
            self.change(move |state| state.upstream = Some(whom)).await?;
            self.lift_target().await?;
            let session = self.session().await?;
            self.reload(&session).await?;
            // It follows by now, and that is what was asked for. The state names the upstream already, so a failure
            // told from here on would look like a follower to which nothing comes, and nobody would try again.
            if let Err(error) = drop_old_slots(&session).await {
                tracing::warn!(unit = %self.settings.unit, error = %error.chain(), "old slots are left");
            }
        }
        Ok(fit)
    }

    /// Looks why nothing comes from the upstream that the state names. If the logs fit, following may have been broken
    /// off after the state was written and before the configuration was taken in: that is made up for.
    pub async fn follow_again(&self, upstream: &Upstream) -> Result<Fit, PostgresError> {
        let fit = self.examine(upstream).await?;
        if fit == Fit::Fits && self.state().upstream.as_ref() == Some(upstream) {
            let session = self.session().await?;
            self.reload(&session).await?;
        }
        Ok(fit)
    }

    /// Compares this replica's log with what `upstream` has, and sees to its slot there.
    pub async fn examine(&self, upstream: &Upstream) -> Result<Fit, PostgresError> {
        let Process::Standby { position: Some(own), .. } = self.observe().await? else {
            return Err(PostgresError::State("how far the log reaches is not known yet".to_owned()));
        };
        let session = self.connect_upstream(upstream).await?;
        let theirs = upstream_history(&session).await?;
        if self.leaves(&theirs, own)?.is_some() {
            return Ok(Fit::Diverged);
        }
        let pg_wal = self.pg_wal();
        let dead = wal::dead_branch(&pg_wal, own, &theirs).map_err(file("look for timelines in", &pg_wal))?;
        if let Some(timeline) = dead {
            tracing::warn!(unit = %self.settings.unit, timeline, "it reads a timeline that came to nothing");
            return Ok(Fit::Starved);
        }
        // A replica that has diverged gets no slot: it would hold log back for nothing.
        if !self.keep_slot(&session).await? {
            return Ok(Fit::Starved);
        }
        let sent = theirs.first_segments(own.timeline, own.flushed);
        let names: Vec<String> = sent.iter().map(|name| literal(name)).collect();
        let look = format!("SELECT count(*) FROM pg_ls_waldir() WHERE name IN ({})", names.join(", "));
        let found: Option<usize> = field(&session.row("look for the log that comes next", &look).await?, 0);
        Ok(if found == Some(sent.len()) { Fit::Fits } else { Fit::Starved })
    }

    pub(super) async fn connect_upstream(&self, upstream: &Upstream) -> Result<Session, PostgresError> {
        let password = self.settings.secret.password(&self.settings.unit, ROLE_REPLICATION);
        let as_database = || Tls::new(&Identity::from_file(&self.settings.database_identity)?, &upstream.dc);
        let tls = as_database().map_err(PostgresError::Identity)?;
        Session::connect(&tls, upstream.address, ROLE_REPLICATION, &password, "postgres").await
    }

    /// Where this replica's log leaves the upstream's; `None` if it does not.
    pub(super) async fn fork(
        &self,
        upstream: &Session,
        own: Position,
    ) -> Result<Option<dujiang_types::Lsn>, PostgresError> {
        self.leaves(&upstream_history(upstream).await?, own)
    }

    fn leaves(&self, theirs: &History, own: Position) -> Result<Option<dujiang_types::Lsn>, PostgresError> {
        let pg_wal = self.pg_wal();
        let ours = wal::read_history(&pg_wal, own.timeline).map_err(file("read the history in", &pg_wal))?;
        Ok(theirs.fork(own, &ours))
    }

    /// Makes sure that the upstream keeps log for this replica. False if it has given that up: the slot is gone
    /// with the log.
    pub(super) async fn keep_slot(&self, upstream: &Session) -> Result<bool, PostgresError> {
        let name = slot(&self.settings.dc);
        let look = format!(
            "SELECT wal_status = 'lost' FROM pg_replication_slots WHERE slot_name = {}",
            literal(&name)
        );
        let found = upstream.rows("look for the slot", &look).await?;
        let lost = found.first().is_some_and(|row| flag(row, 0));
        if lost {
            let drop = format!("SELECT pg_drop_replication_slot({})", literal(&name));
            upstream.rows("drop the lost slot", &drop).await?;
        }
        if lost || found.is_empty() {
            let create = format!("SELECT pg_create_physical_replication_slot({}, true)", literal(&name));
            upstream.rows("create the slot", &create).await?;
        }
        Ok(!lost)
    }

    /// Stops receiving: durably, and so that no receiver which is just being started can connect any more. After
    /// this the position only becomes known, it does not grow.
    ///
    /// If what was received last hides log that was there before, or is the history of a timeline and nothing of its log,
    /// PostgreSQL is stopped: the next start sees to that.
    pub async fn detach(&self) -> Result<(), PostgresError> {
        self.end_receivers().await?;
        let why = if !self.short().await?.is_empty() {
            "its newest segment ends before the log does"
        } else if self.is_misled().await? {
            "it has heard of a newer timeline than its log's"
        } else {
            return Ok(());
        };
        tracing::warn!(unit = %self.settings.unit, why, "it is started anew");
        self.stop_now().await
    }

    async fn end_receivers(&self) -> Result<(), PostgresError> {
        // The state first; with it the password goes, so a receiver that starts late has no way in.
        self.change(|state| state.upstream = None).await?;
        self.files.write(&self.settings, &self.state())?;
        let session = self.session().await?;
        session.row("reload the configuration", RELOAD).await?;
        let deadline = Instant::now() + DETACH_TIMEOUT;
        let receivers = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walreceiver'";
        loop {
            let rows = session.rows("look for the receiver", receivers).await?;
            let Some(row) = rows.first() else { return Ok(()) };
            // Told directly: the startup process, which would tell it, may be busy replaying.
            if let Some(pid) = field::<i32>(row, 0) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
            if Instant::now() >= deadline {
                return Err(PostgresError::Timeout("end the receiver"));
            }
            sleep(POLL).await;
        }
    }
}

/// Drops the slots left from when this replica was primary itself; they would hold back log for nobody.
///
/// One at a time, and one that is held is left where it is: somebody who has not heard of the new home receives from
/// here again as soon as this server answers, at any moment between a look at the slots and the drop. Ending that
/// sender would not help, its receiver is back in a tenth of a second. What is left goes when this replica is told to
/// follow the next time; until then it holds back no more log than any slot may.
async fn drop_old_slots(session: &Session) -> Result<(), PostgresError> {
    let rows = session.rows("list old slots", "SELECT slot_name FROM pg_replication_slots").await?;
    for name in rows.iter().filter_map(|row| field::<String>(row, 0)) {
        let drop = format!("SELECT pg_drop_replication_slot({})", literal(&name));
        match session.rows("drop an old slot", &drop).await {
            Err(error) if in_use(&error) => tracing::info!(slot = name, "an old slot is still held"),
            dropped => {
                dropped?;
            }
        }
    }
    Ok(())
}

/// The timeline and history of an upstream that is primary, or becomes it while this waits: after a change of home
/// every follower is here before the new primary is, and the first commit waits for one of them.
async fn upstream_history(upstream: &Session) -> Result<History, PostgresError> {
    until_primary(upstream).await?;
    let sql = "SELECT pg_walfile_name(pg_current_wal_flush_lsn())";
    let name: Option<String> = field(&upstream.row("ask for the upstream's timeline", sql).await?, 0);
    let unreadable = || PostgresError::State("the upstream's timeline cannot be read".to_owned());
    let timeline =
        name.and_then(|name| u32::from_str_radix(name.get(..8)?, 16).ok()).ok_or_else(unreadable)?;
    if timeline == 1 {
        return Ok(History { timeline, ancestors: Vec::new() });
    }
    let read = format!("SELECT convert_from(pg_read_binary_file('pg_wal/{timeline:08X}.history'), 'UTF8')");
    let row = upstream.row("read the upstream's history", &read).await?;
    let text: Option<String> = field(&row, 0);
    text.and_then(|text| History::parse(timeline, &text)).ok_or_else(unreadable)
}

/// Waits a while until the server is a primary.
pub(super) async fn until_primary(upstream: &Session) -> Result<(), PostgresError> {
    let deadline = Instant::now() + PROMOTION_PATIENCE;
    while flag(&upstream.row("ask whether the upstream is primary", "SELECT pg_is_in_recovery()").await?, 0) {
        if Instant::now() >= deadline {
            return Err(PostgresError::State("the upstream is not primary yet".to_owned()));
        }
        sleep(POLL).await;
    }
    Ok(())
}
