//! Schema of SDK and application, brought up to date wherever the local replica is the primary.

use std::collections::BTreeSet;

use dujiang_types::Epoch;

use crate::failure::Failure;
use crate::session::{Call, Session};

/// One step of a schema. Once released it is never changed; what comes later is a further step.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Whose schema: the application's name, or `sdk`.
    pub component: &'static str,
    /// 1, 2, 3, ... within the component.
    pub version: i32,
    /// Statements, run in one transaction.
    pub sql: &'static str,
}

/// The SDK's own tables.
pub(crate) const SDK: &[Migration] = &[
    Migration { component: "sdk", version: 1, sql: include_str!("sql/001_base.sql") },
    Migration { component: "sdk", version: 2, sql: include_str!("sql/002_numbering.sql") },
    Migration { component: "sdk", version: 3, sql: include_str!("sql/003_transfers.sql") },
];

const TABLE: &str = "CREATE TABLE IF NOT EXISTS dujiang_migrations (
    component text NOT NULL,
    version integer NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (component, version)
)";
const TABLE_EXISTS: &str = "SELECT to_regclass('dujiang_migrations') IS NOT NULL";
const APPLIED: &str = "SELECT component, version FROM dujiang_migrations";
const RECORD: &str = "INSERT INTO dujiang_migrations (component, version) VALUES ($1, $2)";

/// Applies what is missing. Instances that try at the same time wait for each other.
pub(crate) async fn migrate(session: &Session, epoch: Epoch, app: &[Migration]) -> Result<(), Failure> {
    let wanted = || SDK.iter().chain(app);
    let applied = applied(session).await?;
    if wanted().all(|step| applied.contains(&(step.component.to_owned(), step.version))) {
        return Ok(());
    }
    // A schema change may take longer than a request's statement.
    let begin = format!(
        "BEGIN; SELECT dujiang.enter({epoch}); SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '30s'; \
         SELECT pg_advisory_xact_lock(1684826985, 1); {TABLE}"
    );
    session.batch(&begin).await?;
    // Read again under the lock.
    let applied = self::applied(session).await?;
    for step in wanted().filter(|step| !applied.contains(&(step.component.to_owned(), step.version))) {
        session.batch(step.sql).await?;
        session.query(Call::new(RECORD, &[&step.component, &step.version])).await?;
        tracing::info!(component = step.component, version = step.version, "schema step applied");
    }
    let warned = session.warnings();
    session.batch("COMMIT").await.map_err(Failure::of_commit)?;
    if session.warnings() != warned {
        return Err(Failure::Unknown { why: "the schema's commit is local only", source: None });
    }
    Ok(())
}

async fn applied(session: &Session) -> Result<BTreeSet<(String, i32)>, Failure> {
    let exists = session.query(Call::new(TABLE_EXISTS, &[])).await?;
    if !exists.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(false) {
        return Ok(BTreeSet::new());
    }
    let rows = session.query(Call::new(APPLIED, &[])).await?;
    Ok(rows
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<Result<_, tokio_postgres::Error>>()?)
}
