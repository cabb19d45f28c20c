//! What an agent observes of its replica and how it carries an action out: in steps that take time, with the
//! state file written first, and interruptible between any two of them.

use dujiang_types::report::StandbyReport;
use dujiang_types::unit::{SyncSet, Unit};
use dujiang_types::{DcId, Epoch, Lsn, Position};
use dujiang_unit::agent::{Action, Data, Local, PROMOTE, Process as Seen, Step};

use crate::Sabotage;
use crate::event::{Event, Then};
use crate::network::Channel;
use crate::place::{At, Dc, Proc, dc_id, dc_index};
use crate::postgres::{Content, Mismatch, Process, Setting, What};
use crate::trace::{MS, SECOND, Us};
use crate::world::World;

/// A probe is written that often.
const PROBE: Us = 200 * MS;
/// A primary whose last real write came back longer ago is not well.
const PROBE_MAX: Us = SECOND;
/// A promotion is waited for that long before the agent looks at the replica with fresh eyes.
const PROMOTION_MAX: Us = 10 * SECOND;

/// The setting that a recorded set stands for.
pub fn setting_of(set: &SyncSet) -> Setting {
    Setting::new(set.members.iter().filter_map(dc_index), set.need)
}

fn set_of(setting: Setting) -> SyncSet {
    SyncSet { members: setting.list().map(dc_id).collect(), need: setting.need }
}

impl World {
    /// Everything an agent can know of its replica now.
    pub fn observe(&mut self, at: At) -> Local {
        self.follow_confirmation(at);
        let (replica, promoting) = (self.replica(at), self.is_promoting(at));
        let leads_twice = self.options.sabotages(Sabotage::LeadTwice);
        let data = match self.db(at).content {
            Content::Absent => Data::Absent,
            Content::Broken => Data::Broken,
            Content::Present => Data::Present,
        };
        Local {
            epoch_seen: replica.epoch_seen,
            primary_epoch: replica.primary_epoch.filter(|_| !leads_twice),
            data,
            process: self.observe_process(at),
            diverged: matches!(replica.mismatch, Some(Mismatch::Diverged | Mismatch::Ahead)),
            starved: replica.mismatch == Some(Mismatch::Removed),
            busy: if promoting { Some(PROMOTE) } else { replica.busy },
        }
    }

    fn observe_process(&self, at: At) -> Seen {
        let (db, replica) = (self.db(at), self.replica(at));
        let answers = self.processes.runs(Proc::Postgres(at));
        match db.process {
            Process::Down if db.sealed && db.content == Content::Present => {
                let start = db.flushed.saturating_sub(1);
                let sealed = Position { timeline: db.timeline(), flushed: Lsn(db.end_of(start)) };
                Seen::Stopped { sealed: Some(sealed) }
            }
            Process::Down => Seen::Stopped { sealed: None },
            _ if !answers => Seen::Starting,
            Process::Starting | Process::Stopping => Seen::Starting,
            Process::Standby | Process::Promoting => {
                let pretends = replica.pretends_detached;
                let receiving = db.receiver.is_some() && !pretends;
                let upstream = db.file_upstream.or(db.upstream).filter(|_| !pretends);
                Seen::Standby {
                    upstream: upstream.map(dc_id),
                    receiving,
                    streaming: receiving && db.receiver.as_ref().map(|r| r.from) == upstream,
                    position: self.observe_position(at, receiving),
                    replayed: Some(Lsn(db.end_of(db.replayed))),
                }
            }
            Process::Primary => Seen::Primary {
                epoch: Epoch(db.fence),
                open: db.open,
                applied: self.observe_applied(at),
                confirmed: replica.confirmed.clone(),
                standbys: self.observe_standbys(at),
                position: Some(Position { timeline: db.timeline(), flushed: Lsn(db.end_of(db.flushed)) }),
                healthy: self.now.saturating_sub(replica.probed) <= PROBE_MAX,
            },
        }
    }

    fn observe_applied(&self, at: At) -> Option<SyncSet> {
        let relaxed =
            self.options.sabotages(Sabotage::RelaxBeforeRecording) && self.db(at).file_setting.need == 0;
        let recorded = || self.replica(at).record.as_ref()?.status.wanted_set().cloned();
        if relaxed { recorded() } else { Some(set_of(self.db(at).file_setting)) }
    }

    /// The planted bug of going on without a standby that is gone.
    fn relax(&mut self, at: At) {
        let db = self.db(at);
        let stuck = db.is_primary() && db.open && !db.waiting.is_empty() && db.senders.is_empty();
        if stuck && db.file_setting.need > 0 && self.options.sabotages(Sabotage::RelaxBeforeRecording) {
            self.set_names(at, Setting::default());
        }
    }

