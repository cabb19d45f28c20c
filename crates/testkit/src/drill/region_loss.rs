//! The loss of a region with commits that are nowhere else: the platform refuses, says what may be missing, and goes on by
//! order of two operators; when the region returns, what was lost is written down.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use dujiang_identity::Identity;
use dujiang_types::exposure::Behind;
use dujiang_types::operation::{Operation, OperationState, Work};
use dujiang_types::{DcId, UnitId};
use nix::sys::signal::Signal;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::dc_loss::Power;
use super::{DrillError, Ground, Options, WHOLE_TIMEOUT, note};
use crate::journal::Journal;
use crate::load::Summary;
use crate::losses::{self, Acknowledged, Answers};
use crate::platform::Platform;
use crate::processes::{self, Process};
use crate::status::{Control, Goal, Status, StatusError};
use crate::verify::{self, Report as VerifyReport, UnitSource};

/// For replicas that stand still to leave the sync sets, and for the platform to say why it does not go on.
const TOLD_TIMEOUT: Duration = Duration::from_secs(60);
/// For an operator to approve what another one has asked for: as long as the platform lets them.
const APPROVAL_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// For what was ordered to be carried out.
const ORDER_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What a region's loss is drilled with, beyond what every drill has.
#[derive(Debug, Clone)]
pub struct Region {
    /// Its data centers, which are lost at once.
    pub lost: BTreeSet<DcId>,
    /// For how long before its loss the others get no log: what is acknowledged then is lost.
    pub lag: Duration,
    /// The identity that approves what is asked for; `None`: an operator does, and is waited for.
    pub approver: Option<PathBuf>,
}

/// What the platform said of a unit whose home was lost, and what became of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct UnitLoss {
    /// Why it did not go on by itself.
    pub refused: String,
    /// What may be missing, as it was shown to whoever approved: the last known positions.
    pub shown: Option<Behind>,
    /// For how long beyond that the home may have gone on, in milliseconds.
    pub unheard_ms: u64,
    /// Home at the end.
    pub home_after: Option<DcId>,
    /// Transfers in the manifests of the returned replicas.
    pub lost: usize,
    /// Those of them a client was told are done.
    pub acknowledged: usize,
}

/// What the drill showed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RegionReport {
    /// The data centers lost.
    pub lost: BTreeSet<DcId>,
    /// Processes killed.
    pub killed: usize,
    /// Units that had their home there.
    pub units: BTreeMap<UnitId, UnitLoss>,
    /// Operations that two operators stood behind.
    pub ordered: Vec<String>,
    /// Seconds from the loss until every unit was served again, two operators' orders included.
    pub serving_after_s: Option<f64>,
    /// Payments acknowledged between then and the return of the region.
    pub paid_meanwhile: u64,
    /// Seconds from the return until every replica was back.
    pub whole_after_s: Option<f64>,
    /// What did not come about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<String>,
    /// What the load saw in all.
    pub load: Summary,
    /// What the checker found, manifests accepted.
    pub books: VerifyReport,
}

impl RegionReport {
    /// True if nothing was lost but what manifests name, and everything came about.
    pub fn is_correct(&self) -> bool {
        self.books.is_clean() && self.troubles.is_empty()
    }
}

