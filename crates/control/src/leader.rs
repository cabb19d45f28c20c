//! The shell around `dujiang_unit::leadership`: this server's part in choosing which of several decides.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dujiang_store::fenced::Right;
use dujiang_store::{Check, Listing, Store, Txn, TxnOutcome};
use dujiang_types::Revision;
use dujiang_unit::leadership::{Leadership, PULSE_MS, Standing, VALID_MS};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::{MissedTickBehavior, timeout};

use crate::error::chain;
use crate::state::{Shared, ms_between};

/// What is kept here is no resource, and no watch shows it.
pub(crate) const PREFIX: &str = "control/";
const LEADER_KEY: &str = "control/leader";
const PULSE_KEY: &str = "control/pulse";
/// How often a server that does not lead looks: small beside the silence it waits for.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const PULSE_EVERY: Duration = Duration::from_millis(PULSE_MS);
/// A pulse that was sent longer ago than a term lasts without one is not worth waiting for.
const PULSE_TIMEOUT: Duration = Duration::from_millis(VALID_MS);
/// Pulses under way at once: as many as are sent until the first of them is given up.
const PULSES_MAX: usize = 4;
/// A store that has not answered for so long may have said much since: whoever follows it through this server is
/// sent elsewhere. Two elections of etcd's.
const OUT_OF_TOUCH: Duration = Duration::from_secs(2);

/// Which server leads, as far as this one knows.
#[derive(Debug)]
pub(crate) struct Leader {
    /// The store without its fence: taking over needs no right yet.
    store: Arc<dyn Store>,
    /// This server's name.
    name: String,
    began: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    leadership: Leadership,
    /// The name in the leader's record.
    leader: String,
    /// When the store last answered.
    heard: Instant,
}

impl Leader {
    /// Over a store that nobody else can open this server leads from the beginning.
    pub(crate) fn new(store: Arc<dyn Store>, name: String, began: Instant) -> Arc<Self> {
        let alone = !store.is_shared();
        let leadership = if alone { Leadership::alone() } else { Leadership::default() };
        let leader = if alone { name.clone() } else { String::new() };
        let state = Mutex::new(State { leadership, leader, heard: Instant::now() });
        Arc::new(Self { store, name, began, state })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// By the same clock as [`Shared::now_ms`]: what comes from here becomes memory of decisions.
    fn now_ms(&self) -> u64 {
        ms_between(self.began, Instant::now())
    }

    /// The term, if this server leads now.
    pub(crate) fn leads(&self) -> Option<Revision> {
        self.state().leadership.leads(self.now_ms())
    }

    /// The name of the server that leads; empty if none is known.
    pub(crate) fn name(&self) -> String {
        self.state().leader.clone()
    }

    /// The right to write.
    pub(crate) fn right(&self) -> Right {
        match self.leads() {
            None => Right::Lost,
            Some(term) => term_holds(term).map_or(Right::Exclusive, Right::While),
        }
    }

    /// False if what this server knows of the store may be long out of date.
    pub(crate) fn is_in_touch(&self) -> bool {
        !self.store.is_shared() || self.state().heard.elapsed() < OUT_OF_TOUCH
    }

    /// Takes in what the store says. True if it is time to take over.
    fn take_in(&self, listing: &Listing) -> (Standing, bool) {
        let entry = |key: &str| listing.entries.iter().find(|entry| entry.key == key);
        let revision = |key| entry(key).map_or(Revision(0), |entry| entry.revision);
        let standing = Standing { leader: revision(LEADER_KEY), pulse: revision(PULSE_KEY) };
        let mut state = self.state();
        state.heard = Instant::now();
        state.leader =
            entry(LEADER_KEY).map_or_else(String::new, |e| String::from_utf8_lossy(&e.value).into_owned());
        (standing, state.leadership.read(standing, self.now_ms()))
    }

    /// Waits until it is time to take over.
    async fn vacancy(&self) -> Standing {
        loop {
            match self.store.list(PREFIX).await {
                Ok(listing) => {
                    if let (standing, true) = self.take_in(&listing) {
                        return standing;
                    }
                }
                Err(error) => tracing::debug!(error = chain(&error), "the store does not say who leads"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Until when leases may have been granted by whoever led before, if this server takes over now.
    fn granted_until_ms(&self) -> u64 {
        self.state().leadership.granted_until_ms(self.now_ms())
    }

    /// Tries to take over. True if it did.
    async fn take_over(&self, seen: Standing) -> bool {
        let sent_ms = self.now_ms();
        let txn = Txn::new()
            .check(LEADER_KEY, seen.leader)
            .check(PULSE_KEY, seen.pulse)
            .put(LEADER_KEY, self.name.clone())
            .put(PULSE_KEY, "");
        match self.store.transact(txn).await {
            Ok(TxnOutcome::Committed(term)) => {
                let mut state = self.state();
                state.leader.clone_from(&self.name);
                tracing::info!(server = self.name, %term, "this control server leads");
                state.leadership.took_over(term, sent_ms);
                true
            }
            Ok(TxnOutcome::Conflict { .. }) => false,
            // If it was written nevertheless, it is the silent leader to be replaced next.
            Err(error) => {
                tracing::warn!(error = chain(&error), "taking over has an unknown outcome");
                false
            }
        }
    }

    /// Writes pulses until another server has taken over. One that takes long does not hold up the next: what counts is
    /// when a committed one was sent, so over a slow network the term goes on as long as each of them arrives in time.
    async fn pulse(&self) {
        let Some(term) = self.state().leadership.leads(0) else { return };
        let mut under_way = FuturesUnordered::new();
        let mut next = tokio::time::interval(PULSE_EVERY);
        next.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let committed = tokio::select! {
                _ = next.tick(), if under_way.len() < PULSES_MAX => {
                    under_way.push(self.write_pulse(term));
                    continue;
                }
                Some(committed) = under_way.next() => committed,
            };
            if !committed {
                self.state().leadership.lost();
                tracing::warn!(server = self.name, %term, "another control server has taken over");
                return;
            }
        }
    }

    /// One pulse. False if another server has taken over.
    async fn write_pulse(&self, term: Revision) -> bool {
        let sent_ms = self.now_ms();
        let txn = Txn::new().check(LEADER_KEY, term).put(PULSE_KEY, "");
        match timeout(PULSE_TIMEOUT, self.store.transact(txn)).await {
            Ok(Ok(TxnOutcome::Committed(_))) => {
                let mut state = self.state();
                state.heard = Instant::now();
                state.leadership.pulsed(sent_ms);
            }
            Ok(Ok(TxnOutcome::Conflict { .. })) => return false,
            Ok(Err(error)) => tracing::warn!(error = chain(&error), "a pulse was not written"),
            Err(_) => tracing::warn!("a pulse was not written in time"),
        }
        true
    }
}

/// What must hold for something that was decided in a term to be written, beside the right to write at that moment:
/// the server may have lost it in between, and won it anew.
pub(crate) fn term_holds(term: Revision) -> Option<Check> {
    (term != Revision(0)).then(|| Check { key: LEADER_KEY.to_owned(), revision: term })
}

/// Follows who leads, and leads when nobody else does; for ever.
pub(crate) async fn run(shared: Arc<Shared>) {
    let leader = &shared.leader;
    if !leader.store.is_shared() {
        return std::future::pending().await;
    }
    loop {
        let seen = leader.vacancy().await;
        // Before it leads: from its first moment on it knows what it must wait for.
        shared.forget_grants_before(leader.granted_until_ms());
        if leader.take_over(seen).await {
            shared.wake.notify_one();
            leader.pulse().await;
        }
    }
}
