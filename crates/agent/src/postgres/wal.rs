//! The write-ahead log on disk: which timeline it is on, where timelines part, and keeping what diverged.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use dujiang_types::loss::{LOSSES_FILE, Losses};
use dujiang_types::{Epoch, Lsn, Position};
use serde::{Deserialize, Serialize};

use crate::files;

/// Size of a WAL segment in MB, what `initdb` is told. At every change of home a new timeline begins with a copy of the
/// segment it forks in, and every follower receives that segment again from its beginning: with PostgreSQL's 16 MB
/// that took longer than all the rest of a move.
pub const SEGMENT_MB: u64 = 1;
/// The same in bytes.
pub const SEGMENT_BYTES: u64 = SEGMENT_MB << 20;
/// Size of a WAL page, fixed when PostgreSQL is compiled; Debian uses the default.
const PAGE_BYTES: u64 = 8192;
/// First line of a history file that only fills a gap in the numbers.
const PLACEHOLDER: &str = "# No timeline: the number was skipped so that timelines follow epochs.\n";

/// Name of a segment without its timeline: what a position lies in.
pub fn segment(at: Lsn) -> String {
    let number = at.0 / SEGMENT_BYTES;
    let per_id = (1_u64 << 32) / SEGMENT_BYTES;
    format!("{:08X}{:08X}", number / per_id, number % per_id)
}

/// Splits a segment's file name into timeline and segment. `None` for any other file.
fn parse_name(name: &str) -> Option<(u32, &str)> {
    let hex = name.len() == 24 && name.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b));
    if !hex {
        return None;
    }
    Some((u32::from_str_radix(&name[..8], 16).ok()?, &name[8..]))
}

fn names(pg_wal: &Path) -> io::Result<Vec<String>> {
    Ok(fs::read_dir(pg_wal)?.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

/// The timeline of the last byte before `end`, which must be a position this replica has reached: the highest
/// one that begins before it and of which that part is on disk.
///
/// The name of a segment alone proves nothing: PostgreSQL renames old segments to names it will need, and a
/// standby that has just begun to receive a new timeline has its file while its log still ends on the old one.
pub fn timeline_at(pg_wal: &Path, end: Lsn) -> io::Result<Option<u32>> {
    if end.0 == 0 {
        return Ok(None);
    }
    let last = Lsn(end.0 - 1);
    let wanted = segment(last);
    let names = names(pg_wal)?;
    let mut timelines: Vec<u32> =
        names.iter().filter_map(|n| parse_name(n)).filter(|(_, s)| *s == wanted).map(|(t, _)| t).collect();
    timelines.sort_unstable_by(|a, b| b.cmp(a));
    for timeline in timelines {
        let begins = read_history(pg_wal, timeline)?.ancestors.last().map_or(Lsn(0), |(_, left)| *left);
        let written = || is_written(&pg_wal.join(format!("{timeline:08X}{wanted}")), last);
        if begins < end && written().unwrap_or(false) {
            return Ok(Some(timeline));
        }
    }
    Ok(None)
}

/// A timeline that this replica has begun to read at `own`, its end, although it is none of the upstream's.
///
/// When a promotion comes to nothing, a follower may have received the copy of the segment its timeline begins with and
/// not one byte of its own. Then its log fits everybody's; but PostgreSQL reads the segment under that timeline's name,
/// and ends as soon as it learns of a history in which the same place belongs to another one - at every start again.
pub fn dead_branch(pg_wal: &Path, own: Position, upstream: &History) -> io::Result<Option<u32>> {
    if own.flushed.0 == 0 {
        return Ok(None);
    }
    let last = Lsn(own.flushed.0 - 1);
    let wanted = segment(last);
    let alien = |timeline: u32| {
        timeline != upstream.timeline && !upstream.ancestors.iter().any(|(known, _)| *known == timeline)
    };
    let begun = |(timeline, place): &(u32, &str)| {
        *place == wanted
            && *timeline > own.timeline
            && alien(*timeline)
            && is_written(&pg_wal.join(format!("{timeline:08X}{place}")), last).unwrap_or(false)
    };
    Ok(names(pg_wal)?
        .iter()
        .filter_map(|name| parse_name(name))
        .filter(begun)
        .map(|(timeline, _)| timeline)
        .max())
}

/// True if a segment's file holds log of its own place: the address in the header of the page with that byte
/// says so. Pages after a switch to the next segment are all zero; then the last page before them tells.
fn is_written(file: &Path, byte: Lsn) -> io::Result<bool> {
    let file = File::open(file)?;
    let mut page = byte.0 - byte.0 % PAGE_BYTES;
    loop {
        let mut header = [0; 16];
        file.read_exact_at(&mut header, page % SEGMENT_BYTES)?;
        if header != [0; 16] {
            let address = header[8..].try_into().map_or(0, u64::from_le_bytes);
            return Ok(address == page);
        }
        if page.is_multiple_of(SEGMENT_BYTES) {
            return Ok(false);
        }
        page -= PAGE_BYTES;
    }
}

/// Where a timeline's ancestors end, from its history file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// The timeline itself.
    pub timeline: u32,
    /// Its ancestors with the position where each was left.
    pub ancestors: Vec<(u32, Lsn)>,
}

impl History {
    /// Reads the text of the history file of `timeline`. Timeline 1 has none; pass an empty text.
    pub fn parse(timeline: u32, text: &str) -> Option<Self> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let parse = |line: &str| {
            let mut fields = line.split_ascii_whitespace();
            Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
        };
        Some(Self { timeline, ancestors: lines.map(parse).collect::<Option<_>>()? })
    }

    /// Where the log of a replica that reaches to `position` leaves this history. `None` if it does not: every
    /// byte it has is part of it.
    pub fn fork(&self, position: Position, own: &Self) -> Option<Lsn> {
        if position.timeline == self.timeline {
            return None;
        }
        // The end of the common part on the replica's own last timeline, or on the last ancestor both share.
        let left_at = |timeline| self.ancestors.iter().find(|(t, _)| *t == timeline).map(|(_, lsn)| *lsn);
        if let Some(left) = left_at(position.timeline) {
            return (position.flushed > left).then_some(left);
        }
        let shared = own.ancestors.iter().rev().find_map(|(timeline, own_left)| {
            if *timeline == self.timeline {
                Some(*own_left)
            } else {
                left_at(*timeline).map(|left| left.min(*own_left))
            }
        });
        Some(shared.unwrap_or(Lsn(0)))
    }
}