/// Cuts the log off from the data centers that stay, loses the others all at once under load, has the rest go on by order
/// of two operators, brings the region back, and compares what the manifests say with the books.
///
/// The load pays within units only: of a transfer between units one half may be lost and the other not, and then the
/// books say so until the corrections are posted.
pub async fn region_loss(
    platform: Platform,
    region: &Region,
    options: Options,
    mut say: impl FnMut(&str),
) -> Result<RegionReport, DrillError> {
    let all: BTreeSet<DcId> = platform.gateways.iter().map(|gateway| gateway.dc.clone()).collect();
    if let Some(unknown) = region.lost.iter().find(|dc| !all.contains(*dc)) {
        return Err(DrillError::NoSuch(format!("data center {unknown}")));
    }
    let rest: BTreeSet<DcId> = all.difference(&region.lost).cloned().collect();
    if region.lost.is_empty() || rest.is_empty() {
        return Err(DrillError::NoSuch("region that is a part of the platform".to_owned()));
    }
    let ground = Ground::prepare(platform, options, &mut say).await?;
    let concerned: Vec<UnitId> = ground
        .before
        .units
        .iter()
        .filter(|(_, view)| region.lost.contains(&view.unit.status.home))
        .map(|(name, _)| name.clone())
        .collect();
    let mut drill =
        Drill { region, rest, concerned, units: BTreeMap::new(), ordered: Vec::new(), troubles: Vec::new() };
    let (killed, power, began) = drill.lose(&ground, &mut say).await?;
    let serving_after_s = drill.go_on(&ground, &mut say).await?.then(|| began.elapsed().as_secs_f64());
    let paid_before = ground.load.progress().acknowledged();
    say("paying on without the region");
    ground.last(Instant::now() + ground.options.fault, &mut drill.troubles).await;
    let paid_meanwhile = ground.load.progress().acknowledged() - paid_before;
    if paid_meanwhile == 0 {
        drill.troubles.push("nothing was paid while the region was away".to_owned());
    }
    say("the region comes back");
    for power in power {
        power.on().map_err(DrillError::fault("switch the region on"))?;
    }
    let whole_after_s = ground.reach_whole(&mut drill.troubles, &mut say).await;
    drill.finish(ground, Figures { killed, serving_after_s, paid_meanwhile, whole_after_s }, &mut say).await
}

/// What is measured on the way.
struct Figures {
    killed: usize,
    serving_after_s: Option<f64>,
    paid_meanwhile: u64,
    whole_after_s: Option<f64>,
}

struct Drill<'a> {
    region: &'a Region,
    rest: BTreeSet<DcId>,
    /// Units with their home in the region.
    concerned: Vec<UnitId>,
    units: BTreeMap<UnitId, UnitLoss>,
    ordered: Vec<String>,
    troubles: Vec<String>,
}

