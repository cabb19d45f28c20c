//! Looking, by an operator's order, at what only the agent of a data center can see: whether those a takeover needs show
//! identities that hold, and whether a copy of the replica can be promoted.
//!
//! One order at a time, and each once. Nothing of the replica itself is touched, and nothing waits for it.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use dujiang_identity::{Connector, Error, Expect, Peer, Role};
use dujiang_types::UnitId;
use dujiang_types::platform::DataCenterSpec;
use dujiang_types::readiness::{Examine, Examined, Findings, ShownIdentity, Trial};
use dujiang_types::unit::Unit;
use dujiang_unit::readiness::may_try;
use dujiang_unit::safety::disk_wanted;
use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::handle::Handle;
use super::known::Known;
use super::{Shared, machine};
use crate::postgres::{PostgresError, Settings, trial};

/// How long a process on this host may take to show who it is.
const SHOW_TIMEOUT: Duration = Duration::from_secs(3);
/// How long one trial may take: a copy of some ten GiB. An order must not keep a data center busy for ever.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(300);
/// How often it is looked whether a trial has to be called off. A failover wants the disk, and must not wait for it long.
const CALL_OFF_EVERY: Duration = Duration::from_millis(100);
/// How often the disk is looked at meanwhile.
const DISK_EVERY: Duration = Duration::from_secs(1);
/// Log and checkpoints of a copy that is promoted.
const TRIAL_EXTRA_BYTES: u64 = 64 << 20;
/// What a client says to PostgreSQL before it begins with TLS: a length, and a code.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// What was ordered last, and how it stands.
#[derive(Debug, Default)]
pub(super) struct Examiner {
    latest: Mutex<Option<Examined>>,
    work: Mutex<Option<JoinHandle<()>>>,
    closing: watch::Sender<bool>,
}

impl Examiner {
    /// What to report.
    pub(super) fn report(&self) -> Option<Examined> {
        lock(&self.latest).clone()
    }

    /// Begins an examination, unless it was begun already or another one is at work.
    pub(super) fn begin(shared: &Arc<Shared>, known: &watch::Receiver<Known>, order: Examine) {
        let examiner = &shared.examiner;
        let mut latest = lock(&examiner.latest);
        let at_work = latest.as_ref().is_some_and(|latest| latest.findings.is_none());
        if at_work
            || latest.as_ref().is_some_and(|latest| latest.id == order.id)
            || *examiner.closing.borrow()
        {
            return;
        }
        tracing::info!(unit = %order.unit, trial = order.trial, id = order.id, "an examination begins");
        *latest = Some(Examined {
            id: order.id.clone(),
            unit: order.unit.clone(),
            doing: "beginning".to_owned(),
            findings: None,
        });
        let (shared, known) = (shared.clone(), known.clone());
        *lock(&examiner.work) = Some(tokio::spawn(async move {
            let findings = examine(&shared, &known, &order).await;
            tracing::info!(unit = %order.unit, id = order.id, ?findings, "an examination is over");
            shared.examiner.note(|latest| {
                "done".clone_into(&mut latest.doing);
                latest.findings = Some(findings);
            });
        }));
    }

    /// Calls off what is at work, and waits until it is cleaned up.
    pub(super) async fn close(&self) {
        self.closing.send_replace(true);
        let work = lock(&self.work).take();
        if let Some(work) = work {
            let _ = work.await;
        }
    }

    fn note(&self, change: impl FnOnce(&mut Examined)) {
        if let Some(latest) = lock(&self.latest).as_mut() {
            change(latest);
        }
    }

