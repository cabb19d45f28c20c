//! An eye on all databases that needs no network: which of them is a primary that runs, several times a second.
//!
//! PostgreSQL keeps its state in a file; a postmaster that lives, whose data directory says *in production* and holds
//! no order to be a standby, can write. Two of one unit at the same time is what must never be.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use dujiang_testkit::platform::Platform;
use dujiang_types::{DcId, UnitId};
use jiff::Timestamp;

/// Between two looks: the shortest change of home takes several times as long.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Where PostgreSQL's control file has the state, and the value for "in production".
const STATE_AT: usize = 16;
const IN_PRODUCTION: u32 = 6;

/// A time during which a replica was seen to be a primary that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reign {
    /// The unit.
    pub unit: UnitId,
    /// Where.
    pub dc: DcId,
    /// First seen so.
    pub from: Timestamp,
    /// Last seen so.
    pub until: Timestamp,
}

#[derive(Debug, Default)]
struct Seen {
    reigns: Vec<Reign>,
    twice: Vec<String>,
}

/// Watches until it is dropped.
#[derive(Debug)]
pub struct Observer {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Observer {
    /// Begins to watch all replicas of a platform.
    pub fn start(platform: &Platform) -> Self {
        let mut replicas = Vec::new();
        for (unit, places) in &platform.units {
            for dc in places.replicas.keys() {
                let pgdata = platform.data().join("dc").join(dc.as_str()).join("units").join(unit.as_str());
                replicas.push((unit.clone(), dc.clone(), pgdata.join("pgdata")));
            }
        }
        let (seen, stop) = (Arc::new(Mutex::new(Seen::default())), Arc::new(AtomicBool::new(false)));
        let (shared, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut current = BTreeMap::new();
            while !stopped.load(Ordering::Relaxed) {
                look(&replicas, &mut current, &shared);
                thread::sleep(LOOK_EVERY);
            }
        });
        Self { seen, stop, thread: Some(thread) }
    }

    /// All reigns seen so far, in the order they began.
    pub fn reigns(&self) -> Vec<Reign> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).reigns.clone()
    }

    /// Units seen with two primaries at once, each as a sentence, and forgotten with that.
    pub fn take_twice(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner).twice)
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One look at every replica. `current` holds, for those that reign, the number of their reign.
fn look(
    replicas: &[(UnitId, DcId, PathBuf)],
    current: &mut BTreeMap<(UnitId, DcId), usize>,
    seen: &Mutex<Seen>,
) {
    let mut primaries = BTreeMap::<&UnitId, Vec<&DcId>>::new();
    for (unit, dc, pgdata) in replicas {
        let before = Timestamp::now();
        let key = (unit.clone(), dc.clone());
        if !is_primary(pgdata) {
            current.remove(&key);
            continue;
        }
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let number = *current.entry(key).or_insert_with(|| {
            let reign = Reign { unit: unit.clone(), dc: dc.clone(), from: before, until: before };
            seen.reigns.push(reign);
            seen.reigns.len() - 1
        });
        seen.reigns[number].until = before;
        drop(seen);
        primaries.entry(unit).or_default().push(dc);
    }
    for (unit, dcs) in primaries.into_iter().filter(|(_, dcs)| dcs.len() > 1) {
        // The first may have ended while the others were looked at.
        let still = |dc: &&&DcId| {
            replicas.iter().any(|(of, at, pgdata)| of == unit && at == **dc && is_primary(pgdata))
        };
        if dcs.iter().filter(still).count() > 1 {
            let what = format!("{} {unit} has primaries in {dcs:?}", Timestamp::now());
            seen.lock().unwrap_or_else(PoisonError::into_inner).twice.push(what);
        }
    }
}

fn is_primary(pgdata: &Path) -> bool {
    in_production(pgdata).is_some_and(|yes| yes) && !pgdata.join("standby.signal").exists() && runs(pgdata)
}

fn in_production(pgdata: &Path) -> Option<bool> {
    let bytes = fs::read(pgdata.join("global/pg_control")).ok()?;
    let state = u32::from_ne_bytes(bytes.get(STATE_AT..STATE_AT + 4)?.try_into().ok()?);
    Some(state == IN_PRODUCTION)
}

/// True if the postmaster of this directory lives; its file may have outlived it.
fn runs(pgdata: &Path) -> bool {
    let alive = || {
        let text = fs::read_to_string(pgdata.join("postmaster.pid")).ok()?;
        let pid: i32 = text.lines().next()?.trim().parse().ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let state = stat.get(stat.rfind(')')? + 2..)?.chars().next()?;
        let here = fs::read_link(format!("/proc/{pid}/cwd")).ok()? == fs::canonicalize(pgdata).ok()?;
        Some(here && !matches!(state, 'Z' | 'X'))
    };
    alive().unwrap_or(false)
}
