//! The log on its way: flushing, streaming over connections that may hang, confirming, replaying.

use crate::event::Event;
use crate::network::Channel;
use crate::place::{At, Dc, Proc};
use crate::postgres::{Content, Process, Receiver, Record, Sender};
use crate::trace::{MS, SECOND, Us};
use crate::world::World;

/// A connection that was not heard for so long is given up (`wal_receiver_timeout`, `wal_sender_timeout`).
const SILENCE_MAX: Us = 3 * SECOND;
/// How often TCP tries again what a cut link swallowed.
const RETRANSMIT: Us = 200 * MS;
/// How often a server looks after its connections.
const HOUSEKEEPING: Us = 300 * MS;

impl World {
    /// Writes a record into the log of a running primary and has it flushed. Returns its index.
    pub fn write_record(&mut self, at: At, what: crate::postgres::What) -> usize {
        let id = self.fresh_id();
        let size = self.between(20, 400);
        let db = self.db_mut(at);
        let timeline = db.log.last().map_or(1, |last| last.timeline);
        let index = db.append(id, timeline, size, what);
        self.flush(at);
        index
    }

    /// Has everything written flushed; one flush is under way at a time.
    pub fn flush(&mut self, at: At) {
        let db = self.db_mut(at);
        if db.flushing.is_some() || db.flushed == db.log.len() {
            return;
        }
        let upto = db.log.len();
        db.flushing = Some(upto);
        let takes = self.between(200, 3_000);
        self.after(takes, Proc::Postgres(at), Event::Flushed { at, upto });
    }

    /// How long the disk of a data center will not answer.
    pub fn stalled_for(&self, dc: Dc) -> Us {
        self.disk_until[dc].saturating_sub(self.now)
    }

    pub(crate) fn flushed(&mut self, at: At, upto: usize) {
        let stalled = self.stalled_for(at.dc);
        if stalled > 0 {
            self.after(stalled + MS, Proc::Postgres(at), Event::Flushed { at, upto });
            return;
        }
        let db = self.db_mut(at);
        db.flushing = None;
        db.flushed = upto.min(db.log.len()).max(db.flushed);
        let (flushed, waits) = (db.flushed, db.waits);
        let receiving = db.receiver.clone();
        if db.is_primary() {
            if !waits {
                db.released = db.released.max(flushed);
            }
            // A commit that walsenders have released already does not wait.
            let released = db.released.min(flushed);
            let done = db.release(released);
            self.acknowledge(at, done, None);
        } else {
            if let Some(receiver) = receiving {
                self.send_confirmation(at, &receiver, flushed);
            }
            self.begin_replay(at);
        }
        self.stream_to_all(at);
        self.flush(at);
        self.checker.touch(at.unit);
    }

    fn replay_lag(&mut self, at: At) -> Us {
        if self.plan.slow_replay[at.dc] && self.chance(500) {
            self.between(50 * MS, 2 * SECOND)
        } else {
            self.between(100, 20 * MS)
        }
    }

    /// Has the startup process replay what is on disk, if it is not at it already.
    fn begin_replay(&mut self, at: At) {
        if std::mem::replace(&mut self.db_mut(at).replaying, true) {
            return;
        }
        let lag = self.replay_lag(at);
        self.after(lag, Proc::Postgres(at), Event::Replay { at });
    }

    pub(crate) fn replay(&mut self, at: At) {
        let slow = self.plan.slow_replay[at.dc];
        let step = if slow { self.between(0, 8) } else { u64::MAX };
        let db = self.db_mut(at);
        db.replaying = false;
        if db.is_primary() {
            return;
        }
        let step = usize::try_from(step).unwrap_or(usize::MAX);
        db.replayed = db.replayed.saturating_add(step).min(db.flushed);
        if db.replayed < db.flushed {
            self.begin_replay(at);
        }
    }

    // ---- the sending side -------------------------------------------------------------------------------------

