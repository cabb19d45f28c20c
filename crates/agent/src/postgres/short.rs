//! Segments received under a new timeline's name that end before the log this replica has under the old one's.
//!
//! A timeline begins in the middle of a segment, and a follower receives that segment again from its beginning, under the
//! new name. Until the copy has reached the place where the old timeline was left, the old segment holds more of the
//! log. PostgreSQL does not know that: it reads the newest name there is. A standby that is promoted then panics ("invalid
//! magic number"), and one that is started anew replays less than it has flushed, which for an election would be a lie
//! (pgsql-hackers, December 2025: "Startup PANIC on standby promotion due to zero-filled WAL segment").
//!
//! So before a start, and before a detached replica says how far its log reaches, such a copy goes: there is nothing in
//! it that the older segment has not.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dujiang_types::Lsn;

use super::error::{PostgresError, file};
use super::{Replica, wal};
use crate::files;

/// Reading one segment takes milliseconds; more means that the disk hangs.
pub(super) const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// The segment in which a timeline begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Beginning {
    pub(super) timeline: u32,
    /// Its place in the log: what follows the timeline in its name.
    place: String,
    /// Where the segment begins.
    at: Lsn,
    /// Ancestors that have log in this place, the last one last, and up to where it is also this timeline's.
    ancestors: Vec<(u32, Lsn)>,
}

impl Replica {
    /// Removes the copies that end too early. Only while PostgreSQL is stopped.
    pub(super) async fn remove_short(&self) -> Result<(), PostgresError> {
        let pg_wal = self.pg_wal();
        for path in self.short().await? {
            tracing::warn!(unit = %self.settings.unit, path = %path.display(), "removes the beginning of a segment");
            files::remove_file(&path).map_err(file("remove", &path))?;
        }
        files::sync_dir(&pg_wal).map_err(file("write", &pg_wal))
    }

    /// The copies that end too early.
    pub(super) async fn short(&self) -> Result<Vec<PathBuf>, PostgresError> {
        let pg_wal = self.pg_wal();
        let within = pg_wal.clone();
        let compare = move |_: &_| beginnings(&within).map_err(file("look for timelines in", &within));
        let mut short = Vec::new();
        // PostgreSQL never looks at what is below a newer name. Many timelines may begin in one segment when a unit has
        // failed over and over: then this is what keeps it from being slow to come back.
        let mut hidden = BTreeSet::new();
        for beginning in self.on_disk(compare).await? {
            let Beginning { timeline, place, ancestors, .. } = &beginning;
            let copy = pg_wal.join(format!("{timeline:08X}{place}"));
            // One of which there is nothing but the history hides nothing.
            if hidden.contains(&(place.clone(), *timeline)) || !copy.exists() {
                continue;
            }
            if self.is_short(&beginning).await? {
                short.push(copy);
            } else {
                hidden.extend(ancestors.iter().map(|(ancestor, _)| (place.clone(), *ancestor)));
            }
        }
        Ok(short)
    }

