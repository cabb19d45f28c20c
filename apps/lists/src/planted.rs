//! Mistakes made on purpose. A checker that never found anything in a real run has shown nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::ValueEnum;

/// How old a stale answer is at least: longer than any transaction takes on a platform that is well.
const STALE_BY: Duration = Duration::from_millis(1_500);
/// Answers kept for being stale later; what is older is forgotten.
const KEPT_MAX: usize = 512;

/// A mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Plant {
    /// Lists are not locked, and put back as they were read.
    LostUpdate,
    /// Who only reads is answered with what was there a while ago, as by a replica that lags.
    StaleRead,
}

/// The mistakes an instance makes. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Planted {
    lost_update: bool,
    stale: Option<Arc<Mutex<Kept>>>,
}

/// By owner and list: what was read, and when.
type Kept = BTreeMap<(String, i64), VecDeque<(Instant, Vec<i64>)>>;

impl Planted {
    /// These mistakes.
    pub fn new(plants: &[Plant]) -> Self {
        Self {
            lost_update: plants.contains(&Plant::LostUpdate),
            stale: plants.contains(&Plant::StaleRead).then(Arc::default),
        }
    }

    pub(crate) fn loses_updates(&self) -> bool {
        self.lost_update
    }

    /// Keeps what was read and gives what had been read long enough ago, if there is any.
    pub(crate) fn aged(&self, owner: &str, list: i64, fresh: Vec<i64>) -> Vec<i64> {
        let Some(kept) = &self.stale else { return fresh };
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let of_list = kept.entry((owner.to_owned(), list)).or_default();
        let now = Instant::now();
        let old = of_list.iter().rev().find(|(at, _)| now.duration_since(*at) >= STALE_BY);
        let answer = old.map_or_else(|| fresh.clone(), |(_, old)| old.clone());
        of_list.push_back((now, fresh));
        if of_list.len() > KEPT_MAX {
            of_list.pop_front();
        }
        answer
    }
}
