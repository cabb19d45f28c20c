//! What the agent knows of the platform: the records it watches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dujiang_types::platform::{Application, DataCenter};
use dujiang_types::unit::Unit;
use dujiang_types::{AppId, DcId, Kind, Revision, UnitId};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::servers::Server;
use super::sse::{Event, Parser};

/// Kinds the agent watches.
const KINDS: &str = "units,datacenters,applications";
/// The control plane sends a comment every three seconds; after three missed ones the connection is dead.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How long a watch may take to begin.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(3);
/// Pause before the next server is tried. Short: a change that is seen late is a longer outage.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// The records as of the last event.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// True once a snapshot has come: what is missing then does not exist, and what is there may be acted on. Before, there
    /// is only what is remembered.
    pub(super) complete: bool,
    pub(super) units: BTreeMap<UnitId, Arc<Unit>>,
    pub(super) data_centers: BTreeMap<DcId, Arc<DataCenter>>,
    pub(super) applications: BTreeMap<AppId, Arc<Application>>,
}

#[derive(Debug, Deserialize)]
struct Snapshot {
    items: Vec<Value>,
}

#[derive(Debug, Deserialize)]
struct Named {
    kind: Kind,
    name: String,
    revision: Revision,
}

impl Known {
    /// Records of before this agent was started, and of nobody knows when.
    pub(super) fn remembered(
        data_centers: Vec<DataCenter>,
        applications: Vec<Application>,
        units: Vec<Unit>,
    ) -> Self {
        let mut known = Self::default();
        for record in data_centers {
            known.data_centers.extend(DcId::new(&record.name).ok().map(|name| (name, Arc::new(record))));
        }
        for record in applications {
            known.applications.extend(AppId::new(&record.name).ok().map(|name| (name, Arc::new(record))));
        }
        for record in units {
            known.units.extend(UnitId::new(&record.name).ok().map(|name| (name, Arc::new(record))));
        }
        known
    }

    fn apply(&mut self, event: &Event) -> Result<(), serde_json::Error> {
        match event.name.as_str() {
            "snapshot" => {
                let snapshot: Snapshot = serde_json::from_str(&event.data)?;
                let mut fresh = Self { complete: true, ..Self::default() };
                for item in snapshot.items {
                    fresh.put(item)?;
                }
                *self = fresh;
            }
            "put" => self.put(serde_json::from_str(&event.data)?)?,
            "delete" => {
                let gone: Named = serde_json::from_str(&event.data)?;
                tracing::info!(name = gone.name, revision = %gone.revision, "deleted");
                match gone.kind {
                    Kind::Unit => self.units.retain(|name, _| name.as_str() != gone.name),
                    Kind::DataCenter => self.data_centers.retain(|name, _| name.as_str() != gone.name),
                    Kind::Application => self.applications.retain(|name, _| name.as_str() != gone.name),
                    Kind::Operation => {}
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn put(&mut self, item: Value) -> Result<(), serde_json::Error> {
        let named = Named::deserialize(&item)?;
        match named.kind {
            Kind::Unit => {
                let name: UnitId = serde_json::from_value(Value::String(named.name))?;
                self.units.insert(name, serde_json::from_value(item)?);
            }
            Kind::DataCenter => {
                let name: DcId = serde_json::from_value(Value::String(named.name))?;
                self.data_centers.insert(name, serde_json::from_value(item)?);
            }
            Kind::Application => {
                let name: AppId = serde_json::from_value(Value::String(named.name))?;
                self.applications.insert(name, serde_json::from_value(item)?);
            }
            Kind::Operation => {}
        }
        Ok(())
    }
}

/// Watches the records for ever, at one control server after the other. Each watch begins with a snapshot, so
/// nothing can be missed between two.
pub(super) async fn follow(servers: Vec<Arc<Server>>, client: reqwest::Client, known: watch::Sender<Known>) {
    let mut last = String::new();
    loop {
        for server in &servers {
            let why = tokio::select! {
                why = watch_one(&server.url, &client, &known) => why,
                () = server.fails() => "it does not take reports".to_owned(),
            };
            if why != last {
                tracing::warn!(url = server.url, why, "the watch has ended; it is begun again");
            }
            last = why;
            sleep(RETRY_PAUSE).await;
        }
    }
}

async fn watch_one(url: &str, client: &reqwest::Client, known: &watch::Sender<Known>) -> String {
    let request = client.get(format!("{url}/v1/watch?kinds={KINDS}")).send();
    let response = match timeout(BEGIN_TIMEOUT, request).await {
        Err(_) => return "no answer".to_owned(),
        Ok(Err(error)) => return error.to_string(),
        Ok(Ok(response)) if !response.status().is_success() => return response.status().to_string(),
        Ok(Ok(response)) => response,
    };
    let mut parser = Parser::default();
    let mut body = response.bytes_stream();
    loop {
        let bytes = match timeout(SILENCE_MAX, body.next()).await {
            Err(_) => return "silence".to_owned(),
            Ok(None) => return "closed".to_owned(),
            Ok(Some(Err(error))) => return error.to_string(),
            Ok(Some(Ok(bytes))) => bytes,
        };
        let Some(events) = parser.push(&bytes) else { return "an event is too large".to_owned() };
        for event in events {
            if event.name == "problem" {
                return event.data;
            }
            let mut wrong = None;
            known.send_modify(|known| wrong = known.apply(&event).err());
            if let Some(error) = wrong {
                return format!("an event cannot be understood: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn data_center(name: &str, revision: u64) -> Value {
        json!({"kind": "datacenters", "name": name, "revision": revision, "status": {}, "spec":
            {"region": "r", "network": "127.0.11.0/24", "gateway": {"port": 8080, "threads": 1}}})
    }

    fn event(name: &str, data: &Value) -> Event {
        Event { name: name.to_owned(), data: data.to_string() }
    }

    fn names(known: &Known) -> Vec<&str> {
        known.data_centers.keys().map(DcId::as_str).collect()
    }

    #[test]
    fn a_snapshot_replaces_everything_and_changes_follow() {
        let mut known = Known::default();
        known.apply(&event("put", &data_center("old", 1))).unwrap();
        assert!(!known.complete, "what is missing before a snapshot may well exist");
        let items = [data_center("a", 2), data_center("b", 3)];
        known.apply(&event("snapshot", &json!({"revision": 3, "items": items}))).unwrap();
        assert_eq!((known.complete, names(&known)), (true, vec!["a", "b"]));
        known.apply(&event("put", &data_center("c", 4))).unwrap();
        let gone = json!({"kind": "datacenters", "name": "a", "revision": 5});
        known.apply(&event("delete", &gone)).unwrap();
        known.apply(&event("delete", &json!({"kind": "operations", "name": "b", "revision": 6}))).unwrap();
        assert_eq!(names(&known), ["b", "c"]);
        let before = known.data_centers.clone();
        assert!(known.apply(&event("put", &json!({"kind": "units", "name": "u", "revision": 7}))).is_err());
        assert!(known.apply(&event("snapshot", &json!({"items": [{"kind": "nonsense"}]}))).is_err());
        assert_eq!(known.data_centers, before, "what cannot be understood changes nothing");
    }
}