    /// Sends what is flushed and not yet sent to every connected standby.
    pub fn stream_to_all(&mut self, at: At) {
        let standbys: Vec<Dc> = self.db(at).senders.keys().copied().collect();
        for standby in standbys {
            self.stream_to(at, standby);
        }
    }

    fn stream_to(&mut self, at: At, standby: Dc) {
        let db = self.db_mut(at);
        let flushed = db.flushed;
        let Some(sender) = db.senders.get_mut(&standby) else { return };
        if sender.sent >= flushed {
            return;
        }
        let (conn, first) = (sender.conn, sender.sent);
        sender.sent = flushed;
        let records: Vec<Record> = db.log[first..flushed].to_vec();
        let congestion = if self.plan.slow_link[standby] { self.between(0, 300 * MS) } else { 0 };
        let delay = self.net.delay(&mut self.rng, at.dc, standby) + congestion;
        let to = At { dc: standby, unit: at.unit };
        self.after(delay, Proc::Postgres(to), Event::Log { at: to, conn, first, records });
    }

    pub(crate) fn confirmed(&mut self, at: At, standby: Dc, conn: u64, flushed: usize) {
        if !self.net.passes(Channel::Replication, standby, at.dc) {
            let again = Event::Confirm { at, standby, conn, flushed };
            self.after(RETRANSMIT, Proc::Postgres(at), again);
            return;
        }
        let now = self.now;
        let db = self.db_mut(at);
        let Some(sender) = db.senders.get(&standby).filter(|sender| sender.conn == conn) else { return };
        let setting = sender.setting;
        let done = db.acknowledged_by(standby, flushed, now);
        self.acknowledge(at, done, Some(setting));
    }

    pub(crate) fn sender_reload(&mut self, at: At, standby: Dc, conn: u64) {
        let db = self.db_mut(at);
        let setting = db.file_setting;
        if let Some(sender) = db.senders.get_mut(&standby).filter(|sender| sender.conn == conn) {
            sender.setting = setting;
        }
    }

    pub(crate) fn checkpointer_reload(&mut self, at: At) {
        let db = self.db_mut(at);
        db.waits = db.file_setting.need > 0;
        if !db.waits && db.is_primary() {
            // Clearing the names releases every waiter whose commit is on disk.
            db.released = db.released.max(db.flushed);
            let done = db.release(db.flushed);
            self.acknowledge(at, done, None);
        }
    }

    /// Changes `synchronous_standby_names` and has the server read it: every process does so in its own time.
    pub fn set_names(&mut self, at: At, setting: crate::postgres::Setting) {
        let db = self.db_mut(at);
        db.file_setting = setting;
        let senders: Vec<(Dc, u64)> = db.senders.iter().map(|(dc, sender)| (*dc, sender.conn)).collect();
        for (standby, conn) in senders {
            let lag = self.reload_lag();
            self.after(lag, Proc::Postgres(at), Event::SenderReload { at, standby, conn });
        }
        let lag = self.reload_lag();
        self.after(lag, Proc::Postgres(at), Event::CheckpointerReload { at });
    }

    fn reload_lag(&mut self) -> Us {
        if self.plan.brisk {
            return self.between(MS / 2, 3 * MS);
        }
        if self.chance(50) { self.between(100 * MS, 1_500 * MS) } else { self.between(MS, 60 * MS) }
    }

    // ---- the receiving side -----------------------------------------------------------------------------------

