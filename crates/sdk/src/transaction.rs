//! A transaction that enters through the database's fence, and a commit that never claims too much.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dujiang_types::Epoch;
use tokio::sync::Notify;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::failure::Failure;
use crate::metrics::Metrics;
use crate::pool::Pooled;
use crate::session::Call;
use crate::units::Unit;

/// How long a commit may wait for the sync set. Longer than a failover takes; the client then learns "unknown".
const COMMIT_MAX: Duration = Duration::from_secs(10);
/// How long everything before the commit may take, all statements together.
pub(crate) const WORK_MAX: Duration = Duration::from_secs(8);
/// After a database's end every pooled session is dead, and some do not know it yet: take others, but not forever.
const SESSIONS_TRIED_MAX: usize = crate::pool::SESSIONS_MAX + 1;
/// How often a transaction is repeated as a whole after a deadlock or a collision.
const REPEATS_MAX: u32 = 5;
/// Pause before the n-th repeat, times n: the other transaction needs a moment to end.
const REPEAT_PAUSE: Duration = Duration::from_millis(5);

/// Work done in one transaction. It may run several times, so it must not touch anything but the transaction.
pub trait Work: Send + Sync {
    /// What it gives.
    type Output: Send;
    /// Does the work. Nothing it did remains if it fails.
    fn run(&self, tx: &Transaction) -> impl Future<Output = Result<Self::Output, Failure>> + Send;
}

/// What a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// One snapshot, no effect.
    Read,
    /// Effects.
    Write,
}

/// An open transaction. Dropped without an end it closes its session, and the server rolls back.
pub struct Transaction {
    session: Option<Pooled>,
    /// A statement failed, or was abandoned while it ran: COMMIT would roll back and still answer success.
    broken: AtomicBool,
    wake_wanted: AtomicBool,
    wake: Arc<Notify>,
}

/// Marks the transaction broken unless its statements ended well.
struct Pending<'a>(&'a AtomicBool);

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Pending<'_> {
    fn done(self) {
        std::mem::forget(self);
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            drop(session.take());
        }
    }
}

