//! The link to control: watches the routing table, reports what this gateway sees. It runs beside the traffic;
//! when control is gone, nothing but the link notices.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dujiang_routing::{Compiled, Place, RoutingTable};
use dujiang_types::DcId;
use dujiang_types::api::GatewayReportRequest;
use dujiang_types::dns::Directory;
use dujiang_types::report::GatewayReport;
use tokio::sync::watch;

use crate::cache;
use crate::health::{HealthBoard, probe};
use crate::limits::{
    REPORT_EVERY, REPORT_GAP, REPORT_MAX, WATCH_BACKOFF_FIRST, WATCH_BACKOFF_MAX, WATCH_SILENT_MAX,
};
use crate::shard::{Counts, UnitCounts};
use crate::sse::{EventTooLarge, Events};
use crate::turn;

/// What the link works with.
pub(crate) struct Link {
    pub(crate) dc: DcId,
    /// Base URLs of control servers, without a slash at the end.
    pub(crate) control: Vec<String>,
    pub(crate) cache: PathBuf,
    /// For control servers.
    pub(crate) client: reqwest::Client,
    /// For instances.
    pub(crate) probe: reqwest::Client,
    pub(crate) table: watch::Sender<Option<Arc<Compiled>>>,
    /// What the names lead to; `None` if there are none.
    pub(crate) directory: watch::Sender<Option<Arc<Directory>>>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) health: Arc<HealthBoard>,
    /// Which of the servers is watched.
    pub(crate) current: AtomicUsize,
    /// Bumped when the server that is watched did not take a report, so that the watch leaves a server that hangs.
    pub(crate) suspicion: watch::Sender<u64>,
}

