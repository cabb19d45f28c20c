//! What only this replica's log has: decoded before any of it is discarded.
//!
//! The replica runs as a standby that receives from nobody and admits no clients, and has replayed all its log. The
//! commits past the fork are read off the log itself, the rows they wrote by the transactions' ids, from the tables the
//! application has declared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use dujiang_types::loss::{Losses, LostEntry, LostTransfer};
use dujiang_types::{Lsn, Position};
use tokio_postgres::SimpleQueryRow;

use super::error::{PostgresError, file};
use super::sql::{Session, field, identifier, literal};
use super::{Replica, wal};

/// Reading a log that was kept for a replica takes seconds; more means that the disk hangs.
const DECODE_TIMEOUT: Duration = Duration::from_secs(120);
/// A table of a bank's postings is read once from end to end.
const READ_TIMEOUT: Duration = Duration::from_secs(900);
/// Commits that are decoded: hours of a busy unit. What is beyond is said to be missing, and its data is kept.
const COMMITS_MAX: usize = 500_000;
/// Columns of a declaration, in the order of [`Table`].
const DECLARED: &str = "SELECT relation, id_column, account_column, amount_column, currency_column, key_column, \
     kind_column, to_column, at_column FROM public.dujiang_transfers WHERE part = ";
const IS_DECLARED: &str = "SELECT 1 FROM pg_catalog.pg_class WHERE relname = 'dujiang_transfers' AND relkind = 'r' \
     AND relnamespace = 'public'::regnamespace";

/// Why nothing is told of an application that declares nothing. Its log is kept, but not its data, too: that would fill
/// the disk of whoever does not want a manifest.
pub(super) const UNDECLARED: &str = "the application does not say where its transfers are";

/// A table that was declared, and its columns; a column that does not exist reads as null.
#[derive(Debug)]
struct Table {
    relation: String,
    columns: Vec<Option<String>>,
}

impl Replica {
    /// Writes down what was committed between `fork` and `end`. What stands in the way is told in the result: it
    /// must not keep the replica from ever following again.
    pub(super) async fn losses(&self, fork: Lsn, end: Position) -> Losses {
        let mut losses = Losses {
            unit: self.settings.unit.clone(),
            dc: self.settings.dc.clone(),
            epoch: self.state().primary_epoch,
            fork,
            end,
            transactions: 0,
            transfers: Vec::new(),
            incomplete: None,
        };
        if let Err(error) = self.decode(&mut losses).await {
            losses.incomplete = Some(error.chain());
        }
        losses
    }

    async fn decode(&self, losses: &mut Losses) -> Result<(), PostgresError> {
        let commits = self.commits(losses.fork, losses.end).await?;
        losses.transactions = commits.transactions;
        let session = self.new_session().await?;
        if session.rows("look for what is declared", IS_DECLARED).await?.is_empty() {
            losses.incomplete = Some(UNDECLARED.to_owned());
            return Ok(());
        }
        let (transfers, entries) =
            (Table::read(&session, "transfer").await?, Table::read(&session, "entry").await?);
        let mut parts = BTreeMap::<String, Vec<LostEntry>>::new();
        for row in entries.written_by(&session, &commits.ids).await? {
            parts.entry(text(&row, 0)).or_default().push(LostEntry {
                account: text(&row, 1),
                amount_minor: field(&row, 2).unwrap_or_default(),
                currency: text(&row, 3),
            });
        }
        for row in transfers.written_by(&session, &commits.ids).await? {
            let id = text(&row, 0);
            losses.transfers.push(LostTransfer {
                entries: parts.remove(&id).unwrap_or_default(),
                id,
                account: text(&row, 1),
                amount_minor: field(&row, 2).unwrap_or_default(),
                currency: text(&row, 3),
                key: field(&row, 4),
                kind: text(&row, 5),
                to: field(&row, 6),
                at: text(&row, 7),
            });
        }
        losses.transfers.sort_by(|a, b| (&a.at, &a.id).cmp(&(&b.at, &b.id)));
        if commits.cut_off {
            let why = format!("there are more than {COMMITS_MAX} commits");
            return Err(PostgresError::State(why));
        }
        Ok(())
    }

    /// The transactions committed between two positions, on every timeline in between.
    async fn commits(&self, fork: Lsn, end: Position) -> Result<Commits, PostgresError> {
        let pg_wal = self.pg_wal();
        let history =
            wal::read_history(&pg_wal, end.timeline).map_err(file("read the history in", &pg_wal))?;
        let mut commits = Commits::default();
        let mut from = fork;
        for (timeline, until) in history.ancestors.into_iter().chain([(end.timeline, end.flushed)]) {
            if until > from {
                let text = self.dump(timeline, from, until).await?;
                commits.take(&text);
                from = until;
            }
        }
        Ok(commits)
    }

