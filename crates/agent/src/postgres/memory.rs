//! Shared memory that a killed server has left behind.
//!
//! A server that is killed cannot give back its System V segment, by which PostgreSQL makes sure that nobody else works on
//! the data, nor what it keeps in `/dev/shm`. The next server in the same directory does. A directory that is removed has
//! no next one, and after some thousands of such ends the kernel has no identifiers left (`kernel.shmmni`): no PostgreSQL
//! starts on that machine any more.
//!
//! So before such a directory goes, a server is begun in it that gets no further than that. It takes the memory over,
//! finds nowhere to listen, and ends; it does not come to reading or writing what is in the database. It refuses by itself
//! if anybody still uses the memory.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::programs::Programs;
use crate::files;

/// What PostgreSQL writes about the server that runs in a directory, or ran there and was killed.
const LOCK_FILE: &str = "postmaster.pid";
/// The line of that file, counted from 0, with key and identifier of the segment.
const SEGMENT_LINE: usize = 6;
/// The kernel's list of segments.
const SEGMENTS: &str = "/proc/sysvipc/shm";
/// A server that ends at once takes a fraction of a second; a hung disk must not hold up who waits.
const END_MAX: Duration = Duration::from_secs(10);
/// Between two looks whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Directories of a replica's folder in which a server may have run.
const PLACES: [&str; 4] = ["pgdata", "pgdata.new", "trial/pgdata", "trial/pgdata.new"];

/// A System V segment. Identifiers are used again; the key, which PostgreSQL makes from the directory's inode, tells
/// whether it is still the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    key: u32,
    id: u32,
}

impl Segment {
    /// The segment of the server that runs in that data directory, or was killed there.
    pub fn of(pgdata: &Path) -> Option<Self> {
        Self::named_in(&fs::read_to_string(pgdata.join(LOCK_FILE)).ok()?)
    }

    fn named_in(lock_file: &str) -> Option<Self> {
        let mut numbers = lock_file.lines().nth(SEGMENT_LINE)?.split_ascii_whitespace();
        Some(Self { key: numbers.next()?.parse().ok()?, id: numbers.next()?.parse().ok()? })
    }

    /// How many processes have it; `None` if it does not exist.
    pub fn users(self) -> io::Result<Option<u32>> {
        Ok(self.users_in(&fs::read_to_string(SEGMENTS)?))
    }

    /// Columns: key, identifier, permissions, size, creator, last user, number of users, and others.
    fn users_in(self, segments: &str) -> Option<u32> {
        segments.lines().skip(1).find_map(|line| {
            let column: Vec<&str> = line.split_ascii_whitespace().collect();
            // The key is shown with a sign.
            let key = column.first()?.parse::<i32>().ok()?.cast_unsigned();
            let id: u32 = column.get(1)?.parse().ok()?;
            if (key, id) == (self.key, self.id) { column.get(6)?.parse().ok() } else { None }
        })
    }
}

/// Gives back what a killed server has left of a data directory that is about to be removed. Waits for the disk. That it
/// does not work is told and hinders nobody: what is left is a few kilobytes.
pub fn release(programs: &Programs, pgdata: &Path) {
    let Some(segment) = Segment::of(pgdata) else { return };
    let released = match segment.users() {
        Ok(None) => return,
        Ok(Some(0)) => begin_and_end(programs, pgdata).and_then(|()| segment.users()),
        other => other,
    };
    let left = match released {
        Ok(None) => return,
        Ok(Some(users)) => format!("{users} processes use it"),
        Err(error) => error.to_string(),
    };
    tracing::warn!(pgdata = %pgdata.display(), ?segment, left, "shared memory of a killed PostgreSQL is left over");
}

/// The same of all data directories in a replica's folder (`dc/DC/units/UNIT`).
pub fn release_all(programs: &Programs, folder: &Path) {
    for place in PLACES {
        release(programs, &folder.join(place));
    }
}

fn begin_and_end(programs: &Programs, pgdata: &Path) -> io::Result<()> {
    // It names a process of then; whoever has that number now would keep the server from beginning.
    files::remove_file(&pgdata.join(LOCK_FILE))?;
    let mut command = Command::new(programs.path("postgres"));
    command.arg("-D").arg(pgdata).current_dir("/");
    for setting in
        ["config_file=/dev/null", "listen_addresses=", "unix_socket_directories=", "shared_buffers=128kB"]
    {
        command.args(["-c", setting]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    programs.run_as_its_user(&mut command);
    let mut server = command.spawn()?;
    let deadline = Instant::now() + END_MAX;
    while server.try_wait()?.is_none() {
        if Instant::now() >= deadline {
            server.kill()?;
            server.wait()?;
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the server that should take it over does not end",
            ));
        }
        sleep(LOOK_EVERY);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = "4711\n/data\n1700000000\n5401\n\n127.0.11.1\n 10249631   2719939\nready   \n";
    const LIST: &str = "       key      shmid perms                  size  cpid  lpid nattch   uid
  10249631    2719939   600                    56  4711  4712      6   105
  10249631    2719940   600                    56  4711  4712      0   105
        -1          7   600                    56  4711  4712      1   105
";

    #[test]
    fn a_segment_is_known_by_key_and_identifier() {
        let segment = Segment::named_in(LOCK).unwrap();
        assert_eq!(segment, Segment { key: 10_249_631, id: 2_719_939 });
        assert_eq!(segment.users_in(LIST), Some(6));
        assert_eq!(Segment { key: 10_249_632, ..segment }.users_in(LIST), None, "another one's by now");
        assert_eq!(Segment { id: 2_719_940, ..segment }.users_in(LIST), Some(0));
        assert_eq!(Segment { key: u32::MAX, id: 7 }.users_in(LIST), Some(1));
        assert_eq!(Segment::named_in("4711\n/data\n"), None, "it ended before it had one");
    }
}
