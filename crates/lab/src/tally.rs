//! What random sequences came to, one after the other: kept, and told on the page of the fault matrix.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::case::Finding;
use crate::kept::{Kept, Origin};

/// Sequences a platform goes through before another one takes its place: the checkers look at its whole life after each,
/// which takes the longer the longer it has lived.
pub const SEQUENCES_PER_PLATFORM: u32 = 20;
/// Heading of the section about sequences.
const HEADING: &str = "## Random sequences\n";

/// A sequence that was run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ran {
    /// When it had ended.
    pub at: String,
    /// Its seed.
    pub seed: u64,
    /// Faults planned.
    pub faults: usize,
    /// What came of it.
    pub finding: Finding,
}

/// Sequences run on one commit.
#[derive(Debug)]
pub struct Tally {
    kept: Kept<Ran>,
}

impl Tally {
    /// Begins anew, or goes on with what the file says of this origin.
    pub fn open(path: &Path, origin: &Origin, go_on: bool) -> io::Result<Self> {
        Ok(Self { kept: Kept::open(path, origin, go_on)? })
    }

    /// Sequences run so far.
    pub fn ran(&self) -> &[Ran] {
        self.kept.results()
    }

    /// True if the seed has been run.
    pub fn has(&self, seed: u64) -> bool {
        self.ran().iter().any(|one| one.seed == seed)
    }

    /// Those that were wrong.
    pub fn wrong(&self) -> impl Iterator<Item = &Ran> {
        self.ran().iter().filter(|one| !one.finding.wrong.is_empty())
    }

    /// Writes down one more.
    pub fn add(&mut self, seed: u64, faults: usize, finding: Finding) -> io::Result<()> {
        self.kept.add(Ran { at: Timestamp::now().to_string(), seed, faults, finding })
    }

    /// What all of them came to, in a sentence.
    pub fn summary(&self) -> String {
        let faults: usize = self.ran().iter().map(|one| one.faults).sum();
        let sum = |of: fn(&Finding) -> u64| self.ran().iter().map(|one| of(&one.finding)).sum::<u64>();
        let longest = |of: fn(&Finding) -> Option<f64>| {
            self.ran().iter().filter_map(|one| of(&one.finding)).fold(0.0, f64::max)
        };
        format!(
            "Commit {}, on {}: {} sequences of 30 s run (seeds {}), {faults} faults, {} sequences wrong. {} payments and {} \
             transactions over lists acknowledged; the longest time a unit went without a payment was {:.1} s, and everything \
             was whole again after at most {:.1} s.",
            self.kept.origin().commit,
            self.kept.origin().machine,
            self.ran().len(),
            seeds(self.ran().iter().map(|one| one.seed).collect()),
            self.wrong().count(),
            sum(|finding| finding.acknowledged),
            sum(|finding| finding.transactions),
            longest(|finding| finding.outage_s),
            longest(|finding| finding.whole_s),
        )
    }

    /// The section of the page.
    pub fn section(&self) -> String {
        let mut text = format!(
            "{HEADING}Written by `make chaos ARGS='--sequences N'`; do not edit. Any fault of the table except those of disks and clocks \
             begins\nevery 1 to 7 s, at any place, and lasts 0.5 to 9 s, all by seed; after 30 s everything is mended, and has to be \
             whole within 120 s\nand right in the sense above. One platform goes through up to {SEQUENCES_PER_PLATFORM} sequences; \
             both checkers look at its whole life\nafter each. A sequence that was wrong ends its platform.\n\n{}\n",
            self.summary()
        );
        if self.wrong().next().is_some() {
            text.push_str("\n| seed | when | what was wrong |\n|---|---|---|\n");
            for one in self.wrong() {
                let what = one.finding.wrong.join("; ").replace('|', "/").replace('\n', " ");
                let _ = writeln!(text, "| {} | {} | {what} |", one.seed, one.at);
            }
        }
        text
    }
}

/// Numbers as ranges.
fn seeds(mut seeds: Vec<u64>) -> String {
    seeds.sort_unstable();
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for seed in seeds {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == seed => *last = seed,
            _ => ranges.push((seed, seed)),
        }
    }
    let words = ranges
        .iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first} to {last}") });
    words.collect::<Vec<_>>().join(", ")
}

/// The page with another matrix, and its section about sequences as it was.
pub fn page_with_matrix(page: &str, matrix: &str) -> String {
    match page.find(HEADING) {
        Some(at) => format!("{}\n\n{}", matrix.trim_end(), &page[at..]),
        None => matrix.to_owned(),
    }
}

/// The page with another section about sequences, and its matrix as it was.
pub fn page_with_sequences(page: &str, section: &str) -> String {
    let matrix = page.find(HEADING).map_or(page, |at| &page[..at]).trim_end();
    if matrix.is_empty() { section.to_owned() } else { format!("{matrix}\n\n{section}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong() -> Finding {
        Finding { wrong: vec!["two | primaries".to_owned()], ..Finding::default() }
    }

    #[test]
    fn what_was_run_is_not_run_again_on_the_same_commit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sequences.jsonl");
        let origin = Origin { commit: "a".to_owned(), machine: "m".to_owned() };
        let mut tally = Tally::open(&path, &origin, true).unwrap();
        for seed in [1, 2, 5] {
            tally.add(seed, 7, if seed == 5 { wrong() } else { Finding::default() }).unwrap();
        }
        drop(tally);

        let again = Tally::open(&path, &origin, true).unwrap();
        assert!(again.has(1) && again.has(5) && !again.has(3));
        let section = again.section();
        assert!(
            section.contains("3 sequences of 30 s run (seeds 1 to 2, 5), 21 faults, 1 sequences wrong"),
            "{section}"
        );
        assert!(section.contains("two / primaries |"), "{section}");
    }

    #[test]
    fn matrix_and_sequences_leave_each_other_alone() {
        let page = page_with_sequences("# The fault matrix\ncells\n", "## Random sequences\none\n");
        assert_eq!(page, "# The fault matrix\ncells\n\n## Random sequences\none\n");
        let page = page_with_matrix(&page, "# The fault matrix\nother cells\n");
        assert_eq!(page, "# The fault matrix\nother cells\n\n## Random sequences\none\n");
        let page = page_with_sequences(&page, "## Random sequences\ntwo\n");
        assert_eq!(page, "# The fault matrix\nother cells\n\n## Random sequences\ntwo\n");
        assert_eq!(page_with_matrix("", "m\n"), "m\n");
    }
}