    async fn dump(&self, timeline: u32, from: Lsn, until: Lsn) -> Result<String, PostgresError> {
        let (pg_wal, timeline) = (self.pg_wal().display().to_string(), timeline.to_string());
        let (from, until, most) = (from.to_string(), until.to_string(), COMMITS_MAX.to_string());
        let args =
            ["-p", &pg_wal, "-t", &timeline, "-s", &from, "-e", &until, "-r", "Transaction", "-n", &most];
        self.tool("pg_waldump", &args, String::new(), DECODE_TIMEOUT).await
    }
}

/// Transactions that were committed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Commits {
    transactions: u64,
    /// Theirs and those of their subtransactions: what a row says it was written by.
    ids: BTreeSet<u32>,
    cut_off: bool,
}

impl Commits {
    /// Reads the lines of `pg_waldump`: `rmgr: Transaction ... tx: 745, lsn: ..., desc: COMMIT TIME; subxacts: 746 747; ...`
    fn take(&mut self, text: &str) {
        let mut lines = 0;
        for line in text.lines() {
            lines += 1;
            let Some((head, description)) = line.split_once(", desc: COMMIT") else { continue };
            let id: Option<u32> =
                head.split_once("tx:").and_then(|(_, rest)| rest.split(',').next()?.trim().parse().ok());
            self.transactions += 1;
            self.ids.extend(id);
            let under = description.split(';').find_map(|part| part.trim().strip_prefix("subxacts:"));
            self.ids.extend(
                under.unwrap_or_default().split_ascii_whitespace().filter_map(|id| id.parse::<u32>().ok()),
            );
        }
        self.cut_off |= lines >= COMMITS_MAX;
    }
}

impl Table {
    /// What is declared for a part. Everything is checked in the catalogue, because the agent is a superuser: reading
    /// plain columns of plain tables runs no code of the application's.
    async fn read(session: &Session, part: &str) -> Result<Self, PostgresError> {
        let wrong =
            |why: &str| PostgresError::State(format!("the declaration of {part} is of no use: {why}"));
        let rows = session.rows("read the declaration", &format!("{DECLARED}{}", literal(part))).await?;
        let row = rows.first().ok_or_else(|| wrong("there is none"))?;
        let relation: String = field(row, 0).ok_or_else(|| wrong("no table"))?;
        let columns: Vec<Option<String>> = (1..9).map(|index| field(row, index)).collect();
        let mut names = BTreeSet::new();
        names.extend(columns.iter().flatten().cloned());
        let list = names.iter().map(|name| literal(name)).collect::<Vec<_>>().join(", ");
        let known = format!(
            "SELECT count(*) FROM pg_catalog.pg_class AS r JOIN pg_catalog.pg_attribute ON attrelid = r.oid AND attnum > 0 \
             JOIN pg_catalog.pg_type AS t ON t.oid = atttypid AND t.typnamespace = 'pg_catalog'::regnamespace \
             WHERE r.relkind = 'r' AND r.relnamespace = 'public'::regnamespace AND relname = {} AND attname IN ({list})",
            literal(&relation)
        );
        let found: Option<usize> = field(&session.row("look at the columns", &known).await?, 0);
        if found != Some(names.len()) {
            return Err(wrong("not all of it are plain columns of a plain table"));
        }
        Ok(Self { relation, columns })
    }

    /// Rows written by these transactions, with the columns in the order they were declared in.
    async fn written_by(
        &self,
        session: &Session,
        ids: &BTreeSet<u32>,
    ) -> Result<Vec<SimpleQueryRow>, PostgresError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let columns = self.columns.iter().map(|name| name.as_deref().map_or("NULL".to_owned(), identifier));
        let columns = columns.collect::<Vec<_>>().join(", ");
        let mut list = String::new();
        for id in ids {
            let _ = write!(list, "{}{id}", if list.is_empty() { "" } else { "," });
        }
        let sql = format!(
            "SELECT {columns} FROM public.{} WHERE xmin = ANY ('{{{list}}}'::xid[])",
            identifier(&self.relation)
        );
        session.rows_within(READ_TIMEOUT, "read what was lost", &sql).await
    }
}

fn text(row: &SimpleQueryRow, index: usize) -> String {
    field(row, index).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_read_with_their_subtransactions() {
        let text = "\
rmgr: Transaction len (rec/tot):     46/    46, tx:        745, lsn: 0/01A2B3C8, prev 0/01A2B390, desc: COMMIT 2026-01-01 10:00:00.000000 UTC
rmgr: Transaction len (rec/tot):     62/    62, tx:        748, lsn: 0/01A2B4C8, prev 0/01A2B490, desc: COMMIT 2026-01-01 10:00:01.000000 UTC; subxacts: 749 751; inval msgs: catcache 7
rmgr: Transaction len (rec/tot):     34/    34, tx:        752, lsn: 0/01A2B5C8, prev 0/01A2B590, desc: ABORT 2026-01-01 10:00:02.000000 UTC
";
        let mut commits = Commits::default();
        commits.take(text);
        assert_eq!(commits, Commits { transactions: 2, ids: [745, 748, 749, 751].into(), cut_off: false });
    }
}
