//! Drills: something is broken on purpose under load, and what happens is measured from the load's journal.

mod dc_loss;
mod moves;
mod outage;
mod primary_crash;
mod region_loss;
mod stop;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use dujiang_types::{DcId, UnitId};
use serde::Serialize;
use tokio::time::Instant;

use crate::journal::{Journal, JournalError};
use crate::load::{Load, LoadError, Mix, Options as LoadOptions, Patience, Summary};
use crate::platform::{BANK, Platform, PlatformError};
use crate::status::{Control, Goal, Status, StatusError};
use crate::verify::{self, Report as VerifyReport, UnitSource, VerifyError};

pub use dc_loss::dc_loss;
pub use moves::{MoveOutcome, MovesReport, moves};
pub use outage::UnitOutage;
pub use primary_crash::primary_crash;
pub use region_loss::{Region, RegionReport, UnitLoss, region_loss};
pub use stop::{Stop, StopButton};

/// A whole data center is lost: every unit serves again within this.
pub const DC_LOSS_OUTAGE_MAX: Duration = Duration::from_secs(5);
/// The same if the control server that decides is lost with it: the next one counts leases from the last one's pulse.
pub const DECIDING_DC_LOSS_OUTAGE_MAX: Duration = Duration::from_secs(6);
/// A primary crashes alone: its unit serves again within this.
pub const PRIMARY_CRASH_OUTAGE_MAX: Duration = Duration::from_secs(2);
/// The longest hold of a planned move, at the median of many.
pub const MOVE_HOLD_MAX: Duration = Duration::from_millis(500);
/// The platform has to be whole before a drill begins; after `up` its last replicas may still be cloning.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// For units to serve again: far beyond the goal, so that a miss is measured instead of cut off.
const SERVING_TIMEOUT: Duration = Duration::from_secs(60);
/// For replicas to rejoin: a base backup of a drill's databases takes seconds.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(180);
/// Load before the fault, so that the usual pace is known.
const WARM_UP: Duration = Duration::from_secs(5);
/// Load after everything is whole again.
const COOL_DOWN: Duration = Duration::from_secs(3);

/// Said of a drill that was ended early.
const STOPPED: &str = "the drill was stopped before its time";

/// How to run a drill.
#[derive(Debug, Clone)]
pub struct Options {
    /// Operations started per second.
    pub rate: u32,
    /// Accounts to open.
    pub accounts: u32,
    /// Kinds of operations.
    pub mix: Mix,
    /// Seed of the load.
    pub seed: u64,
    /// How long what was broken stays broken, at least.
    pub fault: Duration,
    /// Where to write the journal.
    pub journal: PathBuf,
    /// Ends it early.
    pub stop: Stop,
}

/// What a drill showed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What was broken, e.g. `loss of chengdu-1`.
    pub fault: String,
    /// Processes killed.
    pub killed: usize,
    /// What each unit's clients saw.
    pub units: BTreeMap<UnitId, UnitOutage>,
    /// Longest outage a unit may have.
    pub outage_limit_ms: f64,
    /// Seconds from the fault until the control plane called every unit served.
    pub serving_after_s: Option<f64>,
    /// Seconds from when the fault was over until every replica was back in its sync set.
    pub whole_after_s: Option<f64>,
    /// What did not come about in time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<String>,
    /// What the load saw in all.
    pub load: Summary,
    /// What the checker found.
    pub books: VerifyReport,
}

impl Report {
    /// True if nothing was lost, doubled or invented, and everything came back.
    pub fn is_correct(&self) -> bool {
        self.books.is_clean() && self.troubles.is_empty()
    }

    /// True if every figure is within its limit, too.
    pub fn is_within_limits(&self) -> bool {
        let within = |unit: &UnitOutage| {
            unit.outage_ms <= self.outage_limit_ms && (unit.at_fault || unit.failed_otherwise == 0)
        };
        self.is_correct() && self.units.values().all(within)
    }
}