impl Transaction {
    /// Begins under the epoch, with the opening statements sent in the same round trip. Gives their rows.
    pub(crate) async fn begin(
        unit: &Unit,
        epoch: Epoch,
        mode: Mode,
        opening: &[Call<'_>],
    ) -> Result<(Self, Vec<Vec<Row>>), Failure> {
        let mut tried = 1;
        loop {
            match Self::begin_once(unit, epoch, mode, opening).await {
                Err(failure) if failure.is_broken_connection() && tried < SESSIONS_TRIED_MAX => tried += 1,
                Err(failure) => {
                    // A missing schema is made by the unit's background work; do not let it sleep on.
                    if matches!(failure, Failure::NotDone { .. }) {
                        unit.wake.notify_one();
                    }
                    return Err(failure);
                }
                begun => return begun,
            }
        }
    }

    async fn begin_once(
        unit: &Unit,
        epoch: Epoch,
        mode: Mode,
        opening: &[Call<'_>],
    ) -> Result<(Self, Vec<Vec<Row>>), Failure> {
        let session = unit.pool.get().await?;
        let tx = Self {
            session: Some(session),
            broken: AtomicBool::new(false),
            wake_wanted: AtomicBool::new(false),
            wake: Arc::clone(&unit.wake),
        };
        let session = tx.session()?;
        let statements = session.prepare_all(opening).await?;
        let read_only = if mode == Mode::Read { " ISOLATION LEVEL REPEATABLE READ READ ONLY" } else { "" };
        let begin = format!("BEGIN{read_only}; SELECT dujiang.enter({epoch})");
        let (entered, rows) = tokio::join!(session.batch(&begin), session.pipeline(&statements, opening));
        entered?;
        let rows = rows.into_iter().collect::<Result<_, _>>()?;
        Ok((tx, rows))
    }

    fn session(&self) -> Result<&Pooled, Failure> {
        self.session.as_ref().ok_or_else(|| Failure::internal("the transaction has ended"))
    }

    /// Runs one statement.
    pub async fn query(
        &self,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Failure> {
        let pending = Pending(&self.broken);
        let rows = self.session()?.query(Call { sql, params }).await?;
        pending.done();
        Ok(rows)
    }

    /// Runs one statement that gives at most one row.
    pub async fn query_opt(
        &self,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Row>, Failure> {
        let mut rows = self.query(sql, params).await?;
        if rows.len() > 1 {
            return Err(Failure::internal("more than one row"));
        }
        Ok(rows.pop())
    }

    /// Runs several statements in order without waiting in between; all succeed or the transaction fails.
    pub async fn batch(&self, calls: &[Call<'_>]) -> Result<Vec<Vec<Row>>, Failure> {
        let pending = Pending(&self.broken);
        let session = self.session()?;
        let statements = session.prepare_all(calls).await?;
        let results = session.pipeline(&statements, calls).await;
        let rows = results.into_iter().collect::<Result<_, _>>()?;
        pending.done();
        Ok(rows)
    }

    /// Undoes everything since [`crate::idempotency`] set its savepoint, failed statements included.
    pub(crate) async fn back_to_savepoint(&self) -> Result<(), Failure> {
        let pending = Pending(&self.broken);
        self.session()?.batch("ROLLBACK TO SAVEPOINT work").await?;
        pending.done();
        self.broken.store(false, Ordering::Release);
        self.wake_wanted.store(false, Ordering::Release);
        Ok(())
    }

    /// Once committed, the unit's relay has something to do.
    pub(crate) fn wake_relay_after_commit(&self) {
        self.wake_wanted.store(true, Ordering::Release);
    }

    /// Sends the last statements and COMMIT in one round trip.
    ///
    /// Success is only claimed if every statement succeeded, COMMIT succeeded, and the server gave no warning with
    /// it: a cancelled wait for the sync set is a local commit, reported as success with a warning.
    pub(crate) async fn commit(mut self, last: &[Call<'_>]) -> Result<(), Failure> {
        if self.broken.load(Ordering::Acquire) {
            return Err(Failure::internal("a statement failed and its failure was not passed on"));
        }
        let session = self.session()?;
        let statements = session.prepare_all(last).await?;
        let warned_before = session.warnings();
        let exchange = async { tokio::join!(session.pipeline(&statements, last), session.batch("COMMIT")) };
        let Ok((results, commit)) = tokio::time::timeout(COMMIT_MAX, exchange).await else {
            return Err(Failure::Unknown {
                why: "the commit was not confirmed by enough replicas in time",
                source: None,
            });
        };
        let warned = session.warnings() != warned_before;
        // A statement that failed turned COMMIT into ROLLBACK.
        if let Some(error) = results.into_iter().find_map(Result::err) {
            let rolled_back = error.as_db_error().is_some() && commit.is_ok();
            let unknown =
                |error| Failure::Unknown { why: "the connection broke at the commit", source: Some(error) };
            return Err(if rolled_back { Failure::before_commit(error) } else { unknown(error) });
        }
        commit.map_err(Failure::of_commit)?;
        if warned {
            return Err(Failure::Unknown {
                why: "the commit is local: its confirmation by other replicas was cut short",
                source: None,
            });
        }
        // The session goes back to the pool.
        self.session = None;
        if self.wake_wanted.load(Ordering::Acquire) {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Ends without effect and gives the session back to the pool.
    pub(crate) async fn rollback(mut self) {
        let Ok(session) = self.session() else { return };
        if let Ok(Ok(())) = tokio::time::timeout(WORK_MAX, session.batch("ROLLBACK")).await {
            self.session = None;
        }
    }
}

/// Runs the attempt until it ends otherwise than by a collision; at most [`REPEATS_MAX`] times again.
pub(crate) async fn repeated<T, F>(metrics: &Metrics, mut attempt: impl FnMut() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let mut repeats = 0;
    loop {
        match attempt().await {
            Err(Failure::Repeat(error)) if repeats < REPEATS_MAX => {
                repeats += 1;
                metrics.repeats.inc();
                tracing::debug!(%error, repeats, "transaction is repeated");
                tokio::time::sleep(REPEAT_PAUSE * repeats).await;
            }
            ended => return ended,
        }
    }
}

/// Bounds the time before a commit. Nothing was committed when it runs out, because COMMIT was not sent.
pub(crate) async fn in_time<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::time::timeout(WORK_MAX, work).await.unwrap_or_else(|_| {
        Err(Failure::not_done(dujiang_types::Code::Overloaded, "the unit's database took too long"))
    })
}

/// Runs the work in a transaction of its own and commits.
pub(crate) async fn run<W: Work>(
    unit: &Unit,
    epoch: Epoch,
    mode: Mode,
    metrics: &Metrics,
    work: &W,
) -> Result<W::Output, Failure> {
    repeated(metrics, || async {
        let (tx, done) = in_time(async {
            let (tx, _) = Transaction::begin(unit, epoch, mode, &[]).await?;
            let done = work.run(&tx).await;
            Ok((tx, done))
        })
        .await?;
        match done {
            Ok(output) => {
                tx.commit(&[]).await?;
                Ok(output)
            }
            Err(failure) => {
                tx.rollback().await;
                Err(failure)
            }
        }
    })
    .await
}
