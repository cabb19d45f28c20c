//! What is wrong in a manifest, where, and what would be right.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::tree::Place;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// Where.
    #[serde(flatten)]
    pub at: Place,
    /// What is wrong.
    pub wrong: String,
    /// What would be right.
    pub right: String,
}

/// Collects the mistakes of one file.
#[derive(Debug, Default)]
pub struct Mistakes {
    list: Vec<Mistake>,
}

impl Mistakes {
    /// Notes a mistake.
    pub fn add(&mut self, at: Place, wrong: impl Into<String>, right: impl Into<String>) {
        self.list.push(Mistake { at, wrong: wrong.into(), right: right.into() });
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.list.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All of them, in the order of the file.
    pub fn into_sorted(mut self) -> Vec<Mistake> {
        self.list.sort_by_key(|mistake| mistake.at);
        self.list
    }
}

/// A manifest that was refused: every mistake in it.
#[derive(Debug, thiserror::Error)]
pub struct Refused {
    /// The file.
    pub file: PathBuf,
    /// What is wrong, in the order of the file.
    pub mistakes: Vec<Mistake>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, mistake) in self.mistakes.iter().enumerate() {
            let Mistake { at, wrong, right } = mistake;
            let end = if n + 1 == self.mistakes.len() { "" } else { "\n" };
            write!(f, "{}:{}:{}: {wrong}; {right}{end}", self.file.display(), at.line, at.column)?;
        }
        Ok(())
    }
}

/// The candidate that was probably meant: at most two edits away, and fewer than the word has letters.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const EDITS_MAX: usize = 2;
    candidates
        .into_iter()
        .map(|candidate| (edits(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= EDITS_MAX && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance: inserted, deleted or replaced letters.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_suggested_and_a_far_one_is_not() {
        let words = ["replicas", "slots", "port"];
        assert_eq!(nearest("replica", words), Some("replicas"));
        assert_eq!(nearest("prot", words), Some("port"));
        assert_eq!(nearest("durability", words), None);
        assert_eq!(edits("kitten", "sitting"), 3);
    }
}
