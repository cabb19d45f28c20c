//! The open loop.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};
use uuid::Uuid;

use crate::journal::{JournalError, JournalWriter, Outcome};
use crate::lists;
use crate::load::plan::{Plan, Planned, Planner};
use crate::load::{Client, Gateway, LoadError, Options, Patience, Summary, prepare, summary};

/// Operations in flight at once. A unit that is held for five seconds under 300/s piles up some hundreds; this
/// leaves room for all units held, and bounds memory and connections.
const IN_FLIGHT_MAX: usize = 4_096;
/// Hex digits of randomness in the name of a run: keys and customers of different runs do not collide.
const RUN_DIGITS: usize = 10;

/// Counters of a load while it runs.
#[derive(Debug, Default)]
pub struct Progress {
    started: AtomicU64,
    acknowledged: AtomicU64,
    refused: AtomicU64,
    unknown: AtomicU64,
    not_started: AtomicU64,
}

impl Progress {
    /// Operations started.
    pub fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }
    /// Operations acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }
    /// Operations refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
    /// Operations whose outcome is not known.
    pub fn unknown(&self) -> u64 {
        self.unknown.load(Ordering::Relaxed)
    }
    /// Operations not started because too many were in flight.
    pub fn not_started(&self) -> u64 {
        self.not_started.load(Ordering::Relaxed)
    }

    fn count(&self, outcome: &Outcome) {
        let counter = match outcome {
            Outcome::Acknowledged(_) => &self.acknowledged,
            Outcome::Refused { .. } => &self.refused,
            Outcome::Unknown { .. } => &self.unknown,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// A load under way.
#[derive(Debug)]
pub struct Load {
    shared: Shared,
    path: PathBuf,
    journal: Arc<JournalWriter>,
    stopping: Arc<AtomicBool>,
    task: JoinHandle<Result<(), JournalError>>,
}

impl Load {
    /// Opens customers and accounts, pays in, and begins to load.
    pub async fn start(options: Options) -> Result<Self, LoadError> {
        if options.mix.total() == 0 {
            return Err(LoadError::Options("at least one weight of the mix must not be 0".to_owned()));
        }
        let begun = Begun::new(&options)?;
        let accounts = prepare::accounts(&begun.client, &options.units, &begun.run, options.accounts).await?;
        Ok(begun.drive(&options, Planner::new(options.seed, options.mix, accounts)))
    }

    /// Begins to append to lists of its own, one owner in each unit. Of the options, accounts and mix mean nothing.
    pub fn of_lists(options: &Options) -> Result<Self, LoadError> {
        let begun = Begun::new(options)?;
        let owners = prepare::customers(&options.units, &begun.run, 1).concat();
        let plan = lists::Planner::new(options.seed, owners);
        Ok(begun.drive(options, plan))
    }

    /// More customers of this load, who reach these gateways: for whoever lives where they do, such as a thread in
    /// another network. They go on until they are told to end, and have to end before the load does, whose last reads
    /// are to see what they did.
    pub fn customers(
        &self,
        gateways: Vec<Gateway>,
        rate: u32,
        patience: Patience,
        stopping: Arc<AtomicBool>,
    ) -> impl Future<Output = Result<(), LoadError>> + Send + 'static {
        let shared = self.shared.clone();
        async move {
            let client = shared.client.elsewhere(gateways, patience)?;
            Ok(drive(Shared { client, ..shared }, rate, None, stopping).await?)
        }
    }

    /// Counters so far.
    pub fn progress(&self) -> &Progress {
        &self.shared.progress
    }

    /// The journal's clock, to say when something was done to the platform.
    pub fn now_us(&self) -> u64 {
        self.journal.now_us()
    }

    /// Prefix of all keys of this load.
    pub fn run(&self) -> &str {
        &self.shared.run
    }

    /// True once its duration is over or its journal failed, and everything in flight has ended.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Starts no more operations, waits for those in flight (each gives up when its patience is exhausted), and
    /// sums up from the journal.
    pub async fn stop(self) -> Result<Summary, LoadError> {
        self.stopping.store(true, Ordering::Relaxed);
        self.finish().await
    }

    /// Waits until the duration is over, and sums up from the journal.
    pub async fn finish(self) -> Result<Summary, LoadError> {
        match self.task.await {
            Ok(outcome) => outcome?,
            Err(error) => return Err(LoadError::Options(format!("the load ended by itself: {error}"))),
        }
        let mut summary = summary::of_run(&self.path, &self.shared.run)?;
        summary.not_started = self.shared.progress.not_started();
        Ok(summary)
    }
}

/// A load that has a name, a journal and a client.
struct Begun {
    run: String,
    journal: Arc<JournalWriter>,
    client: Client,
}

impl Begun {
    fn new(options: &Options) -> Result<Self, LoadError> {
        if options.rate == 0 {
            return Err(LoadError::Options("the rate must not be 0".to_owned()));
        }
        let run = Uuid::new_v4().simple().to_string()[..RUN_DIGITS].to_owned();
        let journal = Arc::new(JournalWriter::open(&options.journal, &run, options.seed)?);
        let (gateways, units) = (options.gateways.clone(), options.units.clone());
        let client = Client::new(gateways, units, Arc::clone(&journal), options.patience)?;
        Ok(Self { run, journal, client })
    }

    fn drive(self, options: &Options, plan: impl Plan + 'static) -> Load {
        let stopping = Arc::new(AtomicBool::new(false));
        let shared = Shared {
            run: self.run,
            client: self.client,
            plan: Arc::new(Mutex::new(plan)),
            next: Arc::default(),
            progress: Arc::default(),
        };
        let task = tokio::spawn(whole(shared.clone(), options.rate, options.duration, Arc::clone(&stopping)));
        Load { shared, path: options.journal.clone(), journal: self.journal, stopping, task }
    }
}

/// What every operation's task needs.
#[derive(Debug, Clone)]
struct Shared {
    run: String,
    client: Client,
    plan: Arc<Mutex<dyn Plan>>,
    /// Number of the next operation.
    next: Arc<AtomicU64>,
    progress: Arc<Progress>,
}

impl Shared {
    fn draw(&self) -> Planned {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).draw()
    }

    async fn carry_out(self, planned: Planned) -> Result<(), JournalError> {
        self.progress.started.fetch_add(1, Ordering::Relaxed);
        let key = format!("{}-{}", self.run, self.next.fetch_add(1, Ordering::Relaxed));
        let outcome = self.client.perform(&key, planned.near, &planned.request).await?;
        self.progress.count(&outcome);
        if let Outcome::Acknowledged(receipt) = outcome {
            self.plan.lock().unwrap_or_else(PoisonError::into_inner).acknowledged(planned, receipt);
        }
        Ok(())
    }
}

