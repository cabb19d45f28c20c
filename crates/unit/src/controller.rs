//! The control plane's decision about one unit.
//!
//! [`decide`] looks at the committed record, the latest reports and the time, and either keeps the record or
//! changes it by exactly one transition. It is level-triggered: called again with the same input it answers the
//! same, and a change that was lost on the way to the store is simply decided again.

use std::collections::{BTreeMap, BTreeSet};

use dujiang_types::operation::{Operation, OperationState, Step, Work};
use dujiang_types::report::{DataState, GatewayReport, ReplicaReport, ReplicaState, StandbyReport};
use dujiang_types::unit::{Claim, Durability, Phase, SyncSet, Unit, UnitStatus};
use dujiang_types::{DcId, OperationId, Position, Revision, UnitId};
use jiff::Timestamp;

use crate::Timing;
use crate::election::{Detached, winner};

/// A report and how long ago it arrived.
#[derive(Debug, Clone)]
pub struct Seen<R> {
    /// The latest report.
    pub report: R,
    /// Milliseconds since it arrived.
    pub age_ms: u64,
}

/// What the controller remembers of a unit between decisions. Volatile: a controller that starts assumes the
/// worst ([`Memory::new`]), which only ever delays it.
#[derive(Debug, Clone)]
pub struct Memory {
    /// When a lease may last have been granted.
    pub last_grant_ms: u64,
    observed_ms: u64,
    phase_since_ms: u64,
    phase_of: Option<(Phase, dujiang_types::Epoch)>,
    not_streaming_since_ms: BTreeMap<DcId, u64>,
    home_stopped_in_order: bool,
}

impl Memory {
    /// Memory of a controller that has just started (or just heard of the unit): the controller before it may
    /// have granted a lease a moment ago.
    pub fn new(now_ms: u64) -> Self {
        Self {
            last_grant_ms: now_ms,
            observed_ms: now_ms,
            phase_since_ms: now_ms,
            phase_of: None,
            not_streaming_since_ms: BTreeMap::new(),
            home_stopped_in_order: false,
        }
    }

    fn observe(&mut self, view: &View) {
        let status = &view.unit.status;
        let now_ms = view.now_ms;
        if now_ms.saturating_sub(self.observed_ms) > view.timing.fresh_ms {
            // This controller was frozen, and everybody's silence is its own. Begin as after a start.
            self.last_grant_ms = now_ms;
            self.not_streaming_since_ms.clear();
        }
        self.observed_ms = now_ms;
        let phase = (status.phase.clone(), status.epoch);
        if self.phase_of.as_ref() != Some(&phase) {
            self.phase_of = Some(phase);
            self.phase_since_ms = now_ms;
        }
        if let Some(report) = view.fresh(&status.home)
            && let ReplicaState::Stopped { sealed } = &report.state
        {
            self.home_stopped_in_order = sealed.is_some();
        }
        let streaming = view.home_standbys().map(streaming_of).unwrap_or_default();
        for dc in &view.unit.spec.replicas {
            if streaming.contains(dc) {
                self.not_streaming_since_ms.remove(dc);
            } else {
                self.not_streaming_since_ms.entry(dc.clone()).or_insert(now_ms);
            }
        }
    }

    fn lost_for_ms(&self, dc: &DcId, now_ms: u64) -> u64 {
        self.not_streaming_since_ms.get(dc).map_or(0, |since| now_ms.saturating_sub(*since))
    }
}

/// Everything [`decide`] looks at.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The committed record.
    pub unit: &'a Unit,
    /// Latest report of each replica's agent about this unit. A missing one is *unknown*.
    pub reports: &'a BTreeMap<DcId, Seen<ReplicaReport>>,
    /// Latest report of each gateway.
    pub gateways: &'a BTreeMap<DcId, Seen<GatewayReport>>,
    /// The oldest pending move of this unit.
    pub requested: Option<&'a Operation>,
    /// Now, on a clock that never jumps.
    pub now_ms: u64,
    /// Now, on the wall, for people.
    pub wall: Timestamp,
    /// Budgets.
    pub timing: &'a Timing,
}

