//! What a replica is at the moment, in the words of the pure machine.

use std::collections::BTreeMap;
use std::time::Duration;

use dujiang_types::report::StandbyReport;
use dujiang_types::{DcId, Epoch, Lsn, Position};
use dujiang_unit::agent::{Data, Process};
use tokio::time::timeout;
use tokio_postgres::SimpleQueryRow;

use super::conf::sync_names;
use super::error::PostgresError;
use super::programs::Run as Tool;
use super::sql::{Session, field, flag};
use super::{Replica, Sealed, lock, wal};

/// An answer that takes longer is no answer: the machine must know soon that the database hangs.
const OBSERVE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long reading the control file may take.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(5);

/// One round trip tells all of these; a standby has no position of its own making, a primary replays nothing.
const OBSERVE: &str = "SELECT pg_is_in_recovery(), \
     CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_current_wal_flush_lsn() END, \
     CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_walfile_name(pg_current_wal_flush_lsn()) END, \
     pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn(), \
     (SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'startup'), \
     (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walreceiver'), \
     (SELECT status = 'streaming' FROM pg_stat_wal_receiver), \
     current_setting('synchronous_standby_names'), (SELECT epoch FROM dujiang.fence)";

/// A standby whose reported flush is beyond what was sent to it has log of its own: it has diverged and follows
/// an old timeline, so nothing it says counts.
const STANDBYS: &str = "SELECT application_name, state = 'streaming' AND flush_lsn <= sent_lsn, flush_lsn, \
     greatest(pg_wal_lsn_diff(pg_current_wal_flush_lsn(), flush_lsn), 0)::bigint \
     FROM pg_stat_replication WHERE flush_lsn IS NOT NULL";

/// Startup process: everything on disk is replayed and more is waited for.
const IDLE: [&str; 2] = ["RecoveryRetrieveRetryInterval", "RecoveryWalStream"];

impl Replica {
    /// What the data directory holds.
    pub fn data(&self) -> Data {
        let data = self.pgdata();
        if self.state().broken {
            Data::Broken
        } else if data.join("global/pg_control").is_file() && data.join("PG_VERSION").is_file() {
            Data::Present
        } else if data.exists() {
            Data::Broken
        } else {
            Data::Absent
        }
    }

    /// What the database process does. `healthy` and `confirmed` of a primary are not observable here and left
    /// empty.
    pub async fn observe(&self) -> Result<Process, PostgresError> {
        if self.is_stopped().await? {
            return Ok(Process::Stopped { sealed: self.sealed().await });
        }
        match timeout(OBSERVE_TIMEOUT, self.look()).await {
            Ok(Ok(process)) => Ok(process),
            Ok(Err(error)) => {
                tracing::debug!(unit = %self.settings.unit, error = %error.chain(), "does not answer");
                self.forget_sessions().await;
                // It may have ended just now.
                let stopped = self.is_stopped().await?;
                Ok(if stopped { Process::Stopped { sealed: self.sealed().await } } else { Process::Starting })
            }
            Err(_) => {
                self.forget_sessions().await;
                Ok(Process::Starting)
            }
        }
    }

    async fn look(&self) -> Result<Process, PostgresError> {
        let session = self.session().await?;
        let row = session.row("observe the database", OBSERVE).await?;
        if flag(&row, 0) { self.standby(&row) } else { self.primary(&session, &row).await }
    }

    fn standby(&self, row: &SimpleQueryRow) -> Result<Process, PostgresError> {
        let received: Option<Lsn> = field(row, 3);
        let replayed: Option<Lsn> = field(row, 4);
        let waits: Option<String> = field(row, 5);
        let receiving = field::<u32>(row, 6) != Some(0);
        // Log that was received beyond what is replayed is the end of the log. Otherwise more may lie on the
        // disk until the replay has looked for it in vain.
        let idle = waits.is_some_and(|event| IDLE.contains(&event.as_str()));
        let end = if receiving || idle || received > replayed { received.max(replayed) } else { None };
        let position = match end {
            Some(end) => wal::timeline_at(&self.pg_wal(), end)
                .map_err(super::error::file("read the log in", &self.pg_wal()))?
                .map(|timeline| Position { timeline, flushed: end }),
            None => None,
        };
        Ok(Process::Standby {
            upstream: self.state().upstream.map(|upstream| upstream.dc),
            receiving,
            streaming: flag(row, 7),
            position,
            replayed,
        })
    }

