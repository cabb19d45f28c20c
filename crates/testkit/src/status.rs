//! What the control plane says about the platform, as far as drills and tests need it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dujiang_identity::{Expect, Identity, Role, http_client};
use dujiang_types::operation::{Operation, OperationSpec, Work};
use dujiang_types::report::{ReplicaReport, ReplicaState};
use dujiang_types::unit::{Phase, Unit};
use dujiang_types::{DcId, UnitId};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

/// Nobody follows a test for longer.
const WATCH_TIMEOUT: Duration = Duration::from_secs(600);
/// It answers within milliseconds, or it is down.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two looks while waiting for something.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A client of the control plane.
#[derive(Debug)]
pub struct Control {
    http: reqwest::Client,
    servers: Vec<String>,
    /// The one that answered last.
    current: AtomicUsize,
}

/// `GET /v1/status`, the part of it that is used here.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    /// The control server that decides.
    pub leader: String,
    /// Units by name.
    pub units: BTreeMap<UnitId, UnitView>,
    /// Agents by data center.
    pub agents: BTreeMap<DcId, Seen>,
    /// Gateways by data center.
    pub gateways: BTreeMap<DcId, Seen>,
}

/// Whether anything current is known of something.
#[derive(Debug, Clone, Deserialize)]
pub struct Seen {
    /// False: nothing current is known of it.
    pub known: bool,
}

/// One unit.
#[derive(Debug, Clone, Deserialize)]
pub struct UnitView {
    /// Its record.
    pub unit: Unit,
    /// What the controller waits for.
    #[serde(default)]
    pub waiting: String,
    /// Replicas by data center.
    pub replicas: BTreeMap<DcId, ReplicaView>,
}

/// One replica.
#[derive(Debug, Clone, Deserialize)]
pub struct ReplicaView {
    /// False: what is shown may have been long ago.
    pub known: bool,
    /// What its agent reported last.
    pub report: Option<ReplicaReport>,
}

impl UnitView {
    /// True if clients are served.
    pub fn serves(&self) -> bool {
        self.unit.status.phase == Phase::Serving
    }

    /// Why the unit is not whole, if it is not: it serves, every replica follows the home and counts for its commits.
    pub fn missing(&self) -> Option<String> {
        let (spec, status) = (&self.unit.spec, &self.unit.status);
        if !self.serves() {
            return Some(format!("is {}", status.phase));
        }
        let home =
            self.replicas.get(&status.home).filter(|view| view.known).and_then(|view| view.report.as_ref());
        let Some(ReplicaState::Primary { epoch, open: true, confirmed, standbys }) =
            home.map(|report| &report.state)
        else {
            return Some(format!("has no open primary in {}", status.home));
        };
        if *epoch != status.epoch || confirmed.as_ref() != status.wanted_set() {
            return Some("has a primary whose sync set is not confirmed".to_owned());
        }
        let counts = |dc: &DcId| {
            standbys.get(dc).is_some_and(|standby| standby.streaming)
                && confirmed.as_ref().is_some_and(|set| set.members.contains(dc))
        };
        let absent = spec.replicas.iter().find(|dc| **dc != status.home && !counts(dc));
        absent.map(|dc| format!("waits for its replica in {dc}"))
    }
}

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Every unit serves.
    Serving,
    /// Every unit serves, with all its replicas in the sync set.
    Whole,
}

impl Status {
    /// What is missing to the goal, if anything.
    pub fn missing(&self, goal: Goal) -> Option<String> {
        let missing = self.units.iter().find_map(|(name, view)| {
            let missing = match goal {
                Goal::Serving => (!view.serves()).then(|| format!("is {}", view.unit.status.phase)),
                Goal::Whole => view.missing(),
            };
            missing.map(|what| format!("{name} {what}"))
        });
        let silent = |what: &str, seen: &BTreeMap<DcId, Seen>| {
            let silent = seen.iter().find(|(_, seen)| !seen.known && goal == Goal::Whole);
            silent.map(|(dc, _)| format!("the {what} of {dc} is silent"))
        };
        missing.or_else(|| silent("agent", &self.agents)).or_else(|| silent("gateway", &self.gateways))
    }
}

/// Why the control plane could not be asked, or what was waited for did not come.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// No platform runs from the folder.
    #[error("no platform runs from {0}")]
    NotRunning(String),
    /// The operator's identity cannot be used.
    #[error("the operator's identity cannot be used")]
    Identity(#[source] dujiang_identity::Error),
    /// No answer.
    #[error("the control plane at {url} does not answer")]
    Unreachable {
        /// Its address.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// It says no.
    #[error("the control plane answers {status}: {body}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// What it says.
        body: String,
    },
    /// Waited in vain.
    #[error("after {seconds} s {missing}")]
    TimedOut {
        /// How long.
        seconds: u64,
        /// What was still missing.
        missing: String,
    },
}