impl View<'_> {
    fn fresh(&self, dc: &DcId) -> Option<&ReplicaReport> {
        self.reports.get(dc).filter(|seen| seen.age_ms <= self.timing.fresh_ms).map(|seen| &seen.report)
    }

    fn others(&self) -> impl Iterator<Item = &DcId> {
        self.unit.spec.replicas.iter().filter(|dc| **dc != self.unit.status.home)
    }

    fn home_standbys(&self) -> Option<&BTreeMap<DcId, StandbyReport>> {
        match &self.fresh(&self.unit.status.home)?.state {
            ReplicaState::Primary { epoch, standbys, .. } if *epoch == self.unit.status.epoch => {
                Some(standbys)
            }
            _ => None,
        }
    }

    /// Replicas detached under the record's epoch. Their age does not matter: an agent that has detached under
    /// an epoch never receives under a lower one again.
    fn detached(&self) -> BTreeMap<DcId, Detached> {
        let epoch = self.unit.status.epoch;
        let mut detached = BTreeMap::new();
        for dc in &self.unit.spec.replicas {
            let Some(seen) = self.reports.get(dc) else { continue };
            if let (
                ReplicaState::Detached { epoch: under },
                Some(position),
                DataState::Present { primary_epoch },
            ) = (&seen.report.state, seen.report.position, &seen.report.data)
                && *under == epoch
            {
                detached.insert(dc.clone(), Detached { position, primary_epoch: *primary_epoch });
            }
        }
        detached
    }

    /// Why the home can be known not to acknowledge, if it can.
    fn fenced(&self, memory: &Memory) -> Option<&'static str> {
        let status = &self.unit.status;
        if let Some(seen) = self.reports.get(&status.home)
            && seen.report.revision >= self.unit.revision
            && surely_not_primary(&seen.report.state)
        {
            return Some("its agent says it does not run");
        }
        let lapse_ms = memory.last_grant_ms + self.timing.lease_ms + self.timing.margin_ms;
        (self.now_ms > lapse_ms).then_some("its lease has run out")
    }

    fn promised_ms(&self) -> u64 {
        let promised = |dc| self.fresh(dc).map_or(0, |report| report.promised_ms);
        self.others().map(promised).max().unwrap_or(0)
    }
}

/// True if the state excludes that a primary runs. `Starting` does not: it only means nobody answers.
fn surely_not_primary(state: &ReplicaState) -> bool {
    match state {
        ReplicaState::Primary { .. } | ReplicaState::Starting => false,
        ReplicaState::Preparing { .. }
        | ReplicaState::Stopped { .. }
        | ReplicaState::Detached { .. }
        | ReplicaState::Following { .. } => true,
    }
}

fn streaming_of(standbys: &BTreeMap<DcId, StandbyReport>) -> BTreeSet<DcId> {
    standbys.iter().filter(|(_, s)| s.streaming).map(|(dc, _)| dc.clone()).collect()
}

/// What to do with the record.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Nothing now.
    Keep {
        /// What is being waited for, or that all is well.
        why: String,
    },
    /// Write this.
    Change(Box<Change>),
}

/// One transition.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The record's new status.
    pub status: UnitStatus,
    /// What to write into operations' records in the same transaction.
    pub operations: Vec<Effect>,
}

/// A change of an operation's record.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    /// Which operation.
    pub id: OperationId,
    /// Create it with this work if it does not exist.
    pub create: Option<Work>,
    /// Its new state.
    pub state: OperationState,
    /// Append this step.
    pub step: Step,
}

fn keep(why: impl Into<String>) -> Decision {
    Decision::Keep { why: why.into() }
}