    fn observe_position(&self, at: At, receiving: bool) -> Option<Position> {
        let db = self.db(at);
        let by_replay = self.options.sabotages(Sabotage::ReplayPosition);
        let count = if by_replay { db.replayed } else { db.flushed };
        let timeline = count.checked_sub(1).map_or(0, |last| db.log[last].timeline);
        let known = receiving || by_replay || db.replayed == db.flushed;
        known.then(|| Position { timeline, flushed: Lsn(db.end_of(count)) })
    }

    fn observe_standbys(&self, at: At) -> std::collections::BTreeMap<DcId, StandbyReport> {
        let db = self.db(at);
        let all = db.end_of(db.flushed);
        let standby = |flushed: usize| StandbyReport {
            streaming: true,
            flushed: Lsn(db.end_of(flushed.min(db.log.len()))),
            lag_bytes: all.saturating_sub(db.end_of(flushed.min(db.log.len()))),
        };
        db.senders.iter().map(|(dc, sender)| (dc_id(*dc), standby(sender.flushed))).collect()
    }

    /// A set is confirmed once every process has read it *and* enough members have flushed a commit made later.
    fn follow_confirmation(&mut self, at: At) {
        let Some((setting, from)) = self.replica(at).confirming else { return };
        let db = self.db(at);
        if !db.is_primary() || db.file_setting != setting {
            return;
        }
        if self.options.sabotages(Sabotage::ConfirmByStatistics) {
            if setting.list().filter(|dc| db.says_sync(*dc)).count() >= usize::from(setting.need) {
                self.replica_mut(at).confirmed = Some(set_of(setting));
            }
            return;
        }
        match from {
            None if db.setting_seen_by_all() => {
                let later = self.write_record(at, What::Probe) + 1;
                self.replica_mut(at).confirming = Some((setting, Some(later)));
            }
            Some(later)
                if db.setting_seen_by_all() && db.flushed_by(setting, later) >= usize::from(setting.need) =>
            {
                let replica = self.replica_mut(at);
                replica.confirmed = Some(set_of(setting));
                replica.confirming = None;
                self.say(Proc::Agent(at.dc), || format!("{at}: the sync set is confirmed"));
            }
            _ => {}
        }
    }

    /// The real-write probe of a running primary.
    pub fn probe(&mut self, at: At) {
        if !self.processes.runs(Proc::Postgres(at)) || !self.db(at).is_primary() {
            return;
        }
        self.relax(at);
        let flushed = self.db(at).flushed;
        let now = self.now;
        let replica = self.replica_mut(at);
        if let Some((index, since)) = replica.probe {
            if index < flushed {
                replica.probed = now.min(since + PROBE);
                replica.probe = None;
            } else {
                return;
            }
        }
        if now.saturating_sub(self.replica(at).probed) >= PROBE {
            let index = self.write_record(at, What::Probe);
            self.replica_mut(at).probe = Some((index, now));
        }
    }

    // ---- carrying out -----------------------------------------------------------------------------------------

    /// Begins what was decided; nothing is begun while the state file is being written, except a stop.
    pub(crate) fn begin_step(&mut self, at: At, step: Step, record: Option<Unit>) {
        let replica = self.replica(at);
        if let Some(record) = &record
            && record.status.epoch > replica.epoch_seen
            && !replica.noting
        {
            self.note_epoch(at, record.status.epoch, Then::Nothing);
        }
        let Some(action) = &step.action else { return };
        let replica = self.replica(at);
        let occupied = replica.noting || self.is_promoting(at);
        if occupied && *action != Action::StopNow {
            return;
        }
        let Some(record) = record else {
            // Only a stop is decided without a record.
            self.begin_kill(at);
            return;
        };
        let takes = self.between(100, 3 * MS);
        self.after(takes, Proc::Agent(at.dc), Event::Act { at, step, record: Box::new(record) });
    }

    fn is_promoting(&self, at: At) -> bool {
        self.replica(at).promoting.is_some_and(|(_, since)| self.now.saturating_sub(since) < PROMOTION_MAX)
    }

    fn note_epoch(&mut self, at: At, epoch: Epoch, then: Then) {
        let replica = self.replica_mut(at);
        replica.noting = true;
        let takes = self.between(200, 3 * MS) + self.stalled_for(at.dc);
        self.after(takes, Proc::Agent(at.dc), Event::Noted { at, epoch, then });
    }