impl Drill<'_> {
    /// Has commits acknowledged that are in the region alone, and loses it.
    async fn lose(
        &mut self,
        ground: &Ground,
        say: &mut impl FnMut(&str),
    ) -> Result<(usize, Vec<Power>, Instant), DrillError> {
        let platform = &ground.platform;
        say("cutting the log off from the data centers that stay");
        let frozen = Frozen::stop(platform, &self.rest, &self.concerned)
            .map_err(DrillError::fault("stop the replicas that stay"))?;
        let still_waited_for = |status: &Status| {
            let waits = |name: &&UnitId| {
                let set = status.units[*name].unit.status.wanted_set();
                set.is_none_or(|set| set.members.iter().any(|dc| self.rest.contains(dc)))
            };
            self.concerned
                .iter()
                .find(waits)
                .map(|name| format!("{name} still waits for a replica that stays"))
        };
        let degraded = ground.control.wait_for(TOLD_TIMEOUT, still_waited_for, |_| {}).await;
        note(&degraded, &mut self.troubles);
        tokio::select! {
            () = sleep(self.region.lag) => {}
            () = ground.options.stop.pressed() => {}
        }
        let dcs = self.region.lost.iter().map(DcId::as_str).collect::<Vec<_>>().join(" and ");
        say(&format!("killing {dcs}"));
        let cannot = || DrillError::fault(format!("kill {dcs}"));
        let mut killed = 0;
        for dc in &self.region.lost {
            killed += processes::find(platform.data(), Some(dc)).map_err(cannot())?.len();
        }
        let began = Instant::now();
        let power: Vec<Power> = (self.region.lost.iter().map(|dc| Power::off(platform, dc)))
            .collect::<io::Result<_>>()
            .map_err(cannot())?;
        let (data, lost) = (platform.data().to_owned(), self.region.lost.clone());
        // The runtime goes on: the load must not stand still while we kill.
        let gone = tokio::task::spawn_blocking(move || {
            lost.iter().try_for_each(|dc| processes::kill_all(&data, Some(dc)).map(drop))
        });
        gone.await.map_err(io::Error::other).flatten().map_err(cannot())?;
        drop(frozen);
        Ok((killed, power, began))
    }

    /// Sees the platform refuse, and has it go on by order. True if every unit is served again.
    async fn go_on(&mut self, ground: &Ground, say: &mut impl FnMut(&str)) -> Result<bool, DrillError> {
        let refused = |status: &Status| {
            let silent = |name: &&UnitId| !status.units[*name].waiting.starts_with("nothing-lost");
            self.concerned.iter().find(silent).map(|name| format!("{name}: {}", status.units[name].waiting))
        };
        say("waiting until the platform says why it does not go on");
        let told = ground.control.wait_for(TOLD_TIMEOUT, refused, |missing| say(missing)).await;
        if !note(&told, &mut self.troubles) {
            return Ok(false);
        }
        let told = told.map_err(DrillError::NotReady)?;
        let operators = Operators::of(ground, self.region.approver.as_ref())?;
        for name in self.concerned.clone() {
            let view = &told.units[&name];
            let mut seen = UnitLoss { refused: view.waiting.clone(), ..UnitLoss::default() };
            // Whoever has most of the log, as far as it is heard.
            let reach = |dc: &&DcId| {
                let report = view.replicas.get(*dc).filter(|replica| replica.known)?.report.as_ref()?;
                report.position
            };
            let to = self.rest.iter().filter(|dc| reach(dc).is_some()).max_by_key(reach);
            let Some(to) = to.cloned() else {
                self.troubles.push(format!("no replica of {name} is left"));
                continue;
            };
            let work = Work::ForcePromote { unit: name.clone(), to };
            match operators.order(work, say).await {
                Ok(operation) => {
                    if let Some(approval) = operation.status.approval {
                        seen.shown = approval.missing.known;
                        seen.unheard_ms = approval.missing.unheard_ms;
                    }
                    self.ordered.push(operation.name);
                }
                Err(why) => self.troubles.push(format!("{name} is not promoted: {why}")),
            }
            self.units.insert(name, seen);
        }
        if self.rest.len() == 1 {
            // Nobody else is left to have what is acknowledged.
            for name in ground.before.units.keys() {
                match operators.order(Work::RunAlone { unit: name.clone() }, say).await {
                    Ok(operation) => self.ordered.push(operation.name),
                    Err(why) => self.troubles.push(format!("{name} does not acknowledge alone: {why}")),
                }
            }
        }
        let missing = |status: &Status| {
            let waits = |view: &crate::status::UnitView| {
                view.unit.status.wanted_set().is_none_or(|set| set.members.len() < usize::from(set.need))
            };
            let waiting = status.units.iter().find(|(_, view)| waits(view));
            waiting
                .map(|(name, _)| format!("{name} waits for replicas"))
                .or_else(|| status.missing(Goal::Serving))
        };
        let serving = ground.control.wait_for(WHOLE_TIMEOUT, missing, |missing| say(missing)).await;
        Ok(note(&serving, &mut self.troubles))
    }

    /// Ends the load, reads the manifests, and checks the books by them.
    async fn finish(
        mut self,
        ground: Ground,
        figures: Figures,
        say: &mut impl FnMut(&str),
    ) -> Result<RegionReport, DrillError> {
        sleep(super::COOL_DOWN).await;
        say("stopping the load");
        let after = ground.control.status().await.map_err(DrillError::NotReady)?;
        let Ground { platform, load, options, .. } = ground;
        let load = load.stop().await?;
        let journal = Journal::read(&options.journal)?;
        let unreadable = || DrillError::fault("read what was lost");
        let mut sources = UnitSource::of_platform(&platform);
        for source in &mut sources {
            source.accept_losses(&platform).map_err(unreadable())?;
        }
        let books = verify::verify(&sources, Some(&journal), verify::Options::default(), &mut *say).await?;
        let answers = Answers::read(platform.data()).map_err(unreadable())?;
        for name in &self.concerned {
            let manifests = losses::manifests(platform.data(), Some(name)).map_err(unreadable())?;
            for (file, manifest) in &manifests {
                if let Some(why) = &manifest.incomplete {
                    self.troubles.push(format!("{} is not complete: {why}", file.display()));
                }
            }
            let in_books = losses::in_the_books(&sources, &losses::keys(&manifests)).await?;
            let lost = losses::compare(&manifests, &answers, &in_books);
            let seen = self.units.entry(name.clone()).or_default();
            seen.home_after = Some(after.units[name].unit.status.home.clone());
            seen.lost = lost.len();
            let told = |lost: &&losses::Lost| lost.acknowledged == Acknowledged::Yes;
            seen.acknowledged = lost.iter().filter(told).count();
        }
        let Figures { killed, serving_after_s, paid_meanwhile, whole_after_s } = figures;
        Ok(RegionReport {
            lost: self.region.lost.clone(),
            killed,
            units: self.units,
            ordered: self.ordered,
            serving_after_s,
            paid_meanwhile,
            whole_after_s,
            troubles: self.troubles,
            load,
            books,
        })
    }
}