/// Decides about one unit.
pub fn decide(view: &View, memory: &mut Memory) -> Decision {
    memory.observe(view);
    let status = &view.unit.status;
    match &status.phase {
        Phase::Forming => {
            reconfigure(view, memory).or_else(|| settle(view)).or_else(|| ended(view)).unwrap_or_else(|| {
                let home = &status.home;
                let doing = view.fresh(home).map_or("nothing heard from its agent", |r| r.note.as_str());
                keep(format!("{home} forms the unit: {doing}"))
            })
        }
        Phase::Serving => lost_home(view, memory)
            .or_else(|| reconfigure(view, memory))
            .or_else(|| begin_move(view))
            .unwrap_or_else(|| keep("serving")),
        Phase::Holding { to } => lost_home(view, memory).unwrap_or_else(|| hold(view, memory, to)),
        Phase::Sealing { to } => seal(view, memory, to),
        Phase::Electing => elect(view, memory),
        Phase::Promoting { from } => reconfigure(view, memory)
            .or_else(|| settle(view))
            .or_else(|| ended(view))
            .or_else(|| failed_promotion(view, memory))
            .unwrap_or_else(|| keep(format!("{} is being promoted (from {from})", status.home))),
    }
}

/// Why a move to `to` would be refused now, if it would.
pub fn refusal(view: &View, to: &DcId) -> Option<String> {
    let (spec, status) = (&view.unit.spec, &view.unit.status);
    if !spec.replicas.contains(to) {
        return Some(format!("{to} holds no replica of the unit"));
    }
    if status.home == *to {
        return Some(format!("the unit is at home in {to} already"));
    }
    if status.phase != Phase::Serving {
        return Some(format!("the unit is {}", status.phase));
    }
    let Some(standbys) = view.home_standbys() else {
        return Some(format!("nothing current is known of the primary in {}", status.home));
    };
    match standbys.get(to) {
        Some(s) if s.streaming && s.lag_bytes <= view.timing.join_lag_bytes_max => {}
        Some(s) if !s.streaming => return Some(format!("the replica in {to} is still catching up")),
        Some(s) => return Some(format!("the replica in {to} is {} bytes behind", s.lag_bytes)),
        None => return Some(format!("the replica in {to} is not connected to its primary")),
    }
    let in_set = status.wanted_set().is_some_and(|set| set.need == 0 || set.members.contains(to));
    if !in_set {
        return Some(format!("the replica in {to} is not in the sync set"));
    }
    if status.claims.len() > 1 {
        return Some("the sync set is being changed".to_owned());
    }
    None
}

/// Orders the promotion of `to` without proof. Only an operator may ask for this.
pub fn force(unit: &Unit, to: &DcId) -> Result<UnitStatus, String> {
    if !unit.spec.replicas.contains(to) {
        return Err(format!("{to} holds no replica of the unit"));
    }
    if unit.status.phase != Phase::Electing && unit.status.phase != Phase::Serving {
        return Err(format!("the unit is {}; force is for a unit whose home is lost", unit.status.phase));
    }
    Ok(UnitStatus { forced: Some(to.clone()), ..unit.status.clone() })
}

/// Whether a failover now would be automatic, and if not, why.
pub fn provable(view: &View) -> Result<(), String> {
    let fresh: BTreeMap<DcId, Detached> = view
        .others()
        .filter(|dc| view.fresh(dc).is_some_and(|r| matches!(r.data, DataState::Present { .. })))
        .map(|dc| (dc.clone(), Detached { position: Position::default(), primary_epoch: None }))
        .collect();
    match crate::election::complete(&view.unit.status.claims, &fresh) {
        Ok(complete) if complete.is_empty() => Err("no other replica is reachable".to_owned()),
        Ok(_) => Ok(()),
        Err(missing) => Err(missing.to_string()),
    }
}

// ---- transitions -------------------------------------------------------------------------------------------

fn change(view: &View, status: UnitStatus, reason: String) -> Change {
    Change { status: UnitStatus { reason, since: view.wall, ..status }, operations: Vec::new() }
}