    pub(crate) fn act(&mut self, at: At, step: Step, record: &Unit) {
        let Some(action) = step.action.clone() else { return };
        if self.replica(at).noting && action != Action::StopNow {
            return;
        }
        let again = self.replica(at).last_action.as_ref() == Some(&action);
        if !again {
            self.say(Proc::Agent(at.dc), || format!("{at}: {action:?}, because {}", step.why));
            self.replica_mut(at).last_action = Some(action.clone());
        }
        self.fault_at_action(at);
        if !self.processes.runs(Proc::Agent(at.dc)) {
            return;
        }
        if action == Action::StopNow {
            self.begin_kill(at);
            return;
        }
        let epoch = record.status.epoch.max(self.replica(at).epoch_seen);
        let then = match action {
            Action::Promote { .. } => Then::Promote(step),
            Action::Rewind { .. } => Then::Work(step),
            _ if epoch > self.replica(at).epoch_seen => Then::Act(step),
            _ => return self.perform(at, &action),
        };
        self.note_epoch(at, epoch, then);
    }

    pub(crate) fn noted(&mut self, at: At, epoch: Epoch, then: Then) {
        let replica = self.replica_mut(at);
        replica.noting = false;
        replica.epoch_seen = replica.epoch_seen.max(epoch);
        match then {
            Then::Nothing => {}
            Then::Act(step) => {
                if let Some(action) = step.action {
                    self.perform(at, &action);
                }
            }
            Then::Promote(step) => {
                if let Some(Action::Promote { epoch, set }) = step.action {
                    // The agent says so from before the note until the fence is written.
                    replica.primary_epoch = Some(epoch);
                    self.fault_at_action(at);
                    self.promote(at, epoch, &set);
                }
            }
            Then::Work(step) => {
                replica.primary_epoch = None;
                if let Some(action) = step.action {
                    self.fault_at_action(at);
                    self.perform(at, &action);
                }
            }
            Then::Fence => self.fence(at, epoch),
        }
        self.look_now(at);
    }

    fn perform(&mut self, at: At, action: &Action) {
        if !self.processes.runs(Proc::Agent(at.dc)) {
            return;
        }
        match action {
            Action::Init => self.work(at, "init", at.dc),
            Action::Clone { from } => {
                self.kill_database(at, "to be cloned");
                self.work(at, "clone", dc_index(from).unwrap_or(at.dc));
            }
            Action::Rewind { from } => {
                self.kill_database(at, "to be rewound");
                self.db_mut(at).content = Content::Broken;
                self.work(at, "rewind", dc_index(from).unwrap_or(at.dc));
            }
            Action::Start => {
                self.db_mut(at).file_upstream = None;
                self.replica_mut(at).mismatch = None;
                self.start_database(at);
            }
            Action::Follow { from } => {
                self.replica_mut(at).pretends_detached = false;
                self.set_upstream(at, dc_index(from));
            }
            Action::Detach => {
                if self.options.sabotages(Sabotage::KeepReceivers) {
                    self.replica_mut(at).pretends_detached = true;
                } else if !self.clings(at) {
                    self.set_upstream(at, None);
                }
            }
            Action::SetSync { set } => self.set_sync(at, set),
            Action::Open => self.db_mut(at).open = true,
            Action::Seal => {
                self.db_mut(at).open = false;
                self.stop_in_order(at);
            }
            Action::Promote { .. } | Action::StopNow => {}
        }
        if matches!(action, Action::SetSync { .. }) {
            // Confirming takes many looks; the regular ones will do.
            return;
        }
        let soon = self.between(5 * MS, 30 * MS);
        self.after(soon, Proc::Agent(at.dc), Event::Glance { at });
    }

    /// The planted bug of holding on to a home that is gone.
    fn clings(&self, at: At) -> bool {
        let Some(dc) = self.db(at).file_upstream else { return false };
        let reached = self.processes.runs(Proc::Postgres(At { dc, unit: at.unit }))
            && self.net.passes(Channel::Replication, dc, at.dc);
        !reached && self.options.sabotages(Sabotage::DetachIfReached)
    }

    fn set_sync(&mut self, at: At, set: &SyncSet) {
        let setting = setting_of(set);
        if !self.db(at).is_primary() {
            return;
        }
        let changed = self.db(at).file_setting != setting;
        if changed {
            self.set_names(at, setting);
        }
        let replica = self.replica_mut(at);
        if changed || replica.confirming.map(|(s, _)| s) != Some(setting) {
            replica.confirmed = None;
            replica.confirming = Some((setting, None));
        }
    }