/// One who asks, and one who approves.
struct Operators<'a> {
    first: &'a Control,
    second: Option<Control>,
}

impl<'a> Operators<'a> {
    fn of(ground: &'a Ground, approver: Option<&PathBuf>) -> Result<Self, DrillError> {
        let other = |file: &PathBuf| {
            let identity = Identity::from_file(file).map_err(StatusError::Identity)?;
            ground.control.as_other(&identity)
        };
        let second = approver.map(other).transpose().map_err(DrillError::NotReady)?;
        Ok(Self { first: &ground.control, second })
    }

    /// Asks until it is not refused any more, and sees it approved. What stood in the way if it does not come to that.
    async fn order(&self, work: Work, say: &mut impl FnMut(&str)) -> Result<Operation, String> {
        let deadline = Instant::now() + ORDER_TIMEOUT;
        let asked = loop {
            match self.first.ask_for(work.clone()).await {
                Ok(asked) => break asked,
                Err(refused) if Instant::now() >= deadline => return Err(refused.to_string()),
                // What was ordered before has to be carried out first.
                Err(_) => sleep(LOOK_EVERY).await,
            }
        };
        if let Some(second) = &self.second {
            return second.approve(&asked.name).await.map_err(|e| e.to_string());
        }
        let deadline = Instant::now() + APPROVAL_TIMEOUT;
        loop {
            say(&format!("another operator has to approve: dujiang approve {}", asked.name));
            let now = self.first.operation(&asked.name).await.map_err(|e| e.to_string())?;
            match now.status.state {
                OperationState::Awaiting if Instant::now() < deadline => sleep(LOOK_EVERY).await,
                OperationState::Awaiting => return Err("nobody has approved it".to_owned()),
                _ => return Ok(now),
            }
        }
    }
}

/// Databases that stand still. Dropping it lets them go on: a drill that is interrupted leaves nothing behind.
struct Frozen(Vec<Process>);

impl Frozen {
    /// Those of these units in these data centers.
    fn stop(platform: &Platform, dcs: &BTreeSet<DcId>, units: &[UnitId]) -> io::Result<Self> {
        let mut frozen = Self(Vec::new());
        for dc in dcs {
            let folder = std::fs::canonicalize(platform.data())?.join("dc").join(dc.as_str()).join("units");
            let folders: Vec<PathBuf> =
                units.iter().map(|unit| folder.join(unit.as_str()).join("pgdata")).collect();
            for process in processes::find(platform.data(), Some(dc))? {
                let cwd = std::fs::read_link(format!("/proc/{}/cwd", process.pid));
                if cwd.is_ok_and(|cwd| folders.contains(&cwd)) {
                    process.signal(Signal::SIGSTOP)?;
                    frozen.0.push(process);
                }
            }
        }
        Ok(frozen)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for process in &self.0 {
            // One that is gone needs nothing.
            let _ = process.signal(Signal::SIGCONT);
        }
    }
}