impl Change {
    fn note(mut self, id: OperationId, create: Option<Work>, state: OperationState) -> Self {
        let name = match state {
            OperationState::Failed => "failed".to_owned(),
            _ => self.status.phase.to_string(),
        };
        let step = Step {
            name,
            at: self.status.since,
            epoch: self.status.epoch,
            reason: self.status.reason.clone(),
        };
        self.operations.push(Effect { id, create, state, step });
        self
    }

    /// Appends a step to the operation at work, if there is one.
    fn go_on(self, state: OperationState) -> Self {
        match self.status.operation.clone() {
            Some(id) => self.note(id, None, state),
            None => self,
        }
    }

    fn decide(self) -> Decision {
        Decision::Change(Box::new(self))
    }
}

/// Serving → holding, if a move is asked for and nothing speaks against it.
fn begin_move(view: &View) -> Option<Decision> {
    let requested = view.requested?;
    let Work::Move { to, .. } = &requested.spec.work else { return None };
    let id = OperationId::new(requested.name.clone()).ok()?;
    let status = view.unit.status.clone();
    let refused = refusal(view, to);
    let Some(why) = refused else {
        let phase = Phase::Holding { to: to.clone() };
        let status = UnitStatus { phase, operation: Some(id.clone()), ..status };
        let reason = format!("{} asked to move the unit to {to}", requested.spec.asked_by);
        return Some(change(view, status, reason).note(id, None, OperationState::Running).decide());
    };
    // The record itself stays; only the operation learns that it is refused.
    let step = Step { name: "refused".to_owned(), at: view.wall, epoch: status.epoch, reason: why };
    let effect = Effect { id, create: None, state: OperationState::Failed, step };
    Some(Decision::Change(Box::new(Change { status, operations: vec![effect] })))
}

/// Holding → sealing once every gateway holds and nothing is in flight; → serving if that takes too long.
fn hold(view: &View, memory: &Memory, to: &DcId) -> Decision {
    let status = view.unit.status.clone();
    let unit = UnitId::new(view.unit.name.clone());
    // A gateway that has not reported for twice that long serves nobody the control plane could wait for; should it
    // be alive all the same, the epoch check turns its requests away and it retries them.
    let alive_ms_max = 2 * view.timing.fresh_ms;
    let mut waiting = Vec::new();
    for (dc, seen) in view.gateways.iter().filter(|(_, seen)| seen.age_ms <= alive_ms_max) {
        let in_flight =
            unit.as_ref().ok().and_then(|unit| seen.report.in_flight.get(unit)).copied().unwrap_or(0);
        if seen.report.table < view.unit.revision {
            waiting.push(format!("gateway {dc} does not hold yet"));
        } else if in_flight > 0 {
            waiting.push(format!("{in_flight} requests in flight at gateway {dc}"));
        }
    }
    if waiting.is_empty() {
        let status = UnitStatus { phase: Phase::Sealing { to: to.clone() }, ..status };
        let reason = "every gateway holds and nothing is in flight".to_owned();
        return change(view, status, reason).go_on(OperationState::Running).decide();
    }
    let waiting = waiting.join(", ");
    if view.now_ms.saturating_sub(memory.phase_since_ms) <= view.timing.drain_ms_max {
        return keep(waiting);
    }
    let reason = format!("the move is called off: {waiting} after {} ms", view.timing.drain_ms_max);
    let mut back =
        change(view, UnitStatus { phase: Phase::Serving, ..status }, reason).go_on(OperationState::Failed);
    back.status.operation = None;
    back.decide()
}

