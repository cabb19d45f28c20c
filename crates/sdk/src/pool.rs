//! One pool of sessions per unit.

use std::ops::Deref;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool::Runtime;
use deadpool::managed::{
    self, Metrics, Object, PoolError, QueueMode, RecycleError, RecycleResult, TimeoutType, Timeouts,
};
use dujiang_database::Tls;
use dujiang_types::Code;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_postgres::Config;

use crate::Secret;
use crate::failure::Failure;
use crate::session::Session;
use crate::units::UnitEntry;

/// Sessions per unit and process. A commit waits some milliseconds for its standby, so this many serve thousands
/// of writes a second; PostgreSQL gets slower with more.
pub const SESSIONS_MAX: usize = 24;
/// Sessions a pool begins with, and begins with again after its database went away. When a unit comes home, all the
/// requests that were held for it arrive at once: a session for each would keep the processors busy with making
/// sessions, while a few serve the same requests within milliseconds.
const SESSIONS_FIRST: usize = 4;
/// Between two additions to them: longer than a session takes to be made and to learn the first statements.
const WIDEN_EVERY: Duration = Duration::from_millis(50);
/// A request that has waited so long has one more made, too: those that there are may all be stuck in a commit.
const WIDEN_AFTER: Duration = Duration::from_millis(200);
/// How long a request waits for a free session before it is turned away.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// How long TCP may take: loopback or the same data center.
const TCP_CONNECT_MAX: Duration = Duration::from_secs(2);
/// How long a session may take to be admitted. After a failover a whole pool connects at once, and every password
/// costs both sides thousands of hashes, and the handshake before it a few signatures.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Unacknowledged data for this long means that the peer's machine is gone.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEPALIVE_RETRIES: u32 = 3;
/// Session settings. `statement_timeout` does not end a wait for the sync set, since PostgreSQL disarms it before
/// a commit; were it to, the warning would make the outcome unknown. An idle transaction is an abandoned one.
const SETTINGS: &str =
    "-c statement_timeout=5s -c lock_timeout=2s -c idle_in_transaction_session_timeout=10s";

/// Sessions to the local replica of one unit. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pool {
    sessions: managed::Pool<Sessions>,
    gate: Arc<Gate>,
}

/// A session, given back when dropped.
pub(crate) struct Pooled {
    session: Object<Sessions>,
    _turn: OwnedSemaphorePermit,
}

impl Pooled {
    /// Takes the session out of the pool: dropped, it is closed.
    pub(crate) fn take(self) -> Session {
        Object::take(self.session)
    }
}

impl Deref for Pooled {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

/// How many sessions may be in use: few at first, and more as those that there are have proved of use.
struct Gate(Mutex<Turns>);

struct Turns {
    semaphore: Arc<Semaphore>,
    granted: usize,
    widened: Instant,
}

impl Turns {
    fn first() -> Self {
        let semaphore = Arc::new(Semaphore::new(SESSIONS_FIRST));
        Self { semaphore, granted: SESSIONS_FIRST, widened: Instant::now() }
    }
}

impl Gate {
    fn turns(&self) -> Arc<Semaphore> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner).semaphore)
    }

    /// Leave to use a session; none if that takes too long.
    async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        let mut turn = pin!(self.turns().acquire_owned());
        if let Ok(soon) = timeout(WIDEN_AFTER, &mut turn).await {
            return soon.ok();
        }
        self.widen();
        timeout(WAIT_MAX, turn).await.ok()?.ok()
    }

    /// Of all sessions that may be in use none is free, and they have proved of use or are stuck: one more.
    fn widen(&self) {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = turns.semaphore.available_permits() == 0 && turns.widened.elapsed() >= WIDEN_EVERY;
        if turns.granted < SESSIONS_MAX && due {
            turns.granted += 1;
            turns.widened = Instant::now();
            turns.semaphore.add_permits(1);
        }
    }

    /// The database went away. Who waits at the old gate passes through that one.
    fn narrow(&self) {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.granted > SESSIONS_FIRST {
            *turns = Turns::first();
        }
    }
}

pub(crate) struct Sessions {
    config: Config,
    tls: Tls,
    gate: Arc<Gate>,
}

impl managed::Manager for Sessions {
    type Type = Session;
    type Error = tokio_postgres::Error;

    async fn create(&self) -> Result<Session, tokio_postgres::Error> {
        // Boxed: connecting is rare, and its large future would be part of every request's.
        Box::pin(Session::connect(&self.config, &self.tls)).await
    }

    async fn recycle(&self, session: &mut Session, _: &Metrics) -> RecycleResult<tokio_postgres::Error> {
        // No round trip: a session that died unnoticed fails at BEGIN, where another one can be taken.
        if session.is_closed() {
            self.gate.narrow();
            return Err(RecycleError::message("closed"));
        }
        Ok(())
    }
}