/// Reads the history of a timeline from a local `pg_wal`.
pub fn read_history(pg_wal: &Path, timeline: u32) -> io::Result<History> {
    let text = match fs::read_to_string(pg_wal.join(format!("{timeline:08X}.history"))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        other => other?,
    };
    History::parse(timeline, &text)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unreadable history"))
}

/// Makes the next promotion take `timeline`: PostgreSQL takes the first number above its own that has no
/// history file, and a standby that follows fetches the history file of every number in between.
pub fn fill_gap(pg_wal: &Path, timeline: u32) -> io::Result<Vec<PathBuf>> {
    let mut made = Vec::new();
    for number in 2..timeline {
        let path = pg_wal.join(format!("{number:08X}.history"));
        if !path.exists() {
            fs::write(&path, PLACEHOLDER)?;
            made.push(path);
        }
    }
    files::sync_dir(pg_wal)?;
    Ok(made)
}

/// Removes placeholders that no real timeline lies above: a promotion that did not happen left them, and
/// PostgreSQL would take the highest for the timeline to recover to.
pub fn remove_loose_placeholders(pg_wal: &Path) -> io::Result<()> {
    let mut histories: Vec<String> =
        names(pg_wal)?.into_iter().filter(|name| name.ends_with(".history")).collect();
    histories.sort_unstable_by(|a, b| b.cmp(a));
    for name in histories {
        let path = pg_wal.join(name);
        if fs::read_to_string(&path)? != PLACEHOLDER {
            break;
        }
        fs::remove_file(&path)?;
    }
    files::sync_dir(pg_wal)
}

/// What is written beside log that was kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// How far the replica's log reached.
    pub end: Position,
    /// Where it had left the log of the new primary: what lies between is nowhere else.
    pub fork: Lsn,
    /// Under which epoch the replica had been primary, if it had.
    pub primary_epoch: Option<Epoch>,
    /// When it was kept (wall clock, for people).
    pub kept_at: jiff::Timestamp,
}