/// Sealing → promoting once the target has replayed past the shutdown checkpoint; → electing if the seal failed.
fn seal(view: &View, memory: &Memory, to: &DcId) -> Decision {
    let home = &view.unit.status.home;
    let acted = |dc| view.reports.get(dc).map(|s| &s.report).filter(|r| r.revision >= view.unit.revision);
    let overdue = view.now_ms.saturating_sub(memory.phase_since_ms) > view.timing.seal_ms_max;
    let sealed = match acted(home).map(|report| &report.state) {
        Some(ReplicaState::Stopped { sealed: Some(at) }) => *at,
        Some(ReplicaState::Stopped { sealed: None }) => {
            return fail_over(view, "the primary stopped, but not in order".to_owned());
        }
        _ if overdue => {
            let reason = format!("the primary was not sealed within {} ms", view.timing.seal_ms_max);
            return fail_over(view, reason);
        }
        _ => return keep(format!("{home} is being sealed")),
    };
    let target = view.fresh(to);
    let has_all = target.is_some_and(|r| {
        let same_timeline = r.position.is_some_and(|p| p.timeline == sealed.timeline);
        same_timeline && r.replayed.is_some_and(|replayed| replayed > sealed.flushed)
    });
    if has_all {
        let reason = format!("{to} has replayed the last record of {home} (at {sealed})");
        return promote(view, to, reason);
    }
    if overdue {
        return fail_over(
            view,
            format!("{to} did not receive the last record of {home} (at {sealed}) in time"),
        );
    }
    keep(format!("{to} has yet to replay the last record of {home} (at {sealed})"))
}

/// Serving or holding → electing if the home is known to have stopped, or silent beyond its lease while others
/// could take over.
fn lost_home(view: &View, memory: &Memory) -> Option<Decision> {
    let status = &view.unit.status;
    let home = &status.home;
    if let Some(seen) = view.reports.get(home)
        && seen.report.revision > Revision(0)
        && surely_not_primary(&seen.report.state)
    {
        return Some(fail_over(view, format!("the primary in {home} has stopped ({})", seen.report.note)));
    }
    let why = view.fenced(memory)?;
    if view.promised_ms() > 0 {
        return Some(keep(format!("{home} is not heard, but other replicas vouch for it")));
    }
    if status.forced.is_none()
        && let Err(missing) = provable(view)
    {
        return Some(keep(format!(
            "{home} is not heard and {why}, but a failover cannot be proven: {missing}"
        )));
    }
    Some(fail_over(view, format!("{home} is not heard and {why}")))
}

/// Any phase → electing under the next epoch.
fn fail_over(view: &View, reason: String) -> Decision {
    let mut before = view.unit.status.clone();
    let epoch = before.epoch.next();
    let at_work = before.operation.take();
    let status = UnitStatus { epoch, phase: Phase::Electing, ..before };
    let from = status.home.clone();
    let mut change = change(view, status, reason);
    let unit = UnitId::new(view.unit.name.clone()).ok();
    let id = OperationId::new(format!("failover-{}-{epoch}", view.unit.name)).ok();
    if let Some(id) = at_work {
        change = change.note(id, None, OperationState::Failed);
    }
    if let (Some(unit), Some(id)) = (unit, id) {
        change.status.operation = Some(id.clone());
        change = change.note(id, Some(Work::Failover { unit, from }), OperationState::Running);
    }
    change.decide()
}

/// Electing → promoting, once the claims are proven and the old home is fenced.
fn elect(view: &View, memory: &Memory) -> Decision {
    let status = &view.unit.status;
    let home = &status.home;
    if view.fenced(memory).is_none() {
        return keep(format!("the lease of {home} may not have run out yet"));
    }
    let detached = view.detached();
    let reachable: BTreeSet<DcId> =
        view.unit.spec.replicas.iter().filter(|dc| view.fresh(dc).is_some()).cloned().collect();
    if let Some(forced) =
        status.forced.as_ref().filter(|dc| detached.contains_key(*dc) && reachable.contains(*dc))
    {
        return promote(view, forced, format!("an operator ordered {forced} to be promoted without proof"));
    }
    let found = match winner(&owed(view, &detached), &detached, &reachable, home) {
        Ok(Some(found)) => found,
        Ok(None) => return keep("every commit is accounted for, but who holds them all is not reachable"),
        Err(missing) => return keep(missing.to_string()),
    };
    let waited_ms = view.now_ms.saturating_sub(memory.phase_since_ms);
    let home_returns = memory.home_stopped_in_order && view.fresh(home).is_some();
    if found != *home && home_returns && waited_ms < view.timing.home_grace_ms {
        return keep(format!("{home} stopped in order and is waited for a little"));
    }
    let position = detached[&found].position;
    let reason = format!("{found} holds every acknowledged commit (log to {position})");
    promote(view, &found, reason)
}

