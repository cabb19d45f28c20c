//! The one suite both stores pass: each check below runs against redb and against a real etcd.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod suite;

use suite::Fixture;

macro_rules! conformance {
    ($($part:ident: $($check:ident),+;)+) => {
        mod redb_store {
            use super::*;
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $check() {
                    suite::$part::$check(Fixture::redb().await).await;
                }
            )+)+
        }
        mod etcd_store {
            use super::*;
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $check() {
                    suite::$part::$check(Fixture::etcd().await).await;
                }
            )+)+
        }
    };
}

conformance! {
    values:
        entries_carry_the_revisions_of_their_writes,
        what_changes_nothing_raises_no_revision,
        requests_over_the_bounds_are_refused,
        requests_at_the_bounds_are_taken,
        a_listing_holds_exactly_the_prefix_in_order,
        a_listing_is_of_one_moment;
    transactions:
        all_writes_or_none,
        a_conflict_names_the_first_failed_check,
        a_conflict_over_large_values_is_told,
        concurrent_increments_lose_nothing;
    watches:
        events_come_in_order_without_gap_while_writing,
        a_resumed_watch_misses_and_repeats_nothing,
        the_changes_of_a_revision_come_together,
        a_revision_is_never_split,
        a_compacted_revision_is_refused,
        a_revision_of_the_future_is_refused,
        a_slow_reader_gets_everything_that_is_kept,
        a_slow_reader_holds_little_and_is_told_what_is_lost;
    leases:
        keys_vanish_with_their_lease,
        a_lease_kept_alive_stays,
        a_revoked_lease_takes_its_keys_along,
        a_key_belongs_to_the_lease_of_its_last_write,
        a_lease_unknown_is_refused;
    restarts:
        everything_is_there_after_reopening,
        leases_survive_reopening,
        every_acknowledged_write_survives_a_crash;
}

/// Does nothing by itself: the crash check of redb runs this program again with a file to write, and kills it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_writes_until_it_is_killed() {
    if let Some(path) = std::env::var_os(suite::restarts::CHILD_FILE) {
        suite::restarts::write_until_killed(path.as_ref()).await;
    }
}
