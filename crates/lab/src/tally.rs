//! What random sequences came to, one after the other: kept as lines in a file, so that a run that is interrupted loses
//! none of them and can be continued; and told on the page of the fault matrix.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::case::Finding;

/// Sequences a platform goes through before another one takes its place: the checkers look at its whole life after each,
/// which takes the longer the longer it has lived.
pub const SEQUENCES_PER_PLATFORM: u32 = 20;
/// Heading of the section about sequences.
const HEADING: &str = "## Random sequences\n";

/// A sequence that was run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ran {
    /// The commit, and whether something was changed since.
    pub commit: String,
    /// What machine.
    pub machine: String,
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
    file: File,
    commit: String,
    machine: String,
    ran: Vec<Ran>,
}

impl Tally {
    /// Begins anew, or goes on with what the file says of this commit.
    pub fn open(path: &Path, commit: &str, machine: &str, go_on: bool) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut ran = Vec::new();
        if go_on && path.exists() {
            for line in fs::read_to_string(path)?.lines() {
                // The last line of a run that was killed may be cut off: its sequence is run again.
                let Ok(one) = serde_json::from_str::<Ran>(line) else { continue };
                if one.commit == commit {
                    ran.push(one);
                }
            }
        }
        let mut file = File::create(path)?;
        for one in &ran {
            append(&mut file, one)?;
        }
        drop(file);
        let file = OpenOptions::new().append(true).open(path)?;
        Ok(Self { file, commit: commit.to_owned(), machine: machine.to_owned(), ran })
    }

    /// Sequences run so far.
    pub fn ran(&self) -> &[Ran] {
        &self.ran
    }

    /// True if the seed has been run.
    pub fn has(&self, seed: u64) -> bool {
        self.ran.iter().any(|one| one.seed == seed)
    }

    /// Those that were wrong.
    pub fn wrong(&self) -> impl Iterator<Item = &Ran> {
        self.ran.iter().filter(|one| !one.finding.wrong.is_empty())
    }

    /// Writes down one more.
    pub fn add(&mut self, seed: u64, faults: usize, finding: Finding) -> io::Result<()> {
        let (commit, machine, at) = (self.commit.clone(), self.machine.clone(), Timestamp::now().to_string());
        let one = Ran { commit, machine, at, seed, faults, finding };
        append(&mut self.file, &one)?;
        self.ran.push(one);
        Ok(())
    }

    /// What all of them came to, in a sentence.
    pub fn summary(&self) -> String {
        let faults: usize = self.ran.iter().map(|one| one.faults).sum();
        let sum = |of: fn(&Finding) -> u64| self.ran.iter().map(|one| of(&one.finding)).sum::<u64>();
        let longest = |of: fn(&Finding) -> Option<f64>| {
            self.ran.iter().filter_map(|one| of(&one.finding)).fold(0.0, f64::max)
        };
        format!(
            "Commit {}, on {}: {} sequences of 30 s run (seeds {}), {faults} faults, {} sequences wrong. {} payments and {} \
             transactions over lists acknowledged; the longest time a unit went without a payment was {:.1} s, and everything \
             was whole again after at most {:.1} s.",
            self.commit,
            self.machine,
            self.ran.len(),
            seeds(self.ran.iter().map(|one| one.seed).collect()),
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

fn append(file: &mut File, one: &Ran) -> io::Result<()> {
    let mut line = serde_json::to_vec(one)?;
    line.push(b'\n');
    file.write_all(&line)
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
        let path = folder.path().join("made/sequences.jsonl");
        let mut tally = Tally::open(&path, "a", "m", true).unwrap();
        for seed in [1, 2, 5] {
            tally.add(seed, 7, if seed == 5 { wrong() } else { Finding::default() }).unwrap();
        }
        drop(tally);
        // A run that was killed while it wrote.
        let mut text = fs::read_to_string(&path).unwrap();
        text.truncate(text.len() - 9);
        fs::write(&path, &text).unwrap();
        let mut tally = Tally::open(&path, "a", "m", true).unwrap();
        assert!(tally.has(1) && tally.has(2) && !tally.has(5));
        tally.add(5, 7, wrong()).unwrap();
        drop(tally);

        let again = Tally::open(&path, "a", "m", true).unwrap();
        assert_eq!(again.ran().len(), 3);
        let section = again.section();
        assert!(
            section.contains("3 sequences of 30 s run (seeds 1 to 2, 5), 21 faults, 1 sequences wrong"),
            "{section}"
        );
        assert!(section.contains("two / primaries |"), "{section}");
        drop(again);
        assert!(Tally::open(&path, "b", "m", true).unwrap().ran().is_empty());
        assert!(Tally::open(&path, "a", "m", false).unwrap().ran().is_empty());
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