/// The claims an election has to prove: all that are recorded, but those of a promotion that is known never to have
/// happened. The last home's data says so itself: it is detached under a later epoch, so it will not be promoted
/// under that one any more, and a home's data is never replaced by a copy of another's.
fn owed(view: &View, detached: &BTreeMap<DcId, Detached>) -> Vec<Claim> {
    let status = &view.unit.status;
    let never_led = |claim: &Claim| {
        claim.primary == status.home
            && claim.epoch.next() == status.epoch
            && detached.get(&status.home).is_some_and(|home| home.primary_epoch < Some(claim.epoch))
    };
    status.claims.iter().filter(|claim| !never_led(claim)).cloned().collect()
}

/// → promoting. The claims before stay until the new home has its own sync set confirmed.
fn promote(view: &View, to: &DcId, reason: String) -> Decision {
    let before = view.unit.status.clone();
    // An election has raised the epoch already; a move raises it here.
    let epoch = if before.phase == Phase::Electing { before.epoch } else { before.epoch.next() };
    let from = before.home.clone();
    let planned = matches!(before.phase, Phase::Sealing { .. });
    let members = match view.unit.spec.durability {
        Durability::Bounded => BTreeSet::new(),
        Durability::Zero => view
            .unit
            .spec
            .replicas
            .iter()
            .filter(|dc| *dc != to)
            .filter(|dc| will_follow(view, dc) || (planned && **dc == from))
            .cloned()
            .collect(),
    };
    let forced = before.forced.is_some();
    let mut claims = if forced { Vec::new() } else { owed(view, &view.detached()) };
    claims.push(Claim { epoch, primary: to.clone(), set: SyncSet { members, need: need(view) } });
    let phase = Phase::Promoting { from };
    let status = UnitStatus { epoch, home: to.clone(), phase, claims, forced: None, ..before };
    change(view, status, reason).go_on(OperationState::Running).decide()
}

/// True if the replica is alive and in a state from which it follows a new primary without being remade.
fn will_follow(view: &View, dc: &DcId) -> bool {
    let Some(report) = view.fresh(dc) else { return false };
    let never_led = matches!(report.data, DataState::Present { primary_epoch } if primary_epoch < Some(view.unit.status.epoch))
        && *dc != view.unit.status.home;
    never_led && matches!(report.state, ReplicaState::Following { .. } | ReplicaState::Detached { .. })
}

fn need(view: &View) -> u8 {
    match view.unit.spec.durability {
        Durability::Zero => 1,
        Durability::Bounded => 0,
    }
}

/// Forming or promoting → serving, once the primary is open and its sync set confirmed.
fn settle(view: &View) -> Option<Decision> {
    let status = &view.unit.status;
    let wanted = status.wanted_set()?;
    let ReplicaState::Primary { epoch, open: true, confirmed: Some(confirmed), .. } =
        &view.fresh(&status.home)?.state
    else {
        return None;
    };
    if *epoch != status.epoch || confirmed != wanted {
        return None;
    }
    let claims = status.claims.last().cloned().into_iter().collect();
    let reason = format!("{} serves under epoch {epoch}", status.home);
    let status = UnitStatus { phase: Phase::Serving, claims, ..status.clone() };
    let mut change = change(view, status, reason).go_on(OperationState::Succeeded);
    change.status.operation = None;
    Some(change.decide())
}

/// Forming or promoting → electing, if the primary of this very epoch has come and gone.
fn ended(view: &View) -> Option<Decision> {
    let status = &view.unit.status;
    let report = &view.reports.get(&status.home)?.report;
    let led =
        matches!(report.data, DataState::Present { primary_epoch } if primary_epoch >= Some(status.epoch));
    let over = report.revision >= view.unit.revision && led && surely_not_primary(&report.state);
    over.then(|| fail_over(view, format!("the new primary in {} has stopped ({})", status.home, report.note)))
}

