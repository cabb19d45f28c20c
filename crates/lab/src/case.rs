//! One case: a fault at a moment, and what came of it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use dujiang_testkit::cluster::{Cluster, ClusterError};
use dujiang_testkit::journal::{self, JournalError, Line, Outcome};
use dujiang_testkit::load::{LoadError, Mix, Patience};
use dujiang_testkit::status::{Goal, Status, StatusError};
use dujiang_types::unit::Phase;
use dujiang_types::{DcId, UnitId};
use jiff::Timestamp;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::books;
use crate::clock::Clock;
use crate::customers::{Loads, Within};
use crate::disk::Disk;
use crate::fault::{Fault, Ground, LASTS, Target};
use crate::nets::{Lab, LabError};
use crate::observer::Observer;

/// After a fault was mended every unit has to be whole within this: a base backup on a busy machine is part of it.
pub const WHOLE_MAX: Duration = Duration::from_secs(120);
/// For a moment to come about.
const MOMENT_MAX: Duration = Duration::from_secs(15);
/// Between two looks while a moment is waited for: holding and sealing take some hundred milliseconds.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// An immediate shutdown takes a fraction of a second.
const QUIT_MAX: Duration = Duration::from_secs(2);
/// Load before the fault, so that every unit has something under way.
const WARM_UP: Duration = Duration::from_millis(1_500);
/// Operations a second at the bank.
const RATE: u32 = 30;
/// Transactions a second over lists, of customers outside.
const RATE_LISTS: u32 = 8;
/// And of those in each data center, who reach its gateway only: they would be shown what a primary that is cut off still
/// says.
const RATE_WITHIN: u32 = 2;
/// A customer in a data center that is cut off gives up soon, or it would be waited for.
const PATIENCE_WITHIN: Patience = Patience { answer: Duration::from_secs(2), attempts: 1 };

/// Violations told of one case.
const TOLD_MAX: usize = 5;

/// When a fault happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Moment {
    /// Nobody pays.
    Idle,
    /// Payments all the time; and in all the following.
    Load,
    /// A planned move of the unit is under way.
    Move,
    /// The unit's primary was killed, and nobody has taken over yet.
    Failover,
    /// A replica of the unit is made anew.
    Rebuild,
}

impl Moment {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 5] = [Self::Idle, Self::Load, Self::Move, Self::Failover, Self::Rebuild];
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "idle",
            Self::Load => "under load",
            Self::Move => "mid-move",
            Self::Failover => "mid-failover",
            Self::Rebuild => "mid-rebuild",
        })
    }
}

/// What came of a case.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Longest time without an acknowledged payment that any unit had, in seconds; none without load.
    pub outage_s: Option<f64>,
    /// From when the fault was mended until everything was whole, in seconds.
    pub whole_s: Option<f64>,
    /// Payments acknowledged.
    pub acknowledged: u64,
    /// Transactions over lists acknowledged.
    pub transactions: u64,
    /// What must not be: violations of the books, two primaries, or that it did not come back in time.
    pub wrong: Vec<String>,
    /// Why the case could not be brought about; it then says nothing.
    pub not_done: Option<String>,
}

/// Why a case could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// The laboratory.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The platform.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The control plane.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// The fault.
    #[error("cannot break or mend")]
    Break(#[from] io::Error),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The load.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// A platform in the laboratory, watched all the time.
#[derive(Debug)]
pub struct Bench {
    /// What there is to break.
    pub ground: Ground,
    /// The eye on its databases.
    pub observer: Observer,
    seed: u64,
}

/// What a bench has beside networks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extras {
    /// A disk of the laboratory's for the first data center.
    pub disk: bool,
    /// A clock of the laboratory's for the first data center.
    pub clock: bool,
}

/// The data center that has them, and most of what goes wrong.
pub fn first_dc() -> DcId {
    DcId::new("chengdu-1").unwrap_or_else(|_| unreachable!("it is a valid name"))
}

fn unit(number: usize) -> UnitId {
    UnitId::new(format!("unit-{number}")).unwrap_or_else(|_| unreachable!("it is a valid name"))
}

/// The unit of the bank that most faults are about, and that of the lists: so both checkers see what came of them.
const FIRST: [usize; 2] = [1, 4];
/// Whose primaries are killed for a fault in the midst of their failover: it is to meet who takes over.
const FAILING: [usize; 2] = [2, 4];