    async fn primary(&self, session: &Session, row: &SimpleQueryRow) -> Result<Process, PostgresError> {
        let state = self.state();
        let name: Option<String> = field(row, 2);
        let timeline = name.and_then(|name| u32::from_str_radix(name.get(..8)?, 16).ok());
        let position = timeline.zip(field(row, 1)).map(|(timeline, flushed)| Position { timeline, flushed });
        let names: Option<String> = field(row, 8);
        let applied = state.set.filter(|set| names.as_deref() == Some(sync_names(Some(set)).as_str()));
        Ok(Process::Primary {
            epoch: Epoch(field(row, 9).unwrap_or_default()),
            open: state.open,
            applied,
            confirmed: None,
            standbys: standbys(session).await?,
            position,
            healthy: false,
        })
    }

    /// The shutdown checkpoint of a former primary that was stopped in order.
    async fn sealed(&self) -> Option<Position> {
        if let Sealed::Read(known) = *lock(&self.sealed) {
            return known;
        }
        let sealed = match self.state().primary_epoch {
            Some(_) if self.data() == Data::Present => match self.control().await {
                Ok(control) => control.sealed(),
                Err(error) => {
                    tracing::warn!(unit = %self.settings.unit, error = %error.chain(), "control file not read");
                    return None;
                }
            },
            _ => None,
        };
        *lock(&self.sealed) = Sealed::Read(sealed);
        sealed
    }

    /// Reads the control file.
    pub(super) async fn control(&self) -> Result<Control, PostgresError> {
        let run = Tool {
            program: "pg_controldata",
            args: vec!["-D".to_owned(), self.pgdata().display().to_string()],
            env: BTreeMap::new(),
            input: String::new(),
            limit: CONTROL_TIMEOUT,
            mark: &self.tool_mark(),
        };
        let text = self.settings.programs.run(run).await?;
        Control::parse(&text)
            .ok_or_else(|| PostgresError::State("the control file cannot be understood".to_owned()))
    }
}

/// Standbys connected to a primary.
pub(super) async fn standbys(session: &Session) -> Result<BTreeMap<DcId, StandbyReport>, PostgresError> {
    let rows = session.rows("list the standbys", STANDBYS).await?;
    let parse = |row: &SimpleQueryRow| {
        let report = StandbyReport {
            streaming: flag(row, 1),
            flushed: field(row, 2)?,
            lag_bytes: field(row, 3).unwrap_or_default(),
        };
        // Copies in progress have names no data center can have.
        Some((field(row, 0)?, report))
    };
    Ok(rows.iter().filter_map(parse).collect())
}

/// The parts of the control file we need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Control {
    state: String,
    checkpoint: Position,
    /// The timeline up to which log is needed before the data is consistent; 0 if none is.
    minimum: u32,
}

impl Control {
    fn parse(text: &str) -> Option<Self> {
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
            Some(line.trim())
        };
        Some(Self {
            state: value("Database cluster state")?.to_owned(),
            checkpoint: Position {
                timeline: value("Latest checkpoint's TimeLineID")?.parse().ok()?,
                flushed: value("Latest checkpoint location")?.parse().ok()?,
            },
            minimum: value("Min recovery ending loc's timeline")?.parse().ok()?,
        })
    }

    /// True if the last stop was in order, as primary or as standby.
    pub(super) fn is_clean(&self) -> bool {
        self.state.starts_with("shut down")
    }

    /// The timeline that is known to be in the log.
    pub(super) fn timeline(&self) -> u32 {
        self.checkpoint.timeline.max(self.minimum)
    }

    fn sealed(&self) -> Option<Position> {
        (self.state == "shut down").then_some(self.checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_control_file_tells_an_orderly_stop_of_a_primary() {
        let text = |state: &str| {
            format!(
                "Database cluster state:               {state}\nLatest checkpoint location:           0/3000028\n\
                 Latest checkpoint's TimeLineID:       2\nLatest checkpoint's PrevTimeLineID:   1\n\
                 Min recovery ending loc's timeline:   3\n"
            )
        };
        let sealed = Control::parse(&text("shut down")).unwrap();
        assert_eq!(sealed.sealed(), Some(Position { timeline: 2, flushed: Lsn(0x300_0028) }));
        assert_eq!(sealed.timeline(), 3, "log of it is needed");
        let standby = Control::parse(&text("shut down in recovery")).unwrap();
        assert_eq!((standby.sealed(), standby.is_clean()), (None, true));
        let crashed = Control::parse(&text("in production")).unwrap();
        assert_eq!((crashed.sealed(), crashed.is_clean()), (None, false));
        assert_eq!(Control::parse("nonsense"), None);
    }
}
