//! The part of the fault matrix that every change has to pass; `make chaos` runs all of it.

use dujiang_lab::case::{Bench, Extras, Moment};
use dujiang_lab::fault::Fault;

use crate::lab;

/// What on loopback cannot happen, and what freezes: the rest of the suite kills.
const CASES: [(Fault, Moment); 6] = [
    (Fault::Isolate, Moment::Load),
    (Fault::MuteOnly, Moment::Load),
    (Fault::CutControl, Moment::Load),
    (Fault::Loss, Moment::Load),
    (Fault::FreezePostgres, Moment::Load),
    (Fault::CutLink, Moment::Failover),
];

#[test]
fn networks_and_databases_fail_and_no_money_is_lost() {
    lab("faults::networks_and_databases_fail_and_no_money_is_lost", |lab| async move {
        let mut bench = Bench::set_up(&lab, Extras::default(), 1).await.unwrap();
        for (fault, moment) in CASES {
            let finding = bench.run(fault, moment).await.unwrap();
            println!("{fault}, {moment}: {finding:?}");
            assert!(
                finding.wrong.is_empty() && finding.not_done.is_none(),
                "{fault}, {moment}: {finding:#?}"
            );
            assert!(finding.acknowledged > 50, "{fault}, {moment}: {finding:#?}");
            assert!(finding.transactions > 20, "{fault}, {moment}: {finding:#?}");
        }
    });
}
