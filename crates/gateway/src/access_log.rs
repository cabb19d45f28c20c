//! The access log: one JSON object per finished request, written by a thread of its own.

use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, SystemTime};

use dujiang_types::{Epoch, UnitId};
use http::Method;
use jiff::Timestamp;
use serde_json::json;

use crate::limits::ACCESS_LOG_QUEUE;
use crate::options::AccessLog;
use crate::shard::micros;

/// How long a written line may stay in memory.
const FLUSH_EVERY: Duration = Duration::from_millis(500);

/// A finished request.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) client: SocketAddr,
    pub(crate) mesh: bool,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) status: u16,
    pub(crate) took: Duration,
    pub(crate) held: Duration,
    pub(crate) attempts: u32,
    pub(crate) unit: Option<(UnitId, Epoch)>,
    pub(crate) upstream: Option<SocketAddr>,
}

impl Entry {
    fn line(&self, at: SystemTime) -> String {
        let at = Timestamp::try_from(at).unwrap_or_default();
        let (unit, epoch) = self.unit.as_ref().map(|(unit, epoch)| (unit.as_str(), epoch.0)).unzip();
        let object = json!({
            "at": at.to_string(),
            "client": self.client,
            "from": if self.mesh { "gateway" } else { "client" },
            "method": self.method.as_str(),
            "path": self.path,
            "status": self.status,
            "took_us": micros(self.took),
            "held_us": micros(self.held),
            "attempts": self.attempts,
            "unit": unit,
            "epoch": epoch,
            "upstream": self.upstream,
        });
        object.to_string()
    }
}

/// A worker's end of the log.
#[derive(Debug, Clone)]
pub(crate) struct AccessLogQueue(SyncSender<(SystemTime, Entry)>);

impl AccessLogQueue {
    /// Hands an entry over, never waiting. False if the writer is too far behind and the entry is dropped.
    pub(crate) fn write(&self, entry: Entry) -> bool {
        self.0.try_send((SystemTime::now(), entry)).is_ok()
    }
}

/// Opens the log; its writer ends when the last queue is dropped.
pub(crate) fn open(
    log: &AccessLog,
    threads: usize,
) -> io::Result<Option<(AccessLogQueue, impl FnOnce() + Send + use<>)>> {
    let out: Box<dyn Write + Send> = match log {
        AccessLog::Off => return Ok(None),
        AccessLog::Stdout => Box::new(io::stdout()),
        AccessLog::File(path) => {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            Box::new(std::fs::OpenOptions::new().create(true).append(true).open(path)?)
        }
    };
    let (sender, receiver) = sync_channel(ACCESS_LOG_QUEUE * threads);
    Ok(Some((AccessLogQueue(sender), move || write_all(&receiver, BufWriter::new(out)))))
}

fn write_all(entries: &Receiver<(SystemTime, Entry)>, mut out: BufWriter<Box<dyn Write + Send>>) {
    let mut failing = false;
    loop {
        let result = match entries.recv_timeout(FLUSH_EVERY) {
            Ok((at, entry)) => writeln!(out, "{}", entry.line(at)),
            Err(RecvTimeoutError::Timeout) => out.flush(),
            Err(RecvTimeoutError::Disconnected) => {
                let _ = out.flush(); // nobody is left to be told
                return;
            }
        };
        // A full disk is said once, not once per request; the log goes on when there is room again.
        if let Err(error) = &result
            && !failing
        {
            tracing::error!(%error, "cannot write the access log");
        }
        failing = result.is_err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_happened() {
        let entry = Entry {
            client: "127.0.0.1:5".parse().unwrap(),
            mesh: false,
            method: Method::POST,
            path: "/v1/\"x\"\n".to_owned(),
            status: 201,
            took: Duration::from_micros(1500),
            held: Duration::ZERO,
            attempts: 1,
            unit: Some((UnitId::new("unit-1").unwrap(), Epoch(3))),
            upstream: None,
        };
        let line = entry.line(SystemTime::UNIX_EPOCH);
        assert!(!line.contains('\n'));
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["at"], "1970-01-01T00:00:00Z");
        assert_eq!(
            (&value["unit"], &value["epoch"], &value["took_us"]),
            (&json!("unit-1"), &json!(3), &json!(1500))
        );
        assert_eq!(value["path"], "/v1/\"x\"\n");
    }
}
