//! What to do with lists next: all choices from one seed.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::journal::Receipt;
use crate::load::plan::{Plan, Planned};
use crate::request::{Request, Step};

/// Lists of an owner in use at once: few, so that transactions meet.
const IN_USE: u64 = 3;
/// Appends to a list until another one takes its place: whole lists are read, so they must not grow without bound.
const APPENDS_MAX: u32 = 24;
/// Most steps of a transaction.
const STEPS_MAX: usize = 4;
/// Of so many operations out of a hundred all do is read.
const READ_ONLY_PERCENT: u32 = 35;
/// Of so many reads out of a hundred a list is read that is in use no longer: what is lost late is lost, too.
const OLD_PERCENT: u32 = 10;
/// Lists read at once in the end; the application takes no more than twice as many.
const LAST_AT_ONCE: usize = 8;

/// Chooses transactions over lists.
#[derive(Debug)]
pub(crate) struct Planner {
    rng: StdRng,
    owners: Vec<Owner>,
    /// The last element appended; elements are unique among all owners.
    element: u64,
}

#[derive(Debug)]
struct Owner {
    name: String,
    /// Lists in use and how often each was appended to.
    in_use: Vec<(u64, u32)>,
    /// The next list to be used.
    next: u64,
}

impl Planner {
    pub(crate) fn new(seed: u64, owners: Vec<String>) -> Self {
        let owner = |name| Owner { name, in_use: (0..IN_USE).map(|list| (list, 0)).collect(), next: IN_USE };
        let owners = owners.into_iter().map(owner).collect();
        Self { rng: StdRng::seed_from_u64(seed), owners, element: 0 }
    }

    fn percent(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn list_to_read(&mut self, owner: usize) -> u64 {
        if self.percent(OLD_PERCENT) {
            return self.rng.random_range(0..self.owners[owner].next);
        }
        let at = self.rng.random_range(0..self.owners[owner].in_use.len());
        self.owners[owner].in_use[at].0
    }

    fn append(&mut self, owner: usize) -> Step {
        let at = self.rng.random_range(0..self.owners[owner].in_use.len());
        self.element += 1;
        let owner = &mut self.owners[owner];
        let (list, appends) = &mut owner.in_use[at];
        let step = Step::Append { list: *list, element: self.element };
        *appends += 1;
        if *appends == APPENDS_MAX {
            (*list, *appends) = (owner.next, 0);
            owner.next += 1;
        }
        step
    }
}

impl Plan for Planner {
    fn draw(&mut self) -> Planned {
        let owner = self.rng.random_range(0..self.owners.len());
        let near = self.rng.random_range(0..usize::from(u8::MAX));
        let count = self.rng.random_range(1..=STEPS_MAX);
        let name = self.owners[owner].name.clone();
        let request = if self.percent(READ_ONLY_PERCENT) {
            let mut lists: Vec<_> = (0..count).map(|_| self.list_to_read(owner)).collect();
            lists.sort_unstable();
            lists.dedup();
            Request::ReadLists { owner: name, lists }
        } else {
            let mut step = |_| {
                if self.percent(50) {
                    return self.append(owner);
                }
                Step::Read { list: self.list_to_read(owner) }
            };
            Request::Transact { owner: name, steps: (0..count).map(&mut step).collect() }
        };
        Planned { request, near, reversible: false }
    }

    fn acknowledged(&mut self, _: Planned, _: Receipt) {}

    /// What nobody reads, nobody checks.
    fn last(&mut self) -> Vec<Planned> {
        let reads = self.owners.iter().flat_map(|owner| {
            let all: Vec<u64> = (0..owner.next).collect();
            let chunks: Vec<_> = all.chunks(LAST_AT_ONCE).map(<[u64]>::to_vec).collect();
            chunks.into_iter().map(|lists| Request::ReadLists { owner: owner.name.clone(), lists })
        });
        reads.map(|request| Planned { request, near: 0, reversible: false }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_same_seed_asks_the_same_and_no_element_comes_twice() {
        let owners = || vec!["a".to_owned(), "b".to_owned()];
        let (mut plan, mut again) = (Planner::new(3, owners()), Planner::new(3, owners()));
        let (mut elements, mut reads, mut lists) = (BTreeSet::new(), 0, BTreeSet::new());
        for _ in 0..2_000 {
            let planned = plan.draw();
            assert_eq!(planned, again.draw());
            match planned.request {
                Request::ReadLists { lists, .. } => {
                    assert!(!lists.is_empty());
                    reads += 1;
                }
                Request::Transact { owner, steps } => {
                    assert!((1..=STEPS_MAX).contains(&steps.len()));
                    for step in steps {
                        if let Step::Append { list, element } = step {
                            assert!(elements.insert(element));
                            lists.insert((owner.clone(), list));
                        }
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        assert!((600..800).contains(&reads), "{reads}");
        let read_last: BTreeSet<_> = (plan.last().into_iter())
            .flat_map(|planned| match planned.request {
                Request::ReadLists { owner, lists } => {
                    lists.into_iter().map(move |list| (owner.clone(), list))
                }
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(lists.is_subset(&read_last), "every list is read in the end");
    }
}
