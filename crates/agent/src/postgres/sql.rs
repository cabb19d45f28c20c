//! Connections to a replica. Every statement is bounded in time on our side, because a server that hangs in its
//! disk keeps no timeout of its own.

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use dujiang_database::Tls;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage, SimpleQueryRow};

use super::error::{PostgresError, file};

/// To connect and be authenticated. Locally a few milliseconds; elsewhere a round trip or two.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// For a statement that touches little. More means the server hangs.
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection. Ends when dropped.
#[derive(Debug)]
pub(super) struct Session {
    client: Client,
}

impl Session {
    /// Connects. The session's own commits wait for the local disk only: what the agent writes must not hang
    /// because a standby is away.
    pub(super) async fn connect(
        tls: &Tls,
        address: SocketAddr,
        role: &str,
        password: &str,
        database: &str,
    ) -> Result<Self, PostgresError> {
        let mut config = config(role, password, database);
        config.host(address.ip().to_string()).port(address.port()).connect_timeout(CONNECT_TIMEOUT);
        let connect = timeout(CONNECT_TIMEOUT, dujiang_database::connect(&config, tls)).await;
        let (client, connection) = connect
            .map_err(|_| PostgresError::Timeout("connect to the database"))?
            .map_err(|source| PostgresError::Sql { what: "connect to the database", source })?;
        tokio::spawn(async move {
            // How it ends is told to whoever waits for an answer.
            let _ = connection.await;
        });
        Ok(Self { client })
    }

    /// The same to a database that has a socket in its data directory and no address. Nothing else is on that way, and
    /// the directory is its user's alone; the password is asked for all the same.
    pub(super) async fn over_socket(
        dir: &Path,
        port: u16,
        role: &str,
        password: &str,
        database: &str,
    ) -> Result<Self, PostgresError> {
        // By descriptor: the path may be longer than an address of a socket can be.
        let dir_fd = File::open(dir).map_err(file("open", dir))?;
        let path = format!("/proc/self/fd/{}/.s.PGSQL.{port}", dir_fd.as_raw_fd());
        let connect = async {
            let stream = UnixStream::connect(&path).await.map_err(file("reach the socket in", dir))?;
            let connected = config(role, password, database).connect_raw(stream, NoTls).await;
            connected.map_err(|source| PostgresError::Sql { what: "connect to the database", source })
        };
        let connected = timeout(CONNECT_TIMEOUT, connect).await;
        let (client, connection) =
            connected.map_err(|_| PostgresError::Timeout("connect to the database"))??;
        tokio::spawn(async move {
            // How it ends is told to whoever waits for an answer.
            let _ = connection.await;
        });
        Ok(Self { client })
    }

    /// True if the connection is gone.
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Runs one statement and returns its rows as text.
    pub(super) async fn rows(
        &self,
        what: &'static str,
        sql: &str,
    ) -> Result<Vec<SimpleQueryRow>, PostgresError> {
        self.rows_within(STATEMENT_TIMEOUT, what, sql).await
    }

    /// Like [`Session::rows`] with another limit.
    pub(super) async fn rows_within(
        &self,
        limit: Duration,
        what: &'static str,
        sql: &str,
    ) -> Result<Vec<SimpleQueryRow>, PostgresError> {
        let messages = timeout(limit, self.client.simple_query(sql)).await;
        let messages = messages
            .map_err(|_| PostgresError::Timeout(what))?
            .map_err(|source| PostgresError::Sql { what, source })?;
        Ok(messages
            .into_iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(row),
                _ => None,
            })
            .collect())
    }

    /// Runs one statement that returns exactly one row.
    pub(super) async fn row(&self, what: &'static str, sql: &str) -> Result<SimpleQueryRow, PostgresError> {
        let mut rows = self.rows(what, sql).await?;
        rows.pop().ok_or_else(|| PostgresError::State(format!("cannot {what}: no row came back")))
    }
}

fn config(role: &str, password: &str, database: &str) -> Config {
    let mut config = Config::new();
    config.user(role).password(password).dbname(database).application_name("dujiang-agent");
    config.options("-c synchronous_commit=local");
    config
}

/// A field, parsed. `None` if it is null, missing, or of another form.
pub(super) fn field<T: std::str::FromStr>(row: &SimpleQueryRow, index: usize) -> Option<T> {
    row.try_get(index).ok().flatten()?.parse().ok()
}

/// A truth value.
pub(super) fn flag(row: &SimpleQueryRow, index: usize) -> bool {
    row.try_get(index).ok().flatten() == Some("t")
}

/// A text as an SQL literal.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name as an SQL identifier.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// True if the server refused the connection because `pg_hba.conf` does not admit it.
pub(super) fn not_admitted(error: &PostgresError) -> bool {
    matches!(error, PostgresError::Sql { source, .. }
        if source.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION))
}

/// True if the server refused the password or whose certificate came with it: `pg_hba.conf` admits the role.
pub(super) fn asked_for_proof(error: &PostgresError) -> bool {
    matches!(error, PostgresError::Sql { source, .. } if source.code() == Some(&SqlState::INVALID_PASSWORD))
}

/// True if the server refused because somebody else holds what it is about.
pub(super) fn in_use(error: &PostgresError) -> bool {
    matches!(error, PostgresError::Sql { source, .. } if source.code() == Some(&SqlState::OBJECT_IN_USE))
}

/// True if the fence turned an epoch away.
pub(super) fn stale_epoch(error: &PostgresError) -> bool {
    matches!(error, PostgresError::Sql { source, .. } if source.code().is_some_and(|code| code.code() == "DJ001"))
}

/// True if the server answered at all, be it that it is starting up.
pub(super) fn answered(error: &PostgresError) -> bool {
    matches!(error, PostgresError::Sql { source, .. } if source.code().is_some())
}