impl Pool {
    pub(crate) fn new(entry: &UnitEntry, secret: &Secret, tls: Tls, application_name: &str) -> Self {
        let mut config = Config::new();
        config
            .host(&entry.host)
            .port(entry.port)
            .dbname(&entry.database)
            .user(&entry.role)
            .password(secret.password(&entry.unit, &entry.role))
            .application_name(application_name)
            .options(SETTINGS)
            .connect_timeout(TCP_CONNECT_MAX)
            .tcp_user_timeout(TCP_USER_TIMEOUT)
            .keepalives(true)
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(KEEPALIVE_RETRIES);
        let timeouts =
            Timeouts { wait: Some(WAIT_MAX), create: Some(CONNECT_MAX), recycle: Some(CONNECT_MAX) };
        let gate = Arc::new(Gate(Mutex::new(Turns::first())));
        let sessions = managed::Pool::builder(Sessions { config, tls, gate: Arc::clone(&gate) })
            .max_size(SESSIONS_MAX)
            .timeouts(timeouts)
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .build()
            .unwrap_or_else(|_| unreachable!("a runtime is given, which is all that timeouts need"));
        Self { sessions, gate }
    }

    /// A session, for a transaction.
    pub(crate) async fn get(&self) -> Result<Pooled, Failure> {
        let in_use = || Failure::not_done(Code::Overloaded, "every session to the unit's database is in use");
        let turn = self.gate.turn().await.ok_or_else(in_use)?;
        let session = self.sessions.get().await.map_err(|error| match error {
            PoolError::Timeout(TimeoutType::Wait) => in_use(),
            PoolError::Backend(error) => not_connected(error),
            _ => Failure::unavailable("the unit's database does not answer", None),
        })?;
        if Object::metrics(&session).recycle_count > 0 {
            self.gate.widen();
        }
        Ok(Pooled { session, _turn: turn })
    }

    /// A session of its own, outside the pool's bound, for what holds one for long.
    pub(crate) async fn dedicated(&self) -> Result<Session, Failure> {
        let Sessions { config, tls, .. } = self.sessions.manager();
        let connect = Box::pin(Session::connect(config, tls));
        match tokio::time::timeout(CONNECT_MAX, connect).await {
            Ok(session) => session.map_err(not_connected),
            Err(_) => Err(Failure::unavailable("the unit's database does not answer", None)),
        }
    }

    /// Drops idle sessions and hands out no more.
    pub(crate) fn close(&self) {
        self.sessions.close();
    }
}

/// Without a connection nothing was done, whatever the reason.
fn not_connected(error: tokio_postgres::Error) -> Failure {
    match Failure::before_commit(error) {
        Failure::Internal { source, .. } => {
            Failure::unavailable("the unit's database cannot be reached", source)
        }
        sorted => sorted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(gate: &Gate) -> usize {
        gate.0.lock().unwrap().granted
    }

    fn some_time_ago(gate: &Gate) {
        gate.0.lock().unwrap().widened = Instant::now().checked_sub(WIDEN_EVERY).unwrap();
    }

    #[tokio::test]
    async fn a_gate_widens_by_one_at_a_time_while_none_is_free_and_narrows_at_once() {
        let gate = Gate(Mutex::new(Turns::first()));
        let mut held = vec![gate.turn().await.unwrap()];
        some_time_ago(&gate);
        gate.widen();
        assert_eq!(granted(&gate), SESSIONS_FIRST, "others are free");
        while held.len() < SESSIONS_FIRST {
            held.push(gate.turn().await.unwrap());
        }
        for wider in SESSIONS_FIRST + 1..=SESSIONS_MAX {
            some_time_ago(&gate);
            gate.widen();
            gate.widen();
            assert_eq!(granted(&gate), wider, "one, however many ask at a time");
            held.push(gate.turn().await.unwrap());
        }
        some_time_ago(&gate);
        gate.widen();
        assert_eq!(granted(&gate), SESSIONS_MAX);
        gate.narrow();
        assert_eq!(granted(&gate), SESSIONS_FIRST);
        assert!(gate.turn().await.is_some(), "who was let in before stands in nobody's way");
    }

    #[tokio::test]
    async fn who_waits_long_behind_stuck_sessions_gets_one_more() {
        let gate = Gate(Mutex::new(Turns::first()));
        let mut stuck = Vec::new();
        for _ in 0..SESSIONS_FIRST {
            stuck.push(gate.turn().await.unwrap());
        }
        assert!(gate.turn().await.is_some());
        assert_eq!(granted(&gate), SESSIONS_FIRST + 1);
    }
}
