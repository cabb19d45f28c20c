//! A model of one PostgreSQL with its data directory: what it does to a log, to waiting commits and to whoever
//! follows it, including everything that has misled those who drive it.
//!
//! Only state and rules are here; durations, messages and failures are the world's (`replication.rs`,
//! `database.rs`).

use std::collections::{BTreeMap, BTreeSet};

use crate::place::Dc;
use crate::trace::Us;

/// What a record of the log says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The database was created.
    Made,
    /// A client's write.
    Write {
        /// Its idempotency key.
        key: u64,
    },
    /// A client's write whose key was there already: a commit of its own, so that the answer waits for the same
    /// durability as the first try.
    Again {
        /// The key.
        key: u64,
    },
    /// The epoch in the fence was set.
    Fence {
        /// The epoch.
        epoch: u64,
    },
    /// A real write to see whether the disk answers.
    Probe,
    /// End of recovery: the first record of a new timeline.
    Promoted,
    /// The shutdown checkpoint of a primary that was stopped in order.
    Shutdown,
}

/// One record. Logs are compared by `id`, which no real database could; PostgreSQL itself only sees the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Unique in the world.
    pub id: u64,
    /// Timeline it was written on.
    pub timeline: u32,
    /// Position of its end; it starts where the one before ends.
    pub end: u64,
    /// Content.
    pub what: What,
}

/// What the data directory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Nothing.
    Absent,
    /// Half made by an interrupted init, clone or rewind.
    Broken,
    /// A database.
    Present,
}

/// What the server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// No process exists.
    Down,
    /// Replaying what is on disk.
    Starting,
    /// In recovery and answering.
    Standby,
    /// Told to promote, still in recovery.
    Promoting,
    /// Read-write.
    Primary,
    /// Ending in order.
    Stopping,
}

/// `synchronous_standby_names`: `ANY need (members)`, members as a bit per data center.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Setting {
    /// One bit per data center.
    pub members: u8,
    /// How many of them; 0 means the setting is empty and nobody is waited for.
    pub need: u8,
}

impl Setting {
    /// The setting that names these members.
    pub fn new(members: impl IntoIterator<Item = Dc>, need: u8) -> Self {
        Self { members: members.into_iter().fold(0, |bits, dc| bits | 1 << dc), need }
    }

    /// True if the data center is named.
    pub fn names(self, dc: Dc) -> bool {
        self.members & (1 << dc) != 0
    }

    /// The data centers named.
    pub fn list(self) -> impl Iterator<Item = Dc> {
        (0..8).filter(move |dc| self.names(*dc))
    }
}

/// A walsender: what the upstream knows of one connected standby.
#[derive(Debug, Clone)]
pub struct Sender {
    /// The connection.
    pub conn: u64,
    /// Records sent.
    pub sent: usize,
    /// Records the standby says it has flushed.
    pub flushed: usize,
    /// The setting as *this process* has last read it. Releases happen by this, not by what the file says.
    pub setting: Setting,
    /// When the standby was last heard.
    pub heard: Us,
}

/// A walreceiver: what a standby knows of its connection.
#[derive(Debug, Clone)]
pub struct Receiver {
    /// The connection.
    pub conn: u64,
    /// Whom it receives from.
    pub from: Dc,
    /// When the upstream was last heard.
    pub heard: Us,
}

/// Why a standby cannot stream from an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch {
    /// Its log left the upstream's history: it has to be rewound.
    Diverged,
    /// It holds more than the upstream has.
    Ahead,
    /// The upstream has removed the log it needs: it has to be cloned.
    Removed,
}

/// One commit that waits for synchronous standbys, or for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiter {
    /// The attempt whose session waits.
    pub attempt: u64,
}

/// One PostgreSQL: directory (durable) and server (volatile).
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own about a server or its directory"
)]
pub struct Postgres {
    // Durable.
    /// What the directory holds.
    pub content: Content,
    /// The log. What is beyond `flushed` dies with the server or the machine.
    pub log: Vec<Record>,
    /// Records on disk.
    pub flushed: usize,
    /// Records removed from the front as far as streaming is concerned: a slot was lost.
    pub removed: usize,
    /// The configuration file's `synchronous_standby_names`.
    pub file_setting: Setting,
    /// The configuration file's upstream (`primary_conninfo`).
    pub file_upstream: Option<Dc>,
    /// True if `pg_controldata` says "shut down" (not "in recovery"): the last record is a shutdown checkpoint.
    pub sealed: bool,

