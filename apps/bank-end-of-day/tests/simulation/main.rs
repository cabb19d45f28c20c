//! Units whose days are closed while customers go on booking, by workers that crash at any point, do the same slice
//! twice, and come too late. In the end an auditor who knows nothing of this crate recomputes the books from the entries.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod audited;
mod scenario;
mod world;

use proptest::prelude::*;

use scenario::Scenario;
use world::{Defect, World};

/// A small generator (`SplitMix64`): a seed tells the whole run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn minor(&mut self, bound: u64) -> i64 {
        i64::try_from(1 + self.below(bound)).unwrap()
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap()
    }
}

/// Runs a scenario; `chaos` is the seed of crashes and cuts, none for one worker that is never disturbed.
fn run(scenario: &Scenario, chaos: Option<u64>, defect: Option<Defect>) -> World {
    let mut world = World::new(scenario, defect);
    let mut random = chaos.map(Random);
    for day in &scenario.days {
        world.book_all(&day.before_cut_off);
        world.close_day(&day.after_cut_off, random.as_mut());
    }
    world
}

fn clean(world: &World) -> Result<(), TestCaseError> {
    let report = dujiang_bank_auditor::audit(&audited::books(world));
    prop_assert!(report.is_clean(), "{:#?}", report.findings);
    prop_assert!(report.looked_at.settlements > 0 && report.looked_at.loans > 0, "{:?}", report.looked_at);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 0, ..ProptestConfig::default() })]

    /// Whatever crashes, the books are those of a day that went undisturbed, and what the auditor says they must be.
    #[test]
    fn crashes_change_nothing(seed: u64, chaos: u64) {
        let scenario = Scenario::new(seed, false);
        let calm = run(&scenario, None, None);
        clean(&calm)?;
        let disturbed = run(&scenario, Some(chaos), None);
        clean(&disturbed)?;
        prop_assert_eq!(calm.dump(), disturbed.dump());
        prop_assert!(disturbed.stale > 0 || disturbed.lost > 0, "nothing was disturbed");
    }

    /// Loans that share a repayment account: who comes first is paid first, and the books are right either way.
    #[test]
    fn whoever_is_collected_first_the_books_are_right(seed: u64, chaos: u64) {
        clean(&run(&Scenario::new(seed, true), Some(chaos), None))?;
    }
}

/// What each defect breaks is found: the auditor and the simulation can fail. Not in every run, because a back-dated entry
/// has an account recomputed from its beginning, and heals what was wrong with it.
#[test]
fn every_defect_is_found() {
    let clean = |seed, defect| {
        let run = || run(&Scenario::new(seed, false), Some(seed), defect);
        // A world that notices by itself that its books are wrong has found it, too.
        std::panic::catch_unwind(|| dujiang_bank_auditor::audit(&audited::books(&run())).is_clean())
    };
    for defect in Defect::ALL {
        let found = (0..6).any(|seed| !clean(seed, Some(defect)).unwrap_or(false));
        assert!(found, "{defect:?} goes unnoticed");
    }
    assert!(
        (0..2).all(|seed| clean(seed, None).unwrap_or(false)),
        "there is nothing to find without a defect"
    );
}
