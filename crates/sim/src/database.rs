//! A database server's life: starting, promoting, stopping, dying; and the sessions of clients in it.

use dujiang_types::Epoch;

use crate::event::{Event, Outcome};
use crate::place::{At, Proc};
use crate::postgres::{Content, Process, Setting, Waiter, What};
use crate::trace::{MS, SECOND, Us};
use crate::world::World;

/// An orderly stop waits that long for standbys to confirm the last record.
const STOP_WAIT_MAX: Us = 3 * SECOND;

impl World {
    /// Starts a server as a standby together with its guard.
    pub fn start_database(&mut self, at: At) {
        if self.db(at).process != Process::Down
            || self.db(at).content != Content::Present
            || !self.power[at.dc]
        {
            return;
        }
        self.processes.start(Proc::Guard(at));
        self.processes.start(Proc::Postgres(at));
        self.agents[at.dc].guard_mut(at.unit).forget();
        let db = self.db_mut(at);
        db.process = Process::Starting;
        db.sealed = false;
        db.upstream = db.file_upstream;
        db.open = false;
        let takes = if self.plan.brisk { self.between(MS, 20 * MS) } else { self.between(20 * MS, 400 * MS) };
        self.after(takes, Proc::Postgres(at), Event::Started { at });
    }

    pub(crate) fn started(&mut self, at: At) {
        if self.db(at).process != Process::Starting {
            return;
        }
        let db = self.db_mut(at);
        db.process = Process::Standby;
        db.replayed = db.flushed;
        db.rebuild();
        self.say(Proc::Postgres(at), || "is up as a standby".to_owned());
        self.housekeeping(at);
    }

    /// Begins a promotion to the timeline. What the log holds on disk is replayed first.
    pub fn promote_database(&mut self, at: At, timeline: u32) {
        let db = self.db_mut(at);
        if db.process != Process::Standby {
            return;
        }
        db.process = Process::Promoting;
        let behind = db.flushed.saturating_sub(db.replayed) as u64;
        let takes = if self.plan.brisk { self.between(MS, 10 * MS) } else { self.between(10 * MS, 200 * MS) };
        self.after(takes + behind * MS, Proc::Postgres(at), Event::Promoted { at, timeline });
    }

    pub(crate) fn promoted(&mut self, at: At, timeline: u32) {
        let stalled = self.stalled_for(at.dc);
        if stalled > 0 {
            self.after(stalled + MS, Proc::Postgres(at), Event::Promoted { at, timeline });
            return;
        }
        if self.db(at).process != Process::Promoting {
            return;
        }
        if self.db(at).receiver.is_some() {
            self.stop_receiver(at);
        }
        let id = self.fresh_id();
        let db = self.db_mut(at);
        db.log.truncate(db.flushed);
        let timeline = timeline.max(db.timeline() + 1);
        db.append(id, timeline, 100, What::Promoted);
        db.flushed = db.log.len();
        db.replayed = db.flushed;
        db.flushing = None;
        db.process = Process::Primary;
        db.released = 0;
        db.open = false;
        db.waits = db.file_setting.need > 0;
        db.rebuild();
        // Standbys that streamed through this one connect anew on the new timeline.
        self.hang_up_all(at);
        self.db_mut(at).senders.clear();
        self.say(Proc::Postgres(at), || format!("is primary on timeline {timeline}"));
        if let Some(epoch) = self.replica(at).primary_epoch {
            self.check_promotion(at, epoch);
        }
        self.checker.promoted(at.unit);
        self.agent_sees_promotion(at);
        self.checker.touch(at.unit);
    }

    /// Begins an orderly stop of a primary: sessions end, then a shutdown checkpoint, then standbys get it.
    pub fn stop_in_order(&mut self, at: At) {
        if !self.db(at).is_primary() {
            return;
        }
        self.end_sessions(at);
        self.write_record(at, What::Shutdown);
        self.db_mut(at).process = Process::Stopping;
        let since = self.now;
        self.after(5 * MS, Proc::Postgres(at), Event::Stopping { at, since });
    }