/// Promoting → electing, if the winner is lost or cannot be promoted.
fn failed_promotion(view: &View, memory: &Memory) -> Option<Decision> {
    let status = &view.unit.status;
    let home = &status.home;
    let timing = view.timing;
    if let Some(report) = view.fresh(home) {
        let acted = report.revision >= view.unit.revision;
        if acted && report.data == DataState::Absent {
            return Some(fail_over(view, format!("{home} has no data to promote")));
        }
        // One that leads but cannot confirm its sync set waits for a replica; another election would not help.
        let leads = matches!(report.state, ReplicaState::Primary { .. });
        let overdue = view.now_ms.saturating_sub(memory.phase_since_ms) > timing.promote_ms_max;
        return (overdue && !leads)
            .then(|| fail_over(view, format!("{home} was not promoted in time ({})", report.note)));
    }
    let lapse_ms = memory.last_grant_ms.max(memory.phase_since_ms) + timing.lease_ms + timing.margin_ms;
    (view.now_ms > lapse_ms && provable(view).is_ok())
        .then(|| fail_over(view, format!("{home} is not heard and its lease has run out")))
}

// ---- the sync set ------------------------------------------------------------------------------------------

/// Changes the sync set of a running primary by one step: replicas that stream join, members that are lost for
/// long leave. Both the old and the new set are recorded until the primary confirms the new one.
fn reconfigure(view: &View, memory: &Memory) -> Option<Decision> {
    let status = &view.unit.status;
    let standbys = view.home_standbys()?;
    let own = status.claims.iter().filter(|c| c.epoch == status.epoch).count();
    let current = status.wanted_set()?.clone();
    if own > 1 {
        return finish_reconfiguration(view, own, &current);
    }
    if current.need == 0 {
        return None;
    }
    let mut members = current.members.clone();
    let joining = standbys.iter().filter(|(dc, s)| {
        view.unit.spec.replicas.contains(*dc) && s.streaming && s.lag_bytes <= view.timing.join_lag_bytes_max
    });
    members.extend(joining.map(|(dc, _)| dc.clone()));
    let streaming = streaming_of(standbys);
    // Members leave only while enough of those that stay are streaming: with nobody left the record keeps naming
    // those who have the commits, and writes wait.
    if streaming.iter().filter(|dc| members.contains(*dc)).count() >= usize::from(current.need) {
        members.retain(|dc| memory.lost_for_ms(dc, view.now_ms) <= view.timing.member_lost_ms);
    }
    if members == current.members {
        return None;
    }
    let list = members.iter().map(DcId::as_str).collect::<Vec<_>>().join(", ");
    let reason = format!("the sync set becomes {{{list}}}");
    let mut status = status.clone();
    let set = SyncSet { members, need: current.need };
    status.claims.push(Claim { epoch: status.epoch, primary: status.home.clone(), set });
    Some(quiet_change(status, reason))
}

/// Drops the older sets of this epoch once the primary has confirmed the newest.
fn finish_reconfiguration(view: &View, own: usize, current: &SyncSet) -> Option<Decision> {
    let status = &view.unit.status;
    let ReplicaState::Primary { confirmed: Some(confirmed), .. } = &view.fresh(&status.home)?.state else {
        return None;
    };
    if confirmed != current {
        return None;
    }
    let mut status = status.clone();
    let first_own = status.claims.len() - own;
    status.claims.drain(first_own..status.claims.len() - 1);
    let list = current.members.iter().map(DcId::as_str).collect::<Vec<_>>().join(", ");
    Some(quiet_change(status, format!("the sync set is {{{list}}}")))
}

/// A change within a phase: `since` stays.
fn quiet_change(status: UnitStatus, reason: String) -> Decision {
    Decision::Change(Box::new(Change { status: UnitStatus { reason, ..status }, operations: Vec::new() }))
}