    // Volatile.
    /// What the server does.
    pub process: Process,
    /// Upstream as the startup process has last read it.
    pub upstream: Option<Dc>,
    /// The walreceiver, if one exists.
    pub receiver: Option<Receiver>,
    /// Walsenders by standby.
    pub senders: BTreeMap<Dc, Sender>,
    /// The checkpointer's view: if the setting names nobody, waiting is off for all.
    pub waits: bool,
    /// Records replayed.
    pub replayed: usize,
    /// The startup process is at work.
    pub replaying: bool,
    /// Records released by walsenders so far; a commit below need not wait.
    pub released: usize,
    /// Commits waiting, by index of their record.
    pub waiting: BTreeMap<usize, Waiter>,
    /// True if clients are admitted.
    pub open: bool,
    /// Keys whose rows are in the database (visible or not), with the index of the record.
    pub keys: BTreeMap<u64, usize>,
    /// The epoch in the fence.
    pub fence: u64,
    /// A flush has been issued up to here.
    pub flushing: Option<usize>,
}

impl Default for Postgres {
    fn default() -> Self {
        Self::new()
    }
}

impl Postgres {
    /// An empty directory and no server.
    pub fn new() -> Self {
        Self {
            content: Content::Absent,
            log: Vec::new(),
            flushed: 0,
            removed: 0,
            file_setting: Setting::default(),
            file_upstream: None,
            sealed: false,
            process: Process::Down,
            upstream: None,
            receiver: None,
            senders: BTreeMap::new(),
            waits: true,
            replayed: 0,
            replaying: false,
            released: 0,
            waiting: BTreeMap::new(),
            open: false,
            keys: BTreeMap::new(),
            fence: 0,
            flushing: None,
        }
    }

    /// True if the server runs read-write.
    pub fn is_primary(&self) -> bool {
        self.process == Process::Primary
    }

    /// Timeline of the last record on disk.
    pub fn timeline(&self) -> u32 {
        self.flushed.checked_sub(1).map_or(0, |last| self.log[last].timeline)
    }

    /// End of the first `count` records.
    pub fn end_of(&self, count: usize) -> u64 {
        count.checked_sub(1).map_or(0, |last| self.log[last].end)
    }

    /// Appends a record of `size` bytes on the timeline. Returns its index.
    pub fn append(&mut self, id: u64, timeline: u32, size: u64, what: What) -> usize {
        let end = self.log.last().map_or(0, |last| last.end) + size;
        self.log.push(Record { id, timeline, end, what });
        self.note(self.log.len() - 1);
        self.log.len() - 1
    }

    /// What the last appended record changes in the database.
    fn note(&mut self, index: usize) {
        match self.log[index].what {
            What::Write { key } => {
                self.keys.insert(key, index);
            }
            What::Fence { epoch } => self.fence = epoch,
            _ => {}
        }
    }

    /// Derives rows and fence from the log: after a start, a promotion or a copy.
    pub fn rebuild(&mut self) {
        self.keys.clear();
        self.fence = 0;
        for index in 0..self.log.len() {
            self.note(index);
        }
    }

    /// The server ends without order. Of what was written and not flushed, `survivors` records had reached the
    /// operating system (none of them outlives the machine). Waiting sessions end unanswered; their rows stay.
    pub fn crash(&mut self, survivors: usize) {
        let keep = (self.flushed + survivors).min(self.log.len());
        self.log.truncate(keep);
        self.flushed = keep;
        self.process = Process::Down;
        self.upstream = None;
        self.receiver = None;
        self.senders.clear();
        self.waiting.clear();
        self.open = false;
        self.flushing = None;
        self.replaying = false;
        self.released = 0;
        self.replayed = self.replayed.min(keep);
    }

