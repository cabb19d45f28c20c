//! The records an agent knew when it ran last, until a control server tells it anew.
//!
//! Without them an agent that is started anew while the whole control plane is gone could vouch for nobody and ask nobody
//! to vouch, and every lease that takes its word would run out. What is remembered may be out of date by any time, so
//! nothing is done to a database by it ([`Known::complete`] is false): it is good for promises, which bind nobody but who gives
//! them, and for keeping instances as they were.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dujiang_types::DcId;
use dujiang_types::platform::{Application, DataCenter};
use dujiang_types::unit::Unit;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::known::Known;
use crate::files;

/// Two writes are at least so far apart: a move changes a record several times within a second, and only how it ends is worth
/// remembering.
const WRITE_APART: Duration = Duration::from_millis(500);

/// The file.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Memory {
    data_centers: Vec<DataCenter>,
    applications: Vec<Application>,
    /// Those with a replica here.
    units: Vec<Unit>,
}

impl Memory {
    fn of(known: &Known, dc: &DcId) -> Self {
        let here = known.units.values().filter(|unit| unit.spec.replicas.contains(dc));
        Self {
            data_centers: known.data_centers.values().map(|record| record.as_ref().clone()).collect(),
            applications: known.applications.values().map(|record| record.as_ref().clone()).collect(),
            units: here.map(|record| record.as_ref().clone()).collect(),
        }
    }
}

/// What was known; nothing if it cannot be read, which is told.
pub(super) fn recall(path: &Path) -> Known {
    let memory: Memory = match files::read_json(path) {
        Ok(memory) => memory.unwrap_or_default(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "what was known before cannot be read");
            Memory::default()
        }
    };
    Known::remembered(memory.data_centers, memory.applications, memory.units)
}

/// Writes down what is known whenever it changes, for ever.
pub(super) async fn keep(path: PathBuf, dc: DcId, mut known: watch::Receiver<Known>) {
    let mut written = Memory::default();
    while known.changed().await.is_ok() {
        let now = known.borrow_and_update().clone();
        let memory = Memory::of(&now, &dc);
        if now.complete && memory != written {
            match write(path.clone(), memory).await {
                Ok(memory) => written = memory,
                // With the next change.
                Err(error) => tracing::warn!(%error, "what is known cannot be written down"),
            }
        }
        sleep(WRITE_APART).await;
    }
}

/// On a thread of its own: a slow disk holds up no record.
async fn write(path: PathBuf, memory: Memory) -> io::Result<Memory> {
    let written = spawn_blocking(move || files::write_json(&path, &memory).map(|()| memory));
    written.await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use tokio::time::{Instant, timeout};

    use super::*;

    fn known() -> Known {
        let dc: DataCenter =
            serde_json::from_value(json!({"kind": "datacenters", "name": "a", "status": {}, "spec":
            {"region": "r", "network": "127.0.11.0/24", "gateway": {"port": 8080, "threads": 1}}}))
            .unwrap();
        let unit = |name: &str, replicas: &[&str]| -> Unit {
            serde_json::from_value(json!({"kind": "units", "name": name,
                "spec": {"application": "bank", "home": replicas[0], "replicas": replicas, "slots": ["0-16383"],
                    "durability": "zero", "port": 5432},
                "status": {"home": replicas[0], "epoch": 3, "phase": {"name": "serving"}, "reason": "", "claims": [], "conditions": [], "since": "2026-01-01T00:00:00Z"}}))
            .unwrap()
        };
        let units = vec![unit("here", &["a", "b"]), unit("elsewhere", &["b", "c"])];
        Known { complete: true, ..Known::remembered(vec![dc], vec![], units) }
    }

    #[tokio::test]
    async fn what_was_known_of_replicas_here_is_known_again_but_is_not_complete() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("known.json");
        assert_eq!(recall(&path).units.len(), 0, "nothing was written down yet");
        let (sender, receiver) = watch::channel(Known::default());
        let keeping = tokio::spawn(keep(path.clone(), DcId::new("a").unwrap(), receiver));
        // Half of it is never written down.
        sender.send_replace(Known { complete: false, ..known() });
        sender.send_replace(known());
        let deadline = Instant::now() + Duration::from_secs(30);
        while recall(&path).units.is_empty() {
            assert!(Instant::now() < deadline, "it is not written down");
            sleep(Duration::from_millis(10)).await;
        }
        let again = recall(&path);
        let names: Vec<&str> = again.units.values().map(|unit: &Arc<Unit>| unit.name.as_str()).collect();
        assert_eq!((again.complete, names, again.data_centers.len()), (false, vec!["here"], 1));
        drop(sender);
        timeout(Duration::from_secs(30), keeping).await.unwrap().unwrap();
        std::fs::write(&path, "{").unwrap();
        assert!(recall(&path).units.is_empty(), "what cannot be read is nothing");
    }
}
