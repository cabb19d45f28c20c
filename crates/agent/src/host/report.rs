//! Telling the control plane what is, and taking the leases it answers with; without it, asking the peers.
//!
//! Nothing here waits for an answer before it goes on: a report is sent every renewal whatever became of the ones before,
//! so that a lost packet or a slow server costs one of several chances to renew a lease, and not all of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dujiang_types::api::{AgentReply, AgentReport, PromiseReply, PromiseRequest};
use dujiang_types::{DcId, Epoch, UnitId};
use dujiang_unit::lease::Held;
use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Shared;
use super::examine::Examiner;
use super::handle::Handle;
use super::known::Known;
use super::machine;
use super::servers::Server;
use crate::clock::boottime_ms;

/// A peer that takes longer does not promise: hardly anything would be left of it.
const PROMISE_TIMEOUT: Duration = Duration::from_secs(2);
/// Without an answer of the server that leads for so long, the peers are asked, too. Two renewals: late enough that a
/// lost packet does not make everybody ask everybody, early enough for several tries within a lease.
const LEADERLESS_MAX: Duration = Duration::from_secs(1);
/// Rounds of asking peers at once: as many as begin until the first of them is given up.
const ROUNDS_MAX: usize = 4;
/// Answers not yet taken in: as many as all servers together can owe.
const ANSWERS_MAX: usize = 64;

/// What a server said to a report.
#[derive(Debug)]
pub(super) struct Answer {
    server: Arc<Server>,
    /// When the report was sent, on `CLOCK_BOOTTIME`.
    sent_ms: u64,
    told: Result<AgentReply, String>,
}

/// Reports to the control plane.
#[derive(Debug)]
pub(super) struct Reporter {
    shared: Arc<Shared>,
    known: watch::Receiver<Known>,
    session: String,
    sequence: u64,
    answers: (mpsc::Sender<Answer>, mpsc::Receiver<Answer>),
    /// True if a server has not been sent the last report, because too many were on their way to it.
    owing: bool,
    /// When the server that leads answered last; never yet, for an agent that was just started.
    led_at: Option<Instant>,
    began: Instant,
    /// Why the others say they do not take reports, by server.
    why: BTreeMap<String, String>,
    /// Whether the server that leads is heard: only changes are worth a line in the log.
    heard: bool,
    rounds: JoinSet<()>,
}

impl Reporter {
    pub(super) fn new(shared: Arc<Shared>, known: watch::Receiver<Known>) -> Self {
        Self {
            shared,
            known,
            session: uuid::Uuid::new_v4().to_string(),
            sequence: 0,
            answers: mpsc::channel(ANSWERS_MAX),
            owing: false,
            led_at: None,
            began: Instant::now(),
            why: BTreeMap::new(),
            heard: true,
            rounds: JoinSet::new(),
        }
    }

    /// Sends a report to all control servers; those that do not lead listen, to be ready when they have to.
    pub(super) fn report(&mut self) {
        self.go_on_without();
        let Some((report, sent_ms)) = self.next() else { return };
        self.owing = false;
        for server in &self.shared.servers {
            server.listen(Instant::now());
            if server.claim() {
                tokio::spawn(tell(
                    self.shared.clone(),
                    server.clone(),
                    report.clone(),
                    sent_ms,
                    self.answers.0.clone(),
                ));
            } else {
                self.owing = true;
            }
        }
    }

    /// Says a last word, and waits until everybody has heard it or will not.
    pub(super) async fn close(mut self) {
        let Some((report, sent_ms)) = self.next() else { return };
        let (shared, answers) = (&self.shared, &self.answers.0);
        let told = shared.servers.iter().map(|server| {
            // Whatever else is on its way.
            let _ = server.claim();
            tell(shared.clone(), server.clone(), report.clone(), sent_ms, answers.clone())
        });
        join_all(told).await;
    }