    /// `pg_stat_replication` as misleading as it is: the state comes from the querying backend's view of the
    /// file, not from what walsenders and waiting sessions use.
    pub fn says_sync(&self, dc: Dc) -> bool {
        self.senders.contains_key(&dc) && self.file_setting.names(dc)
    }

    /// True if every process has read the file's setting.
    pub fn setting_seen_by_all(&self) -> bool {
        self.waits == (self.file_setting.need > 0)
            && self.senders.values().all(|sender| sender.setting == self.file_setting)
    }

    /// How many of the setting's members have flushed `count` records.
    pub fn flushed_by(&self, setting: Setting, count: usize) -> usize {
        self.senders.iter().filter(|(dc, s)| setting.names(**dc) && s.flushed >= count).count()
    }

    /// A standby said it has flushed `count` records: its walsender releases waiters by its own view of the
    /// setting. Returns the attempts whose commits are acknowledged now, with their record's index.
    pub fn acknowledged_by(&mut self, dc: Dc, count: usize, now: Us) -> Vec<(usize, Waiter)> {
        let Some(sender) = self.senders.get_mut(&dc) else { return Vec::new() };
        sender.heard = now;
        sender.flushed = sender.flushed.max(count);
        let setting = sender.setting;
        if !self.is_primary() && self.process != Process::Stopping || !setting.names(dc) || setting.need == 0
        {
            return Vec::new();
        }
        let members = self.senders.iter().filter(|(dc, _)| setting.names(**dc));
        let mut flushed: Vec<usize> = members.map(|(_, sender)| sender.flushed).collect();
        flushed.sort_unstable_by(|a, b| b.cmp(a));
        let Some(synced) = flushed.get(usize::from(setting.need) - 1) else { return Vec::new() };
        self.released = self.released.max((*synced).min(self.flushed));
        self.release(self.released)
    }

    /// Takes the waiters whose records are among the first `count`.
    pub fn release(&mut self, count: usize) -> Vec<(usize, Waiter)> {
        let rest = self.waiting.split_off(&count);
        std::mem::replace(&mut self.waiting, rest).into_iter().collect()
    }

    /// True if this log holds that record on disk at that place; being a log, it then holds all before it.
    pub fn holds(&self, index: usize, id: u64) -> bool {
        self.content == Content::Present
            && index < self.flushed
            && self.log.get(index).is_some_and(|record| record.id == id)
    }

    /// Where this log leaves a timeline: the end of its last record on it. `None` if it was never on it.
    fn leaves(&self, timeline: u32) -> Option<u64> {
        self.log[..self.flushed].iter().rev().find(|r| r.timeline == timeline).map(|r| r.end)
    }

    /// Whether `standby` can stream from this server, as PostgreSQL judges it: by timelines and positions, never
    /// by content.
    pub fn accepts(&self, standby: &Self) -> Result<(), Mismatch> {
        let (timeline, end) = (standby.timeline(), standby.end_of(standby.flushed));
        if timeline > self.timeline() {
            return Err(Mismatch::Ahead);
        }
        match self.leaves(timeline) {
            None => Err(Mismatch::Diverged),
            Some(_) if timeline == self.timeline() && end > self.end_of(self.flushed) => Err(Mismatch::Ahead),
            Some(left) if end > left => Err(Mismatch::Diverged),
            Some(_) if standby.flushed < self.removed => Err(Mismatch::Removed),
            Some(_) => Ok(()),
        }
    }

    /// Records both logs have in common on disk.
    pub fn common(&self, other: &Self) -> usize {
        let ours = self.log[..self.flushed].iter();
        ours.zip(&other.log[..other.flushed]).take_while(|(a, b)| a.id == b.id).count()
    }

    /// The directory becomes a copy of what `source` has on disk now.
    pub fn copy_from(&mut self, source: &Self) {
        self.log.clear();
        self.log.extend_from_slice(&source.log[..source.flushed]);
        self.flushed = self.log.len();
        self.replayed = self.flushed;
        self.removed = 0;
        self.sealed = false;
        self.content = Content::Present;
    }