/// Operations on schedule, and when they have ended, the last ones.
async fn whole(
    shared: Shared,
    rate: u32,
    duration: Option<Duration>,
    stopping: Arc<AtomicBool>,
) -> Result<(), JournalError> {
    drive(shared.clone(), rate, duration, stopping).await?;
    let last = shared.plan.lock().unwrap_or_else(PoisonError::into_inner).last();
    for planned in last {
        shared.clone().carry_out(planned).await?;
    }
    Ok(())
}

async fn drive(
    shared: Shared,
    rate: u32,
    duration: Option<Duration>,
    stopping: Arc<AtomicBool>,
) -> Result<(), JournalError> {
    let room = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let failed = Arc::new(Mutex::new(None));
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
    // A late timer starts what is due at once: the schedule does not slip.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let end = duration.map(|duration| Instant::now() + duration);
    loop {
        let now = ticks.tick().await;
        if stopping.load(Ordering::Relaxed) || end.is_some_and(|end| now >= end) {
            break;
        }
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            shared.progress.not_started.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let planned = shared.draw();
        let (task, failed, stopping) = (shared.clone(), Arc::clone(&failed), Arc::clone(&stopping));
        tokio::spawn(async move {
            if let Err(error) = task.carry_out(planned).await {
                // What cannot be written down must not be done: stop.
                stopping.store(true, Ordering::Relaxed);
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
            drop(permit);
        });
    }
    let everything = u32::try_from(IN_FLIGHT_MAX).unwrap_or(u32::MAX);
    // The semaphore is never closed, so this only waits until every operation has ended.
    let _all = room.acquire_many(everything).await;
    let failed = failed.lock().unwrap_or_else(PoisonError::into_inner).take();
    failed.map_or(Ok(()), Err)
}