    pub(crate) fn stopping(&mut self, at: At, since: Us) {
        let patience = self.now.saturating_sub(since) < STOP_WAIT_MAX;
        let db = self.db(at);
        let all = db.log.len();
        let on_disk = db.flushed == all;
        let confirmed = db.senders.values().all(|sender| sender.flushed >= all);
        if !on_disk || (!confirmed && patience) {
            self.after(10 * MS, Proc::Postgres(at), Event::Stopping { at, since });
            return;
        }
        self.db_mut(at).sealed = true;
        self.say(Proc::Postgres(at), || "is stopped in order".to_owned());
        self.database_ends(at, 0);
    }

    /// Ends a server at once (SIGQUIT, SIGKILL, crash): what it wrote and did not flush survives in part.
    pub fn kill_database(&mut self, at: At, why: &str) {
        if self.db(at).process == Process::Down {
            return;
        }
        let unflushed = (self.db(at).log.len() - self.db(at).flushed) as u64;
        let survivors = self.between(0, unflushed);
        self.say(Proc::Postgres(at), || format!("dies: {why}"));
        self.database_ends(at, usize::try_from(survivors).unwrap_or(0));
    }

    /// Ends a server with its machine: nothing that was not flushed survives, and nobody is told.
    pub fn lose_database(&mut self, at: At) {
        if self.db(at).process != Process::Down {
            self.database_ends(at, 0);
        }
    }

    fn database_ends(&mut self, at: At, survivors: usize) {
        self.end_sessions(at);
        self.hang_up_all(at);
        self.db_mut(at).crash(survivors);
        self.processes.end(Proc::Postgres(at));
        self.processes.end(Proc::Guard(at));
        self.checker.touch(at.unit);
        self.agent_sees_exit(at);
    }

    // ---- sessions ---------------------------------------------------------------------------------------------

    /// Ends every client session: whoever waits for standbys is not answered, but what it committed stays and is
    /// visible from now on.
    pub fn end_sessions(&mut self, at: At) {
        let waiting = std::mem::take(&mut self.db_mut(at).waiting);
        for waiter in waiting.into_values() {
            self.answer(at, waiter.attempt, Outcome::Unknown);
        }
    }

    /// A statement timeout or cancel in one session: the wait for standbys ends with a warning and, to whoever
    /// ignores the warning, with success.
    pub fn cancel_one(&mut self, at: At) {
        let Some((&index, &waiter)) = self.db(at).waiting.iter().next() else { return };
        if index >= self.db(at).flushed {
            return;
        }
        self.db_mut(at).waiting.remove(&index);
        self.say(Proc::Postgres(at), || format!("attempt {} is cancelled while it waits", waiter.attempt));
        if self.options.sabotages(crate::Sabotage::TrustCancelled) {
            self.acknowledge(at, vec![(index, waiter)], None);
        } else {
            self.answer(at, waiter.attempt, Outcome::Unknown);
        }
    }

    pub(crate) fn execute(&mut self, at: At, attempt: u64, epoch: Epoch) {
        let db = self.db(at);
        if !db.is_primary() || !db.open || db.fence != epoch.0 {
            self.answer(at, attempt, Outcome::NothingDone);
            return;
        }
        let key = self.clients.key_of(attempt);
        let first = db.keys.get(&key).copied();
        if first.is_some_and(|index| db.waiting.contains_key(&index)) {
            // The first try with this key is still waiting.
            self.answer(at, attempt, Outcome::NothingDone);
            return;
        }
        if let Some(index) = first.filter(|_| self.options.sabotages(crate::Sabotage::ReplayAtOnce)) {
            self.acknowledge(at, vec![(index, Waiter { attempt })], None);
            return;
        }
        let what = if first.is_some() { What::Again { key } } else { What::Write { key } };
        let index = self.write_record(at, what);
        self.db_mut(at).waiting.insert(index, Waiter { attempt });
    }

    /// The database answers these commits: from here on they must never be lost. `setting` is what the releasing
    /// walsender waited by; `None` means nobody was waited for.
    pub fn acknowledge(&mut self, at: At, commits: Vec<(usize, Waiter)>, setting: Option<Setting>) {
        for (index, waiter) in commits {
            self.check_acknowledged(at, index, setting);
            self.answer(at, waiter.attempt, Outcome::Acknowledged);
        }
    }

    fn answer(&mut self, at: At, attempt: u64, outcome: Outcome) {
        self.application_answers(at.dc, attempt, outcome);
    }
}