    /// Keys of all client writes on disk.
    pub fn keys_on_disk(&self) -> BTreeSet<u64> {
        let writes = self.log[..self.flushed].iter().filter_map(|record| match record.what {
            What::Write { key } => Some(key),
            _ => None,
        });
        writes.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn primary(records: u64) -> Postgres {
        let mut pg = Postgres::new();
        pg.content = Content::Present;
        pg.process = Process::Primary;
        for id in 0..records {
            pg.append(id, 1, 10, What::Write { key: id });
        }
        pg.flushed = pg.log.len();
        pg
    }

    fn connect(pg: &mut Postgres, dc: Dc, setting: Setting) {
        pg.senders.insert(dc, Sender { conn: dc as u64, sent: 0, flushed: 0, setting, heard: 0 });
    }

    fn copy(pg: &Postgres) -> Postgres {
        let mut other = Postgres::new();
        other.copy_from(pg);
        other
    }

    #[test]
    fn a_waiter_is_released_by_enough_members_and_by_nobody_else() {
        let mut pg = primary(3);
        let setting = Setting::new([1, 2], 1);
        connect(&mut pg, 1, setting);
        connect(&mut pg, 2, setting);
        pg.waiting.insert(2, Waiter { attempt: 7 });
        assert!(pg.acknowledged_by(1, 2, 0).is_empty(), "flushed only what was before");
        assert_eq!(pg.acknowledged_by(2, 3, 0), vec![(2, Waiter { attempt: 7 })]);
    }

    #[test]
    fn a_walsender_that_has_not_read_the_new_setting_releases_by_the_old_one() {
        let mut pg = primary(1);
        connect(&mut pg, 1, Setting::new([1], 1));
        pg.file_setting = Setting::new([2], 1);
        pg.waiting.insert(0, Waiter { attempt: 1 });
        assert!(!pg.setting_seen_by_all());
        assert_eq!(pg.acknowledged_by(1, 1, 0).len(), 1);
    }

    #[test]
    fn statistics_say_sync_before_anybody_waits() {
        let mut pg = primary(1);
        connect(&mut pg, 2, Setting::new([1], 1));
        pg.file_setting = Setting::new([2], 1);
        assert!(pg.says_sync(2) && !pg.setting_seen_by_all());
    }

    #[test]
    fn too_few_members_release_nobody() {
        let mut pg = primary(1);
        connect(&mut pg, 1, Setting::new([1], 2));
        pg.waiting.insert(0, Waiter { attempt: 1 });
        assert!(pg.acknowledged_by(1, 1, 0).is_empty());
    }

    #[test]
    fn a_crash_keeps_what_was_committed_locally_and_answers_nobody() {
        let mut pg = primary(2);
        pg.append(9, 1, 10, What::Write { key: 9 });
        pg.waiting.insert(1, Waiter { attempt: 1 });
        pg.crash(0);
        pg.rebuild();
        assert_eq!(pg.log.len(), 2);
        assert!(pg.keys.contains_key(&1) && !pg.keys.contains_key(&9));
        assert!(pg.waiting.is_empty());
    }

    #[test]
    fn divergence_is_judged_by_timeline_and_position() {
        let old = primary(5);
        let mut new = copy(&old);
        new.log.truncate(3);
        new.flushed = 3;
        let behind = copy(&new);
        new.append(100, 2, 10, What::Promoted);
        new.flushed = 4;
        assert_eq!(new.accepts(&behind), Ok(()));
        assert_eq!(new.accepts(&old), Err(Mismatch::Diverged), "longer on the older timeline");
        assert_eq!(old.accepts(&new), Err(Mismatch::Ahead));
        assert_eq!(new.common(&old), 3);
        new.removed = 4;
        assert_eq!(new.accepts(&behind), Err(Mismatch::Removed));
    }

    #[test]
    fn two_promotions_to_the_same_timeline_number_are_not_told_apart() {
        let base = primary(3);
        let (mut a, mut b) = (copy(&base), copy(&base));
        a.append(100, 2, 10, What::Promoted);
        b.append(200, 2, 10, What::Promoted);
        b.append(201, 2, 10, What::Probe);
        a.flushed = a.log.len();
        b.flushed = b.log.len();
        assert_eq!(b.accepts(&a), Ok(()), "PostgreSQL would stream over a foreign log");
        assert_eq!(b.common(&a), 3);
    }
}
