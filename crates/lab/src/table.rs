//! The fault matrix: what to run of it, and what was found as a page.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::case::{Finding, Moment};
use crate::fault::Fault;
use crate::kept::Origin;

/// A cell that was run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cell {
    /// When the run began that it was run in.
    pub run: String,
    /// When it had ended.
    pub at: String,
    /// What happened.
    pub fault: Fault,
    /// When it happened.
    pub moment: Moment,
    /// What came of it.
    pub finding: Finding,
}

/// Which cells to run.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Only faults whose name contains one of these; all if there are none.
    pub faults: Vec<String>,
    /// Only moments whose name contains one of these; all if there are none.
    pub moments: Vec<String>,
    /// Only what was not run yet.
    pub go_on: bool,
}

impl Choice {
    /// True if what was run before stays on the page: the whole matrix begins anew.
    pub fn keeps(&self) -> bool {
        self.go_on || !self.faults.is_empty() || !self.moments.is_empty()
    }

    /// Cells to run, in that order.
    pub fn cells(&self, table: &Table) -> Vec<(Fault, Moment)> {
        let named = |name: String, wanted: &[String]| {
            wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str()))
        };
        let moments = [Moment::Load, Moment::Failover, Moment::Move, Moment::Rebuild, Moment::Idle];
        let all = moments.into_iter().flat_map(|moment| Fault::ALL.map(|fault| (fault, moment)));
        let chosen = all.filter(|(fault, moment)| {
            named(fault.to_string(), &self.faults) && named(moment.to_string(), &self.moments)
        });
        chosen.filter(|cell| !self.go_on || !table.cells.contains_key(cell)).collect()
    }
}

/// What runs of the matrix found on one commit, each cell as it was found last.
#[derive(Debug, Default)]
pub struct Table {
    cells: BTreeMap<(Fault, Moment), Cell>,
}

impl FromIterator<Cell> for Table {
    fn from_iter<T: IntoIterator<Item = Cell>>(cells: T) -> Self {
        Self { cells: cells.into_iter().map(|cell| ((cell.fault, cell.moment), cell)).collect() }
    }
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
Then the longest time any unit went without an acknowledged payment, measured at the customers. A dash: not run on this commit.

";

impl Table {
    /// Adds a cell, or replaces what was found in it before.
    pub fn add(&mut self, cell: Cell) {
        self.cells.insert((cell.fault, cell.moment), cell);
    }

    /// True if no cell went wrong.
    pub fn is_right(&self) -> bool {
        self.wrong() == 0
    }

    fn wrong(&self) -> usize {
        self.findings().filter(|finding| !finding.wrong.is_empty()).count()
    }

    fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.cells.values().map(|cell| &cell.finding)
    }

    /// How many cells were run, when, in how many runs, on what.
    fn summary(&self, origin: &Origin) -> String {
        let done = self.findings().filter(|finding| finding.not_done.is_none()).count();
        let runs: BTreeSet<&str> = self.cells.values().map(|cell| cell.run.as_str()).collect();
        // Times of the same form and zone: they are in order as text, too.
        let first = runs.first().copied().unwrap_or_default();
        let last = self.cells.values().map(|cell| cell.at.as_str()).max().unwrap_or_default();
        let runs = if runs.len() > 1 { format!(" in {} runs", runs.len()) } else { String::new() };
        let (commit, machine, wrong) = (&origin.commit, &origin.machine, self.wrong());
        format!(
            "Commit {commit}, {first} to {last}{runs}, on {machine}: {done} cells run, {wrong} of them wrong."
        )
    }