    pub(crate) fn log_arrives(&mut self, at: At, conn: u64, first: usize, records: Vec<Record>) {
        let Some(from) = self.db(at).receiver.as_ref().filter(|r| r.conn == conn).map(|r| r.from) else {
            return;
        };
        if !self.power[from] && self.chance(500) {
            // It was still in the lost machine's memory; nobody will send it again.
            self.stop_receiver(at);
            return;
        }
        let gap = self.db(at).log.len() < first;
        if gap || !self.net.passes(Channel::Replication, from, at.dc) {
            let again = Event::Log { at, conn, first, records };
            self.after(if gap { 5 * MS } else { RETRANSMIT }, Proc::Postgres(at), again);
            return;
        }
        let now = self.now;
        let db = self.db_mut(at);
        if let Some(receiver) = db.receiver.as_mut() {
            receiver.heard = now;
        }
        let known = db.log.len() - first;
        for record in records.into_iter().skip(known) {
            db.append(
                record.id,
                record.timeline,
                record.end - db.log.last().map_or(0, |last| last.end),
                record.what,
            );
        }
        self.flush(at);
        self.checker.touch(at.unit);
    }

    fn send_confirmation(&mut self, at: At, receiver: &Receiver, flushed: usize) {
        let upstream = At { dc: receiver.from, unit: at.unit };
        let delay = self.net.delay(&mut self.rng, at.dc, receiver.from);
        let event = Event::Confirm { at: upstream, standby: at.dc, conn: receiver.conn, flushed };
        self.after(delay, Proc::Postgres(upstream), event);
    }

    /// Changes `primary_conninfo` and has a running standby read it, which ends a receiver of another upstream.
    pub fn set_upstream(&mut self, at: At, upstream: Option<Dc>) {
        let db = self.db_mut(at);
        db.file_upstream = upstream;
        if matches!(db.process, Process::Standby | Process::Starting) {
            let lag = self.reload_lag();
            self.after(lag, Proc::Postgres(at), Event::StartupReload { at });
        }
    }

    pub(crate) fn startup_reload(&mut self, at: At) {
        let db = self.db_mut(at);
        db.upstream = db.file_upstream;
        let stale = db.receiver.as_ref().is_some_and(|receiver| Some(receiver.from) != db.upstream);
        if stale {
            self.stop_receiver(at);
        }
        if self.db(at).upstream.is_some() && self.db(at).process == Process::Standby {
            self.connect(at);
        }
    }

    /// Ends the walreceiver. It flushes what it has written before it goes, so a hanging disk keeps it alive.
    pub fn stop_receiver(&mut self, at: At) {
        let stalled = self.stalled_for(at.dc);
        if stalled > 0 {
            self.after(stalled + MS, Proc::Postgres(at), Event::StartupReload { at });
            return;
        }
        let db = self.db_mut(at);
        let Some(receiver) = db.receiver.take() else { return };
        db.flushed = db.log.len();
        let upstream = At { dc: receiver.from, unit: at.unit };
        let delay = self.net.delay(&mut self.rng, at.dc, receiver.from);
        self.after(delay, Proc::Postgres(upstream), Event::Hangup { at: upstream, conn: receiver.conn });
        self.begin_replay(at);
        self.checker.touch(at.unit);
    }

    /// Connects a standby to its upstream, if the network, the upstream and both histories allow.
    fn connect(&mut self, at: At) {
        let Some(from) = self.db(at).upstream else { return };
        let source = At { dc: from, unit: at.unit };
        let reachable = from != at.dc
            && self.net.passes(Channel::Replication, at.dc, from)
            && self.net.passes(Channel::Replication, from, at.dc)
            && self.processes.runs(Proc::Postgres(source));
        if self.db(at).receiver.is_some() || !reachable || self.db(at).content != Content::Present {
            return;
        }
        if !matches!(self.db(source).process, Process::Standby | Process::Primary) {
            return;
        }
        let verdict = self.db(source).accepts(self.db(at));
        self.agents[at.dc].heard_mismatch(at.unit, verdict.err());
        if let Err(mismatch) = verdict {
            self.say(Proc::Postgres(at), || format!("cannot follow {source}: {mismatch:?}"));
            return;
        }
        let (common, flushed) = (self.db(source).common(self.db(at)), self.db(at).flushed);
        if common < flushed {
            self.violate("no silent divergence", || {
                format!(
                    "{at} streams from {source} although their logs part after record {common} of {flushed}"
                )
            });
            return;
        }
        let conn = self.fresh_id();
        let now = self.now;
        let db = self.db_mut(at);
        // What was written and never flushed is received again.
        db.log.truncate(flushed);
        db.flushing = None;
        db.receiver = Some(Receiver { conn, from, heard: now });
        let setting = self.db(source).file_setting;
        let sender = Sender { conn, sent: flushed, flushed, setting, heard: now };
        self.db_mut(source).senders.insert(at.dc, sender);
        self.say(Proc::Postgres(at), || format!("streams from {source}, starting at record {flushed}"));
        self.stream_to(source, at.dc);
    }

