//! How an agent talks to a guard. Every call is bounded in time: a guard that does not answer may be frozen, and
//! the agent must then stop PostgreSQL itself.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::{Command, LINE_BYTES_MAX, Mode, Nothing, Status, Until};

/// How long a guard may take to answer. It only ever waits for a processor; a lease is several times as long.
pub const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// A connection to a guard, made anew when it breaks.
#[derive(Debug)]
pub struct Client {
    token: String,
    connection: Mutex<Option<BufReader<UnixStream>>>,
}

impl Client {
    /// For the guard of that run. Connects with the first command.
    pub fn new(token: impl Into<String>) -> Self {
        Self { token: token.into(), connection: Mutex::new(None) }
    }

    /// Extends the lease until that moment of `CLOCK_BOOTTIME`.
    pub async fn lease(&self, until_ms: u64) -> io::Result<Status> {
        self.send(Command::Lease(Until { until_ms })).await
    }

    /// Asks for a stop; does not wait until it is done.
    pub async fn stop(&self, mode: Mode) -> io::Result<Status> {
        self.send(Command::Stop(mode)).await
    }

    /// Asks how it stands.
    pub async fn status(&self) -> io::Result<Status> {
        self.send(Command::Status(Nothing {})).await
    }

    async fn send(&self, command: Command) -> io::Result<Status> {
        // The connection is given back only after a whole exchange: an answer that came too late for one command
        // must not be taken for the answer to the next.
        let exchange = async {
            let mut slot = self.connection.lock().await;
            let mut stream = match slot.take() {
                Some(stream) => stream,
                None => BufReader::with_capacity(LINE_BYTES_MAX, self.connect().await?),
            };
            let mut line = serde_json::to_vec(&command)?;
            line.push(b'\n');
            stream.get_mut().write_all(&line).await?;
            let mut answer = String::new();
            if stream.read_line(&mut answer).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            *slot = Some(stream);
            serde_json::from_str(&answer).map_err(io::Error::from)
        };
        timeout(ANSWER_TIMEOUT, exchange)
            .await
            .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
    }

    async fn connect(&self) -> io::Result<UnixStream> {
        // tokio takes a leading NUL for the abstract namespace.
        UnixStream::connect(format!("\0dujiang-guard-{}", self.token)).await
    }
}
