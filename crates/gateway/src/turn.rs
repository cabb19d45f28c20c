//! What one thread saw of a unit's change of home: when requests were answered again, how many waited and how long.
//! For the evidence; one thread writes, the report adds the threads up.

use std::time::Duration;

use dujiang_types::Epoch;
use dujiang_types::report::TurnReport;
use jiff::Timestamp;

use crate::shard::{Count, micros};

/// Failures so long before a new epoch belong to what led to it: longer than any failure takes to be noticed.
const BEFORE_US: u64 = 10_000_000;
/// Who looks at evidence does so soon; afterwards it need not be told with every report.
const TOLD_FOR: Duration = Duration::from_secs(60);

/// What one thread saw under the latest epoch. Times are microseconds since 1970, 0 for never.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    epoch: Count,
    /// When this thread first routed the unit to its home under the epoch.
    routed_us: Count,
    first_success_us: Count,
    held: Count,
    hold_longest_us: Count,
    failed: Count,
    last_failure_us: Count,
}

impl Turn {
    /// The thread's table says that the unit is under that epoch, and whether it serves.
    pub(crate) fn routed(&self, epoch: Epoch, serves: bool, now_us: impl FnOnce() -> u64) {
        if epoch.0 > self.epoch.get() {
            self.begin(epoch, now_us());
        } else if !serves || self.routed_us.get() > 0 {
            return;
        }
        if serves {
            self.routed_us.set(wall_us());
        }
    }

    fn begin(&self, epoch: Epoch, now_us: u64) {
        let recent = now_us.saturating_sub(self.last_failure_us.get()) <= BEFORE_US;
        if !recent {
            self.failed.set(0);
        }
        for count in [&self.routed_us, &self.first_success_us, &self.held, &self.hold_longest_us] {
            count.set(0);
        }
        self.epoch.set(epoch.0);
    }

    /// A client's request was answered, after having been held for so long. The clock is only asked for what is rare.
    pub(crate) fn answered(&self, epoch: Epoch, status: u16, held: Duration, now_us: impl Fn() -> u64) {
        if epoch.0 > self.epoch.get() {
            self.begin(epoch, now_us());
        }
        if status >= 500 {
            let now_us = now_us();
            if now_us.saturating_sub(self.last_failure_us.replace(now_us)) > BEFORE_US {
                self.failed.set(0);
            }
            self.failed.add(1);
        } else if self.first_success_us.get() == 0 && epoch.0 == self.epoch.get() {
            self.first_success_us.set(now_us());
        }
        if !held.is_zero() {
            self.held.add(1);
            self.hold_longest_us.set(self.hold_longest_us.get().max(micros(held)));
        }
    }
}

/// What all threads saw of a unit's latest change of home, unless it is long past.
pub(crate) fn report<'a>(turns: impl Iterator<Item = &'a Turn>, now_us: u64) -> Option<TurnReport> {
    let turns: Vec<&Turn> = turns.collect();
    let epoch = turns.iter().map(|turn| turn.epoch.get()).max().filter(|epoch| *epoch > 0)?;
    let current: Vec<&Turn> = turns.into_iter().filter(|turn| turn.epoch.get() == epoch).collect();
    let earliest = |of: fn(&Turn) -> &Count| {
        let times = current.iter().map(|turn| of(turn).get());
        times.filter(|us| *us > 0).min()
    };
    let routed = earliest(|turn| &turn.routed_us);
    let told_for_us = micros(TOLD_FOR);
    if routed.is_some_and(|routed| now_us.saturating_sub(routed) > told_for_us) {
        return None;
    }
    let sum = |of: fn(&Turn) -> &Count| current.iter().map(|turn| of(turn).get()).sum();
    let at = |us: Option<u64>| us.and_then(|us| Timestamp::from_microsecond(i64::try_from(us).ok()?).ok());
    Some(TurnReport {
        epoch: Epoch(epoch),
        routed_at: at(routed),
        first_success_at: at(earliest(|turn| &turn.first_success_us)),
        held: sum(|turn| &turn.held),
        longest_hold_us: current.iter().map(|turn| turn.hold_longest_us.get()).max().unwrap_or_default(),
        failed: sum(|turn| &turn.failed),
    })
}

/// The wall clock, which evidence is dated by.
pub(crate) fn wall_us() -> u64 {
    u64::try_from(Timestamp::now().as_microsecond()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_000_000_000;

    #[test]
    fn a_new_epoch_begins_a_new_turn_and_takes_over_what_just_failed() {
        let turn = Turn::default();
        let held = Duration::from_millis(120);
        turn.answered(Epoch(1), 200, Duration::ZERO, || START);
        turn.answered(Epoch(1), 503, Duration::ZERO, || START);
        let long_after = START + BEFORE_US + 1;
        turn.answered(Epoch(1), 504, held, || long_after);
        turn.answered(Epoch(2), 201, held, || long_after + 2_000_000);
        turn.answered(Epoch(2), 200, Duration::from_millis(80), || long_after + 3_000_000);
        // A straggler under the old epoch must not be taken for a success of the new home.
        turn.answered(Epoch(1), 200, Duration::ZERO, || long_after + 1);
        let report = report([&turn].into_iter(), long_after).unwrap();
        assert_eq!((report.epoch, report.held, report.failed), (Epoch(2), 2, 1));
        assert_eq!(report.longest_hold_us, 120_000);
        let first = report.first_success_at.unwrap().as_microsecond();
        assert_eq!(u64::try_from(first).unwrap(), long_after + 2_000_000);

        turn.answered(Epoch(3), 200, Duration::ZERO, || long_after + 2 * BEFORE_US);
        assert_eq!(super::report([&turn].into_iter(), START).unwrap().failed, 0, "long past");
    }

    #[test]
    fn threads_are_added_up_and_old_turns_are_not_told_any_more() {
        let (one, two, behind) = (Turn::default(), Turn::default(), Turn::default());
        for (turn, us) in [(&one, START + 5), (&two, START)] {
            turn.answered(Epoch(4), 200, Duration::from_millis(us - START + 1), || us);
        }
        behind.answered(Epoch(3), 500, Duration::from_secs(9), || START);
        let all = || [&one, &two, &behind].into_iter();
        let seen = report(all(), START).unwrap();
        assert_eq!((seen.held, seen.failed, seen.longest_hold_us), (2, 0, 6_000));
        assert_eq!(seen.first_success_at.unwrap().as_microsecond(), i64::try_from(START).unwrap());
        assert_eq!(seen.routed_at, None);

        one.routed(Epoch(4), false, || START);
        assert_eq!(report(all(), START).unwrap().routed_at, None, "it is held");
        one.routed(Epoch(4), true, || START);
        let routed = report(all(), wall_us()).unwrap().routed_at.unwrap();
        one.routed(Epoch(4), true, || START);
        assert_eq!(report(all(), wall_us()).unwrap().routed_at, Some(routed), "the first time counts");
        assert_eq!(report(all(), wall_us() + 2 * micros(TOLD_FOR)), None);
        assert_eq!(report([&Turn::default()].into_iter(), START), None);
    }
}