    pub(crate) fn hung_up(&mut self, at: At, conn: u64) {
        let db = self.db_mut(at);
        db.senders.retain(|_, sender| sender.conn != conn);
        if db.receiver.as_ref().is_some_and(|receiver| receiver.conn == conn) {
            self.stop_receiver(at);
        }
    }

    /// Tells everybody connected to a server that ends that it is gone.
    pub fn hang_up_all(&mut self, at: At) {
        let db = self.db(at);
        let mut peers: Vec<(Dc, u64)> = db.senders.iter().map(|(dc, sender)| (*dc, sender.conn)).collect();
        peers.extend(db.receiver.as_ref().map(|receiver| (receiver.from, receiver.conn)));
        for (dc, conn) in peers {
            if self.net.passes(Channel::Replication, at.dc, dc) && self.power[at.dc] {
                let delay = self.net.delay(&mut self.rng, at.dc, dc);
                let peer = At { dc, unit: at.unit };
                self.after(delay, Proc::Postgres(peer), Event::Hangup { at: peer, conn });
            }
        }
    }

    pub(crate) fn housekeeping(&mut self, at: At) {
        self.hear_keepalives(at);
        let now = self.now;
        let db = self.db_mut(at);
        db.senders.retain(|_, sender| now.saturating_sub(sender.heard) <= SILENCE_MAX);
        let silent = db.receiver.as_ref().is_some_and(|r| now.saturating_sub(r.heard) > SILENCE_MAX);
        if silent {
            self.say(Proc::Postgres(at), || "gives up a silent connection to its upstream".to_owned());
            self.stop_receiver(at);
        }
        if self.db(at).process == Process::Standby {
            self.connect(at);
        }
        let next = self.between(HOUSEKEEPING / 2, HOUSEKEEPING);
        self.after(next, Proc::Postgres(at), Event::Housekeeping { at });
    }

    /// Both ends of a connection hear each other's keep-alives if the link passes them and the peer runs.
    fn hear_keepalives(&mut self, at: At) {
        let now = self.now;
        let standbys: Vec<(Dc, u64)> = self.db(at).senders.iter().map(|(dc, s)| (*dc, s.conn)).collect();
        for (dc, conn) in standbys {
            let peer = At { dc, unit: at.unit };
            let holds = self.db(peer).receiver.as_ref().is_some_and(|receiver| receiver.conn == conn);
            if holds
                && self.hears(at.dc, peer)
                && let Some(sender) = self.db_mut(at).senders.get_mut(&dc)
            {
                sender.heard = now;
            }
        }
        let Some(receiver) = self.db(at).receiver.clone() else { return };
        let peer = At { dc: receiver.from, unit: at.unit };
        let holds = self.db(peer).senders.get(&at.dc).is_some_and(|sender| sender.conn == receiver.conn);
        if holds
            && self.hears(at.dc, peer)
            && let Some(receiver) = self.db_mut(at).receiver.as_mut()
        {
            receiver.heard = now;
        }
    }

    fn hears(&self, dc: Dc, peer: At) -> bool {
        self.processes.runs(Proc::Postgres(peer)) && self.net.passes(Channel::Replication, peer.dc, dc)
    }
}