/// Why a drill could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// The folder is not a platform's.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// The control plane does not answer, or the platform was not whole before the drill.
    #[error("the platform is not ready for a drill")]
    NotReady(#[source] StatusError),
    /// No such data center or unit.
    #[error("there is no {0} here")]
    NoSuch(String),
    /// The load failed.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A planned move was refused, or did not succeed.
    #[error("the move of {unit} to {to} did not succeed: {why}")]
    Move {
        /// The unit.
        unit: UnitId,
        /// Where it was to go.
        to: DcId,
        /// The last step of the operation, or the answer.
        why: String,
    },
    /// The fault could not be brought about, or ended.
    #[error("cannot {doing}")]
    Fault {
        /// What was attempted.
        doing: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The books could not be checked.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

impl DrillError {
    fn fault(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Fault { doing, source }
    }
}

/// A platform under load, whole at the start.
struct Ground {
    platform: Platform,
    control: Control,
    load: Load,
    before: Status,
    options: Options,
}

impl Ground {
    async fn prepare(
        platform: Platform,
        options: Options,
        say: &mut impl FnMut(&str),
    ) -> Result<Self, DrillError> {
        let control = Control::of(platform.data()).map_err(DrillError::NotReady)?;
        let wait = control.wait(Goal::Whole, READY_TIMEOUT, |missing| say(&format!("waiting: {missing}")));
        wait.await.map_err(DrillError::NotReady)?;
        say("opening accounts");
        let load = Load::start(LoadOptions {
            gateways: platform.gateways.clone(),
            units: platform.unit_slots(BANK),
            rate: options.rate,
            duration: None,
            accounts: options.accounts,
            mix: options.mix,
            seed: options.seed,
            journal: options.journal.clone(),
            patience: Patience::default(),
        });
        let load = load.await?;
        say("loading");
        tokio::time::sleep(WARM_UP).await;
        let before = control.status().await.map_err(DrillError::NotReady)?;
        Ok(Self { platform, control, load, before, options })
    }

    /// Lets the fault last until then, or until the drill is stopped; that then is one of the troubles.
    async fn last(&self, until: Instant, troubles: &mut Vec<String>) {
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            () = self.options.stop.pressed() => {}
        }
        if self.options.stop.is_pressed() {
            troubles.push(STOPPED.to_owned());
        }
    }

    /// Between two moves.
    async fn pause(&self) {
        tokio::select! {
            () = tokio::time::sleep(self.options.fault) => {}
            () = self.options.stop.pressed() => {}
        }
    }

    /// Waits until the units concerned have been taken over and all units serve. Before the control plane notices
    /// the fault it still calls them serving; the epoch tells the difference.
    async fn reach_serving(
        &self,
        concerned: impl Fn(&UnitId, &DcId) -> bool,
        troubles: &mut Vec<String>,
        mut say: impl FnMut(&str),
    ) -> bool {
        let stale = |now: &Status| {
            let mut units = self.before.units.iter();
            let stale = units.find(|(name, before)| {
                let before = &before.unit.status;
                concerned(name, &before.home) && now.units[*name].unit.status.epoch <= before.epoch
            });
            stale.map(|(name, _)| format!("{name} was not taken over yet"))
        };
        let missing = |now: &Status| stale(now).or_else(|| now.missing(Goal::Serving));
        let say = |missing: &str| say(&format!("waiting: {missing}"));
        tokio::select! {
            reached = self.control.wait_for(SERVING_TIMEOUT, missing, say) => note(&reached, troubles),
            () = self.options.stop.pressed() => false,
        }
    }

    /// Waits until every replica is back.
    async fn reach_whole(&self, troubles: &mut Vec<String>, mut say: impl FnMut(&str)) -> Option<f64> {
        let began = Instant::now();
        let say = |missing: &str| say(&format!("waiting: {missing}"));
        let reached = self.control.wait(Goal::Whole, WHOLE_TIMEOUT, say).await;
        note(&reached, troubles).then(|| began.elapsed().as_secs_f64())
    }

    /// Ends the load, checks the books, and puts everything together.
    async fn finish(self, fault: Fault, say: &mut impl FnMut(&str)) -> Result<Report, DrillError> {
        let (journal, before) = (self.options.journal.clone(), self.before.clone());
        let after = self.control.status().await.ok();
        let (load, books) = self.settle(say).await?;
        let mut units = outage::by_unit(&journal, &load.run, &fault)?;
        for (name, unit) in before.units {
            let outage = units.entry(name.clone()).or_default();
            let home = unit.unit.status.home;
            outage.at_fault = fault.concerns(&name, &home);
            outage.home_before = Some(home);
            outage.home_after = after.as_ref().map(|after| after.units[&name].unit.status.home.clone());
        }
        Ok(Report {
            fault: fault.name,
            killed: fault.killed,
            units,
            outage_limit_ms: fault.limit.as_secs_f64() * 1000.0,
            serving_after_s: fault.serving_after_s,
            whole_after_s: fault.whole_after_s,
            troubles: fault.troubles,
            load,
            books,
        })
    }

    /// Ends the load and checks the books.
    async fn settle(self, say: &mut impl FnMut(&str)) -> Result<(Summary, VerifyReport), DrillError> {
        tokio::time::sleep(COOL_DOWN).await;
        say("stopping the load");
        let load = self.load.stop().await?;
        let journal = Journal::read(&self.options.journal)?;
        let sources = UnitSource::of_platform(&self.platform);
        let books = verify::verify(&sources, Some(&journal), verify::Options::default(), say).await?;
        Ok((load, books))
    }
}

/// True if what was waited for came about; else it is one of the troubles.
fn note(reached: &Result<Status, StatusError>, troubles: &mut Vec<String>) -> bool {
    if let Err(error) = reached {
        troubles.push(error.to_string());
    }
    reached.is_ok()
}

/// What was broken and when, in microseconds of the load's clock.
struct Fault {
    name: String,
    /// The data center lost, if it was one.
    dc: Option<DcId>,
    /// The unit concerned, if it was one alone.
    unit: Option<UnitId>,
    limit: Duration,
    killed: usize,
    /// When the first process was killed.
    began_us: u64,
    /// When the last one was gone.
    dead_us: u64,
    /// When it was over: what happens later belongs to the return.
    over_us: u64,
    serving_after_s: Option<f64>,
    whole_after_s: Option<f64>,
    troubles: Vec<String>,
}

impl Fault {
    /// True if the unit lost its home by it.
    fn concerns(&self, unit: &UnitId, home: &DcId) -> bool {
        self.unit.as_ref() == Some(unit) || self.dc.as_ref() == Some(home)
    }
}