/// Copies the segments from `kept.fork` to `kept.end` and the history files into a new folder of `dir`, beside what
/// they hold; and all of `data`, if it is given.
///
/// Copies, not links: `pg_rewind` writes into the files. Returns the folder.
pub fn keep(
    pg_wal: &Path,
    kept: &Kept,
    losses: &Losses,
    data: Option<&Path>,
    dir: &Path,
) -> io::Result<PathBuf> {
    let name = format!("{}-tl{}", kept.kept_at.strftime("%Y%m%dT%H%M%S%3fZ"), kept.end.timeline);
    let (made, folder) = (dir.join(format!("{name}.new")), dir.join(name));
    files::remove_dir(&made)?;
    fs::create_dir_all(&made)?;
    let (first, last) = (segment(kept.fork), segment(Lsn(kept.end.flushed.0.saturating_sub(1))));
    for name in names(pg_wal)? {
        let diverged = parse_name(&name).is_some_and(|(_, s)| *first <= *s && *s <= *last);
        if diverged || name.ends_with(".history") {
            fs::copy(pg_wal.join(&name), made.join(&name))?;
            File::open(made.join(&name))?.sync_all()?;
        }
    }
    if let Some(data) = data {
        files::copy_dir(data, &made.join("pgdata"))?;
    }
    // Customers' accounts and amounts are nobody else's business.
    let manifest = serde_json::to_vec_pretty(losses)?;
    files::write_durably(&made.join(LOSSES_FILE), &manifest, files::MODE_SECRET)?;
    files::write_json(&made.join("kept.json"), kept)?;
    files::sync_dir(&made)?;
    fs::rename(&made, &folder)?;
    files::sync_dir(dir)?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(timeline: u32, ancestors: &[(u32, u64)]) -> History {
        History { timeline, ancestors: ancestors.iter().map(|(t, at)| (*t, Lsn(*at))).collect() }
    }

    fn at(timeline: u32, flushed: u64) -> Position {
        Position { timeline, flushed: Lsn(flushed) }
    }

    #[test]
    fn segments_are_named_as_postgresql_names_them() {
        assert_eq!(segment(Lsn(0x0010_0000)), "0000000000000001");
        assert_eq!(segment(Lsn(0xFFF0_0000)), "0000000000000FFF");
        assert_eq!(segment(Lsn(0x1_0000_0000)), "0000000100000000");
        assert_eq!(parse_name("000000020000000000000003"), Some((2, "0000000000000003")));
        for other in
            ["00000002.history", "00000002000000000000000g", "archive_status", "0000000200000000000000031"]
        {
            assert_eq!(parse_name(other), None, "{other}");
        }
    }

    #[test]
    fn histories_are_read_with_their_comments() {
        let text = "1\t0/3000000\tno recovery target specified\n\n# skipped\n2\t0/4000100\treason\n";
        assert_eq!(History::parse(4, text), Some(history(4, &[(1, 0x300_0000), (2, 0x400_0100)])));
        assert_eq!(History::parse(3, PLACEHOLDER), Some(history(3, &[])));
        assert_eq!(History::parse(3, "1 nonsense"), None);
    }

    #[test]
    fn a_log_is_diverged_past_the_point_where_its_timeline_was_left() {
        let upstream = history(4, &[(1, 100), (2, 200)]);
        let own = history(2, &[(1, 100)]);
        assert_eq!(upstream.fork(at(2, 200), &own), None);
        assert_eq!(upstream.fork(at(2, 201), &own), Some(Lsn(200)));
        assert_eq!(upstream.fork(at(4, 900), &upstream), None);
        // A timeline of its own: it leaves at the end of the last one both share.
        assert_eq!(upstream.fork(at(3, 300), &history(3, &[(1, 100), (2, 150)])), Some(Lsn(150)));
        assert_eq!(upstream.fork(at(3, 300), &history(3, &[(1, 100), (2, 250)])), Some(Lsn(200)));
        // It was promoted away from the upstream's own timeline.
        assert_eq!(upstream.fork(at(5, 300), &history(5, &[(2, 200), (4, 250)])), Some(Lsn(250)));
        assert_eq!(upstream.fork(at(9, 300), &history(9, &[])), Some(Lsn(0)));
    }

    #[test]
    fn only_placeholders_above_every_timeline_are_loose() {
        let dir = tempfile::tempdir().unwrap();
        let path = |n: u32| dir.path().join(format!("{n:08X}.history"));
        fs::write(path(3), "1\t0/3000000\treason\n").unwrap();
        assert_eq!(fill_gap(dir.path(), 6).unwrap(), [path(2), path(4), path(5)]);
        remove_loose_placeholders(dir.path()).unwrap();
        assert!(path(2).exists() && path(3).exists() && !path(4).exists() && !path(5).exists());
    }

    #[test]
    fn the_timeline_is_the_highest_that_begins_before_the_end_and_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let page = SEGMENT_BYTES + 2 * PAGE_BYTES;
        let end = Lsn(page + 40);
        let write = |timeline: u32, address: u64| {
            let file = File::create(dir.path().join(format!("{timeline:08X}{}", segment(end)))).unwrap();
            file.set_len(SEGMENT_BYTES).unwrap();
            file.write_all_at(&address.to_le_bytes(), 2 * PAGE_BYTES + 8).unwrap();
        };
        let begins = |timeline: u32, at: u64| {
            let text = format!("1\t{}\treason\n", Lsn(at));
            fs::write(dir.path().join(format!("{timeline:08X}.history")), text).unwrap();
        };
        let found = |end| timeline_at(dir.path(), end).unwrap();
        assert_eq!(found(end), None);
        write(1, page);
        assert_eq!(found(end), Some(1));
        // After a switch only zeros follow.
        assert_eq!(found(Lsn(2 * SEGMENT_BYTES)), Some(1));
        // Renamed for later use, with its old content.
        write(5, page + 7 * SEGMENT_BYTES);
        assert_eq!(found(end), Some(1));
        // Received, but the log does not reach to where it begins.
        write(2, page);
        begins(2, end.0);
        assert_eq!(found(end), Some(1));
        begins(2, end.0 - 1);
        assert_eq!(found(end), Some(2));
    }
}