impl Bench {
    /// A platform with its control plane in all three data centers, whole.
    pub async fn set_up(lab: &Lab, extras: Extras, seed: u64) -> Result<Self, CaseError> {
        lab.heal();
        let mut nets = lab.nets();
        let beside = tempfile::tempdir()?.keep();
        let clock = if extras.clock { Clock::make(&beside)? } else { None };
        if let (Some(clock), Some(launcher)) = (&clock, nets.launchers.first_mut()) {
            launcher.extend(clock.launcher());
        }
        let cluster = Cluster::prepare_in(nets)?.with_lists(&[])?.up_ha().await?;
        let disk = if extras.disk { Some(Disk::install(cluster.data(), &first_dc())?) } else { None };
        cluster.whole().await?;
        books::open(lab, &cluster);
        let observer = Observer::start(&cluster.platform()?);
        Ok(Self { ground: Ground { lab: lab.clone(), cluster, disk, clock }, observer, seed })
    }

    fn cluster(&self) -> &Cluster {
        &self.ground.cluster
    }

    async fn status(&self) -> Result<Status, CaseError> {
        Ok(self.cluster().control()?.status().await?)
    }

    /// Starts loads, on accounts and lists of their own.
    pub async fn load(&mut self, mix: Mix) -> Result<Loads, CaseError> {
        self.seed += 1;
        let bank = self.cluster().load(RATE, mix, self.seed).await?;
        let lists = self.cluster().load_lists(RATE_LISTS, self.seed)?;
        let gateways = self.cluster().platform()?.gateways;
        let within = Within::start(&self.ground.lab, &lists, gateways, RATE_WITHIN, PATIENCE_WITHIN);
        Ok(Loads { bank, lists, within })
    }

    /// Brings the units that most faults are about back to the first data center.
    async fn bring_home(&self) -> Result<Target, CaseError> {
        let (dc, units) = (first_dc(), FIRST.map(unit).to_vec());
        let control = self.cluster().control()?;
        let status = self.cluster().whole().await?;
        let away = |status: &Status, unit: &UnitId| status.units[unit].unit.status.home != dc;
        for unit in units.iter().filter(|unit| away(&status, unit)) {
            control.ask_move(unit, &dc).await?;
        }
        let missing = |status: &Status| {
            let still = units.iter().find(|unit| away(status, unit));
            still.map(|unit| format!("{unit} is still away")).or_else(|| status.missing(Goal::Whole))
        };
        control.wait_for(WHOLE_MAX, missing, |_| {}).await?;
        let leader = DcId::new(self.status().await?.leader).unwrap_or_else(|_| dc.clone());
        Ok(Target { dc, units, leader })
    }

    /// Carries a case out.
    pub async fn run(&mut self, fault: Fault, moment: Moment) -> Result<Finding, CaseError> {
        let target = self.bring_home().await?;
        let load = match moment {
            Moment::Idle => None,
            _ => Some(self.load(Mix::default()).await?),
        };
        let mut result = Finding::default();
        tokio::time::sleep(WARM_UP).await;
        if let Err(why) = self.come_about(moment, &target).await? {
            result.not_done = Some(why);
        } else {
            let began = Timestamp::now();
            match self.ground.break_it(fault, &target) {
                Ok(broken) => {
                    if fault == Fault::IgnoresShutdown && moment != Moment::Move {
                        // Only a move asks for one.
                        for unit in &target.units {
                            let _ = self.cluster().control()?.ask_move(unit, &other_than(&target.dc)).await;
                        }
                    }
                    tokio::time::sleep(LASTS).await;
                    self.ground.mend(broken, &[])?;
                }
                Err(error) => result.not_done = Some(error.to_string()),
            }
            self.settle(&mut result).await?;
            if let Some(load) = load {
                let run = load.run().to_owned();
                result.transactions = load.stop().await?.1.total.acknowledged;
                self.judge(&mut result, Some((&run, began))).await?;
            } else {
                self.judge(&mut result, None).await?;
            }
            return Ok(result);
        }
        if let Some(load) = load {
            load.stop().await?;
        }
        Ok(result)
    }

    /// Waits until everything is whole again.
    pub async fn settle(&self, result: &mut Finding) -> Result<(), CaseError> {
        let mended = Instant::now();
        match self.cluster().control()?.wait(Goal::Whole, WHOLE_MAX, |_| {}).await {
            Ok(_) => result.whole_s = Some(mended.elapsed().as_secs_f64()),
            Err(error) => result.wrong.push(format!("did not come back: {error}")),
        }
        Ok(())
    }

