//! A core for each worker thread.
//!
//! The kernel puts threads that wake each other onto the same core while another has room, and two workers that never
//! sleep then take turns by the timer's tick: four milliseconds in which every request of one of them waits. So where
//! there is a worker per core, each stays on its own.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The core each of so many workers keeps to; nothing if there is not exactly one for each, because then the kernel
/// knows better.
pub(crate) fn for_each_of(threads: usize) -> Vec<usize> {
    let allowed = match sched_getaffinity(None) {
        Ok(set) => set,
        Err(error) => {
            tracing::warn!(%error, "cannot ask which cores may be used; workers run on any");
            return Vec::new();
        }
    };
    if usize::try_from(allowed.count()) != Ok(threads) {
        return Vec::new();
    }
    (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect()
}

/// Keeps the calling thread on a core.
pub(crate) fn keep_to(core: usize) {
    let mut only = CpuSet::new();
    only.set(core);
    if let Err(error) = sched_setaffinity(None, &only) {
        tracing::warn!(core, %error, "cannot keep a worker on its core; it runs on any");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_placed_only_if_there_is_a_core_for_each() {
        let cores = usize::try_from(sched_getaffinity(None).unwrap().count()).unwrap();
        let placed = for_each_of(cores);
        assert_eq!(placed.len(), cores);
        assert!(placed.is_sorted_by(|a, b| a < b), "each its own");
        assert!(for_each_of(cores + 1).is_empty());
        assert!(for_each_of(0).is_empty());
        let core = placed[cores - 1];
        let seen = std::thread::spawn(move || {
            keep_to(core);
            for_each_of(1)
        });
        assert_eq!(seen.join().unwrap(), [core]);
    }
}