impl Control {
    /// The control plane of the platform that runs from a folder.
    pub fn of(data: &Path) -> Result<Self, StatusError> {
        #[derive(Deserialize)]
        struct Running {
            control: Vec<String>,
        }
        let text = fs::read(data.join("run/platform.json")).ok();
        let running = text.and_then(|text| serde_json::from_slice::<Running>(&text).ok());
        let running = running.ok_or_else(|| StatusError::NotRunning(data.display().to_string()))?;
        let identity = Identity::from_file(&data.join("operator.pem")).map_err(StatusError::Identity)?;
        Self::at(&running.control, &identity)
    }

    /// The control plane of the servers at these URLs, tried in turn.
    pub fn at(urls: &[String], identity: &Identity) -> Result<Self, StatusError> {
        let http = http_client(identity, Expect::roles(&[Role::Control])).map_err(StatusError::Identity)?;
        let http = http.timeout(ANSWER_TIMEOUT).build();
        let servers = urls.iter().map(|url| url.trim_end_matches('/').to_owned()).collect();
        match http {
            Ok(http) => Ok(Self { http, servers, current: AtomicUsize::new(0) }),
            Err(source) => Err(StatusError::Unreachable { url: urls.join(", "), source }),
        }
    }

    /// The URL of the server that answered last.
    fn url(&self) -> &str {
        &self.servers[self.current.load(Ordering::Relaxed) % self.servers.len()]
    }

    /// The state of everything.
    pub async fn status(&self) -> Result<Status, StatusError> {
        self.ask(true, |url| self.http.get(format!("{url}/v1/status"))).await
    }

    /// The events of all units' records, from the server that answered last; ends with that server.
    pub async fn watch_units(&self) -> Result<reqwest::Response, StatusError> {
        let url = self.url();
        let watch = self.http.get(format!("{url}/v1/watch?kinds=units")).timeout(WATCH_TIMEOUT);
        let unreachable = |source| StatusError::Unreachable { url: url.to_owned(), source };
        watch.send().await.and_then(reqwest::Response::error_for_status).map_err(unreachable)
    }

    /// The same control plane, asked by somebody else.
    pub fn as_other(&self, identity: &Identity) -> Result<Self, StatusError> {
        Self::at(&self.servers, identity)
    }

    /// Asks for a planned move.
    pub async fn ask_move(&self, unit: &UnitId, to: &DcId) -> Result<Operation, StatusError> {
        self.ask_for(Work::Move { unit: unit.clone(), to: to.clone() }).await
    }

    /// Approves what somebody else has asked for.
    pub async fn approve(&self, name: &str) -> Result<Operation, StatusError> {
        let by = BTreeMap::from([("asked_by", "testkit")]);
        self.ask(false, |url| self.http.post(format!("{url}/v1/operations/{name}/approve")).json(&by)).await
    }

    /// Asks for work.
    pub async fn ask_for(&self, work: Work) -> Result<Operation, StatusError> {
        let spec = OperationSpec { work, asked_by: "testkit".to_owned() };
        self.ask(false, |url| self.http.post(format!("{url}/v1/operations")).json(&spec)).await
    }

    /// An operation's record.
    pub async fn operation(&self, name: &str) -> Result<Operation, StatusError> {
        self.ask(true, |url| self.http.get(format!("{url}/v1/operations/{name}"))).await
    }

    /// Waits until the goal is reached; a control plane that does not answer is waited for, too.
    pub async fn wait(
        &self,
        goal: Goal,
        patience: Duration,
        mut say: impl FnMut(&str),
    ) -> Result<Status, StatusError> {
        self.wait_for(patience, |status| status.missing(goal), &mut say).await
    }

    /// Waits until nothing is missing any more.
    pub async fn wait_for(
        &self,
        patience: Duration,
        missing: impl Fn(&Status) -> Option<String>,
        mut say: impl FnMut(&str),
    ) -> Result<Status, StatusError> {
        let deadline = Instant::now() + patience;
        loop {
            let missing = match self.status().await {
                Ok(status) => match missing(&status) {
                    None => return Ok(status),
                    Some(missing) => missing,
                },
                Err(error) => error.to_string(),
            };
            if Instant::now() >= deadline {
                return Err(StatusError::TimedOut { seconds: patience.as_secs(), missing });
            }
            say(&missing);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Asks one server after the other, each once, until one is reached that does what is asked. What may have been
    /// done by one is not asked of another, unless it is `repeatable`.
    async fn ask<T: DeserializeOwned>(
        &self,
        repeatable: bool,
        request: impl Fn(&str) -> reqwest::RequestBuilder,
    ) -> Result<T, StatusError> {
        let mut tried = 1;
        loop {
            let outcome = self.read(request(self.url())).await;
            let elsewhere = match &outcome {
                Err(StatusError::Refused { status: 503, .. }) => true,
                Err(StatusError::Unreachable { source, .. }) => repeatable || source.is_connect(),
                _ => false,
            };
            if !elsewhere || tried == self.servers.len() {
                return outcome;
            }
            self.current.fetch_add(1, Ordering::Relaxed);
            tried += 1;
        }
    }

    async fn read<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, StatusError> {
        let unreachable = |source| StatusError::Unreachable { url: self.url().to_owned(), source };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        if status.is_success() {
            response.json().await.map_err(unreachable)
        } else {
            let body = response.text().await.unwrap_or_default();
            Err(StatusError::Refused { status: status.as_u16(), body })
        }
    }
}
