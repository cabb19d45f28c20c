//! One connection to a unit's database: statements prepared once, and its warnings counted.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dujiang_database::{Connection, Tls};
use futures_util::future::join_all;
use tokio::task::JoinHandle;
use tokio_postgres::error::Severity;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Config, Error, Row, Statement};

/// One statement with its parameters.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// The statement. Static, because statements are prepared once per session and kept.
    pub sql: &'static str,
    /// Its parameters.
    pub params: &'a [&'a (dyn ToSql + Sync)],
}

impl<'a> Call<'a> {
    /// A statement with its parameters.
    pub fn new(sql: &'static str, params: &'a [&'a (dyn ToSql + Sync)]) -> Self {
        Self { sql, params }
    }
}

/// A connection.
pub(crate) struct Session {
    client: Client,
    warnings: Arc<AtomicU64>,
    // Bounded by the number of statements in the program's text.
    statements: Mutex<HashMap<&'static str, Statement>>,
    driver: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        // Closes the socket at once; the server rolls back what was not committed.
        self.driver.abort();
    }
}

impl Session {
    pub(crate) async fn connect(config: &Config, tls: &Tls) -> Result<Self, Error> {
        let (client, connection) = dujiang_database::connect(config, tls).await?;
        let warnings = Arc::new(AtomicU64::new(0));
        let driver = tokio::spawn(drive(connection, Arc::clone(&warnings)));
        Ok(Self { client, warnings, statements: Mutex::default(), driver })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// How many warnings the server has sent. A warning sent while a statement runs is counted before the
    /// statement's answer is delivered, because both come in order over the one connection.
    pub(crate) fn warnings(&self) -> u64 {
        self.warnings.load(Ordering::Acquire)
    }

    /// Runs text without parameters, in one round trip.
    pub(crate) async fn batch(&self, sql: &str) -> Result<(), Error> {
        self.client.batch_execute(sql).await
    }

    pub(crate) async fn prepare(&self, sql: &'static str) -> Result<Statement, Error> {
        let known = self.statements.lock().unwrap_or_else(PoisonError::into_inner).get(sql).cloned();
        if let Some(statement) = known {
            return Ok(statement);
        }
        let statement = self.client.prepare(sql).await?;
        self.statements.lock().unwrap_or_else(PoisonError::into_inner).insert(sql, statement.clone());
        Ok(statement)
    }

    pub(crate) async fn query(&self, call: Call<'_>) -> Result<Vec<Row>, Error> {
        let statement = self.prepare(call.sql).await?;
        self.client.query(&statement, call.params).await
    }

    /// Prepares what is not prepared yet.
    pub(crate) async fn prepare_all(&self, calls: &[Call<'_>]) -> Result<Vec<Statement>, Error> {
        let mut statements = Vec::with_capacity(calls.len());
        for call in calls {
            statements.push(self.prepare(call.sql).await?);
        }
        Ok(statements)
    }

    /// Sends all of them, in order, without waiting in between.
    pub(crate) async fn pipeline(
        &self,
        statements: &[Statement],
        calls: &[Call<'_>],
    ) -> Vec<Result<Vec<Row>, Error>> {
        join_all(statements.iter().zip(calls).map(|(s, call)| self.client.query(s, call.params))).await
    }
}

async fn drive(mut connection: Connection, warnings: Arc<AtomicU64>) {
    while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
        match message {
            Ok(AsyncMessage::Notice(notice)) => {
                // A severity that cannot be read counts as a warning: rather one "unknown" too many.
                if matches!(notice.parsed_severity(), None | Some(Severity::Warning)) {
                    warnings.fetch_add(1, Ordering::Release);
                    tracing::warn!(code = notice.code().code(), message = notice.message(), "database warns");
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "database connection ended");
                return;
            }
        }
    }
}