    /// The page.
    pub fn page(&self, origin: &Origin) -> String {
        let mut text = HEAD.to_owned();
        let _ = writeln!(text, "{}\n", self.summary(origin));
        let moments: Vec<String> = Moment::ALL.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "| fault | {} |\n|---|{}", moments.join(" | "), "---|".repeat(moments.len()));
        let mut notes = String::new();
        for fault in Fault::ALL {
            let cells = Moment::ALL.map(|moment| {
                self.cells.get(&(fault, moment)).map_or("-".to_owned(), |cell| brief(&cell.finding))
            });
            let _ = writeln!(text, "| {fault} | {} |", cells.join(" | "));
            for moment in Moment::ALL {
                let Some(cell) = self.cells.get(&(fault, moment)) else { continue };
                for what in cell.finding.wrong.iter().chain(&cell.finding.not_done) {
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

fn brief(finding: &Finding) -> String {
    if finding.not_done.is_some() {
        return "not possible".to_owned();
    }
    let word = if finding.wrong.is_empty() { "ok" } else { "**wrong**" };
    match finding.outage_s {
        Some(outage_s) => format!("{word} {outage_s:.1} s"),
        None => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin { commit: "c".to_owned(), machine: "m".to_owned() }
    }

    fn cell(run: &str, at: &str, fault: Fault, moment: Moment, finding: Finding) -> Cell {
        Cell { run: run.to_owned(), at: at.to_owned(), fault, moment, finding }
    }

    fn wrong() -> Finding {
        Finding { wrong: vec!["two primaries".to_owned()], outage_s: Some(3.25), ..Finding::default() }
    }

    #[test]
    fn a_cell_that_went_wrong_is_seen() {
        let cells = [
            cell("1", "2", Fault::Isolate, Moment::Load, wrong()),
            cell("1", "3", Fault::Loss, Moment::Idle, Finding::default()),
        ];
        let table: Table = cells.into_iter().collect();
        assert!(!table.is_right());
        let page = table.page(&origin());
        assert!(page.contains("Commit c, 1 to 3, on m: 2 cells run, 1 of them wrong."), "{page}");
        assert!(
            page.contains("| partition of the data center | - | **wrong** 3.2 s | - | - | - |"),
            "{page}"
        );
        assert!(page.contains("| 20 % loss | ok | - | - | - | - |"));
        assert!(page.contains("* partition of the data center, under load: two primaries"));
    }

    #[test]
    fn a_cell_that_is_run_again_replaces_what_was_found_before_and_the_others_stay() {
        let mut table: Table = [
            cell("1", "2", Fault::Isolate, Moment::Load, wrong()),
            cell("1", "3", Fault::Loss, Moment::Idle, Finding::default()),
        ]
        .into_iter()
        .collect();
        table.add(cell("4", "5", Fault::Isolate, Moment::Load, Finding::default()));
        assert!(table.is_right());
        let page = table.page(&origin());
        assert!(page.contains("Commit c, 1 to 5 in 2 runs, on m: 2 cells run, 0 of them wrong."), "{page}");
    }

    #[test]
    fn what_is_chosen_is_run_and_a_run_that_goes_on_runs_the_rest() {
        let mut table = Table::default();
        let chosen = |faults: &[&str], moments: &[&str], go_on: bool| Choice {
            faults: faults.iter().map(ToString::to_string).collect(),
            moments: moments.iter().map(ToString::to_string).collect(),
            go_on,
        };
        let all = Fault::ALL.len() * Moment::ALL.len();
        assert_eq!(chosen(&[], &[], false).cells(&table).len(), all);
        table.add(cell("1", "2", Fault::Loss, Moment::Load, Finding::default()));
        assert_eq!(chosen(&[], &[], false).cells(&table).len(), all, "anew");
        assert_eq!(chosen(&[], &[], true).cells(&table).len(), all - 1);
        let loss = chosen(&["% loss"], &["load", "idle"], false);
        assert_eq!(loss.cells(&table), [(Fault::Loss, Moment::Load), (Fault::Loss, Moment::Idle)]);
        assert_eq!(Choice { go_on: true, ..loss.clone() }.cells(&table), [(Fault::Loss, Moment::Idle)]);
        assert!(loss.keeps() && chosen(&[], &[], true).keeps() && !Choice::default().keeps());
    }
}
