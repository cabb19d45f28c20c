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

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dujiang_types::Lsn;

use super::error::{PostgresError, file};
use super::{Replica, wal};
use crate::files;

/// Reading one segment takes milliseconds; more means that the disk hangs.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// One segment under two names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pair {
    place: String,
    /// Where the segment begins.
    begins: Lsn,
    older: u32,
    newer: u32,
    /// Up to here both are the same log.
    parted: Lsn,
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
        let pairs = pairs(&pg_wal).map_err(file("compare the log in", &pg_wal))?;
        let mut short = Vec::new();
        for pair in pairs {
            let newer = self.readable(pair.newer, pair.begins, pair.parted).await?;
            if newer < pair.parted && newer < self.readable(pair.older, pair.begins, pair.parted).await? {
                short.push(pg_wal.join(format!("{:08X}{}", pair.newer, pair.place)));
            }
        }
        Ok(short)
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

/// Segments in which a timeline begins, and which differ from what is there of an ancestor, before the two part.
fn pairs(pg_wal: &Path) -> io::Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    let timelines = fs::read_dir(pg_wal)?.flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        u32::from_str_radix(name.strip_suffix(".history")?, 16).ok()
    });
    for newer in timelines {
        let history = wal::read_history(pg_wal, newer)?;
        let Some((_, left)) = history.ancestors.last() else { continue };
        let (place, begins) = (wal::segment(*left), Lsn(left.0 - left.0 % wal::SEGMENT_BYTES));
        let named = |timeline: u32| pg_wal.join(format!("{timeline:08X}{place}"));
        for (older, parted) in &history.ancestors {
            if *parted > begins && differ(&named(*older), &named(newer), parted.0 - begins.0)? {
                let (place, older, parted) = (place.clone(), *older, *parted);
                pairs.push(Pair { place, begins, older, newer, parted });
            }
        }
    }
    Ok(pairs)
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
        begins(2, &format!("1\t{left}\treason\n"));
        begins(3, "# No timeline\n");
        begins(4, &format!("1\t{left}\treason\n2\t{}\treason\n", Lsn(left.0 + 50)));
        write(1, &[7; 200]);
        assert_eq!(pairs(dir.path()).unwrap(), [], "one name only");
        let same_up_to = |count: usize| [vec![7; count], vec![0; 200 - count]].concat();
        write(2, &same_up_to(100));
        assert_eq!(pairs(dir.path()).unwrap(), [], "they part where they part");
        write(2, &same_up_to(99));
        let begins = Lsn(left.0 - 100);
        let pair = Pair { place: place.clone(), begins, older: 1, newer: 2, parted: left };
        assert_eq!(pairs(dir.path()).unwrap(), [pair]);
        // Of all ancestors, each up to where it was left.
        write(2, &same_up_to(150));
        write(4, &same_up_to(120));
        let pair = Pair { place: place.clone(), begins, older: 2, newer: 4, parted: Lsn(left.0 + 50) };
        assert_eq!(pairs(dir.path()).unwrap(), [pair]);
    }
}
