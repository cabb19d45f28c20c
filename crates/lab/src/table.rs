//! The fault matrix as a page, written anew by every run.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::case::{Finding, Moment};
use crate::fault::Fault;

/// What a run of the matrix found, and where it ran.
#[derive(Debug, Default)]
pub struct Table {
    /// The commit, and what was changed since.
    pub commit: String,
    /// What machine.
    pub machine: String,
    /// When.
    pub at: String,
    /// Cells that were run.
    pub cells: BTreeMap<(Fault, Moment), Finding>,
}

const HEAD: &str = "# The fault matrix
Written by `make chaos`; do not edit. Three data centers as networks of their own (2 ms there and back within a region, 12 ms across),
with the control plane in all three, four units with durability `zero`, three of the bank and one (`unit-4`) of lists, and payments
and transactions over lists all the time except *idle*. A fault lasts 9 s. It happens in `chengdu-1`, home of `unit-1` and `unit-4`,
or where the control server that decides is. Customers of the lists are outside and in every data center, where they reach its
gateway only. *Mid-move*: these units are moving away; *mid-failover*: the primaries of `unit-2` and
`unit-4` were killed just before; *mid-rebuild*: replicas of `unit-1` and `unit-4` are being made anew.

A cell says **ok** if afterwards every acknowledged payment was in the books once, no rule of `dujiang verify` was broken - what
clients saw of the lists fits one serial order that agrees with time among them (0018) -, no unit was seen with two primaries at any
time (looked at every 20 ms, without the network), and everything was whole again within 120 s.
Then the longest time any unit went without an acknowledged payment, measured at the customers. A dash: not run.

";

impl Table {
    /// The page.
    pub fn page(&self) -> String {
        let mut text = HEAD.to_owned();
        let wrong = self.cells.values().filter(|cell| !cell.wrong.is_empty()).count();
        let done = self.cells.values().filter(|cell| cell.not_done.is_none()).count();
        let _ = writeln!(
            text,
            "Commit {}, {}, on {}: {done} cells run, {wrong} of them wrong.\n",
            self.commit, self.at, self.machine
        );
        let moments: Vec<String> = Moment::ALL.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "| fault | {} |\n|---|{}", moments.join(" | "), "---|".repeat(moments.len()));
        let mut notes = String::new();
        for fault in Fault::ALL {
            let cells =
                Moment::ALL.map(|moment| self.cells.get(&(fault, moment)).map_or("-".to_owned(), brief));
            let _ = writeln!(text, "| {fault} | {} |", cells.join(" | "));
            for moment in Moment::ALL {
                let Some(cell) = self.cells.get(&(fault, moment)) else { continue };
                for what in cell.wrong.iter().chain(&cell.not_done) {
                    let _ = writeln!(notes, "* {fault}, {moment}: {what}");
                }
            }
        }
        if !notes.is_empty() {
            let _ = write!(text, "\n## Not ok\n{notes}");
        }
        text
    }
}

fn brief(cell: &Finding) -> String {
    if cell.not_done.is_some() {
        return "not possible".to_owned();
    }
    let word = if cell.wrong.is_empty() { "ok" } else { "**wrong**" };
    match cell.outage_s {
        Some(outage_s) => format!("{word} {outage_s:.1} s"),
        None => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_that_went_wrong_is_seen() {
        let mut table = Table::default();
        let wrong =
            Finding { wrong: vec!["two primaries".to_owned()], outage_s: Some(3.25), ..Finding::default() };
        table.cells.insert((Fault::Isolate, Moment::Load), wrong);
        table.cells.insert((Fault::Loss, Moment::Idle), Finding::default());
        let page = table.page();
        assert!(page.contains("2 cells run, 1 of them wrong"));
        assert!(
            page.contains("| partition of the data center | - | **wrong** 3.2 s | - | - | - |"),
            "{page}"
        );
        assert!(page.contains("| 20 % loss | ok | - | - | - | - |"));
        assert!(page.contains("* partition of the data center, under load: two primaries"));
    }
}