    /// Promotes: the guard is told the lease *before* the database can be primary, so that an agent that was
    /// frozen in between cannot make a primary without a lease.
    fn promote(&mut self, at: At, epoch: Epoch, set: &SyncSet) {
        let lease = self.replica(at).lease.filter(|lease| lease.epoch == epoch);
        let Some(lease) = lease else { return };
        if !self.processes.runs(Proc::Agent(at.dc)) || self.db(at).process != Process::Standby {
            return;
        }
        let now = self.now;
        let replica = self.replica_mut(at);
        replica.promoting = Some((epoch, now));
        replica.confirmed = None;
        replica.confirming = Some((setting_of(set), None));
        replica.probe = None;
        replica.probed = now;
        let db = self.db_mut(at);
        db.file_setting = setting_of(set);
        self.armed(at, epoch, lease.until_ms);
        let timeline = u32::try_from(epoch.0 + 1).unwrap_or(u32::MAX);
        self.promote_database(at, timeline);
    }

    /// The agent notices that its database has been promoted and writes the fence.
    pub fn agent_sees_promotion(&mut self, at: At) {
        if let Some((epoch, _)) = self.replica(at).promoting {
            let takes = self.between(MS, 10 * MS);
            self.after(takes, Proc::Agent(at.dc), Event::Noted { at, epoch, then: Then::Fence });
        }
    }

    fn fence(&mut self, at: At, epoch: Epoch) {
        if self.db(at).is_primary() && self.processes.runs(Proc::Postgres(at)) {
            self.write_record(at, What::Fence { epoch: epoch.0 });
        }
        self.replica_mut(at).promoting = None;
    }

    /// A database's end is known at once to its agent, if that runs.
    pub fn agent_sees_exit(&mut self, at: At) {
        let replica = self.replica_mut(at);
        replica.promoting = None;
        replica.probe = None;
        replica.confirmed = None;
        replica.confirming = None;
        replica.pretends_detached = false;
        let soon = self.between(100, 5 * MS);
        self.after(soon, Proc::Agent(at.dc), Event::Glance { at });
    }

    // ---- work in the background -------------------------------------------------------------------------------

    fn work(&mut self, at: At, what: &'static str, source: Dc) {
        if self.replica(at).busy.is_some() {
            return;
        }
        self.replica_mut(at).busy = Some(what);
        let takes = self.between(100 * MS, 2 * SECOND) + self.stalled_for(at.dc);
        self.after(takes, Proc::Agent(at.dc), Event::WorkDone { at, source });
    }

    pub(crate) fn work_done(&mut self, at: At, source: Dc) {
        let Some(what) = self.replica_mut(at).busy.take() else { return };
        let from = At { dc: source, unit: at.unit };
        let done = match what {
            "init" => self.initialised(at),
            _ => self.copied(at, from, what == "rewind"),
        };
        self.say(Proc::Agent(at.dc), || {
            format!("{at}: {what} is {}", if done { "done" } else { "not possible now" })
        });
        self.checker.touch(at.unit);
        self.look_now(at);
    }

    fn initialised(&mut self, at: At) -> bool {
        let (first, second) = (self.fresh_id(), self.fresh_id());
        let db = self.db_mut(at);
        db.log.clear();
        db.append(first, 1, 1_000, What::Made);
        db.append(second, 1, 100, What::Fence { epoch: 0 });
        db.flushed = db.log.len();
        db.replayed = db.flushed;
        db.content = Content::Present;
        true
    }

    fn copied(&mut self, at: At, from: At, rewind: bool) -> bool {
        let source_runs = matches!(self.db(from).process, Process::Standby | Process::Primary)
            && self.processes.runs(Proc::Postgres(from));
        let linked = self.net.passes(Channel::Replication, at.dc, from.dc)
            && self.net.passes(Channel::Replication, from.dc, at.dc);
        if at.dc == from.dc || !source_runs || !linked || self.db(at).process != Process::Down {
            return false;
        }
        // A source that was promoted a moment ago has no checkpoint on its new timeline: the rewind sees no
        // difference and changes nothing. The standby fails to follow and the agent tries again.
        if rewind && self.chance(100) {
            self.db_mut(at).content = Content::Present;
            return true;
        }
        if !rewind {
            self.replica_mut(at).primary_epoch = None;
        }
        self.replica_mut(at).mismatch = None;
        let (copy, source) = self.db_pair(at, from);
        copy.copy_from(source);
        true
    }
}