/// Why a watch ended.
#[derive(Debug, thiserror::Error)]
enum WatchError {
    #[error("control cannot be reached")]
    Http(#[from] reqwest::Error),
    #[error("control said nothing for too long")]
    Silent,
    #[error("reports to the same server fail")]
    Suspicious,
    #[error("control ended the watch")]
    Ended,
    #[error("control's event is not a routing table")]
    Table(#[from] serde_json::Error),
    #[error("control's event cannot be read")]
    Event(#[from] EventTooLarge),
}

impl Link {
    /// Takes over the table of the last run, if there is one.
    pub(crate) fn start_from_cache(&self) {
        if let Some(table) = cache::read(&self.cache) {
            tracing::info!(version = %table.version, "routing by the cached table until control is heard");
            self.publish(&table);
        }
    }

    /// Watches for as long as the gateway runs.
    pub(crate) async fn watch(self: Arc<Self>) {
        let mut pause = WATCH_BACKOFF_FIRST;
        let mut told = false;
        while !self.control.is_empty() {
            let heard = self.watch_once().await;
            let (error, useful) = match heard {
                Ok(never) => match never {},
                Err(ended) => ended,
            };
            pause = if useful { WATCH_BACKOFF_FIRST } else { (pause * 2).min(WATCH_BACKOFF_MAX) };
            // Said once per outage, however long it lasts.
            if useful || !told {
                let (url, error) = (self.url(), &error as &dyn std::error::Error);
                tracing::warn!(url, error, "lost the watch of the routing table; routing by the last one");
            }
            told = true;
            self.current.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(pause).await;
        }
    }

    fn url(&self) -> &str {
        &self.control[self.current.load(Ordering::Relaxed) % self.control.len()]
    }

    /// Watches one server. Beside the error stands whether a table was received.
    async fn watch_once(&self) -> Result<std::convert::Infallible, (WatchError, bool)> {
        let mut useful = false;
        let mut suspicion = self.suspicion.subscribe();
        let request = self.client.get(format!("{}/v1/routing/watch", self.url()));
        let opened = tokio::time::timeout(WATCH_SILENT_MAX, request.send()).await;
        let opened = opened.map_err(|_| WatchError::Silent).and_then(|sent| Ok(sent?.error_for_status()?));
        let mut answer = opened.map_err(|error| (error, useful))?;
        let mut events = Events::default();
        loop {
            let bytes = tokio::select! {
                bytes = tokio::time::timeout(WATCH_SILENT_MAX, answer.chunk()) => {
                    bytes.map_err(|_| WatchError::Silent).and_then(|read| read?.ok_or(WatchError::Ended))
                }
                _ = suspicion.changed() => Err(WatchError::Suspicious),
            };
            let handled = match bytes {
                Ok(bytes) => self.take_in(&mut events, &bytes).await,
                Err(error) => Err(error),
            };
            useful |= handled.map_err(|error| (error, useful))?;
        }
    }

    /// True if there was a table among the events.
    async fn take_in(&self, events: &mut Events, bytes: &[u8]) -> Result<bool, WatchError> {
        let mut found = false;
        for event in events.push(bytes)? {
            if event.name == "table" {
                let table: RoutingTable = serde_json::from_str(&event.data)?;
                found = true;
                if self.publish(&table) {
                    self.keep(table).await;
                }
            }
        }
        Ok(found)
    }

    /// Hands a table to all threads, unless it is not newer than theirs. True if it was handed out.
    fn publish(&self, table: &RoutingTable) -> bool {
        let current = self.table.borrow().as_ref().map(|current| current.version);
        if current.is_some_and(|current| table.version <= current) {
            if current.is_some_and(|current| table.version < current) {
                tracing::warn!(version = %table.version, ?current, "control's routing table is older than ours");
            }
            return false;
        }
        let compiled = Compiled::new(table, &self.dc);
        let instances: Vec<_> =
            compiled.applications.iter().flat_map(|application| application.instances.clone()).collect();
        for address in self.health.keep_only(&instances) {
            tokio::spawn(probe(self.health.clone(), self.probe.clone(), address));
        }
        tracing::info!(version = %table.version, "new routing table");
        self.table.send_replace(Some(Arc::new(compiled)));
        self.directory.send_if_modified(|directory| {
            let changed = directory.as_deref() != table.dns.as_ref();
            if changed {
                *directory = table.dns.clone().map(Arc::new);
            }
            changed
        });
        true
    }

    async fn keep(&self, table: RoutingTable) {
        let path = self.cache.clone();
        let written = tokio::task::spawn_blocking(move || cache::write(&path, &table)).await;
        if let Ok(Err(error)) = written {
            // Routing goes on; only a restart without control would miss this table.
            tracing::error!(path = %self.cache.display(), %error, "cannot write the routing table to disk");
        }
    }

    /// Reports to one of the servers for as long as the gateway runs. All of them are told: whichever decides has
    /// to know, and the others may have to decide next.
    pub(crate) async fn report(self: Arc<Self>, server: usize) {
        let mut failing = false;
        let mut news = self.counts.news.subscribe();
        loop {
            let result = self.report_once(&self.control[server]).await;
            if let Err(error) = &result {
                if !failing {
                    let (url, error) = (&self.control[server], error as &dyn std::error::Error);
                    tracing::warn!(url, error, "cannot report to control");
                }
                // A server that answers, even with a refusal, is alive.
                let watched = self.current.load(Ordering::Relaxed) % self.control.len() == server;
                if !error.is_status() && watched {
                    self.suspicion.send_modify(|count| *count += 1);
                }
            }
            failing = result.is_err();
            tokio::time::sleep(REPORT_GAP).await;
            let _ = tokio::time::timeout(REPORT_EVERY, news.changed()).await;
        }
    }

    async fn report_once(&self, server: &str) -> Result<(), reqwest::Error> {
        let url = format!("{server}/v1/gateways/{}/report", self.dc);
        let request = GatewayReportRequest { report: self.observe() };
        self.client.post(url).timeout(REPORT_MAX).json(&request).send().await?.error_for_status()?;
        Ok(())
    }

    /// What the threads do at this moment. The order matters: what a thread still did under an older table must
    /// be counted, so the version is read before the counts.
    fn observe(&self) -> GatewayReport {
        let table = self.counts.adopted_by_all();
        let compiled = self.table.borrow().clone();
        let counts = self.counts.all();
        let held = counts.iter().map(|(unit, counts)| (unit.clone(), counts.waiting.get()));
        let held = held.filter(|(_, waiting)| *waiting > 0).collect();
        let units = compiled.iter().flat_map(|compiled| &compiled.units);
        let holding = units.filter(|unit| unit.place == Place::Hold).map(|unit| unit.unit.clone());
        let in_flight = holding
            .map(|unit| {
                let under_way = counts.get(&unit).map_or(0, UnitCounts::in_flight);
                (unit, under_way)
            })
            .collect();
        let now_us = turn::wall_us();
        let turn = |counts: &UnitCounts| turn::report(counts.shards.iter().map(|shard| &shard.turn), now_us);
        let turns = counts.iter().filter_map(|(unit, counts)| Some((unit.clone(), turn(counts)?))).collect();
        GatewayReport { table, in_flight, held, turns }
    }
}