    /// What is, as of now.
    fn next(&mut self) -> Option<(Arc<AgentReport>, u64)> {
        let known = self.known.borrow().clone();
        let handles = self.shared.handles();
        if self.sequence == 0 && !self.is_complete(&known, &handles) {
            return None;
        }
        let (mut units, mut renew, mut meters) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for handle in handles.values() {
            let (report, epoch) = handle.report(&known);
            units.insert(handle.unit.clone(), report);
            meters.insert(handle.unit.clone(), handle.meter());
            renew.extend(epoch.map(|epoch| (handle.unit.clone(), epoch)));
        }
        self.sequence += 1;
        let report = AgentReport {
            dc: self.shared.options.dc.clone(),
            session: self.session.clone(),
            sequence: self.sequence,
            units,
            instances: self.shared.instances(),
            renew,
            meters,
            host: machine::look(&self.shared.options.data),
            versions: self.shared.versions.clone(),
            examined: self.shared.examiner.report(),
        };
        // A lease counts from here: whatever time the exchange takes is lost to us, not to the others.
        Some((Arc::new(report), boottime_ms()))
    }

    /// The next answer. Can be broken off.
    pub(super) async fn answer(&mut self) -> Option<Answer> {
        self.answers.1.recv().await
    }

    /// Takes an answer in. True if that server has to be told what it was not, and can be now.
    pub(super) fn take(&mut self, answer: Answer) -> bool {
        match answer.told {
            Ok(reply) if reply.leads => self.led(reply, answer.sent_ms),
            Ok(_) => drop(self.why.insert(answer.server.url.clone(), "it does not lead".to_owned())),
            Err(why) => drop(self.why.insert(answer.server.url.clone(), why)),
        }
        self.owing
    }

    fn led(&mut self, reply: AgentReply, sent_ms: u64) {
        self.led_at = Some(Instant::now());
        self.why.clear();
        self.shared.metrics.reports_sent.inc();
        if !std::mem::replace(&mut self.heard, true) {
            tracing::info!("the control plane takes reports again");
        }
        if let Some(order) = reply.examine {
            Examiner::begin(&self.shared, &self.known, order);
        }
        let handles = self.shared.handles();
        for (unit, lease) in reply.leases {
            if let Some(handle) = handles.get(&unit) {
                handle.grant(Held::from_grant(lease, sent_ms));
            }
        }
    }

    /// Asks the peers if the control plane has been silent for too long; an agent that was just started does so at once,
    /// because the leases it finds may have little time left.
    fn go_on_without(&mut self) {
        while self.rounds.try_join_next().is_some() {}
        let silent = self.led_at.unwrap_or(self.began).elapsed() >= LEADERLESS_MAX;
        if silent {
            self.shared.metrics.reports_failed.inc();
            if std::mem::replace(&mut self.heard, false) {
                let why: Vec<String> = self.why.iter().map(|(url, why)| format!("{url}: {why}")).collect();
                tracing::warn!(why = why.join("; "), "the control plane does not take reports");
            }
        } else if self.led_at.is_some() {
            return;
        }
        if self.rounds.len() < ROUNDS_MAX {
            let (shared, known) = (self.shared.clone(), self.known.borrow().clone());
            self.rounds.spawn(async move {
                let handles = shared.handles();
                join_all(handles.values().map(|handle| ask_peers(&shared, handle, &known))).await;
            });
        }
    }

    /// A first report that leaves out a primary which runs would say that it does not.
    fn is_complete(&self, known: &Known, handles: &BTreeMap<UnitId, Arc<Handle>>) -> bool {
        let dc = &self.shared.options.dc;
        let mut here =
            known.units.iter().filter(|(_, unit)| unit.spec.replicas.contains(dc)).map(|(name, _)| name);
        known.complete && here.all(|name| handles.get(name).is_some_and(|handle| handle.looked()))
    }
}

/// Tells one server.
async fn tell(
    shared: Arc<Shared>,
    server: Arc<Server>,
    report: Arc<AgentReport>,
    sent_ms: u64,
    answers: mpsc::Sender<Answer>,
) {
    let told = server.tell(&shared.client, &report).await;
    // Unheard if nobody reports any more.
    let _ = answers.send(Answer { server, sent_ms, told }).await;
}

