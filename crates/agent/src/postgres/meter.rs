//! What is counted in a replica: the last transfer's number, and clients.

use std::time::Duration;

use dujiang_types::exposure::Meter;
use tokio::time::timeout;

use super::error::PostgresError;
use super::sql::{Session, field, identifier};
use super::{Replica, conf};

/// Counting must not wait for anybody, least of all for a change of the schema: what cannot be had at once is not
/// known.
const COUNT_TIMEOUT: Duration = Duration::from_secs(1);
const PATIENCE: &str = "SET lock_timeout = '200ms'";

/// Where the application numbers its transfers: it says so in a table of the SDK's. Everything is checked in the
/// catalogue, because the agent is a superuser: reading a plain column of a plain table runs no code of the
/// application's, a view, a cast or an operator of its own could.
const NUMBERED: &str = "SELECT relname, attname FROM pg_catalog.pg_class AS r \
     JOIN pg_catalog.pg_attribute ON attrelid = r.oid AND atttypid = 'pg_catalog.int8'::regtype \
     WHERE r.relkind = 'r' AND r.relnamespace = 'public'::regnamespace AND (relname, attname) = (SELECT \
     relation, number_column FROM public.dujiang_numbering LIMIT 1)";
const DECLARED: &str = "SELECT 1 FROM pg_catalog.pg_class WHERE relname = 'dujiang_numbering' AND relkind = 'r' \
     AND relnamespace = 'public'::regnamespace";
const PER_TRANSFER: &str = "SELECT greatest(per_transfer, 1) FROM public.dujiang_numbering LIMIT 1";

/// The agent's own sessions are no clients.
const CLIENTS: &str = "SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend' \
     AND usename <> 'dujiang'";

/// A session for counting, and what to ask in it.
#[derive(Debug)]
pub(super) struct Counter {
    session: Session,
    /// Reads the last number; `None` as long as the application does not say where that is.
    number: Option<(String, u64)>,
}

impl Replica {
    /// Counts. What could not be read is left out.
    pub async fn meter(&self) -> Meter {
        let mut slot = self.counter.lock().await;
        match timeout(COUNT_TIMEOUT, self.count(slot.take())).await {
            Ok(Ok((meter, counter))) => {
                // Kept only when it worked: a session that hangs is left behind.
                *slot = Some(counter);
                meter
            }
            Ok(Err(error)) => {
                tracing::debug!(unit = %self.settings.unit, error = %error.chain(), "not counted");
                Meter::default()
            }
            Err(_) => Meter::default(),
        }
    }

    async fn count(&self, counter: Option<Counter>) -> Result<(Meter, Counter), PostgresError> {
        let mut counter = if let Some(open) = counter.filter(|counter| !counter.session.is_closed()) {
            open
        } else {
            let session = self.new_session().await?;
            session.rows("set a limit", PATIENCE).await?;
            Counter { session, number: None }
        };
        if counter.number.is_none() {
            counter.number = numbered(&counter.session).await?;
        }
        let transfers = match &counter.number {
            Some((sql, per_transfer)) => {
                let last: Option<u64> = field(&counter.session.row("read the last number", sql).await?, 0);
                Some(last.unwrap_or(0) / per_transfer)
            }
            None => None,
        };
        let clients = field(&counter.session.row("count the clients", CLIENTS).await?, 0);
        let meter = Meter { transfers, connections: clients, connections_max: Some(conf::CLIENTS_MAX) };
        Ok((meter, counter))
    }
}

async fn numbered(session: &Session) -> Result<Option<(String, u64)>, PostgresError> {
    if session.rows("look for the numbering", DECLARED).await?.is_empty() {
        return Ok(None);
    }
    let rows = session.rows("read where transfers are numbered", NUMBERED).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (Some(relation), Some(column)) = (field::<String>(row, 0), field::<String>(row, 1)) else {
        return Ok(None);
    };
    let row = session.row("read how transfers are numbered", PER_TRANSFER).await?;
    let (relation, column) = (identifier(&relation), identifier(&column));
    let sql = format!("SELECT pg_catalog.max({column}) FROM public.{relation}");
    Ok(Some((sql, field(&row, 0).unwrap_or(1))))
}