    fn say(&self, what: &str) {
        self.note(|latest| what.clone_into(&mut latest.doing));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn examine(shared: &Shared, known: &watch::Receiver<Known>, order: &Examine) -> Findings {
    let dc = &shared.options.dc;
    let (spec, unit) = {
        let known = known.borrow();
        (known.data_centers.get(dc).map(|dc| dc.spec.clone()), known.units.get(&order.unit).cloned())
    };
    shared.examiner.say("looking at identities");
    let identities = match (&spec, &unit) {
        (Some(spec), Some(unit)) => identities(shared, spec, unit).await,
        _ => Vec::new(),
    };
    let trial = match (order.trial, shared.handles().get(&order.unit)) {
        (false, _) => None,
        (true, None) => Some(Trial::Refused { why: format!("{dc} holds no replica of {}", order.unit) }),
        (true, Some(handle)) => Some(try_promotion(shared, known, handle).await),
    };
    Findings { identities, trial }
}

/// Whom those show to be that a takeover of the unit needs here.
async fn identities(shared: &Shared, spec: &DataCenterSpec, unit: &Unit) -> Vec<ShownIdentity> {
    let own = &shared.options.identity;
    let here = |role| Expect::roles(&[role]).within(&shared.options.dc);
    let to = |role| Connector::new(own, here(role));
    let mut shown = vec![
        ask("agent", to(Role::Agent), spec.agent_address(), Protocol::Tls).await,
        ask("gateway", to(Role::Gateway), spec.gateway_admin_address(), Protocol::Tls).await,
        ask(
            "database",
            Connector::to_database(own, &shared.options.dc),
            spec.database_address(unit.spec.port),
            Protocol::Postgres,
        )
        .await,
    ];
    let prefix = format!("{}-", unit.spec.application);
    let is_of = |name: &str| name.strip_prefix(&prefix).is_some_and(|rest| rest.parse::<u16>().is_ok());
    for (name, instance) in shared.instances().into_iter().filter(|(name, _)| is_of(name)) {
        shown.push(ask(&name, to(Role::Application), instance.address, Protocol::Tls).await);
    }
    shown
}

/// How a conversation begins.
#[derive(Debug, Clone, Copy)]
enum Protocol {
    Tls,
    Postgres,
}

async fn ask(
    of: &str,
    connector: Result<Connector, Error>,
    address: SocketAddr,
    protocol: Protocol,
) -> ShownIdentity {
    let met = match connector {
        Ok(connector) => timeout(SHOW_TIMEOUT, meet(&connector, address, protocol))
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer"))),
        Err(error) => Err(io::Error::other(error)),
    };
    let of = of.to_owned();
    match met {
        Ok(peer) => ShownIdentity {
            of,
            not_after: wall(peer.not_after),
            renew_at: wall(peer.renew_at),
            trouble: None,
        },
        Err(error) => ShownIdentity {
            of,
            not_after: None,
            renew_at: None,
            trouble: Some(format!("{address}: {error}")),
        },
    }
}

async fn meet(connector: &Connector, address: SocketAddr, protocol: Protocol) -> io::Result<Peer> {
    let mut stream = TcpStream::connect(address).await?;
    if let Protocol::Postgres = protocol {
        stream.write_all(&SSL_REQUEST).await?;
        if stream.read_u8().await? != b'S' {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it does not speak TLS"));
        }
    }
    connector.meet(address.ip(), stream).await
}

fn wall(at: SystemTime) -> Option<Timestamp> {
    Timestamp::try_from(at).ok()
}

async fn try_promotion(shared: &Shared, known: &watch::Receiver<Known>, handle: &Handle) -> Trial {
    let unit = known.borrow().units.get(&handle.unit).cloned();
    let Some(unit) = unit else {
        return Trial::Refused { why: format!("{} is not known", handle.unit) };
    };
    if let Err(why) = may_try(&unit, &handle.dc, handle.process().as_ref()) {
        return Trial::Refused { why };
    }
    if let Err(why) = has_room(shared, handle.settings()).await {
        return Trial::Refused { why };
    }
    let called_off = called_off(shared, known, &handle.unit, &unit);
    let say = |what: &str| shared.examiner.say(what);
    // The epoch a takeover would have: with the timeline goes what is written for the numbers in between.
    match trial::promote_a_copy(handle.settings(), unit.status.epoch.next(), called_off, say).await {
        Ok(promoted) => Trial::Promoted(promoted),
        Err(PostgresError::CalledOff(why)) => Trial::Refused { why },
        Err(error) => Trial::Failed { why: error.chain() },
    }
}

/// A copy must leave the disk what a takeover needs.
async fn has_room(shared: &Shared, settings: &Settings) -> Result<(), String> {
    let of = settings.clone();
    let size =
        tokio::task::spawn_blocking(move || trial::size(&of)).await.map_err(io::Error::other).flatten();
    let size = size.map_err(|error| format!("the replica's size cannot be told: {error}"))?;
    let host = machine::look(&shared.options.data).ok_or("the disk cannot be looked at")?;
    let needed = size.saturating_add(TRIAL_EXTRA_BYTES).saturating_add(disk_wanted(&host));
    if host.disk_free_bytes < needed {
        let (free, needed) = (host.disk_free_bytes >> 20, needed >> 20);
        return Err(format!(
            "{free} MiB of disk are free; a copy and what has to stay free take {needed} MiB"
        ));
    }
    Ok(())
}

/// Resolves when a trial has to end, with the reason.
async fn called_off(shared: &Shared, known: &watch::Receiver<Known>, name: &UnitId, before: &Unit) -> String {
    let deadline = Instant::now() + TRIAL_TIMEOUT;
    let mut look_at_disk = Instant::now() + DISK_EVERY;
    loop {
        sleep(CALL_OFF_EVERY).await;
        if *shared.examiner.closing.borrow() {
            return "the data center is shut down".to_owned();
        }
        let unit = known.borrow().units.get(name).cloned();
        match unit {
            None => return "the unit does not exist any more".to_owned(),
            Some(unit) => {
                let (was, is) = (&before.status, &unit.status);
                if (&was.phase, was.epoch, &was.home) != (&is.phase, is.epoch, &is.home) {
                    return format!("the unit is {} under epoch {}", is.phase, is.epoch);
                }
            }
        }
        if Instant::now() >= deadline {
            return format!("it was not done within {} s", TRIAL_TIMEOUT.as_secs());
        }
        if Instant::now() >= look_at_disk {
            look_at_disk = Instant::now() + DISK_EVERY;
            if machine::look(&shared.options.data)
                .is_some_and(|host| host.disk_free_bytes < disk_wanted(&host))
            {
                return "the disk is getting full".to_owned();
            }
        }
    }
}