    /// What the journal, the books and the eye say.
    pub async fn judge(
        &self,
        result: &mut Finding,
        load: Option<(&str, Timestamp)>,
    ) -> Result<(), CaseError> {
        result.wrong.extend(self.observer.take_twice().into_iter().take(3));
        if let Some((run, began)) = load {
            let (outage_s, acknowledged) = outage(self.cluster(), run, began)?;
            (result.outage_s, result.acknowledged) = (Some(outage_s), acknowledged);
        }
        if !self.cluster().journal().exists() {
            return Ok(());
        }
        match books::verify(self.cluster()).await {
            Ok(report) => {
                let told = report.violations.iter().take(TOLD_MAX);
                result.wrong.extend(told.map(|violation| format!("{}: {}", violation.rule, violation.what)));
            }
            Err(error) => result.wrong.push(error.to_string()),
        }
        Ok(())
    }

    /// Waits for the moment; says why it does not come.
    async fn come_about(&self, moment: Moment, target: &Target) -> Result<Result<(), String>, CaseError> {
        let control = self.cluster().control()?;
        let reached: Box<dyn Fn(&Status) -> bool + Send> = match moment {
            Moment::Idle | Moment::Load => return Ok(Ok(())),
            Moment::Move => {
                for unit in &target.units {
                    control.ask_move(unit, &other_than(&target.dc)).await?;
                }
                let units = target.units.clone();
                Box::new(move |status| units.iter().any(|unit| is_changing(status, unit)))
            }
            Moment::Failover => {
                let (units, status) = (FAILING.map(unit), self.status().await?);
                for unit in &units {
                    let home = &status.units[unit].unit.status.home;
                    if let Some(postmaster) = self.cluster().postmaster(home, unit)? {
                        postmaster.signal(Signal::SIGKILL)?;
                    }
                }
                Box::new(move |status| units.iter().any(|unit| is_changing(status, unit)))
            }
            Moment::Rebuild => {
                for unit in &target.units {
                    self.wipe(&other_than(&target.dc), unit)?;
                }
                let units = target.units.clone();
                Box::new(move |status| units.iter().any(|unit| status.units[unit].missing().is_some()))
            }
        };
        let deadline = Instant::now() + MOMENT_MAX;
        while Instant::now() < deadline {
            if self.status().await.is_ok_and(|status| reached(&status)) {
                return Ok(Ok(()));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(Err(format!("it was never {moment}")))
    }

    /// Kills a replica and takes its data away.
    fn wipe(&self, dc: &DcId, unit: &UnitId) -> Result<(), CaseError> {
        let folder = self.cluster().data().join("dc").join(dc.as_str()).join("units").join(unit.as_str());
        self.end(dc, unit)?;
        // It may be started again meanwhile; what it still writes goes with the rest.
        let away = folder.join("wiped");
        fs::rename(folder.join("pgdata"), &away)?;
        self.end(dc, unit)?;
        Ok(fs::remove_dir_all(&away)?)
    }

    /// Ends a database at once, and yet so that it gives its shared memory back: without its data nobody could find that any
    /// more. One that does not heed it is killed.
    fn end(&self, dc: &DcId, unit: &UnitId) -> Result<(), CaseError> {
        let Some(postmaster) = self.cluster().postmaster(dc, unit)? else { return Ok(()) };
        postmaster.signal(Signal::SIGQUIT)?;
        let deadline = Instant::now() + QUIT_MAX;
        while postmaster.lives() && Instant::now() < deadline {
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(postmaster.kill()?)
    }
}

fn is_changing(status: &Status, unit: &UnitId) -> bool {
    status.units[unit].unit.status.phase != Phase::Serving
}

fn other_than(dc: &DcId) -> DcId {
    let name = if dc.as_str() == "chengdu-2" { "guiyang-1" } else { "chengdu-2" };
    DcId::new(name).unwrap_or_else(|_| dc.clone())
}

/// Longest time between two acknowledged payments of any unit since the fault, in seconds, and how many there were.
fn outage(cluster: &Cluster, run: &str, began: Timestamp) -> Result<(f64, u64), JournalError> {
    let mut last = BTreeMap::<UnitId, Timestamp>::new();
    let (mut longest, mut count) = (0.0_f64, 0);
    journal::scan(&cluster.journal(), |line| {
        let Line::Ended(ended) = line else { return };
        if !ended.key.starts_with(run) || !matches!(ended.outcome, Outcome::Acknowledged(_)) {
            return;
        }
        count += 1;
        let before = last.insert(ended.unit.clone(), ended.at).unwrap_or(ended.at);
        if ended.at > began {
            longest = longest.max(ended.at.duration_since(before).as_secs_f64());
        }
    })?;
    Ok((longest, count))
}
