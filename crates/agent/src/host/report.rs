//! Telling the control plane what is, and taking the leases it answers with; without it, asking the peers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dujiang_types::api::{AgentReply, AgentReport, PromiseReply, PromiseRequest};
use dujiang_types::{DcId, Epoch, UnitId};
use dujiang_unit::lease::Held;
use futures_util::future::join_all;
use tokio::sync::{mpsc, watch};

use super::Shared;
use super::handle::Handle;
use super::known::Known;
use super::machine;
use crate::clock::boottime_ms;

/// A peer that takes longer does not promise.
const PROMISE_TIMEOUT: Duration = Duration::from_secs(1);

/// Reports to the control plane.
#[derive(Debug)]
pub(super) struct Reporter {
    shared: Arc<Shared>,
    known: watch::Receiver<Known>,
    session: String,
    sequence: u64,
    /// Whether the last report was taken: only changes are worth a line in the log.
    heard: bool,
}

impl Reporter {
    pub(super) fn new(shared: Arc<Shared>, known: watch::Receiver<Known>) -> Self {
        Self { shared, known, session: uuid::Uuid::new_v4().to_string(), sequence: 0, heard: true }
    }

    /// One report, and what follows from the answer or from there being none.
    pub(super) async fn report(&mut self) {
        let known = self.known.borrow().clone();
        let handles = self.shared.handles();
        if self.sequence == 0 && !self.is_complete(&known, &handles) {
            return;
        }
        let (mut units, mut renew, mut meters) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for handle in handles.values() {
            let (report, epoch) = handle.report(&known);
            units.insert(handle.unit.clone(), report);
            meters.insert(handle.unit.clone(), handle.meter());
            renew.extend(epoch.map(|epoch| (handle.unit.clone(), epoch)));
        }
        self.sequence += 1;
        let report = Arc::new(AgentReport {
            dc: self.shared.options.dc.clone(),
            session: self.session.clone(),
            sequence: self.sequence,
            units,
            instances: self.shared.instances().await,
            renew,
            meters,
            host: machine::look(&self.shared.options.data),
            versions: self.shared.versions.clone(),
        });
        // A lease counts from here: whatever time the exchange takes is lost to us, not to the others.
        let sent_ms = boottime_ms();
        match self.send(&report).await {
            Ok(reply) => {
                self.shared.metrics.reports_sent.inc();
                if !std::mem::replace(&mut self.heard, true) {
                    tracing::info!("the control plane takes reports again");
                }
                for (unit, lease) in reply.leases {
                    if let Some(handle) = handles.get(&unit) {
                        handle.grant(Held::from_grant(lease, sent_ms));
                    }
                }
            }
            Err(why) => {
                self.shared.metrics.reports_failed.inc();
                if std::mem::replace(&mut self.heard, false) {
                    tracing::warn!(why, "the control plane does not take reports");
                }
                join_all(handles.values().map(|handle| self.ask_peers(handle, &known))).await;
            }
        }
    }

    /// A first report that leaves out a primary which runs would say that it does not.
    fn is_complete(&self, known: &Known, handles: &BTreeMap<UnitId, Arc<Handle>>) -> bool {
        let dc = &self.shared.options.dc;
        let mut here =
            known.units.iter().filter(|(_, unit)| unit.spec.replicas.contains(dc)).map(|(name, _)| name);
        known.complete && here.all(|name| handles.get(name).is_some_and(|handle| handle.looked()))
    }

    /// Tells all control servers, and waits for the one that leads: the others listen, to be ready when they have to.
    async fn send(&self, report: &Arc<AgentReport>) -> Result<AgentReply, String> {
        let servers = &self.shared.servers;
        let (answers, mut answered) = mpsc::channel(servers.len().max(1));
        for server in servers.iter().filter(|server| server.claim()) {
            let (server, client, report) = (server.clone(), self.shared.client.clone(), report.clone());
            let answers = answers.clone();
            tokio::spawn(async move {
                // Unheard if another one that leads was faster.
                let _ = answers.send(server.tell(&client, &report).await).await;
            });
        }
        drop(answers);
        let mut why = Vec::new();
        while let Some(answer) = answered.recv().await {
            match answer {
                Ok(reply) if reply.leads => return Ok(reply),
                Ok(_) => why.push("a server that does not lead".to_owned()),
                Err(error) => why.push(error),
            }
        }
        Err(if why.is_empty() { "earlier reports are still unanswered".to_owned() } else { why.join("; ") })
    }

    /// Without the control plane a primary may go on if no other replica can become primary behind its back.
    async fn ask_peers(&self, handle: &Handle, known: &Known) {
        let Some((epoch, peers)) = handle.vouchers(known) else { return };
        let ttl_ms = dujiang_unit::Timing::default().lease_ms;
        let sent_ms = boottime_ms();
        let asks = peers.iter().map(|peer| self.ask_peer(&handle.unit, epoch, peer, ttl_ms, known));
        let answers: Vec<Result<(), String>> = join_all(asks).await;
        match answers.into_iter().collect::<Result<Vec<()>, String>>() {
            Ok(_) => handle.grant(Held { epoch, until_ms: sent_ms + ttl_ms }),
            Err(why) => {
                tracing::warn!(unit = %handle.unit, why, "the lease cannot be extended without the control plane");
            }
        }
    }

    async fn ask_peer(
        &self,
        unit: &UnitId,
        epoch: Epoch,
        peer: &DcId,
        ttl_ms: u64,
        known: &Known,
    ) -> Result<(), String> {
        let spec = &known.data_centers.get(peer).ok_or_else(|| format!("{peer} is not known"))?.spec;
        let url = format!("https://{}/v1/promises", spec.agent_address());
        let ask = PromiseRequest { unit: unit.clone(), epoch, dc: self.shared.options.dc.clone(), ttl_ms };
        let answer = self.shared.promises.post(url).timeout(PROMISE_TIMEOUT).json(&ask).send().await;
        let answer = answer.and_then(reqwest::Response::error_for_status);
        let answer = answer.map_err(|error| format!("{peer}: {}", describe(&error)))?;
        let reply: PromiseReply =
            answer.json().await.map_err(|error| format!("{peer}: {}", describe(&error)))?;
        if reply.granted { Ok(()) } else { Err(format!("{peer}: {}", reply.reason)) }
    }
}

/// An HTTP error with its causes; its own text names only the address.
pub(super) fn describe(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