    /// True if an ancestor has more of the log both share.
    async fn is_short(&self, beginning: &Beginning) -> Result<bool, PostgresError> {
        let (pg_wal, of) = (self.pg_wal(), beginning.clone());
        let compare = move |_: &_| of.differing(&pg_wal).map_err(file("compare the log in", &pg_wal));
        let differing = self.on_disk(compare).await?;
        let Some((_, until)) = differing.last() else { return Ok(false) };
        let reached = self.readable(beginning.timeline, beginning.at, *until).await?;
        for (older, parted) in differing {
            if reached < parted && reached < self.readable(older, beginning.at, parted).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Up to where one segment's records can be read, at most to `until`. The last one counts from where it begins: of
    /// two that hold the same log only the order matters.
    async fn readable(&self, timeline: u32, from: Lsn, until: Lsn) -> Result<Lsn, PostgresError> {
        let pg_wal = self.pg_wal().display().to_string();
        let (timeline, start, end) = (timeline.to_string(), from.to_string(), until.to_string());
        let args = ["-q", "-p", &pg_wal, "-t", &timeline, "-s", &start, "-e", &end];
        match self.tool("pg_waldump", &args, String::new(), CHECK_TIMEOUT).await {
            Ok(_) => Ok(until),
            Err(PostgresError::Tool { excerpt, .. }) => Ok(last_record(&excerpt).unwrap_or(from)),
            Err(error) => Err(error),
        }
    }
}

/// The last record that `pg_waldump` has read: `error in WAL record at 0/1001F98: invalid record length at ...`
fn last_record(said: &str) -> Option<Lsn> {
    said.split_once("error in WAL record at ")?.1.split(':').next()?.trim().parse().ok()
}

impl Beginning {
    /// Where the timeline begins.
    pub(super) fn begins(&self) -> Lsn {
        self.ancestors.last().map_or(self.at, |(_, parted)| *parted)
    }

    /// Of the ancestors those whose segment is not the same up to where it should be.
    fn differing(&self, pg_wal: &Path) -> io::Result<Vec<(u32, Lsn)>> {
        let named = |timeline: u32| pg_wal.join(format!("{timeline:08X}{}", self.place));
        let mut differing = Vec::new();
        for (ancestor, parted) in &self.ancestors {
            if differ(&named(*ancestor), &named(self.timeline), parted.0 - self.at.0)? {
                differing.push((*ancestor, *parted));
            }
        }
        Ok(differing)
    }
}

/// Where timelines begin, the newest first.
pub(super) fn beginnings(pg_wal: &Path) -> io::Result<Vec<Beginning>> {
    let mut timelines: Vec<u32> = fs::read_dir(pg_wal)?
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            u32::from_str_radix(name.strip_suffix(".history")?, 16).ok()
        })
        .collect();
    timelines.sort_unstable_by(|a, b| b.cmp(a));
    let mut beginnings = Vec::new();
    for timeline in timelines {
        let mut ancestors = wal::read_history(pg_wal, timeline)?.ancestors;
        let Some((_, left)) = ancestors.last() else { continue };
        let (place, at) = (wal::segment(*left), Lsn(left.0 - left.0 % wal::SEGMENT_BYTES));
        ancestors.retain(|(_, parted)| *parted > at);
        beginnings.push(Beginning { timeline, place, at, ancestors });
    }
    Ok(beginnings)
}

/// True if both are there and their first bytes, so many, are not the same.
fn differ(one: &Path, other: &Path, bytes: u64) -> io::Result<bool> {
    let read = |path: &Path| -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut text = Vec::new();
        file.take(bytes).read_to_end(&mut text)?;
        Ok(Some(text))
    };
    Ok(matches!((read(one)?, read(other)?), (Some(one), Some(other)) if one != other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_record_is_taken_from_the_error() {
        let said =
            "exit status: 1: pg_waldump: error: error in WAL record at 0/1001F98: invalid magic number 0000";
        assert_eq!(last_record(said), Some(Lsn(0x100_1F98)));
        assert_eq!(last_record("pg_waldump: error: could not find a valid record after 0/1000000"), None);
    }

    #[test]
    fn only_what_lies_before_the_place_where_timelines_part_is_compared() {
        let dir = tempfile::tempdir().unwrap();
        let left = Lsn(16 * wal::SEGMENT_BYTES + 100);
        let place = wal::segment(left);
        let write = |timeline: u32, bytes: &[u8]| {
            fs::write(dir.path().join(format!("{timeline:08X}{place}")), bytes).unwrap();
        };
        let begins = |timeline: u32, ancestors: &str| {
            fs::write(dir.path().join(format!("{timeline:08X}.history")), ancestors).unwrap();
        };
        let later = Lsn(left.0 + 50);
        begins(2, &format!("1\t{left}\treason\n"));
        begins(3, "# No timeline\n");
        begins(4, &format!("1\t{left}\treason\n2\t{later}\treason\n"));
        // It begins a segment later: nothing of an ancestor lies in it.
        begins(5, &format!("1\t{}\treason\n", Lsn(17 * wal::SEGMENT_BYTES)));
        let found = beginnings(dir.path()).unwrap();
        let [five, four, two] = &found[..] else { panic!("{found:?}") };
        assert_eq!((five.timeline, &five.ancestors[..]), (5, &[][..]));
        assert_eq!((four.timeline, &four.ancestors[..]), (4, &[(1, left), (2, later)][..]));
        assert_eq!((two.timeline, &two.place, two.at), (2, &place, Lsn(left.0 - 100)));

        let differing = |beginning: &Beginning| beginning.differing(dir.path()).unwrap();
        write(1, &[7; 200]);
        assert_eq!(differing(two), [], "one name only");
        let same_up_to = |count: usize| [vec![7; count], vec![0; 200 - count]].concat();
        write(2, &same_up_to(100));
        assert_eq!(differing(two), [], "they part where they part");
        write(2, &same_up_to(99));
        assert_eq!(differing(two), [(1, left)]);
        write(2, &same_up_to(150));
        write(4, &same_up_to(120));
        assert_eq!(differing(four), [(2, later)], "of all ancestors, each up to where it was left");
    }
}
