//! When leases end. Kept in memory only: keeping a lease alive costs no write.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use crate::LeaseId;

/// The deadlines of all leases.
#[derive(Debug, Default)]
pub(super) struct Leases {
    by_id: HashMap<LeaseId, (Duration, Instant)>,
    by_deadline: BTreeSet<(Instant, LeaseId)>,
}

impl Leases {
    /// Adds a lease that begins now.
    pub(super) fn insert(&mut self, id: LeaseId, ttl: Duration, now: Instant) {
        self.remove(id);
        self.by_id.insert(id, (ttl, now + ttl));
        self.by_deadline.insert((now + ttl, id));
    }

    /// Forgets a lease.
    pub(super) fn remove(&mut self, id: LeaseId) {
        if let Some((_, deadline)) = self.by_id.remove(&id) {
            self.by_deadline.remove(&(deadline, id));
        }
    }

    /// Begins the lease's time to live anew. False if it has ended.
    pub(super) fn keep_alive(&mut self, id: LeaseId, now: Instant) -> bool {
        match self.by_id.get(&id) {
            Some(&(ttl, deadline)) if deadline > now => {
                self.insert(id, ttl, now);
                true
            }
            _ => false,
        }
    }

    /// When the next lease ends.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }

    /// The leases whose time is up, earliest first.
    pub(super) fn due(&self, now: Instant) -> Vec<LeaseId> {
        self.by_deadline.iter().take_while(|(deadline, _)| *deadline <= now).map(|(_, id)| *id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_due_when_its_time_is_up_and_not_before() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut leases = Leases::default();
        leases.insert(LeaseId(1), Duration::from_secs(5), at(0));
        leases.insert(LeaseId(2), Duration::from_secs(3), at(0));
        assert_eq!(leases.next_deadline(), Some(at(3)));
        assert!(leases.keep_alive(LeaseId(2), at(2)));
        assert_eq!(leases.due(at(4)), []);
        assert_eq!(leases.due(at(5)), [LeaseId(1), LeaseId(2)]);
        assert!(!leases.keep_alive(LeaseId(2), at(5)), "a lease that is due cannot be revived");
        leases.remove(LeaseId(1));
        leases.remove(LeaseId(2));
        assert_eq!(leases.next_deadline(), None);
        assert!(!leases.keep_alive(LeaseId(1), at(0)));
    }
}