/// Without the control plane a primary may go on if no other replica can become primary behind its back.
async fn ask_peers(shared: &Shared, handle: &Handle, known: &Known) {
    let Some((epoch, peers)) = handle.vouchers(known) else { return };
    let ttl_ms = dujiang_unit::Timing::default().lease_ms;
    let sent_ms = boottime_ms();
    let asks = peers.iter().map(|peer| ask_peer(shared, &handle.unit, epoch, peer, ttl_ms, known));
    let answers: Vec<Result<(), String>> = join_all(asks).await;
    match answers.into_iter().collect::<Result<Vec<()>, String>>() {
        Ok(_) => handle.grant(Held { epoch, until_ms: sent_ms + ttl_ms }),
        Err(why) => {
            tracing::warn!(unit = %handle.unit, why, "the lease cannot be extended without the control plane");
        }
    }
}

async fn ask_peer(
    shared: &Shared,
    unit: &UnitId,
    epoch: Epoch,
    peer: &DcId,
    ttl_ms: u64,
    known: &Known,
) -> Result<(), String> {
    let spec = &known.data_centers.get(peer).ok_or_else(|| format!("{peer} is not known"))?.spec;
    let url = format!("https://{}/v1/promises", spec.agent_address());
    let ask = PromiseRequest { unit: unit.clone(), epoch, dc: shared.options.dc.clone(), ttl_ms };
    let answer = shared.promises.post(url).timeout(PROMISE_TIMEOUT).json(&ask).send().await;
    let answer = answer.and_then(reqwest::Response::error_for_status);
    let answer = answer.map_err(|error| format!("{peer}: {}", describe(&error)))?;
    let reply: PromiseReply = answer.json().await.map_err(|error| format!("{peer}: {}", describe(&error)))?;
    if reply.granted { Ok(()) } else { Err(format!("{peer}: {}", reply.reason)) }
}

/// An HTTP error with its causes; its own text names only the address.
pub(crate) fn describe(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};

    use axum::Json;
    use axum::Router;
    use axum::extract::State;
    use axum::routing::post;
    use dujiang_identity::testing::TestAuthority;
    use dujiang_identity::{Acceptor, Expect, Role, http_client, plain_http_client};
    use dujiang_types::Revision;
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;
    use crate::host::listen::{self, Bounds};
    use crate::host::{Metrics, Options};

    const BOUNDS: Bounds =
        Bounds { connections: 8, head: Duration::from_secs(30), age: Duration::from_secs(60) };

    /// A control server that leads and never answers the first report. The state counts the reports.
    async fn answers_all_but_the_first(State(reports): State<Arc<AtomicU64>>) -> Json<AgentReply> {
        if reports.fetch_add(1, Ordering::SeqCst) == 0 {
            std::future::pending::<()>().await;
        }
        Json(AgentReply { leads: true, leases: BTreeMap::new(), revision: Revision(1), examine: None })
    }

    async fn reporter() -> Reporter {
        let authority = TestAuthority::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let acceptor = Acceptor::new(&authority.identity("control"), Expect::anyone()).unwrap();
        let router = Router::new()
            .route("/v1/agents/{dc}/report", post(answers_all_but_the_first))
            .with_state(Arc::default());
        tokio::spawn(listen::serve(listener, acceptor, router, BOUNDS));
        let identity = authority.identity("dc/chengdu-1/agent");
        let client = http_client(&identity, Expect::roles(&[Role::Control])).unwrap().build().unwrap();
        let options = Options {
            dc: DcId::new("chengdu-1").unwrap(),
            control: vec![url.clone()],
            members: BTreeMap::new(),
            identity,
            data: PathBuf::from("/"),
            program: PathBuf::new(),
        };
        let shared = Shared {
            options,
            servers: Server::all(&[url]),
            client,
            promises: plain_http_client().build().unwrap(),
            metrics: Metrics::new(),
            handles: Mutex::default(),
            instances: Mutex::default(),
            versions: BTreeMap::new(),
            examiner: Examiner::default(),
        };
        let known = Known { complete: true, ..Known::default() };
        Reporter::new(Arc::new(shared), watch::channel(known).1)
    }

    #[tokio::test]
    async fn a_report_that_is_not_answered_does_not_hold_up_the_next() {
        let mut reporter = reporter().await;
        let began = boottime_ms();
        reporter.report();
        reporter.report();
        let answer = timeout(Duration::from_secs(30), reporter.answer()).await.unwrap().unwrap();
        assert!(answer.told.as_ref().is_ok_and(|reply| reply.leads), "{answer:?}");
        assert!(answer.sent_ms >= began);
        assert!(!reporter.take(answer), "nobody is owed anything");
    }
}
